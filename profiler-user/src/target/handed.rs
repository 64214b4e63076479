//! Words that a process has handed to the kernel and gets back from it: perhaps the only pointers to what they point at.

use std::{fs, path::Path};

use super::epoll;

/// Those of the epoll instances and timers of `pid`; `None` where it has handed over others, that nobody can ask for.
pub fn words(pid: i32) -> Option<Vec<u64>> {
    let process = Path::new("/proc").join(pid.to_string());
    let descriptors = fs::read_dir(process.join("fd")).ok()?;
    let links = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    if links.into_iter().any(|link| link.as_os_str() == "anon_inode:[io_uring]") {
        return None;
    }
    // The rings of the older interface are mapped under this name (fs/aio.c).
    let maps = fs::read_to_string(process.join("maps")).ok()?;
    if maps.lines().any(|line| line.ends_with("/[aio] (deleted)")) {
        return None;
    }
    let watched = epoll::interests(pid).into_iter().map(|interest| interest.data);
    // Kernels that cannot list timers are built without what needs them listed.
    let timers = fs::read_to_string(process.join("timers")).unwrap_or_default();
    Some(watched.chain(timers.lines().filter_map(of_timer)).collect())
}

/// A line of `/proc/PID/timers` (`show_timer` in the kernel's fs/proc/base.c): `signal: 60/00007fff86e452a8`.
fn of_timer(line: &str) -> Option<u64> {
    let (_, word) = line.strip_prefix("signal:")?.split_once('/')?;
    u64::from_str_radix(word.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

    use super::*;

    #[test]
    fn what_we_hand_over_ourselves_is_told() {
        let (near, _far) = std::os::unix::net::UnixStream::pair().expect("a pair of sockets");
        let epoll = Epoll::new(EpollCreateFlags::empty()).expect("an epoll instance");
        let data = 0x7f0a_4c00_0b88;
        epoll.add(&near, EpollEvent::new(EpollFlags::EPOLLIN, data)).expect("it can be watched");
        let words = words(std::process::id().cast_signed()).expect("there are no rings");
        assert!(words.contains(&data));
    }

    #[test]
    fn the_value_of_a_timer_is_behind_its_signal() {
        assert_eq!(of_timer("signal: 60/00007fff86e452a8"), Some(0x7fff_86e4_52a8));
        assert_eq!(of_timer("notify: signal/pid.2634"), None);
        assert_eq!(of_timer("signal: 14"), None);
    }
}
