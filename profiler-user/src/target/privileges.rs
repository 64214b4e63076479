//! Which privileges gordian has, and what to type for those that are missing.

/// A capability that gordian can use, see capabilities(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// To read processes of others.
    SysPtrace = 19,
    /// To set breakpoints; stands for the two below as well.
    SysAdmin = 21,
    /// To attach programs to what the kernel does.
    Perfmon = 38,
    /// To load kernel programs.
    Bpf = 39,
}

impl Capability {
    /// Under the name that capabilities(7) has.
    pub fn name(self) -> &'static str {
        match self {
            Self::SysPtrace => "CAP_SYS_PTRACE",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
        }
    }

    /// Whether this process has it; not where that cannot be read.
    pub fn is_held(self) -> bool {
        let status = procfs::process::Process::myself().and_then(|own| own.status());
        status.is_ok_and(|status| status.capeff >> self as u32 & 1 == 1)
    }
}

/// Names of those that this process lacks.
pub fn lacking(wanted: impl IntoIterator<Item = Capability>) -> Vec<&'static str> {
    wanted.into_iter().filter(|capability| !capability.is_held()).map(Capability::name).collect()
}

/// What to do about a refusal for want of `lacking`; half a sentence.
pub fn remedy(lacking: &[&str]) -> String {
    remedy_for(nix::unistd::geteuid().is_root(), lacking)
}

fn remedy_for(is_root: bool, lacking: &[&str]) -> String {
    if lacking.is_empty() {
        return "the kernel refused although the capabilities are there (a seccomp filter, a security module, or a user \
                namespace of its own?)"
            .to_owned();
    }
    let names = lacking.join(" and ");
    if is_root {
        // Nothing is above root but who started it.
        let flags: Vec<String> =
            lacking.iter().map(|name| format!("--cap-add={}", name.trim_start_matches("CAP_"))).collect();
        return format!("needs {names}, which this root lacks; in a container: start it with {}", flags.join(" "));
    }
    format!("needs {names}; try: {}", sudo_line())
}

/// This very command line under sudo, as a shell takes it.
fn sudo_line() -> String {
    std::iter::once("sudo".to_owned())
        .chain(std::env::args().map(|argument| quoted(&argument)))
        .collect::<Vec<_>>()
        .join(" ")
}

/// An argument as a shell takes it, without control characters.
fn quoted(argument: &str) -> String {
    let clean: String = argument.chars().filter(|c| !c.is_control()).collect();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=+:,@%".contains(c);
    if !clean.is_empty() && clean.chars().all(plain) { clean } else { format!("'{}'", clean.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::{Capability, quoted, remedy_for};

    #[test]
    fn a_refusal_names_what_lacks_and_what_to_type() {
        let lacking = [Capability::Bpf, Capability::Perfmon].map(Capability::name);
        let user = remedy_for(false, &lacking);
        assert!(user.starts_with("needs CAP_BPF and CAP_PERFMON; try: sudo /"), "{user}");
        let root = remedy_for(true, &lacking);
        assert!(root.ends_with("start it with --cap-add=BPF --cap-add=PERFMON") && !root.contains("sudo"), "{root}");
        assert!(remedy_for(true, &[]).contains("although the capabilities are there"));
    }

    #[test]
    fn arguments_survive_the_shell() {
        assert_eq!(quoted("--for=5"), "--for=5");
        assert_eq!(quoted("my service"), "'my service'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted("a\x1b[2Jb"), "'a[2Jb'");
    }
}
