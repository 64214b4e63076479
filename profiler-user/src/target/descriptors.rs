//! What the descriptors of a process lead to, in a few words: which peer a socket has, which file is open.

use std::collections::{BTreeSet, HashMap};

use procfs::{
    net::{TcpNetEntry, TcpState},
    process::{FDTarget, Process},
};

/// Descriptors that are looked up at most.
const MOST: usize = 4096;

/// What each of `descriptors` leads to, by number; those that are closed by now are left out.
pub(super) fn describe(process: &Process, descriptors: &BTreeSet<i32>) -> Vec<(i32, String)> {
    let mut sockets = None;
    let told = descriptors.iter().take(MOST).filter_map(|fd| {
        let what = match process.fd_from_fd(*fd).ok()?.target {
            FDTarget::Path(path) => path.display().to_string(),
            FDTarget::Socket(inode) => {
                let sockets = sockets.get_or_insert_with(|| read_sockets(process));
                sockets.get(&inode).cloned().unwrap_or_else(|| "a socket".into())
            }
            FDTarget::Pipe(_) => "a pipe".into(),
            FDTarget::AnonInode(name) | FDTarget::MemFD(name) | FDTarget::Other(name, _) => name,
            FDTarget::Net(_) | FDTarget::Unknown(..) => return None,
        };
        Some((*fd, what))
    });
    told.collect()
}

/// The sockets of the process' own network, by inode.
fn read_sockets(process: &Process) -> HashMap<u64, String> {
    let tcp = [process.tcp(), process.tcp6()].into_iter().flatten().flatten();
    let mut sockets: HashMap<u64, String> = tcp.map(|entry| (entry.inode, tcp_socket(&entry))).collect();
    for entry in [process.udp(), process.udp6()].into_iter().flatten().flatten() {
        sockets.insert(entry.inode, format!("udp {}", entry.local_address));
    }
    for entry in process.unix().into_iter().flatten() {
        let path = entry.path.map(|path| format!(" {}", path.display())).unwrap_or_default();
        sockets.insert(entry.inode, format!("a unix socket{path}"));
    }
    sockets
}

fn tcp_socket(entry: &TcpNetEntry) -> String {
    match entry.state {
        TcpState::Listen => format!("tcp {}, which listens", entry.local_address),
        _ => format!("tcp {} to {}", entry.local_address, entry.remote_address),
    }
}
