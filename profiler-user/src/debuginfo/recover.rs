//! Names of inlined functions where line tables are all there is.
//!
//! With `debug = "line-tables-only"`, as the standard library itself is built, rustc writes an inlined function's bare
//! name and nothing of where it stands: `{async_fn#0}`, `from_waker`. Two things still tell:
//! - who polls a future by value has its type among its own generics, and `.await` leaves an inlined `into_future<X>`
//!   with the very same call site as the poll of `X`;
//! - the source files of the standard library and of cargo's registry lie in directories named after crate and modules.
//!
//! Where neither does, the name says no more than what is known: `async fn`, `from_waker`.

use gimli::AttributeValue;

use super::dwarf::{Dwarf, Slice, reference};
use super::name;

/// Inlined calls of one function that are looked at.
const MOST_SIBLINGS: usize = 4096;

/// An inlined function, or the one it is inlined into: its DIE in `.debug_info`, and the name that DIE has.
#[derive(Clone, Debug)]
pub(super) struct Bare {
    pub(super) die: Option<usize>,
    pub(super) name: String,
}

/// The contract name of an inlined function whose DIE says only its bare name, or the most that can be said.
pub(super) fn name_of(dwarf: &Dwarf, function: &Bare, caller: Option<&Bare>, file: Option<&str>) -> String {
    let Some(body) = function.name.strip_prefix('{') else {
        let own = name::function(&function.name);
        return file.and_then(module_of).map_or_else(|| own.clone(), |module| format!("{module}::{own}"));
    };
    // The body `{async_fn#0}<u32>` is that of the type `{async_fn_env#0}<u32>`.
    let future = body.split_once('#').map(|(kind, rest)| format!("{{{kind}_env#{rest}"));
    let caller = caller.zip(future.as_deref());
    let owner =
        caller.and_then(|(caller, future)| awaited(dwarf, function, caller, future).or_else(|| polled(caller, future)));
    owner.unwrap_or_else(|| readable(body).to_owned())
}

/// The future that the caller awaits at the very place where it polls `function`.
fn awaited(dwarf: &Dwarf, function: &Bare, caller: &Bare, future: &str) -> Option<String> {
    let (unit, polled) = dwarf.locate(function.die?)?;
    let place = call_site(&unit.entry(polled).ok()?)?;
    let (unit, within) = dwarf.locate(caller.die?)?;
    let mut tree = unit.entries_tree(Some(within)).ok()?;
    let mut children = tree.root().ok()?.children();
    let mut found = None;
    for _ in 0..MOST_SIBLINGS {
        let Some(child) = children.next().ok()? else { break };
        let die = child.entry();
        if die.tag() != gimli::DW_TAG_inlined_subroutine || call_site(die) != Some(place) {
            continue;
        }
        let origin = die.attr_value(gimli::DW_AT_abstract_origin).and_then(|value| reference(&unit, &value));
        let origin = origin.and_then(|origin| dwarf.function_name(origin));
        if let Some(origin) = origin.filter(|origin| origin.starts_with("into_future<")) {
            let [of] = name::generics(&origin)[..] else { continue };
            if ends_in(of, future) {
                found = Some(name::type_name(of));
            }
        }
    }
    found
}

/// The only future of that spelling among the generics of a caller that is no coroutine itself.
fn polled(caller: &Bare, future: &str) -> Option<String> {
    if name::is_coroutine(&caller.name) {
        return None;
    }
    let mut fitting = name::generics(&caller.name).into_iter().filter(|generic| ends_in(generic, future));
    let only = fitting.next()?;
    fitting.all(|other| other == only).then(|| name::type_name(only))
}

fn ends_in(path: &str, last: &str) -> bool {
    path.strip_suffix(last).is_some_and(|rest| rest.ends_with("::"))
}

/// File, line and column of a call.
fn call_site(die: &gimli::DebuggingInformationEntry<Slice>) -> Option<(u64, u64, u64)> {
    let number = |attribute| match die.attr_value(attribute)? {
        AttributeValue::FileIndex(index) => Some(index),
        value => value.udata_value(),
    };
    let column = number(gimli::DW_AT_call_column).unwrap_or(0);
    Some((number(gimli::DW_AT_call_file)?, number(gimli::DW_AT_call_line)?, column))
}

/// What can be said of `async_fn#0}`.
fn readable(body: &str) -> &'static str {
    let kind = body.split('#').next().unwrap_or_default();
    match kind {
        "async_fn" => "async fn",
        "async_block" => "async block",
        "async_closure" => "async closure",
        "closure" => "closure",
        _ => "coroutine",
    }
}

/// The path of the module in a source file of the standard library or of a crate from a registry:
/// `…/library/core/src/task/wake.rs` is `core::task::wake`, `…/registry/src/…/tokio-1.54.1/src/sync/mutex.rs`
/// `tokio::sync::mutex`. Other files do not say which crate they belong to.
fn module_of(file: &str) -> Option<String> {
    let (around, inside) = file.rsplit_once("/src/")?;
    let (above, directory) = around.rsplit_once('/')?;
    let krate = if above.ends_with("/library") && (above.starts_with("/rustc/") || above.contains("/rustlib/src/rust/"))
    {
        directory.to_owned()
    } else if above.contains("/registry/src/") {
        // The version begins at the first hyphen with a digit after it.
        let version = directory
            .match_indices('-')
            .find(|(at, _)| directory[at + 1..].starts_with(|c: char| c.is_ascii_digit()))?;
        directory[..version.0].replace('-', "_")
    } else {
        return None;
    };
    let modules = inside.strip_suffix(".rs")?.split('/').filter(|module| !matches!(*module, "mod" | "lib"));
    Some(modules.fold(krate, |path, module| path + "::" + module))
}

#[cfg(test)]
mod tests {
    use super::module_of;

    #[test]
    fn files_of_known_layout_tell_their_module() {
        let of = |file: &str| module_of(file);
        let core = "/rustc/59807616e1fa2540724bfbac14d7976d7e4a3860/library/core/src/task/wake.rs";
        assert_eq!(of(core).as_deref(), Some("core::task::wake"));
        let here = "/home/me/.rustup/toolchains/stable/lib/rustlib/src/rust/library/std/src/sys/sync/mutex/mod.rs";
        assert_eq!(of(here).as_deref(), Some("std::sys::sync::mutex"));
        let tokio = "/home/me/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/tokio-1.54.1/src/sync/mutex.rs";
        assert_eq!(of(tokio).as_deref(), Some("tokio::sync::mutex"));
        let hyphens = "/c/registry/src/index.crates.io-1/h2-over-tcp-0.4.0-rc.1/src/lib.rs";
        assert_eq!(of(hyphens).as_deref(), Some("h2_over_tcp"));
        for unknown in ["/home/me/app/src/main.rs", "src/main.rs", "main.rs", "", "/library/core/src/task/wake.rs"] {
            assert_eq!(of(unknown), None, "{unknown}");
        }
    }
}
