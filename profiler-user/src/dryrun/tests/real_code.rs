//! Code that rustc made: functions of this very program, interpreted over its own memory, give what they give when run.

use std::fmt::Write as _;
use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt as _;

use crate::dryrun::{Action, Hooks, Limits, Machine, Outcome, Reg, Transfer};
use crate::target::{Memory, MemoryError};

/// This process.
struct Own(File);

impl Memory for Own {
    fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.0.read_exact_at(buf, address).map_err(|_| MemoryError::Unmapped(address))
    }
}

/// Does what the C library does for code that copies, fills and compares, which it does by instructions chosen at start.
struct Library;

impl Library {
    fn bytes(m: &Machine<'_>, address: u64, length: u64) -> Vec<u8> {
        let mut bytes = vec![0; length as usize];
        m.read(address, &mut bytes).expect("bytes to copy or compare");
        bytes
    }
}

impl Hooks for Library {
    fn on_call(&mut self, m: &mut Machine<'_>, target: u64, _: Transfer) -> Action {
        let arguments = [Reg::Rdi, Reg::Rsi, Reg::Rdx].map(|reg| m.reg(reg).unwrap_or(0));
        let [to, from, length] = arguments;
        let is = |function: *const ()| target == function as u64;
        if is(libc::memcpy as *const ()) || is(libc::memmove as *const ()) {
            let bytes = Self::bytes(m, from, length);
            m.write(to, &bytes);
        } else if is(libc::memset as *const ()) {
            m.write(to, &vec![from as u8; length as usize]);
        } else if is(libc::memcmp as *const ()) {
            let order = Self::bytes(m, to, length).cmp(&Self::bytes(m, from, length));
            return Action::Return(Some(u64::from(order as i32 as u32)));
        } else {
            return Action::Continue;
        }
        Action::Return(Some(to))
    }
}

/// Characters in a place of fixed size.
struct Line {
    bytes: [u8; 64],
    length: usize,
}

impl std::fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.length + text.len();
        self.bytes.get_mut(self.length..end).ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

/// Folds bytes into a number.
fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

extern "C" fn sorts(seed: u64) -> u64 {
    let mut state = seed;
    let mut numbers = [0_u32; 60];
    for number in &mut numbers {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *number = (state >> 40) as u32;
    }
    numbers.sort_unstable();
    numbers.iter().fold(0, |sum: u64, number| sum.wrapping_mul(31) ^ (u64::from(*number) % 1_000_003))
}

extern "C" fn computes(seed: u64) -> u64 {
    let wide = u128::from(seed) * 0xffff_ffff_ffff_fff1 / (u128::from(seed >> 7) + 3);
    let mut sum = 0.0_f64;
    for i in 1..40_u32 {
        sum += f64::from(i).sqrt() / (seed as f64 + 0.5) - f64::from((seed % 1000) as f32 / i as f32);
    }
    let whole = sum.floor() as i64;
    (wide as u64) ^ (wide >> 64) as u64 ^ sum.to_bits() ^ whole as u64
}

extern "C" fn formats(seed: u64) -> u64 {
    let mut line = Line { bytes: [0; 64], length: 0 };
    let written = write!(line, "{seed:#x} {} {:>12.3}|", seed as i32, seed as f64 / 7.0);
    let parsed: Result<u64, _> = str::from_utf8(&line.bytes[2..6]).map_or(Ok(0), |text| u64::from_str_radix(text, 16));
    digest(&line.bytes[..line.length]) ^ u64::from(written.is_ok()) ^ parsed.unwrap_or(1)
}

extern "C" fn chooses(seed: u64) -> u64 {
    let mut sum = 0_u64;
    for i in 0..64_u64 {
        let turned = seed.rotate_left(i as u32);
        sum = sum.wrapping_add(match turned % 11 {
            0 => turned.leading_zeros().into(),
            1 => turned.trailing_zeros().into(),
            2 => turned.count_ones().into(),
            3 => turned.swap_bytes(),
            4 => turned.checked_add(seed).unwrap_or(17),
            5 => (turned as i64).saturating_mul(-3) as u64,
            6 => turned.pow(i as u32 % 2),
            7 => (turned as i8).wrapping_div(7) as u64,
            8 => (turned as u16).wrapping_rem(99).into(),
            9 => turned >> (i % 63),
            _ => i,
        });
    }
    sum
}

#[test]
fn functions_give_what_they_give_when_run() {
    let memory = Own(File::open("/proc/self/mem").expect("own memory"));
    let functions: [(&str, extern "C" fn(u64) -> u64); 4] =
        [("sorts", sorts), ("computes", computes), ("formats", formats), ("chooses", chooses)];
    for (name, function) in functions {
        for seed in [1, 77, 0xdead_beef, 0x8000_0000_0000_0001, u64::MAX / 3] {
            let limits = Limits { steps: 5_000_000, ..Limits::default() };
            let mut machine = Machine::new(&memory, limits);
            let outcome = machine.call(function as *const () as u64, &[seed], &mut Library);
            let expected = function(black_box(seed));
            assert_eq!(outcome, Outcome::Returned { rax: Some(expected) }, "{name}({seed:#x})");
        }
    }
}
