//! gordian's kernel programs.
//!
//! None of them writes anything but its own maps. What they need to know of the target and of the kernel comes in
//! one read-only global, [`config`]; what they say leaves by the ring buffers, the map of threads and the counters
//! in [`maps`].
#![no_std]
#![no_main]

mod config;
mod context;
mod maps;
mod sample;
mod switch;
mod task;
mod tasks;
mod waits;

/// The helpers for tracing are for GPL-compatible programs only; `bpf_task_pt_regs` is one of them.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // Never reached: the verifier refuses a program in which it could be.
    loop {}
}
