//! Addresses of buckets as somebody writes them to refer to an object, or to all objects below a prefix, and what the
//! entries made of them are called. Pure; no I/O.
//!
//! The rules are those of the official SDK (`s3_handler.py`, `gcs_handler.py`, `azure_handler.py`). Other than in its
//! handler of S3, a prefix ends at a `/`: the SDK also finds `data-old/x` for `data`, and then fails on it.

use percent_encoding::percent_decode_str;
use url::{Url, form_urlencoded};

use super::super::reference::{AZURE_HOSTS, Cloud, Place};

/// Where a reference to a bucket starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Start {
    /// An object, or with an empty key or none of that name, everything below.
    pub(super) place: Place,
    /// The version that is asked for: `?versionId=`, on Google Cloud Storage `#generation`.
    pub(super) version: Option<String>,
}

#[cfg_attr(not(feature = "cloud"), allow(dead_code, reason = "read where there is something to look with"))]
impl Start {
    /// Reads an address; `None` when it is of no bucket.
    pub(super) fn parse(uri: &str, url: &Url) -> Option<Self> {
        let host = url.host_str().unwrap_or_default();
        match url.scheme() {
            "s3" => Self::split(Cloud::S3, uri),
            "gs" => Self::split(Cloud::Gcs, uri),
            "https" => Self::azure(host.strip_suffix(AZURE_HOSTS)?, url),
            _ => None,
        }
    }

    /// `scheme://bucket/key?query#fragment`, where nothing is escaped.
    fn split(cloud: Cloud, uri: &str) -> Option<Self> {
        let (_, rest) = uri.split_once("://")?;
        let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let version = match cloud {
            Cloud::Gcs => Some(fragment.to_owned()),
            _ => version_id(query.as_bytes()),
        };
        let key = if cloud == Cloud::Gcs { key.trim_start_matches('/') } else { key };
        let place = Place { cloud, bucket: bucket.to_owned(), key: key.to_owned() };
        Some(Self { place, version: version.filter(|version| !version.is_empty()) })
            .filter(|start| !start.place.bucket.is_empty())
    }

    fn azure(account: &str, url: &Url) -> Option<Self> {
        let path = percent_decode_str(url.path().trim_start_matches('/')).decode_utf8().ok()?;
        let (container, key) = path.split_once('/').unwrap_or((&path, ""));
        let (cloud, version) = (Cloud::Azure(account.to_owned()), version_id(url.query().unwrap_or("").as_bytes()));
        let place = Place { cloud, bucket: container.to_owned(), key: key.to_owned() };
        Some(Self { place, version }).filter(|start| !start.place.bucket.is_empty())
    }

    /// What all keys below begin with.
    pub(super) fn prefix(&self) -> String {
        match self.place.key.as_str() {
            "" => String::new(),
            key => format!("{}/", key.trim_end_matches('/')),
        }
    }

    /// Whether the key can name an object: else only what is below it is meant.
    pub(super) fn names_an_object(&self) -> bool {
        !self.place.key.is_empty() && !self.place.key.ends_with('/')
    }

    /// The address of an object of the bucket, as entries have it: without a version.
    pub(super) fn uri(&self, key: &str) -> String {
        let Place { cloud, bucket, .. } = &self.place;
        match cloud {
            Cloud::S3 => format!("s3://{bucket}/{key}"),
            Cloud::Gcs => format!("gs://{bucket}/{key}"),
            Cloud::Azure(account) => format!("https://{account}{AZURE_HOSTS}/{bucket}/{key}"),
        }
    }

    /// What the entry of an object is called, when the reference was given the path `name`, or none.
    pub(super) fn path(&self, name: &str, key: &str) -> String {
        let below = key.strip_prefix(&self.prefix()).filter(|_| key != self.place.key);
        match (below, name) {
            (Some(below), "") => below.to_owned(),
            (Some(below), name) => format!("{name}/{below}"),
            (None, "") => key.rsplit('/').next().unwrap_or_default().to_owned(),
            (None, name) => name.to_owned(),
        }
    }

    /// What the entry of an object that is not looked at is called: its whole key, or that of the bucket.
    pub(super) fn unseen_path(&self) -> &str {
        if self.place.key.is_empty() { &self.place.bucket } else { &self.place.key }
    }
}

fn version_id(query: &[u8]) -> Option<String> {
    form_urlencoded::parse(query).find(|(name, _)| name == "versionId").map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(uri: &str) -> Option<Start> {
        Start::parse(uri, &Url::parse(uri).unwrap())
    }

    #[test]
    fn addresses_of_every_cloud_are_read() {
        let azure = || Cloud::Azure("acc".to_owned());
        for (uri, cloud, bucket, key, version) in [
            ("s3://b/k/l.bin", Cloud::S3, "b", "k/l.bin", None),
            ("s3://b/k%20l é?versionId=a%2Fb&x=1", Cloud::S3, "b", "k%20l é", Some("a/b")),
            ("s3://b", Cloud::S3, "b", "", None),
            ("s3://b/?versionId=", Cloud::S3, "b", "", None),
            ("s3://My_Bucket/k", Cloud::S3, "My_Bucket", "k", None),
            ("gs://b//k/l#17", Cloud::Gcs, "b", "k/l", Some("17")),
            ("gs://b/k?versionId=3", Cloud::Gcs, "b", "k", None),
            ("https://acc.blob.core.windows.net/c/d/e%20f?versionId=7", azure(), "c", "d/e f", Some("7")),
            ("https://acc.blob.core.windows.net/c", azure(), "c", "", None),
        ] {
            let place = Place { cloud, bucket: bucket.to_owned(), key: key.to_owned() };
            assert_eq!(start(uri), Some(Start { place, version: version.map(str::to_owned) }), "{uri}");
        }
        for uri in ["https://h/x", "http://acc.blob.core.windows.net/c/d", "s3:///k", "tape://b/k"] {
            assert_eq!(start(uri), None, "{uri}");
        }
    }

    #[test]
    fn entries_are_called_as_the_sdk_calls_them() {
        for (uri, name, key, path) in [
            ("s3://b/k/l.bin", "", "k/l.bin", "l.bin"),
            ("s3://b/k/l.bin", "n/m", "k/l.bin", "n/m"),
            ("s3://b/k", "", "k/l/m.bin", "l/m.bin"),
            ("s3://b/k/", "", "k/l/m.bin", "l/m.bin"),
            ("s3://b/k", "n", "k/l/m.bin", "n/l/m.bin"),
            ("s3://b", "", "k/l", "k/l"),
            ("s3://b", "n", "k/l", "n/k/l"),
        ] {
            assert_eq!(start(uri).unwrap().path(name, key), path, "{uri} {name} {key}");
        }
        assert_eq!(start("s3://b/k/l").unwrap().unseen_path(), "k/l");
        assert_eq!(start("s3://b").unwrap().unseen_path(), "b");
    }

    #[test]
    fn entries_point_at_objects_without_versions() {
        for (uri, plain) in [
            ("s3://b/k?versionId=1", "s3://b/k"),
            ("gs://b/k#1", "gs://b/k"),
            ("https://acc.blob.core.windows.net/b/k?versionId=1", "https://acc.blob.core.windows.net/b/k"),
        ] {
            assert_eq!(start(uri).unwrap().uri("k"), plain);
        }
        assert_eq!(start("s3://b/k/").unwrap().prefix(), "k/");
        assert!(!start("s3://b/k/").unwrap().names_an_object() && start("s3://b/k").unwrap().names_an_object());
    }
}
