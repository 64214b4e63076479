//! The status flags, each of which may be unknown, and the conditions over them.

use iced_x86::ConditionCode;

/// Carry.
pub(super) const CF: u16 = 1;
/// Even parity of the low byte.
pub(super) const PF: u16 = 1 << 2;
/// Carry out of the low four bits.
pub(super) const AF: u16 = 1 << 4;
/// Zero.
pub(super) const ZF: u16 = 1 << 6;
/// Sign.
pub(super) const SF: u16 = 1 << 7;
/// Direction of string instructions.
pub(super) const DF: u16 = 1 << 10;
/// Signed overflow.
pub(super) const OF: u16 = 1 << 11;
/// All that arithmetic sets.
pub(super) const STATUS: u16 = CF | PF | AF | ZF | SF | OF;

/// Bits as in `rflags`; a bit of `poison` means that flag is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flags {
    pub bits: u16,
    pub poison: u16,
}

impl Flags {
    /// At the entry of a function: direction forward, all else unknown.
    pub(super) fn at_entry() -> Self {
        Self { bits: 0, poison: STATUS }
    }

    /// Gives the flags of `which` the values in `bits`.
    pub(super) fn set(&mut self, which: u16, bits: u16) {
        self.bits = self.bits & !which | bits & which;
        self.poison &= !which;
    }

    /// Makes the flags of `which` unknown.
    pub(super) fn forget(&mut self, which: u16) {
        self.poison |= which;
    }

    /// The flag `which`, when it is known.
    pub(super) fn get(self, which: u16) -> Option<bool> {
        (self.poison & which == 0).then_some(self.bits & which != 0)
    }

    /// Whether `condition` holds, when that does not depend on an unknown flag.
    pub(super) fn condition(self, condition: ConditionCode) -> Option<bool> {
        let needed = needed(condition);
        if self.poison & needed == 0 {
            return Some(holds(condition, self.bits));
        }
        // Known all the same if every completion of the unknown flags agrees (`be` with CF set, say).
        let unknown = self.poison & needed;
        let known = self.bits & !unknown;
        let mut subset = unknown;
        let first = holds(condition, known);
        while subset != 0 {
            if holds(condition, known | subset) != first {
                return None;
            }
            subset = (subset - 1) & unknown;
        }
        Some(first)
    }
}

/// The flags a condition looks at.
fn needed(condition: ConditionCode) -> u16 {
    match condition {
        ConditionCode::None => 0,
        ConditionCode::o | ConditionCode::no => OF,
        ConditionCode::b | ConditionCode::ae => CF,
        ConditionCode::e | ConditionCode::ne => ZF,
        ConditionCode::be | ConditionCode::a => CF | ZF,
        ConditionCode::s | ConditionCode::ns => SF,
        ConditionCode::p | ConditionCode::np => PF,
        ConditionCode::l | ConditionCode::ge => SF | OF,
        ConditionCode::le | ConditionCode::g => ZF | SF | OF,
    }
}

/// Whether `condition` holds for these flags.
fn holds(condition: ConditionCode, bits: u16) -> bool {
    let is = |flag: u16| bits & flag != 0;
    match condition {
        ConditionCode::None => true,
        ConditionCode::o => is(OF),
        ConditionCode::no => !is(OF),
        ConditionCode::b => is(CF),
        ConditionCode::ae => !is(CF),
        ConditionCode::e => is(ZF),
        ConditionCode::ne => !is(ZF),
        ConditionCode::be => is(CF) || is(ZF),
        ConditionCode::a => !is(CF) && !is(ZF),
        ConditionCode::s => is(SF),
        ConditionCode::ns => !is(SF),
        ConditionCode::p => is(PF),
        ConditionCode::np => !is(PF),
        ConditionCode::l => is(SF) != is(OF),
        ConditionCode::ge => is(SF) == is(OF),
        ConditionCode::le => is(ZF) || is(SF) != is(OF),
        ConditionCode::g => !is(ZF) && is(SF) == is(OF),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_known_when_the_unknown_flags_do_not_matter() {
        let mut flags = Flags { bits: CF, poison: ZF };
        assert_eq!(flags.condition(ConditionCode::be), Some(true));
        assert_eq!(flags.condition(ConditionCode::a), Some(false));
        assert_eq!(flags.condition(ConditionCode::e), None);
        flags.set(CF, 0);
        assert_eq!(flags.condition(ConditionCode::be), None);
    }
}
