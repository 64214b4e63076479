//! The linker's note of what was built: the same bytes in a file and in memory.

use object::{
    Endianness,
    elf::{FileHeader64, NT_GNU_BUILD_ID, NoteType},
    read::elf::{FileHeader as _, ProgramHeader as _},
};

/// The type of the note in which Go's linker says the same (cmd/link, `ELF_NOTE_GOBUILDID_TAG`).
const GO_BUILD_ID: NoteType = NoteType(4);

/// The build-id of the ELF file that `bytes` begin; `None` where they hold none.
pub(super) fn build_id(bytes: &[u8]) -> Option<Vec<u8>> {
    let header = FileHeader64::<Endianness>::parse(bytes).ok()?;
    let endian = header.endian().ok()?;
    let mut segments = header.program_headers(endian, bytes).ok()?.iter();
    segments.find_map(|segment| {
        let mut notes = segment.notes(endian, bytes).ok()??;
        while let Ok(Some(note)) = notes.next() {
            if matches!((note.name(), note.n_type(endian)), (b"GNU", NT_GNU_BUILD_ID) | (b"Go", GO_BUILD_ID)) {
                return Some(note.desc().to_vec());
            }
        }
        None
    })
}
