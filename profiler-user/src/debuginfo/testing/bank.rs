//! A program with one function of every kind whose name differs between builds. Compiled by `testing::program`, never run.

use std::future::Future;
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

mod vault {
    use super::*;

    pub struct Account<T> {
        pub balance: T,
    }

    impl<T: Copy> Account<T> {
        pub async fn transfer(&self, amount: u32) -> u32 {
            let fee = audit(amount).await;
            Entry { amount: fee }.await + black_box(1)
        }

        #[inline(never)]
        pub fn balance(&self) -> T {
            black_box(self.balance)
        }
    }

    pub async fn audit(amount: u32) -> u32 {
        let log = async move {
            Entry { amount }.await;
            Entry { amount }.await
        };
        black_box(log.await)
    }

    pub async fn settle(amount: u32) -> u32 {
        Entry { amount }.await + black_box(2)
    }

    pub trait Service {
        fn call(&self, amount: u32) -> Pin<Box<dyn Future<Output = u32> + Send + '_>>;

        #[inline(never)]
        fn twice(&self, amount: u32) -> u32 {
            black_box(amount * 2)
        }
    }

    impl Service for Account<u32> {
        #[inline(never)]
        fn call(&self, amount: u32) -> Pin<Box<dyn Future<Output = u32> + Send + '_>> {
            Box::pin(async move { self.transfer(amount).await })
        }
    }

    pub struct Entry {
        pub amount: u32,
    }

    impl Future for Entry {
        type Output = u32;

        #[inline(never)]
        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<u32> {
            Poll::Ready(black_box(self.amount))
        }
    }
}

mod elsewhere {
    use super::*;

    impl vault::Service for Vec<u8> {
        #[inline(never)]
        fn call(&self, amount: u32) -> Pin<Box<dyn Future<Output = u32> + Send + '_>> {
            Box::pin(async move { amount })
        }
    }

    impl vault::Account<u64> {
        #[inline(never)]
        pub fn far(&self) -> u64 {
            black_box(self.balance + 1)
        }
    }
}

use vault::{Account, Entry, Service};

thread_local! {
    static VISITS: std::cell::Cell<u32> = const { std::cell::Cell::new(7) };
}

#[inline(never)]
fn drive<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}

fn main() {
    let account = Account { balance: black_box(7u32) };
    let boxed: Box<dyn FnOnce(u32) -> u32> = Box::new(move |x| black_box(x * 3));
    println!("{}", black_box(boxed)(4));
    println!("{}", drive(async { account.transfer(4).await + account.call(3).await }));
    println!("{}", drive(async { black_box(vault::settle(3)).await }));
    println!("{} {} {}", account.balance(), account.twice(3), Account { balance: black_box(3u64) }.far());
    println!("{}", drive(vec![1u8].call(3)));
    println!("{}", drive(Entry { amount: 3 }));
    VISITS.set(VISITS.get() + 1);
    println!("{}", VISITS.get());
}
