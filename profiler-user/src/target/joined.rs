//! Pieces of memory that are read together, in one call of the kernel.

use std::{io::IoSliceMut, ops::Range};

use nix::{
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::Pid,
};

/// Pieces that the kernel reads in one call (`UIO_MAXIOV`).
pub(super) const PIECES: usize = 1024;
/// Bytes of scattered pieces that are read together, unless one piece alone is longer.
const TOGETHER: u64 = 4 << 20;
/// Bytes between two pieces that are rather read with them than left out.
const GAP: u64 = 256;

/// Pieces, joined to runs with what lies between neighbours: the kernel then fetches each page once.
#[derive(Debug, Default)]
pub(super) struct Joined {
    pub(super) runs: Vec<Range<u64>>,
    /// Of each piece in which run it is, and where its bytes are.
    pub(super) places: Vec<(usize, usize)>,
    /// Bytes of all runs.
    pub(super) total: usize,
}

impl Joined {
    /// Joins as many of the pieces, from the first on, as are to be read together; at least one.
    pub(super) fn join(&mut self, pieces: &[Range<u64>]) {
        let Self { runs, places, .. } = self;
        runs.clear();
        places.clear();
        let mut total = 0_u64;
        for piece in pieces {
            let length = piece.end.saturating_sub(piece.start);
            let gap = runs.last().and_then(|run| piece.start.checked_sub(run.end));
            let gap = gap.filter(|gap| *gap <= GAP && length > 0);
            let more = length + gap.unwrap_or(0);
            if !places.is_empty() && (total + more > TOGETHER || (gap.is_none() && runs.len() == PIECES)) {
                break;
            }
            match (runs.last_mut(), gap) {
                (Some(run), Some(_)) => run.end = piece.end,
                _ => runs.push(piece.start..piece.start + length),
            }
            places.push((runs.len() - 1, (total + gap.unwrap_or(0)) as usize));
            total += more;
        }
        self.total = total as usize;
    }
}

/// Fills `buf` with the runs one behind the other; says how many bytes the kernel has read.
pub(super) fn read_runs(pid: Pid, runs: &[Range<u64>], buf: &mut [u8]) -> usize {
    let remote: Vec<RemoteIoVec> = runs
        .iter()
        .map(|run| RemoteIoVec { base: run.start as usize, len: run.end.saturating_sub(run.start) as usize })
        .collect();
    let total: usize = remote.iter().map(|run| run.len).sum();
    if total == 0 {
        return 0;
    }
    process_vm_readv(pid, &mut [IoSliceMut::new(&mut buf[..total])], &remote).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_read_together() {
        let pieces = [0x1000..0x1010, 0x1018..0x1020, 0x9000..0x9008, 0..0, 0x9008..0x9010];
        let mut joined = Joined::default();
        joined.join(&pieces);
        assert_eq!(joined.runs, [0x1000..0x1020, 0x9000..0x9008, 0..0, 0x9008..0x9010]);
        assert_eq!(joined.places, [(0, 0), (0, 0x18), (1, 0x20), (2, 0x28), (3, 0x28)]);
        assert_eq!(joined.total, 0x20 + 8 + 8);
    }
}
