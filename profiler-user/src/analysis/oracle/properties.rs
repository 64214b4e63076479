//! The analysis against the search.

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{RngSeed, TestRunner},
};

use super::{
    World, garble,
    generate::{Recipe, Tape, world},
    search::{Fate, fate},
    snapshot::tid,
};
use crate::{
    analysis::{Thresholds, analyse},
    model::{Finding, PartyId, Snapshot},
};

/// How many worlds each property sees. They are the same in every run: `PROPTEST_CASES` asks for more, `PROPTEST_RNG_SEED` for
/// others.
fn config() -> ProptestConfig {
    const WORLDS: u32 = 2_000;
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(0);
    }
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = WORLDS;
    }
    config
}

fn tape() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..96)
}

fn permanent(now: &Snapshot, earlier: &Snapshot) -> Vec<Finding> {
    let found = analyse(now, Some(earlier), &[], &Thresholds::default());
    found.into_iter().filter(|finding| finding.kind.is_permanent()).collect()
}

/// The parties of a finding that can move after all.
fn movers(world: &World, fate: &Fate, finding: &Finding) -> Vec<PartyId> {
    let tasks = (0..fate.tasks.len()).filter(|&task| fate.tasks[task]).map(|task| world.party(task));
    let threads = (0..fate.threads.len()).filter(|&thread| fate.threads[thread]).map(tid);
    let mut movers: Vec<PartyId> = tasks.filter(|party| finding.tasks.contains(party)).collect();
    let known: Vec<i32> = finding.threads.iter().map(|thread| thread.tid).collect();
    movers.extend(threads.filter(|tid| known.contains(tid)).map(|tid| PartyId::Thread { tid }));
    movers
}

/// Nothing that is said to be stuck for good, whether proved or likely, can be freed by any sequence of counted moves; by
/// none but an escape if the finding names escapes. `now` and `earlier` are what was seen of the world.
fn check_sound(world: &World, now: &Snapshot, earlier: &Snapshot) -> Result<(), TestCaseError> {
    for finding in permanent(now, earlier) {
        let Some(fate) = fate(world, finding.breakable_by.is_empty()) else { continue };
        let movers = movers(world, &fate, &finding);
        prop_assert!(movers.is_empty(), "{:?} can move in {:#?}\n{:#?}", movers, finding, world);
    }
    Ok(())
}

/// Where the reader saw everything, all that can never move is found: each task as part of a finding or as its effect.
fn check_complete(world: &World) -> Result<(), TestCaseError> {
    prop_assert!(world.seen_whole());
    let Some(fate) = fate(world, true) else { return Ok(()) };
    let snapshot = world.snapshot();
    let findings = permanent(&snapshot, &snapshot);
    let stuck: Vec<PartyId> =
        (0..fate.tasks.len()).filter(|&task| !fate.tasks[task]).map(|task| world.party(task)).collect();
    // Part of a deadlock that an escape would break is not all that a task may be: if the escape cannot come, it is stuck.
    let named =
        stuck.iter().filter(|party| findings.iter().any(|finding| finding.tasks.contains(party))).count() as u64;
    let effects: u64 =
        findings.iter().filter(|finding| finding.breakable_by.is_empty()).map(|finding| finding.effects).sum();
    prop_assert_eq!(named + effects, stuck.len() as u64, "{:#?}\n{:#?}\n{:#?}", fate, findings, world);
    Ok(())
}

/// The properties would hold of an analysis that finds nothing in worlds where nothing is stuck, or of a search that gives up.
#[test]
fn worlds_are_telling() {
    let mut runner = TestRunner::deterministic();
    let (mut searched, mut stuck, mut free) = (0, 0, 0);
    for _ in 0..300 {
        let bytes = tape().new_tree(&mut runner).expect("bytes can be made up").current();
        let world = world(&bytes, Recipe { strangers: true, gaps: false, timers: true });
        let Some(fate) = fate(&world, true) else { continue };
        searched += 1;
        if fate.tasks.iter().all(|moves| *moves) {
            free += 1;
        } else {
            stuck += 1;
        }
    }
    assert!(searched > 290 && stuck > 75 && free > 75, "searched {searched}, stuck {stuck}, free {free}");
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_is_said_to_be_stuck_can_never_move(bytes in tape()) {
        let world = world(&bytes, Recipe { strangers: true, gaps: true, timers: true });
        let snapshot = world.snapshot();
        check_sound(&world, &snapshot, &snapshot)?;
    }

    #[test]
    fn what_is_torn_or_missing_accuses_nobody(bytes in tape(), choices in tape()) {
        let world = world(&bytes, Recipe { strangers: true, gaps: false, timers: true });
        let mut tape = Tape::new(&choices);
        let (now, earlier) = garble::two_reads(&world.snapshot(), &mut tape);
        check_sound(&world, &now, &earlier)?;
    }

    #[test]
    fn what_can_never_move_is_found(bytes in tape()) {
        check_complete(&world(&bytes, Recipe { strangers: true, gaps: false, timers: true }))?;
    }
}
