//! What a bucket holds now: one object, or all below a prefix, with the tags and versions that entries pin. Network I/O.
//!
//! As in the SDK's handlers: an address that names no object, or the mark of a folder, stands for all that is below it;
//! empty objects of S3 that are found there are such marks and left out. Other than in the SDK, more objects than allowed
//! are refused, not cut, and an address with nothing behind it is an error, not an artifact without entries.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::path::Path;
use object_store::{Attribute, GetOptions, GetResult, ObjectMeta, ObjectStore};
use serde_json::{Map, Value};

use super::super::super::Client;
use super::super::super::error::WandbError;
use super::super::super::retry::Budget;
use super::super::bucket;
use super::super::manifest::Entry;
use super::super::reference::{Cloud, ReferenceError};
use super::Subject;
use super::address::Start;

/// An object as it is now.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub(super) key: String,
    pub(super) size: u64,
    pub(super) digest: String,
    pub(super) extra: Map<String, Value>,
}

/// What is under a name.
enum Looked {
    Object(Found),
    /// Something that only stands for a folder.
    Folder,
    Nothing,
}

/// A look at what an address of a bucket stands for.
pub(super) struct Survey<'a> {
    pub(super) client: &'a Client,
    pub(super) budget: &'a Budget,
    pub(super) subject: &'a Subject<'a>,
    pub(super) start: &'a Start,
}

impl Survey<'_> {
    /// One entry for each object.
    pub(super) async fn entries(&self) -> Result<Vec<(String, Entry)>, WandbError> {
        let found = match &self.start.place.cloud {
            Cloud::Gcs => self.google().await?,
            Cloud::S3 | Cloud::Azure(_) => self.plain().await?,
        };
        if found.is_empty() {
            return Err(self.missing());
        }
        let name = self.subject.reference.path.as_str();
        let entry = |found: Found| {
            let path = self.subject.checked(self.start.path(name, &found.key))?;
            let reference = Some(self.start.uri(&found.key));
            let (digest, size, extra) = (found.digest, found.size, found.extra);
            Ok((path, Entry { digest, reference, size, birth_artifact_id: None, extra }))
        };
        found.into_iter().map(entry).collect()
    }

    /// S3 and Azure, through the library.
    async fn plain(&self) -> Result<Vec<Found>, WandbError> {
        let store = bucket::open(&self.start.place, self.client.cloud_terms()).map_err(|error| self.failed(error))?;
        let mut named = None;
        if self.start.names_an_object() {
            let path = self.parsed(&self.start.place.key)?;
            named = match self.look(&store, &path, self.start.version.clone()).await? {
                Looked::Object(found) => Some(found),
                Looked::Folder | Looked::Nothing => None,
            };
            let whole = named.as_ref().is_some_and(|found| found.size > 0);
            if whole || self.start.version.is_some() {
                return Ok(named.into_iter().collect());
            }
        }
        let below = self.list(&store).await?;
        Ok(if below.is_empty() { named.into_iter().collect() } else { below })
    }

    /// What is under a name.
    async fn look(
        &self,
        store: &Arc<dyn ObjectStore>,
        path: &Path,
        version: Option<String>,
    ) -> Result<Looked, WandbError> {
        let options = GetOptions { head: true, version: version.clone(), ..GetOptions::default() };
        let GetResult { meta, attributes, .. } = match store.get_opts(path, options).await {
            Ok(got) => got,
            Err(object_store::Error::NotFound { .. }) => return Ok(Looked::Nothing),
            Err(error) => return Err(self.failed(error)),
        };
        let attribute = |attribute: Attribute| attributes.get(&attribute).map_or("", |value| value.as_ref());
        let folder = match self.start.place.cloud {
            Cloud::S3 => attribute(Attribute::ContentType).contains("x-directory"),
            _ => attribute(Attribute::Metadata("hdi_isfolder".into())) == "true",
        };
        if folder { Ok(Looked::Folder) } else { self.found(meta, version).map(Looked::Object) }
    }

    /// All objects below the address.
    async fn list(&self, store: &Arc<dyn ObjectStore>) -> Result<Vec<Found>, WandbError> {
        let prefix = self.start.prefix();
        let prefix = if prefix.is_empty() { None } else { Some(self.parsed(&prefix)?) };
        let is_s3 = self.start.place.cloud == Cloud::S3;
        let (mut listed, mut metas) = (store.list(prefix.as_ref()), Vec::new());
        while let Some(meta) = listed.next().await {
            let meta = meta.map_err(|error| self.failed(error))?;
            if meta.size > 0 || !is_s3 {
                metas.push(meta);
                self.subject.count(metas.len())?;
            }
        }
        if !is_s3 {
            // Listings of Azure do not tell the marks of folders from empty blobs.
            let keys: BTreeSet<String> = metas.iter().map(|meta| meta.location.to_string()).collect();
            metas.retain(|meta| meta.size > 0 || !has_below(&keys, meta.location.as_ref()));
            return metas.into_iter().map(|meta| self.found(meta, None)).collect();
        }
        // Listings of S3 say nothing of versions.
        let mut work: Vec<BoxFuture<'_, Result<Looked, WandbError>>> = Vec::with_capacity(metas.len());
        for meta in metas {
            work.push(Box::pin(async move { self.look(store, &meta.location, None).await }));
        }
        let looked: Vec<Looked> = stream::iter(work).buffered(self.client.concurrency()).try_collect().await?;
        let object = |looked| match looked {
            Looked::Object(found) => Some(Ok(found)),
            Looked::Folder => None,
            // It was listed a moment ago.
            Looked::Nothing => Some(Err(self.missing())),
        };
        looked.into_iter().filter_map(object).collect()
    }

    fn found(&self, meta: ObjectMeta, asked: Option<String>) -> Result<Found, WandbError> {
        let tag = meta.e_tag.as_deref().map(|tag| tag.trim_matches('"')).filter(|tag| !tag.is_empty());
        let key = meta.location.to_string();
        let Some(tag) = tag else {
            let reason = format!("{} gives `{key}` no ETag; it can be recorded without a checksum", self.cloud());
            return Err(self.subject.error(ReferenceError::Unusable { reason }));
        };
        let mut extra = Map::from_iter([("etag".to_owned(), tag.into())]);
        if let Some(version) = meta.version.or(asked).filter(|version| !version.is_empty() && version != "null") {
            extra.insert("versionID".to_owned(), version.into());
        }
        Ok(Found { key, size: meta.size, digest: tag.to_owned(), extra })
    }

    fn parsed(&self, key: &str) -> Result<Path, WandbError> {
        Path::parse(key).map_err(|error| self.failed(error.into()))
    }

    pub(super) fn cloud(&self) -> &'static str {
        self.start.place.cloud.name()
    }

    pub(super) fn missing(&self) -> WandbError {
        let what = if self.start.version.is_some() { "such version" } else { "object of that name or below it" };
        self.subject.error(ReferenceError::NoTarget { reason: format!("{} has no {what}", self.cloud()) })
    }

    pub(super) fn failed(&self, error: object_store::Error) -> WandbError {
        self.subject.error(bucket::why(&self.start.place.cloud, error))
    }
}

/// Whether some of the keys are below this one, which then is a folder.
fn has_below(keys: &BTreeSet<String>, key: &str) -> bool {
    let folder = format!("{key}/");
    keys.range(folder.clone()..).next().is_some_and(|next| next.starts_with(&folder))
}
