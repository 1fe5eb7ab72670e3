//! Artifacts that a run makes and uses.

use prost::Message;

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
