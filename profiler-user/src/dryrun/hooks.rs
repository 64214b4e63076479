//! What the machine asks of the one who runs it.

use super::machine::Machine;

/// How control comes to a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// A `call`. The return address is not pushed yet.
    Call,
    /// A jump in place of a call and a return. `rsp` points at the return address of the function that jumps.
    TailJump,
}

/// What is to happen next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Go on: step into the call; return; take the system call or special instruction as done by the hook itself.
    Continue,
    /// Do not step in: the callee returned this in `rax` (`None`: unknown). What a callee may change under the System V ABI
    /// (`rcx rdx rsi rdi r8..r11`, vector registers, flags) becomes unknown. Memory stays as the hook left it.
    Return(Option<u64>),
    /// The same with a second value in `rdx`.
    ReturnPair(Option<u64>, Option<u64>),
    /// End the run with [`Outcome::Stopped`](super::Outcome::Stopped), the machine standing at this instruction.
    Stop,
    /// End the run with this reason.
    Unknown(String),
}

/// A function that has been entered and not left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallFrame {
    /// Address of the call instruction, `None` for what [`Machine::call`] entered.
    pub call_site: Option<u64>,
    /// Entry address of the function; after a tail jump, of the one jumped to.
    pub function: u64,
    /// Where it returns to.
    pub return_address: u64,
    /// `rsp` at its entry: the address of the return address.
    pub sp_at_entry: u64,
}

/// A read-modify-write that other threads would see as one: a `lock` prefix, or `xchg` with memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Atomic {
    /// What is changed.
    pub address: u64,
    /// How many bytes: 1, 2, 4, 8 or 16.
    pub size: u8,
    /// Value before, `None` when unknown or of 16 bytes.
    pub old: Option<u64>,
    /// Value after, `None` when unknown or of 16 bytes. Equal to `old` after a compare-exchange that failed.
    pub new: Option<u64>,
    /// Address of the instruction.
    pub ip: u64,
}

/// An instruction whose result depends on the machine or the moment, not on registers and memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// `cpuid`.
    Cpuid,
    /// `rdtsc` or `rdtscp`.
    TimeStamp,
    /// `rdrand` or `rdseed`.
    Random,
    /// `xgetbv`.
    ExtendedControl,
    /// `rdpid`, `rdfsbase`, `rdgsbase` and others of their kind.
    Other,
}

/// Meaning, supplied by the one who runs the machine.
///
/// The answers of [`Hooks::is_function`] are kept in the [`CodeCache`](super::CodeCache), so all who share a cache must
/// agree on them.
pub trait Hooks {
    /// A function is about to be entered. `m` stands at the call or jump; its arguments are in place.
    fn on_call(&mut self, m: &mut Machine<'_>, target: u64, how: Transfer) -> Action;

    /// Whether a function starts at `address`. Asked once for each direct jump, and once for each target of an indirect
    /// one, to tell a tail call from a jump inside a function. A jump through a slot at a fixed address (`jmp [rip+x]`) is
    /// always a tail call, and one with the stack pointer elsewhere than at the function's entry never is.
    fn is_function(&self, address: u64) -> bool {
        let _ = address;
        false
    }

    /// A function is about to return; `m` stands at its `ret`, or, when a tail jump was answered, at that jump.
    fn on_return(&mut self, m: &mut Machine<'_>, frame: &CallFrame) -> Action {
        let _ = (m, frame);
        Action::Continue
    }

    /// An atomic read-modify-write has been done.
    fn on_atomic(&mut self, m: &mut Machine<'_>, access: &Atomic) {
        let _ = (m, access);
    }

    /// A `syscall`. After `Return`, `rcx` and `r11` are unknown as the kernel leaves them, the rest is kept.
    fn on_syscall(&mut self, m: &mut Machine<'_>) -> Action {
        let _ = m;
        Action::Unknown("a system call".into())
    }

    /// An instruction whose result cannot be computed. `Continue` when the hook has set the registers itself.
    fn on_special(&mut self, m: &mut Machine<'_>, special: Special) -> Action {
        let _ = m;
        Action::Unknown(format!("the result of an instruction that asks the machine: {special:?}"))
    }
}
