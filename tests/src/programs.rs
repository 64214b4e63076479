//! Where the programs are that a test runs; they are built when they are not there or not fresh.

use std::{
    collections::BTreeSet,
    fs::Permissions,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{LazyLock, Mutex, OnceLock, PoisonError},
};

/// How a fixture was built; the profiles stand in `tests/fixtures/Cargo.toml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// Cargo's own release: symbols, no debuginfo.
    Release,
    /// Release with `debug = 2`.
    Debuginfo,
    /// Release without symbols.
    Stripped,
    /// Release with fat LTO, one codegen unit and `panic = "abort"`.
    FatLto,
}

impl Profile {
    /// The name of the Cargo profile, and of its directory under `target`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Debuginfo => "debuginfo",
            Self::Stripped => "stripped",
            Self::FatLto => "fatlto",
        }
    }
}

/// A way of building the fixtures of `tests/fixtures/builds`: a file of configuration there, or a directory of
/// `tests/fixtures/versions` with another tokio.
pub type Build = &'static str;

/// Root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ has a parent")
}

/// Source of a fixture.
pub fn fixture_source(name: &str) -> PathBuf {
    repository().join("tests/fixtures/src/bin").join(name).with_extension("rs")
}

/// Line, counted from 1, of a fixture's source that ends with `// line: MARKER`, or has it alone on the line below, which
/// is where rustfmt puts it behind an opening brace.
pub fn marked_line(source: &Path, marker: &str) -> u64 {
    let shown = source.display();
    let text = std::fs::read_to_string(source).unwrap_or_else(|error| panic!("{shown}: {error}"));
    let ending = format!("// line: {marker}");
    let marked = (1..).zip(text.lines()).filter(|(_, text)| text.ends_with(&ending));
    let mut lines = marked.map(|(line, text)| if text.trim() == ending { line - 1 } else { line });
    let line = lines.next().unwrap_or_else(|| panic!("{shown} marks no line {marker}"));
    assert_eq!(lines.next(), None, "{shown} marks {marker} twice");
    line
}

/// The executable of a fixture, built first unless this process or its caller has done so.
pub fn fixture(name: &str, profile: Profile) -> PathBuf {
    static BUILT: Mutex<BTreeSet<(Profile, String)>> = Mutex::new(BTreeSet::new());
    let directory = repository().join("tests/fixtures");
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    // `cargo xtask test` has built everything, perhaps as another user.
    let prebuilt = std::env::var_os("GORDIAN_PREBUILT").is_some();
    if !prebuilt && built.insert((profile, name.to_owned())) {
        let mut cargo = cargo(&directory);
        run(cargo.args(["build", "--quiet", "--locked", "--workspace", "--bin", name, "--profile", profile.name()]));
    }
    directory.join("target").join(profile.name()).join(name)
}

/// The executable of a fixture in one of its builds, built first unless this process or its caller has done so.
pub fn built(name: &str, build: Build) -> PathBuf {
    static BUILT: Mutex<BTreeSet<Build>> = Mutex::new(BTreeSet::new());
    let directory = repository().join("tests/fixtures");
    let target = directory.join("target/builds").join(build);
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if std::env::var_os("GORDIAN_PREBUILT").is_none() && built.insert(build) {
        let mut cargo = cargo(&directory);
        cargo.args(["build", "--quiet", "--locked", "--release", "--target", TRIPLE, "--target-dir"]).arg(&target);
        let version = directory.join("versions").join(build).join("Cargo.toml");
        if version.exists() {
            cargo.arg("--manifest-path").arg(version);
        } else {
            cargo.args(["--manifest-path", "builds/Cargo.toml", "--config", &format!("builds/{build}.toml")]);
        }
        run(&mut cargo);
    }
    target.join(TRIPLE).join("release").join(name)
}

/// Makes another program of a built one, by binutils' `objcopy`.
pub fn objcopy(flags: &[&str], from: &Path, to: &Path) {
    run(Command::new("objcopy").args(flags).arg(from).arg(to));
}

/// Named to Cargo so that flags for the fixtures are not for the build scripts of what they depend on.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// The `gordian` under test: `GORDIAN_BIN`, or else the one beside the test's own executable, built afresh.
pub fn gordian() -> &'static Path {
    static GORDIAN: LazyLock<PathBuf> = LazyLock::new(|| match std::env::var_os("GORDIAN_BIN") {
        Some(path) => path.into(),
        None => build_gordian(),
    });
    &GORDIAN
}

/// A copy of gordian that every user may run: the checkout may be in a home directory that nobody else may enter.
pub fn gordian_for_everyone() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("it is ours");
    let path = directory.path().join("gordian");
    std::fs::copy(gordian(), &path).expect("it can be copied");
    (directory, path)
}

fn build_gordian() -> PathBuf {
    let test = std::env::current_exe().expect("a test has an executable");
    // target/<profile>/deps/<test>
    let profile = test.parent().and_then(Path::parent).expect("Cargo puts tests two levels deep");
    let target = profile.parent().expect("Cargo puts profiles into the target directory");
    let mut cargo = cargo(repository());
    cargo.args(["build", "--quiet", "--package", "profiler-user", "--bin", "gordian"]).arg("--target-dir").arg(target);
    match profile.file_name().and_then(|name| name.to_str()) {
        Some("debug") => run(&mut cargo),
        Some(name) => run(cargo.args(["--profile", name])),
        None => panic!("the target directory has no name: {}", profile.display()),
    }
    profile.join("gordian")
}

/// Cargo in a directory, without what the test run's own Cargo has put into the environment.
fn cargo(directory: &Path) -> Command {
    static CARGO: OnceLock<std::ffi::OsString> = OnceLock::new();
    let program = CARGO.get_or_init(|| std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let mut command = Command::new(program);
    command.current_dir(directory);
    for variable in ["RUSTFLAGS", "CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR", "CARGO_ENCODED_RUSTFLAGS"] {
        command.env_remove(variable);
    }
    command
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}
