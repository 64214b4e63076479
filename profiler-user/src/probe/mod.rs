//! Loads and attaches the kernel programs and hands out their events.
