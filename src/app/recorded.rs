//! What servers told us, kept in the store: what each name stood for, manifests, whose key was used. From these records
//! names are served offline, and manifests that are known are not asked for again. File I/O only.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::store::{RecordKind, Store, StoreError};
use crate::wandb::{Artifact, Manifest, QualifiedName};

/// Version of the records; others are not read.
const VERSION: u32 = 1;

/// The records of one server.
#[derive(Debug, Clone)]
pub(super) struct Recorded {
    store: Store,
    host: String,
}

/// What a name stood for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Resolution {
    version: u32,
    pub(super) host: String,
    name: QualifiedName,
    pub(super) artifact: Artifact,
}

/// Whose key was used last.
#[derive(Serialize, Deserialize)]
struct Owner {
    version: u32,
    entity: String,
}

impl Recorded {
    pub(super) fn new(store: &Store, host: &str) -> Self {
        Self { store: store.clone(), host: host.to_owned() }
    }

    /// What the name stood for when it was last asked for. A version, digest or id answers too when the artifact was
    /// asked for under another name.
    pub(super) fn resolution(&self, name: &QualifiedName) -> Result<Option<Artifact>, StoreError> {
        let record = self.store.record(RecordKind::Resolution, &self.key(name))?;
        if let Some(found) = record.and_then(|bytes| parse::<Resolution>(&bytes)) {
            return Ok(Some(found.artifact));
        }
        let here = |artifact: &Artifact| {
            let is = |of: &QualifiedName| {
                (&of.entity, &of.project, &of.collection) == (&name.entity, &name.project, &name.collection)
            };
            let by_version = is(&artifact.source) && artifact.source.alias == name.alias;
            let by_digest = (is(&artifact.name()) || is(&artifact.source)) && artifact.digest == name.alias;
            by_version || by_digest
        };
        Ok(resolutions(&self.store)?.into_iter().filter(|found| found.host == self.host).map(|r| r.artifact).find(here))
    }

    /// Records what names stand for, each under its version too.
    pub(super) fn record(&self, found: &[(QualifiedName, Artifact)]) -> Result<(), StoreError> {
        let mut records = Vec::with_capacity(2 * found.len());
        for (name, artifact) in found {
            let own = artifact.name();
            for name in std::iter::once(name).chain((own != *name).then_some(&own)) {
                let (host, artifact) = (self.host.clone(), artifact.clone());
                let resolution = Resolution { version: VERSION, host, name: name.clone(), artifact };
                records.extend(text(&resolution).map(|text| (self.key(name), text)));
            }
        }
        self.store.keep_records(RecordKind::Resolution, &records)
    }

    /// The manifest of a version, proven by the artifact's digest. One that is damaged counts as none.
    pub(super) fn manifest(&self, artifact: &Artifact) -> Result<Option<Manifest>, StoreError> {
        let bytes = self.store.record(RecordKind::Manifest, &manifest_key(&self.host, artifact))?;
        Ok(bytes.and_then(|bytes| Manifest::parse(&bytes, &artifact.name().to_string(), &artifact.digest).ok()))
    }

    /// Keeps manifests as the server sent them.
    pub(super) fn keep_manifests(&self, manifests: &[(Artifact, Vec<u8>)]) -> Result<(), StoreError> {
        let keyed = manifests.iter().map(|(artifact, text)| (manifest_key(&self.host, artifact), text.clone()));
        self.store.keep_records(RecordKind::Manifest, &keyed.collect::<Vec<_>>())
    }

    /// The default entity of the key that was last used with this server.
    pub(super) fn owner(&self) -> Result<Option<String>, StoreError> {
        let record = self.store.record(RecordKind::Resolution, &self.owner_key())?;
        Ok(record.and_then(|bytes| parse::<Owner>(&bytes)).map(|owner| owner.entity))
    }

    pub(super) fn record_owner(&self, entity: &str) -> Result<(), StoreError> {
        let owner = text(&Owner { version: VERSION, entity: entity.to_owned() });
        let records: Vec<_> = owner.into_iter().map(|text| (self.owner_key(), text)).collect();
        self.store.keep_records(RecordKind::Resolution, &records)
    }

    fn key(&self, name: &QualifiedName) -> String {
        format!("{}\n{name}", self.host)
    }

    /// No name has two line breaks before it.
    fn owner_key(&self) -> String {
        format!("{}\n\nowner", self.host)
    }
}

/// Every resolution in the store, of any server.
pub(super) fn resolutions(store: &Store) -> Result<Vec<Resolution>, StoreError> {
    let records = store.records(RecordKind::Resolution)?;
    let known = |found: &Resolution| found.version == VERSION;
    Ok(records.iter().filter_map(|bytes| serde_json::from_slice(bytes).ok()).filter(known).collect())
}

/// By id, not by digest alone: the digest covers neither where references point nor who brought the bytes.
fn manifest_key(host: &str, artifact: &Artifact) -> String {
    format!("{host}\n{}\n{}", artifact.id, artifact.digest)
}

/// A record that cannot be read, or is of another version, is none.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let known = value.get("version").and_then(serde_json::Value::as_u64) == Some(VERSION.into());
    known.then(|| serde_json::from_value(value).ok()).flatten()
}

fn text<T: Serialize>(record: &T) -> Option<Vec<u8>> {
    serde_json::to_vec(record).ok()
}
