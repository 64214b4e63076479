//! The running kernel: its types, and the target's process id in it.

use aya::Btf as AyaBtf;
use profiler_common::KernelOffsets;

use super::{ProbeError, btf::Btf, tasks::TaskIterator};

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Inode of the initial pid namespace: `PROC_PID_INIT_INO` of `include/linux/proc_ns.h`.
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// What has to be known of the running kernel before programs are loaded.
pub struct Kernel {
    pub(super) btf: AyaBtf,
    pub(super) offsets: KernelOffsets,
    /// `struct pid.level`.
    pub(super) pid_level: u32,
    /// `sizeof(struct upid)`.
    pub(super) upid_size: u32,
}

impl Kernel {
    /// Reads the kernel's own description of its types.
    pub fn open() -> Result<Self, ProbeError> {
        let data = std::fs::read(VMLINUX).map_err(|error| ProbeError::NoBtf(format!("{VMLINUX}: {error}")))?;
        let types = Btf::parse(&data)?;
        let offsets = KernelOffsets {
            tgid: types.offset_of("task_struct.tgid")?,
            pid: types.offset_of("task_struct.pid")?,
            // Renamed in Linux 5.14.
            state: types.offset_of("task_struct.__state").or_else(|_| types.offset_of("task_struct.state"))?,
            on_cpu: types.offset_of("task_struct.on_cpu")?,
            fs_base: types.offset_of("task_struct.thread.fsbase")?,
            switches: types.offset_of("task_struct.nvcsw")?,
            thread_pid: types.offset_of("task_struct.thread_pid")?,
            pid_numbers: types.offset_of("pid.numbers")?,
        };
        if types.offset_of("task_struct.nivcsw")? != offsets.switches + 8 {
            return Err(ProbeError::NoField("task_struct.nivcsw"));
        }
        let pid_level = types.offset_of("pid.level")?;
        let upid_size = types.size_of("upid")?;
        let btf = AyaBtf::parse(&data, aya::Endianness::default())
            .map_err(|error| ProbeError::NoBtf(format!("{VMLINUX}: {error}")))?;
        Ok(Self { btf, offsets, pid_level, upid_size })
    }

    /// The kernel's own number of the process that this pid namespace calls `pid`.
    ///
    /// In the initial namespace they are the same. Elsewhere the kernel's table of tasks is walked, and the process
    /// is the one whose number, at the depth of gordian's own namespace, is `pid`.
    pub fn resolve(&self, pid: i32) -> Result<KernelTarget, ProbeError> {
        let number = u32::try_from(pid).ok().filter(|pid| *pid != 0).ok_or(ProbeError::NoProcess(pid))?;
        if in_initial_namespace() {
            return Ok(KernelTarget { tgid: number, own_level: 0 });
        }
        let mut tasks = TaskIterator::load_for_all(self)?;
        tasks
            .records()?
            .iter()
            .find(|record| record.own_number == number && record.kernel_tid == record.kernel_tgid)
            .map(|record| KernelTarget { tgid: record.kernel_tgid, own_level: record.own_level })
            .ok_or(ProbeError::NoProcess(pid))
    }
}

/// A process as the kernel knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelTarget {
    /// Process id in the initial pid namespace.
    pub tgid: u32,
    /// Depth of gordian's own pid namespace; 0 is the initial one.
    pub own_level: u32,
}

fn in_initial_namespace() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self/ns/pid").is_ok_and(|namespace| namespace.ino() == INITIAL_PID_NAMESPACE)
}
