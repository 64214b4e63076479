//! Flags and what they mean. One definition feeds the parser and the help.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::places::Debuginfo;
use crate::{
    analysis::Thresholds,
    model::{FindingKind, TaskState},
};

/// Attach to a running process and see every async task, where it waits and who holds what it waits for.
///
/// Nothing is rebuilt, restarted or stopped: the target is only read. TARGET is a pid, the name of a process where
/// only one has it, the id of a container with one process, or the path of a core file or of what `gordian capture` wrote.
#[derive(Debug, Parser)]
#[command(name = "gordian", version, subcommand_negates_reqs = true, max_term_width = 100)]
#[command(override_usage = "gordian [OPTIONS] TARGET\n       gordian COMMAND ...")]
pub struct Cli {
    /// The process to watch live.
    #[arg(required = true)]
    pub target: Option<String>,

    /// What all commands take.
    #[command(flatten)]
    pub global: Global,

    /// How to watch, for the live view.
    #[command(flatten)]
    pub watch: Watch,

    /// What to do instead of the live view.
    #[command(subcommand)]
    pub command: Option<Command>,
}

impl Cli {
    /// Why the line makes no sense although each part of it does.
    pub fn contradiction(&self) -> Option<String> {
        self.command.as_ref()?;
        if let Some(target) = &self.target {
            return Some(format!("`{target}` stands before the command; a command takes its TARGET after it"));
        }
        (self.watch != Watch::default()).then(|| "flags that say how to watch stand after the command".into())
    }
}

/// What all commands take.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// Tell on standard error what gordian does, with the kernel programs' own messages.
    #[arg(short, long, global = true)]
    pub verbose: bool,

    /// Colour the output.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: Color,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the processes that have an async runtime
    Ps(Ps),
    /// List the tasks of a process, grouped by equal await stack
    Tasks(Tasks),
    /// Look for what is stuck, and say why
    ///
    /// Exit status: 0 nothing found and everything read; 1 a finding of a kind in --fail-on; 2 could not look;
    /// 3 nothing found, but not everything could be read.
    Check(Check),
    /// Draw where the time goes
    Flame(Flame),
    /// Keep what the other commands need of a process' memory, to look at it elsewhere
    ///
    /// The file holds data of the process, and only its owner may read it. `gordian tasks FILE`, `check FILE` and the live view
    /// take it where they take a pid; they need the program's file beside it, or where it was.
    Capture(Capture),
    /// Say what this kernel and these privileges allow
    Doctor,
}

/// `gordian ps`.
#[derive(Debug, Args)]
pub struct Ps {
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// `gordian capture`.
#[derive(Debug, Args)]
pub struct Capture {
    /// Pid, name or container id.
    pub target: String,

    /// The file to write; it must not exist yet.
    #[arg(short, long, value_name = "FILE")]
    pub output: std::path::PathBuf,

    /// Stop the process for both reads, some milliseconds each. Locks between threads then support no verdict.
    #[arg(long)]
    pub freeze: bool,
}

/// `gordian tasks`.
#[derive(Debug, Args)]
pub struct Tasks {
    /// Pid, name, container id, capture or core file.
    pub target: String,

    /// List the tasks one by one.
    #[arg(long)]
    pub all: bool,

    /// Only tasks that are part of a finding (takes two looks).
    #[arg(long)]
    pub stuck: bool,

    /// Only tasks whose type contains this.
    #[arg(long = "type", value_name = "TEXT")]
    pub type_contains: Option<String>,

    /// Only tasks in one of these states.
    #[arg(long, value_name = "STATE,...", value_delimiter = ',')]
    pub state: Vec<State>,

    /// Only tasks seen in the same state for this long; gordian watches as long to know.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub older_than: Option<Duration>,

    /// Only groups of which there are more after this long than there were before, those that grew most first: what leaks.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, conflicts_with_all = ["all", "format"])]
    pub grown: Option<Duration>,

    /// At most so many groups or tasks.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,

    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,

    /// How to print them as text; `goroutines` is how a Go program prints its own, which other tools read.
    #[arg(long, value_name = "FORM", default_value = "page", conflicts_with = "json")]
    pub format: Form,

    /// How to watch.
    #[command(flatten)]
    pub watch: Watch,
}

/// Forms of text for tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people.
    Page,
    /// `goroutine 18 [chan receive, 5 minutes]:`, one by one.
    Goroutines,
}

/// [`TaskState`] as a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum State {
    /// Being polled.
    Running,
    /// Woken, not yet polled.
    Scheduled,
    /// Waits for a wake.
    Suspended,
    /// Its poll blocks a thread.
    Blocked,
    /// Finished; kept for its join handle.
    Complete,
    /// Could not be told.
    Unknown,
}

impl From<State> for TaskState {
    fn from(state: State) -> Self {
        match state {
            State::Running => Self::Running,
            State::Scheduled => Self::Scheduled,
            State::Suspended => Self::Suspended,
            State::Blocked => Self::Blocked,
            State::Complete => Self::Complete,
            State::Unknown => Self::Unknown,
        }
    }
}

/// `gordian check`.
#[derive(Debug, Args)]
pub struct Check {
    /// Pid, name, container id, capture or core file.
    pub target: String,

    /// Watch this long, also past a permanent finding. Without it: 2 s, or until a permanent finding.
    #[arg(long = "for", value_name = "SECONDS", value_parser = seconds)]
    pub duration: Option<Duration>,

    /// Kinds that make the exit status 1: a list, or `all` (every kind but stalled).
    #[arg(long, value_name = "KIND,...", value_parser = fail_on, default_value = "deadlock,orphaned,undriven")]
    pub fail_on: FailOn,

    /// Print one JSON object at the end.
    #[arg(long, conflicts_with = "jsonl")]
    pub json: bool,

    /// Print a line of JSON for each finding as it forms, and one at the end.
    #[arg(long)]
    pub jsonl: bool,

    /// Also watch waits and wakes inside the runtime by uprobes, within --max-overhead.
    #[arg(long)]
    pub trace_waits: bool,

    /// How to watch.
    #[command(flatten)]
    pub watch: Watch,
}

/// Kinds of finding in `--fail-on`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailOn(pub Vec<FindingKind>);

/// `gordian flame`.
#[derive(Debug, Args)]
pub struct Flame {
    /// Pid, name or container id.
    pub target: String,

    /// Write the SVG here; `-` is standard output.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,

    /// Sample this long.
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds, default_value = "5")]
    pub duration: Duration,

    /// Samples per second and CPU.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000), default_value_t = 99)]
    pub hz: u32,

    /// Where threads spend CPU time (the default, and so far the only kind).
    #[arg(long)]
    pub on_cpu: bool,

    /// Where debuginfo is.
    #[command(flatten)]
    pub debuginfo: Debuginfo,
}

/// How to watch.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct Watch {
    /// Load no kernel programs, only read memory. Deadlocks are found all the same; short blocks of workers are not.
    #[arg(long)]
    pub no_bpf: bool,

    /// Detach the probes inside the runtime when they cost the target more than this share of its CPU time [default: 1].
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub max_overhead: Option<f64>,

    /// Stop the process for each read, some milliseconds, and say for how long: nothing moves while it is read. Its waiting
    /// system calls are interrupted, so locks between threads support no verdict.
    #[arg(long)]
    pub freeze: bool,

    /// A worker that blocks this long inside one poll is a `blocked-worker` [default: 0.1].
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub blocked_after: Option<Duration>,

    /// A task that waits this long for what others hold is `stalled` [default: 30].
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub stalled_after: Option<Duration>,

    /// A semaphore that the same tasks hold this long, with others queueing, is `exhausted` [default: 10].
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub exhausted_after: Option<Duration>,

    /// A task that is ready this long while its runtime polls others on and on is `starved` [default: 1].
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub starved_after: Option<Duration>,

    /// Tasks of a kind that pile up over this long are a `leak` [default: 10].
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub leak_after: Option<Duration>,

    /// Where debuginfo is.
    #[command(flatten)]
    pub debuginfo: Debuginfo,
}

impl Watch {
    /// The thresholds, each as its flag says.
    pub fn thresholds(&self) -> Thresholds {
        let usual = Thresholds::default();
        Thresholds {
            blocked_worker: self.blocked_after.unwrap_or(usual.blocked_worker),
            stalled: self.stalled_after.unwrap_or(usual.stalled),
            exhausted: self.exhausted_after.unwrap_or(usual.exhausted),
            starved: self.starved_after.unwrap_or(usual.starved),
            leak: self.leak_after.unwrap_or(usual.leak),
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    // A day is longer than anyone watches, and keeps every later sum in range.
    match text.parse::<f64>() {
        Ok(s) if s > 0.0 && s <= 86_400.0 => Ok(Duration::from_secs_f64(s)),
        _ => Err("give seconds, more than 0 and at most 86400".into()),
    }
}

fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse::<f64>() {
        Ok(share) if (0.0..=100.0).contains(&share) => Ok(share),
        _ => Err("give percent, from 0 to 100".into()),
    }
}

fn fail_on(text: &str) -> Result<FailOn, String> {
    if text == "all" {
        return Ok(FailOn(FindingKind::ALL.into_iter().filter(|&kind| kind != FindingKind::Stalled).collect()));
    }
    let kind = |name: &str| {
        let known = FindingKind::ALL.into_iter().find(|kind| kind.name() == name);
        known.ok_or_else(|| {
            let names = FindingKind::ALL.map(FindingKind::name).join(", ");
            format!("`{name}` is no kind of finding; the kinds are {names}, or `all`")
        })
    };
    text.split(',').map(str::trim).map(kind).collect::<Result<_, _>>().map(FailOn)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[track_caller]
    fn refused(line: &str) -> String {
        parse(line).unwrap_err().to_string()
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_bare_target_is_the_live_view() {
        let cli = parse("gordian 42").unwrap();
        assert_eq!((cli.target.as_deref(), cli.command.is_none()), (Some("42"), true));
        assert!(refused("gordian").contains("TARGET"));
    }

    #[test]
    fn check_takes_the_flags_of_the_contract() {
        let cli = parse("gordian check svc --for 0.5 --fail-on deadlock,blocked-worker --json --verbose").unwrap();
        let Some(Command::Check(check)) = cli.command else { panic!("{:?}", cli.command) };
        assert_eq!(check.duration, Some(Duration::from_millis(500)));
        assert_eq!(check.fail_on.0, [FindingKind::Deadlock, FindingKind::BlockedWorker]);
        assert!(check.json && cli.global.verbose);
    }

    #[test]
    fn fail_on_has_the_permanent_kinds_by_default_and_all_leaves_stalled_out() {
        let kinds = |line| match parse(line).unwrap().command {
            Some(Command::Check(check)) => check.fail_on.0,
            other => panic!("{other:?}"),
        };
        assert!(kinds("gordian check 1").iter().all(|kind| kind.is_permanent()));
        assert_eq!(kinds("gordian check 1").len(), 3);
        let all = kinds("gordian check 1 --fail-on all");
        assert!(all.len() == 7 && !all.contains(&FindingKind::Stalled));
    }

    #[test]
    fn every_threshold_has_a_flag_and_its_help_tells_the_default() {
        let cli = parse("gordian check 1 --blocked-after 0.5 --stalled-after 60 --exhausted-after 7 --starved-after 3 --leak-after 20")
            .unwrap();
        let Some(Command::Check(check)) = cli.command else { panic!("{:?}", cli.command) };
        let Thresholds { blocked_worker, stalled, exhausted, starved, leak } = check.watch.thresholds();
        let seconds = [stalled, exhausted, starved, leak].map(|threshold| threshold.as_secs());
        assert_eq!((blocked_worker.as_millis(), seconds), (500, [60, 7, 3, 20]));
        let help = refused("gordian check --help");
        let Thresholds { blocked_worker, stalled, exhausted, starved, leak } = Thresholds::default();
        for default in [blocked_worker, stalled, exhausted, starved, leak] {
            assert!(help.contains(&format!("[default: {}]", default.as_secs_f64())), "{help}");
        }
    }

    #[test]
    fn nothing_before_a_command_is_passed_over_in_silence() {
        let contradiction = |line| parse(line).unwrap().contradiction();
        assert!(contradiction("gordian 7 check 8").unwrap().contains("`7`"));
        assert!(contradiction("gordian --no-bpf check 8").unwrap().contains("after the command"));
        assert_eq!(contradiction("gordian --verbose check 8 --no-bpf"), None);
        assert_eq!(contradiction("gordian --no-bpf 8"), None);
    }

    #[test]
    fn nonsense_is_refused_with_the_reason() {
        assert!(refused("gordian check 1 --fail-on deadlok").contains("the kinds are deadlock, orphaned"));
        for bad in ["0", "-1", "NaN", "inf", "1e9", "soon"] {
            assert!(refused(&format!("gordian check 1 --for={bad}")).contains("give seconds"), "{bad}");
        }
        assert!(refused("gordian check 1 --json --jsonl").contains("cannot be used with"));
        assert!(refused("gordian tasks 1 --state asleep").contains("possible values"));
        assert!(refused("gordian flame 1").contains("--output"));
        assert!(refused("gordian 1 --max-overhead 101").contains("give percent"));
    }
}
