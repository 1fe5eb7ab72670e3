//! The machine and the program.

use std::collections::BTreeMap;

use prost::Message;

use super::item::Timestamp;
use super::run::GitRepoRecord;

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
    pub(crate) disk: BTreeMap<String, DiskInfo>,
    #[prost(message, optional, tag = "21")]
    pub(crate) memory: Option<MemoryInfo>,
    #[prost(message, optional, tag = "22")]
    pub(crate) cpu: Option<CpuInfo>,
    #[prost(message, repeated, tag = "24")]
    pub(crate) gpu_nvidia: Vec<GpuNvidiaInfo>,
    #[prost(string, tag = "25")]
    pub(crate) cuda_version: String,
    #[prost(btree_map = "string, string", tag = "27")]
    pub(crate) slurm: BTreeMap<String, String>,
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
