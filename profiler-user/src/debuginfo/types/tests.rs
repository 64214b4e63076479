//! Layouts of a real program's types.

use crate::debuginfo::testing::{self, FULL, FULL_LEGACY, LIMITED, LINES};
use crate::debuginfo::{Shape, Types};

fn with_types(check: impl Fn(Types<'_>)) {
    for build in [FULL, FULL_LEGACY] {
        check(testing::module(build).types().expect("full debuginfo"));
    }
}

#[test]
fn types_are_found_by_full_name() {
    with_types(|types| {
        let account = types.find("bank::vault::Account<u32>").expect("the fixture's type");
        assert_eq!(types.name(account).as_deref(), Some("bank::vault::Account<u32>"));
        assert_eq!(types.contract_name(account).as_deref(), Some("bank::vault::Account<u32>"));
        assert_eq!((types.size(account), types.shape(account)), (Some(4), Some(Shape::Structure)));
        let (balance, offset) = types.member_path(account, &["balance"]).expect("its only member");
        assert_eq!((types.name(balance).as_deref(), types.shape(balance), offset), (Some("u32"), Some(Shape::Base), 0));
        assert_eq!(
            types.parameters(account).iter().map(|(name, ty)| (&name[..], *ty)).collect::<Vec<_>>(),
            [("T", balance)]
        );
        assert_eq!(types.member_path(account, &["balance", "deeper"]), None);
        assert_eq!(types.find("bank::vault::Account"), None);
        assert_eq!(types.find("bank::vault::Account<u8>"), None);

        let mut instances: Vec<_> =
            types.instances("bank::vault::Account").into_iter().filter_map(|found| types.name(found)).collect();
        instances.sort();
        instances.dedup();
        assert_eq!(instances, ["bank::vault::Account<u32>", "bank::vault::Account<u64>"]);
    });
}

#[test]
fn states_of_a_coroutine_have_the_line_of_their_await() {
    with_types(|types| {
        let transfer = types.find("bank::vault::{impl#0}::transfer::{async_fn_env#0}<u32>").expect("its future");
        assert_eq!(types.contract_name(transfer).as_deref(), Some("bank::vault::Account::transfer"));
        let variants = types.variants(transfer).expect("a coroutine has states");
        let (offset, size) = variants.discriminant.expect("more than one state");
        assert!(size == 1 && offset < types.size(transfer).expect("sized"));
        let names: Vec<_> = variants.all.iter().map(|variant| &variant.name[..]).collect();
        assert_eq!(names, ["Unresumed", "Returned", "Panicked", "Suspend0", "Suspend1"]);
        assert_eq!(variants.all.iter().map(|variant| variant.value).collect::<Vec<_>>(), [0, 1, 2, 3, 4].map(Some));

        let first = &variants.all[3];
        assert_eq!(first.line, Some(testing::line_of("audit(amount).await")));
        assert_eq!(first.file.as_deref().map(std::path::Path::new), Some(&*testing::source()));
        let (awaited, offset) = types.member_path(first.ty, &["__awaitee"]).expect("what is awaited");
        assert_eq!(types.contract_name(awaited).as_deref(), Some("bank::vault::audit"));
        assert!(first.offset + offset + types.size(awaited).expect("sized") <= types.size(transfer).expect("sized"));
        assert_eq!(variants.all[4].line, Some(testing::line_of("Entry { amount: fee }.await")));
    });
}

/// The module that an impl stands in says nothing: the type is what counts.
#[test]
fn futures_of_methods_are_named_after_their_type() {
    with_types(|types| {
        let names = |path: &str| types.find(path).and_then(|found| types.contract_name(found));
        assert_eq!(
            names("bank::elsewhere::{impl#0}::call::{async_block_env#0}").as_deref(),
            Some("alloc::vec::Vec::call")
        );
        assert_eq!(
            names("bank::vault::{impl#1}::call::{async_block_env#0}").as_deref(),
            Some("bank::vault::Account::call")
        );
    });
}

#[test]
fn pointers_and_arrays_are_told_apart() {
    with_types(|types| {
        let waker = types.find("core::task::wake::RawWaker").expect("part of every context");
        let members = types.members(waker);
        let vtable = members.iter().find(|member| member.name == "vtable").expect("as std declares it");
        let Some(Shape::Pointer(Some(target))) = types.shape(vtable.ty) else { panic!("a reference is a pointer") };
        assert_eq!(types.name(target).as_deref(), Some("core::task::wake::RawWakerVTable"));
        assert_eq!(types.name(vtable.ty), None);
    });
}

#[test]
fn without_type_debuginfo_there_are_no_types() {
    for build in [LIMITED, LINES] {
        assert!(testing::module(build).types().is_none());
    }
}
