//! What the kernel programs count.

/// How many kinds of traced functions are counted apart. Kinds from here on share the last slot.
pub const WAIT_KINDS: u32 = 64;

/// Index into the per-CPU array of counters. Every way of losing something has its own.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counter {
    /// Times a thread of the target left its CPU to block.
    Blocked = 0,
    /// Of these, blocks inside a poll, as far as the context tells.
    BlockedInPoll = 1,
    /// Block events sent.
    BlockEvents = 2,
    /// Block events lost: no room in the ring buffer.
    BlockRingFull = 3,
    /// Threads not recorded: no room in the map of threads.
    ThreadMapFull = 4,
    /// The runtime's context could not be read from the target.
    ContextUnreadable = 5,
    /// Samples sent.
    Samples = 6,
    /// Samples lost: no room in the ring buffer.
    SampleRingFull = 7,
    /// Samples whose stack was deeper than a sample has room for.
    StackCut = 8,
    /// Samples whose stack could not be read to its end.
    StackUnreadable = 9,
    /// Wait events sent.
    Waits = 10,
    /// Wait events lost: no room in the ring buffer.
    WaitRingFull = 11,
    /// Blocks that began before the end of the same thread's last one was seen: that one was not sent.
    BlockTorn = 12,
}

impl Counter {
    /// How many counters there are.
    pub const COUNT: u32 = 13;

    /// All of them, in the order of their indices.
    pub const ALL: [Self; Self::COUNT as usize] = [
        Self::Blocked,
        Self::BlockedInPoll,
        Self::BlockEvents,
        Self::BlockRingFull,
        Self::ThreadMapFull,
        Self::ContextUnreadable,
        Self::Samples,
        Self::SampleRingFull,
        Self::StackCut,
        Self::StackUnreadable,
        Self::Waits,
        Self::WaitRingFull,
        Self::BlockTorn,
    ];
}
