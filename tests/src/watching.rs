//! A gordian that has attached and goes on watching.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStdout},
    thread::JoinHandle,
};

use serde_json::Value;

use crate::{
    Gordian,
    gordian::{Finished, assert_valid},
};

/// What gordian logs with `--verbose` when it has taken its first snapshot.
const ATTACHED: &str = "first snapshot";

/// A running gordian; killed when dropped.
pub struct Watching {
    child: Child,
    stdout: BufReader<ChildStdout>,
    log: Option<JoinHandle<String>>,
}

impl Watching {
    /// Starts a command and waits until it has looked at its target once.
    pub fn start(command: Gordian) -> Self {
        let mut child = command.arg("--verbose").start();
        let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut log = String::new();
        while !log.contains(ATTACHED) {
            assert!(stderr.read_line(&mut log).expect("gordian logs text") > 0, "gordian ended:\n{log}");
        }
        // Somebody must go on reading, or gordian would wait for its own log.
        let log = std::thread::spawn(move || {
            // What cannot be read is not needed: it is shown when a test fails.
            let _partial = stderr.read_to_string(&mut log);
            log
        });
        Self { child, stdout, log: Some(log) }
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line of JSON that it says, valid by the schema.
    #[track_caller]
    pub fn next_line(&mut self) -> Value {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("gordian says text");
        let value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}\n{}", self.end()));
        assert_valid(&value);
        value
    }

    /// Kills it without warning, and says what it has logged.
    pub fn end(&mut self) -> String {
        // It may have ended by itself; then there is nothing to do.
        let _ended = self.child.kill();
        let _status = self.child.wait();
        self.log.take().map(|log| log.join().expect("the reader does not panic")).unwrap_or_default()
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Finished {
        let mut stdout = String::new();
        self.stdout.read_to_string(&mut stdout).expect("gordian says text");
        let status = self.child.wait().expect("a child can be waited for");
        let stderr = self.end();
        Finished::new("gordian", status, stdout, stderr)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.end();
    }
}
