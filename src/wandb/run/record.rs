//! What a run logs, as records of its log. Reads the clock and what the system says of the machine.

use serde_json::{Map, Value};

use super::super::offline::{
    ConfigRecord, Content, CpuInfo, EnvironmentRecord, HistoryRecord, HistoryStep, Item, Past, RunRecord,
    SummaryRecord, Timestamp, own_telemetry, sender,
};
use super::options::{RunOptions, identifier};

/// The record that makes a run, or goes on with one that has a past.
pub(super) fn run_record(options: &RunOptions, id: &str, past: Option<&Past>) -> RunRecord {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let config = past.map(Past::config_items).into_iter().flatten().chain(items(&options.config)).collect();
    let summary = past.map(Past::summary_items);
    RunRecord {
        run_id: id.to_owned(),
        entity: text(&options.entity),
        project: options.project.clone(),
        config: Some(ConfigRecord { update: config, remove: Vec::new() }),
        summary: summary.map(|update| SummaryRecord { update, remove: Vec::new() }),
        resumed: past.is_some(),
        starting_step: past.map_or(0, |past| i64::try_from(past.step).unwrap_or(i64::MAX)),
        runtime: past.map_or(0, |past| i32::try_from(past.runtime).unwrap_or(i32::MAX)),
        run_group: text(&options.group),
        job_type: text(&options.job_type),
        display_name: text(&options.display_name),
        notes: text(&options.notes),
        tags: options.tags.clone(),
        sweep_id: text(&options.sweep),
        host: host(options),
        start_time: Some(now()),
        telemetry: Some(own_telemetry()),
        ..RunRecord::default()
    }
}

/// The machine and the program, for W&B's page of the run. No arguments: they may hold secrets.
pub(super) fn environment(options: &RunOptions) -> EnvironmentRecord {
    let cores = std::thread::available_parallelism().map_or(0, |cores| u32::try_from(cores.get()).unwrap_or(0));
    EnvironmentRecord {
        os: format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
        started_at: Some(now()),
        program: options.program.clone().unwrap_or_else(|| sender().to_owned()),
        host: host(options),
        cpu_count_logical: cores,
        cpu: Some(CpuInfo { count_logical: cores, ..CpuInfo::default() }),
        writer_id: identifier(32),
        ..EnvironmentRecord::default()
    }
}

/// The machine: as given, else as Linux has it.
fn host(options: &RunOptions) -> String {
    let own = || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
    options.host.clone().unwrap_or_else(own)
}

pub(super) fn now() -> Timestamp {
    let now = jiff::Timestamp::now();
    Timestamp { seconds: now.as_second(), nanos: now.subsec_nanosecond() }
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
