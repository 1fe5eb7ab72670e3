//! Buckets of S3, Google Cloud Storage and Azure, opened with the settings that are meant for them; and what their
//! errors mean. No I/O until they are used.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{ClientOptions, ObjectStore, RetryConfig};
use url::Url;

use super::super::Client;
use super::super::cloud::CloudSettings;
use super::reference::{Cloud, Place, ReferenceError};

/// The variable of the SDK for an endpoint of S3 that is not Amazon's.
const S3_ENDPOINT: &str = "AWS_S3_ENDPOINT_URL";
/// The account that the credentials for Azure belong to.
const AZURE_ACCOUNT: &str = "AZURE_STORAGE_ACCOUNT_NAME";
/// Where Google's APIs are when the settings do not say.
const GOOGLE: &str = "https://storage.googleapis.com";

fn retries() -> RetryConfig {
    RetryConfig { max_retries: 5, retry_timeout: Duration::from_secs(60), ..RetryConfig::default() }
}

/// The settings that buckets are opened with, and how long to wait for a byte of theirs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms<'a> {
    pub(super) settings: &'a CloudSettings,
    pub(super) idle: Duration,
}

impl Terms<'_> {
    /// No limit but ours, and plain HTTP only to an endpoint that the settings name so.
    fn options(&self, endpoint: Option<&str>) -> ClientOptions {
        let plain = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
        ClientOptions::new().with_timeout_disabled().with_read_timeout(self.idle).with_allow_http(plain)
    }
}

impl Client {
    pub(super) fn cloud_terms(&self) -> Terms<'_> {
        Terms { settings: self.cloud(), idle: self.transport().idle_timeout() }
    }
}

/// The bucket, with the settings that are meant for it.
pub(super) fn open(place: &Place, terms: Terms<'_>) -> Result<Arc<dyn ObjectStore>, object_store::Error> {
    match &place.cloud {
        Cloud::S3 => s3(place, terms),
        Cloud::Gcs => Ok(Arc::new(Google::open(&place.bucket, terms)?.store)),
        Cloud::Azure(account) => azure(account, place, terms),
    }
}

/// What an error of a bucket means.
pub(super) fn why(cloud: &Cloud, error: object_store::Error) -> ReferenceError {
    use object_store::Error::{InvalidPath, NotFound, PermissionDenied, Unauthenticated};
    let cloud = cloud.name();
    let refused = |status| {
        let message = "it needs other credentials".to_owned();
        ReferenceError::Refused { host: cloud.to_owned(), status, message }
    };
    match error {
        NotFound { .. } => ReferenceError::Missing { reason: format!("{cloud} has no such object") },
        PermissionDenied { .. } => refused(403),
        Unauthenticated { .. } => refused(401),
        InvalidPath { .. } => ReferenceError::Address { reason: "its key has an empty, `.` or `..` part" },
        other => ReferenceError::Cloud { cloud, source: Box::new(other) },
    }
}

/// A bucket of Google's.
pub(super) struct Google {
    store: GoogleCloudStorage,
    /// Where its APIs are.
    pub(super) base: String,
    signs: bool,
}

impl Google {
    pub(super) fn open(bucket: &str, terms: Terms<'_>) -> Result<Self, object_store::Error> {
        let mut builder = GoogleCloudStorageBuilder::new();
        for (name, value) in terms.settings.of("GOOGLE_") {
            if let Ok(key) = name.parse::<GoogleConfigKey>() {
                builder = builder.with_config(key, value);
            }
        }
        let base = builder.get_config_value(&GoogleConfigKey::BaseUrl).unwrap_or_else(|| GOOGLE.to_owned());
        let signs = builder.get_config_value(&GoogleConfigKey::SkipSignature).is_none_or(|skip| skip != "true");
        let builder = builder.with_client_options(terms.options(Some(&base))).with_retry(retries());
        Ok(Self { store: builder.with_bucket_name(bucket).build()?, base, signs })
    }

    /// What its APIs are asked with, unless the settings say to ask as nobody.
    pub(super) async fn token(&self) -> Result<Option<String>, object_store::Error> {
        if !self.signs {
            return Ok(None);
        }
        let credential = self.store.credentials().get_credential().await?;
        Ok(Some(credential.bearer.clone()).filter(|bearer| !bearer.is_empty()))
    }
}

fn azure(account: &str, place: &Place, terms: Terms<'_>) -> Result<Arc<dyn ObjectStore>, object_store::Error> {
    let mut builder = MicrosoftAzureBuilder::new();
    // Whoever made the artifact chose the account: the credentials go to the one that they belong to.
    if terms.settings.get(AZURE_ACCOUNT) == Some(account) {
        for (name, value) in terms.settings.of("AZURE_") {
            if let Ok(key) = name.parse::<AzureConfigKey>() {
                builder = builder.with_config(key, value);
            }
        }
    } else {
        builder = builder.with_skip_signature(true);
    }
    let endpoint = builder.get_config_value(&AzureConfigKey::Endpoint);
    let builder = builder.with_client_options(terms.options(endpoint.as_deref())).with_retry(retries());
    Ok(Arc::new(builder.with_account(account).with_container_name(&place.bucket).build()?))
}

fn s3(place: &Place, terms: Terms<'_>) -> Result<Arc<dyn ObjectStore>, object_store::Error> {
    let mut builder = AmazonS3Builder::new();
    for (name, value) in terms.settings.of("AWS_") {
        if let Ok(key) = name.parse::<AmazonS3ConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    let endpoint =
        [S3_ENDPOINT, "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"].iter().find_map(|name| terms.settings.get(name));
    if let Some(endpoint) = endpoint {
        let hosted = is_coreweave(endpoint).then(|| in_host(endpoint, &place.bucket)).flatten();
        builder = builder.with_virtual_hosted_style_request(hosted.is_some());
        // A later endpoint of the environment must not win over the SDK's own.
        builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, hosted.as_deref().unwrap_or(endpoint));
    }
    let builder = builder.with_client_options(terms.options(endpoint)).with_retry(retries());
    Ok(Arc::new(builder.with_bucket_name(&place.bucket).build()?))
}

/// Endpoints of CoreWeave, which want the bucket in the host name (`_is_coreweave_endpoint`).
fn is_coreweave(endpoint: &str) -> bool {
    let endpoint = endpoint.trim().trim_end_matches('/');
    if endpoint == "http://cwlota.com" {
        return true;
    }
    let host = endpoint.strip_prefix("https://").unwrap_or(endpoint);
    let region = host
        .strip_suffix(".coreweave.com")
        .and_then(|host| host.strip_prefix("accel-object.").or_else(|| host.strip_prefix("object.")));
    let is_region = |region: &str| {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !region.is_empty() && region.chars().all(fits)
    };
    host == "cwobject.com" || region.is_some_and(is_region)
}

/// The endpoint with the bucket before its host.
fn in_host(endpoint: &str, bucket: &str) -> Option<String> {
    let text = if endpoint.contains("://") { endpoint.to_owned() } else { format!("https://{endpoint}") };
    let mut url = Url::parse(&text).ok()?;
    let host = format!("{bucket}.{}", url.host_str()?);
    url.set_host(Some(&host)).ok()?;
    Some(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_of_coreweave_have_the_bucket_in_the_host() {
        for endpoint in [
            "https://cwobject.com",
            "http://cwlota.com/",
            "object.lga1.coreweave.com",
            "https://accel-object.ord-2.coreweave.com",
        ] {
            assert!(is_coreweave(endpoint), "{endpoint}");
        }
        for endpoint in ["http://cwobject.com", "https://object.coreweave.com", "https://evil.example/cwobject.com", ""]
        {
            assert!(!is_coreweave(endpoint), "{endpoint}");
        }
        assert_eq!(in_host("https://cwobject.com", "b").unwrap(), "https://b.cwobject.com");
    }

    #[test]
    fn a_bucket_is_opened_with_the_settings_meant_for_it() {
        let settings = CloudSettings::new([
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_S3_ENDPOINT_URL", "http://127.0.0.1:1"),
            ("AZURE_STORAGE_ACCOUNT_NAME", "mine"),
            ("AZURE_STORAGE_ACCOUNT_KEY", "c2VjcmV0"),
        ]);
        let place = |cloud| Place { cloud, bucket: "bucket".to_owned(), key: "key".to_owned() };
        let terms = Terms { settings: &settings, idle: Duration::from_secs(1) };
        let shown = |cloud| format!("{:?}", open(&place(cloud), terms).unwrap());
        assert!(shown(Cloud::S3).contains("http://127.0.0.1:1/bucket"));
        assert!(shown(Cloud::Azure("mine".to_owned())).contains("AzureAccessKey"));
        assert!(!shown(Cloud::Azure("other".to_owned())).contains("AzureAccessKey"));
    }
}
