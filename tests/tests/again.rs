//! A second look takes over what has not changed since the first: whatever it says, a first look at the same moment says too.

use gordian_tests::{Fixture, Profile};
use profiler_user::{
    debuginfo::Module,
    model::{PartyId, Snapshot, Strand, Target, Task, Wait, WaitMode},
    runtime::{self, Reads, Runtime, World},
    target::Process,
};

/// A process, and readers that have looked at it a different number of times.
struct Looks {
    process: Process,
    modules: Vec<Module>,
}

impl Looks {
    fn at(fixture: &Fixture) -> Self {
        let process = Process::open(fixture.pid).expect("the fixture runs");
        let (files, _) = process.modules(&process.mappings().expect("its mappings"));
        let modules = files.iter().filter_map(|file| Module::load(file).ok()).collect();
        Self { process, modules }
    }

    fn reader(&self) -> Vec<Box<dyn Runtime>> {
        let mappings = self.process.mappings().expect("its mappings");
        let (files, _) = self.process.modules(&mappings);
        runtime::find(&self.modules, &self.process.memory(mappings, files).expect("its memory"))
    }

    /// The tasks by id.
    fn look(&self, reader: &mut [Box<dyn Runtime>]) -> Vec<Task> {
        let mappings = self.process.mappings().expect("its mappings");
        let (files, _) = self.process.modules(&mappings);
        let memory = self.process.memory(mappings, files).expect("its memory");
        let threads = self.process.threads().expect("its threads");
        let threads: Vec<_> = threads.into_iter().map(|facts| (facts, None, Vec::new())).collect();
        let world = World { memory: &memory, modules: &self.modules, threads: &threads, reads: Reads::Passing };
        let target = Target { pid: 0, exe: self.process.exe().to_owned() };
        let mut snapshot = Snapshot::empty(target);
        for runtime in reader {
            runtime.read(&world, &mut snapshot);
        }
        let mut tasks = snapshot.tasks;
        tasks.retain(|task| matches!(task.party, PartyId::Task { .. }));
        tasks.sort_by_key(|task| task.party);
        tasks
    }
}

/// Takes out how long the strand's waits last still.
fn left(strand: &mut Strand) -> Vec<i64> {
    let mut found = Vec::new();
    if let Some(Wait { mode: WaitMode::Deadline { in_ms: Some(in_ms) }, .. }) = &mut strand.wait {
        found.push(std::mem::take(in_ms));
    }
    found.extend(strand.children.iter_mut().flat_map(left));
    found
}

/// In a program in which nothing moves any more.
fn same_at_rest(name: &str, arguments: &[&str]) {
    let fixture = &Fixture::start_with(name, Profile::Release, arguments);
    let looks = Looks::at(fixture);
    let mut practised = looks.reader();
    for _ in 0..2 {
        looks.look(&mut practised);
    }
    let (mut again, mut anew) = (looks.look(&mut practised), looks.look(&mut looks.reader()));
    assert!(!anew.is_empty(), "{name}: no tasks");
    assert_eq!(again.len(), anew.len(), "{name}");
    for (again, anew) in again.iter_mut().zip(&mut anew) {
        // The two looks are not at the same millisecond, but at the same minute.
        let (lasts, lasted) = (left(&mut again.root), left(&mut anew.root));
        assert!(
            lasts.iter().zip(&lasted).all(|(one, other)| one.abs_diff(*other) < 60_000),
            "{name}: {lasts:?}, {lasted:?}"
        );
        // Who was caught moving tells nothing.
        if !again.unstable && !anew.unstable && again.state == anew.state {
            assert_eq!(again, anew, "{name}");
        }
    }
}

#[test]
fn nothing_is_taken_over_that_a_first_look_would_not_say() {
    for name in ["primitives", "holders", "deadlock", "healthy", "http"] {
        same_at_rest(name, &[]);
    }
    // So many that two threads share them, the first time.
    same_at_rest("many", &["9000"]);
}

#[test]
fn what_has_changed_is_not_taken_over() {
    let fixture = Fixture::start_with("many", Profile::Release, &["400", "2"]);
    let looks = Looks::at(&fixture);
    let mut practised = looks.reader();
    let before = looks.look(&mut practised);
    std::thread::sleep(std::time::Duration::from_secs(3));
    let after = looks.look(&mut practised);
    // Every session ends within two seconds, and another takes its cell.
    let sessions = |tasks: &[Task]| -> Vec<PartyId> {
        let sleeping =
            tasks.iter().filter(|task| task.root.waits().any(|wait| matches!(wait.mode, WaitMode::Deadline { .. })));
        sleeping.map(|task| task.party).collect()
    };
    let (before, after) = (sessions(&before), sessions(&after));
    assert!(!before.is_empty() && !after.is_empty());
    assert!(before.iter().all(|party| !after.contains(party)), "a session that has ended is still told of");
}
