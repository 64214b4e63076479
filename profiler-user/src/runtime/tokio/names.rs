//! The type of a task's future, from whatever the binary still says.
//!
//! | binary | where the type is |
//! |---|---|
//! | type DWARF | template parameters of `raw::poll<T, S>` |
//! | v0 mangling | the symbol `raw::poll::<T, S>` itself |
//! | legacy mangling | the destructor calls `drop_in_place<Cell<T, S>>` or the like, whose symbol names it |

use std::sync::Arc;

use super::classify::{self, Role};
use crate::debuginfo::{Module, name};

/// The future's type, by what the poll function itself says.
pub(super) fn of_poll(module: &Module, poll: u64) -> Option<Arc<str>> {
    if let Some(symbol) = module.symbol_at(poll) {
        let full = name::demangled(symbol.name);
        if let Some(arguments) = full.split_once("raw::poll::<").map(|(_, rest)| rest) {
            return Some(name::type_name(first_argument(arguments)).into());
        }
    }
    let subprogram = module.subprogram_at(poll)?;
    subprogram.template_types.first().map(|future| name::type_name(future).into())
}

/// The future's type, by a function between the scheduler and the future: one that was made for that type alone.
pub(super) fn of_wrapper(module: &Module, address: u64) -> Option<Arc<str>> {
    let symbol = module.symbol_at(address)?;
    if classify::role(&name::function(symbol.name)) != Some(Role::TaskPoll) {
        return None;
    }
    let full = name::demangled(symbol.name);
    let by_symbol = WRAPPERS.iter().find_map(|wrapper| full.split_once(wrapper)).map(|(_, rest)| first_argument(rest));
    // Legacy mangling writes the parameter, not what it stands for.
    if let Some(future) = by_symbol.filter(|future| *future != "T") {
        return Some(name::type_name(future).into());
    }
    let subprogram = module.subprogram_at(address)?;
    subprogram.template_types.first().map(|future| name::type_name(future).into())
}

/// The wrappers as v0 symbols spell them: their first argument is the future.
const WRAPPERS: &[&str] = &[
    "tokio::runtime::task::harness::Harness<",
    "tokio::runtime::task::core::Core<",
    "tokio::runtime::task::raw::poll::<",
];

/// Types around a future that a destructor's symbol can name, outermost first: the future is their first argument.
const AROUND: &[&str] = &[
    "tokio::runtime::task::core::Cell<",
    "tokio::runtime::task::core::CoreStage<",
    "tokio::runtime::task::core::Stage<",
    "tokio::runtime::task::core::Core<",
];

/// The future's type, by the functions that its destructor called, outermost first, and the function that told: where the
/// linker has folded equal code into one, it tells of one type and serves several.
pub(super) fn of_destructor(modules: &[Module], functions: &[u64]) -> Option<(u64, Arc<str>)> {
    let names: Vec<(u64, String)> = functions
        .iter()
        .filter_map(|address| {
            let symbol = modules.iter().find_map(|module| module.symbol_at(*address))?;
            Some((*address, name::demangled(symbol.name)))
        })
        .collect();
    let around = |name: &'_ str| AROUND.iter().find_map(|around| name.find(around).map(|at| at + around.len()));
    names
        .iter()
        .find_map(|(function, name)| Some((*function, first_argument(&name[around(name)?..]))))
        .filter(|(_, future)| *future != "T")
        .or_else(|| {
            let mut dropped = names.iter().filter_map(|(function, name)| Some((*function, dropped_type(name)?)));
            dropped.next().filter(|(_, dropped)| is_coroutine(dropped))
        })
        .map(|(function, future)| (function, name::type_name(future).into()))
}

/// `X` of `core::ptr::drop_in_place<X>`, in either mangling's spelling.
pub(super) fn dropped_type(full: &str) -> Option<&str> {
    let rest = full.strip_prefix("core::ptr::drop_in_place")?;
    Some(first_argument(rest.strip_prefix("::<").or_else(|| rest.strip_prefix('<'))?))
}

/// Whether the function around `address` drops any of several async functions' states: where the compiler has folded what is
/// equal, its name says nothing.
pub(super) fn is_folded(modules: &[Module], address: u64) -> bool {
    let Some(module) = modules.iter().find(|module| module.contains(address)) else { return false };
    let Some(start) = module.symbol_at(address).map(|symbol| symbol.address) else { return false };
    let mut states: Vec<String> = module
        .symbols_at(start)
        .filter_map(|symbol| {
            dropped_type(&name::demangled(symbol.name)).filter(|state| is_coroutine(state)).map(str::to_owned)
        })
        .collect();
    states.sort_unstable();
    states.dedup();
    states.len() > 1
}

/// Whether a type's full name is that of an async fn's or block's future.
pub(super) fn is_coroutine(full: &str) -> bool {
    full.ends_with("{{closure}}") || full.contains("{async_") || full.ends_with("{closure#0}")
}

/// `krate::Trait::method` of the coroutine `<X as krate::Trait<..>>::method::{{closure}}`.
pub(super) fn by_trait(full: &str) -> Option<String> {
    let inside = full.strip_prefix('<').map(first_argument)?;
    let method = full.get(inside.len() + 2..)?.trim_start_matches("::").split("::").next()?;
    let (_, path) = inside.rsplit_once(" as ")?;
    let path = path.split('<').next()?;
    Some(format!("{path}::{method}"))
}

/// The first generic argument of a list that has just been opened.
fn first_argument(list: &str) -> &str {
    let mut depth = 0_i32;
    let mut previous = ' ';
    for (at, character) in list.char_indices() {
        match character {
            '<' | '(' | '[' | '{' => depth += 1,
            // `->` of a function type closes nothing.
            '>' if previous == '-' => {}
            '>' | ')' | ']' | '}' if depth > 0 => depth -= 1,
            '>' | ',' if depth == 0 => return list[..at].trim(),
            _ => {}
        }
        previous = character;
    }
    list.trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_argument_ends_where_its_list_does() {
        assert_eq!(first_argument("a::B<c, d>, e>"), "a::B<c, d>");
        assert_eq!(first_argument("app::f::{{closure}},alloc::sync::Arc<x>>"), "app::f::{{closure}}");
        assert_eq!(first_argument("fn(u8) -> u8>"), "fn(u8) -> u8");
        assert_eq!(first_argument("(a, b)>>"), "(a, b)");
    }

    #[test]
    fn a_method_of_a_trait_is_called_by_it() {
        let call = "<app::cart as axum::handler::Handler<((), State),App>>::call::{{closure}}";
        assert_eq!(by_trait(call).as_deref(), Some("axum::handler::Handler::call"));
        assert_eq!(by_trait("app::cart::{{closure}}"), None);
    }

    #[test]
    fn drops_name_what_they_drop() {
        assert_eq!(dropped_type("core::ptr::drop_in_place<app::f::{{closure}}>"), Some("app::f::{{closure}}"));
        assert_eq!(dropped_type("core::ptr::drop_in_place::<app::f::{closure#0}>"), Some("app::f::{closure#0}"));
        assert_eq!(dropped_type("app::f"), None);
    }
}
