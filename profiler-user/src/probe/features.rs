//! What this kernel lets gordian do, found out by trying.

use super::{Kernel, ProbeError, ProbeOptions, Probes};

/// Something the kernel's side can give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Name, as `doctor` shows it.
    pub name: &'static str,
    /// What is lost without it.
    pub gives: &'static str,
    /// `Ok`, or why it is not there, in one line.
    pub state: Result<(), String>,
}

/// Tries each feature on this very process, attaching nothing for longer than the call.
pub fn features() -> Vec<Feature> {
    let kernel = Kernel::open();
    let types = outcome(&kernel);
    let mut probes = kernel.and_then(|kernel| load(&kernel));
    let programs = outcome(&probes);
    let mut attempt = |what: fn(&mut Probes) -> Result<(), ProbeError>| match &mut probes {
        Ok(probes) => what(probes).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let rows: [(&str, &str, Result<(), String>); 7] = [
        ("kernel types (BTF)", "all kernel programs", types),
        ("kernel programs (BPF)", "all that follows", programs),
        (
            "thread registers",
            "exact stacks of threads that are blocked",
            attempt(|probes| probes.registers().map(drop)),
        ),
        ("blocking events", "blocked-worker findings as they happen, off-CPU profiles", attempt(Probes::attach_switch)),
        ("sampling", "on-CPU flamegraphs, long polls on CPU", attempt(|probes| probes.attach_sampling(1))),
        ("trace waits", "waits and wakes between snapshots", attempt(|probes| probes.hit_cost().map(drop))),
        (
            "run-time figures",
            "what each kernel program has cost, as the kernel measures it",
            attempt(|probes| probes.costs().map(drop)),
        ),
    ];
    rows.into_iter().map(|(name, gives, state)| Feature { name, gives, state }).collect()
}

fn load(kernel: &Kernel) -> Result<Probes, ProbeError> {
    let pid = nix::unistd::getpid().as_raw();
    let target = kernel.resolve(pid)?;
    Probes::load_for(kernel, pid, target, None, &ProbeOptions { run_stats: true, ..ProbeOptions::default() })
}

fn outcome<T>(result: &Result<T, ProbeError>) -> Result<(), String> {
    result.as_ref().map(drop).map_err(ToString::to_string)
}
