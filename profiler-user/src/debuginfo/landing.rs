//! Landing pads: the code that runs the destructors of a frame when a call in it unwinds.
//!
//! Format: the language-specific data area of the Itanium C++ ABI as GCC and LLVM write it (`.gcc_except_table`), of which
//! only the call-site table is read. Values are `uleb128`, the one encoding that LLVM uses for x86-64.

use gimli::{EndianSlice, LittleEndian, Reader};

/// `DW_EH_PE_omit`.
const OMIT: u8 = 0xff;
/// `DW_EH_PE_uleb128`.
const ULEB128: u8 = 0x01;

/// What unwinding would run of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landing {
    /// The code at this address.
    Pad(u64),
    /// Nothing: there is nothing to drop.
    Nothing,
    /// Nothing, for any call of the function: it never owns anything, or was built to abort instead of unwinding, or none
    /// of its calls unwinds.
    NoArea,
    /// The call is known not to unwind, or the function's data area is not understood: what the frame owns is not
    /// written down.
    Unwritten,
}

/// The landing pad for the call that contains `address`, in a function that starts at `function` and has the data area
/// `area`.
pub(super) fn pad(area: &[u8], function: u64, address: u64) -> Landing {
    find(area, function, address).unwrap_or(Landing::Unwritten)
}

fn find(area: &[u8], function: u64, address: u64) -> Option<Landing> {
    let mut reader = EndianSlice::new(area, LittleEndian);
    // A start of its own is only written by compilers that split functions; its encoding is not read.
    if reader.read_u8().ok()? != OMIT {
        return None;
    }
    if reader.read_u8().ok()? != OMIT {
        reader.read_uleb128().ok()?;
    }
    if reader.read_u8().ok()? != ULEB128 {
        return None;
    }
    let length = usize::try_from(reader.read_uleb128().ok()?).ok()?;
    let mut sites = reader.split(length).ok()?;
    let offset = address.checked_sub(function)?;
    while !sites.is_empty() {
        let (start, length) = (sites.read_uleb128().ok()?, sites.read_uleb128().ok()?);
        let (pad, _action) = (sites.read_uleb128().ok()?, sites.read_uleb128().ok()?);
        if (start..start.saturating_add(length)).contains(&offset) {
            // A call that may unwind and has nothing to drop has an entry, one that cannot unwind has none.
            return if pad == 0 { Some(Landing::Nothing) } else { function.checked_add(pad).map(Landing::Pad) };
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No start, no types, uleb128; two sites: 0x10..0x20 lands at 0x80, 0x20..0x28 nowhere.
    const AREA: &[u8] = &[0xff, 0xff, 0x01, 0x09, 0x10, 0x10, 0x80, 0x01, 0x00, 0x20, 0x08, 0x00, 0x00];

    #[test]
    fn a_call_finds_its_pad() {
        assert_eq!(pad(AREA, 0x1000, 0x1015), Landing::Pad(0x1080));
        assert_eq!(pad(AREA, 0x1000, 0x1022), Landing::Nothing, "a call without a pad");
        assert_eq!(pad(AREA, 0x1000, 0x1030), Landing::Unwritten, "outside of all sites");
    }

    #[test]
    fn a_cut_area_is_no_area() {
        for end in 0..AREA.len() {
            // Whatever is left, the answer is a value.
            let found = pad(&AREA[..end], 0x1000, 0x1015);
            assert!(found == Landing::Unwritten || found == Landing::Pad(0x1080));
        }
    }
}
