//! What a process' epoll instances watch, by the kernel's own list.

use std::{fs, path::Path};

/// One descriptor that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest {
    /// The descriptor.
    pub fd: i32,
    /// What the process gave `epoll_ctl` with it (`epoll_data`): where a runtime finds its own record of it.
    pub data: u64,
}

/// Everything that the epoll instances of `pid` watch; empty where `/proc` does not tell.
pub fn interests(pid: i32) -> Vec<Interest> {
    let process = Path::new("/proc").join(pid.to_string());
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else { return Vec::new() };
    let is_epoll = |path: &Path| fs::read_link(path).is_ok_and(|link| link.as_os_str() == "anon_inode:[eventpoll]");
    descriptors
        .flatten()
        .filter(|entry| is_epoll(&entry.path()))
        .filter_map(|entry| fs::read_to_string(process.join("fdinfo").join(entry.file_name())).ok())
        .flat_map(|text| text.lines().filter_map(interest).collect::<Vec<_>>())
        .collect()
}

/// A line of an epoll's `fdinfo` (`ep_show_fdinfo` in the kernel's fs/eventpoll.c):
/// `tfd:        9 events: 8000201d data:     7f0a4c000b80  pos:0 ino:… sdev:…`.
fn interest(line: &str) -> Option<Interest> {
    let mut words = line.split_whitespace();
    let mut after = |name: &str| words.find(|word| *word == name).and_then(|_| words.next());
    let fd = after("tfd:")?.parse().ok()?;
    let data = u64::from_str_radix(after("data:")?, 16).ok()?;
    Some(Interest { fd, data })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

    use super::*;

    #[test]
    fn what_we_watch_ourselves_is_listed() {
        let (near, _far) = std::os::unix::net::UnixStream::pair().expect("a pair of sockets");
        let epoll = Epoll::new(EpollCreateFlags::empty()).expect("an epoll instance");
        let data = 0x7f0a_4c00_0b80;
        epoll.add(&near, EpollEvent::new(EpollFlags::EPOLLIN, data)).expect("it can be watched");
        let pid = std::process::id().cast_signed();
        assert!(interests(pid).contains(&Interest { fd: near.as_raw_fd(), data }));
    }

    #[test]
    fn other_lines_are_no_interests() {
        assert_eq!(interest("pos:\t0"), None);
        assert_eq!(interest("tfd: x events: 19 data: 1"), None);
        let line = "tfd:        9 events: 8000201d data:     7f0a4c000b80  pos:0 ino:5 sdev:f";
        assert_eq!(interest(line), Some(Interest { fd: 9, data: 0x7f0a_4c00_0b80 }));
    }
}
