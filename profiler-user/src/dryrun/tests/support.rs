//! A memory made of a few pieces, and hooks that write down what they see.

use crate::dryrun::{Action, Atomic, CallFrame, Hooks, Machine, Transfer};
use crate::target::{Memory, MemoryError};

/// Where test code lies.
pub(super) const CODE: u64 = 0x40_0000;
/// Where test data lies.
pub(super) const DATA: u64 = 0x60_0000;

/// Pieces of memory at their addresses.
pub(super) struct Pieces(pub Vec<(u64, Vec<u8>)>);

impl Memory for Pieces {
    fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.0
            .iter()
            .find_map(|(start, bytes)| {
                let offset = usize::try_from(address.checked_sub(*start)?).ok()?;
                bytes.get(offset..offset.checked_add(buf.len())?)
            })
            .map(|bytes| buf.copy_from_slice(bytes))
            .ok_or(MemoryError::Unmapped(address))
    }
}

/// Code at [`CODE`], a page of zeros at [`DATA`].
pub(super) fn program(code: &[u8]) -> Pieces {
    Pieces(vec![(CODE, code.to_vec()), (DATA, vec![0; 4096])])
}

/// Steps into everything, and remembers what it was asked.
#[derive(Default)]
pub(super) struct Watch {
    pub calls: Vec<(u64, Transfer, usize)>,
    pub returns: Vec<CallFrame>,
    pub atomics: Vec<Atomic>,
    pub functions: Vec<u64>,
    /// Answers for targets; all others are stepped into.
    pub answers: Vec<(u64, Action)>,
}

impl Hooks for Watch {
    fn on_call(&mut self, m: &mut Machine<'_>, target: u64, how: Transfer) -> Action {
        self.calls.push((target, how, m.frames().len()));
        self.answers.iter().find(|(at, _)| *at == target).map_or(Action::Continue, |(_, action)| action.clone())
    }

    fn is_function(&self, address: u64) -> bool {
        self.functions.contains(&address)
    }

    fn on_return(&mut self, _: &mut Machine<'_>, frame: &CallFrame) -> Action {
        self.returns.push(frame.clone());
        Action::Continue
    }

    fn on_atomic(&mut self, _: &mut Machine<'_>, access: &Atomic) {
        self.atomics.push(*access);
    }
}
