//! The `.wandb` transaction log: what a run logs, written to disk before anything is sent, and sent from there.
//!
//! ```text
//! handle ─ records → spool → log ─→ sender → server        a run that is online
//!                             │
//!                             └───→ nobody, until `sync`    a run that is offline
//! ```
//!
//! [`framing`] and [`record`] are the file format, [`assembly`] says what records add up to, [`lines`] what a request
//! carries, all without I/O. [`log`] and [`folder`] are the files, [`cursor`] what a server confirmed. [`sender`] sends a log
//! while it grows or when it is done, and does so any number of times with the same result: each line has its number from
//! its place in the log, and everything else replaces what was there.

mod assembly;
mod cursor;
mod errand;
mod folder;
mod framing;
mod home;
mod left_over;
mod lines;
mod log;
mod past;
mod record;
mod sender;
mod spool;
mod sync;
mod telemetry;
mod tree;
mod yaml;

pub(super) use assembly::{Assembly, own_telemetry, sender};
pub(super) use cursor::{Cursor, Destination, First};
pub(super) use errand::Context;
pub(super) use folder::{RunFolder, Start};
pub(super) use home::{Home, Renamed};
pub(super) use lines::LINE_BYTES;
pub(super) use log::LogReader;
pub(super) use past::Past;
pub(super) use record::{
    AlertRecord, ArtifactRecord, ConfigRecord, Content, CpuInfo, EnvironmentRecord, ExitRecord, FilesItem, FilesRecord,
    HistoryRecord, HistoryStep, Item, JsonEntry, ManifestEntry, ManifestRecord, OutputRawRecord, Record, RunRecord,
    SummaryRecord, Timestamp, UseArtifactRecord,
};
pub(super) use sender::Sender;
pub(super) use spool::{Spool, Written, channel};
pub use sync::{SyncOptions, Synced, is_synced, remove_synced, runs_in, runs_to_sync};
