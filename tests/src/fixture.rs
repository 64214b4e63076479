//! A fixture as a child process.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpStream},
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use serde_json::Value;

use crate::{
    json,
    programs::{self, Build, Profile},
};

/// Longer than any fixture needs to start on a busy machine.
const START: Duration = Duration::from_secs(30);

/// A running fixture; killed when dropped.
pub struct Fixture {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    /// What it said when it was ready.
    pub ready: Value,
    /// Its pid as the test sees it.
    pub pid: i32,
}

impl Fixture {
    /// Starts the release build of a fixture and waits until it is ready.
    pub fn start(name: &str) -> Self {
        Self::start_with(name, Profile::Release, &[])
    }

    /// The same for any build and arguments.
    pub fn start_with(name: &str, profile: Profile, arguments: &[&str]) -> Self {
        let mut command = Command::new(programs::fixture(name, profile));
        command.args(arguments);
        Self::spawn(name, command)
    }

    /// The same for one of the builds that only some fixtures have.
    pub fn start_build(name: &str, build: Build) -> Self {
        Self::spawn(name, Command::new(programs::built(name, build)))
    }

    /// The same for a prepared command; `pid` is that of the command itself.
    pub fn spawn(name: &str, mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // SAFETY: prctl(2) is async-signal-safe, and this one touches no memory.
        unsafe {
            command.pre_exec(|| {
                // A test run that is killed leaves no fixtures behind.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let pid = child.id().cast_signed();
        let stdin = child.stdin.take();
        let mut fixture = Self { name: name.to_owned(), child, stdin, lines, ready: Value::Null, pid };
        fixture.ready = fixture.next_line();
        fixture
    }

    /// The next object that the fixture says. Whatever else it prints is its own affair.
    pub fn next_line(&mut self) -> Value {
        loop {
            match self.lines.recv_timeout(START) {
                Ok(line) => {
                    if let Ok(object @ Value::Object(_)) = serde_json::from_str(&line) {
                        return object;
                    }
                }
                Err(error) => panic!("{} said nothing: {error}; it has ended: {:?}", self.name, self.child.try_wait()),
            }
        }
    }

    /// Sends the fixture the line that it waits for.
    pub fn command(&mut self) {
        let stdin = self.stdin.as_mut().expect("stdin is a pipe");
        stdin.write_all(b"go\n").expect("the fixture reads its stdin");
    }

    /// The pid as an argument.
    pub fn pid_argument(&self) -> String {
        self.pid.to_string()
    }

    /// The id that the fixture gave for one of its tasks.
    pub fn task_id(&self, task: &str) -> &str {
        json::text(&self.ready["tasks"][task])
    }

    /// Line of the fixture's source that is marked so.
    pub fn line(&self, marker: &str) -> u64 {
        programs::marked_line(&programs::fixture_source(&self.name), marker)
    }

    /// The service that the fixture gives.
    pub fn service(&self) -> Service {
        Service { port: u16::try_from(json::number(&self.ready["port"])).expect("a port") }
    }

    /// Whether the process has not ended.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until it has ended by itself, and the kernel has written what it writes of it.
    pub fn wait(&mut self) {
        self.child.wait().expect("it is our child");
    }

    /// Kills it and waits for its end.
    pub fn kill(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// The HTTP service of a fixture.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    port: u16,
}

impl Service {
    /// Asks for its counter of answered requests.
    pub fn request(self) -> u64 {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).expect("the service accepts");
        stream.set_read_timeout(Some(START)).expect("a timeout can be set");
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("the service reads");
        stream.shutdown(Shutdown::Write).expect("a socket can be shut");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the service answers");
        let counter = answer.lines().last().and_then(|line| line.parse().ok());
        counter.unwrap_or_else(|| panic!("no counter in {answer:?}"))
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.kill();
    }
}
