//! Why a dry run could not say more.

use thiserror::Error;

/// A run that ended without an answer: where, and why.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("at {ip:#x}: {why}")]
pub struct Unknown {
    /// Address of the instruction that could not be interpreted.
    pub ip: u64,
    /// What was missing.
    pub why: Why,
}

/// What was missing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Why {
    /// An instruction the interpreter does not have; its mnemonic, lower case.
    #[error("the instruction {0} is not interpreted")]
    Unimplemented(String),
    /// Bytes that are no instruction.
    #[error("no instruction stands there")]
    Undecodable,
    /// An unknown value would have decided something: what.
    #[error("an unknown value is used as {0}")]
    Poison(&'static str),
    /// Memory at this address cannot be read, or nothing can be mapped there.
    #[error("no memory at {0:#x}")]
    Memory(u64),
    /// Known memory was asked for, and at this address stands an unknown byte.
    #[error("the byte at {0:#x} is unknown")]
    PoisonedMemory(u64),
    /// An access relative to `gs`, which user code on x86-64 Linux does not use.
    #[error("an access relative to gs")]
    Segment,
    /// More instructions than [`Limits::steps`](super::Limits::steps).
    #[error("more steps than the limit")]
    StepLimit,
    /// More written memory than [`Limits::overlay_bytes`](super::Limits::overlay_bytes).
    #[error("more memory written than the limit")]
    OverlayLimit,
    /// More nested calls than [`Limits::depth`](super::Limits::depth).
    #[error("more nested calls than the limit")]
    Depth,
    /// Control went to this address, which is outside the code that may be interpreted.
    #[error("control leaves for {0:#x}")]
    LeftExecutable(u64),
    /// The code at this address was itself written during the run.
    #[error("the code at {0:#x} was written to")]
    CodeWritten(u64),
    /// The instruction would have raised this exception.
    #[error("{0}")]
    Trap(Trap),
    /// A return that does not match the calls: the stack pointer is not where the current function was entered.
    #[error("a return that does not match its call")]
    Frames,
    /// What a hook said.
    #[error("{0}")]
    Hook(String),
}

/// An exception the processor would have raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Trap {
    /// `ud2`: rustc's abort, or code that cannot be reached.
    #[error("the invalid instruction ud2")]
    Ud2,
    /// `int3`: a breakpoint; a probe put into the text shows like this where text is read from memory and not from its file.
    #[error("a breakpoint")]
    Int3,
    /// `hlt`, which user code may not use.
    #[error("a halt")]
    Halt,
    /// A division by zero, or one whose quotient has no room.
    #[error("a division by zero or overflow")]
    Divide,
}
