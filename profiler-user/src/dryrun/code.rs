//! Decoded code: what the interpreter runs, and the cache of it.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use iced_x86::{ConditionCode, Mnemonic};
use rustc_hash::{FxHashMap, FxHashSet};

use super::hooks::Special;
use super::table::Exec;
use super::unknown::{Trap, Why};

/// One instruction, decoded.
pub(super) struct Op {
    pub exec: Exec,
    pub operands: [Operand; 4],
    /// Bytes of each operand.
    pub sizes: [u8; 4],
    pub memory: Location,
    pub mnemonic: Mnemonic,
    pub condition: ConditionCode,
    pub repeat: Repeat,
    /// A read-modify-write of memory that is atomic.
    pub atomic: bool,
    /// VEX-encoded: clears what lies above its destination in the vector register.
    pub vex: bool,
    pub ip: u64,
}

/// Where an operand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operand {
    None,
    Register(Register),
    Vector(u8),
    /// At [`Op::memory`]; for string instructions, where the instruction itself knows.
    Memory,
    Immediate(u64),
}

/// A general-purpose register, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Register {
    /// As in [`Reg`](super::Reg).
    pub index: u8,
    /// In bytes.
    pub size: u8,
    /// One of `ah ch dh bh`.
    pub high: bool,
}

/// How to compute an address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Location {
    /// As in [`Reg`](super::Reg), or [`ZERO`](super::cpu::ZERO).
    pub base: u8,
    pub index: u8,
    pub scale: u8,
    /// Absolute for `[rip+x]`.
    pub displacement: u64,
    pub segment: Segment,
    /// Computed in 32 bits.
    pub narrow: bool,
    /// Neither base nor index: always the same address (but for the segment).
    pub fixed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Flat,
    Fs,
    Gs,
}

/// Prefixes of string instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    Once,
    /// `rep`, `repe`.
    WhileEqual,
    /// `repne`.
    WhileNotEqual,
}

/// How a block ends.
pub(super) enum End {
    /// The block was cut for length: control goes on at the next address.
    Next,
    Jump(u64),
    Branch {
        taken: u64,
        on: BranchOn,
    },
    JumpIndirect,
    Call(u64),
    CallIndirect,
    /// Pops this many bytes besides the return address.
    Return(u64),
    Syscall,
    Special(Special),
    Trap(Trap),
    /// Decoding ended here.
    Fault(Why),
}

/// What a conditional jump looks at.
pub(super) enum BranchOn {
    Condition,
    /// `jecxz`, `jrcxz`: this many bytes of `rcx` are zero.
    CountZero(u8),
    /// `loop`, `loope`, `loopne`: counts down this many bytes of `rcx`; the condition comes on top.
    Loop(u8),
}

/// Instructions that run one after the other, and where control goes then.
pub(super) struct Block {
    pub ops: Box<[Op]>,
    pub end: End,
    /// The instruction that ends the block, when it has one.
    pub last: Option<Op>,
    pub end_ip: u64,
    pub next_ip: u64,
    /// Blocks that followed this one: when the branch was not taken, and when it was.
    links: [AtomicU64; 2],
    tail: AtomicU8,
}

impl Block {
    pub(super) fn new(ops: Vec<Op>, end: End, last: Option<Op>, end_ip: u64, next_ip: u64) -> Self {
        Self {
            ops: ops.into(),
            end,
            last,
            end_ip,
            next_ip,
            links: [AtomicU64::new(NO_LINK), AtomicU64::new(NO_LINK)],
            tail: AtomicU8::new(0),
        }
    }

    /// Whether the direct jump that ends the block goes to a function, asked once.
    pub(super) fn leads_to_function(&self, ask: impl FnOnce() -> bool) -> bool {
        match self.tail.load(Ordering::Relaxed) {
            0 => {
                let yes = ask();
                self.tail.store(1 + u8::from(yes), Ordering::Relaxed);
                yes
            }
            answer => answer == 2,
        }
    }
}

const NO_LINK: u64 = u64::MAX;
/// Instructions kept before all is forgotten: a bound on memory, far above what honest code needs.
const MOST_OPS: usize = 200_000;

/// Decoded code of one process, for all runs over it: each address is decoded once.
///
/// It holds instructions only, so it stays right as long as the process does not change its code. It may be sent to another
/// thread, but used by one at a time.
#[derive(Default)]
pub struct CodeCache {
    executable: Option<Vec<Range<u64>>>,
    inner: RefCell<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Counts how often everything was forgotten, so that links from before are not followed.
    epoch: u32,
    blocks: Vec<Arc<Block>>,
    starts: FxHashMap<u64, u32>,
    pages: FxHashSet<u64>,
    functions: FxHashMap<u64, bool>,
    ops: usize,
}

impl CodeCache {
    /// An empty cache. Code is interpreted wherever it can be read.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty cache. Control that goes outside `executable` ends the run as [`Why::LeftExecutable`].
    pub fn within(executable: Vec<Range<u64>>) -> Self {
        Self { executable: Some(executable), ..Self::default() }
    }

    /// An empty cache for the same code: for another thread.
    #[must_use]
    pub fn another(&self) -> Self {
        Self { executable: self.executable.clone(), ..Self::default() }
    }

    /// Whether code at `address` may be interpreted.
    pub(super) fn may_run(&self, address: u64) -> bool {
        self.executable.as_ref().is_none_or(|ranges| ranges.iter().any(|range| range.contains(&address)))
    }

    /// Whether decoded code lies on this page.
    pub(super) fn has_code_on(&self, page: u64) -> bool {
        self.inner.borrow().pages.contains(&page)
    }

    /// Whether a function starts at the target of an indirect jump, asked once for each target.
    pub(super) fn is_function(&self, address: u64, ask: impl FnOnce() -> bool) -> bool {
        if let Some(&known) = self.inner.borrow().functions.get(&address) {
            return known;
        }
        let yes = ask();
        self.inner.borrow_mut().functions.insert(address, yes);
        yes
    }

    /// The block at `address`, if it has been decoded.
    pub(super) fn find(&self, address: u64) -> Option<Arc<Block>> {
        let inner = self.inner.borrow();
        let place = *inner.starts.get(&address)?;
        inner.blocks.get(place as usize).cloned()
    }

    /// The block at `address`, following or setting the link from the one before.
    pub(super) fn follow(&self, from: &Block, taken: bool, address: u64) -> Option<Arc<Block>> {
        let link = &from.links[usize::from(taken)];
        let inner = self.inner.borrow();
        let known = link.load(Ordering::Relaxed);
        if known != NO_LINK && (known >> 32) as u32 == inner.epoch {
            return inner.blocks.get(known as u32 as usize).cloned();
        }
        let place = *inner.starts.get(&address)?;
        link.store(u64::from(inner.epoch) << 32 | u64::from(place), Ordering::Relaxed);
        inner.blocks.get(place as usize).cloned()
    }

    /// Keeps a block that was decoded at `address`.
    pub(super) fn insert(&self, address: u64, block: Block) -> Arc<Block> {
        let mut inner = self.inner.borrow_mut();
        let inner = &mut *inner;
        if inner.ops >= MOST_OPS {
            inner.epoch = inner.epoch.wrapping_add(1);
            inner.blocks.clear();
            inner.starts.clear();
            inner.pages.clear();
            inner.functions.clear();
            inner.ops = 0;
        }
        inner.ops += block.ops.len() + 1;
        inner.pages.extend(address / PAGE..=block.next_ip.max(address) / PAGE);
        let block = Arc::new(block);
        inner.starts.insert(address, inner.blocks.len() as u32);
        inner.blocks.push(Arc::clone(&block));
        block
    }
}

const PAGE: u64 = 4096;
