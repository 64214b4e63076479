//! What a breakpoint costs, measured on this machine.
//!
//! A hit traps into the kernel, which then has to carry out the instruction that the breakpoint replaced. A few it
//! emulates (`arch/x86/kernel/uprobes.c`: `push`, `nop`, jumps and calls); any other it runs out of line under single-step,
//! a second trap. Under a hypervisor that intercepts debug exceptions the second costs ten times the first, and the
//! kernel's run-time figures of the program see neither. So both are measured, on two functions of gordian's own.

use std::{
    arch::naked_asm,
    fs::File,
    hint::black_box,
    io,
    num::NonZeroU32,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use aya::Ebpf;

use super::{
    ProbeError,
    waits::{self, WaitPoint},
};

/// Does nothing, and begins with an instruction that the kernel emulates.
#[unsafe(naked)]
extern "C" fn emulated() {
    naked_asm!("push rbp", "pop rbp", "ret")
}

/// Does nothing, and begins with one that it does not.
#[unsafe(naked)]
extern "C" fn stepped() {
    naked_asm!("mov eax, edi", "ret")
}

/// Hits of a round, and rounds of which the middle one counts: a busy machine must not make breakpoints look dear, nor a
/// lucky moment make them look cheap.
const HITS: u32 = 20;
const ROUNDS: usize = 9;

/// What the program itself takes for a hit of the target, by the kernel's figures on Linux 6.18 (0.4 to 0.6 µs). It
/// returns at once for gordian's own hits.
const PROGRAM: Duration = Duration::from_nanos(500);

/// What one hit costs the thread that makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HitCost {
    /// Where the kernel emulates the function's first instruction.
    pub emulated: Duration,
    /// Where it single-steps it.
    pub stepped: Duration,
}

impl HitCost {
    /// Traces two functions of this process for some hundred microseconds.
    pub(super) fn measure(programs: &mut Ebpf) -> Result<Self, ProbeError> {
        let emulated = cost_of(programs, emulated)?;
        let stepped = cost_of(programs, stepped)?;
        Ok(Self { emulated, stepped })
    }

    /// The cost of a hit at this point.
    pub(super) fn at(&self, point: &WaitPoint) -> Result<Duration, ProbeError> {
        let emulated = is_emulated_at(point).map_err(|error| ProbeError::Refused {
            what: "tracing of waits",
            reason: format!("{} cannot be read: {error}", point.path.display()),
        })?;
        Ok(if emulated { self.emulated } else { self.stepped })
    }
}

fn cost_of(programs: &mut Ebpf, function: extern "C" fn()) -> Result<Duration, ProbeError> {
    let point = own_point(function as *const () as u64)?;
    let program = waits::program(programs)?;
    let own_pid = NonZeroU32::new(std::process::id()).ok_or(ProbeError::NoProcess(0))?;
    let link = waits::attach(program, &point, own_pid)?;
    let round = || {
        let start = Instant::now();
        for _ in 0..HITS {
            black_box(function)();
        }
        start.elapsed() / HITS
    };
    let mut rounds: [Duration; ROUNDS] = std::array::from_fn(|_| round());
    waits::detach(program, vec![link])?;
    rounds.sort_unstable();
    Ok(rounds[ROUNDS / 2] + PROGRAM)
}

/// Where a function of this process is in its file.
fn own_point(address: u64) -> Result<WaitPoint, ProbeError> {
    let unknown = || ProbeError::Refused {
        what: "tracing of waits",
        reason: "gordian cannot find its own code, to measure what a breakpoint costs".to_owned(),
    };
    let maps = procfs::process::Process::myself().and_then(|me| me.maps()).map_err(|_| unknown())?;
    let map = maps.iter().find(|map| (map.address.0..map.address.1).contains(&address)).ok_or_else(unknown)?;
    let file_offset = address - map.address.0 + map.offset;
    // The path under which the file was started may be gone by now; this is the file itself.
    Ok(WaitPoint { path: PathBuf::from("/proc/self/exe"), file_offset, kind: 0 })
}

fn is_emulated_at(point: &WaitPoint) -> io::Result<bool> {
    let mut code = [0; 2];
    File::open(&point.path)?.read_exact_at(&mut code, point.file_offset)?;
    Ok(is_emulated(code))
}

/// Whether the kernel emulates an instruction that begins with these bytes.
fn is_emulated(code: [u8; 2]) -> bool {
    match code {
        // push r64, with the prefix for r8 to r15 too; nop; call and jmp; short conditional jumps.
        [0x50..=0x57 | 0x90 | 0xe8 | 0xe9 | 0xeb | 0x70..=0x7f, _] | [0x41, 0x50..=0x57] => true,
        // Long conditional jumps.
        [0x0f, second] => (0x80..=0x8f).contains(&second),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_instructions_of_functions_are_told_apart() {
        assert!(is_emulated([0x55, 0x48])); // push rbp
        assert!(is_emulated([0x41, 0x57])); // push r15
        assert!(is_emulated([0x0f, 0x84])); // je rel32
        assert!(!is_emulated([0x48, 0x83])); // sub rsp, imm8
        assert!(!is_emulated([0x48, 0x89])); // mov r64, r64
        assert!(!is_emulated([0xf3, 0x0f])); // endbr64
        assert!(!is_emulated([0x0f, 0x1f])); // long nop
    }

    #[test]
    fn the_functions_to_measure_begin_as_they_should() {
        let point = |function: extern "C" fn()| own_point(function as *const () as u64).unwrap();
        assert!(is_emulated_at(&point(emulated)).unwrap());
        assert!(!is_emulated_at(&point(stepped)).unwrap());
    }
}
