//! What a study left in its folder: the numbers of every task, and its ledger.
#![allow(dead_code, reason = "each file of tests uses its part")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

/// Results that must be the same to the bit; `fit.json` holds the time of its making.
pub const NUMBERS: [&str; 3] = ["gram.safetensors", "layers.parquet", "components.parquet"];

/// The numbers of these tasks.
pub fn numbers(study: &Path, tasks: &[String]) -> BTreeMap<String, Vec<u8>> {
    let files = tasks.iter().flat_map(|task| NUMBERS.map(|name| format!("{task}/{name}")));
    files.map(|name| (name.clone(), fs::read(study.join(&name)).unwrap_or_else(|_| panic!("{name}")))).collect()
}

/// What happened to each task, by the ledger.
pub fn events(study: &Path) -> BTreeMap<String, Vec<String>> {
    let mut events: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in fs::read_dir(study.join("ledger")).into_iter().flatten() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        for line in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let of = |name: &str| line[name].as_str().unwrap().to_owned();
            events.entry(of("task")).or_default().push(of("event"));
        }
    }
    events
}

/// How often each task was begun and ended.
pub fn ledger(study: &Path) -> BTreeMap<String, (usize, usize)> {
    let count = |events: &[String], name: &str| events.iter().filter(|event| *event == name).count();
    let of_task = |(task, events): (String, Vec<String>)| (task, (count(&events, "claimed"), count(&events, "done")));
    events(study).into_iter().map(of_task).collect()
}

/// No task was begun again after it was finished, nor finished twice.
pub fn computed_once(study: &Path) {
    for (task, events) in events(study).into_iter().filter(|(task, _)| task != "summary") {
        let done = events.iter().position(|event| event == "done");
        let after = done.map_or(&[][..], |done| &events[done + 1..]);
        assert!(after.iter().all(|event| event == "logged"), "{task}: {events:?}");
    }
}
