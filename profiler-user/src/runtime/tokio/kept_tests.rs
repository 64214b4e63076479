use super::*;
use crate::{
    model::{Frame, ResourceKey, ResourceKind, Strand, Task, TaskState, Wait},
    runtime::tokio::state::StateWord,
    target::{Memory, Process},
};

/// A page of this process: a cell of four words at its start, and words elsewhere.
#[repr(align(4096))]
struct Page([u64; 512]);

const ELSEWHERE: usize = 100;
const NOT_LOOKED_AT: usize = 101;
/// A count of 3 at the least.
const COUNTED: usize = 300;

fn header(address: u64) -> Header {
    Header { address, state: StateWord(0), vtable: 0, owner: 1 }
}

/// A task that waits for a timer inside of itself, `in_ms` from now.
fn sleeper(address: u64, id: u64, in_ms: i64) -> ReadTask {
    let resource = ResourceKey { kind: ResourceKind::Timer, address: address + 16 };
    let wait = Wait { resource, mode: WaitMode::Deadline { in_ms: Some(in_ms) }, position: None, target: None };
    let frames: Vec<Frame> = Vec::new();
    let task = Task {
        party: PartyId::Task { runtime: 7, id },
        address,
        runtime: 0,
        name: "ledger::sleeps".into(),
        state: TaskState::Suspended,
        status: None,
        since: None,
        origin: None,
        labels: None,
        root: Strand { wait: Some(wait), ..Strand::new(frames) },
        incomplete: None,
        awaits_known: true,
        imprint: None,
        unstable: false,
        thread: None,
    };
    ReadTask::new(task, Told::default())
}

struct Scene {
    page: Box<Page>,
    process: Process,
    kept: Kept,
    moment: Moment,
}

impl Scene {
    /// Two tasks, one behind the other, that were read once.
    fn new() -> Self {
        let mut page = Box::new(Page([0; 512]));
        for (index, word) in page.0.iter_mut().enumerate() {
            *word = index as u64 + 1;
        }
        let process = Process::open(std::process::id() as i32).expect("own process");
        let mut scene = Self { page, process, kept: Kept::default(), moment: Moment::default() };
        let circumstances = Circumstances::default();
        let memory = scene.memory();
        for (place, id) in [(0, 11), (4, 12)] {
            let cell = scene.address(place)..scene.address(place + 4);
            let trail = Trail::new(&memory);
            trail.look(cell.start, 32);
            trail.look(scene.address(ELSEWHERE), 8);
            trail.count(scene.address(COUNTED), 3);
            let mut bytes = [0; 32];
            memory.read(cell.start, &mut bytes).expect("own memory");
            let basis = Basis { trail, digest: digest(&bytes), cell };
            let read = sleeper(scene.address(place), id, 60_000);
            scene.kept.add(&circumstances, 0, &read, &basis, (&memory, &scene.moment));
        }
        scene.kept.end();
        scene
    }

    fn address(&self, place: usize) -> u64 {
        (&raw const self.page.0[place]) as u64
    }

    fn memory(&self) -> AddressSpace {
        let mappings = self.process.mappings().expect("own mappings");
        self.process.memory(mappings, Vec::new()).expect("own memory")
    }

    /// Which of the two a look finds as they were.
    fn look(&mut self) -> [Option<ReadTask>; 2] {
        let headers = [header(self.address(0)), header(self.address(4))];
        let memory = self.memory();
        self.kept.begin(&Circumstances::default(), &memory, &headers);
        let found = headers.map(|header| self.kept.take(header.address, None, &self.moment));
        self.kept.end();
        found
    }
}

#[test]
fn what_has_not_changed_is_told_again() {
    let mut scene = Scene::new();
    for _ in 0..2 {
        let found = scene.look().map(|read| read.expect("nothing has changed"));
        assert!(found[0] == sleeper(scene.address(0), 11, 60_000));
        assert!(found[1] == sleeper(scene.address(4), 12, 60_000));
    }
}

#[test]
fn those_that_are_alike_share_what_was_read() {
    let scene = Scene::new();
    let [one, other] = &scene.kept.tasks[..] else { panic!("two tasks") };
    assert!(Arc::ptr_eq(&one.alike, &other.alike) && Arc::ptr_eq(&one.elsewhere, &other.elsewhere));
}

#[test]
fn a_cell_that_has_changed_is_read_anew() {
    let mut scene = Scene::new();
    scene.page.0[5] += 1;
    let found = scene.look().map(|read| read.is_some());
    assert_eq!(found, [true, false]);
    scene.page.0[5] -= 1;
    let found = scene.look().map(|read| read.is_some());
    assert_eq!(found, [true, false], "what was between is not known");
}

#[test]
fn a_word_elsewhere_counts_if_it_was_looked_at() {
    let mut scene = Scene::new();
    scene.page.0[NOT_LOOKED_AT] += 1;
    assert!(scene.look().iter().all(Option::is_some));
    scene.page.0[ELSEWHERE] += 1;
    assert!(scene.look().iter().all(Option::is_none));
}

#[test]
fn other_circumstances_leave_nothing_standing() {
    let mut scene = Scene::new();
    let others = Circumstances { fs_base: 1, ..Circumstances::default() };
    let (memory, address) = (scene.memory(), scene.address(0));
    scene.kept.begin(&others, &memory, &[header(address)]);
    assert!(scene.kept.take(address, None, &scene.moment).is_none());
}

#[test]
fn a_time_that_has_passed_is_news() {
    let mut scene = Scene::new();
    for known in &mut scene.kept.tasks {
        known.times = [now_ms(&scene.moment) - 1].into();
    }
    assert!(scene.look().iter().all(Option::is_none));
}

#[test]
fn two_halves_are_one_again() {
    let mut scene = Scene::new();
    let second = scene.address(4);
    let others = scene.kept.split_off(second);
    assert_eq!((scene.kept.tasks.len(), others.tasks.len()), (1, 1));
    scene.kept.join(others);
    assert!(scene.look().iter().all(Option::is_some));
    // What a half has read anew is compared with what the whole knows.
    let mut half = Scene::new();
    half.kept.fresh = mem::take(&mut half.kept.tasks);
    scene.kept.tasks.clear();
    scene.kept.join(mem::take(&mut half.kept));
    scene.kept.end();
    assert!(scene.kept.tasks.iter().all(|known| scene.kept.everywhere.has(&known.elsewhere)));
}

#[test]
fn a_count_elsewhere_may_change_as_long_as_it_does_not_come_to_the_lowest() {
    let mut scene = Scene::new();
    scene.page.0[COUNTED] = 3;
    assert!(scene.look().iter().all(Option::is_some));
    scene.page.0[COUNTED] = 2;
    assert!(scene.look().iter().all(Option::is_none));
}
