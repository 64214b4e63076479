//! What is kept is what was worked out, and nothing else is ever taken for it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::unistd::{Uid, chown, geteuid};
use proptest::prelude::*;
use tempfile::TempDir;

use super::super::testing::{self, BIAS, Build, FULL, SYMBOLS};
use super::super::{Bytes, Module, Places, SourceFrame, Subprogram};
use super::{Answers, Folder, folder, open, seal, wrap};

/// A directory like a user's `~/.cache`, and where gordian's own would be in it.
fn cache() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("gordian");
    (directory, path)
}

/// `bank`, with answers in `folder`.
fn module(bytes: Bytes, folder: &Path) -> Module {
    let mut module = Module::parse(bytes, BIAS, "bank".into()).expect("rustc writes sound ELF files");
    let places = Places { cache: Some(folder.to_owned()), ..Places::default() };
    module.look_in(places, Arc::new(|_| Vec::new()));
    module
}

/// What is answered of one address.
type Answer = (Vec<SourceFrame>, Option<Subprogram>);

/// Everything that is kept of some addresses all over the program.
fn ask(module: &Module) -> (bool, Vec<Answer>) {
    let addresses: Vec<u64> = module.symbols().map(|symbol| symbol.address + 1).step_by(29).take(40).collect();
    let answers = addresses.into_iter().map(|at| (module.source_frames(at), module.subprogram_at(at)));
    (module.has_lines(), answers.collect())
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().map(|entry| entry.expect("it can be listed").path()).collect()
}

/// Asks a program of this build, and keeps the answers in a new directory.
fn kept(build: Build) -> (TempDir, PathBuf) {
    let (directory, folder) = cache();
    let module = module(testing::program(build), &folder);
    ask(&module);
    module.keep();
    (directory, folder)
}

#[test]
fn kept_answers_need_no_debuginfo() {
    let (_directory, folder) = kept(FULL);
    let plain = testing::module(FULL);
    let again = module(testing::program(FULL), &folder);
    assert_eq!(ask(&again), ask(&plain));
    assert!(plain.is_read() && !again.is_read(), "the second one answers out of the cache");
    // What was not asked before is worked out, beside what was.
    let other = plain.symbols().nth(3).expect("it has more symbols").address;
    assert_eq!(again.source_frames(other), plain.source_frames(other));
    assert!(again.is_read());
}

#[test]
fn an_entry_is_for_nobody_else() {
    let (_directory, folder) = kept(FULL);
    let [entry] = &entries(&folder)[..] else { panic!("one entry") };
    assert_eq!(fs::metadata(&folder).expect("it was made").permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(entry).expect("it was made").permissions().mode() & 0o777, 0o600);
}

#[test]
fn files_without_debuginfo_are_not_kept() {
    let (_directory, folder) = kept(SYMBOLS);
    assert!(entries(&folder).is_empty());
    // Nor is one that nothing identifies.
    let mut bytes = testing::program(FULL).to_vec();
    let id = testing::module(FULL).build_id().expect("the linker made one").to_vec();
    let at = bytes.windows(id.len()).position(|window| window == id).expect("it is in the file");
    // The note's type, eight bytes before its description: `GNU\0` stands between.
    bytes[at - 8] = 0;
    let nameless = module(Bytes::from(bytes), &folder);
    assert_eq!(nameless.build_id(), None);
    ask(&nameless);
    nameless.keep();
    assert!(entries(&folder).is_empty());
}

#[test]
fn another_file_with_the_same_build_id_is_another_file() {
    let (_directory, folder) = kept(FULL);
    let bytes = testing::program(FULL);
    for name in [".symtab", ".debug_line"] {
        let section = testing::module(FULL).section(name).expect("it has symbols and lines").bytes;
        let at = bytes.windows(section.len()).position(|window| *window == *section).expect("it is in the file");
        let mut changed = bytes.to_vec();
        changed[at + section.len() / 2] ^= 1;
        let other = module(Bytes::from(changed), &folder);
        other.has_lines();
        assert!(other.is_read(), "{name}");
    }
    let mut longer = bytes.to_vec();
    longer.push(0);
    let other = module(Bytes::from(longer), &folder);
    other.has_lines();
    assert!(other.is_read(), "one that is longer");
}

/// Whether what stands in `folder` is taken for answers.
fn is_used(folder: &Path) -> bool {
    let module = module(testing::program(FULL), folder);
    module.has_lines();
    !module.is_read()
}

#[test]
fn debuginfo_in_another_file_is_kept_with_what_that_file_is() {
    let (directory, folder) = cache();
    let whole = testing::program(FULL);
    // As if it had been stripped: nothing finds its sections any more.
    let mut stripped = whole.to_vec();
    let nameless = |bytes: &mut [u8], name: &[u8]| {
        let at = bytes.windows(name.len()).rposition(|window| window == name).expect("a section has that name");
        bytes[at + 1] = b'_';
    };
    nameless(&mut stripped, b".debug_info\0");
    let given = directory.path().join("given.debug");
    let from = |debuginfo: &[u8]| {
        fs::write(&given, debuginfo).expect("there is room");
        let mut module = Module::parse(Bytes::from(stripped.clone()), BIAS, "bank".into()).expect("sound");
        let places = Places { files: vec![given.clone()], cache: Some(folder.clone()), ..Places::default() };
        module.look_in(places, Arc::new(|_| Vec::new()));
        module
    };
    let module = from(&whole);
    assert_eq!(ask(&module), ask(&testing::module(FULL)));
    module.keep();
    let again = from(&whole);
    assert_eq!(ask(&again), ask(&testing::module(FULL)));
    assert!(!again.is_read(), "it answers out of the cache");
    // The same program with other debuginfo.
    let other = from(&[&whole[..], b"."].concat());
    other.has_lines();
    assert!(other.is_read());
}

#[test]
fn damage_is_noticed() {
    let (_directory, folder) = kept(FULL);
    let [entry] = &entries(&folder)[..] else { panic!("one entry") };
    let sound = fs::read(entry).expect("it is ours");
    assert!(is_used(&folder));
    for at in (0..16).chain((16..sound.len()).step_by(sound.len().div_ceil(50))) {
        let mut damaged = sound.clone();
        damaged[at] ^= 0x10;
        fs::write(entry, &damaged).expect("it is ours");
        assert!(!is_used(&folder), "byte {at}");
        fs::write(entry, &sound[..at]).expect("it is ours");
        assert!(!is_used(&folder), "cut at {at}");
    }
    fs::write(entry, &sound).expect("it is ours");
    assert!(is_used(&folder));
    // A damaged one is replaced by what is worked out anew.
    fs::write(entry, b"").expect("it is ours");
    let module = module(testing::program(FULL), &folder);
    ask(&module);
    module.keep();
    assert!(is_used(&folder));
}

#[test]
fn what_others_could_have_written_is_not_read() {
    let (directory, folder) = kept(FULL);
    let [entry] = &entries(&folder)[..] else { panic!("one entry") };
    let set = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
    for (path, right) in [(entry.as_path(), 0o600), (&folder, 0o700)] {
        for wrong in [right | 0o020, right | 0o002] {
            set(path, wrong);
            assert!(!is_used(&folder), "{} with {wrong:o}", path.display());
        }
        set(path, right);
        assert!(is_used(&folder));
    }
    // Links lead to where others may write.
    let elsewhere = directory.path().join("elsewhere");
    for path in [entry.as_path(), &folder] {
        fs::rename(path, &elsewhere).expect("both are in one directory");
        symlink(&elsewhere, path).expect("the name is free");
        assert!(!is_used(&folder), "{} is a link", path.display());
        fs::remove_file(path).expect("it was just made");
        fs::rename(&elsewhere, path).expect("both are in one directory");
    }
    assert!(is_used(&folder));
}

#[test]
fn what_belongs_to_another_user_is_not_read() {
    if !geteuid().is_root() {
        // Only root can give files away.
        return;
    }
    let (directory, folder) = kept(FULL);
    let [entry] = &entries(&folder)[..] else { panic!("one entry") };
    for path in [entry.as_path(), &folder, directory.path()] {
        let give = |to: u32| chown(path, Some(Uid::from_raw(to)), None).expect("root may");
        give(65534);
        assert!(!is_used(&folder), "{}", path.display());
        give(0);
        assert!(is_used(&folder));
    }
    // Root leaves nothing in the home of a user who does not have such a directory yet.
    let home = tempfile::tempdir().expect("a temporary directory");
    chown(home.path(), Some(Uid::from_raw(65534)), None).expect("root may");
    for around in [home.path().to_owned(), home.path().join(".cache")] {
        assert!(Folder::make(&around.join("gordian")).is_err());
    }
    assert!(entries(home.path()).is_empty());
}

#[test]
fn a_home_without_a_cache_gets_one() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let folder = home.path().join(".cache/gordian");
    Folder::make(&folder).expect("it can be made").write("entry", b"answers").expect("there is room");
    assert_eq!(Folder::open(&folder).expect("it was made").read("entry").expect("it was written"), b"answers");
    let nowhere = home.path().join("no/such/gordian");
    assert!(Folder::make(&nowhere).is_err() && !home.path().join("no").exists());
}

#[test]
fn what_was_not_used_for_longest_makes_room() {
    let (_directory, path) = cache();
    let folder = Folder::make(&path).expect("it can be made");
    let large = vec![0; usize::try_from(folder::LARGEST).expect("it fits in memory")];
    assert!(folder.write("too large", &[&large[..], b"."].concat()).is_err());
    let count = folder::MOST / folder::LARGEST;
    for number in 0..count {
        folder.write(&format!("{number}"), &large).expect("there is room");
        let file = fs::File::options().write(true).open(path.join(format!("{number}"))).expect("it was written");
        let then = SystemTime::now() - Duration::from_secs(1000 - number);
        file.set_modified(then).expect("it is ours");
    }
    assert_eq!(entries(&path).len() as u64, count);
    folder.read("0").expect("it was written");
    folder.write("new", b"answers").expect("there is room");
    let left = |name: &str| path.join(name).exists();
    assert!(left("0") && left("2") && left("new") && !left("1"), "{:?}", entries(&path));
}

#[test]
fn a_directory_that_cannot_be_written_harms_nobody() {
    let (_directory, folder) = cache();
    fs::write(&folder, b"a file in its place").expect("there is room");
    let module = module(testing::program(FULL), &folder);
    assert_eq!(ask(&module), ask(&testing::module(FULL)));
    module.keep();
    assert_eq!(fs::read(&folder).expect("it is ours"), b"a file in its place");
}

#[test]
fn an_entry_is_of_one_file_and_whole() {
    let bytes = seal(&Answers::default(), b"this").expect("it can be encoded");
    assert_eq!(open(&bytes, b"this"), Some(Answers::default()));
    assert_eq!(open(&bytes, b"that"), None);
    // More than the answers, with a sum that agrees.
    let contents = postcard::to_stdvec(&(b"this".as_slice(), Answers::default())).expect("it can be encoded");
    assert_eq!(open(&wrap(&contents).expect("there is memory"), b"this"), Some(Answers::default()));
    let longer = wrap(&[&contents[..], b"."].concat()).expect("there is memory");
    assert_eq!(open(&longer, b"this"), None);
    // One that says that it unpacks to more than an entry may hold.
    let bomb = wrap(&vec![0; 65 << 20]).expect("there is memory");
    assert!(bomb.len() < 1 << 20);
    assert_eq!(open(&bomb, b"this"), None);
}

proptest! {
    /// The sum agrees and the contents are anything: they are read or refused, and what is read can be written.
    #[test]
    fn hostile_entries_are_read_or_refused(contents in proptest::collection::vec(any::<u8>(), 0..300)) {
        let bytes = wrap(&[&b"\x04this"[..], &contents].concat()).expect("there is memory");
        if let Some(answers) = open(&bytes, b"this") {
            let again = seal(&answers, b"this").expect("it was read");
            prop_assert_eq!(open(&again, b"this"), Some(answers));
        }
    }
}
