use std::sync::LazyLock;

use jsonschema::Validator;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::{
    export::{group::group, samples},
    session::View,
};

static SCHEMA_FILE: LazyLock<Validator> = LazyLock::new(|| {
    let text = include_str!("../../../../schema/gordian.schema.json");
    jsonschema::draft202012::new(&serde_json::from_str(text).unwrap()).unwrap()
});

#[track_caller]
fn assert_valid(printed: &str) -> Value {
    let value: Value = serde_json::from_str(printed).unwrap();
    // The alternatives at the top of the schema would hide what is wrong: validate, then ask for the details.
    let errors: Vec<_> =
        SCHEMA_FILE.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}\n{printed}");
    value
}

fn check(view: &View) -> Document<'_> {
    Document::findings(view, view.findings.iter().map(|finding| (finding, &*view.snapshot)))
}

#[test]
fn a_deadlock_names_everything() {
    let view = samples::ring(2);
    let value = assert_valid(&object(&check(&view)).unwrap());
    let finding = &value["findings"][0];
    assert_eq!(finding["kind"], "deadlock");
    assert_eq!(finding["certainty"], "proved");
    assert_eq!(finding["formed_at"], Value::Null);
    assert_eq!(finding["first_seen"], "2023-11-14T22:13:20.25Z");
    assert_eq!(finding["tasks"][0]["id"], "10");
    assert_eq!(finding["tasks"][0]["awaits"][2]["line"], 88);
    assert_eq!(finding["tasks"][0]["wait"]["address"], "0x7f100040");
    assert_eq!(finding["tasks"][1]["holds"][0]["address"], "0x7f100040");
    assert_eq!(finding["edges"][0]["from"], finding["tasks"][0]["party"]);
    assert_eq!(finding["edges"][0]["to"], finding["tasks"][1]["party"]);
    assert_eq!(finding["edges"][0]["resource"]["kind"], "tokio::sync::Mutex");
    assert_eq!(finding["edges"][0]["hold_site"]["function"], "ledger::refund::debit");
    assert_eq!(value["target"]["runtimes"][0]["workers"], 2);
}

#[test]
fn branches_stand_below_the_await_that_forks() {
    let view = samples::healthy();
    let value = assert_valid(&object(&Document::tasks(&view, &view.snapshot.tasks)).unwrap());
    let task = &value["tasks"][4];
    assert_eq!(task["wait"], Value::Null);
    assert_eq!(task["awaits"][0]["fork"], "any");
    assert_eq!(task["awaits"][0]["children"][1]["wait"]["mode"], "deadline");
    assert_eq!(task["awaits"][0]["children"][1]["wait"]["address"], Value::Null);
    assert_eq!(task["holds"][0]["how"], "receiver");
}

#[test]
fn equal_stacks_are_one_group() {
    let view = samples::healthy();
    let value = assert_valid(&object(&Document::groups(&view, &group(&view.snapshot.tasks))).unwrap());
    assert_eq!(value["groups"].as_array().unwrap().len(), 2);
    assert_eq!(value["groups"][0]["count"], 4);
    assert_eq!(value["groups"][0]["wait"]["addresses"], 4);
    assert_eq!(value["groups"][0]["states"]["suspended"], 4);
}

#[test]
fn missing_probes_are_named_without_making_what_was_read_incomplete() {
    let mut view = samples::healthy();
    view.switch_probe = crate::session::ProbeState::Missing("needs CAP_BPF".into());
    let value = assert_valid(&object(&check(&view)).unwrap());
    assert_eq!(value["complete"], true);
    assert_eq!(value["missing"], serde_json::json!(["needs CAP_BPF"]));
    assert_eq!(value["probes"]["switch"], "missing");
}

#[test]
fn what_could_not_be_read_makes_it_incomplete() {
    let view = samples::partial();
    let value = assert_valid(&object(&check(&view)).unwrap());
    assert_eq!(value["complete"], false);
    assert_eq!(value["missing"].as_array().unwrap().len(), 3);
    assert_eq!(value["coverage"]["unknown"], 1);
    assert_eq!(value["lost"], 2);
}

#[test]
fn the_schema_refuses_what_is_no_output() {
    let view = samples::ring(2);
    let mut value = serde_json::to_value(check(&view)).unwrap();
    value["findings"][0]["tasks"][0]["wait"]["address"] = 7.into();
    assert!(!SCHEMA_FILE.is_valid(&value));
    assert!(!SCHEMA_FILE.is_valid(&serde_json::json!({})));
}

proptest! {
    #[test]
    fn whatever_was_seen_the_schema_holds(view in samples::any_view()) {
        assert_valid(&object(&check(&view)).unwrap());
        assert_valid(&object(&Document::tasks(&view, &view.snapshot.tasks)).unwrap());
        assert_valid(&object(&Document::groups(&view, &group(&view.snapshot.tasks))).unwrap());
        for finding in view.findings.iter() {
            let printed = line(&Line::finding(finding, &view.snapshot)).unwrap();
            prop_assert!(!printed.contains('\n'));
            prop_assert_eq!(&assert_valid(&printed)["type"], "finding");
        }
        prop_assert_eq!(&assert_valid(&line(&Line::End(Box::new(check(&view)))).unwrap())["type"], "end");
    }
}
