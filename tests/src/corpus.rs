//! The corpus: what its programs are, and whether what gordian says of a guilty one is right.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::Command,
    sync::Mutex,
};

use serde_json::Value;

use crate::{
    json::{all_frames, list, number, text},
    programs::{self, Profile},
};

/// How the name of a task ends that may be another's.
const UNSURE: &str = " or one like it";

/// A program of the corpus, as its binary lists it.
#[derive(Clone, Debug)]
pub struct Program {
    /// The binary that it is part of: `guilty` or `innocent`.
    pub binary: &'static str,
    /// Its name: the argument that starts it, its module and its file.
    pub name: String,
    /// What must be found in it, as `gordian_corpus::Expected` has it; null where nothing may be.
    pub expected: Value,
}

/// What gordian's answer is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All that was to be found, and no more.
    Right,
    /// Nothing wrong was said, but not all that was to be found.
    Missed(String),
    /// Something was said that is not so.
    Wrong(String),
}

/// The programs of a binary.
pub fn programs(binary: &'static str, profile: Profile) -> Vec<Program> {
    let output = Command::new(programs::fixture(binary, profile)).arg("--list").output().expect("it can be started");
    let listed: Value = serde_json::from_slice(&output.stdout).expect("it lists its programs");
    let program = |listed: &Value| {
        let name = text(&listed["name"]).to_owned();
        Program { binary, name, expected: listed["expected"].clone() }
    };
    list(&listed).iter().map(program).collect()
}

/// Does something with each of many things, some at a time: a check mostly waits.
pub fn side_by_side<T: Send, R: Send>(at_a_time: usize, things: Vec<T>, each: impl Fn(T) -> R + Sync) -> Vec<R> {
    let count = things.len();
    let queue = Mutex::new(things.into_iter().enumerate());
    let results = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..at_a_time.min(count) {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("nobody panics in it").next();
                    let Some((index, thing)) = next else { return };
                    let result = each(thing);
                    results.lock().expect("nobody panics in it").insert(index, result);
                }
            });
        }
    });
    let results = results.into_inner().expect("nobody panics in it");
    assert_eq!(results.len(), count, "one of them has panicked");
    results.into_values().collect()
}

/// The kinds of what an innocent program is accused of, each with its summary. `stalled` is no accusation.
pub fn accusations(document: &Value) -> Vec<String> {
    let findings = list(&document["findings"]).iter().filter(|finding| finding["kind"] != "stalled");
    findings.map(|finding| format!("{} ({}): {}", finding["kind"], finding["certainty"], finding["summary"])).collect()
}

impl Program {
    /// Its source.
    pub fn source(&self) -> PathBuf {
        let directory = programs::repository().join("tests/fixtures/corpus/src/bin").join(self.binary);
        directory.join(&self.name).with_extension("rs")
    }

    /// What the findings in a document are worth, for a guilty program in a build.
    pub fn judge(&self, profile: Profile, document: &Value) -> Outcome {
        let also: Vec<&str> = list(&self.expected["also"]).iter().map(text).collect();
        let is_other = |finding: &&Value| finding["kind"] != "stalled" && !also.contains(&text(&finding["kind"]));
        let mut findings = list(&document["findings"]).iter().filter(is_other);
        let Some(finding) = findings.next() else {
            return Outcome::Missed(format!("nothing is found; missing: {}", document["missing"]));
        };
        if let Some(second) = findings.next() {
            return Outcome::Wrong(format!("two findings: {finding:#}\n{second:#}"));
        }
        if let Err(why) = self.check_claim(finding) {
            return Outcome::Wrong(format!("{why}: {finding:#}"));
        }
        match self.lacking(profile, finding) {
            Some(lacking) => Outcome::Missed(lacking),
            None => Outcome::Right,
        }
    }

    /// Fails where a finding is of another kind, surer than can be known, or not about the guilty.
    fn check_claim(&self, finding: &Value) -> Result<(), String> {
        if finding["kind"] != self.expected["kind"] {
            return Err(format!("not {}", self.expected["kind"]));
        }
        if sureness(&finding["certainty"]) > sureness(&self.expected["certainty"]) {
            return Err(format!("surer than {}", self.expected["certainty"]));
        }
        let mut wanted: Vec<(&str, Option<u64>)> = list(&self.expected["parties"])
            .iter()
            // Any number may have a part in it where none is said.
            .map(|party| (text(&party[0]), Some(number(&party[1])).filter(|&count| count > 0)))
            .collect();
        // Those that are not told apart by name take what the others leave.
        let (nameless, named): (Vec<_>, Vec<_>) =
            parties(finding).into_iter().partition(|(_, functions)| self.is_nameless(functions));
        let nameless = nameless.into_iter().map(|(who, _)| (who, None));
        for (who, functions) in named.into_iter().map(|(who, functions)| (who, Some(functions))).chain(nameless) {
            let found = wanted.iter_mut().find(|(function, left)| {
                let is_it = |functions: &Vec<&str>| functions.iter().any(|name| self.names(name, function));
                *left != Some(0) && functions.as_ref().is_none_or(is_it)
            });
            match found {
                Some((_, left)) => *left = left.map(|left| left - 1),
                None => return Err(format!("{who} has no part in it ({functions:?})")),
            }
        }
        match wanted.iter().find_map(|(function, left)| Some((function, left.filter(|&left| left > 0)?))) {
            Some((function, left)) => Err(format!("{left} more of {function} have a part in it")),
            None => Ok(()),
        }
    }

    /// Whether a name, of a function or a type made of some, has a function of this program in it.
    fn names(&self, name: &str, function: &str) -> bool {
        let module = format!("{}::{}::", self.binary, self.name);
        let mut paths = name.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
        paths.any(|path| path.starts_with(&module) && path.rsplit("::").next() == Some(function))
    }

    /// Whether nothing of what a party is told by is a function of any program of the corpus, or its name may be another's.
    fn is_nameless(&self, functions: &[&str]) -> bool {
        let krate = format!("{}::", self.binary);
        functions.iter().any(|name| name.ends_with(UNSURE)) || !functions.iter().any(|name| name.contains(&krate))
    }

    /// What a finding does not say and should.
    fn lacking(&self, profile: Profile, finding: &Value) -> Option<String> {
        if finding["certainty"] != self.expected["certainty"] {
            return Some(format!("only {}: {}", finding["certainty"], finding["unknowns"]));
        }
        if parties(finding).iter().any(|(_, functions)| self.is_nameless(functions)) {
            return Some("which of its parties is which is not said".to_owned());
        }
        let kinds: BTreeSet<&str> =
            list(&finding["edges"]).iter().map(|edge| text(&edge["resource"]["kind"])).collect();
        let wanted: BTreeSet<&str> = list(&self.expected["resources"]).iter().map(text).collect();
        if kinds != wanted {
            return Some(format!("it is about {kinds:?}, not {wanted:?}"));
        }
        let escapes: Vec<&str> = list(&finding["breakable_by"]).iter().map(|escape| text(&escape["what"])).collect();
        let wanted = list(&self.expected["escapes"]);
        let named = |wanted: &Value| escapes.iter().any(|escape| escape.contains(text(wanted)));
        if !wanted.iter().all(named) || wanted.is_empty() != escapes.is_empty() {
            return Some(format!("it is broken by {escapes:?}, not {wanted:?}"));
        }
        if profile == Profile::Debuginfo {
            let source = self.source();
            let shown = lines(finding, &format!("{}/{}.rs", self.binary, self.name));
            let markers = list(&self.expected["lines"]).iter().map(text);
            let unseen: Vec<&str> =
                markers.filter(|marker| !shown.contains(&programs::marked_line(&source, marker))).collect();
            if !unseen.is_empty() {
                return Some(format!("the lines of {unseen:?} are not among {shown:?}"));
            }
        }
        None
    }
}

fn sureness(certainty: &Value) -> Option<usize> {
    ["observed", "likely", "proved"].iter().position(|known| certainty == known)
}

/// Everybody in a finding: a name for the reader, and the functions that each is told by.
fn parties(finding: &Value) -> Vec<(String, Vec<&str>)> {
    let mut parties = Vec::new();
    for task in list(&finding["tasks"]) {
        let frames = all_frames(&task["awaits"]);
        let functions = frames.into_iter().map(|frame| &frame["function"]).chain([&task["name"]]);
        parties.push((format!("task {}", task["id"]), functions.map(text).collect()));
    }
    // The thread that polls a task of the finding is shown with it, and is no other party.
    let polls = |thread: &Value| list(&finding["tasks"]).iter().any(|task| task["thread"] == thread["tid"]);
    for thread in list(&finding["threads"]).iter().filter(|thread| !polls(thread)) {
        let functions = list(&thread["frames"]).iter().map(|frame| text(&frame["function"]));
        parties.push((format!("thread {}", thread["tid"]), functions.collect()));
    }
    parties
}

/// Lines that a finding shows of a file.
fn lines(finding: &Value, file: &str) -> BTreeSet<u64> {
    let tasks = list(&finding["tasks"]).iter().flat_map(|task| all_frames(&task["awaits"]));
    let threads = list(&finding["threads"]).iter().flat_map(|thread| list(&thread["frames"]));
    let sites = list(&finding["edges"]).iter().flat_map(|edge| [&edge["wait_site"], &edge["hold_site"]]);
    let frames = tasks.chain(threads).chain(sites);
    let own = frames.filter(|frame| frame["file"].as_str().is_some_and(|path| path.ends_with(file)));
    own.filter_map(|frame| frame["line"].as_u64()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn program() -> Program {
        let expected = json!({
            "kind": "deadlock", "certainty": "likely", "parties": [["copy", 1], ["fax", 1]],
            "resources": ["tokio::sync::Mutex"], "lines": [], "escapes": [], "also": ["blocked-worker"],
        });
        Program { binary: "guilty", name: "office".into(), expected }
    }

    fn finding(certainty: &str, tasks: &[&str]) -> Value {
        let task = |name: &&str| json!({ "id": "1", "name": name, "awaits": [], "thread": 7 });
        let edge = json!({ "resource": { "kind": "tokio::sync::Mutex" }, "wait_site": null, "hold_site": null });
        let tasks: Vec<Value> = tasks.iter().map(task).collect();
        json!({
            "kind": "deadlock", "certainty": certainty, "tasks": tasks, "threads": [], "edges": [edge],
            "breakable_by": [], "unknowns": [],
        })
    }

    fn judge(findings: &[Value]) -> Outcome {
        program().judge(Profile::Release, &json!({ "findings": findings, "missing": [] }))
    }

    #[test]
    fn right_is_all_of_it_and_no_more() {
        let both = ["guilty::office::copy", "tracked<guilty::office::fax or guilty::office::copy>"];
        assert_eq!(judge(&[finding("likely", &both)]), Outcome::Right);
        let mut polled = finding("likely", &both);
        polled["threads"] = json!([{ "tid": 7, "frames": [] }]);
        assert_eq!(judge(std::slice::from_ref(&polled)), Outcome::Right);
        polled["threads"][0]["tid"] = 8.into();
        assert!(matches!(judge(&[polled]), Outcome::Wrong(_)));
        let beside = [json!({ "kind": "stalled" }), json!({ "kind": "blocked-worker" }), finding("likely", &both)];
        assert_eq!(judge(&beside), Outcome::Right);
    }

    #[test]
    fn too_little_is_a_miss() {
        assert!(matches!(judge(&[]), Outcome::Missed(_)));
        assert!(matches!(judge(&[json!({ "kind": "stalled" })]), Outcome::Missed(_)));
        let mut other = finding("likely", &["guilty::office::copy", "guilty::office::fax"]);
        other["edges"][0]["resource"]["kind"] = "io".into();
        assert!(matches!(judge(&[other.clone()]), Outcome::Missed(_)));
        other["certainty"] = "observed".into();
        assert!(matches!(judge(&[other]), Outcome::Missed(_)));
    }

    #[test]
    fn a_party_without_a_name_is_a_miss() {
        for nameless in ["tokio::sync::mutex::Mutex::lock", "guilty::office::fax or one like it"] {
            assert!(matches!(judge(&[finding("likely", &["guilty::office::fax", nameless])]), Outcome::Missed(_)));
            let three = ["guilty::office::fax", "guilty::office::copy", nameless];
            assert!(matches!(judge(&[finding("likely", &three)]), Outcome::Wrong(_)));
        }
    }

    #[test]
    fn too_much_is_wrong() {
        let both = ["guilty::office::copy", "guilty::office::fax"];
        for wrong in [
            finding("proved", &both),
            finding("likely", &both[..1]),
            finding("likely", &["guilty::office::copy", "guilty::other::fax"]),
            finding("likely", &["guilty::office::copy", "guilty::office::fax", "guilty::office::fax"]),
        ] {
            assert!(matches!(judge(std::slice::from_ref(&wrong)), Outcome::Wrong(_)), "{wrong}");
            assert!(matches!(judge(&[finding("likely", &both), wrong]), Outcome::Wrong(_)));
        }
        let mut other = finding("likely", &both);
        other["kind"] = "orphaned".into();
        assert!(matches!(judge(&[other]), Outcome::Wrong(_)));
    }
}
