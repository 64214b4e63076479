//! The loader's configuration, read field by field.

use profiler_common::Config;

/// Overwritten by the loader before the kernel sees it, and frozen: every field is a constant to the verifier.
#[unsafe(no_mangle)]
pub static CONFIG: Config = Config::EMPTY;

/// Reads one field of [`CONFIG`], which the compiler would otherwise take for the zero it was built with.
macro_rules! config {
    ($($field:tt)+) => {
        // SAFETY: a reference to a static is valid for reads.
        unsafe { core::ptr::read_volatile(&raw const $crate::config::CONFIG.$($field)+) }
    };
}
pub(crate) use config;
