//! What a client is made of: server, key, patience. Plain values; nothing is read from the environment here.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::progress::Progress;
use crate::redact::{ApiKey, SafeUrl};

use super::cloud::CloudSettings;
use super::error::WandbError;
use super::retry::Pace;

/// What a client proves itself with.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credential {
    /// A key, sent with every request to the API.
    ApiKey(ApiKey),
    /// A token of another service (OIDC, a JWT) that the server exchanges for an access token of limited life.
    IdentityToken {
        /// The file with the identity token; read before each exchange, so that it may be renewed meanwhile.
        token_file: PathBuf,
        /// The file in which access tokens are kept between processes, in the official SDK's form.
        cache_file: PathBuf,
    },
}

/// Whether the certificates of `https` servers are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum CertificateCheck {
    /// They are.
    #[default]
    On,
    /// They are not: anyone on the way can read and change everything, the key included.
    Off,
}

/// A proxy, and who is reached without it. Its address may hold a password, so it prints without.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    pub(super) url: Url,
    pub(super) except: Option<String>,
}

impl Proxy {
    /// A proxy for all hosts but those of `except`, which has the form of `NO_PROXY`. An address without a scheme is an
    /// `http` one.
    ///
    /// # Errors
    /// [`WandbError::Option`] when the address is none; the message does not repeat it.
    pub fn new(address: &str, except: Option<String>) -> Result<Self, WandbError> {
        let refuse = |reason: &str| WandbError::Option { option: "proxy", reason: reason.to_owned() };
        let text = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        let url = Url::parse(text.trim()).map_err(|_| refuse("its address is not a URL"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(refuse("its address is no http or https one"));
        }
        Ok(Self { url, except })
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = SafeUrl::from(self.url.clone());
        f.debug_struct("Proxy").field("url", &url).field("except", &self.except).finish()
    }
}

/// Settings of a [`Client`](super::Client). Start from [`ClientOptions::new`] and change what you need.
#[derive(Clone)]
#[non_exhaustive]
pub struct ClientOptions {
    /// Root of the server, such as `https://api.wandb.ai`.
    pub base_url: String,
    /// What the client proves itself with; without it only what is public can be read.
    pub credential: Option<Credential>,
    /// Who watches.
    pub progress: Progress,
    /// How long a connection may take. Default 10 s.
    pub connect_timeout: Duration,
    /// How long to wait for the next byte, either way. Default 30 s.
    pub idle_timeout: Duration,
    /// How long one call of the client may take as a whole; a run counts each of its requests. Default: no limit.
    pub total_timeout: Option<Duration>,
    /// How long one request to the API may take. Default: as long as bytes come.
    pub api_timeout: Option<Duration>,
    /// How long one transfer of (a part of) a file may take. Default: as long as bytes come.
    pub transfer_timeout: Option<Duration>,
    /// Transfers of files at the same time. Default 8.
    pub concurrency: usize,
    /// Files at least this large are sent in parts. Default 2 GiB, the official client's limit.
    pub multipart_threshold: u64,
    /// Bytes of such a part, where that makes no more than 10,000 of them. Default 100 MiB, as the official client has it;
    /// object stores refuse parts of less than 5 MiB.
    pub part_size: u64,
    /// Files at least this large are received in several parts at once, when there are fewer files than
    /// [`concurrency`](Self::concurrency). Default 16 MiB.
    pub ranged_threshold: u64,
    /// The longest such part; it waits in memory for those before it. Default 4 MiB.
    pub largest_part: u64,
    /// Headers added to every request but not carried to another host by a redirect. `Proxy-Authorization` goes to the
    /// proxies and to nobody else.
    pub extra_headers: Vec<(String, String)>,
    /// Who we say we are.
    pub user_agent: String,
    /// Who we say asks, to the API only: user name and mail address.
    pub user: [Option<String>; 2],
    /// Proxy for `http` addresses.
    pub http_proxy: Option<Proxy>,
    /// Proxy for `https` addresses.
    pub https_proxy: Option<Proxy>,
    /// More root certificates, as PEM.
    pub root_certificates: Option<Vec<u8>>,
    /// Whether certificates are checked.
    pub certificate_check: CertificateCheck,
    /// What references to buckets are fetched with.
    pub cloud: CloudSettings,
    pub(super) pace: Pace,
    pub(super) transfer_pace: Pace,
}

/// Shows what is no secret: headers and addresses of proxies may hold passwords.
impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<&str> = self.extra_headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("ClientOptions")
            .field("base_url", &self.base_url)
            .field("credential", &self.credential)
            .field("extra_headers", &headers)
            .field("http_proxy", &self.http_proxy)
            .field("https_proxy", &self.https_proxy)
            .field("certificate_check", &self.certificate_check)
            .field("cloud", &self.cloud)
            .finish_non_exhaustive()
    }
}

impl ClientOptions {
    /// The defaults, for the server at `base_url`.
    pub fn new(base_url: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            credential: None,
            progress: Progress::silent(),
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            total_timeout: None,
            api_timeout: None,
            transfer_timeout: None,
            concurrency: 8,
            multipart_threshold: 2 << 30,
            part_size: 100 << 20,
            ranged_threshold: 16 << 20,
            largest_part: 4 << 20,
            extra_headers: Vec::new(),
            user_agent: concat!("wandb-pca/", env!("CARGO_PKG_VERSION")).to_owned(),
            user: [None, None],
            http_proxy: None,
            https_proxy: None,
            root_certificates: None,
            certificate_check: CertificateCheck::On,
            cloud: CloudSettings::default(),
            pace: Pace::default(),
            transfer_pace: Pace::default(),
        }
    }

    /// Sets the key.
    #[must_use]
    pub fn with_api_key(mut self, api_key: Option<ApiKey>) -> Self {
        self.credential = api_key.map(Credential::ApiKey);
        self
    }

    /// Sets what the client proves itself with.
    #[must_use]
    pub fn with_credential(mut self, credential: Option<Credential>) -> Self {
        self.credential = credential;
        self
    }

    /// Sets who watches.
    #[must_use]
    pub fn with_progress(mut self, progress: Progress) -> Self {
        self.progress = progress;
        self
    }

    /// Sets how long a connection and the wait for the next byte may take.
    #[must_use]
    pub fn with_timeouts(mut self, connect: Duration, idle: Duration) -> Self {
        (self.connect_timeout, self.idle_timeout) = (connect, idle);
        self
    }

    /// Sets how long a call may take as a whole.
    #[must_use]
    pub fn with_total_timeout(mut self, total: Option<Duration>) -> Self {
        self.total_timeout = total;
        self
    }

    /// Sets how long one request to the API and one transfer of a file may take.
    #[must_use]
    pub fn with_attempt_timeouts(mut self, api: Option<Duration>, transfer: Option<Duration>) -> Self {
        (self.api_timeout, self.transfer_timeout) = (api, transfer);
        self
    }

    /// Sets how many retries one operation may spend, and the shortest and longest wait between them.
    #[must_use]
    pub fn with_retries(mut self, retries: u32, shortest: Duration, longest: Duration) -> Self {
        self.pace = Pace { retries, shortest, longest, ..self.pace };
        self.with_transfer_retries(retries, shortest, longest)
    }

    /// Sets the same for transfers of files alone; after [`ClientOptions::with_retries`].
    #[must_use]
    pub fn with_transfer_retries(mut self, retries: u32, shortest: Duration, longest: Duration) -> Self {
        self.transfer_pace = Pace { retries, shortest, longest, ..self.transfer_pace };
        self
    }

    /// Sets what references to buckets are fetched with.
    #[must_use]
    pub fn with_cloud(mut self, cloud: CloudSettings) -> Self {
        self.cloud = cloud;
        self
    }

    /// Sets how many files move at the same time.
    #[must_use]
    pub fn with_concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency.max(1);
        self
    }

    /// Sets from which size on files are sent in parts.
    #[must_use]
    pub fn with_multipart_threshold(mut self, bytes: u64) -> Self {
        self.multipart_threshold = bytes;
        self
    }

    /// Sets how large a part is.
    #[must_use]
    pub fn with_part_size(mut self, bytes: u64) -> Self {
        self.part_size = bytes.max(1);
        self
    }

    /// Sets from which size on files are received in parts, and how long a part may be.
    #[must_use]
    pub fn with_ranged_parts(mut self, threshold: u64, largest: u64) -> Self {
        (self.ranged_threshold, self.largest_part) = (threshold, largest);
        self
    }

    /// Sets headers for every request.
    #[must_use]
    pub fn with_extra_headers(mut self, headers: Vec<(String, String)>) -> Self {
        self.extra_headers = headers;
        self
    }

    /// Sets who we say we are.
    #[must_use]
    pub fn with_user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = user_agent.into();
        self
    }

    /// Sets who we say asks: user name and mail address.
    #[must_use]
    pub fn with_user(mut self, name: Option<String>, email: Option<String>) -> Self {
        self.user = [name, email];
        self
    }

    /// Sets the proxies for `http` and for `https` addresses.
    #[must_use]
    pub fn with_proxies(mut self, http: Option<Proxy>, https: Option<Proxy>) -> Self {
        (self.http_proxy, self.https_proxy) = (http, https);
        self
    }

    /// Sets whether certificates are checked.
    #[must_use]
    pub fn with_certificate_check(mut self, check: CertificateCheck) -> Self {
        self.certificate_check = check;
        self
    }

    /// Adds root certificates, as PEM.
    #[must_use]
    pub fn with_root_certificates(mut self, pem: Option<Vec<u8>>) -> Self {
        self.root_certificates = pem;
        self
    }
}
