//! The protobuf messages of a `.wandb` file, as far as we write or read them. No I/O.
//!
//! Field numbers are those of `wandb/proto/wandb_internal.proto` 0.31, which only ever adds. What is not listed here is
//! skipped when read. Messages that go to the server by their numbers alone (telemetry, see [`super::telemetry`]) are kept
//! as bytes, which on the wire are the same thing as a message.

use prost::{Message, Oneof};

/// One record of the log.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Record {
    /// From 1 on, in order.
    #[prost(int64, tag = "1")]
    pub(crate) num: i64,
    #[prost(message, optional, tag = "16")]
    pub(crate) control: Option<Control>,
    #[prost(
        oneof = "Content",
        tags = "2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 17, 18, 20, 21, 22, 23, 24, 25, 26, 27, 100"
    )]
    pub(crate) content: Option<Content>,
}

/// What a record says.
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Content {
    #[prost(message, tag = "2")]
    History(HistoryRecord),
    #[prost(message, tag = "3")]
    Summary(SummaryRecord),
    /// Obsolete; nobody writes it.
    #[prost(bytes, tag = "4")]
    Output(Vec<u8>),
    #[prost(message, tag = "5")]
    Config(ConfigRecord),
    #[prost(message, tag = "6")]
    Files(FilesRecord),
    #[prost(message, tag = "7")]
    Stats(StatsRecord),
    #[prost(message, tag = "8")]
    Artifact(Box<ArtifactRecord>),
    /// TensorBoard folders, which we do not read.
    #[prost(bytes, tag = "9")]
    Tensorboard(Vec<u8>),
    #[prost(message, tag = "10")]
    Alert(AlertRecord),
    /// `TelemetryRecord`, as bytes.
    #[prost(bytes, tag = "11")]
    Telemetry(Vec<u8>),
    #[prost(message, tag = "12")]
    Metric(MetricRecord),
    #[prost(message, tag = "13")]
    OutputRaw(OutputRawRecord),
    #[prost(message, tag = "17")]
    Run(Box<RunRecord>),
    #[prost(message, tag = "18")]
    Exit(ExitRecord),
    #[prost(bytes, tag = "20")]
    Final(Vec<u8>),
    #[prost(message, tag = "21")]
    Header(HeaderRecord),
    #[prost(bytes, tag = "22")]
    Footer(Vec<u8>),
    #[prost(bytes, tag = "23")]
    Preempting(Vec<u8>),
    #[prost(bytes, tag = "24")]
    NoopLinkArtifact(Vec<u8>),
    #[prost(message, tag = "25")]
    UseArtifact(UseArtifactRecord),
    #[prost(message, tag = "26")]
    Environment(Box<EnvironmentRecord>),
    #[prost(bytes, tag = "27")]
    OutputLogger(Vec<u8>),
    #[prost(bytes, tag = "100")]
    Request(Vec<u8>),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Control {
    /// Any text; version 0.28.2 of the official `sync` waits for ever when the run's record has none.
    #[prost(string, tag = "4")]
    pub(crate) mailbox_slot: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct HeaderRecord {
    #[prost(message, optional, tag = "1")]
    pub(crate) version_info: Option<VersionInfo>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct VersionInfo {
    #[prost(string, tag = "1")]
    pub(crate) producer: String,
    #[prost(string, tag = "2")]
    pub(crate) min_consumer: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RunRecord {
    #[prost(string, tag = "1")]
    pub(crate) run_id: String,
    #[prost(string, tag = "2")]
    pub(crate) entity: String,
    #[prost(string, tag = "3")]
    pub(crate) project: String,
    #[prost(message, optional, tag = "4")]
    pub(crate) config: Option<ConfigRecord>,
    #[prost(message, optional, tag = "5")]
    pub(crate) summary: Option<SummaryRecord>,
    #[prost(string, tag = "6")]
    pub(crate) run_group: String,
    #[prost(string, tag = "7")]
    pub(crate) job_type: String,
    #[prost(string, tag = "8")]
    pub(crate) display_name: String,
    #[prost(string, tag = "9")]
    pub(crate) notes: String,
    #[prost(string, repeated, tag = "10")]
    pub(crate) tags: Vec<String>,
    #[prost(string, tag = "12")]
    pub(crate) sweep_id: String,
    #[prost(string, tag = "13")]
    pub(crate) host: String,
    #[prost(int64, tag = "14")]
    pub(crate) starting_step: i64,
    #[prost(string, tag = "16")]
    pub(crate) storage_id: String,
    #[prost(message, optional, tag = "17")]
    pub(crate) start_time: Option<Timestamp>,
    #[prost(bool, tag = "18")]
    pub(crate) resumed: bool,
    /// `TelemetryRecord`, as bytes.
    #[prost(bytes, optional, tag = "19")]
    pub(crate) telemetry: Option<Vec<u8>>,
    #[prost(int32, tag = "20")]
    pub(crate) runtime: i32,
    #[prost(message, optional, tag = "21")]
    pub(crate) git: Option<GitRepoRecord>,
    #[prost(bool, tag = "22")]
    pub(crate) forked: bool,
    #[prost(message, optional, tag = "23")]
    pub(crate) branch_point: Option<BranchPoint>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct BranchPoint {
    #[prost(string, tag = "1")]
    pub(crate) run: String,
    #[prost(double, tag = "2")]
    pub(crate) value: f64,
    #[prost(string, tag = "3")]
    pub(crate) metric: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct GitRepoRecord {
    #[prost(string, tag = "1")]
    pub(crate) remote_url: String,
    #[prost(string, tag = "2")]
    pub(crate) commit: String,
}

/// The well-known type of protobuf.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Timestamp {
    #[prost(int64, tag = "1")]
    pub(crate) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(crate) nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ConfigRecord {
    #[prost(message, repeated, tag = "1")]
    pub(crate) update: Vec<Item>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) remove: Vec<Item>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SummaryRecord {
    #[prost(message, repeated, tag = "1")]
    pub(crate) update: Vec<Item>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) remove: Vec<Item>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct HistoryRecord {
    #[prost(message, repeated, tag = "1")]
    pub(crate) item: Vec<Item>,
    #[prost(message, optional, tag = "2")]
    pub(crate) step: Option<HistoryStep>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct HistoryStep {
    #[prost(int64, tag = "1")]
    pub(crate) num: i64,
}

/// `ConfigItem`, `SummaryItem`, `HistoryItem`, `StatsItem`: a key or a path of keys, and a value as JSON text in which
/// `NaN` and the infinities may stand bare. Version 0.31 may write the values of rows typed instead.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Item {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(string, repeated, tag = "2")]
    pub(crate) nested_key: Vec<String>,
    #[prost(oneof = "Typed", tags = "3, 4, 5, 6, 7, 8")]
    pub(crate) typed: Option<Typed>,
    #[prost(string, tag = "16")]
    pub(crate) value_json: String,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Typed {
    /// An enumeration of one member, `NULL_VALUE`.
    #[prost(int32, tag = "3")]
    None(i32),
    #[prost(bool, tag = "4")]
    Boolean(bool),
    #[prost(sint64, tag = "5")]
    Integer(i64),
    #[prost(double, tag = "6")]
    Number(f64),
    #[prost(string, tag = "7")]
    Text(String),
    #[prost(string, tag = "8")]
    Json(String),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StatsRecord {
    #[prost(message, optional, tag = "2")]
    pub(crate) timestamp: Option<Timestamp>,
    /// Keys without the prefix `system.`.
    #[prost(message, repeated, tag = "3")]
    pub(crate) item: Vec<Item>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct OutputRawRecord {
    /// 0 standard error, 1 standard output.
    #[prost(int32, tag = "1")]
    pub(crate) output_type: i32,
    #[prost(message, optional, tag = "2")]
    pub(crate) timestamp: Option<Timestamp>,
    /// A piece of what was printed, not always a whole line.
    #[prost(string, tag = "3")]
    pub(crate) line: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FilesRecord {
    #[prost(message, repeated, tag = "1")]
    pub(crate) files: Vec<FilesItem>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FilesItem {
    /// Below `files/` of the run's folder.
    #[prost(string, tag = "1")]
    pub(crate) path: String,
    /// 0 now, 1 at the end, 2 whenever it changes.
    #[prost(int32, tag = "2")]
    pub(crate) policy: i32,
    /// 0 other, 1 W&B's own, 2 media, 3 artifact.
    #[prost(int32, tag = "3")]
    pub(crate) kind: i32,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct ExitRecord {
    #[prost(int32, tag = "1")]
    pub(crate) exit_code: i32,
    /// Seconds.
    #[prost(int32, tag = "2")]
    pub(crate) runtime: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct MetricRecord {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) glob_name: String,
    #[prost(string, tag = "4")]
    pub(crate) step_metric: String,
    #[prost(int32, tag = "5")]
    pub(crate) step_metric_index: i32,
    /// `MetricOptions`, as bytes.
    #[prost(bytes, optional, tag = "6")]
    pub(crate) options: Option<Vec<u8>>,
    /// `MetricSummary`, as bytes.
    #[prost(bytes, optional, tag = "7")]
    pub(crate) summary: Option<Vec<u8>>,
    /// 1 minimize, 2 maximize.
    #[prost(int32, tag = "8")]
    pub(crate) goal: i32,
    #[prost(message, optional, tag = "9")]
    pub(crate) control: Option<MetricControl>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct MetricControl {
    /// The definition replaces an earlier one instead of adding to it.
    #[prost(bool, tag = "1")]
    pub(crate) overwrite: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AlertRecord {
    #[prost(string, tag = "1")]
    pub(crate) title: String,
    #[prost(string, tag = "2")]
    pub(crate) text: String,
    /// `INFO`, `WARN` or `ERROR`.
    #[prost(string, tag = "3")]
    pub(crate) level: String,
    /// Milliseconds.
    #[prost(int64, tag = "4")]
    pub(crate) wait_duration: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ArtifactRecord {
    #[prost(string, tag = "1")]
    pub(crate) run_id: String,
    #[prost(string, tag = "2")]
    pub(crate) project: String,
    #[prost(string, tag = "3")]
    pub(crate) entity: String,
    #[prost(string, tag = "4")]
    pub(crate) kind: String,
    #[prost(string, tag = "5")]
    pub(crate) name: String,
    /// Digest of the manifest, hexadecimal.
    #[prost(string, tag = "6")]
    pub(crate) digest: String,
    #[prost(string, tag = "7")]
    pub(crate) description: String,
    /// JSON text.
    #[prost(string, tag = "8")]
    pub(crate) metadata: String,
    #[prost(bool, tag = "9")]
    pub(crate) user_created: bool,
    /// Make it an input of the run, too.
    #[prost(bool, tag = "10")]
    pub(crate) use_after_commit: bool,
    #[prost(string, repeated, tag = "11")]
    pub(crate) aliases: Vec<String>,
    #[prost(message, optional, tag = "12")]
    pub(crate) manifest: Option<ManifestRecord>,
    #[prost(string, tag = "13")]
    pub(crate) distributed_id: String,
    #[prost(bool, tag = "14")]
    pub(crate) finalize: bool,
    #[prost(string, tag = "15")]
    pub(crate) client_id: String,
    #[prost(string, tag = "16")]
    pub(crate) sequence_client_id: String,
    #[prost(string, tag = "17")]
    pub(crate) base_id: String,
    #[prost(int64, tag = "18")]
    pub(crate) ttl_duration_seconds: i64,
    #[prost(string, repeated, tag = "19")]
    pub(crate) tags: Vec<String>,
    #[prost(string, tag = "20")]
    pub(crate) digest_algorithm: String,
    #[prost(bool, tag = "100")]
    pub(crate) incremental: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ManifestRecord {
    #[prost(int32, tag = "1")]
    pub(crate) version: i32,
    #[prost(string, tag = "2")]
    pub(crate) storage_policy: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) storage_policy_config: Vec<JsonEntry>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) contents: Vec<ManifestEntry>,
    /// Where `contents` are instead, when there are very many: gzip'ed lines of JSON.
    #[prost(string, tag = "5")]
    pub(crate) manifest_file_path: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ManifestEntry {
    #[prost(string, tag = "1")]
    pub(crate) path: String,
    /// MD5 in base64 for a file.
    #[prost(string, tag = "2")]
    pub(crate) digest: String,
    /// Where the bytes are, when they are not W&B's.
    #[prost(string, tag = "3")]
    pub(crate) reference: String,
    #[prost(int64, tag = "4")]
    pub(crate) size: i64,
    /// Absolute path of the bytes on the machine that logged.
    #[prost(string, tag = "6")]
    pub(crate) local_path: String,
    #[prost(string, tag = "7")]
    pub(crate) birth_artifact_id: String,
    #[prost(message, repeated, tag = "16")]
    pub(crate) extra: Vec<JsonEntry>,
}

/// `ExtraItem`, `StoragePolicyConfigItem`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct JsonEntry {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(string, tag = "2")]
    pub(crate) value_json: String,
}

/// An artifact that the run uses. The official `sync` passes over it; ours makes the version an input of the run.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct UseArtifactRecord {
    /// The server's id, where it is known.
    #[prost(string, tag = "1")]
    pub(crate) id: String,
    #[prost(string, tag = "2")]
    pub(crate) kind: String,
    /// `entity/project/name:version` when we wrote it.
    #[prost(string, tag = "3")]
    pub(crate) name: String,
}

/// The machine and the program. Not all of it: GPUs of AMD, Apple and Google, SLURM and the like are in
/// [`EnvironmentRecord::writer_id`]'s neighbours and go unread.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct EnvironmentRecord {
    #[prost(string, tag = "1")]
    pub(crate) os: String,
    #[prost(string, tag = "2")]
    pub(crate) python: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) started_at: Option<Timestamp>,
    #[prost(string, tag = "4")]
    pub(crate) docker: String,
    #[prost(string, repeated, tag = "5")]
    pub(crate) args: Vec<String>,
    #[prost(string, tag = "6")]
    pub(crate) program: String,
    #[prost(string, tag = "7")]
    pub(crate) code_path: String,
    #[prost(string, tag = "8")]
    pub(crate) code_path_local: String,
    #[prost(message, optional, tag = "9")]
    pub(crate) git: Option<GitRepoRecord>,
    #[prost(string, tag = "10")]
    pub(crate) email: String,
    #[prost(string, tag = "11")]
    pub(crate) root: String,
    #[prost(string, tag = "12")]
    pub(crate) host: String,
    #[prost(string, tag = "13")]
    pub(crate) username: String,
    #[prost(string, tag = "14")]
    pub(crate) executable: String,
    #[prost(uint32, tag = "16")]
    pub(crate) cpu_count: u32,
    #[prost(uint32, tag = "17")]
    pub(crate) cpu_count_logical: u32,
    #[prost(string, tag = "18")]
    pub(crate) gpu_type: String,
    #[prost(uint32, tag = "19")]
    pub(crate) gpu_count: u32,
    #[prost(btree_map = "string, message", tag = "20")]
    pub(crate) disk: std::collections::BTreeMap<String, DiskInfo>,
    #[prost(message, optional, tag = "21")]
    pub(crate) memory: Option<MemoryInfo>,
    #[prost(message, optional, tag = "22")]
    pub(crate) cpu: Option<CpuInfo>,
    #[prost(message, repeated, tag = "24")]
    pub(crate) gpu_nvidia: Vec<GpuNvidiaInfo>,
    #[prost(string, tag = "25")]
    pub(crate) cuda_version: String,
    #[prost(btree_map = "string, string", tag = "27")]
    pub(crate) slurm: std::collections::BTreeMap<String, String>,
    #[prost(string, tag = "199")]
    pub(crate) writer_id: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct DiskInfo {
    #[prost(uint64, tag = "1")]
    pub(crate) total: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) used: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct MemoryInfo {
    #[prost(uint64, tag = "1")]
    pub(crate) total: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct CpuInfo {
    #[prost(uint32, tag = "1")]
    pub(crate) count: u32,
    #[prost(uint32, tag = "2")]
    pub(crate) count_logical: u32,
    #[prost(string, tag = "3")]
    pub(crate) model: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct GpuNvidiaInfo {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(uint64, tag = "2")]
    pub(crate) memory_total: u64,
    #[prost(uint32, tag = "3")]
    pub(crate) cuda_cores: u32,
    #[prost(string, tag = "4")]
    pub(crate) architecture: String,
    #[prost(string, tag = "5")]
    pub(crate) uuid: String,
}

impl Item {
    /// An item under one key.
    pub(crate) fn new(key: impl Into<String>, value_json: impl Into<String>) -> Self {
        Self { key: key.into(), value_json: value_json.into(), ..Self::default() }
    }

    /// The path of keys.
    pub(crate) fn path(&self) -> Vec<&str> {
        match self.nested_key.as_slice() {
            [] => vec![self.key.as_str()],
            nested => nested.iter().map(String::as_str).collect(),
        }
    }

    /// The value as JSON text, however it was written.
    pub(crate) fn json(&self) -> String {
        let Some(typed) = &self.typed else { return self.value_json.clone() };
        match typed {
            Typed::None(_) => "null".to_owned(),
            Typed::Boolean(truth) => truth.to_string(),
            Typed::Integer(number) => number.to_string(),
            Typed::Number(number) if number.is_nan() => "NaN".to_owned(),
            Typed::Number(number) if number.is_infinite() && *number > 0.0 => "Infinity".to_owned(),
            Typed::Number(number) if number.is_infinite() => "-Infinity".to_owned(),
            Typed::Number(number) => serde_json::Value::from(*number).to_string(),
            Typed::Text(text) => serde_json::Value::from(text.as_str()).to_string(),
            Typed::Json(text) => text.clone(),
        }
    }
}

impl Timestamp {
    /// Seconds since 1970.
    pub(crate) fn seconds_f64(self) -> f64 {
        self.seconds as f64 + f64::from(self.nanos) / 1e9
    }
}

#[cfg(test)]
mod tests {
    use super::super::framing::{FILE_HEADER, Framed, Unframer, frame};
    use super::*;
    use serde_json::Value;

    const LOG: &[u8] = include_bytes!("../../../fixtures/offline/sdk-0.31.wandb");
    const RECORDS: &str = include_str!("../../../fixtures/offline/sdk-0.31.jsonl");

    fn framed() -> Vec<Vec<u8>> {
        let mut unframer = Unframer::default();
        unframer.push(LOG);
        let records = std::iter::from_fn(|| unframer.next()).map(|framed| match framed {
            Framed::Record { bytes, .. } => bytes,
            Framed::Damage(damage) => panic!("{damage:?}"),
        });
        let records = records.collect();
        assert_eq!(unframer.tail(), None);
        records
    }

    #[test]
    fn we_frame_as_the_official_client_does() {
        let mut file = FILE_HEADER.to_vec();
        framed().iter().for_each(|record| frame(file.len() as u64, record, &mut file));
        assert!(file == LOG);
    }

    /// The list of items in a message as protobuf's own JSON has it, as paths and values.
    fn items(list: &Value) -> Vec<(Vec<String>, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let item = |item: &Value| {
            let nested = item["nested_key"].as_array().map(|keys| keys.iter().map(text).collect());
            (nested.unwrap_or_else(|| vec![text(&item["key"])]), text(&item["value_json"]))
        };
        list.as_array().into_iter().flatten().map(item).collect()
    }

    fn ours(items: &[Item]) -> Vec<(Vec<String>, String)> {
        items.iter().map(|item| (item.path().into_iter().map(str::to_owned).collect(), item.json())).collect()
    }

    #[test]
    fn we_read_what_protobuf_itself_reads() {
        let expected: Vec<Value> = RECORDS.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let records: Vec<Record> = framed().iter().map(|bytes| Record::decode(bytes.as_slice()).unwrap()).collect();
        assert_eq!(records.len(), expected.len());
        for (record, expected) in records.iter().zip(&expected) {
            assert_eq!(record.num.to_string(), expected["num"].as_str().unwrap());
            match record.content.as_ref().unwrap() {
                Content::History(row) => {
                    assert_eq!(ours(&row.item), items(&expected["history"]["item"]));
                    let step = expected["history"]["step"]["num"].as_str().unwrap_or("0");
                    assert_eq!(row.step.unwrap().num.to_string(), step);
                }
                Content::Summary(summary) => assert_eq!(ours(&summary.update), items(&expected["summary"]["update"])),
                Content::Config(config) => assert_eq!(ours(&config.update), items(&expected["config"]["update"])),
                Content::Run(run) => {
                    let expected = &expected["run"];
                    assert_eq!(ours(&run.config.as_ref().unwrap().update), items(&expected["config"]["update"]));
                    let texts = [&run.run_id, &run.project, &run.run_group, &run.job_type, &run.notes, &run.host];
                    for (ours, key) in texts.iter().zip(["run_id", "project", "run_group", "job_type", "notes", "host"])
                    {
                        assert_eq!(ours.as_str(), expected[key].as_str().unwrap(), "{key}");
                    }
                    assert_eq!(serde_json::json!(run.tags), expected["tags"]);
                    let time = jiff::Timestamp::new(run.start_time.unwrap().seconds, run.start_time.unwrap().nanos);
                    assert_eq!(time.unwrap().to_string(), expected["start_time"].as_str().unwrap());
                    assert!(!record.control.as_ref().unwrap().mailbox_slot.is_empty());
                }
                Content::Artifact(artifact) => {
                    let expected = &expected["artifact"];
                    let texts = [&artifact.name, &artifact.kind, &artifact.digest, &artifact.client_id];
                    for (ours, key) in texts.iter().zip(["name", "type", "digest", "client_id"]) {
                        assert_eq!(ours.as_str(), expected[key].as_str().unwrap(), "{key}");
                    }
                    let entries = &artifact.manifest.as_ref().unwrap().contents;
                    let contents = expected["manifest"]["contents"].as_array().unwrap();
                    assert_eq!(entries.len(), contents.len());
                    for (entry, expected) in entries.iter().zip(contents) {
                        let texts = [&entry.path, &entry.digest, &entry.local_path];
                        assert_eq!(serde_json::json!(texts[0]), expected["path"]);
                        assert_eq!(serde_json::json!(texts[1]), expected["digest"]);
                        assert_eq!(serde_json::json!(texts[2]), expected["local_path"]);
                        assert_eq!(entry.size.to_string(), expected["size"].as_str().unwrap());
                    }
                }
                Content::Files(files) => assert_eq!(files.files[0].path, expected["files"]["files"][0]["path"]),
                Content::Alert(alert) => assert_eq!(alert.title, expected["alert"]["title"]),
                Content::OutputRaw(piece) => assert_eq!(piece.line, expected["output_raw"]["line"]),
                Content::Metric(metric) => {
                    assert_eq!(metric.name, expected["metric"]["name"].as_str().unwrap_or_default());
                    assert_eq!(metric.step_metric, expected["metric"]["step_metric"].as_str().unwrap_or_default());
                }
                Content::Header(header) => {
                    let version = header.version_info.as_ref().unwrap();
                    assert_eq!(version.producer, expected["header"]["version_info"]["producer"].as_str().unwrap());
                }
                Content::Telemetry(bytes) => assert!(expected["telemetry"].is_object() && !bytes.is_empty()),
                Content::Exit(exit) => assert_eq!((exit.exit_code, expected["exit"].is_object()), (0, true)),
                other => panic!("not in the fixture: {other:?}"),
            }
        }
    }

    #[test]
    fn typed_values_read_as_json() {
        let json = |typed| Item { typed: Some(typed), ..Item::default() }.json();
        assert_eq!(json(Typed::None(0)), "null");
        assert_eq!(json(Typed::Integer(-3)), "-3");
        assert_eq!(json(Typed::Number(0.5)), "0.5");
        assert_eq!(json(Typed::Number(f64::NAN)), "NaN");
        assert_eq!(json(Typed::Number(f64::NEG_INFINITY)), "-Infinity");
        assert_eq!(json(Typed::Text("a\"".to_owned())), r#""a\"""#);
        assert_eq!(json(Typed::Json("[1]".to_owned())), "[1]");
    }

    #[test]
    fn unknown_fields_are_passed_over() {
        // Field 4000, a varint, before a known one.
        let bytes = [&[0x80, 0xfa, 0x01, 0x07][..], &Record { num: 5, ..Record::default() }.encode_to_vec()].concat();
        assert_eq!(Record::decode(bytes.as_slice()).unwrap(), Record { num: 5, ..Record::default() });
    }
}
