//! Stacks of this very process.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::{Completeness, Unwinder};
use crate::debuginfo::{Module, name};
use crate::target::Process;

/// Sends its own program counter, stack pointer and frame pointer, and stays where they hold.
#[inline(never)]
fn innermost(out: &Sender<(u64, u64, u64)>, go_on: &Receiver<()>) {
    let (pc, sp, bp): (u64, u64, u64);
    // SAFETY: reads three registers and changes none but its outputs.
    unsafe {
        std::arch::asm!("lea {0}, [rip]", "mov {1}, rsp", "mov {2}, rbp", out(reg) pc, out(reg) sp, out(reg) bp);
    }
    out.send((pc, sp, bp)).expect("the test listens");
    // Ends when the test drops its end.
    let _ = go_on.recv();
    black_box(());
}

#[inline(never)]
fn middle(out: &Sender<(u64, u64, u64)>, go_on: &Receiver<()>, depth: u32) {
    if depth == 0 {
        innermost(out, go_on);
    } else {
        middle(out, go_on, depth - 1);
    }
    black_box(());
}

/// The modules of this process.
fn modules() -> Vec<Module> {
    let process = Process::open(std::process::id() as i32).expect("we may look at ourselves");
    let (files, missing) = process.modules(&process.mappings().expect("our own mappings"));
    assert_eq!(missing, Vec::<String>::new());
    files.iter().map(|file| Module::load(file).expect("mapped for execution, so ELF")).collect()
}

/// Runs `check` with the registers of a thread that waits in `innermost`, called by `depth` + 1 times `middle`.
fn with_thread(depth: u32, check: impl FnOnce(u64, u64, u64)) {
    let (out, registers) = channel();
    let (keep, go_on) = channel();
    let thread = std::thread::spawn(move || middle(&out, &go_on, depth));
    let (pc, sp, bp) = registers.recv().expect("the thread sends them first");
    check(pc, sp, bp);
    drop(keep);
    thread.join().expect("it only waited");
}

fn names(modules: &[Module], addresses: &[u64]) -> Vec<String> {
    let symbol = |address: &u64| modules.iter().find_map(|module| module.symbol_at(*address));
    addresses
        .iter()
        .map(|address| symbol(address).map_or_else(String::new, |symbol| name::function(symbol.name)))
        .collect()
}

/// Our memory, a word at a time.
fn memory() -> impl FnMut(u64) -> Result<u64, ()> {
    let memory = File::open("/proc/self/mem").expect("our own memory");
    move |address| {
        let mut word = [0; 8];
        memory.read_exact_at(&mut word, address).map_err(|_| ())?;
        Ok(u64::from_le_bytes(word))
    }
}

#[test]
fn a_blocked_thread_is_walked_to_its_beginning() {
    let modules = modules();
    let mut unwinder = Unwinder::new(&modules);
    with_thread(3, |pc, sp, bp| {
        for _ in 0..2 {
            let (addresses, end) = unwinder.unwind(pc, sp, bp, &mut memory());
            let names = names(&modules, &addresses);
            assert_eq!(end, Completeness::Complete, "{names:?}");
            assert!(names[0].ends_with("unwind::tests::innermost"), "{names:?}");
            assert_eq!(names.iter().filter(|name| name.ends_with("unwind::tests::middle")).count(), 4, "{names:?}");
            assert!(names.iter().any(|name| name.ends_with("__rust_begin_short_backtrace")), "{names:?}");
        }
    });
}

#[test]
fn a_copy_of_the_stack_is_enough() {
    let modules = modules();
    let mut unwinder = Unwinder::new(&modules);
    with_thread(1, |pc, sp, bp| {
        let mut read = memory();
        let copy: Vec<u64> = (0..8192).map_while(|index| read(sp + index * 8).ok()).collect();
        let word = |words: &[u64], at: u64| words.get(usize::try_from(at.checked_sub(sp)? / 8).ok()?).copied();
        let whole = unwinder.unwind(pc, sp, bp, &mut |at| word(&copy, at).ok_or(()));
        assert_eq!(whole, unwinder.unwind(pc, sp, bp, &mut read));
        assert_eq!(whole.1, Completeness::Complete);

        let (cut, end) = unwinder.unwind(pc, sp, bp, &mut |at| word(&copy[..4], at).ok_or(()));
        assert!(matches!(end, Completeness::Unreadable(at) if at >= sp), "{end}");
        assert!(cut.len() < whole.0.len() && whole.0.starts_with(&cut));
    });
}

#[test]
fn what_is_no_code_ends_the_walk_and_says_so() {
    let modules = modules();
    let mut unwinder = Unwinder::new(&modules);
    assert_eq!(unwinder.unwind(8, 1 << 20, 0, &mut |_| Ok(0)), (vec![8], Completeness::UnknownCode(8)));
    with_thread(0, |pc, sp, bp| {
        // A stack full of words that are no return addresses.
        let (addresses, end) = unwinder.unwind(pc, sp, bp, &mut |_| Ok(0x1000));
        assert_eq!((addresses, end), (vec![pc], Completeness::UnknownCode(0xfff)));
        let (addresses, end) = unwinder.unwind(pc, sp, bp, &mut |_| Ok(0));
        assert_eq!((addresses, end), (vec![pc], Completeness::Damaged(pc)));
        let (addresses, end) = unwinder.unwind(pc, 0, 0, &mut |_| Ok(0));
        assert_eq!((addresses, end), (vec![pc], Completeness::Damaged(pc)));
        // Without the module there is no rule at all.
        assert_eq!(Unwinder::new([]).unwind(pc, sp, bp, &mut memory()).1, Completeness::UnknownCode(pc));
    });
}

#[test]
fn endless_recursion_is_cut() {
    let modules = modules();
    let mut unwinder = Unwinder::new(&modules);
    with_thread(0, |pc, sp, bp| {
        let (addresses, end) = unwinder.unwind(pc, sp, bp, &mut |_| Ok(pc));
        assert_eq!((addresses.len(), end), (super::MOST_FRAMES, Completeness::TooDeep));
    });
}
