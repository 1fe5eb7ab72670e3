//! Artifacts in the log of a run: a prepared draft becomes a record that says where its bytes are, and a record becomes one
//! again. File I/O; network only for what [`Client::prepare`] asks.
//!
//! Files stay where they are and are named by their path; bytes in memory go to the run's folder under their MD5. A record
//! whose files are not at their path is looked for there, too, so that a folder can be taken to another machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::digest::{Algorithm, Digest};
use crate::progress::{Progress, Stage};
use crate::store::write_durable;

use super::super::Client;
use super::super::error::WandbError;
use super::super::offline::{ArtifactRecord, Home, JsonEntry, ManifestEntry, ManifestRecord, RunFolder};
use super::draft::{ArtifactDraft, Basis, MOST_OBJECTS, Source, Ttl};
use super::manifest::{Entry, Manifest, check_path};
use super::prepare::{PreparedArtifact, add_references, check_tree};
use super::refer::entries_alone;
use super::source::{Hashed, Hashing, file_error, hash};
use super::upload::algorithm_name;

/// Who logs it, and the ids that tables refer to it by.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Ids<'a> {
    pub(in super::super) run: &'a str,
    pub(in super::super) client: &'a str,
    pub(in super::super) sequence: &'a str,
}

/// Prepares a draft without a server. Reads every file.
///
/// # Errors
/// As [`Client::prepare`]: a reference whose target would have to be looked at over the network is refused.
pub(in super::super) fn prepare_alone(
    draft: ArtifactDraft,
    home: &Home,
    progress: &Progress,
) -> Result<PreparedArtifact, WandbError> {
    let hashing = Hashing { threshold: u64::MAX, part: u64::MAX, algorithm: Algorithm::Md5 };
    let mut files = BTreeMap::new();
    for (path, source) in &draft.files {
        let hashed = hash(source, hashing, |total| progress.begin(Stage::Verify, path, Some(total)))?;
        files.insert(path.clone(), hashed);
    }
    let mut entries = draft.kept.clone();
    for reference in &draft.references {
        let found = entries_alone(&draft.name, (reference, draft.most_objects), progress)?;
        add_references(&mut entries, found, (&draft, &files))?;
    }
    let entry = |file: &Hashed| Entry::file(file.digest(Algorithm::Md5), file.size, None);
    entries.extend(files.iter().map(|(path, file)| (path.clone(), entry(file))));
    check_tree(&entries)?;
    let manifest = Manifest { region: draft.region.clone(), ..Manifest::of(entries, Algorithm::Md5) };
    Ok(PreparedArtifact { draft, files, manifest, entity: home.entity.clone(), project: home.project.clone() })
}

/// The record of a prepared draft; bytes that are nowhere else are in the folder when this returns.
pub(in super::super) fn record(
    prepared: &PreparedArtifact,
    ids: Ids<'_>,
    folder: &RunFolder,
) -> Result<ArtifactRecord, WandbError> {
    let PreparedArtifact { draft, files, manifest, entity, project } = prepared;
    let mut contents = Vec::with_capacity(manifest.entries.len());
    for (path, entry) in &manifest.entries {
        let local_path = match files.get(path) {
            Some(hashed) => place(&hashed.source, &hashed.digest(Algorithm::Md5), folder)?,
            None => String::new(),
        };
        let extra = |(key, value): (&String, &Value)| JsonEntry { key: key.clone(), value_json: value.to_string() };
        contents.push(ManifestEntry {
            path: path.clone(),
            digest: entry.digest.clone(),
            reference: entry.reference.clone().unwrap_or_default(),
            size: i64::try_from(entry.size).unwrap_or(i64::MAX),
            local_path,
            birth_artifact_id: entry.birth_artifact_id.clone().unwrap_or_default(),
            extra: entry.extra.iter().map(extra).collect(),
        });
    }
    let policy = |key: &str, value: &str| JsonEntry { key: key.to_owned(), value_json: Value::from(value).to_string() };
    let mut storage_policy_config = vec![policy("storageLayout", "V2")];
    storage_policy_config.extend(manifest.region.as_deref().map(|region| policy("storageRegion", region)));
    let metadata = Some(&draft.metadata).filter(|metadata| !metadata.is_empty());
    let base_id = match &draft.basis {
        Basis::Version(id) | Basis::Increment(Some(id)) => id.clone(),
        Basis::Nothing | Basis::Increment(None) => String::new(),
    };
    Ok(ArtifactRecord {
        run_id: ids.run.to_owned(),
        entity: entity.clone(),
        project: project.clone(),
        kind: draft.artifact_type.clone(),
        name: draft.name.clone(),
        digest: manifest.digest(),
        description: draft.description.clone().unwrap_or_default(),
        metadata: metadata.map(|metadata| Value::Object(metadata.clone()).to_string()).unwrap_or_default(),
        // With this the official client would log it without the run.
        user_created: false,
        aliases: draft.aliases.clone(),
        tags: draft.tags.clone(),
        ttl_duration_seconds: draft.ttl.wire().unwrap_or_default(),
        manifest: Some(ManifestRecord {
            version: 1,
            storage_policy: "wandb-storage-policy-v1".to_owned(),
            storage_policy_config,
            contents,
            ..ManifestRecord::default()
        }),
        finalize: true,
        client_id: ids.client.to_owned(),
        sequence_client_id: ids.sequence.to_owned(),
        base_id,
        incremental: matches!(draft.basis, Basis::Increment(_)),
        digest_algorithm: algorithm_name(manifest.algorithm).to_owned(),
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

impl Client {
    /// Prepares what a record says. Its files must be what they were when they were recorded.
    ///
    /// # Errors
    /// [`WandbError::File`] for a file that is gone, [`WandbError::Changed`] for one that is another now,
    /// [`WandbError::Malformed`] for a record that makes no sense.
    pub(in super::super) async fn prepare_record(
        &self,
        record: &ArtifactRecord,
        home: &Home,
        folder: &RunFolder,
    ) -> Result<PreparedArtifact, WandbError> {
        let mut prepared = self.prepare(draft(record, folder)?, &home.entity, &home.project).await?;
        for entry in record.manifest.iter().flat_map(|manifest| &manifest.contents) {
            let now = prepared.manifest.entries.get(&entry.path);
            // An algorithm that this server does not take gives other digests of the same bytes.
            let same = now.is_some_and(|now| now.digest == entry.digest || now.extra.get("alg") != alg(entry).as_ref());
            if !same {
                return Err(WandbError::Changed { path: found(entry, folder) });
            }
        }
        prepared.draft.region.clone_from(&prepared.manifest.region);
        Ok(prepared)
    }
}

fn alg(entry: &ManifestEntry) -> Option<Value> {
    let alg = entry.extra.iter().find(|extra| extra.key == "alg")?;
    serde_json::from_str(&alg.value_json).ok()
}

/// The draft of a record.
fn draft(record: &ArtifactRecord, folder: &RunFolder) -> Result<ArtifactDraft, WandbError> {
    let malformed =
        |reason: String| WandbError::Malformed { what: format!("the record of artifact {}", record.name), reason };
    let metadata = match serde_json::from_str(&record.metadata) {
        Ok(Value::Object(metadata)) => metadata,
        _ if record.metadata.is_empty() => Map::new(),
        _ => return Err(malformed("its metadata is no JSON object".to_owned())),
    };
    let manifest = record.manifest.clone().unwrap_or_default();
    if !manifest.manifest_file_path.is_empty() {
        return Err(malformed("its entries are in a file of their own, which is not supported".to_owned()));
    }
    let (mut kept, mut files) = (BTreeMap::new(), BTreeMap::new());
    for entry in &manifest.contents {
        let unsafe_path =
            |reason| WandbError::EntryPath { artifact: record.name.clone(), path: entry.path.clone(), reason };
        check_path(&entry.path).map_err(unsafe_path)?;
        if entry.reference.is_empty() && entry.birth_artifact_id.is_empty() {
            files.insert(entry.path.clone(), Source::File(found(entry, folder)));
        } else {
            kept.insert(entry.path.clone(), kept_entry(entry).map_err(malformed)?);
        }
    }
    let base = Some(record.base_id.clone()).filter(|id| !id.is_empty());
    let region = manifest.storage_policy_config.iter().find(|entry| entry.key == "storageRegion");
    Ok(ArtifactDraft {
        name: record.name.clone(),
        artifact_type: record.kind.clone(),
        description: Some(record.description.clone()).filter(|text| !text.is_empty()),
        metadata,
        aliases: record.aliases.clone(),
        tags: record.tags.clone(),
        ttl: match record.ttl_duration_seconds {
            0 => Ttl::Inherited,
            seconds => u64::try_from(seconds).map_or(Ttl::Never, Ttl::Seconds),
        },
        algorithm: match record.digest_algorithm == algorithm_name(Algorithm::Xxh128) {
            true => Algorithm::Xxh128,
            false => Algorithm::Md5,
        },
        basis: match (record.incremental, base) {
            (true, base) => Basis::Increment(base),
            (false, Some(base)) => Basis::Version(base),
            (false, None) => Basis::Nothing,
        },
        kept,
        files,
        references: Vec::new(),
        most_objects: MOST_OBJECTS,
        region: region.and_then(|region| serde_json::from_str(&region.value_json).ok()),
    })
}

/// An entry whose bytes are elsewhere: a reference, or a file of an older version.
fn kept_entry(entry: &ManifestEntry) -> Result<Entry, String> {
    let mut extra = Map::new();
    for item in &entry.extra {
        let value = serde_json::from_str(&item.value_json).map_err(|error| format!("`{}`: {error}", item.key))?;
        extra.insert(item.key.clone(), value);
    }
    let filled = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    Ok(Entry {
        digest: entry.digest.clone(),
        reference: filled(&entry.reference),
        size: u64::try_from(entry.size).unwrap_or_default(),
        birth_artifact_id: filled(&entry.birth_artifact_id),
        extra,
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

#[cfg(test)]
mod tests {
    use super::super::super::offline::Start;
    use super::*;

    #[test]
    fn a_record_becomes_the_draft_it_was_made_of() {
        let root = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(root.path(), Start::Offline, "r").unwrap();
        let path = root.path().join("weights");
        std::fs::write(&path, b"weights").unwrap();
        let metadata = Map::from_iter([("seed".to_owned(), Value::from(1))]);
        let draft_made = ArtifactDraft::new("model", "checkpoint").unwrap().with_metadata(metadata).unwrap();
        let draft_made = draft_made.with_description("d").with_ttl(Ttl::Never).with_tag("t").unwrap();
        let draft_made = draft_made.with_file("weights", path.clone()).unwrap();
        let draft_made = draft_made.with_file("note", b"memory".to_vec()).unwrap();
        let home = Home { entity: "e".to_owned(), project: "p".to_owned(), run: "r".to_owned() };
        let prepared = prepare_alone(draft_made, &home, &Progress::silent()).unwrap();
        let ids = Ids { run: "r", client: "c", sequence: "s" };
        let record = record(&prepared, ids, &folder).unwrap();
        assert_eq!((record.digest.clone(), record.digest_algorithm.as_str()), (prepared.digest(), "MANIFEST_MD5"));
        let places: Vec<&str> =
            record.manifest.as_ref().unwrap().contents.iter().map(|entry| entry.local_path.as_str()).collect();
        assert!(Path::new(places[0]).starts_with(folder.artifacts()) && Path::new(places[1]).ends_with("weights"));
        let back = prepare_alone(draft(&record, &folder).unwrap(), &home, &Progress::silent()).unwrap();
        assert_eq!(back.digest(), prepared.digest());
        let (made, back) = (&prepared.draft, &back.draft);
        assert_eq!((&back.name, &back.metadata, &back.aliases), (&made.name, &made.metadata, &made.aliases));
        assert_eq!((&back.tags, back.ttl, &back.description), (&made.tags, made.ttl, &made.description));
        // Taken elsewhere, the folder's own bytes are found in it.
        let moved = root.path().join("moved");
        std::fs::write(folder.log(), "").unwrap();
        std::fs::rename(folder.path(), &moved).unwrap();
        let moved = RunFolder::open(&moved).unwrap();
        assert!(found(&record.manifest.as_ref().unwrap().contents[0], &moved).starts_with(moved.path()));
    }

    #[test]
    fn entries_without_bytes_of_ours_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(root.path(), Start::Offline, "r").unwrap();
        let extra = vec![JsonEntry { key: "etag".to_owned(), value_json: "\"x\"".to_owned() }];
        let entry = ManifestEntry {
            path: "a".to_owned(),
            digest: "d".to_owned(),
            reference: "s3://b/a".to_owned(),
            size: 3,
            extra,
            ..ManifestEntry::default()
        };
        let manifest = Some(ManifestRecord { contents: vec![entry], ..ManifestRecord::default() });
        let record = ArtifactRecord { name: "n".to_owned(), manifest, ..ArtifactRecord::default() };
        let draft = draft(&record, &folder).unwrap();
        assert!(draft.files.is_empty());
        assert_eq!(
            (draft.kept["a"].reference.as_deref(), &draft.kept["a"].extra["etag"]),
            (Some("s3://b/a"), &"x".into())
        );
        let bad = ArtifactRecord { metadata: "[".to_owned(), ..record };
        assert!(matches!(super::draft(&bad, &folder), Err(WandbError::Malformed { .. })));
    }
}
