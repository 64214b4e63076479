//! One name for a function or a future in every build.
//!
//! A function has a different name in each place that speaks of it. What rustc 1.95 writes for one async method:
//!
//! | place | name |
//! |---|---|
//! | symbol, legacy mangling | `app::bank::Account<T>::transfer::{{closure}}::h110591aa854ce254` |
//! | symbol, v0 mangling (the default of 1.95) | `<app::bank::Account<u32>>::transfer::{closure#0}` |
//! | type in DWARF | `app::bank::{impl#0}::transfer::{async_fn_env#0}<u32>` |
//! | [`function`], [`type_name`] | `app::bank::Account::transfer` |
//!
//! The rules:
//! - closures, coroutines, shims, generics, lifetimes and hashes are left out;
//! - a method is named after its type: `<T as Trait>::method` is `T::method`;
//! - where `T` has no name of its own (a reference, a slice, a type parameter), the trait takes its place;
//! - a method that a trait provides itself belongs to the trait.
//!
//! Two builds can still differ where the compiler leaves out what would decide: v0 names a blanket impl after the type
//! it was used with, legacy after nothing; and DWARF writes `{impl#0}` for the type of an impl block, so
//! [`type_name`] of such a name lacks the type.

mod path;
#[cfg(test)]
mod tests;
mod types;
mod v0;

use std::borrow::Cow;

pub use types::type_name;

/// The contract name of a function: `krate::module::function`.
///
/// Takes a mangled symbol, a demangled name, or a path as DWARF has it. What is no Rust name comes back as it is.
pub fn function(name: &str) -> String {
    both(name).0
}

/// [`function`] and [`demangled`] of one name, for the price of one.
pub(super) fn both(name: &str) -> (String, String) {
    let demangled = demangled(name);
    let hint = v0::impl_of(name);
    let found = path::contract(&demangled, hint.as_ref());
    (if found.is_empty() { demangled.clone() } else { found }, demangled)
}

/// The full demangled name, without hashes; the name itself where it is not mangled.
pub fn demangled(name: &str) -> String {
    addr2line::demangle_auto(Cow::Borrowed(name), None).into_owned()
}

/// The generic arguments at the end of a name, one by one: `A<x>` and `B` of `poll<A<x>, B>`.
pub fn generics(name: &str) -> Vec<&str> {
    let last = path::segments(name).last().copied().unwrap_or_default();
    let arguments = types::generics(last).map(|arguments| path::split(arguments, ",")).unwrap_or_default();
    arguments.into_iter().map(str::trim).filter(|argument| !argument.is_empty()).collect()
}

/// Whether a name is mangled as Rust does, which makes it complete.
pub fn is_mangled(name: &str) -> bool {
    rustc_demangle::try_demangle(name).is_ok()
}

/// Whether the function is a closure's or a coroutine's body, or something inside one. Symbols do not tell the two apart.
pub fn is_closure(name: &str) -> bool {
    path::segments(&demangled(name)).into_iter().any(path::is_closure)
}

/// Whether the name that DWARF has for a function (`{async_fn#0}<u32>`) or its type (`{async_fn_env#0}<u32>`) is a
/// coroutine's.
pub fn is_coroutine(die_name: &str) -> bool {
    path::segments(die_name).last().is_some_and(|last| path::is_coroutine(last))
}
