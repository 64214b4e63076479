//! What calls to the C library do, for those whose every effect is known: memory, allocation, clocks. Any other call that
//! leaves the program ends the run as unknown.
//!
//! These are functions of the C standard and POSIX; the symbol versions of glibc and musl's plain names are one to us.

use super::{Action, Machine, Reg, Unknown, overlay::WIDEST};

/// More than any destructor or poll is expected to ask for at once, in bytes.
const ALLOCATION_MAX: u64 = 1 << 20;

/// The longest copy that is made, in bytes.
const COPY_MAX: u64 = 1 << 20;

/// What a call of the C library's `function` does to `m`, whose registers hold its arguments.
pub fn call(m: &mut Machine<'_>, function: &str) -> Action {
    match function {
        "memcpy" | "memmove" | "__memcpy_chk" | "__memmove_chk" => copy(m),
        "memset" => fill(m),
        "memcmp" | "bcmp" => compare(m),
        "strlen" => length(m),
        "malloc" => match m.reg(Reg::Rdi) {
            Some(size) => allocate(m, size, 16, false),
            None => unknown(function),
        },
        "calloc" => match (m.reg(Reg::Rdi), m.reg(Reg::Rsi)) {
            (Some(count), Some(size)) => match count.checked_mul(size) {
                Some(size) => allocate(m, size, 16, true),
                None => Action::Return(Some(0)),
            },
            _ => unknown(function),
        },
        "aligned_alloc" => match (m.reg(Reg::Rdi), m.reg(Reg::Rsi)) {
            (Some(align), Some(size)) => allocate(m, size, align, false),
            _ => unknown(function),
        },
        "posix_memalign" => posix_memalign(m),
        // Nothing that a dry run reads afterwards depends on what these undo, and nothing outside is told.
        "free" | "close" | "munmap" | "madvise" | "__cxa_thread_atexit_impl" | "sched_yield" => Action::Return(Some(0)),
        "syscall" => system_call(m),
        "clock_gettime" => clock(m),
        _ => unknown(function),
    }
}

/// Fresh memory of `size` bytes, its content unknown unless `zeroed`.
pub fn allocate(m: &mut Machine<'_>, size: u64, align: u64, zeroed: bool) -> Action {
    if size > ALLOCATION_MAX || !align.is_power_of_two() || align > ALLOCATION_MAX {
        return Action::Unknown(format!("an allocation of {size} bytes"));
    }
    // What has not been written there is unknown, as after a real allocation.
    let address = m.scratch(size + align).next_multiple_of(align);
    if zeroed {
        m.write(address, &vec![0; size as usize]);
    }
    Action::Return(Some(address))
}

/// `realloc` by its old and new sizes.
pub fn reallocate(m: &mut Machine<'_>, from: u64, old: u64, align: u64, new: u64) -> Action {
    let action = allocate(m, new, align, false);
    if let Action::Return(Some(to)) = action
        && let Err(unknown) = copy_bytes(m, to, from, old.min(new) as usize)
    {
        return Action::Unknown(unknown.to_string());
    }
    action
}

fn posix_memalign(m: &mut Machine<'_>) -> Action {
    let (Some(out), Some(align), Some(size)) = (m.reg(Reg::Rdi), m.reg(Reg::Rsi), m.reg(Reg::Rdx)) else {
        return unknown("posix_memalign");
    };
    match allocate(m, size, align, false) {
        Action::Return(Some(address)) => {
            m.write_u64(out, address);
            Action::Return(Some(0))
        }
        other => other,
    }
}

fn copy(m: &mut Machine<'_>) -> Action {
    let (Some(to), Some(from), Some(length)) = (m.reg(Reg::Rdi), m.reg(Reg::Rsi), m.reg(Reg::Rdx)) else {
        return unknown("memcpy");
    };
    if length > COPY_MAX {
        return Action::Unknown(format!("a copy of {length} bytes"));
    }
    match copy_bytes(m, to, from, length as usize) {
        Ok(()) => Action::Return(Some(to)),
        Err(unknown) => Action::Unknown(unknown.to_string()),
    }
}

fn fill(m: &mut Machine<'_>) -> Action {
    let (Some(to), Some(byte), Some(length)) = (m.reg(Reg::Rdi), m.reg(Reg::Rsi), m.reg(Reg::Rdx)) else {
        return unknown("memset");
    };
    if length > COPY_MAX {
        return Action::Unknown(format!("a fill of {length} bytes"));
    }
    m.write(to, &vec![byte as u8; length as usize]);
    Action::Return(Some(to))
}

fn compare(m: &mut Machine<'_>) -> Action {
    let (Some(one), Some(other), Some(length)) = (m.reg(Reg::Rdi), m.reg(Reg::Rsi), m.reg(Reg::Rdx)) else {
        return unknown("memcmp");
    };
    if length > COPY_MAX {
        return Action::Unknown(format!("a comparison of {length} bytes"));
    }
    let (mut left, mut right) = (vec![0; length as usize], vec![0; length as usize]);
    if let Err(unknown) = m.read(one, &mut left).and_then(|()| m.read(other, &mut right)) {
        return Action::Unknown(unknown.to_string());
    }
    // Only the sign is specified; bcmp's users look at zero or not.
    Action::Return(Some(u64::from(left.cmp(&right) as i32 as u32)))
}

fn length(m: &mut Machine<'_>) -> Action {
    let Some(from) = m.reg(Reg::Rdi) else { return unknown("strlen") };
    for length in 0..COPY_MAX {
        let mut byte = [0];
        match m.read(from + length, &mut byte) {
            Ok(()) if byte[0] == 0 => return Action::Return(Some(length)),
            Ok(()) => {}
            Err(unknown) => return Action::Unknown(unknown.to_string()),
        }
    }
    unknown("strlen")
}

/// `clock_gettime(clock, out)`: what our own clock of that name says. A target in another time namespace is told
/// another time by its kernel; nothing but deadlines could show the difference.
fn clock(m: &mut Machine<'_>) -> Action {
    let (Some(clock), Some(out)) = (m.reg(Reg::Rdi), m.reg(Reg::Rsi)) else { return unknown("clock_gettime") };
    let Ok(now) = nix::time::clock_gettime(nix::time::ClockId::from_raw(clock as libc::clockid_t)) else {
        return unknown("clock_gettime");
    };
    m.write_u64(out, now.tv_sec() as u64);
    m.write_u64(out.wrapping_add(8), now.tv_nsec() as u64);
    Action::Return(Some(0))
}

/// `syscall(number, ..)`: of those that programs make this way, a futex wake changes nothing here.
fn system_call(m: &Machine<'_>) -> Action {
    let wake = [libc::FUTEX_WAKE, libc::FUTEX_WAKE_BITSET];
    match (m.reg(Reg::Rdi), m.reg_low(Reg::Rdx, 4)) {
        (Some(number), Some(operation))
            if number == libc::SYS_futex as u64 && wake.contains(&(operation as i32 & !libc::FUTEX_PRIVATE_FLAG)) =>
        {
            Action::Return(Some(0))
        }
        _ => unknown("syscall"),
    }
}

fn unknown(function: &str) -> Action {
    Action::Unknown(format!("a call of {function}, whose effect is not known here"))
}

/// Copies bytes as they are, known or not.
fn copy_bytes(m: &mut Machine<'_>, to: u64, from: u64, length: usize) -> Result<(), Unknown> {
    let mut parts = Vec::with_capacity(length / WIDEST + 1);
    for at in (0..length).step_by(WIDEST) {
        let mut bytes = [0; WIDEST];
        let part = WIDEST.min(length - at);
        let poison =
            m.cpu.memory.read(from.wrapping_add(at as u64), &mut bytes[..part]).map_err(|why| m.unknown(why))?;
        parts.push((at, part, bytes, poison));
    }
    // All is read before anything is written: the ranges may overlap.
    for (at, part, bytes, poison) in parts {
        m.cpu.memory.write(to.wrapping_add(at as u64), &bytes[..part], poison).map_err(|why| m.unknown(why))?;
    }
    Ok(())
}
