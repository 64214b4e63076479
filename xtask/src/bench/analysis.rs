//! How long the analysis takes on a million tasks, by `profiler-user/examples/analysis_scale.rs`.

use std::fmt::Write;

use anyhow::{Context, Result, ensure};

use crate::programs::{cargo, repository};

/// The section of the page, in Markdown.
pub(super) fn section() -> Result<String> {
    let arguments = ["run", "--release", "--locked", "--package", "profiler-user", "--example", "analysis_scale"];
    let output = cargo(repository()).args(arguments).output().context("cannot run cargo")?;
    ensure!(output.status.success(), "analysis_scale failed: {}", String::from_utf8_lossy(&output.stderr));
    table(&String::from_utf8_lossy(&output.stdout))
}

/// The table of what the example prints: a line for each shape, with tabs between its columns.
fn table(printed: &str) -> Result<String> {
    let mut section = String::from(
        "\n## Analysis of a million tasks\n\n\
         Two equal snapshots to findings, one thread; the median of three runs in CPU time. Goal: under 1 s.\n\n\
         | shape | tasks | waits | holds | findings | CPU |\n|---|---|---|---|---|---|\n",
    );
    for line in printed.lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        ensure!(columns.len() == 6, "analysis_scale printed {line:?}");
        let _infallible = writeln!(section, "| {} s |", columns.join(" | "));
    }
    Ok(section)
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn lines_become_rows() {
        assert!(table("a ring\t9\t9\t9\t1\t0.250\n").unwrap().ends_with("\n| a ring | 9 | 9 | 9 | 1 | 0.250 s |\n"));
        assert!(table("error").is_err());
    }
}
