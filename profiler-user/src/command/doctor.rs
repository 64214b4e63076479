//! `gordian doctor`: what this kernel and these privileges allow.

use std::fs;

use super::output::{Output, Status};
use crate::{
    export::page::{Ink, Page},
    probe::{Feature, features},
    target::{Capability, lacking, remedy},
};

/// Runs it.
pub(super) fn run(output: Output) -> anyhow::Result<Status> {
    let mut page = output.page();
    page.line(format_args!("gordian {} on Linux {}, {}", env!("CARGO_PKG_VERSION"), release(), std::env::consts::ARCH));
    page.blank();
    rows(&mut page, &reading(), &features());
    output.print(&page.into_text())?;
    Ok(Status::Fine)
}

fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").map_or("?".into(), |release| release.trim().to_owned())
}

/// Whose memory may be read, which is all that snapshots and their findings need.
fn reading() -> Feature {
    let lacking = lacking([Capability::SysPtrace]);
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok();
    let state = match scope.as_deref().map(str::trim) {
        _ if lacking.is_empty() => Ok(()),
        Some(scope @ ("1" | "2" | "3")) => Err(format!(
            "only gordian's own children at most, for kernel.yama.ptrace_scope is {scope}: {}",
            remedy(&lacking)
        )),
        _ => Err(format!("only processes of the same user: {}", remedy(&lacking))),
    };
    Feature { name: "reading any process", gives: "snapshots: tasks, locks, deadlocks", state }
}

fn rows(page: &mut Page, reading: &Feature, kernel: &[Feature]) {
    let all = || std::iter::once(reading).chain(kernel);
    let widest = all().map(|feature| feature.name.len()).max().unwrap_or(0);
    let mut said = None;
    for feature in all() {
        let (ink, word) = if feature.state.is_ok() { (Ink::Good, "yes") } else { (Ink::Warn, "no") };
        page.put(ink, word).tab(5).put(Ink::Strong, feature.name).tab(5 + widest + 2).add(feature.gives).end();
        // One cause often takes several features away: it is said once.
        let why = feature.state.as_ref().err();
        if let Some(why) = why.filter(|_| why != said) {
            page.indent(5).put(Ink::Warn, why).end();
        }
        said = why.or(said);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_says_why_below_it() {
        let there = Feature { name: "reading", gives: "snapshots", state: Ok(()) };
        let missing = Feature { name: "sampling", gives: "flamegraphs", state: Err("needs CAP_PERFMON".into()) };
        let mut page = Page::new(false);
        let same = Feature { name: "uprobes", ..missing.clone() };
        rows(&mut page, &there, &[missing, same]);
        let expected = "yes  reading   snapshots\nno   sampling  flamegraphs\n     needs CAP_PERFMON\nno   uprobes   flamegraphs\n";
        assert_eq!(page.into_text(), expected);
    }
}
