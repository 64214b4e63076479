//! Modules read from real programs.

use super::testing::{self, BIAS, FULL, FULL_LEGACY, LIMITED, LINES, LINES_LEGACY, STRIPPED, SYMBOLS, SYMBOLS_LEGACY};
use super::{Module, Quality, SymbolKind, name};

fn address_of(module: &Module, function: &str) -> u64 {
    let symbol =
        module.symbols().find(|symbol| symbol.kind == SymbolKind::Text && name::function(symbol.name) == function);
    symbol.unwrap_or_else(|| panic!("no symbol for {function}")).address
}

#[test]
fn quality_tells_builds_apart() {
    for (build, quality) in [
        (FULL, Quality::Full),
        (FULL_LEGACY, Quality::Full),
        (LIMITED, Quality::LineTables),
        (LINES, Quality::LineTables),
        (SYMBOLS, Quality::Symbols),
        (STRIPPED, Quality::Stripped),
    ] {
        assert_eq!(testing::module(build).quality(), quality, "{build:?}");
    }
}

#[test]
fn functions_are_found_by_any_address_in_them() {
    for build in [FULL, SYMBOLS, SYMBOLS_LEGACY] {
        let module = testing::module(build);
        let start = address_of(&module, "bank::vault::Entry::poll");
        let symbol = module.symbol_at(start + 1).expect("covered by its symbol");
        assert_eq!((symbol.address, symbol.kind), (start, SymbolKind::Text));
        assert!(module.contains(start) && !module.contains(start - BIAS));
        assert!(module.executable_ranges().iter().any(|range| range.contains(&start)));
        assert!(module.symbols_at(start).any(|other| other.name == symbol.name));
        assert_eq!(module.symbol_at(start + symbol.size).filter(|next| next.name == symbol.name), None);
    }
}

#[test]
fn names_are_the_same_in_all_builds() {
    let wanted = [
        "bank::main",
        "bank::drive",
        "bank::vault::Entry::poll",
        "bank::vault::Account::balance",
        "bank::vault::Account::call",
        "bank::vault::Account::far",
        "bank::vault::Service::twice",
        "alloc::vec::Vec::call",
    ];
    for build in [FULL, FULL_LEGACY, LIMITED, LINES, LINES_LEGACY, SYMBOLS, SYMBOLS_LEGACY] {
        let module = testing::module(build);
        for function in wanted {
            let address = address_of(&module, function);
            let frames = module.source_frames(address);
            assert_eq!(frames.last().expect("at least the symbol").function, function, "{build:?}");
        }
    }
}

#[test]
fn inlined_async_functions_are_listed_with_their_lines() {
    let (poll, audit) = (testing::line_of("Entry { amount: fee }.await"), testing::line_of("Entry { amount }.await;"));
    for build in [FULL, FULL_LEGACY, LIMITED] {
        let module = testing::module(build);
        let mut seen = Vec::new();
        for symbol in module
            .symbols()
            .filter(|symbol| symbol.kind == SymbolKind::Text && name::function(symbol.name).starts_with("bank::"))
        {
            for address in (symbol.address..symbol.address + symbol.size).step_by(4) {
                seen.extend(module.source_frames(address).into_iter().filter(|frame| frame.is_coroutine));
            }
        }
        let has =
            |function: &str, line| seen.iter().any(|frame| frame.function == function && frame.line == Some(line));
        assert!(has("bank::vault::Account::transfer", poll), "{build:?}");
        assert!(has("bank::vault::audit", audit), "{build:?}");
        let file = seen.iter().find_map(|frame| frame.file.clone()).expect("line tables name files");
        assert_eq!(std::path::Path::new(&file), testing::source());
    }
}

/// Line tables alone have no paths for what is inlined: those that still can be told are, the rest claim nothing.
#[test]
fn inlined_functions_without_a_path_are_named_as_far_as_it_goes() {
    let (awaited, poll) = (testing::line_of("audit(amount).await"), testing::line_of("Entry { amount: fee }.await"));
    for build in [LINES, LINES_LEGACY] {
        let module = testing::module(build);
        let mut seen = Vec::new();
        for symbol in module.symbols().filter(|symbol| symbol.kind == SymbolKind::Text) {
            if name::demangled(symbol.name).contains("bank::") {
                let addresses = (symbol.address..symbol.address + symbol.size).step_by(4);
                seen.extend(addresses.flat_map(|address| module.source_frames(address)));
            }
        }
        let named = |function: &'static str| seen.iter().filter(move |frame| frame.function == function);
        let coroutines = || seen.iter().filter(|frame| frame.inlined && frame.is_coroutine);
        assert!(named("bank::vault::Account::transfer").any(|frame| frame.line == Some(poll)), "{build:?}");
        assert!(named("bank::vault::Account::transfer").any(|frame| frame.line == Some(awaited)), "{build:?}");
        assert!(coroutines().any(|frame| frame.function == "bank::vault::settle"), "{build:?}");
        for frame in coroutines() {
            let known = ["bank::main", "bank::vault::settle", "async fn", "async block"];
            assert!(known.contains(&&*frame.function), "{build:?}: {frame:?}");
        }
        assert!(named("core::task::wake::from_waker").next().is_some(), "{build:?}");
        assert!(seen.iter().all(|frame| !frame.function.contains(['{', '<'])), "{build:?}");
    }
}

#[test]
fn thread_locals_have_an_offset_in_the_block() {
    let module = testing::module(SYMBOLS);
    let tls = module.tls().expect("the program has thread-locals");
    let symbol = module.symbols().find(|symbol| symbol.kind == SymbolKind::Tls && symbol.name.contains("VISITS"));
    let symbol = symbol.expect("thread-locals have symbols");
    assert!(symbol.address < tls.memsz && tls.filesz <= tls.memsz);
    assert!(tls.align.is_power_of_two());
}

#[test]
fn calls_that_leave_the_module_are_named_by_their_slot() {
    let module = testing::module(STRIPPED);
    let slots = module.relocated_slots();
    assert!(slots.iter().any(|(_, name)| *name == "write"), "{slots:?}");
    assert!(slots.iter().all(|(slot, _)| module.writable_ranges().iter().any(|range| range.contains(slot))));
}

#[test]
fn sections_and_file_bytes_agree() {
    let module = testing::module(FULL);
    let text = module.section(".text").expect("code");
    assert_eq!(text.size, text.bytes.len() as u64);
    assert_eq!(module.file_bytes(text.address, text.bytes.len()), Some(&text.bytes[..]));
    assert_eq!(module.file_bytes(text.address, usize::MAX), None);
    assert!(module.range().contains(&text.address));
    let bss = module.section(".bss").expect("zeroed data");
    assert!(bss.bytes.is_empty() && bss.size > 0);
}

#[test]
fn a_library_exports_by_name() {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("our own maps");
    let libc = maps.lines().find(|line| line.contains("libc.so")).expect("the tests run against glibc or musl");
    let start = u64::from_str_radix(libc.split('-').next().unwrap_or_default(), 16).expect("an address");
    let path = &libc[libc.find('/').expect("a path")..];
    let module = Module::parse(std::fs::read(path).expect("mapped, so there").into(), start, path.into()).expect("ELF");
    assert_eq!(module.exported("getpid"), Some(libc::getpid as *const () as u64));
    assert_eq!(module.exported("no_such_function"), None);
    assert!(module.build_id().is_some_and(|id| !id.is_empty()));
}

#[test]
fn what_is_no_module_is_an_error() {
    let parse = |bytes: Vec<u8>| Module::parse(bytes.into(), 0, "x".into()).map(|_| ());
    assert!(matches!(parse(Vec::new()), Err(super::DebugInfoError::Elf(_))));
    assert!(matches!(parse(b"#!/bin/sh\n".to_vec()), Err(super::DebugInfoError::Elf(_))));
    let mut other = testing::program(STRIPPED).to_vec();
    other[18] = 183;
    assert_eq!(parse(other), Err(super::DebugInfoError::Machine));
}

#[test]
fn debuginfo_names_the_generics_of_a_function() {
    for build in [FULL, FULL_LEGACY, LINES, LINES_LEGACY] {
        let module = testing::module(build);
        let symbols = module.symbols().filter(|symbol| name::function(symbol.name) == "bank::drive");
        let found: Vec<_> = symbols.filter_map(|symbol| module.subprogram_at(symbol.address)).collect();
        assert!(
            found.iter().all(|found| found.function == "bank::drive" && found.name.starts_with("drive<")),
            "{found:?}"
        );
        let mut futures: Vec<_> = found.iter().map(|found| name::type_name(&found.template_types[0])).collect();
        futures.sort();
        // The third instance is small enough to be inlined in some builds.
        assert_eq!(futures[..2], ["Pin<Box<dyn Future>>", "bank::main"], "{build:?}");
    }
    let module = testing::module(SYMBOLS);
    assert_eq!(module.subprogram_at(address_of(&module, "bank::main")), None);
}

#[test]
fn packed_debuginfo_is_unpacked() {
    let module = Module::parse(testing::small_packed(), BIAS, "small".into()).expect("sound");
    let info = module.section(".debug_info").expect("full debuginfo");
    let plain = Module::parse(testing::small().to_vec().into(), BIAS, "small".into()).expect("sound");
    assert!(
        info.bytes.len() < plain.section(".debug_info").expect("full debuginfo").bytes.len(),
        "packed by the linker"
    );
    let area = module.exported("area").expect("exported");
    assert_eq!(module.source_frames(area), plain.source_frames(plain.exported("area").expect("exported")));
    let types = module.types().expect("full debuginfo");
    assert_eq!(types.size(types.find("small::Pair<u32>").expect("described")), Some(16));
}
