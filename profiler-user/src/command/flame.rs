//! `gordian flame`: where the CPU time goes, as a flamegraph.

use std::{fs, path::Path};

use anyhow::{Context, bail};

use super::{
    args::Flame,
    output::{Output, Status},
    target,
};
use crate::{
    export::{
        escape,
        flamegraph::{self, Caption, FlamegraphError},
    },
    session::{OnCpuProfile, ProfileOptions, on_cpu_profile},
};

/// Runs it.
pub(super) fn run(flame: &Flame, output: Output) -> anyhow::Result<Status> {
    let to_stdout = flame.output == Path::new("-");
    if !to_stdout {
        writable(&flame.output)?;
    }
    let pid = target::resolve(&flame.target)?;
    let options = ProfileOptions { duration: flame.duration, hz: flame.hz.into(), places: flame.debuginfo.places()? };
    let sampled = on_cpu_profile(pid, &options)?;
    if let Some(why) = &sampled.ended {
        output.note(why);
    }
    let mut svg = Vec::new();
    match flamegraph::svg(&sampled.profile.folded(), &caption(pid, &sampled), &mut svg) {
        Err(FlamegraphError::Empty) => bail!(
            "nothing was drawn: process {pid} used no CPU in {:.1} s that was sampled; give it work, or sample longer (-d)",
            sampled.seconds
        ),
        drawn => drawn?,
    }
    if to_stdout {
        output.print(&String::from_utf8(svg).context("the flamegraph is not text")?)?;
    } else {
        fs::write(&flame.output, svg).with_context(|| format!("cannot write {}", flame.output.display()))?;
        output.note(&format!(
            "{} samples of {:.1} s are in {}",
            sampled.profile.total,
            sampled.seconds,
            flame.output.display()
        ));
    }
    Ok(Status::Fine)
}

/// Says before the sampling what would be known only after it.
fn writable(path: &Path) -> anyhow::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if path.is_dir() || !directory.is_dir() {
        bail!("cannot write {}: give a file in a directory that exists", path.display());
    }
    Ok(())
}

fn caption(pid: i32, sampled: &OnCpuProfile) -> Caption {
    let profile = &sampled.profile;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let mut told = vec![format!("{} samples in {:.1} s", profile.total, sampled.seconds)];
    told.extend(sampled.runtimes.iter().cloned());
    if profile.incomplete > 0 {
        told.push(format!("{} without their root", profile.incomplete));
    }
    if profile.lost > 0 {
        told.push(format!("{} lost", profile.lost));
    }
    Caption {
        title: format!("On CPU: {} (pid {pid})", escape(name.trim_end())),
        subtitle: Some(told.join(", ")),
        unit: "samples".into(),
    }
}
