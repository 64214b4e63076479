//! A terminal of its own for gordian: a real pseudo-terminal, and an emulator that knows what stands on the screen.

use std::{
    fs::File,
    io::{Read, Write},
    num::NonZeroU16,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Child, Command, ExitStatus},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{gordian::NO_CACHE, programs};

/// Only a hang takes so long.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often the screen is looked at while something is awaited.
const LOOK: Duration = Duration::from_millis(20);

/// gordian in a terminal; killed when dropped.
pub struct Terminal {
    child: Child,
    master: File,
    parser: Arc<Mutex<vt100::Parser>>,
    before: Modes,
}

/// How the terminal treats what is typed and printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modes {
    input: libc::tcflag_t,
    output: libc::tcflag_t,
    local: libc::tcflag_t,
}

impl Terminal {
    /// Starts gordian with these arguments in a terminal of so many rows and columns.
    pub fn start<const N: usize>(arguments: [&str; N], rows: u16, columns: u16) -> Self {
        let (master, slave) = open_pty(rows, columns);
        let before = modes(&master);
        let duplicate = || slave.try_clone().expect("a descriptor can be duplicated");
        let mut command = Command::new(programs::gordian());
        command.args(arguments).env("TERM", "xterm-256color").env_remove("NO_COLOR").env(NO_CACHE.0, NO_CACHE.1);
        command.stdin(duplicate()).stdout(duplicate()).stderr(duplicate());
        // SAFETY: setsid(2) and this ioctl(2) are async-signal-safe and touch no memory; descriptor 0 is the terminal.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                Ok(())
            });
        }
        let child = command.spawn().expect("gordian starts");
        // Not ours to keep open: the master must see the end when gordian is gone.
        drop((command, slave));

        let size = |n| NonZeroU16::new(n).expect("a terminal has a size");
        let parser = Arc::new(Mutex::new(vt100::Parser::new(size(rows), size(columns), 0)));
        let screen = parser.clone();
        let mut output = master.try_clone().expect("a descriptor can be duplicated");
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            // The read fails when the last process has closed the terminal.
            while let Ok(read @ 1..) = output.read(&mut piece) {
                screen.lock().unwrap_or_else(PoisonError::into_inner).process(&piece[..read]);
            }
        });
        Self { child, master, parser, before }
    }

    /// Types.
    pub fn type_keys(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// What stands on the screen.
    pub fn contents(&self) -> String {
        self.parser.lock().unwrap_or_else(PoisonError::into_inner).screen().contents()
    }

    /// Waits until the screen is as wanted, and says what is on it then.
    #[track_caller]
    pub fn wait_until(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            let contents = self.contents();
            if wanted(&contents) {
                return contents;
            }
            let ended = self.child.try_wait().expect("a child can be waited for");
            assert!(
                start.elapsed() < PATIENCE && ended.is_none(),
                "never seen: {what}; gordian has ended: {ended:?}; on the screen:\n{contents}"
            );
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until a text stands on the screen.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) -> String {
        self.wait_until(text, |screen| screen.contains(text))
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Waits for the end of gordian.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "gordian does not end; on the screen:\n{}", self.contents());
            std::thread::sleep(LOOK);
        }
    }

    /// Fails unless the terminal is as gordian found it. For when gordian has ended.
    #[track_caller]
    pub fn assert_restored(&self) {
        let parser = self.parser.lock().unwrap_or_else(PoisonError::into_inner);
        let screen = parser.screen();
        assert!(!screen.alternate_screen(), "still on the alternate screen");
        assert!(!screen.hide_cursor(), "the cursor is still hidden");
        assert!(!screen.bracketed_paste(), "pastes are still bracketed");
        assert_eq!(screen.mouse_protocol_mode(), vt100::MouseProtocolMode::None);
        assert_eq!(modes(&self.master), self.before, "the terminal's modes have changed");
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

fn open_pty(rows: u16, columns: u16) -> (File, OwnedFd) {
    let (mut master, mut slave) = (-1, -1);
    let mut size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the pointers are to live locals, or null where openpty(3) allows it.
    let result = unsafe {
        libc::openpty(&raw mut master, &raw mut slave, std::ptr::null_mut(), std::ptr::null_mut(), &raw mut size)
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: openpty(3) has just opened both for us, and nobody else knows them.
    unsafe { (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) }
}

fn modes(terminal: &File) -> Modes {
    // SAFETY: all-zero bytes are a valid termios, and tcgetattr(3) writes nothing else.
    let attributes = unsafe {
        let mut attributes: libc::termios = std::mem::zeroed();
        assert_eq!(libc::tcgetattr(terminal.as_raw_fd(), &raw mut attributes), 0);
        attributes
    };
    Modes { input: attributes.c_iflag, output: attributes.c_oflag, local: attributes.c_lflag }
}
