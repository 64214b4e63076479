//! One pair of runs: the same service under the same load, with gordian attached and without.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::programs::Fixture;

/// How long the service is under load, and gordian attached to it, before anything is counted: what is measured is being
/// attached. Reading the binary's symbols, and whatever gordian tries and gives up on a busy target, is done by then.
const SETTLE: Duration = Duration::from_millis(1500);

/// The example that takes a snapshot a second: it stands beside gordian.
pub(super) const SNAPSHOTS: &str = "snapshot_every";

/// A way of being attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attachment {
    /// Nothing at all, twice: what the machine's noise alone looks like.
    Control,
    /// `gordian check --for`
    Check,
    /// The same without kernel programs: all that it does is read the target's memory.
    Reads,
    /// `gordian PID`, the live view, in a terminal of its own.
    Live,
    /// The same, counted from the moment that it is started.
    LiveFromStart,
    /// A snapshot a second and nothing else, by [`SNAPSHOTS`].
    Snapshots,
}

impl Attachment {
    /// As the whole of gordian attaches.
    pub(crate) const ALL: [Self; 4] = [Self::Control, Self::Check, Self::Live, Self::LiveFromStart];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Control => "nothing (control)",
            Self::Check => "`gordian check`",
            Self::Reads => "`gordian check --no-bpf`: reads alone",
            Self::Live => "live view",
            Self::LiveFromStart => "live view, with its start",
            Self::Snapshots => "a snapshot a second",
        }
    }

    /// How long after its start counting begins.
    fn settles(self) -> Duration {
        if self == Self::LiveFromStart { Duration::ZERO } else { SETTLE }
    }
}

/// What the load generator says.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Load {
    requests: u64,
    errors: u64,
    p999_us: f64,
}

/// One run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// CPU time of the service for one request.
    pub(crate) cpu_ns_per_request: f64,
    pub(crate) p999_us: f64,
    /// Run time of gordian's kernel programs for one request.
    pub(crate) kernel_ns_per_request: f64,
    /// What gordian itself took of one processor, and how much of that in the kernel, where it reads the target's memory.
    pub(crate) own: [f64; 2],
    /// Page faults that the service took.
    pub(crate) faults: f64,
    /// Bytes of memory that the service had at its end and not at its beginning: pages and page tables.
    pub(crate) memory_growth: f64,
}

/// Two runs, one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair {
    pub(crate) with: Run,
    pub(crate) without: Run,
}

impl Pair {
    pub(crate) fn cpu_ratio(&self) -> f64 {
        self.with.cpu_ns_per_request / self.without.cpu_ns_per_request
    }

    pub(crate) fn p999_ratio(&self) -> f64 {
        self.with.p999_us / self.without.p999_us
    }
}

/// What all runs share.
pub(crate) struct Bench<'a> {
    pub(crate) gordian: &'a Path,
    pub(crate) load: &'a Path,
    pub(crate) service: &'a Fixture,
    pub(crate) length: Duration,
    pub(crate) rate: u32,
    pub(crate) connections: u32,
}

impl Bench<'_> {
    /// One run that nobody counts.
    pub(crate) fn warm_up(&self) -> Result<()> {
        self.put_load(self.length).map(drop)
    }

    /// A pair; `swapped` runs the one with gordian first.
    pub(crate) fn pair(&self, attachment: Attachment, swapped: bool) -> Result<Pair> {
        let settles = attachment.settles();
        if swapped {
            let with = self.run(attachment, settles)?;
            Ok(Pair { with, without: self.run(Attachment::Control, settles)? })
        } else {
            let without = self.run(Attachment::Control, settles)?;
            Ok(Pair { with: self.run(attachment, settles)?, without })
        }
    }

    fn run(&self, attachment: Attachment, settles: Duration) -> Result<Run> {
        let mut gordian = self.attach(attachment)?;
        if !settles.is_zero() {
            self.put_load(settles)?;
        }
        let programs_before = gordian.as_ref().map_or(0, Attached::kernel_ns);
        let own_before = gordian.as_ref().map_or([0.0; 2], Attached::own_seconds);
        let service = self.service.pid();
        let (memory, faults) = (memory_bytes(service)?, page_faults(service)?);
        let before = cpu_ns(service)?;
        let begin = Instant::now();
        let load = self.put_load(self.length)?;
        let took = begin.elapsed().as_secs_f64();
        let cpu = cpu_ns(service)?.saturating_sub(before);
        let own = gordian.as_ref().map_or([0.0; 2], Attached::own_seconds);
        let (faults, growth) = (page_faults(service)? - faults, memory_bytes(service)? - memory);
        let programs = gordian.as_ref().map_or(0, Attached::kernel_ns).saturating_sub(programs_before);
        if let Some(gordian) = &mut gordian {
            gordian.assert_running(attachment)?;
        }
        let requests = load.requests as f64;
        Ok(Run {
            cpu_ns_per_request: cpu as f64 / requests,
            p999_us: load.p999_us,
            kernel_ns_per_request: programs as f64 / requests,
            own: [0, 1].map(|which| (own[which] - own_before[which]) / took),
            faults,
            memory_growth: growth,
        })
    }

    fn attach(&self, attachment: Attachment) -> Result<Option<Attached>> {
        let pid = self.service.pid().to_string();
        // Twice the load: gordian must outlive it.
        let seconds = (2 * (self.length + SETTLE)).as_secs_f64().ceil().to_string();
        let mut command = match attachment {
            Attachment::Control => return Ok(None),
            Attachment::Check | Attachment::Reads => {
                let mut command = Command::new(self.gordian);
                command.args(["check", &pid, "--no-cache", "--for", &seconds]);
                if attachment == Attachment::Reads {
                    command.arg("--no-bpf");
                }
                command
            }
            Attachment::Live | Attachment::LiveFromStart => {
                // util-linux' script gives it a terminal.
                let mut command = Command::new("script");
                let typed = format!("stty rows 50 cols 160; exec {} --no-cache {pid}", self.gordian.display());
                command.args(["--quiet", "--flush", "--command", &typed, "/dev/null"]);
                command
            }
            Attachment::Snapshots => {
                let mut command = Command::new(self.gordian.with_file_name("examples").join(SNAPSHOTS));
                command.arg(&pid);
                command
            }
        };
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        Ok(Some(Attached { child }))
    }

    fn put_load(&self, length: Duration) -> Result<Load> {
        let mut command = Command::new(self.load);
        let numbers = [
            self.service.port()?.to_string(),
            length.as_secs_f64().to_string(),
            self.connections.to_string(),
            self.rate.to_string(),
        ];
        let output = command.args(numbers).stderr(Stdio::inherit()).output().context("cannot start the load")?;
        ensure!(output.status.success(), "the load ended with {}", output.status);
        let load: Load = serde_json::from_slice(&output.stdout)?;
        ensure!(load.errors == 0 && load.requests > 0, "the service failed: {load:?}");
        Ok(load)
    }
}

/// gordian, attached; ended when dropped.
struct Attached {
    child: Child,
}

impl Attached {
    /// Run time of all kernel programs that this process or a child of it has loaded, by the kernel's own figures.
    fn kernel_ns(&self) -> u64 {
        family(self.child.id()).into_iter().map(programs_ns).sum()
    }

    /// Seconds of processor time that this process and its children have taken, and those in the kernel.
    fn own_seconds(&self) -> [f64; 2] {
        let each = family(self.child.id()).into_iter().filter_map(stat_seconds);
        each.fold([0.0; 2], |sum, [user, kernel]| [sum[0] + user + kernel, sum[1] + kernel])
    }

    /// A gordian that has ended by itself was not attached to anything.
    fn assert_running(&mut self, attachment: Attachment) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("gordian ({}) ended with {status} before the load did", attachment.name());
        }
        Ok(())
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let family = family(self.child.id());
        for process in family.into_iter().rev() {
            // SAFETY: kill(2) touches no memory; these are our child and its children, which it has not yet waited for.
            unsafe { libc::kill(process.cast_signed(), libc::SIGTERM) };
        }
        let _status = self.child.wait();
    }
}

/// A process and its children, theirs too, parents first.
fn family(pid: u32) -> Vec<u32> {
    let mut members = vec![pid];
    let mut next = 0;
    while let Some(&member) = members.get(next) {
        let children = fs::read_to_string(format!("/proc/{member}/task/{member}/children")).unwrap_or_default();
        members.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        next += 1;
    }
    members
}

/// Run time of the kernel programs whose descriptors a process has.
fn programs_ns(pid: u32) -> u64 {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fdinfo")) else { return 0 };
    entries
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .filter_map(|info| info.lines().find_map(|line| line.strip_prefix("run_time_ns:")?.trim().parse::<u64>().ok()))
        .sum()
}

/// Seconds that a process has spent in its own code and in the kernel's.
fn stat_seconds(pid: u32) -> Option<[f64; 2]> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // What comes first is the name, in which anything may stand.
    let mut fields = text.rsplit_once(") ")?.1.split(' ').skip(11).map(str::parse::<f64>);
    // SAFETY: sysconf(3) touches no memory of ours.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
    Some([fields.next()?.ok()? / ticks, fields.next()?.ok()? / ticks])
}

/// CPU time of all threads of a process that live now.
fn cpu_ns(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).context("the service has ended")? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        sum += text.split(' ').next().and_then(|first| first.parse::<u64>().ok()).context("no schedstat")?;
    }
    Ok(sum)
}

/// Page faults of a process so far, with and without I/O: the tenth and the twelfth number of its stat, behind a name in brackets
/// that may hold anything.
fn page_faults(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the service has ended")?;
    let (_, numbers) = stat.rsplit_once(')').context("no name in stat")?;
    let field = |at: usize| numbers.split_whitespace().nth(at - 3).and_then(|number| number.parse::<f64>().ok());
    Ok(field(10).context("no minor faults")? + field(12).context("no major faults")?)
}

/// Memory of a process that its cgroup is charged with: its pages, and the tables of them.
fn memory_bytes(pid: u32) -> Result<f64> {
    // `VmRSS` of status is counted loosely; the sum over the mappings is exact.
    let line = |file: &str, name: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/{file}")).context("the service has ended")?;
        let kilobytes = text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
        kilobytes.map(|kilobytes: f64| kilobytes * 1024.0).with_context(|| format!("no {name} in {file}"))
    };
    Ok(line("smaps_rollup", "Rss:")? + line("status", "VmPTE:")?)
}
