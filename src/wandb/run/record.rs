//! What a run logs, as records of its log. No I/O.

use serde_json::{Map, Value};

use super::super::offline::{
    ConfigRecord, Content, HistoryRecord, HistoryStep, Item, RunRecord, SummaryRecord, Timestamp, own_telemetry,
};
use super::options::RunOptions;

/// The record that makes a run.
pub(super) fn run_record(options: &RunOptions, id: &str) -> RunRecord {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let now = jiff::Timestamp::now();
    RunRecord {
        run_id: id.to_owned(),
        entity: text(&options.entity),
        project: options.project.clone(),
        config: Some(ConfigRecord { update: items(&options.config), remove: Vec::new() }),
        run_group: text(&options.group),
        job_type: text(&options.job_type),
        display_name: text(&options.display_name),
        notes: text(&options.notes),
        tags: options.tags.clone(),
        sweep_id: text(&options.sweep),
        host: text(&options.host),
        start_time: Some(Timestamp { seconds: now.as_second(), nanos: now.subsec_nanosecond() }),
        telemetry: Some(own_telemetry()),
        ..RunRecord::default()
    }
}

/// The records of a row: the row, and its values in the summary, where nulls have no place.
pub(super) fn row(values: &Map<String, Value>, step: u64) -> Vec<Content> {
    let step = Some(HistoryStep { num: i64::try_from(step).unwrap_or(i64::MAX) });
    let kept = values.iter().filter(|(_, value)| !value.is_null());
    let kept = kept.map(|(key, value)| Item::new(key.as_str(), value.to_string())).collect();
    vec![
        Content::History(HistoryRecord { item: items(values), step }),
        Content::Summary(SummaryRecord { update: kept, remove: Vec::new() }),
    ]
}

/// One item a value.
pub(super) fn items(values: &Map<String, Value>) -> Vec<Item> {
    values.iter().map(|(key, value)| Item::new(key.as_str(), value.to_string())).collect()
}
