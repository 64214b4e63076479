//! What a breakpoint costs, measured on this machine.
//!
//! What a hit costs differs tenfold by the instruction that the breakpoint replaces ([`super::site`]) and by the machine, and the
//! kernel's run-time figures of the program do not hold the traps around it. So both sorts are measured, on two functions of
//! gordian's own.

use std::{
    arch::naked_asm,
    hint::black_box,
    num::NonZeroU32,
    path::PathBuf,
    time::{Duration, Instant},
};

use aya::Ebpf;

use super::{
    ProbeError,
    site::Site,
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

    /// The cost of a hit at this site.
    pub(super) fn at(&self, site: Site) -> Duration {
        if site.emulated { self.emulated } else { self.stepped }
    }
}

fn cost_of(programs: &mut Ebpf, function: extern "C" fn()) -> Result<Duration, ProbeError> {
    let point = own_point(function as *const () as u64)?;
    let program = waits::program(programs)?;
    let own_pid = NonZeroU32::new(std::process::id()).ok_or(ProbeError::NoProcess(0))?;
    let link = waits::attach(program, &point, 0, own_pid)?;
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

#[cfg(test)]
mod tests {
    use super::{super::site, *};

    #[test]
    fn the_functions_to_measure_begin_as_they_should() {
        let point = |function: extern "C" fn()| own_point(function as *const () as u64).unwrap();
        let first = |point: WaitPoint| site::cheapest(&point.path, point.file_offset).unwrap();
        assert_eq!(first(point(emulated)), Site { offset: 0, emulated: true });
        assert_eq!(first(point(stepped)), Site { offset: 0, emulated: false });
    }
}
