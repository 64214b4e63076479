//! The waker that a poll hands down: where it is, and which argument of a poll function leads to it.

use super::code::Code;
use crate::dryrun::{Machine, Reg};

/// Where the waker is that the poll hands down.
pub(super) enum WakerSearch {
    /// The task's, which points at its header, is made on the stack.
    OnStack { header: u64 },
    /// The `Context` that the polls below a root are given leads to it.
    InContext,
    /// It has been found, and looks at it are noticed.
    Found,
}

impl WakerSearch {
    /// Looks for the waker at a call, and has looks at it noticed once it is found. `is_poll`: a poll function is called.
    pub(super) fn find(&mut self, m: &mut Machine<'_>, code: &Code, is_poll: bool) {
        let found = match self {
            Self::OnStack { header } => waker_on_stack(m, code, *header),
            Self::InContext if is_poll => {
                [Reg::Rsi, Reg::Rdx].into_iter().find_map(|reg| context_waker(m, code, m.reg(reg)?))
            }
            Self::InContext | Self::Found => None,
        };
        if let Some(waker) = found {
            m.watch(waker, 16);
            *self = Self::Found;
        }
    }
}

/// Words of the stack in which a task's waker is looked for: it is made just above the future's poll.
const WAKER_WITHIN: u64 = 256;

/// The waker of the task at `header` on the machine's stack: a pointer to the header beside one to a vtable. Where it stands
/// is the code's choice, so each call is searched once.
fn waker_on_stack(m: &Machine<'_>, code: &Code, header: u64) -> Option<u64> {
    let sp = m.reg(Reg::Rsp)?;
    let stands_at = |distance: u64| waker_of(m, code, sp.wrapping_add(distance), header);
    let known = code.waker_places.borrow().get(&m.ip()).copied();
    match known {
        Some(None) => return None,
        Some(Some(distance)) => {
            if let Some(waker) = stands_at(distance) {
                return Some(waker);
            }
        }
        None => {}
    }
    let found = (0..WAKER_WITHIN).map(|index| index * 8).find_map(|distance| Some((distance, stands_at(distance)?)));
    code.waker_places.borrow_mut().insert(m.ip(), found.map(|(distance, _)| distance));
    found.map(|(_, waker)| waker)
}

/// The waker of which `at` is the word that points to the header, whichever of its two words that is.
fn waker_of(m: &Machine<'_>, code: &Code, at: u64, header: u64) -> Option<u64> {
    if m.read_u64(at).ok()? != header {
        return None;
    }
    let has_vtable = |address: u64| m.read_u64(address).is_ok_and(|vtable| is_waker_vtable(m, code, vtable));
    let below = at.wrapping_sub(8);
    if has_vtable(below) {
        return Some(below);
    }
    has_vtable(at.wrapping_add(8)).then_some(at)
}

/// `self` of a poll function that is being called: its first argument, or its second where the first is the place for a
/// result too large for registers. The argument behind it tells: it is the `Context`.
pub(super) fn receiver(m: &Machine<'_>, code: &Code) -> u64 {
    let argument = |reg| m.reg(reg).unwrap_or(0);
    if !is_context(m, code, argument(Reg::Rsi)) && is_context(m, code, argument(Reg::Rdx)) {
        argument(Reg::Rsi)
    } else {
        argument(Reg::Rdi)
    }
}

/// Whether the function that is being called is given a `Context`, as a poll function is.
pub(super) fn takes_context(m: &Machine<'_>, code: &Code) -> bool {
    [Reg::Rsi, Reg::Rdx].into_iter().any(|reg| m.reg(reg).is_some_and(|address| is_context(m, code, address)))
}

fn is_context(m: &Machine<'_>, code: &Code, address: u64) -> bool {
    context_waker(m, code, address).is_some()
}

/// The waker of the `Context` at `address`, if one stands there: it begins with a reference to a `Waker`, of which one word
/// points at a vtable (library/core/src/task/wake.rs; field order is the compiler's).
fn context_waker(m: &Machine<'_>, code: &Code, address: u64) -> Option<u64> {
    let waker = m.read_u64(address).ok()?;
    [waker, waker.wrapping_add(8)]
        .into_iter()
        .any(|word| m.read_u64(word).is_ok_and(|vtable| is_waker_vtable(m, code, vtable)))
        .then_some(waker)
}

/// Whether four functions stand at `vtable`: clone, wake, wake by reference, drop.
fn is_waker_vtable(m: &Machine<'_>, code: &Code, vtable: u64) -> bool {
    (0..4).all(|entry| m.read_u64(vtable.wrapping_add(entry * 8)).is_ok_and(|function| code.is_function(function)))
}
