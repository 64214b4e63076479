//! gordian on Go programs: of every version that it reads, with and without symbols.

use std::{
    collections::BTreeMap,
    fs::File,
    process::Command,
    time::{Duration, Instant},
};

use gordian_tests::{
    Fixture, Gordian, Watching, capability,
    capability::Need,
    go::{self, Link},
    json::{list, number, one, text},
    require,
};
use nix::{sys::signal::Signal, unistd::Pid};
use serde_json::Value;

/// The families in which a lock is locked and whoever locked it has left.
const ABANDONED: [&str; 3] = ["lock-abandoned", "lock-behind-panic", "lock-copied"];
/// How many healthy programs are watched at a time.
const LANES: usize = 6;
/// How long each healthy program is watched.
const HEALTHY: &str = "2";
/// Longer than any program needs to print its goroutines.
const DUMP: Duration = Duration::from_secs(30);

/// Builds and starts a program; skips the test where there is no toolchain.
macro_rules! start {
    ($test:literal, $name:literal, $version:expr, $link:expr, $arguments:expr) => {
        match go::program($name, $version, $link) {
            Ok(program) => {
                let mut command = Command::new(program);
                command.args($arguments);
                Fixture::spawn($name, command)
            }
            Err(why) => {
                capability::skip($test, &why);
                continue;
            }
        }
    };
}

/// One goroutine of a traceback.
#[derive(Debug, PartialEq, Eq)]
struct Dumped {
    status: String,
    /// Function, and file with line; innermost first. The last may be who created it.
    frames: Vec<(String, String)>,
}

/// Reads a traceback, Go's own or ours.
fn parse(dump: &str) -> BTreeMap<u64, Dumped> {
    let mut goroutines = BTreeMap::new();
    let mut current: Option<(u64, Dumped)> = None;
    for line in dump.lines() {
        if let Some(header) = line.strip_prefix("goroutine ").and_then(|rest| rest.strip_suffix("]:")) {
            goroutines.extend(current.take());
            let (id, status) = header.split_once(" [").expect("a header");
            // How long, and the state of the scheduler's own record, may change from one dump to the next.
            let status = status.split(", ").next().expect("a status").to_owned();
            let id = id.split(' ').next().and_then(|id| id.parse().ok()).expect("an id");
            current = Some((id, Dumped { status, frames: Vec::new() }));
        } else if let Some(place) = line.strip_prefix('\t') {
            let place = place.split(" +0x").next().expect("a place").to_owned();
            if let Some((_, goroutine)) = &mut current
                && let Some(last) = goroutine.frames.last_mut()
            {
                last.1 = place;
            }
        } else if line.is_empty() || line.starts_with("rax ") {
            goroutines.extend(current.take());
        } else if let Some((_, goroutine)) = &mut current {
            let created = line.starts_with("created by ");
            let function = line.rsplit_once('(').filter(|_| !created).map_or(line, |(function, _)| function);
            goroutine.frames.push((function.to_owned(), String::new()));
        }
    }
    goroutines.extend(current);
    goroutines
}

/// What Go shows of a goroutine that is not its runtime's own; on SIGQUIT it shows everything.
fn shown(mut goroutines: BTreeMap<u64, Dumped>) -> BTreeMap<u64, Dumped> {
    let is_wrapper = |function: &str| function.rsplit('.').next().is_some_and(|last| last.starts_with("gowrap"));
    let own = |function: &str| {
        let internal = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_uppercase());
        function.strip_prefix("runtime.").is_some_and(internal) || is_wrapper(function)
    };
    for goroutine in goroutines.values_mut() {
        goroutine.frames.retain(|(function, _)| !own(function));
    }
    // Number 0 is the scheduler's own stack.
    goroutines.remove(&0);
    goroutines.retain(|_, goroutine| goroutine.frames.iter().any(|(function, _)| !function.starts_with("created by")));
    goroutines
}

#[test]
fn stacks_are_those_that_the_program_prints_itself() {
    require!(Need::Ptrace);
    for version in go::VERSIONS {
        for link in [Link::Plain, Link::Stripped, Link::StrippedPie] {
            let program = match go::program("waits", version, link) {
                Ok(program) => program,
                Err(why) => {
                    capability::skip("stacks_are_those_that_the_program_prints_itself", &why);
                    continue;
                }
            };
            let directory = tempfile::tempdir().expect("a directory");
            let path = directory.path().join("dump");
            let mut command = Command::new(program);
            command.stderr(File::create(&path).expect("a file"));
            let fixture = Fixture::spawn("waits", command);
            let ours = Gordian::new(["tasks", &fixture.pid_argument(), "--format", "goroutines"]).run();
            let ours = parse(&ours.expect(0).stdout);
            nix::sys::signal::kill(Pid::from_raw(fixture.pid), Signal::SIGQUIT).expect("it runs");
            let begin = Instant::now();
            let dump = loop {
                let dump = std::fs::read_to_string(&path).expect("the dump");
                if dump.contains("\nrflags ") {
                    break dump;
                }
                assert!(begin.elapsed() < DUMP, "Go {version} printed nothing: {dump}");
                std::thread::sleep(Duration::from_millis(10));
            };
            let theirs = shown(parse(&dump));
            let parked: Vec<_> = theirs.iter().filter(|(_, goroutine)| goroutine.status != "running").collect();
            assert!(parked.len() >= 16, "Go {version}, {link:?}: {dump}");
            for (id, goroutine) in parked {
                assert_eq!(ours.get(id), Some(goroutine), "Go {version}, {link:?}, goroutine {id}");
            }
        }
    }
}

#[test]
fn every_wait_is_told_with_its_address() {
    require!(Need::Ptrace);
    for version in go::VERSIONS {
        let fixture = start!("every_wait_is_told_with_its_address", "waits", version, Link::Stripped, [""; 0]);
        let document = Gordian::new(["tasks", &fixture.pid_argument(), "--all", "--json"]).run().expect(0).json();
        let runtime = &list(&document["target"]["runtimes"])[0];
        assert_eq!((&runtime["kind"], &runtime["version"]), (&"go".into(), &version.into()), "{runtime:#}");
        for (name, kind, mode) in [
            ("main.(*shared).locks", "sync.Mutex", "acquire"),
            ("main.(*shared).reads", "sync.RWMutex", "acquire"),
            ("main.(*shared).writes", "sync.RWMutex", "acquire"),
            ("main.(*shared).awaits", "sync.WaitGroup", "notified"),
            ("main.(*shared).condition", "sync.Cond", "notified"),
            ("main.selects", "chan", "receive"),
            ("main.main.func3", "io", "ready"),
        ] {
            let task = one(&document["tasks"], "name", name);
            let children = list(&task["awaits"]).last().map(|leaf| &leaf["children"]);
            let wait = match children.filter(|children| children.is_array()) {
                Some(branches) => {
                    assert_eq!(list(branches).len(), 2, "Go {version}: {task:#}");
                    list(branches).iter().map(|branch| &branch["wait"]).find(|wait| wait["mode"] == mode).expect("it")
                }
                None => &task["wait"],
            };
            assert_eq!((&wait["kind"], &wait["mode"]), (&kind.into(), &mode.into()), "Go {version}: {task:#}");
            assert!(wait["address"].is_string(), "Go {version}: {task:#}");
        }
        // The reader and the writer wait for one lock.
        let address = |name: &str| text(&one(&document["tasks"], "name", name)["wait"]["address"]).to_owned();
        assert_eq!(address("main.(*shared).reads"), address("main.(*shared).writes"), "Go {version}");
        // What accepts waits for a socket that listens.
        let accepts = one(&document["tasks"], "name", "main.main.func3");
        let listens = list(&document["descriptors"]).iter().find(|known| known["fd"] == accepts["wait"]["fd"]);
        let what = text(&listens.expect("its descriptor")["what"]);
        assert!(what.starts_with("tcp 127.0.0.1:") && what.ends_with("listens"), "Go {version}: {what}");
        assert_eq!(number(&document["coverage"]["unknown"]), 0, "Go {version}: {document:#}");
    }
}

#[test]
fn labels_and_room_in_channels_are_told() {
    require!(Need::Ptrace);
    for version in go::VERSIONS {
        let fixture = start!("labels_and_room_in_channels_are_told", "named", version, Link::Stripped, [""; 0]);
        let document = Gordian::new(["tasks", &fixture.pid_argument(), "--all", "--json"]).run().expect(0).json();
        let (receives, sends) =
            (one(&document["tasks"], "name", "main.receives"), one(&document["tasks"], "name", "main.sends"));
        let labels = serde_json::json!({ "request": "/orders/42", "tenant": "north west" });
        assert_eq!(receives["labels"], labels, "Go {version}: {receives:#}");
        let labels = sends["labels"].as_object().expect("an object");
        assert_eq!((labels.len(), &labels["name19"]), (20, &"19".into()), "Go {version}: {sends:#}");
        for (task, length, capacity) in [(receives, 0, 8), (sends, 3, 3)] {
            let channel = one(&document["channels"], "address", text(&task["wait"]["address"]));
            let room = (number(&channel["length"]), number(&channel["capacity"]));
            assert_eq!(room, (length, capacity), "Go {version}: {channel:#}");
            assert_eq!(channel["queue"], serde_json::json!([task["party"]]), "Go {version}: {channel:#}");
        }
        let said = Gordian::new(["tasks", &fixture.pid_argument(), "--format", "goroutines"]).run().expect(0).stdout;
        let header = "[chan receive] {request: /orders/42, tenant: \"north west\"}:";
        assert!(said.contains(header), "Go {version}: {said}");
    }
}

#[test]
fn what_there_is_ever_more_of_is_told_by_where_it_was_started() {
    require!(Need::Ptrace);
    for version in [go::VERSIONS[0], go::NEWEST] {
        let test = "what_there_is_ever_more_of_is_told_by_where_it_was_started";
        let program = match go::program("named", version, Link::Stripped) {
            Ok(program) => program,
            Err(why) => return capability::skip(test, &why),
        };
        let fixture = Fixture::spawn("named", Command::new(program));
        let arguments = ["tasks", &fixture.pid_argument(), "--grown", "2", "--limit", "1", "--json"];
        let document = Gordian::new(arguments).run().expect(0).json();
        let group = &list(&document["groups"])[0];
        assert_eq!((&group["name"], &group["origin"]["function"]), (&"main.leaks".into(), &"main.serves".into()));
        assert!(number(&group["grown"]) > 20, "Go {version}: {group:#}");
        assert!(number(&group["grown"]) < number(&group["count"]), "Go {version}: {group:#}");
    }
}

/// Distinct tasks in the permanent findings of a document, with those that wait because of them.
fn stuck(document: &Value) -> u64 {
    let findings = list(&document["findings"]);
    findings.iter().map(|finding| list(&finding["tasks"]).len() as u64 + number(&finding["effects"])).sum()
}

/// The families of a program.
fn families(name: &str) -> Result<Vec<String>, String> {
    let output = Command::new(go::program(name, go::NEWEST, Link::Plain)?).output().expect("it runs");
    let line: Value = serde_json::from_slice(&output.stdout).expect("a line");
    Ok(list(&line["families"]).iter().map(|family| text(family).to_owned()).collect())
}

#[test]
fn every_stuck_goroutine_is_proved() {
    require!(Need::Ptrace);
    let families = match families("guilty") {
        Ok(families) => families,
        Err(why) => return capability::skip("every_stuck_goroutine_is_proved", &why),
    };
    for (index, family) in families.iter().enumerate() {
        // Each family with one version and one way of linking, so that all of these come up.
        let version = go::VERSIONS[index % go::VERSIONS.len()];
        let link = [Link::Plain, Link::Stripped, Link::StrippedPie][index / go::VERSIONS.len() % 3];
        let fixture = start!("every_stuck_goroutine_is_proved", "guilty", version, link, [family]);
        let mut document = look(&fixture);
        // Who was caught moving by a look that ended early is not accused by it.
        if number(&document["coverage"]["unstable"]) > 0 {
            document = look(&fixture);
        }
        assert_eq!(stuck(&document), number(&fixture.ready["stuck"]), "{family}, Go {version}: {document:#}");
        // Where nothing is polled kernel programs would find nothing.
        assert_eq!(document["probes"]["switch"], "off", "{family}, Go {version}");
        let certainty = if fixture.ready["likely"] == true { "likely" } else { "proved" };
        for finding in list(&document["findings"]) {
            assert_eq!(finding["certainty"], certainty, "{family}, Go {version}: {finding:#}");
            let abandoned = finding["cause"].as_str().is_some_and(|cause| cause.contains("is abandoned"));
            assert_eq!(abandoned, ABANDONED.contains(&family.as_str()), "{family}, Go {version}: {finding:#}");
        }
        // Equal leaks are one finding.
        if family == "equal-requests" {
            assert_eq!(list(&document["findings"]).len(), 1, "Go {version}: {document:#}");
        }
    }
}

/// Looks until all that is stuck has been found: a stack that is in use may have what another has left there.
fn look(fixture: &Fixture) -> Value {
    const LOOKS: u32 = 5;
    let stuck_in_truth = number(&fixture.ready["stuck"]);
    let mut document = Value::Null;
    for _ in 0..LOOKS {
        document = Gordian::new(["check", &fixture.pid_argument(), "--json"]).run().json();
        if stuck(&document) == stuck_in_truth {
            break;
        }
    }
    document
}

#[test]
fn finds_all_that_go_finds_itself() {
    require!(Need::Ptrace);
    let families = match families("guilty") {
        Ok(families) => families,
        Err(why) => return capability::skip("finds_all_that_go_finds_itself", &why),
    };
    println!("| family | stuck | gordian | Go's profile |\n|---|---|---|---|");
    for family in &families {
        let mut fixture = start!("finds_all_that_go_finds_itself", "guilty", go::NEWEST, Link::Plain, [family]);
        let document = look(&fixture);
        fixture.command();
        let theirs = fixture.next_line()["leaked"].as_i64().expect("a number");
        let ours = stuck(&document);
        println!("| {family} | {} | {ours} | {theirs} |", number(&fixture.ready["stuck"]));
        assert!(i64::try_from(ours).expect("a few") >= theirs, "{family}: {document:#}");
    }
}

#[test]
fn an_exhausted_pool_names_those_who_have_its_connections() {
    /// A pool in which nothing moves is exhausted after 10 s; on a machine with much to do it takes longer until that is seen.
    const WATCH: &str = "120";
    require!(Need::Ptrace);
    let fixtures = [go::VERSIONS[0], go::NEWEST].map(|version| {
        let start = |why: &str| {
            let mut command = Command::new(go::program("pool", version, Link::Stripped)?);
            command.arg(why);
            Ok::<_, String>(Fixture::spawn("pool", command))
        };
        Ok::<_, String>([start("lost")?, start("slow")?])
    });
    std::thread::scope(|scope| {
        for fixtures in fixtures {
            let [lost, slow] = match fixtures {
                Ok(fixtures) => fixtures,
                Err(why) => {
                    capability::skip("an_exhausted_pool_names_those_who_have_its_connections", &why);
                    continue;
                }
            };
            let check = |fixture: Fixture| {
                let arguments = ["check", &fixture.pid_argument(), "--for", WATCH, "--jsonl"];
                let mut watching = Watching::start(Gordian::new(arguments));
                std::iter::repeat_with(|| watching.next_line())
                    .find(|line| line["kind"] == "exhausted")
                    .expect("no end")
            };
            scope.spawn(move || {
                let found = check(lost);
                assert!(text(&found["summary"]).contains("nobody is left"), "{found:#}");
                assert_eq!(number(&found["effects"]), 3, "{found:#}");
            });
            scope.spawn(move || {
                let found = check(slow);
                assert_eq!(list(&found["tasks"]).len(), 2, "{found:#}");
                for edge in list(&found["edges"]) {
                    assert_eq!(edge["resource"]["kind"], "sql.DB", "{found:#}");
                    assert_eq!(edge["hold_site"]["function"], "main.takesLong", "{found:#}");
                    assert_eq!(edge["wait_site"]["function"], "main.waits", "{found:#}");
                }
            });
        }
    });
}

#[test]
fn nothing_is_said_of_busy_programs() {
    require!(Need::Ptrace);
    let families = match families("healthy") {
        Ok(families) => families,
        Err(why) => return capability::skip("nothing_is_said_of_busy_programs", &why),
    };
    // `cargo xtask go shots` looks more often.
    let numbered: Vec<(usize, &String)> = families.iter().enumerate().collect();
    std::thread::scope(|scope| {
        for lane in numbered.chunks(numbered.len().div_ceil(LANES)) {
            scope.spawn(move || lane.iter().for_each(|(index, family)| watch(*index, family)));
        }
    });
}

/// Looks at one healthy program.
fn watch(index: usize, family: &str) {
    let version = go::VERSIONS[index % go::VERSIONS.len()];
    let mut command = match go::program("healthy", version, Link::Stripped) {
        Ok(program) => Command::new(program),
        Err(why) => return capability::skip("nothing_is_said_of_busy_programs", &why),
    };
    command.arg(family);
    let fixture = Fixture::spawn("healthy", command);
    let document = Gordian::new(["check", &fixture.pid_argument(), "--for", HEALTHY, "--json"]).run().expect(0).json();
    assert!(list(&document["findings"]).is_empty(), "{family}, Go {version}: {document:#}");
}

#[test]
fn a_flamegraph_names_the_functions_of_a_stripped_program() {
    require!(Need::Ptrace, Need::Bpf);
    for version in [go::VERSIONS[0], go::NEWEST] {
        let test = "a_flamegraph_names_the_functions_of_a_stripped_program";
        let fixture = match go::program("healthy", version, Link::Stripped) {
            Ok(program) => {
                let mut command = Command::new(program);
                command.arg("token-ring");
                Fixture::spawn("healthy", command)
            }
            Err(why) => {
                capability::skip(test, &why);
                continue;
            }
        };
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("out.svg");
        let out = path.to_str().expect("a plain path");
        let _said = Gordian::new(["flame", &fixture.pid_argument(), "-d", "2", "-o", out]).run().expect(0);
        let svg = std::fs::read_to_string(&path).expect("it was drawn");
        for function in ["<title>main.init.", "<title>runtime.chansend", "<title>runtime.goexit"] {
            assert!(svg.contains(function), "Go {version}: no {function}: {svg}");
        }
    }
}
