//! An interpreter of target code over a copy-on-write view of its memory. Nothing in the target runs or is written.
