//! References to objects in S3, Google Cloud Storage and Azure. Network and file I/O through `object_store`.
//!
//! As in the SDK (`s3_handler.py`, `gcs_handler.py`, `azure_handler.py`) the digest of such an entry is the object's ETag
//! without quotes, and `extra.versionID` names its version where the bucket keeps them. Other than the SDK we do not
//! search earlier versions for the ETag when no version was recorded: the library has no listing of versions. On Google
//! Cloud Storage the recorded generation is the proof, since the API used here gives other ETags than the one that the
//! SDK uses.

use std::sync::Arc;

use futures_util::StreamExt as _;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore};

use crate::progress::Stage;
use crate::store::{EtagPartial, EtagReservation, Store, StoreError};

use super::super::super::Client;
use super::super::super::error::WandbError;
use super::super::super::retry::{Budget, Traffic};
use super::super::bucket;
use super::super::download::{Origin, blocking};
use super::target::{Cloud, Place};
use super::{Fetched, Proof, Reference, ReferenceError, reserve};

/// Bytes written at once.
const BATCH: usize = 1 << 20;

/// Fetches one object.
pub(super) struct Getter<'a> {
    pub(super) client: &'a Client,
    pub(super) budget: &'a Budget,
    pub(super) store: &'a Store,
    pub(super) reference: &'a Reference,
    pub(super) place: &'a Place,
}

/// Why an attempt broke off, when another may do better.
enum Broken {
    Failed(object_store::Error),
    /// Nothing came for too long, tries of the library itself included.
    Idle,
}

impl Getter<'_> {
    /// Brings the object into the store, once it is known to be what was referred to.
    pub(super) async fn fetch(&self) -> Result<Fetched, WandbError> {
        let (key, unproven) = (self.reference.key(), self.reference.is_unproven());
        let mut partial = match reserve(self.store, self.reference).await? {
            EtagReservation::Present(object) => {
                return Ok(Fetched { object, origin: Origin::Store, proof: Proof::Etag(key) });
            }
            EtagReservation::Missing(partial) => partial,
        };
        let bucket = bucket::open(self.place, self.client.cloud_terms()).map_err(|error| self.failed(error))?;
        let path = Path::parse(&self.place.key).map_err(|error| self.failed(error.into()))?;
        let mut attempt = 0;
        while let Some(why) = self.attempt(&bucket, &path, &mut partial).await? {
            let wait = self.budget.spend(Traffic::Object, attempt, None).ok_or_else(|| self.given_up(why))?;
            tokio::time::sleep(wait).await;
            attempt += 1;
        }
        self.budget.earn();
        let object = blocking(&self.reference.label(), move || partial.commit()).await?;
        let object = object.map_err(|source| self.store_error(source))?;
        let proof = if unproven { Proof::Unproven(key) } else { Proof::Etag(key) };
        Ok(Fetched { object, origin: Origin::Network, proof })
    }

    /// One request; `None` when all is here, else why it broke off.
    async fn attempt(
        &self,
        bucket: &Arc<dyn ObjectStore>,
        path: &Path,
        partial: &mut Box<EtagPartial>,
    ) -> Result<Option<Broken>, WandbError> {
        if self.reference.is_unproven() && !partial.is_empty() {
            partial.restart().map_err(|source| self.store_error(source))?;
        }
        let range = (!partial.is_empty()).then(|| GetRange::Offset(partial.len()));
        let from = partial.len();
        if self.reference.size() == Some(from) && from > 0 {
            // All of it came before; whether it still is that version is asked without its bytes.
            let options = GetOptions { head: true, version: self.version(), ..GetOptions::default() };
            let Some(got) = self.timely(bucket.get_opts(path, options)).await else { return Ok(Some(Broken::Idle)) };
            self.check(&got.map_err(|error| self.failed(error))?.meta)?;
            return Ok(None);
        }
        let options = GetOptions { range, version: self.version(), ..GetOptions::default() };
        let got = match self.timely(bucket.get_opts(path, options)).await {
            None => return Ok(Some(Broken::Idle)),
            Some(Ok(got)) => got,
            // It may have no bytes behind those that are here: only a fresh start can tell who is right.
            Some(Err(error @ object_store::Error::Generic { .. })) if from > 0 => {
                partial.restart().map_err(|source| self.store_error(source))?;
                return Ok(Some(Broken::Failed(error)));
            }
            Some(Err(error)) => return Err(self.failed(error)),
        };
        self.check(&got.meta)?;
        self.pour(got, partial).await
    }

    async fn pour(&self, got: GetResult, partial: &mut Box<EtagPartial>) -> Result<Option<Broken>, WandbError> {
        let total = got.meta.size;
        let task = self.client.transport().progress.begin(Stage::Download, &self.reference.label(), Some(total));
        task.advance(partial.len());
        let mut body = got.into_stream();
        let mut batch = Vec::with_capacity(BATCH);
        let broken = loop {
            match self.timely(body.next()).await {
                None => break Some(Broken::Idle),
                Some(None) => break None,
                Some(Some(Err(error))) => break Some(Broken::Failed(error)),
                Some(Some(Ok(chunk))) => {
                    task.advance(chunk.len() as u64);
                    batch.extend_from_slice(&chunk);
                }
            }
            if batch.len() >= BATCH {
                // A megabyte into the page cache: too short to be worth moving to another thread and back.
                partial.append(&batch).map_err(|source| self.store_error(source))?;
                batch.clear();
            }
        };
        partial.append(&batch).map_err(|source| self.store_error(source))?;
        if broken.is_none() && partial.len() != total {
            return Err(self.changed(format!("{total} bytes"), format!("{} bytes", partial.len())));
        }
        Ok(broken)
    }

    /// Whether an object is what was referred to.
    fn check(&self, meta: &ObjectMeta) -> Result<(), WandbError> {
        if let Some(size) = self.reference.size().filter(|size| *size != meta.size) {
            return Err(self.changed(format!("{size} bytes"), format!("{} bytes", meta.size)));
        }
        if self.reference.is_unproven() {
            return Ok(());
        }
        let expected = &self.reference.entry.digest;
        let found = meta.e_tag.as_deref().map(|tag| tag.trim_matches('"')).unwrap_or_default();
        let version = self.version();
        let generation = self.place.cloud == Cloud::Gcs && version.is_some() && meta.version == version;
        if found == expected || generation {
            return Ok(());
        }
        if version.is_none() {
            let (expected, found, cloud) = (expected.clone(), found.to_owned(), self.place.cloud.name());
            return Err(self.reference.refuse(ReferenceError::Superseded { expected, found, cloud }));
        }
        Err(self.changed(format!("version {expected}"), format!("version {found}")))
    }

    /// The version that was recorded: a text, or Google's number.
    fn version(&self) -> Option<String> {
        match self.reference.entry.extra.get("versionID")? {
            serde_json::Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
            serde_json::Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// No longer than we wait for a byte; `None` when that passed.
    async fn timely<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout(self.client.transport().idle_timeout(), work).await.ok()
    }

    fn given_up(&self, why: Broken) -> WandbError {
        match why {
            Broken::Failed(error) => self.failed(error),
            Broken::Idle => {
                let seconds = self.client.transport().idle_timeout().as_secs();
                WandbError::Timeout { what: self.reference.label(), seconds }
            }
        }
    }

    fn changed(&self, expected: String, found: String) -> WandbError {
        self.reference.refuse(ReferenceError::Changed { expected, found })
    }

    fn failed(&self, error: object_store::Error) -> WandbError {
        self.reference.refuse(bucket::why(&self.place.cloud, error))
    }

    fn store_error(&self, source: StoreError) -> WandbError {
        WandbError::Store { what: self.reference.label(), source }
    }
}
