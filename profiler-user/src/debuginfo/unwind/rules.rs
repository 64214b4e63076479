//! What a module's `.eh_frame` says of one program counter.

use std::ops::Range;

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, EndianSlice, FrameDescriptionEntry, LittleEndian, Operation, Pointer,
    RegisterRule, UnwindContext, UnwindExpression, UnwindSection as _, X86_64,
};

use super::super::{Bytes, Module};

type Slice<'s> = EndianSlice<'s, LittleEndian>;

/// Whether the caller of some code can be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// By a rule that framehop follows exactly.
    Known,
    /// There is no caller: a thread's first function.
    Outermost,
    /// Not stated, or stated in terms that framehop does not know.
    None,
}

/// Whether a `.eh_frame_hdr` is as all linkers write it, with as many entries as it says: version 1, a relative pointer
/// to `.eh_frame`, a 32-bit count, and a table of two 32-bit words an entry. Without one, `.eh_frame` is read in line.
fn is_sound_header(header: &[u8]) -> bool {
    let Some(([1, 0x1b, 0x03, 0x3b, _, _, _, _], [a, b, c, d])) =
        header.first_chunk().zip(header.get(8..12).and_then(|count| count.first_chunk()))
    else {
        return false;
    };
    let entries = u64::from(u32::from_le_bytes([*a, *b, *c, *d]));
    entries != 0 && 12 + entries * 8 <= header.len() as u64
}

/// The unwind tables of one module.
pub(super) struct Tables {
    pub(super) eh_frame: Option<Bytes>,
    pub(super) eh_frame_hdr: Option<Bytes>,
    bases: BaseAddresses,
    bias: u64,
    code: Vec<Range<u64>>,
}

impl Tables {
    pub(super) fn of(module: &Module) -> Self {
        let mut bases = BaseAddresses::default();
        let (mut eh_frame, mut eh_frame_hdr) = (None, None);
        let start = |name| module.section(name).map(|section| (module.to_file(section.address), section.bytes));
        if let Some((address, bytes)) = start(".eh_frame") {
            bases = bases.set_eh_frame(address);
            eh_frame = Some(bytes);
        }
        if let Some((address, bytes)) = start(".eh_frame_hdr").filter(|(_, bytes)| is_sound_header(bytes)) {
            bases = bases.set_eh_frame_hdr(address);
            eh_frame_hdr = Some(bytes);
        }
        if let Some((address, _)) = start(".text") {
            bases = bases.set_text(address);
        }
        if let Some((address, _)) = start(".got") {
            bases = bases.set_got(address);
        }
        Self { eh_frame, eh_frame_hdr, bases, bias: module.bias(), code: module.executable_ranges().to_vec() }
    }

    pub(super) fn has_code_at(&self, address: u64) -> bool {
        self.code.iter().any(|range| range.contains(&address))
    }

    /// The rule for an absolute address.
    pub(super) fn rule(&self, address: u64) -> Rule {
        self.stated(address.wrapping_sub(self.bias)).unwrap_or(Rule::None)
    }

    fn stated(&self, address: u64) -> Option<Rule> {
        let mut section = EhFrame::from(EndianSlice::new(self.eh_frame.as_deref()?, LittleEndian));
        section.set_address_size(8);
        let entry = self.entry(&section, address)?;
        let mut context = UnwindContext::new();
        let row = entry.unwind_info_for_address(&section, &self.bases, &mut context, address).ok()?;
        let encoding = entry.cie().encoding();
        // An expression that jumps may never end.
        let straight = |expression: &UnwindExpression<usize>| {
            expression.get(&section).is_ok_and(|expression| {
                let mut operations = expression.operations(encoding);
                loop {
                    match operations.next() {
                        Ok(Some(Operation::Skip { .. } | Operation::Bra { .. })) | Err(_) => return false,
                        Ok(Some(_)) => {}
                        Ok(None) => return true,
                    }
                }
            })
        };
        let followed = |rule: Option<RegisterRule<usize>>| match rule {
            Some(RegisterRule::Expression(expression) | RegisterRule::ValExpression(expression)) => {
                straight(&expression)
            }
            Some(RegisterRule::Register(_) | RegisterRule::Architectural) => false,
            _ => true,
        };
        let caller = row.register(X86_64::RA);
        if matches!(caller, None | Some(RegisterRule::Undefined)) {
            return Some(Rule::Outermost);
        }
        let frame = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => {
                matches!(*register, X86_64::RSP | X86_64::RBP) && offset.unsigned_abs() < 1 << 31
            }
            CfaRule::Expression(expression) => straight(expression),
        };
        let known = frame && followed(caller) && followed(row.register(X86_64::RBP));
        Some(if known { Rule::Known } else { Rule::None })
    }

    /// The entry that covers a file address.
    fn entry<'s>(&self, section: &EhFrame<Slice<'s>>, address: u64) -> Option<FrameDescriptionEntry<Slice<'s>>> {
        let Some(header) = self.eh_frame_hdr.as_deref() else {
            return section.fde_for_address(&self.bases, address, EhFrame::cie_from_offset).ok();
        };
        let header = EhFrameHdr::new(header, LittleEndian).parse(&self.bases, 8).ok()?;
        let Pointer::Direct(entry) = header.table()?.lookup(address, &self.bases).ok()? else { return None };
        let offset = usize::try_from(entry.checked_sub(header.eh_frame_ptr().direct().ok()?)?).ok()?;
        let entry = section.fde_from_offset(&self.bases, offset.into(), EhFrame::cie_from_offset).ok()?;
        entry.contains(address).then_some(entry)
    }
}
