//! Running gordian and reading what it says.

use std::{
    ffi::OsString,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        LazyLock,
        mpsc::{RecvTimeoutError, channel},
    },
    time::Duration,
};

use serde_json::Value;

use crate::programs;

/// Longer than anything that a test asks for. Only a hang takes so long.
const PATIENCE: Duration = Duration::from_mins(2);

/// An environment variable and what it is set to, so that gordian keeps nothing in the cache of whoever runs the tests: no
/// directory can be made there.
pub(crate) const NO_CACHE: (&str, &str) = ("XDG_CACHE_HOME", "/dev/null");

/// A `gordian` about to be run.
#[derive(Debug)]
pub struct Gordian {
    command: Command,
}

/// What came of it.
#[derive(Debug)]
pub struct Finished {
    /// Exit status; never a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Gordian {
    /// gordian with these arguments.
    pub fn new<const N: usize>(arguments: [&str; N]) -> Self {
        let mut command = Command::new(programs::gordian());
        command.args(arguments);
        Self::from_command(command)
    }

    /// The same, started by another program: `wrapper gordian arguments…`.
    pub fn under<const W: usize, const N: usize>(wrapper: [&str; W], arguments: [&str; N]) -> Self {
        let (program, rest) = wrapper.split_first().expect("a wrapper");
        let mut command = Command::new(program);
        command.args(rest).arg(programs::gordian()).args(arguments);
        Self::from_command(command)
    }

    /// A whole command line that ends in gordian. It keeps nothing for the next one, unless `env` says where.
    pub fn from_command(mut command: Command) -> Self {
        command.env(NO_CACHE.0, NO_CACHE.1);
        Self { command }
    }

    /// With one more argument.
    #[must_use]
    pub fn arg(mut self, argument: &str) -> Self {
        self.command.arg(argument);
        self
    }

    /// With an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.command.env(name, value.into());
        self
    }

    /// Starts it with its outputs in pipes and does not wait.
    pub fn start(mut self) -> Child {
        self.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.command.spawn().unwrap_or_else(|error| panic!("{:?}: {error}", self.command))
    }

    /// Runs it to its end, which must be an exit without a panic.
    pub fn run(self) -> Finished {
        let shown = format!("{:?}", self.command);
        let child = self.start();
        let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
        let (sender, receiver) = channel();
        let waiter = std::thread::spawn(move || {
            // Only a receiver that has panicked is gone.
            let _gone = sender.send(child.wait_with_output());
        });
        let output = match receiver.recv_timeout(PATIENCE) {
            Ok(output) => output.unwrap_or_else(|error| panic!("{shown}: {error}")),
            Err(RecvTimeoutError::Timeout) => {
                // Best effort: the panic says the rest.
                let _ended = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
                panic!("{shown} still ran after {PATIENCE:?}");
            }
            Err(RecvTimeoutError::Disconnected) => panic!("{shown}: nobody waits for it"),
        };
        waiter.join().expect("the waiter does not panic");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Finished::new(&shown, output.status, text(output.stdout), text(output.stderr))
    }
}

impl Finished {
    /// Fails on a panic and on an end by a signal.
    pub(crate) fn new(shown: &str, status: ExitStatus, stdout: String, stderr: String) -> Self {
        assert!(!stderr.contains("panicked at"), "{shown} panicked:\n{stderr}");
        let code = status.code().unwrap_or_else(|| panic!("{shown}: {status}\n{stdout}\n{stderr}"));
        Self { code, stdout, stderr }
    }

    /// Fails with everything it said unless it exited so.
    #[track_caller]
    #[must_use]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit status\nstdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// The one JSON object on stdout, valid by the schema.
    #[track_caller]
    pub fn json(&self) -> Value {
        let value: Value = serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error} in stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr));
        assert_valid(&value);
        value
    }

    /// The single line that stderr must be.
    #[track_caller]
    pub fn error_line(&self) -> &str {
        let mut lines = self.stderr.lines();
        match (lines.next(), lines.next()) {
            (Some(line), None) => line,
            _ => panic!("not one line on stderr:\n{}", self.stderr),
        }
    }
}

/// Fails where a value is not what the checked-in schema says.
#[track_caller]
pub fn assert_valid(value: &Value) {
    static SCHEMA: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
        let path = programs::repository().join("schema/gordian.schema.json");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let schema = serde_json::from_str(&text).expect("the schema is JSON");
        jsonschema::draft202012::new(&schema).expect("the schema is a schema")
    });
    let errors: Vec<String> =
        SCHEMA.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "not what the schema says:\n{}\nin {value:#}", errors.join("\n"));
}
