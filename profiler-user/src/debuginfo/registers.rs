//! Unwinding that keeps every callee-saved register: what a dry run needs to go on from a frame of a blocked thread.
//!
//! framehop (see `unwind`) follows the program counter, stack pointer and frame pointer, which is all that naming a stack
//! takes. Here the call frame information is evaluated row by row instead, slower and whole. A register that nothing
//! tells stays unknown; it is never taken for zero.

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, EndianSlice, FrameDescriptionEntry, LittleEndian, ParsedEhFrameHdr,
    Register, RegisterRule, UnwindContext, UnwindSection,
};

use super::{
    Bytes, Module, frame_pointer,
    landing::{self, Landing},
};

/// Registers of one frame, by DWARF number (System V ABI for x86-64, figure 3.36): rax rdx rcx rbx rsi rdi rbp rsp r8–r15.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameRegisters {
    /// Where the frame goes on: its program counter, or the return address of the call it is in.
    pub ip: u64,
    /// Values, `None` where unknown.
    pub values: [Option<u64>; 16],
}

impl FrameRegisters {
    /// What procfs tells of a blocked thread.
    pub fn at(ip: u64, sp: u64) -> Self {
        let mut values = [None; 16];
        values[RSP] = Some(sp);
        Self { ip, values }
    }

    /// The stack pointer.
    pub fn sp(&self) -> Option<u64> {
        self.values[RSP]
    }

    /// The frame pointer register, whatever it is used for.
    pub fn bp(&self) -> Option<u64> {
        self.values[RBP]
    }
}

const RBP: usize = 6;
const RSP: usize = 7;
/// DWARF numbers of the registers that a callee must keep: rbx, rbp, r12 to r15.
const CALLEE_SAVED: [usize; 6] = [3, 6, 12, 13, 14, 15];
const RETURN_ADDRESS: Register = Register(16);

/// Deepest stack that is followed, in frames.
const MAX_FRAMES: usize = 512;

struct Tables {
    module: usize,
    frame: Bytes,
    header: Option<Bytes>,
    bases: BaseAddresses,
}

type Section<'b> = EhFrame<EndianSlice<'b, LittleEndian>>;
type Description<'b> = FrameDescriptionEntry<EndianSlice<'b, LittleEndian>>;

impl Tables {
    /// The description of the function that contains `address`.
    fn description<'b>(&'b self, section: &Section<'b>, address: u64) -> Option<Description<'b>> {
        let found = match self.header.as_ref().and_then(|header| parse_header(header, &self.bases)) {
            Some(header) => header.table()?.fde_for_address(section, &self.bases, address, EhFrame::cie_from_offset),
            None => section.fde_for_address(&self.bases, address, EhFrame::cie_from_offset),
        };
        found.ok()
    }
}

/// Call frame information of a process' modules.
pub struct RegisterUnwinder {
    tables: Vec<Tables>,
}

impl RegisterUnwinder {
    /// Takes what each of `modules` has; the same slice must be given to [`Self::unwind`].
    pub fn new(modules: &[Module]) -> Self {
        let tables = modules.iter().enumerate().filter_map(|(index, module)| {
            let frame = module.section(".eh_frame")?;
            let mut bases = BaseAddresses::default().set_eh_frame(frame.address);
            if let Some(text) = module.section(".text") {
                bases = bases.set_text(text.address);
            }
            if let Some(got) = module.section(".got") {
                bases = bases.set_got(got.address);
            }
            let header = module.section(".eh_frame_hdr").map(|section| {
                bases = bases.clone().set_eh_frame_hdr(section.address);
                section.bytes
            });
            Some(Tables { module: index, frame: frame.bytes, header, bases })
        });
        Self { tables: tables.collect() }
    }

    /// The frames of a thread, innermost first, beginning with `innermost` itself; ends where nothing is known to go by.
    pub fn unwind(
        &self,
        modules: &[Module],
        innermost: FrameRegisters,
        read: &mut dyn FnMut(u64) -> Option<u64>,
    ) -> Vec<FrameRegisters> {
        let mut frames = vec![innermost];
        while frames.len() < MAX_FRAMES {
            let Some(last) = frames.last() else { break };
            // The innermost frame stands at an instruction, all others behind a call.
            let lookup = last.ip - u64::from(frames.len() > 1);
            match self.caller(modules, last, lookup, read) {
                // A stack grows downward; a frame that does not move up would go on for ever.
                Some(next) if next.values[RSP] > last.values[RSP] && next.ip != 0 => frames.push(next),
                _ => break,
            }
        }
        frames
    }

    /// The same frame with the frame pointer, where that is not known and follows from the stack and the code: see
    /// `frame_pointer`.
    pub fn with_frame_pointer(
        &self,
        modules: &[Module],
        innermost: FrameRegisters,
        read: &mut dyn FnMut(u64) -> Option<u64>,
    ) -> FrameRegisters {
        let mut frame = innermost;
        if frame.bp().is_some() {
            return frame;
        }
        let frames = self.unwind(modules, frame, read);
        // Every function from the innermost up to the one that stopped the walk has left the register alone.
        let untouched = frames.iter().enumerate().all(|(index, frame)| {
            let lookup = frame.ip - u64::from(index > 0);
            index + 1 == frames.len() || !self.saves_frame_pointer(modules, lookup)
        });
        let stopped = frames.last().filter(|_| untouched);
        frame.values[RBP] = stopped.and_then(|last| {
            let lookup = last.ip - u64::from(frames.len() > 1);
            let function = self.function_start(modules, lookup)?;
            frame_pointer::of(modules, function, last.sp()?, read)
        });
        frame
    }

    fn function_start(&self, modules: &[Module], address: u64) -> Option<u64> {
        let tables = self.tables.iter().find(|tables| modules[tables.module].contains(address))?;
        let section = EhFrame::new(tables.frame.as_ref(), LittleEndian);
        Some(tables.description(&section, address)?.initial_address())
    }

    /// Whether the function at `address` has stored the frame pointer register there, to use it itself.
    fn saves_frame_pointer(&self, modules: &[Module], address: u64) -> bool {
        let saves = || {
            let tables = self.tables.iter().find(|tables| modules[tables.module].contains(address))?;
            let section = EhFrame::new(tables.frame.as_ref(), LittleEndian);
            let fde = tables.description(&section, address)?;
            let mut context = UnwindContext::new();
            let row = fde.unwind_info_for_address(&section, &tables.bases, &mut context, address).ok()?;
            let rule = row.register(Register(RBP as u16));
            Some(!matches!(rule, None | Some(RegisterRule::SameValue | RegisterRule::Undefined)))
        };
        saves().unwrap_or(true)
    }

    /// The landing pad for the call that returns to `return_address`: the code that would drop what its frame owns.
    pub fn landing_pad(&self, modules: &[Module], return_address: u64) -> Landing {
        self.find_landing_pad(modules, return_address).unwrap_or(Landing::Unwritten)
    }

    fn find_landing_pad(&self, modules: &[Module], return_address: u64) -> Option<Landing> {
        let call = return_address.checked_sub(1)?;
        let tables = self.tables.iter().find(|tables| modules[tables.module].contains(call))?;
        let section = EhFrame::new(tables.frame.as_ref(), LittleEndian);
        let fde = tables.description(&section, call)?;
        let Some(area) = fde.lsda() else { return Some(Landing::NoArea) };
        let gimli::Pointer::Direct(area) = area else { return None };
        let except = modules[tables.module].section(".gcc_except_table")?;
        let bytes: &[u8] = except.bytes.as_ref();
        let from = usize::try_from(area.checked_sub(except.address)?).ok()?;
        Some(landing::pad(bytes.get(from..)?, fde.initial_address(), call))
    }

    fn caller(
        &self,
        modules: &[Module],
        frame: &FrameRegisters,
        lookup: u64,
        read: &mut dyn FnMut(u64) -> Option<u64>,
    ) -> Option<FrameRegisters> {
        let tables = self.tables.iter().find(|tables| modules[tables.module].contains(lookup))?;
        let section = EhFrame::new(tables.frame.as_ref(), LittleEndian);
        let mut context = UnwindContext::new();
        let fde = tables.description(&section, lookup)?;
        let row = fde.unwind_info_for_address(&section, &tables.bases, &mut context, lookup).ok()?;
        let cfa = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => {
                frame.values.get(usize::from(register.0)).copied().flatten()?.checked_add_signed(*offset)?
            }
            // Expressions stand in PLT stubs only, which no await and no lock goes through.
            CfaRule::Expression(_) => return None,
        };
        let mut restore = |register: Register| match row.register(register) {
            Some(RegisterRule::Offset(offset)) => read(cfa.checked_add_signed(offset)?),
            Some(RegisterRule::ValOffset(offset)) => cfa.checked_add_signed(offset),
            Some(RegisterRule::Register(other)) => frame.values.get(usize::from(other.0)).copied().flatten(),
            None | Some(RegisterRule::SameValue) => frame.values.get(usize::from(register.0)).copied().flatten(),
            _ => None,
        };
        let mut caller = FrameRegisters { ip: restore(RETURN_ADDRESS)?, values: [None; 16] };
        for number in CALLEE_SAVED {
            caller.values[number] = restore(Register(number as u16));
        }
        caller.values[RSP] = Some(cfa);
        Some(caller)
    }
}

fn parse_header<'b>(
    header: &'b Bytes,
    bases: &BaseAddresses,
) -> Option<ParsedEhFrameHdr<EndianSlice<'b, LittleEndian>>> {
    EhFrameHdr::new(header.as_ref(), LittleEndian).parse(bases, 8).ok()
}
