//! The terminal is given back however the view ends: each case in a process of its own, on a real pseudo-terminal.
//!
//! The process is this test binary again, told by a variable to play the part instead of testing it.

use std::{
    env,
    fs::File,
    io::{Read, Write},
    os::fd::{AsFd, OwnedFd},
    process::{self, Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    pty::{Winsize, openpty},
    sys::{
        signal::{Signal, kill},
        termios::{LocalFlags, Termios, tcgetattr},
    },
    unistd::Pid,
};
use tokio::sync::watch;

use super::{Screen, TAKEN};
use crate::{
    model::{Snapshot, Target},
    session::{ProbeState, View},
    tui::{Exit, TuiError, run},
};

const PART: &str = "GORDIAN_TEST_VIEW_PART";
/// A child that takes longer hangs.
const LIMIT: Duration = Duration::from_mins(1);

const ENTER: &[u8] = b"\x1b[?1049h";
const LEAVE: &[u8] = b"\x1b[?1049l";
const SHOW_CURSOR: &[u8] = b"\x1b[?25h";

/// How a part of the test ends, as an exit status that nothing else gives.
fn status(result: &Result<Exit, TuiError>) -> i32 {
    match result {
        Ok(Exit::Quit) => 40,
        Ok(Exit::Signal(signal)) => 40 + signal,
        Err(TuiError::Panicked) => 90,
        Err(TuiError::TerminalGone) => 91,
        Err(_) => 92,
    }
}

fn wait_until_taken() {
    while !TAKEN.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(1));
    }
}

/// What the child does. Never returns: what the test harness would write does not belong on that terminal.
fn play(part: &str) -> ! {
    if part == "panic while drawing" {
        let drawing = thread::spawn(|| {
            let _screen = Screen::enter().expect("the child has a terminal");
            panic!("the drawing broke");
        });
        assert!(drawing.join().is_err());
        process::exit(90);
    }
    let view = View {
        sequence: 1,
        snapshot: Arc::new(Snapshot::empty(Target { pid: 1, exe: "/bin/target".into() })),
        findings: Arc::new([]),
        ended_findings: Arc::new([]),
        blocked: Arc::new([]),
        switch_probe: ProbeState::On,
        wait_probe: ProbeState::Off,
        ended: None,
    };
    let (_publish, views) = watch::channel(Arc::new(view));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let result = runtime.block_on(async {
        match part {
            "panic elsewhere" => {
                thread::spawn(|| {
                    wait_until_taken();
                    panic!("the snapshot broke");
                });
                run(views).await
            }
            "dropped" => tokio::select! {
                result = run(views) => result,
                taken = tokio::task::spawn_blocking(wait_until_taken) => taken.map(|()| Exit::Quit).map_err(|_| TuiError::Panicked),
            },
            _ => run(views).await,
        }
    });
    process::exit(status(&result));
}

/// A child at its terminal.
struct Session {
    child: Child,
    keyboard: Option<File>,
    slave: OwnedFd,
    before: Termios,
    output: Arc<Mutex<Vec<u8>>>,
    /// Makes the reader close the terminal's own side.
    hang_up: Arc<AtomicBool>,
    reader: JoinHandle<()>,
}

impl Session {
    fn start(part: &str) -> Self {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).expect("a pseudo-terminal");
        let before = tcgetattr(&pty.slave).expect("its mode");
        let stdio = || Stdio::from(pty.slave.try_clone().expect("a descriptor"));
        // A child that inherits the terminal's own side would keep it from ever hanging up.
        fcntl(&pty.master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("a descriptor of ours");
        let child = Command::new(env::current_exe().expect("this binary"))
            .args(["--exact", "tui::terminal::tests::the_terminal_is_given_back", "--nocapture", "--test-threads=1"])
            .env(PART, part)
            .stdin(stdio())
            .stdout(stdio())
            .stderr(stdio())
            .spawn()
            .expect("the child starts");
        let mut master = File::from(pty.master);
        let keyboard = Some(master.try_clone().expect("a descriptor"));
        let output = Arc::new(Mutex::new(Vec::new()));
        let hang_up = Arc::new(AtomicBool::new(false));
        let (sink, stop) = (output.clone(), hang_up.clone());
        let reader = thread::spawn(move || {
            let mut buffer = [0; 4096];
            while !stop.load(Ordering::SeqCst) {
                let mut fds = [PollFd::new(master.as_fd(), PollFlags::POLLIN)];
                if poll(&mut fds, PollTimeout::from(20_u8)) == Ok(0) {
                    continue;
                }
                // The end is an error (EIO) once nobody has the other side open.
                let Ok(len @ 1..) = master.read(&mut buffer) else { return };
                sink.lock().expect("no test thread panics with it").extend(&buffer[..len]);
            }
        });
        Self { child, keyboard, slave: pty.slave, before, output, hang_up, reader }
    }

    /// Waits until the view has drawn: its keys are read from then on.
    fn wait_for_screen(&mut self) {
        let start = Instant::now();
        while find(&self.output.lock().expect("as above"), b"help").is_none() {
            assert!(start.elapsed() < LIMIT, "the view never drew");
            assert!(self.child.try_wait().expect("a child").is_none(), "the view ended by itself");
            thread::sleep(Duration::from_millis(2));
        }
        let mode = tcgetattr(&self.slave).expect("its mode");
        assert!(!mode.local_flags.contains(LocalFlags::ECHO), "the view is not in raw mode");
    }

    fn finish(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            if start.elapsed() > LIMIT {
                self.child.kill().expect("a child of ours");
                panic!("the view hangs");
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Checks that the terminal is as it was; gives what the child wrote after it gave the terminal back.
    fn given_back(mut self, code: i32) -> String {
        let status = self.finish();
        let after = tcgetattr(&self.slave).expect("its mode");
        drop((self.slave, self.keyboard));
        self.reader.join().expect("it only reads");
        let output = self.output.lock().expect("as above").clone();
        assert_eq!(status.code(), Some(code), "{}", String::from_utf8_lossy(&output));
        assert_eq!(after, self.before, "the mode of the terminal");
        let entered = find(&output, ENTER).expect("the alternate screen was entered");
        let left = entered + find(&output[entered..], LEAVE).expect("and left");
        assert!(find(&output[left..], SHOW_CURSOR).is_some(), "the cursor is hidden");
        assert!(find(&output[left..], ENTER).is_none() && find(&output[left + 1..], LEAVE).is_none());
        String::from_utf8_lossy(&output[left..]).into_owned()
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

#[test]
fn the_terminal_is_given_back() {
    if let Ok(part) = env::var(PART) {
        play(&part);
    }

    let mut session = Session::start("quit");
    session.wait_for_screen();
    session.keyboard.as_mut().expect("open").write_all(b"q").expect("typed");
    session.given_back(40);

    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let mut session = Session::start("signal");
        session.wait_for_screen();
        kill(Pid::from_raw(session.child.id() as i32), signal).expect("a child of ours");
        session.given_back(40 + signal as i32);
    }

    Session::start("dropped").given_back(40);

    // A panic's message has to be readable: it comes after the terminal was given back.
    let text = Session::start("panic while drawing").given_back(90);
    assert!(text.contains("the drawing broke"), "{text}");
    let text = Session::start("panic elsewhere").given_back(90);
    assert!(text.contains("the snapshot broke"), "{text}");

    // Last, and not in a test of its own: a child started beside it would share the terminal's own side for a moment.
    let mut session = Session::start("hangup");
    session.wait_for_screen();
    session.hang_up.store(true, Ordering::SeqCst);
    session.keyboard = None;
    assert_eq!(session.finish().code(), Some(91), "the view ends when its terminal hangs up");
}
