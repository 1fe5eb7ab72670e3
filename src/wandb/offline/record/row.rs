//! What a run says while it goes on: rows, system metrics, what it printed.

use prost::Message;

use super::item::{Item, Timestamp};

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
