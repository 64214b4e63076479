//! Files that are cut short or damaged: any answer will do, and every question must get one.

use proptest::prelude::*;

use super::testing::{self, BIAS};
use super::{Bytes, Module, Unwinder, name};

/// Asks everything there is to ask.
fn ask(bytes: Vec<u8>) {
    let Ok(module) = Module::parse(Bytes::from(bytes), BIAS, "damaged".into()) else { return };
    module.quality();
    module.exported("area");
    module.relocated_slots();
    module.section(".text");
    let mut addresses: Vec<u64> = module.symbols().map(|symbol| symbol.address).take(64).collect();
    addresses
        .extend(module.executable_ranges().iter().take(8).flat_map(|range| [range.start, range.end.wrapping_sub(1)]));
    addresses.extend([0, BIAS, u64::MAX]);
    if let Some(types) = module.types() {
        let shapes = types.instances("small::Pair").into_iter().chain(types.find("small::Shape"));
        for ty in shapes {
            types.contract_name(ty);
            types.shape(ty);
            types.member_path(ty, &["left"]);
            types.parameters(ty);
            types.variants(ty);
        }
    }
    let mut unwinder = Unwinder::new([&module]);
    for address in addresses {
        module.contains(address);
        module.file_bytes(address, 16);
        module.symbols_at(address).for_each(|symbol| drop(name::function(symbol.name)));
        module.source_frames(address);
        module.subprogram_at(address);
        for stack in [0x7000, 0x10, u64::MAX - 8] {
            unwinder.unwind(address, stack, stack, &mut |at| Ok(address.wrapping_add(at & 0x3f)));
        }
    }
}

/// Places where damage goes deep: the ends of the file with its tables, and the sections that are parsed.
fn interesting() -> Vec<(usize, usize)> {
    let bytes = testing::small();
    let module = Module::parse(Bytes::from(bytes.to_vec()), 0, "small".into()).expect("sound");
    let mut places = vec![(0, 0x400), (bytes.len().saturating_sub(0x900), bytes.len())];
    for name in
        [".eh_frame", ".eh_frame_hdr", ".debug_info", ".debug_abbrev", ".debug_line", ".debug_ranges", ".symtab"]
    {
        let Some(section) = module.section(name).filter(|section| !section.bytes.is_empty()) else { continue };
        let at =
            bytes.windows(section.bytes.len()).position(|window| *window == *section.bytes).expect("it is in there");
        places.push((at, at + section.bytes.len()));
    }
    places
}

#[test]
fn the_undamaged_file_has_answers() {
    let module = Module::parse(Bytes::from(testing::small().to_vec()), BIAS, "small".into()).expect("sound");
    let types = module.types().expect("full debuginfo");
    assert!(types.variants(types.find("small::Shape").expect("described")).is_some());
    let area = module.exported("area").expect("exported");
    assert!(module.source_frames(area).iter().any(|frame| frame.function == "area" && frame.line.is_some()));
    assert!(module.relocated_slots().iter().any(|(_, name)| *name == "outside"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn cut_short(share in 0.0..1.0f64) {
        let bytes = testing::small();
        ask(bytes[..(bytes.len() as f64 * share) as usize].to_vec());
    }

    #[test]
    fn damaged(damage in prop::collection::vec((0usize..16, 0.0..1.0f64, any::<u8>()), 1..24)) {
        let places = interesting();
        let mut bytes = testing::small().to_vec();
        for (place, share, value) in damage {
            let (start, end) = places[place % places.len()];
            let at = start + ((end - start) as f64 * share) as usize;
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        ask(bytes);
    }

    /// Lengths and offsets are where the largest and the smallest numbers hurt.
    #[test]
    fn damaged_with_extreme_words(damage in prop::collection::vec((0usize..16, 0.0..1.0f64, 0usize..4), 1..6)) {
        let places = interesting();
        let mut bytes = testing::small().to_vec();
        for (place, share, word) in damage {
            let (start, end) = places[place % places.len()];
            let at = (start + ((end - start) as f64 * share) as usize) & !3;
            let word: &[u8] = [&[0xff; 8][..], &[0x7f; 4], &[0; 8], &[0xff, 0xff, 0xff, 0x7f]][word];
            if let Some(hole) = bytes.get_mut(at..at + word.len()) {
                hole.copy_from_slice(word);
            }
        }
        ask(bytes);
    }
}
