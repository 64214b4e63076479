//! Whatever stands in the target's memory, reading it ends, and ends without a panic.

use proptest::{collection::vec, prelude::*};

use super::{
    allgs,
    bytes::read_vec,
    code::Code,
    goroutine::Goroutine,
    holders::{self, Unlocks},
    layout::Layout,
    moduledata::ModuleData,
    pointers,
    queue::{self, Place, Queues},
    spans::{self, Spans},
    stack, waits,
};
use crate::target::{Memory, MemoryError};

/// Where the noise lies.
const START: u64 = 0x1_0000;

/// A memory in which nothing means anything.
struct Noise(Vec<u64>);

impl Memory for Noise {
    fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        for (index, byte) in buf.iter_mut().enumerate() {
            let unmapped = MemoryError::Unmapped(address);
            let offset = address.checked_add(index as u64).and_then(|at| at.checked_sub(START)).ok_or(unmapped)?;
            let word = self.0.get((offset / 8) as usize).ok_or(unmapped)?;
            *byte = word.to_le_bytes()[(offset % 8) as usize];
        }
        Ok(())
    }
}

/// Words that lead somewhere: into the noise, to small numbers, to the ends of what is possible.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => (0_u64..512).prop_map(|index| START + index * 8),
        3 => 0_u64..64,
        1 => any::<u64>(),
        1 => Just(u64::MAX),
    ]
}

fn layout() -> Layout {
    Layout::newest()
}

proptest! {
    #[test]
    fn noise_is_read_to_an_end(words in vec(word(), 512)) {
        let memory = Noise(words);
        let layout = layout();
        let mut modules = Vec::new();
        for at in (0..512).step_by(7) {
            let address = START + at * 8;
            modules.extend(ModuleData::read(&memory, &layout, address));
            let _ = allgs::read(&memory, address);
            if let Some(list) = spans::read(&memory, &layout, address).filter(|list| list.len() < 100) {
                let spans = Spans::new(list.into_iter().filter(|span| span.range.end - span.range.start < 1 << 24).collect());
                let _ = spans.object(address);
            }
        }
        modules.truncate(4);
        let mut code = Code::new(modules);
        let (mut queues, mut unlocks) = (Queues::default(), Unlocks::default());
        for at in 0..448 {
            let address = START + at * 8;
            let _ = code.caller(address);
            let _ = code.called_by(&memory, address);
            let place = Place { sudog: address, channel: address, element: 0, next: 0 };
            let _ = queues.place(&memory, &layout, place, None);
            let Some(goroutine) = Goroutine::read(&memory, &layout, address) else { continue };
            let at = (goroutine.sp, goroutine.pc, false);
            let piece = stack::piece(&goroutine, at);
            let bytes = read_vec(&memory, piece.start, piece.end - piece.start, 1 << 16).unwrap_or_default();
            let stack = stack::unwind(&mut code, &memory, at, &bytes);
            let mut found = Vec::new();
            let _ = queue::places(&memory, &layout, &goroutine);
            for reason in ["select", "chan receive", "sync.Mutex.Lock", "sync.Cond.Wait", "IO wait", "sleep"] {
                let _ = waits::read(&memory, &layout, &mut queues, (&goroutine, None), &stack, reason);
            }
            pointers::of(&stack, &mut found);
            pointers::of_record(&memory, &layout, &address.to_le_bytes(), &mut found);
            let _ = holders::of((&mut code, &mut unlocks), &memory, &layout, &goroutine, &stack);
        }
    }

    #[test]
    fn a_record_that_is_cut_short_is_no_goroutine(length in 0_usize..400) {
        let layout = layout();
        let record = vec![4; length];
        prop_assert!(Goroutine::parse(&record, &layout, START).is_none());
    }
}
