//! The run itself: what it is called, its configuration, summary and metrics, its files, alerts and end.

use prost::Message;

use super::item::{Item, Timestamp};

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
    /// Of a run that started offline: whoever sends it is to go on with a run of that id, if there is one.
    #[prost(bool, tag = "24")]
    pub(crate) resume: bool,
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
