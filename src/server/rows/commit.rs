//! Committing an artifact: from announced manifests to a version with checked entries.
//!
//! Nothing becomes a version unless its manifest's bytes are here and hash as announced, and so does every file that the
//! manifest lists. INCREMENTAL manifests are laid over their base, PATCH manifests over each other in the order they came;
//! readers always see one full manifest.

use std::collections::BTreeMap;
use std::fs;

use rusqlite::{Connection, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::{Algorithm, Digest, FileHasher};
use crate::server::blob::{Blob, Blobs};
use crate::server::clock::now;
use crate::server::db::Db;
use crate::server::fault::Fault;

use super::alias;
use super::artifact::{Artifact, Entry, Manifest};
use super::collection::Membership;

/// What a committed artifact is made of.
struct Contents {
    /// The manifest that readers get.
    manifest: Blob,
    digest: String,
    entries: Vec<Entry>,
}

#[derive(Deserialize, Serialize)]
struct ManifestFile {
    version: i64,
    #[serde(rename = "storagePolicy")]
    storage_policy: String,
    #[serde(rename = "storagePolicyConfig", default)]
    storage_policy_config: Value,
    contents: BTreeMap<String, ManifestEntry>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct ManifestEntry {
    digest: String,
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<i64>,
    #[serde(default, rename = "birthArtifactID", skip_serializing_if = "Option::is_none")]
    birth_artifact: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    extra: Option<Value>,
}

/// Commits a pending artifact; a committed one stays as it is.
pub(in crate::server) fn commit(db: &Db, blobs: &Blobs, id: i64) -> Result<(), Fault> {
    let artifact = db.read(|c| Artifact::get(c, id))?;
    match artifact.state.as_str() {
        "COMMITTED" => return Ok(()),
        "DELETED" => return Err(Fault::conflict("a deleted artifact cannot be committed")),
        _ => {}
    }
    let contents = gather(db, blobs, &artifact)?;
    db.write(|transaction| {
        // Two commits may have raced to here.
        if Artifact::get(transaction, id)?.is_committed() { Ok(()) } else { record(transaction, &artifact, &contents) }
    })
}

fn record(db: &Transaction<'_>, artifact: &Artifact, contents: &Contents) -> Result<(), Fault> {
    for entry in &contents.entries {
        entry.insert(db, artifact.id)?;
    }
    let size: i64 = contents.entries.iter().map(|entry| entry.size).sum();
    let sql = "UPDATE artifact SET state = 'COMMITTED', digest = ?2, manifest_sha256 = ?3, size = ?4, file_count = ?5,
               updated_at = ?6 WHERE id = ?1";
    let count = contents.entries.len() as i64;
    db.execute(sql, params![artifact.id, contents.digest, contents.manifest.sha256, size, count, now()])?;
    let sequence = artifact.sequence(db)?;
    let index = sequence.next_version(db)?;
    let sql = "INSERT INTO membership (collection_id, artifact_id, version_index, created_at) VALUES (?1, ?2, ?3, ?4)";
    db.execute(sql, params![sequence.id, artifact.id, index, now()])?;
    let sql = "UPDATE collection SET digest_algorithm = coalesce(digest_algorithm, ?2) WHERE id = ?1";
    db.execute(sql, params![sequence.id, artifact.digest_algorithm])?;
    let membership = Membership::of(db, sequence.id, artifact.id)?.ok_or(Fault::Lost)?;
    let wanted: Vec<String> = serde_json::from_str(&artifact.pending_aliases).unwrap_or_default();
    for name in std::iter::once(alias::LATEST).chain(wanted.iter().map(String::as_str)) {
        alias::point(db, &membership, name)?;
    }
    Ok(())
}

/// Reads and merges the manifests and checks everything they list.
fn gather(db: &Db, blobs: &Blobs, artifact: &Artifact) -> Result<Contents, Fault> {
    let manifests = db.read(|c| Manifest::announced(c, artifact.id))?;
    let last = manifests.last().ok_or_else(|| Fault::invalid("the artifact has no manifest to commit"))?;
    let mut full = true;
    let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
    let used: Vec<&Manifest> = match last.kind.as_str() {
        "PATCH" => manifests.iter().filter(|manifest| manifest.kind == "PATCH").collect(),
        _ => vec![last],
    };
    if last.kind == "INCREMENTAL" {
        full = false;
        let base = db.read(|c| match last.base_artifact {
            Some(base) => Artifact::get(c, base).map(Some),
            None => Artifact::latest(c, artifact.sequence_id),
        })?;
        if let Some(base) = base {
            entries.extend(db.read(|c| Entry::all(c, base.id))?.into_iter().map(|entry| (entry.path.clone(), entry)));
        }
    }
    full &= last.kind == "FULL";
    let mut bytes_of_last = None;
    for manifest in used {
        let (blob, file) = read_manifest(db, blobs, manifest)?;
        let checked =
            db.read(|c| file.contents.into_iter().map(|(path, e)| check(c, path, e)).collect::<Result<Vec<_>, _>>())?;
        entries.extend(checked.into_iter().map(|entry| (entry.path.clone(), entry)));
        bytes_of_last = Some(blob);
    }
    let entries: Vec<Entry> = entries.into_values().collect();
    let digest = digest_of(&artifact.digest_algorithm, &entries);
    if full {
        if digest != artifact.requested_digest {
            return Err(Fault::invalid(format!(
                "the manifest hashes to {digest}, but the artifact was created with digest {}",
                artifact.requested_digest
            )));
        }
        let manifest = bytes_of_last.ok_or(Fault::Lost)?;
        return Ok(Contents { manifest, digest, entries });
    }
    let manifest = write_manifest(db, blobs, &entries)?;
    Ok(Contents { manifest, digest, entries })
}

fn read_manifest(db: &Db, blobs: &Blobs, manifest: &Manifest) -> Result<(Blob, ManifestFile), Fault> {
    let digest = Digest::from_base64(Algorithm::Md5, &manifest.digest)
        .map_err(|error| Fault::invalid(format!("manifest digest: {error}")))?;
    let blob = db
        .read(|c| Blob::find_by_digest(c, Algorithm::Md5, &digest.to_hex()))?
        .ok_or_else(|| Fault::invalid(format!("`{}` with MD5 {digest} was never uploaded", manifest.name)))?;
    let path = blobs.path(&blob.sha256);
    let bytes = fs::read(&path).map_err(Fault::io("read", &path))?;
    let file: ManifestFile = serde_json::from_slice(&bytes)
        .map_err(|error| Fault::invalid(format!("`{}` is not a manifest: {error}", manifest.name)))?;
    if file.version != 1 || file.storage_policy != "wandb-storage-policy-v1" {
        return Err(Fault::invalid(format!(
            "`{}` has version {} and storage policy `{}`; only version 1 of `wandb-storage-policy-v1` is known",
            manifest.name, file.version, file.storage_policy
        )));
    }
    Ok((blob, file))
}

/// The entry as it will be kept, when its path is sound and its content is here.
fn check(db: &Connection, path: String, entry: ManifestEntry) -> Result<Entry, Fault> {
    check_path(&path)?;
    let extra = entry.extra.map(|extra| extra.to_string());
    if let Some(reference) = entry.reference {
        return Ok(Entry {
            path,
            digest: entry.digest,
            size: entry.size.unwrap_or(0),
            reference: Some(reference),
            birth_artifact: entry.birth_artifact,
            extra,
            sha256: None,
        });
    }
    let algorithm = algorithm_of(extra.as_deref());
    let digest = Digest::from_base64(algorithm, &entry.digest)
        .map_err(|error| Fault::invalid(format!("digest of entry `{path}`: {error}")))?;
    let blob = Blob::find_by_digest(db, algorithm, &digest.to_hex())?
        .ok_or_else(|| Fault::invalid(format!("content of entry `{path}` ({digest}) was never uploaded")))?;
    let size = i64::try_from(blob.size).map_err(|_| Fault::invalid(format!("entry `{path}` is too large")))?;
    if entry.size.is_some_and(|announced| announced != size) {
        return Err(Fault::invalid(format!(
            "entry `{path}` is announced with {} bytes, but {size} were uploaded",
            entry.size.unwrap_or_default()
        )));
    }
    let sha256 = Some(blob.sha256);
    Ok(Entry { path, digest: entry.digest, size, reference: None, birth_artifact: entry.birth_artifact, extra, sha256 })
}

/// How an entry was hashed: `extra.alg` says so when it is not MD5.
pub(in crate::server) fn algorithm_of(extra: Option<&str>) -> Algorithm {
    let named = extra.and_then(|text| serde_json::from_str::<Value>(text).ok());
    match named.as_ref().and_then(|extra| extra.get("alg")).and_then(|name| name.as_str()) {
        Some("XXH128") => Algorithm::Xxh128,
        _ => Algorithm::Md5,
    }
}

/// Refuses paths that could leave the folder they are downloaded to, or that no client could look up again
/// (`wandb/sdk/lib/paths.py`).
fn check_path(path: &str) -> Result<(), Fault> {
    let drive = path.as_bytes().get(1) == Some(&b':') && path.as_bytes().first().is_some_and(u8::is_ascii_alphabetic);
    let component = |part: &str| part.is_empty() || part == "." || part == "..";
    if drive || path.contains('\0') || path.split('/').any(component) || path.split('\\').any(|part| part == "..") {
        return Err(Fault::invalid(format!("`{path}` is not a relative, normalised path for an artifact entry")));
    }
    Ok(())
}

/// The digest of an artifact: hash of a header line and `path:digest` lines in the order of paths
/// (`core/pkg/artifacts/builder.go`).
fn digest_of(algorithm: &str, entries: &[Entry]) -> String {
    let algorithm = if algorithm == "MANIFEST_XXH128" { Algorithm::Xxh128 } else { Algorithm::Md5 };
    let mut hasher = FileHasher::new(algorithm);
    hasher.update(b"wandb-artifact-manifest-v1\n");
    for entry in entries {
        hasher.update(format!("{}:{}\n", entry.path, entry.digest).as_bytes());
    }
    hasher.digest().to_hex()
}

/// Writes the full manifest of merged entries.
fn write_manifest(db: &Db, blobs: &Blobs, entries: &[Entry]) -> Result<Blob, Fault> {
    let contents = entries
        .iter()
        .map(|entry| {
            let extra = entry.extra.as_ref().and_then(|text| serde_json::from_str(text).ok());
            let size = Some(entry.size);
            let written = ManifestEntry {
                digest: entry.digest.clone(),
                reference: entry.reference.clone(),
                size,
                birth_artifact: entry.birth_artifact.clone(),
                extra,
            };
            (entry.path.clone(), written)
        })
        .collect();
    let file = ManifestFile {
        version: 1,
        storage_policy: "wandb-storage-policy-v1".to_owned(),
        storage_policy_config: serde_json::json!({ "storageLayout": "V2" }),
        contents,
    };
    let bytes = serde_json::to_vec(&file).map_err(|error| Fault::invalid(format!("merged manifest: {error}")))?;
    let mut incoming = blobs.receive()?;
    incoming.write(&bytes)?;
    blobs.keep(db, incoming)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, digest: &str) -> Entry {
        Entry {
            path: path.to_owned(),
            digest: digest.to_owned(),
            size: 0,
            reference: None,
            birth_artifact: None,
            extra: None,
            sha256: None,
        }
    }

    #[test]
    fn artifact_digests_match_the_official_vectors() {
        assert_eq!(digest_of("MANIFEST_MD5", &[]), "64e7c61456b10382e2f3b571ac24b659");
        let file = entry("file1.txt", "XUFAKrxLKna5cZ2REBfFkg==");
        assert_eq!(digest_of("MANIFEST_MD5", &[file]), "a00c2239f036fb656c1dcbf9a32d89b4");
        let one = entry("1.txt", "ChxtTPQetJmRH6unMh/hoA==");
        assert_eq!(digest_of("MANIFEST_XXH128", &[one]), "5fcd5f2a2c5fa70b2ae1804806ec360c");
    }

    #[test]
    fn paths_that_leave_the_folder_or_hide_are_refused() {
        for bad in ["", "/a", "a/", "a//b", "./a", "a/../b", "..", "C:a", "a\\..\\b", "a\0b"] {
            assert!(check_path(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "a/b.txt", "my table/k.table.json", ".hidden", "a b/ü.png", "..a/b.."] {
            assert!(check_path(good).is_ok(), "{good:?}");
        }
    }
}
