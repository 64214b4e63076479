//! What a test needs of the machine. A test that cannot run is named and counted, never silently passed.

use std::{io::Write, path::Path, process::Command};

/// Something that not every machine or user has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Reading the memory of a process of ours that did not ask to be traced.
    Ptrace,
    /// Loading kernel programs.
    Bpf,
    /// Becoming another user and dropping capabilities.
    Root,
    /// New PID and mount namespaces.
    Namespaces,
    /// Core files that the kernel writes where the process was.
    CoreFiles,
    /// This program on the path.
    Program(&'static str),
}

impl Need {
    /// `None` where it is there; else what is lacking and what to type.
    pub fn lacking(self) -> Option<String> {
        match self {
            Self::Ptrace if effective(CAP_SYS_PTRACE) || yama_allows() => None,
            Self::Ptrace => Some(
                "needs CAP_SYS_PTRACE while kernel.yama.ptrace_scope is set: run `sudo -E cargo xtask test`".into(),
            ),
            Self::Bpf if !Path::new("/sys/kernel/btf/vmlinux").exists() => {
                Some("needs a kernel with BTF: there is no /sys/kernel/btf/vmlinux".into())
            }
            Self::Bpf if effective(CAP_BPF) && effective(CAP_PERFMON) => None,
            Self::Bpf => Some("needs CAP_BPF and CAP_PERFMON: run `sudo -E cargo xtask test`".into()),
            Self::Root if nix::unistd::geteuid().is_root() => None,
            Self::Root => Some("needs root: run `sudo -E cargo xtask test`".into()),
            Self::Namespaces => {
                let new = Command::new("unshare").args(["--pid", "--mount", "--fork", "--mount-proc", "true"]).output();
                match new {
                    Ok(output) if output.status.success() => None,
                    Ok(output) => {
                        let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                        Some(format!("needs new namespaces ({why}): run `sudo -E cargo xtask test`"))
                    }
                    Err(error) => Some(format!("needs unshare ({error}): install the package util-linux")),
                }
            }
            Self::CoreFiles => {
                let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
                let elsewhere = pattern.is_empty() || pattern.starts_with(['|', '/']);
                elsewhere.then(|| "needs core files in place: run `sysctl kernel.core_pattern=core`".into())
            }
            Self::Program(program) => {
                let path = std::env::var_os("PATH").unwrap_or_default();
                let found = std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
                (!found).then(|| format!("needs {program} on the path: install it with your package manager"))
            }
        }
    }
}

/// From linux/capability.h; libc has no names for them.
const CAP_SYS_PTRACE: i32 = 19;
const CAP_PERFMON: i32 = 38;
const CAP_BPF: i32 = 39;

fn effective(capability: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).is_some_and(|mask| mask >> capability & 1 == 1)
}

fn yama_allows() -> bool {
    std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").map_or(true, |scope| scope.trim() == "0")
}

/// Says that a test is skipped; a failure where `GORDIAN_REQUIRE=all`.
///
/// `cargo xtask test` counts these lines. They bypass libtest's capture: a skip must be seen.
pub fn skip(test: &str, why: &str) {
    assert!(std::env::var("GORDIAN_REQUIRE").as_deref() != Ok("all"), "{test} cannot run here: {why}");
    // Nobody reads stderr: then nobody can be told.
    let _unheard = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

/// Name of the function that `marker` was defined in, without its crate.
pub fn enclosing_function<T>(_marker: T) -> &'static str {
    let path = std::any::type_name::<T>();
    let path = path.strip_suffix("::marker").unwrap_or(path);
    path.split_once("::").map_or(path, |(_krate, function)| function)
}

/// Returns from the test, saying so, unless the machine has everything that is named.
#[macro_export]
macro_rules! require {
    ($($need:expr),+ $(,)?) => {
        fn marker() {}
        $(
            if let Some(why) = $crate::capability::Need::lacking($need) {
                $crate::capability::skip($crate::capability::enclosing_function(marker), &why);
                return;
            }
        )+
    };
}

#[cfg(test)]
mod tests {
    use super::{Need, enclosing_function};

    #[test]
    fn names_the_test() {
        fn marker() {}
        assert_eq!(enclosing_function(marker), "capability::tests::names_the_test");
    }

    #[test]
    fn programs_are_looked_up() {
        assert_eq!(Need::Program("sh").lacking(), None);
        assert!(Need::Program("no-such-program").lacking().is_some_and(|why| why.contains("no-such-program")));
    }
}
