//! Names as real compilers wrote them (rustc 1.95, both manglings) and what they must become.

use proptest::prelude::*;

use super::{function, is_closure, is_coroutine, type_name};

/// One function: its legacy symbol, its v0 symbol, the one name of both.
const PAIRS: &[(&str, &str, &str)] = &[
    ("_ZN3app4main17h72769ddfa41acab1E", "_RNvCscAEuU5ehQ2G_3app4main", "app::main"),
    ("_ZN3app3run17h24035547a3321d82E", "_RINvCscAEuU5ehQ2G_3app3runNCNvB2_4mains2_0EB2_", "app::run"),
    (
        "_ZN3app4bank16Account$LT$T$GT$3get17h11454b7f6d6911ccE",
        "_RNvMNtCscAEuU5ehQ2G_3app4bankINtB2_7AccountmE3getB4_",
        "app::bank::Account::get",
    ),
    (
        "_ZN3app4bank7Service5twice17ha18162510d6af702E",
        "_RNvYINtNtCscAEuU5ehQ2G_3app4bank7AccountmENtB5_7Service5twiceB7_",
        "app::bank::Service::twice",
    ),
    (
        "_ZN3app5other47_$LT$impl$u20$app..bank..Account$LT$u64$GT$$GT$3far17h4e67ffea6770dfe8E",
        "_RNvMs_NtCscAEuU5ehQ2G_3app5otherINtNtB6_4bank7AccountyE3far",
        "app::bank::Account::far",
    ),
    (
        "_ZN3app5other74_$LT$impl$u20$app..bank..Service$u20$for$u20$alloc..vec..Vec$LT$u8$GT$$GT$4call28_$u7b$$u7b$closure$u7d$$u7d$17h0d73832ab4a710b7E",
        "_RNCNvXNtCscAEuU5ehQ2G_3app5otherINtNtCslNYArtu3iFV_5alloc3vec3VechENtNtB6_4bank7Service4call0B6_",
        "alloc::vec::Vec::call",
    ),
    (
        "_ZN3app4bank16Account$LT$T$GT$8transfer28_$u7b$$u7b$closure$u7d$$u7d$17h110591aa854ce254E",
        "_RNCNvMNtCscAEuU5ehQ2G_3app4bankINtB4_7AccountmE8transfer0B6_",
        "app::bank::Account::transfer",
    ),
    (
        "_ZN4core3ptr123drop_in_place$LT$$LT$app..bank..Account$LT$u32$GT$$u20$as$u20$app..bank..Service$GT$..call..$u7b$$u7b$closure$u7d$$u7d$$GT$17hcc51f4513294ca73E",
        "_RINvNtCsgEmfK2I1SDS_4core3ptr13drop_in_placeNCNvXs_NtCscAEuU5ehQ2G_3app4bankINtBN_7AccountmENtBN_7Service4call0EBP_.llvm.4457406877235714199",
        "core::ptr::drop_in_place",
    ),
    (
        "_ZN4core3ops8function6FnOnce40call_once$u7b$$u7b$vtable.shim$u7d$$u7d$17h48c309cf0eec94abE.llvm.2153472072080878041",
        "_RNSNvYNCNvCscAEuU5ehQ2G_3app4mains_0INtNtNtCsgEmfK2I1SDS_4core3ops8function6FnOnceTmEE9call_once6vtableB8_",
        "core::ops::function::FnOnce::call_once",
    ),
];

#[test]
fn both_manglings_give_one_name() {
    for (legacy, v0, name) in PAIRS {
        assert_eq!(function(legacy), *name, "{legacy}");
        assert_eq!(function(v0), *name, "{v0}");
    }
}

#[test]
fn demangled_names_and_dwarf_paths_give_the_same() {
    for (from, name) in [
        (
            "<tokio::sync::batch_semaphore::Acquire as core::future::future::Future>::poll",
            "tokio::sync::batch_semaphore::Acquire::poll",
        ),
        (
            "<tokio::sync::batch_semaphore::Acquire as core[a4bf]::future::future::Future>::poll::h0123456789abcdef",
            "tokio::sync::batch_semaphore::Acquire::poll",
        ),
        ("tokio::runtime::task::raw::poll::<app::main::{closure#0}, Arc<Handle>>", "tokio::runtime::task::raw::poll"),
        (
            "tokio::runtime::task::raw::poll<app::main::{async_block_env#0}, Arc<Handle>>",
            "tokio::runtime::task::raw::poll",
        ),
        ("tokio::sync::mutex::Mutex<T>::lock::{{closure}}", "tokio::sync::mutex::Mutex::lock"),
        ("<tokio::sync::mutex::Mutex<(u32, fn() -> u8)>>::lock::{closure#0}", "tokio::sync::mutex::Mutex::lock"),
        ("<core::pin::Pin<P> as core::future::future::Future>::poll", "core::pin::Pin::poll"),
        ("<&mut F as core::future::future::Future>::poll", "core::future::future::Future::poll"),
        ("<F as futures_core::future::TryFuture>::try_poll", "futures_core::future::TryFuture::try_poll"),
        ("core::fmt::num::<impl core::fmt::Debug for u32>::fmt", "core::fmt::Debug::fmt"),
        ("<u32 as core::fmt::Debug>::fmt", "core::fmt::Debug::fmt"),
        ("core::slice::<impl [T]>::sort_by::{{closure}}", "core::slice::sort_by"),
        (
            "tokio::runtime::scheduler::multi_thread::worker::<impl tokio::runtime::scheduler::multi_thread::handle::Handle>::schedule_task::{{closure}}",
            "tokio::runtime::scheduler::multi_thread::handle::Handle::schedule_task",
        ),
        ("app::transfer::{async_fn#0}<u32>", "app::transfer"),
        ("<<app::A as app::B>::call::{closure#0} as core::future::future::Future>::poll", "app::A::call::poll"),
        ("<dyn core::any::Any + core::marker::Send>::is::<u32>", "core::any::Any::is"),
        ("__rust_alloc", "__rust_alloc"),
        ("epoll_wait", "epoll_wait"),
        ("std::sys::backtrace::__rust_begin_short_backtrace", "std::sys::backtrace::__rust_begin_short_backtrace"),
    ] {
        assert_eq!(function(from), name, "{from}");
    }
}

/// `<[u32]>::sort_by` says in its mangled form that it stands in `alloc::slice`, where legacy has it too.
#[test]
fn methods_of_nameless_types_are_named_after_their_module() {
    let v0 = "_RINvMNtCslNYArtu3iFV_5alloc5sliceSm7sort_byNCNvCscAEuU5ehQ2G_3app4mains1_0EBJ_";
    assert_eq!(function(v0), "alloc::slice::sort_by");
    assert_eq!(
        function("_ZN5alloc5slice29_$LT$impl$u20$$u5b$T$u5d$$GT$7sort_by17h2bfe4a7f9fae9fd2E"),
        "alloc::slice::sort_by"
    );
}

/// A trait of the standard library, implemented there for every future: only the trait can be meant.
#[test]
fn blanket_impls_across_crates_are_named_after_the_trait() {
    let v0 = "_RNvXNtNtCsgEmfK2I1SDS_4core6future11into_futureNCNvNtCscAEuU5ehQ2G_3app4bank5inner0NtB2_10IntoFuture11into_futureBP_";
    assert_eq!(function(v0), "core::future::into_future::IntoFuture::into_future");
    assert_eq!(
        function("_ZN59_$LT$F$u20$as$u20$core..future..into_future..IntoFuture$GT$11into_future17hbd5fa7ce04b40f13E"),
        "core::future::into_future::IntoFuture::into_future"
    );
}

#[test]
fn futures_are_named_after_the_function_that_made_them() {
    for (from, name) in [
        ("target::transfer::{async_fn_env#0}", "target::transfer"),
        ("target::transfer::{{closure}}", "target::transfer"),
        ("target::transfer::{closure#0}", "target::transfer"),
        ("target::transfer::{async_fn_env#0}<alloc::string::String>", "target::transfer"),
        ("app::main::{closure#3}::{async_block_env#1}", "app::main"),
        ("<app::bank::Account<u32> as app::bank::Service>::call::{closure#0}", "app::bank::Account::call"),
        ("app::other::<impl app::bank::Service for alloc::vec::Vec<u8>>::call::{{closure}}", "alloc::vec::Vec::call"),
        (
            "core::pin::Pin<alloc::boxed::Box<dyn core::future::future::Future<Output = ()> + core::marker::Send>>",
            "Pin<Box<dyn Future>>",
        ),
        (
            "core::pin::Pin<alloc::boxed::Box<(dyn core::future::future::Future<Output=()> + core::marker::Send), alloc::alloc::Global>>",
            "Pin<Box<dyn Future>>",
        ),
        ("core::pin::Pin<alloc::boxed::Box<dyn core::future::future::Future+Output = ()>>", "Pin<Box<dyn Future>>"),
        ("tokio::time::timeout::Timeout<app::fetch::{async_fn_env#0}>", "tokio::time::timeout::Timeout<app::fetch>"),
        ("tokio::time::timeout::Timeout<app::fetch::{{closure}}>", "tokio::time::timeout::Timeout<app::fetch>"),
        ("core::future::poll_fn::PollFn<app::main::{closure_env#0}>", "PollFn<app::main>"),
        ("(app::a::{async_fn_env#0},app::b::{async_fn_env#0})", "(app::a, app::b)"),
        ("&mut app::Entry", "&mut app::Entry"),
        ("&'static app::Entry<'static, u8>", "&app::Entry<u8>"),
        ("[app::a::{{closure}}; 3]", "[app::a; 3]"),
        ("u32", "u32"),
        ("()", "()"),
    ] {
        assert_eq!(type_name(from), name, "{from}");
    }
}

#[test]
fn closures_are_told_from_functions() {
    for (legacy, v0, _) in PAIRS {
        let closure = legacy.contains("$u7b$$u7b$closure$u7d$$u7d$17h");
        assert_eq!(is_closure(legacy), closure, "{legacy}");
        assert_eq!(is_closure(v0), closure, "{v0}");
    }
    assert!(is_coroutine("{async_fn#0}<u32>") && is_coroutine("{async_block_env#1}") && is_coroutine("{gen_fn#0}"));
    assert!(!is_coroutine("{closure#0}") && !is_coroutine("poll<app::main::{async_block_env#0}>"));
}

proptest! {
    /// Names come from the target's file: any text must do.
    #[test]
    fn any_text_is_survived(text in "[<>(){}\\[\\]:a-z_#&' ,;+=-]{0,80}", prefix in "(_R|_ZN|_RN|_RNvX|_RNvMN|_RNvYI|)") {
        let name = format!("{prefix}{text}");
        function(&name);
        type_name(&name);
        is_closure(&name);
    }

    #[test]
    fn deep_nesting_is_survived(open in "[<(\\[{&]", depth in 1usize..20_000) {
        let name = format!("{}x", open.repeat(depth));
        function(&name);
        type_name(&name);
    }
}
