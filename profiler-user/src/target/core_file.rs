//! Core files: what the kernel, or a debugger, writes of a process that ends.
//!
//! Sources: `fs/binfmt_elf.c` (notes and segments), `include/uapi/linux/elfcore.h`, `arch/x86/include/asm/user_64.h`.

use std::{path::PathBuf, sync::Arc, time::Duration};

use memmap2::Mmap;
use object::{
    Endianness,
    elf::{
        EM_X86_64, ET_CORE, FileHeader64, NT_AUXV, NT_FILE, NT_PRPSINFO, NT_PRSTATUS, NoteType, PF_R, PF_W, PF_X,
        PT_LOAD, ProgramFlags,
    },
    read::elf::{FileHeader as _, ProgramHeader as _},
};

use super::{
    Mapping, Mappings, RunState, SyscallState, ThreadFacts, UserRegisters,
    build_id::build_id,
    image::{Bytes, Image, Stretch},
    stored::{Contents, ModuleRecord, Moment},
};

/// Bytes of a module's beginning in which its headers and notes lie.
const HEADERS: u64 = 64 << 10;
/// Threads and mapped files that are read, at most.
const MOST: usize = 1 << 20;

const AT_ENTRY: u64 = 9;
const AT_SYSINFO_EHDR: u64 = 33;

/// Whether a file that begins like this is an ELF core.
pub(super) fn is_one(start: &[u8]) -> bool {
    start.starts_with(b"\x7fELF\x02\x01") && start.get(16..18) == Some(&ET_CORE.0.to_le_bytes())
}

/// What a core file tells.
pub(super) fn read(bytes: &Arc<Mmap>) -> Result<Contents, String> {
    let data: &[u8] = bytes;
    let broken = |error: object::read::Error| format!("a broken core file: {error}");
    let header = FileHeader64::<Endianness>::parse(data).map_err(broken)?;
    let endian = header.endian().map_err(broken)?;
    if header.e_machine.get(endian) != EM_X86_64 {
        return Err("a core file of another architecture: only x86-64 can be read".into());
    }
    let mut notes = Notes::default();
    let (mut stretches, mut mappings) = (Vec::new(), Vec::new());
    for segment in header.program_headers(endian, data).map_err(broken)? {
        if let Ok(Some(mut found)) = segment.notes(endian, data) {
            while let Ok(Some(note)) = found.next() {
                notes.take(note.n_type(endian), note.desc());
            }
        }
        if segment.p_type(endian) == PT_LOAD {
            let (start, offset) = (segment.p_vaddr(endian), segment.p_offset(endian));
            let (kept, length) = (segment.p_filesz(endian), segment.p_memsz(endian));
            let Some(end) = start.checked_add(length.max(kept)) else { continue };
            if let (true, Ok(offset)) = (kept > 0, usize::try_from(offset)) {
                // A core that was cut short has the beginning of it.
                let there = kept.min(data.len().saturating_sub(offset) as u64);
                stretches.push(Stretch { range: start..start + there, offset });
            }
            mappings.push((start..end, segment.p_flags(endian)));
        }
    }
    if notes.threads.is_empty() {
        return Err("a core file without threads in it: it was cut short, or not written by Linux".into());
    }
    // The thread that ended the process stands first.
    notes.threads.sort_by_key(|thread| thread.tid);
    let image = Image::new(stretches, Bytes::Mapped(Arc::clone(bytes)));
    let mappings = mappings.into_iter().map(|(range, flags)| notes.mapping(range, flags)).collect();
    let mappings = Mappings::new(mappings);
    let exe = notes.auxiliary(AT_ENTRY).and_then(|entry| mappings.at(entry)).and_then(|mapping| mapping.path.clone());
    let modules = modules(&mappings, &image);
    let exe = exe.or_else(|| modules.first().map(|module| module.path.clone())).unwrap_or_default();
    let moment =
        Moment { after: Duration::ZERO, mappings, threads: notes.threads, stopped: true, image: Arc::new(image) };
    Ok(Contents { pid: notes.pid, exe, modules, moments: vec![moment] })
}

/// The files that code was mapped from.
fn modules(mappings: &Mappings, image: &Image) -> Vec<ModuleRecord> {
    let mut modules: Vec<ModuleRecord> = Vec::new();
    for mapping in mappings.iter().filter(|mapping| mapping.execute && mapping.inode != 0) {
        let Some(path) = &mapping.path else { continue };
        if modules.iter().any(|known| known.inode == mapping.inode) {
            continue;
        }
        let of_file = mappings.iter().filter(|other| other.inode == mapping.inode);
        let start = of_file
            .filter(|other| other.range.start <= mapping.range.start && other.offset == 0)
            .map(|other| other.range.start)
            .max()
            .unwrap_or_else(|| mapping.range.start.wrapping_sub(mapping.offset));
        modules.push(ModuleRecord {
            path: path.clone(),
            start,
            device: mapping.device,
            inode: mapping.inode,
            build_id: build_id(image.at(start, HEADERS)),
            length: None,
        });
    }
    modules
}

/// A part of a mapped file, as `NT_FILE` lists it.
struct MappedFile {
    range: std::ops::Range<u64>,
    offset: u64,
    path: PathBuf,
}

#[derive(Default)]
struct Notes {
    pid: i32,
    threads: Vec<ThreadFacts>,
    files: Vec<MappedFile>,
    auxiliary: Vec<(u64, u64)>,
    name: String,
}

impl Notes {
    fn take(&mut self, kind: NoteType, desc: &[u8]) {
        match kind {
            NT_PRSTATUS if self.threads.len() < MOST => {
                if let Some(thread) = thread(desc, &self.name) {
                    // The thread that ended the process comes first; its group has its leader's number.
                    if self.pid == 0 {
                        self.pid = thread.tid;
                    }
                    self.threads.push(thread);
                }
            }
            NT_PRPSINFO => {
                // `struct elf_prpsinfo`: pid at 24, the first 16 bytes of the command's name at 40.
                if let Some(pid) = word32(desc, 24) {
                    self.pid = pid.cast_signed();
                }
                let name = desc.get(40..56).unwrap_or_default();
                let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
                self.name = String::from_utf8_lossy(&name[..end]).into_owned();
                for thread in &mut self.threads {
                    thread.name.clone_from(&self.name);
                }
            }
            NT_FILE => self.files = files(desc).unwrap_or_default(),
            NT_AUXV => {
                let pairs = desc.as_chunks::<16>().0.iter();
                self.auxiliary = pairs.filter_map(|pair| word(pair, 0).zip(word(pair, 8))).collect();
            }
            _ => {}
        }
    }

    fn auxiliary(&self, key: u64) -> Option<u64> {
        self.auxiliary.iter().find(|(known, _)| *known == key).map(|(_, value)| *value)
    }

    fn mapping(&self, range: std::ops::Range<u64>, flags: ProgramFlags) -> Mapping {
        let file = self.files.iter().position(|file| file.range.contains(&range.start));
        let vdso = self.auxiliary(AT_SYSINFO_EHDR).is_some_and(|address| range.contains(&address));
        let main = self.threads.iter().find(|thread| thread.tid == self.pid);
        let stack = main.and_then(ThreadFacts::stack).is_some_and(|(sp, _)| range.contains(&sp));
        let path = file.map(|index| self.files[index].path.clone());
        Mapping {
            read: flags.0 & PF_R.0 != 0,
            write: flags.0 & PF_W.0 != 0,
            execute: flags.0 & PF_X.0 != 0,
            shared: false,
            offset: file.map_or(0, |index| {
                let file = &self.files[index];
                file.offset.wrapping_add(range.start - file.range.start)
            }),
            device: (0, 0),
            // Files have no inodes here: the first entry of the same path stands for one.
            inode: self.files.iter().position(|file| Some(&file.path) == path.as_ref()).map_or(0, |at| at as u64 + 1),
            path,
            label: if vdso {
                Some("vdso".into())
            } else if stack {
                Some("stack".into())
            } else {
                None
            },
            range,
        }
    }
}

/// `NT_FILE`: a count, the page size, `(start, end, page offset)` of each, then their names.
fn files(desc: &[u8]) -> Option<Vec<MappedFile>> {
    let count = usize::try_from(word(desc, 0)?).ok().filter(|count| *count <= MOST)?;
    let page = word(desc, 8)?;
    let names = desc.get(16 + count.checked_mul(24)?..)?;
    let names = names.split(|byte| *byte == 0);
    let files = (0..count).zip(names).filter_map(|(index, name)| {
        let at = 16 + index * 24;
        let (start, end, offset) = (word(desc, at)?, word(desc, at + 8)?, word(desc, at + 16)?);
        let path = PathBuf::from(String::from_utf8_lossy(name).into_owned());
        Some(MappedFile { range: start..end, offset: offset.checked_mul(page)?, path })
    });
    Some(files.collect())
}

/// `struct elf_prstatus`: the thread's id at 32, `struct user_regs_struct` at 112.
fn thread(desc: &[u8], name: &str) -> Option<ThreadFacts> {
    let tid = word32(desc, 32)?.cast_signed();
    let register = |index: usize| word(desc, 112 + index * 8);
    // r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base ...
    let [rdi, rsi, rdx, r10, r8, r9] = [14, 13, 12, 7, 9, 8].map(register);
    let (ip, sp, orig_rax) = (register(16)?, register(19)?, register(15)?);
    let in_dwarf_order = [10, 12, 11, 5, 13, 14, 4, 19, 9, 8, 7, 6, 3, 2, 1, 0];
    let general = in_dwarf_order.map(|index| register(index).unwrap_or(0));
    let registers = UserRegisters { ip, general, fs_base: register(21)? };
    let number = orig_rax.cast_signed();
    let syscall = if number >= 0 {
        SyscallState::InSyscall { number, args: [rdi?, rsi?, rdx?, r10?, r8?, r9?], sp, pc: ip }
    } else {
        SyscallState::Blocked { sp, pc: ip }
    };
    let state = if number >= 0 { RunState::Sleeping } else { RunState::Running };
    let registers = Some(registers);
    // The kernel writes ids as the process itself knows them.
    Some(ThreadFacts { tid, own_tid: Some(tid), name: name.to_owned(), state, syscall, switches: None, registers })
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|word| u64::from_le_bytes(*word))
}

fn word32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::target::Stored;

    /// A core of one thread, in a system call, with one page of memory of one mapped file.
    fn sample() -> Vec<u8> {
        let note = |kind: NoteType, desc: &[u8]| {
            let mut bytes = Vec::new();
            for number in [5, desc.len() as u32, kind.0] {
                bytes.extend(number.to_le_bytes());
            }
            bytes.extend(b"CORE\0\0\0\0");
            bytes.extend(desc);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let mut status = vec![0; 336];
        status[32..36].copy_from_slice(&77u32.to_le_bytes());
        for (index, value) in [(15, 202u64), (16, 0x1234), (19, 0x1100), (21, 0x7000)] {
            status[112 + index * 8..][..8].copy_from_slice(&value.to_le_bytes());
        }
        let mut files: Vec<u8> = [1u64, 4096, 0x1000, 0x2000, 0].iter().flat_map(|word| word.to_le_bytes()).collect();
        files.extend(b"/srv/ledger\0");
        let notes = [note(NT_PRSTATUS, &status), note(NT_FILE, &files)].concat();
        let notes_at = 64 + 2 * 56u64;
        let load_at = (notes_at + notes.len() as u64).next_multiple_of(4096);
        let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x04\0\x3e\0\x01\0\0\0".to_vec();
        for word in [0u64, 64, 0] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend([0, 0, 0, 0, 64, 0, 56, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
        let segments = [(4u32, 4u32, notes_at, 0u64, notes.len() as u64, 0u64), (1, 5, load_at, 0x1000, 4096, 4096)];
        for (kind, flags, offset, address, kept, length) in segments {
            bytes.extend(kind.to_le_bytes());
            bytes.extend(flags.to_le_bytes());
            for word in [offset, address, 0, kept, length, 4] {
                bytes.extend(word.to_le_bytes());
            }
        }
        bytes.extend(notes);
        bytes.resize(load_at as usize, 0);
        bytes.resize(load_at as usize + 4096, 9);
        bytes
    }

    fn read_bytes(bytes: &[u8]) -> Result<Contents, String> {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(bytes).expect("room for it");
        // SAFETY: the file is ours alone and stays as it is.
        read(&Arc::new(unsafe { Mmap::map(&file) }.expect("it is not empty")))
    }

    #[test]
    fn threads_memory_and_files_are_read() {
        let contents = read_bytes(&sample()).expect("a core file");
        assert_eq!((contents.pid, contents.exe.to_str()), (77, Some("/srv/ledger")));
        let moment = &contents.moments[0];
        assert_eq!(moment.image.at(0x1ffe, 9), [9, 9]);
        let [thread] = &moment.threads[..] else { panic!("one thread") };
        assert_eq!(thread.stack(), Some((0x1100, 0x1234)));
        assert!(matches!(thread.syscall, SyscallState::InSyscall { number: 202, .. }));
        assert_eq!(thread.registers.map(|registers| (registers.general[7], registers.fs_base)), Some((0x1100, 0x7000)));
        assert_eq!(moment.mappings.at(0x1000).and_then(|mapping| mapping.label.as_deref()), Some("stack"));
    }

    /// Whatever a damaged file leads to, it is no panic.
    #[test]
    fn damaged_files_are_errors_or_less() {
        let good = sample();
        for length in (1..good.len()).step_by(7) {
            let _ = read_bytes(&good[..length]);
        }
        for at in 0..4096.min(good.len()) {
            for value in [0, 0x7f, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                let _ = read_bytes(&bad);
            }
        }
        let folder = tempfile::tempdir().expect("a temporary directory");
        assert!(!Stored::is_one(&folder.path().join("none")));
    }
}
