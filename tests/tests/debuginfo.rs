//! Debuginfo that stands elsewhere: a stripped program whose debuginfo is found is as good as one that was not stripped.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use gordian_tests::{
    Build, Fixture, Gordian,
    capability::Need,
    json::{list, number, one},
    programs::{built, objcopy},
    require,
};
use serde_json::Value;
use tempfile::TempDir;

/// A stripped copy of `holders`, and its debuginfo in another file.
struct Stripped {
    directory: TempDir,
    program: PathBuf,
    debuginfo: PathBuf,
}

impl Stripped {
    fn of(build: Build) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let at = |name: &str| directory.path().join(name);
        let (whole, program, debuginfo) = (built("holders", build), at("holders"), at("elsewhere.debug"));
        objcopy(&["--only-keep-debug"], &whole, &debuginfo);
        objcopy(&["--strip-all"], &whole, &program);
        Self { directory, program, debuginfo }
    }

    fn start(&self) -> Fixture {
        Fixture::spawn("holders", Command::new(&self.program))
    }

    /// Puts the debuginfo somewhere else, and says where.
    fn move_to(&self, place: &str) -> PathBuf {
        let path = self.directory.path().join(place);
        std::fs::create_dir_all(path.parent().expect("inside the directory")).expect("it is ours");
        std::fs::rename(&self.debuginfo, &path).expect("both are in one directory");
        path
    }

    /// The build-id's directory and file, as in `.build-id/ab/cdef.debug`.
    fn by_build_id(&self) -> String {
        let id = build_id(&self.program);
        format!(".build-id/{}/{}.debug", &id[..2], &id[2..])
    }
}

fn build_id(program: &Path) -> String {
    let notes = Command::new("readelf").arg("--notes").arg(program).output().expect("binutils are installed");
    let notes = String::from_utf8(notes.stdout).expect("text");
    let id = notes.split("Build ID: ").nth(1).and_then(|rest| rest.split_whitespace().next());
    id.unwrap_or_else(|| panic!("no build-id: {notes}")).to_owned()
}

fn tasks(fixture: &Fixture) -> Gordian {
    Gordian::new(["tasks", &fixture.pid_argument(), "--all", "--json"])
}

/// Lines of the program's own file in the await stack of `unload`, and whether inlined functions are shown.
fn lines(fixture: &Fixture, document: &Value) -> (Vec<u64>, bool) {
    let task = one(&document["tasks"], "id", fixture.task_id("unload"));
    let of_file = |frame: &&Value| frame["file"].as_str().is_some_and(|file| file.ends_with("bin/holders.rs"));
    let lines = list(&task["awaits"]).iter().filter(of_file).map(|frame| number(&frame["line"])).collect();
    (lines, document["target"]["inlined_frames"] == true)
}

#[track_caller]
fn assert_found(fixture: &Fixture, command: Gordian) {
    let document = command.run().expect(0).json();
    let wanted: Vec<u64> = ["unload", "lift", "hear"].iter().map(|marker| fixture.line(marker)).collect();
    assert_eq!(lines(fixture, &document), (wanted, true), "{document:#}");
    assert_eq!(document["complete"], true, "{document:#}");
}

#[track_caller]
fn assert_not_found(fixture: &Fixture, command: Gordian) {
    let document = command.run().expect(0).json();
    assert_eq!(lines(fixture, &document), (Vec::new(), false), "{document:#}");
}

#[test]
fn a_debuglink_is_followed() {
    require!(Need::Ptrace);
    let stripped = Stripped::of("full");
    for place in ["named.debug", ".debug/named.debug"] {
        let debuginfo = stripped.move_to("named.debug");
        objcopy(
            &["--strip-all", &format!("--add-gnu-debuglink={}", debuginfo.display())],
            &built("holders", "full"),
            &stripped.program,
        );
        std::fs::rename(&debuginfo, &stripped.debuginfo).expect("both are in one directory");
        stripped.move_to(place);
        let fixture = stripped.start();
        assert_found(&fixture, tasks(&fixture));
        drop(fixture);
        std::fs::rename(stripped.directory.path().join(place), &stripped.debuginfo).expect("it was put there");
    }
}

#[test]
fn a_given_file_is_read() {
    require!(Need::Ptrace);
    let stripped = Stripped::of("full");
    let fixture = stripped.start();
    assert_not_found(&fixture, tasks(&fixture));
    assert_found(&fixture, tasks(&fixture).arg("--debug-file").arg(&stripped.debuginfo.to_string_lossy()));
}

#[test]
fn a_given_directory_is_searched_by_build_id_and_by_name() {
    require!(Need::Ptrace);
    let stripped = Stripped::of("full");
    let fixture = stripped.start();
    for place in [stripped.by_build_id().as_str(), "holders.debug"] {
        let found = stripped.move_to(&format!("symbols/{place}"));
        let directory = stripped.directory.path().join("symbols");
        assert_found(&fixture, tasks(&fixture).arg("--symbol-path").arg(&directory.to_string_lossy()));
        std::fs::rename(found, &stripped.debuginfo).expect("both are in one directory");
    }
}

#[test]
fn the_debuginfo_of_another_build_is_not_used() {
    require!(Need::Ptrace);
    let (stripped, other) = (Stripped::of("full"), Stripped::of("line-tables"));
    let fixture = stripped.start();
    assert_not_found(&fixture, tasks(&fixture).arg("--debug-file").arg(&other.debuginfo.to_string_lossy()));
}

#[test]
fn what_is_given_and_not_there_is_said() {
    let missing = Gordian::new(["tasks", "1", "--debug-file", "/nowhere/at.all"]).run().expect(2);
    assert!(missing.error_line().contains("/nowhere/at.all"), "{}", missing.stderr);
    let missing = Gordian::new(["tasks", "1", "--symbol-path", "/nowhere/at.all"]).run().expect(2);
    assert!(missing.error_line().contains("/nowhere/at.all"), "{}", missing.stderr);
}

/// A program that stands for elfutils': it hands out one file, for the right build-id only.
#[test]
fn servers_are_asked_only_when_they_are_named() {
    require!(Need::Ptrace);
    let stripped = Stripped::of("full");
    let directory = stripped.directory.path().join("bin");
    std::fs::create_dir(&directory).expect("it is ours");
    let client = directory.join("debuginfod-find");
    let (id, file) = (build_id(&stripped.program), stripped.debuginfo.display());
    std::fs::write(&client, format!("#!/bin/sh\n[ \"$*\" = \"debuginfo {id}\" ] && echo '{file}'\n")).expect("ours");
    std::fs::set_permissions(&client, std::fs::Permissions::from_mode(0o755)).expect("ours");
    let path = format!("{}:{}", directory.display(), std::env::var("PATH").unwrap_or_default());

    let fixture = stripped.start();
    let with_client = || tasks(&fixture).env("PATH", &path);
    assert_found(&fixture, with_client().env("DEBUGINFOD_URLS", "https://debuginfod.example"));
    assert_not_found(&fixture, with_client().env("DEBUGINFOD_URLS", ""));
}

#[test]
fn packed_sections_are_unpacked() {
    require!(Need::Ptrace);
    let directory = tempfile::tempdir().expect("a temporary directory");
    for format in ["zlib", "zstd"] {
        let program = directory.path().join(format);
        objcopy(&[&format!("--compress-debug-sections={format}")], &built("holders", "full"), &program);
        let fixture = Fixture::spawn("holders", Command::new(&program));
        assert_found(&fixture, tasks(&fixture));
    }
}

/// In a container the system's directory of debuginfo is the container's own.
#[test]
fn the_targets_own_root_is_searched() {
    require!(Need::Root);
    let stripped = Stripped::of("static-pie");
    let root = stripped.directory.path();
    stripped.move_to(&format!("usr/lib/debug/{}", stripped.by_build_id()));
    let mut command = Command::new("chroot");
    command.arg(root).arg("/holders");
    let fixture = Fixture::spawn("holders", command);
    let document = tasks(&fixture).run().expect(0).json();
    // That build has symbols and no lines: names are what the file gives.
    let task = one(&document["tasks"], "id", fixture.task_id("unload"));
    assert_eq!(task["name"], "holders::unload", "{task:#}");
    assert_eq!(document["complete"], true, "{document:#}");
}
