//! Objects of Google Cloud Storage as its JSON API tells of them, which the official SDK asks too: the ETags that it puts
//! into manifests are those of this API, and others than those of the XML API that the library speaks. Network I/O.

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Map;
use url::Url;

use crate::redact::SafeUrl;

use super::super::super::error::WandbError;
use super::super::super::retry::Traffic;
use super::super::super::transport::{Errand, Trust, Want};
use super::super::super::trouble::Trouble;
use super::super::bucket::Google;
use super::super::reference::ReferenceError;
use super::bucket::{Found, Survey};

/// A page of a thousand objects has about 200 KB.
const ANSWER_LIMIT: usize = 16 << 20;
const OBJECT_FIELDS: &str = "name,etag,generation,size";

/// <https://cloud.google.com/storage/docs/json_api/v1/objects>
#[derive(Debug, Deserialize)]
struct Object {
    name: String,
    etag: String,
    /// 64-bit numbers are texts there.
    generation: String,
    size: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(default)]
    items: Vec<Object>,
    next_page_token: Option<String>,
}

impl Survey<'_> {
    /// The object of that name, or those below.
    pub(super) async fn google(&self) -> Result<Vec<Found>, WandbError> {
        let place = &self.start.place;
        let bucket = Google::open(&place.bucket, self.client.cloud_terms()).map_err(|error| self.failed(error))?;
        if self.start.names_an_object() {
            let mut query = vec![("fields", OBJECT_FIELDS)];
            query.extend(self.start.version.as_deref().map(|version| ("generation", version)));
            let url = self.url(&bucket, &["o", &place.key], &query)?;
            match self.ask::<Object>(&bucket, &url).await? {
                Some(object) => return Ok(vec![self.object(object)?]),
                None if self.start.version.is_some() => return Err(self.missing()),
                None => {}
            }
        }
        let (prefix, fields) = (self.start.prefix(), format!("items({OBJECT_FIELDS}),nextPageToken"));
        let (mut found, mut token) = (Vec::new(), None::<String>);
        loop {
            let mut query = vec![("prefix", prefix.as_str()), ("fields", fields.as_str())];
            query.extend(token.as_deref().map(|token| ("pageToken", token)));
            let url = self.url(&bucket, &["o"], &query)?;
            let page = self.ask::<Page>(&bucket, &url).await?.ok_or_else(|| self.missing())?;
            // A name that ends so is the mark of a folder.
            for object in page.items.into_iter().filter(|object| !object.name.ends_with('/')) {
                found.push(self.object(object)?);
                self.subject.count(found.len())?;
            }
            match page.next_page_token {
                Some(next) => token = Some(next),
                None => return Ok(found),
            }
        }
    }

    fn object(&self, object: Object) -> Result<Found, WandbError> {
        let (Ok(generation), Ok(size)) = (object.generation.parse::<i64>(), object.size.parse::<u64>()) else {
            return Err(self.nonsense(format!("`{}` has no number as generation or size", object.name)));
        };
        let extra = Map::from_iter([("versionID".to_owned(), generation.into())]);
        Ok(Found { key: object.name, size, digest: object.etag, extra })
    }

    fn url(&self, bucket: &Google, more: &[&str], query: &[(&str, &str)]) -> Result<SafeUrl, WandbError> {
        let unusable = || {
            let reason = "the address of Google's API in the settings is none".to_owned();
            self.subject.error(ReferenceError::Unusable { reason })
        };
        let mut url = Url::parse(&bucket.base).map_err(|_| unusable())?;
        let mut segments = url.path_segments_mut().map_err(|()| unusable())?;
        segments.pop_if_empty().extend(["storage", "v1", "b", &self.start.place.bucket]).extend(more);
        drop(segments);
        url.query_pairs_mut().extend_pairs(query);
        Ok(url.into())
    }

    /// An answer, or `None` when there is no such thing.
    async fn ask<T: DeserializeOwned>(&self, bucket: &Google, url: &SafeUrl) -> Result<Option<T>, WandbError> {
        let (what, host) = (self.subject.what(), url.expose().host_str().unwrap_or_default().to_owned());
        let errand = Errand { traffic: Traffic::Object, what: &what };
        let transport = self.client.transport();
        let mut attempt = 0;
        loop {
            let token = bucket.token().await.map_err(|error| self.failed(error))?;
            match self.once(url, token.as_deref()).await {
                Ok(body) => {
                    self.budget.earn();
                    let parsed = serde_json::from_slice(&body).map_err(|error| self.nonsense(error.to_string()));
                    return parsed.map(Some);
                }
                Err(Trouble::Status { status: 404, .. }) => return Ok(None),
                Err(Trouble::Status { status: status @ (401 | 403), message, .. }) => {
                    return Err(self.subject.error(ReferenceError::Refused { host, status, message }));
                }
                Err(trouble) => transport.pause_at(self.budget, errand, (&host, trouble, attempt)).await?,
            }
            attempt += 1;
        }
    }

    async fn once(&self, url: &SafeUrl, token: Option<&str>) -> Result<Bytes, Trouble> {
        let want = Want { trust: Trust::Stranger, bearer: token, ..Want::default() };
        let response = self.client.transport().get(url, want).await?;
        self.client.transport().read_all(response, ANSWER_LIMIT).await
    }

    fn nonsense(&self, reason: String) -> WandbError {
        WandbError::Malformed { what: self.subject.what(), reason }
    }
}
