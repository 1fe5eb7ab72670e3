//! Artifacts in the log of a run: a draft becomes a record that says where its bytes are, and a record becomes a draft
//! again. File I/O.
//!
//! Files stay where they are and are named by their path; bytes in memory go to the run's folder under their MD5. A record
//! whose files are not at their path is looked for there, too, so that a folder can be taken to another machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::digest::{Algorithm, Digest};
use crate::progress::Progress;
use crate::store::write_durable;

use super::super::error::WandbError;
use super::super::offline::{ArtifactRecord, JsonEntry, ManifestEntry, ManifestRecord, RunFolder};
use super::draft::{ArtifactDraft, Source};
use super::manifest::{Entry, Manifest, check_path};
use super::source::{file_error, hash};

/// Who logs it, and the ids that tables refer to it by.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Ids<'a> {
    pub(in super::super) run: &'a str,
    pub(in super::super) client: &'a str,
    pub(in super::super) sequence: &'a str,
}

/// The record of a draft; bytes that are nowhere else are in the folder when this returns. Reads every file.
pub(in super::super) fn record(
    draft: &ArtifactDraft,
    ids: Ids<'_>,
    folder: &RunFolder,
    progress: &Progress,
) -> Result<ArtifactRecord, WandbError> {
    let (mut contents, mut entries) = (Vec::new(), BTreeMap::new());
    for (path, source) in &draft.files {
        let begin = |total| progress.begin(crate::progress::Stage::Verify, path, Some(total));
        let hashed = hash(source, u64::MAX, begin)?;
        let entry = Entry::file(hashed.md5, hashed.size, None);
        contents.push(ManifestEntry {
            path: path.clone(),
            digest: entry.digest.clone(),
            size: i64::try_from(hashed.size).unwrap_or(i64::MAX),
            local_path: place(source, &hashed.md5, folder)?,
            ..ManifestEntry::default()
        });
        entries.insert(path.clone(), entry);
    }
    let layout = JsonEntry { key: "storageLayout".to_owned(), value_json: "\"V2\"".to_owned() };
    let manifest = ManifestRecord {
        version: 1,
        storage_policy: "wandb-storage-policy-v1".to_owned(),
        storage_policy_config: vec![layout],
        contents,
        ..ManifestRecord::default()
    };
    Ok(ArtifactRecord {
        run_id: ids.run.to_owned(),
        kind: draft.artifact_type.clone(),
        name: draft.name.clone(),
        digest: Manifest::of(entries).digest(),
        description: draft.description.clone().unwrap_or_default(),
        metadata: if draft.metadata.is_empty() {
            String::new()
        } else {
            Value::Object(draft.metadata.clone()).to_string()
        },
        user_created: true,
        aliases: draft.aliases.clone(),
        tags: draft.tags.clone(),
        ttl_duration_seconds: draft.ttl_seconds.and_then(|seconds| i64::try_from(seconds).ok()).unwrap_or_default(),
        manifest: Some(manifest),
        finalize: true,
        client_id: ids.client.to_owned(),
        sequence_client_id: ids.sequence.to_owned(),
        digest_algorithm: "MANIFEST_MD5".to_owned(),
        ..ArtifactRecord::default()
    })
}

/// Where the bytes of a source are from now on, as an absolute path.
fn place(source: &Source, md5: &Digest, folder: &RunFolder) -> Result<String, WandbError> {
    let path = match source {
        Source::File(path) => std::path::absolute(path).map_err(|error| file_error("find", path, error))?,
        Source::Bytes(bytes) => {
            let path = folder.artifacts().join(md5.to_hex());
            write_durable(&path, bytes).map_err(|error| file_error("write", &path, error))?;
            path
        }
    };
    path.to_str().map(str::to_owned).ok_or_else(|| {
        let name = std::io::Error::new(std::io::ErrorKind::InvalidInput, "its name is not UTF-8, as the log wants it");
        file_error("record", &path, name)
    })
}

/// The draft of a record.
pub(in super::super) fn draft(record: &ArtifactRecord, folder: &RunFolder) -> Result<ArtifactDraft, WandbError> {
    let what = || format!("artifact {}", record.name);
    let malformed = |reason: String| WandbError::Malformed { what: what(), reason };
    let metadata = match serde_json::from_str(&record.metadata) {
        Ok(Value::Object(metadata)) => metadata,
        _ if record.metadata.is_empty() => Map::new(),
        _ => return Err(malformed("its metadata is no JSON object".to_owned())),
    };
    let manifest = record.manifest.clone().unwrap_or_default();
    if !manifest.manifest_file_path.is_empty() {
        return Err(malformed("its entries are in a file of their own".to_owned()));
    }
    let mut files = BTreeMap::new();
    for entry in &manifest.contents {
        let unsafe_path =
            |reason| WandbError::EntryPath { artifact: record.name.clone(), path: entry.path.clone(), reason };
        check_path(&entry.path).map_err(unsafe_path)?;
        if !entry.reference.is_empty() {
            return Err(malformed(format!("its entry `{}` is a reference", entry.path)));
        }
        files.insert(entry.path.clone(), Source::File(found(entry, folder)));
    }
    Ok(ArtifactDraft {
        name: record.name.clone(),
        artifact_type: record.kind.clone(),
        description: Some(record.description.clone()).filter(|text| !text.is_empty()),
        metadata,
        aliases: record.aliases.clone(),
        tags: record.tags.clone(),
        ttl_seconds: u64::try_from(record.ttl_duration_seconds).ok().filter(|seconds| *seconds > 0),
        files,
    })
}

/// Where the bytes of an entry are: at the path of the record, or in the folder.
fn found(entry: &ManifestEntry, folder: &RunFolder) -> PathBuf {
    let recorded = Path::new(&entry.local_path);
    let own = || Digest::from_base64(Algorithm::Md5, &entry.digest).map(|md5| folder.artifacts().join(md5.to_hex()));
    match own() {
        Ok(own) if !recorded.is_file() && own.is_file() => own,
        _ => recorded.to_owned(),
    }
}
