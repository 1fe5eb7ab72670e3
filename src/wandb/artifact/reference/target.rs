//! Where a reference points: its text, by scheme, as the official SDK's handlers read it. Pure; no I/O.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use url::Url;

use crate::digest::unhex;
use crate::redact::SafeUrl;

use super::error::ReferenceError;

/// Hosts of Azure's object store; the SDK knows them by this ending.
pub(in super::super) const AZURE_HOSTS: &str = ".blob.core.windows.net";

/// Where a reference points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// An address that anybody may ask.
    Http(SafeUrl),
    /// A file on this machine: the bytes of its path.
    File(Vec<u8>),
    /// An entry of another artifact.
    Artifact { id: String, path: String },
    /// An object in a bucket.
    Cloud(Place),
}

/// An object in a bucket of a cloud.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(not(feature = "cloud"), allow(dead_code, reason = "read where there is something to fetch with"))]
pub(in super::super) struct Place {
    pub(in super::super) cloud: Cloud,
    /// Name of the bucket; of Azure's container.
    pub(in super::super) bucket: String,
    /// Name of the object.
    pub(in super::super) key: String,
}

/// Whose bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(not(feature = "cloud"), allow(dead_code, reason = "read where there is something to fetch with"))]
pub(in super::super) enum Cloud {
    S3,
    Gcs,
    /// With the storage account.
    Azure(String),
}

impl Cloud {
    /// For messages.
    pub(in super::super) fn name(&self) -> &'static str {
        match self {
            Self::S3 => "S3",
            Self::Gcs => "Google Cloud Storage",
            Self::Azure(_) => "Azure Blob Storage",
        }
    }
}

impl Target {
    /// Reads the text of a reference.
    ///
    /// # Errors
    /// [`ReferenceError::Scheme`] for a scheme that nobody fetches, [`ReferenceError::Address`] for nonsense.
    pub(super) fn parse(text: &str) -> Result<Self, ReferenceError> {
        let address = |reason| ReferenceError::Address { reason };
        let (scheme, rest) = text.split_once(':').ok_or(address("it has no scheme"))?;
        let scheme = scheme.to_ascii_lowercase();
        match scheme.as_str() {
            "http" | "https" => http(text),
            "file" => file(rest),
            "wandb-artifact" => artifact(rest),
            "s3" => bucket(Cloud::S3, rest),
            "gs" => bucket(Cloud::Gcs, rest),
            _ => Err(ReferenceError::Scheme { scheme }),
        }
    }
}

fn http(text: &str) -> Result<Target, ReferenceError> {
    let url = Url::parse(text).map_err(|_| ReferenceError::Address { reason: "it is no URL" })?;
    let account = url.host_str().filter(|_| url.scheme() == "https").and_then(|host| host.strip_suffix(AZURE_HOSTS));
    let Some(account) = account else { return Ok(Target::Http(url.into())) };
    let decode = |text: &str| percent_decode_str(text).decode_utf8().map(|text| text.into_owned()).ok();
    let parts = url.path().trim_start_matches('/').split_once('/');
    let parts = parts.and_then(|(container, blob)| Some((decode(container)?, decode(blob)?)));
    match parts {
        Some((bucket, key)) if !bucket.is_empty() && !key.is_empty() => {
            Ok(Target::Cloud(Place { cloud: Cloud::Azure(account.to_owned()), bucket, key }))
        }
        _ => Err(ReferenceError::Address { reason: "it names no blob in a container" }),
    }
}

/// As Python's `urlparse` and `url2pathname` do: the authority and what follows `?` or `#` are left out.
fn file(rest: &str) -> Result<Target, ReferenceError> {
    let path = rest.strip_prefix("//").map_or(rest, |rest| rest.find('/').map_or("", |start| &rest[start..]));
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let bytes: Vec<u8> = percent_decode_str(path).collect();
    if bytes.first() != Some(&b'/') {
        return Err(ReferenceError::Address { reason: "it is no absolute path" });
    }
    if bytes.contains(&0) {
        return Err(ReferenceError::Address { reason: "it holds a NUL" });
    }
    Ok(Target::File(bytes))
}

/// `//<hex of the id>/<path>`. The SDK writes the path as it is, without escapes, so it is read so.
fn artifact(rest: &str) -> Result<Target, ReferenceError> {
    let address = |reason| ReferenceError::Address { reason };
    let (hex, path) = rest.strip_prefix("//").and_then(|rest| rest.split_once('/')).ok_or(address("it has no path"))?;
    let id = unhex(hex).filter(|id| !id.is_empty()).ok_or(address("its id is not hex"))?;
    if path.is_empty() {
        return Err(address("it has no path"));
    }
    Ok(Target::Artifact { id: STANDARD.encode(id), path: path.to_owned() })
}

fn bucket(cloud: Cloud, rest: &str) -> Result<Target, ReferenceError> {
    let address = |reason| ReferenceError::Address { reason };
    let (bucket, key) =
        rest.strip_prefix("//").and_then(|rest| rest.split_once('/')).ok_or(address("it has no key"))?;
    let key = key.split(['?', '#']).next().unwrap_or_default();
    if bucket.is_empty() || key.is_empty() {
        return Err(address("its bucket or key is empty"));
    }
    Ok(Target::Cloud(Place { cloud, bucket: bucket.to_owned(), key: key.to_owned() }))
}

/// The text for messages: what may hold a permission is left out.
pub(super) fn printable(text: &str) -> String {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => SafeUrl::from(url).to_string(),
        _ => text.split(['?', '#']).next().unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_scheme_is_read() {
        let artifact = |id: &str, path: &str| Target::Artifact { id: id.to_owned(), path: path.to_owned() };
        let cloud = |cloud, bucket: &str, key: &str| {
            Target::Cloud(Place { cloud, bucket: bucket.to_owned(), key: key.to_owned() })
        };
        for (text, target) in [
            ("http://h/x?sig=1", Target::Http(SafeUrl::parse("http://h/x?sig=1").unwrap())),
            ("HTTPS://h:8443/x", Target::Http(SafeUrl::parse("https://h:8443/x").unwrap())),
            ("file:///a%20b/c#d", Target::File(b"/a b/c".to_vec())),
            ("file://host/a", Target::File(b"/a".to_vec())),
            ("file:/a?x", Target::File(b"/a".to_vec())),
            ("wandb-artifact://417274/a/b #?.ckpt", artifact("QXJ0", "a/b #?.ckpt")),
            ("s3://b/k/l?versionId=9", cloud(Cloud::S3, "b", "k/l")),
            ("gs://b/k#17", cloud(Cloud::Gcs, "b", "k")),
            ("https://acc.blob.core.windows.net/c/d/e%20f", cloud(Cloud::Azure("acc".to_owned()), "c", "d/e f")),
        ] {
            assert_eq!(Target::parse(text).unwrap(), target, "{text}");
        }
        assert!(matches!(Target::parse("http://acc.blob.core.windows.net/c/d").unwrap(), Target::Http(_)));
    }

    #[test]
    fn nonsense_and_unknown_schemes_are_told_apart() {
        for text in ["", "x", "http:", "file://host", "file:a", "file:///a%00b", "wandb-artifact://4/x", "s3://b"] {
            assert!(matches!(Target::parse(text), Err(ReferenceError::Address { .. })), "{text}");
        }
        for text in ["wandb-artifact://4172/", "wandb-artifact:///x", "wandb-artifact://zz/x", "gs:///k", "s3://b/"] {
            assert!(matches!(Target::parse(text), Err(ReferenceError::Address { .. })), "{text}");
        }
        for (text, known) in [("ftp://h/x", "ftp"), ("wandb-client-artifact://abc/x", "wandb-client-artifact")] {
            assert!(matches!(Target::parse(text), Err(ReferenceError::Scheme { scheme }) if scheme == known), "{text}");
        }
    }

    #[test]
    fn messages_hide_what_may_be_a_permission() {
        assert_eq!(printable("https://h/x?sig=secret#y"), "https://h/x?…");
        assert_eq!(printable("https://me:word@h/x"), "https://h/x");
        assert_eq!(printable("s3://b/k?x=secret"), "s3://b/k");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(http|https|file|s3|gs|wandb-artifact|x)?:?/{0,3}[a-f0-9/%?#@:é\0 ]{0,20}") {
            let _ = Target::parse(&text);
            let _ = printable(&text);
        }

        #[test]
        fn ids_and_paths_of_artifacts_come_back(id in proptest::collection::vec(any::<u8>(), 1..20), path in "[^/\0]{1,9}") {
            use std::fmt::Write as _;
            let hex = id.iter().fold(String::new(), |mut hex, byte| { write!(hex, "{byte:02x}").unwrap(); hex });
            let target = Target::parse(&format!("wandb-artifact://{hex}/{path}")).unwrap();
            prop_assert_eq!(target, Target::Artifact { id: STANDARD.encode(id), path });
        }

        #[test]
        fn any_absolute_path_survives_its_uri(path in "/[a-zé %#?;]{1,12}") {
            let escaped = percent_encoding::utf8_percent_encode(&path, percent_encoding::NON_ALPHANUMERIC).to_string();
            let text = format!("file://{}", escaped.replace("%2F", "/"));
            prop_assert_eq!(Target::parse(&text).unwrap(), Target::File(path.into_bytes()));
        }
    }
}
