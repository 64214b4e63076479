//! A library of a few kilobytes with everything the readers read: types with data, generics, inlining, thread-locals
//! aside. Compiled by `testing::small`, never run.
#![no_std]

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

pub enum Shape {
    Circle(u32),
    Square { side: u64, deep: Option<u32> },
    Nothing,
}

pub struct Pair<T> {
    left: T,
    right: [T; 3],
}

impl<T: Copy + Into<u64>> Pair<T> {
    #[inline(always)]
    fn sum(&self) -> u64 {
        self.left.into() + self.right.iter().fold(0, |sum, each| sum + (*each).into())
    }
}

// SAFETY: never linked, so never called.
unsafe extern "C" {
    safe fn outside(value: u64) -> u64;
}

#[unsafe(no_mangle)]
pub extern "C" fn area(shape: &Shape) -> u64 {
    let inner = match shape {
        Shape::Circle(radius) => u64::from(*radius) * 3,
        Shape::Square { side, deep } => side * side + u64::from(deep.unwrap_or(1)),
        Shape::Nothing => 0,
    };
    outside(inner) + 1
}

#[unsafe(no_mangle)]
pub extern "C" fn total(left: &Pair<u32>, right: &Pair<u64>) -> u64 {
    outside(left.sum()) + right.sum()
}
