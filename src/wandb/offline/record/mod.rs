//! The protobuf messages of a `.wandb` file, as far as we write or read them. No I/O.
//!
//! Field numbers are those of `wandb/proto/wandb_internal.proto` 0.31, which only ever adds. What is not listed here is
//! skipped when read. Messages that go to the server by their numbers alone (telemetry, see [`super::telemetry`]) are kept
//! as bytes, which on the wire are the same thing as a message.

mod artifact;
mod environment;
mod item;
mod row;
mod run;
#[cfg(test)]
mod tests;

use prost::{Message, Oneof};

pub(crate) use artifact::{ArtifactRecord, JsonEntry, ManifestEntry, ManifestRecord, UseArtifactRecord};
pub(crate) use environment::{CpuInfo, EnvironmentRecord, GpuNvidiaInfo};
pub(crate) use item::{Item, Timestamp};
pub(crate) use row::{HistoryRecord, HistoryStep, OutputRawRecord, StatsRecord};
pub(crate) use run::{
    AlertRecord, ConfigRecord, ExitRecord, FilesItem, FilesRecord, MetricRecord, RunRecord, SummaryRecord,
};

#[cfg(test)]
pub(crate) use {
    environment::{DiskInfo, MemoryInfo},
    item::Typed,
    run::GitRepoRecord,
};

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
