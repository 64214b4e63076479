//! The target comes first where there is too little CPU for both: no thread of gordian's displaces one that runs.

use std::fs;

use gordian_tests::{Fixture, Gordian, Profile, Watching, capability::Need, require};

/// `SCHED_BATCH` of sched(7).
const BATCH: &str = "3";

/// Name and scheduling policy of each thread of a process, from proc_pid_stat(5).
fn policies(pid: u32) -> Vec<(String, String)> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let stats = threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
    let policy = |stat: String| {
        let (name, fields) = stat.rsplit_once(") ").expect("a name in brackets");
        // The policy is field 41; the first behind the name is the third.
        let policy = fields.split(' ').nth(41 - 3).expect("it has some fifty fields");
        (name.split_once('(').map_or(name, |(_, name)| name).to_owned(), policy.to_owned())
    };
    stats.map(policy).collect()
}

#[test]
fn every_thread_gives_way() {
    require!(Need::Ptrace);
    let fixture = Fixture::start_with("healthy", Profile::Release, &[]);
    let mut gordian = Watching::start(Gordian::new(["check", &fixture.pid_argument(), "--for", "60"]));
    std::thread::sleep(std::time::Duration::from_secs(1));
    let policies = policies(gordian.pid());
    assert!(policies.len() > 1, "it looks on a thread of its own: {policies:?}");
    assert!(policies.iter().all(|(_, policy)| policy == BATCH), "{policies:?}");
    gordian.end();
}
