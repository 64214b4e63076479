//! Reading JSON in tests: what is not there is a failure that shows what is.

use serde_json::Value;

/// The text.
#[track_caller]
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}"))
}

/// The number.
#[track_caller]
pub fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("not a whole number: {value}"))
}

/// The elements.
#[track_caller]
pub fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("not a list: {value}"))
}

/// The one element for which `key` has the text `wanted`.
#[track_caller]
pub fn one<'a>(values: &'a Value, key: &str, wanted: &str) -> &'a Value {
    let mut found = list(values).iter().filter(|value| value[key] == wanted);
    match (found.next(), found.next()) {
        (Some(only), None) => only,
        (None, _) => panic!("nothing with {key} = {wanted} in {values:#}"),
        _ => panic!("several with {key} = {wanted} in {values:#}"),
    }
}

/// Functions of an await stack, root first. A branch goes on with its first child.
#[track_caller]
pub fn functions(frames: &Value) -> Vec<&str> {
    list(frames).iter().map(|frame| text(&frame["function"])).collect()
}

/// Every frame of an await tree with all its branches, parents first.
pub fn all_frames(frames: &Value) -> Vec<&Value> {
    let mut found = Vec::new();
    for frame in frames.as_array().into_iter().flatten() {
        found.push(frame);
        for branch in frame["children"].as_array().into_iter().flatten() {
            found.extend(all_frames(&branch["awaits"]));
        }
    }
    found
}

/// What two looks at one deadlock must agree on; durations and moments differ.
#[track_caller]
pub fn essence(document: &Value) -> Value {
    let finding = one(&document["findings"], "kind", "deadlock");
    let task =
        |task: &Value| serde_json::json!([task["id"], task["name"], task["awaits"], task["wait"], task["holds"]]);
    serde_json::json!({
        "id": finding["id"], "certainty": finding["certainty"], "summary": finding["summary"], "edges": finding["edges"],
        "tasks": list(&finding["tasks"]).iter().map(task).collect::<Vec<_>>(),
        "runtimes": document["target"]["runtimes"], "exe": document["target"]["exe"], "pid": document["target"]["pid"],
        "complete": document["complete"],
    })
}
