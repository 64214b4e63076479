//! The page that the figures go to.

use std::{fmt::Write, fs, process::Command};

use super::{
    Arguments, Runs, Series,
    measure::{Attachment, Pair},
    stats::{Estimate, estimate, median},
};

/// The goal: the median may be so much above 1, and the upper bound of its interval so much.
const MEDIAN_AT_MOST: f64 = 1.01;
const HIGH_AT_MOST: f64 = 1.03;

/// The whole page, in Markdown.
pub(super) fn page(all: &[Series], first: &[(String, Vec<f64>)], arguments: &Arguments) -> String {
    let mut page = String::from("# What gordian costs\n\n");
    let Arguments { runs: Runs { pairs, seconds, rate, connections }, findings, .. } = arguments;
    let load = if *rate == 0 { "as fast as answers come".into() } else { format!("{rate} requests a second") };
    let _infallible = writeln!(
        page,
        "Written by `cargo xtask bench --pairs {pairs} --seconds {seconds} --rate {rate} --connections {connections} \
         --findings {findings}` on {}, {}.\n\n\
         The fixture `http` (hyper on Tokio's multi-thread scheduler, release build) under {load} over {connections} \
         loopback connections, service and load on the same machine. Each row is {pairs} interleaved pairs of \
         {seconds} s, with and without gordian attached, in turning order; the load runs before that, and gordian is \
         attached, but for the row that counts its start as well. Ratios are with / without: the median of the pairs \
         and the 95% bootstrap interval of that median. The control is a pair without gordian on either \
         side: what it shows is noise. Kernel cost is the run time of gordian's programs by the kernel's own figures.\n",
        today(),
        machine(),
    );
    page.push_str("| attached | CPU per request | p99.9 latency | kernel programs, ns per request | CPU goal |\n");
    page.push_str("|---|---|---|---|---|\n");
    for series in all {
        row(&mut page, series);
    }
    let _infallible = write!(
        page,
        "\nGoal: median at most {MEDIAN_AT_MOST}, upper bound at most {HIGH_AT_MOST}. *Not resolved*: the interval \
         reaches past the goal and the noise does not say on which side the truth is.\n\n\
         ## From start to the first finding\n\n\
         `gordian check PID --jsonl` on a fresh process with a deadlock in it, {findings} times each; gordian starts afresh too and \
         keeps nothing between its runs, the files are in the kernel's page cache.\n\n\
         | target | median | slowest |\n|---|---|---|\n",
    );
    for (profile, seconds) in first {
        let slowest = seconds.iter().copied().fold(0.0, f64::max);
        let median = median(&mut seconds.clone()).unwrap_or_default();
        let _infallible = writeln!(page, "| {profile} | {median:.2} s | {slowest:.2} s |");
    }
    page
}

fn row(page: &mut String, series: &Series) {
    let kernel = median(&mut series.each(|pair| pair.with.kernel_ns_per_request)).unwrap_or_default();
    let kernel = if series.attachment == Attachment::Control { "–".to_owned() } else { format!("{kernel:.0}") };
    let [cpu, latency, verdict] = ratios(series);
    let _infallible = writeln!(page, "| {} | {cpu} | {latency} | {kernel} | {verdict} |", series.attachment.name());
}

/// CPU time of a request and its slowest latency, with gordian attached and without, and whether the goal is met.
pub(crate) fn ratios(series: &Series) -> [String; 3] {
    let cpu = estimate(&series.each(Pair::cpu_ratio));
    let verdict = match (series.attachment, cpu) {
        (Attachment::Control, _) | (_, None) => "–",
        (_, Some(cpu)) => verdict(cpu),
    };
    [shown(cpu), shown(estimate(&series.each(Pair::p999_ratio))), verdict.to_owned()]
}

pub(super) fn shown(estimate: Option<Estimate>) -> String {
    estimate.map_or_else(|| "–".into(), |Estimate { median, low, high }| format!("{median:.3} [{low:.3}–{high:.3}]"))
}

/// Whether the goal is met, missed, or lost in the noise.
fn verdict(cpu: Estimate) -> &'static str {
    if cpu.median <= MEDIAN_AT_MOST && cpu.high <= HIGH_AT_MOST {
        "met"
    } else if cpu.low > MEDIAN_AT_MOST {
        "missed"
    } else {
        "not resolved"
    }
}

pub(crate) fn today() -> String {
    let output = Command::new("date").args(["-u", "+%Y-%m-%d"]).output();
    output.map_or_else(|_| "an unknown day".into(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Processor, cores, kernel.
pub(crate) fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, model)| model);
    let cores = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} × {}, Linux {}", model.unwrap_or("unknown processor"), kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::{Estimate, verdict};

    #[test]
    fn noise_is_neither_met_nor_missed() {
        let of = |median, low, high| verdict(Estimate { median, low, high });
        assert_eq!(of(1.002, 0.99, 1.02), "met");
        assert_eq!(of(1.002, 0.96, 1.05), "not resolved");
        assert_eq!(of(1.02, 1.0, 1.029), "not resolved");
        assert_eq!(of(1.05, 1.02, 1.08), "missed");
    }
}
