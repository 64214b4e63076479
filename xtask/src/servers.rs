//! `cargo xtask servers`: gordian beside servers that others wrote and published, built unmodified, and beside a service with a
//! real PostgreSQL; under load, none of them is accused. Then the pool of the last is exhausted, and the finding must say by whom.

mod load;
mod postgres;
mod running;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    programs::{Fixture, Fixtures, build_fixtures, build_gordian, cargo, repository, succeed, target_directory},
    soak::{Looks, Tally, check},
};
use load::{Load, Protocol};
use postgres::Postgres;
use running::{Running, free_port};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Checks of each server
    #[arg(long, default_value_t = 50)]
    checks: u32,
    /// Requests a second
    #[arg(long, default_value_t = 500)]
    rate: u32,
}

/// Crate, version, program, its arguments with `{port}` and `{folder}` to be filled in, and what it speaks. Between them: hyper
/// and axum on the multi-thread scheduler, actix on one current-thread runtime for each worker, and tokio by hand.
const PUBLISHED: [(&str, &str, &str, &[&str], Protocol); 3] = [
    ("mini-redis", "0.4.1", "mini-redis-server", &["--port", "{port}"], Protocol::Redis),
    ("dufs", "0.47.0", "dufs", &["--bind", "127.0.0.1", "--port", "{port}", "{folder}"], Protocol::Http),
    (
        "miniserve",
        "0.35.0",
        "miniserve",
        &["--interfaces", "127.0.0.1", "--port", "{port}", "{folder}"],
        Protocol::Http,
    ),
];

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let gordian = build_gordian()?;
    let load = build_fixtures("release", Fixtures::One("load"))?.join("load");
    let folder = target_directory().join("servers/files");
    std::fs::create_dir_all(&folder)?;
    // What the load asks for.
    std::fs::write(folder.join("orders"), "three\n")?;
    let mut all = Tally::default();
    for (package, version, program, typed, protocol) in PUBLISHED {
        let program = install(package, version)?.join(program);
        let port = free_port()?;
        let fill =
            |typed: &&str| typed.replace("{port}", &port.to_string()).replace("{folder}", &folder.to_string_lossy());
        let typed: Vec<String> = typed.iter().map(fill).collect();
        let server = Running::start(&program, &typed, port)?;
        let _load = Load::start(&load, protocol, port, arguments.rate);
        all.add(looks(&gordian, server.pid(), &format!("{package} {version}"), arguments.checks)?);
    }

    let bank = build_bank()?;
    let database = Postgres::start(&target_directory().join("servers"))?;
    {
        let service = Fixture::start_with(&bank, &[database.socket(), "careful"])?;
        let _load = Load::start(&load, Protocol::Http, port_of(&service)?, arguments.rate);
        all.add(looks(&gordian, service.pid(), "bank on PostgreSQL", arguments.checks)?);
    }
    println!("all: {all}");
    all.acquit()?;
    let service = Fixture::start_with(&bank, &[database.socket(), "greedy"])?;
    let _load = Load::start(&load, Protocol::Http, port_of(&service)?, arguments.rate);
    exhausted(&gordian, service.pid())
}

fn port_of(service: &Fixture) -> Result<u16> {
    Ok(u16::try_from(service.port()?)?)
}

fn looks(gordian: &Path, pid: u32, name: &str, checks: u32) -> Result<Tally> {
    let mut tally = Tally::default();
    tally.look(&Looks { gordian, checks, flags: &[] }, pid, name)?;
    println!("{name}: {tally}");
    Ok(tally)
}

/// Builds a published program as anybody would, so with the newest libraries that it allows, and says where its programs are.
fn install(package: &str, version: &str) -> Result<PathBuf> {
    let root = target_directory().join("servers");
    let mut command = cargo(repository());
    command.args(["install", "--root"]).arg(&root).arg(format!("{package}@{version}"));
    succeed(&mut command)?;
    Ok(root.join("bin"))
}

fn build_bank() -> Result<PathBuf> {
    let target = target_directory().join("servers/build");
    let mut command = cargo(&repository().join("tests/servers/bank"));
    succeed(command.args(["build", "--locked", "--release", "--target-dir"]).arg(&target))?;
    Ok(target.join("release/bank"))
}

/// Every connection is with somebody who waits for another one; the finding must name the function that has them.
fn exhausted(gordian: &Path, pid: u32) -> Result<()> {
    // The pool fills within a request or two; that it is exhausted shows when nobody gives back for ten seconds.
    for _ in 0..3 {
        let document = check(gordian, pid, &["--for", "15"])?;
        let findings = document["findings"].as_array().context("a document has findings")?;
        let Some(finding) = findings.iter().find(|finding| finding["kind"] != "stalled") else { continue };
        println!("exhausted pool: {} ({}): {}", finding["kind"], finding["certainty"], finding["summary"]);
        let mut sites = finding["edges"].as_array().into_iter().flatten().map(|edge| &edge["hold_site"]["function"]);
        let is_named = sites.any(|site| site.as_str().is_some_and(|site| site.starts_with("bank::transfer")));
        ensure!(is_named, "nobody is said to hold the connections: {finding:#}");
        return Ok(());
    }
    bail!("the exhausted pool was not found")
}
