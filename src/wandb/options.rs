//! What a client is made of: server, key, patience. Plain values; nothing is read from the environment here.

use std::time::Duration;

use crate::progress::Progress;
use crate::redact::ApiKey;

use super::retry::Pace;

/// Settings of a [`Client`](super::Client). Start from [`ClientOptions::new`] and change what you need.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClientOptions {
    /// Root of the server, such as `https://api.wandb.ai`.
    pub base_url: String,
    /// The key; without one only what is public can be read.
    pub api_key: Option<ApiKey>,
    /// Who watches.
    pub progress: Progress,
    /// How long a connection may take. Default 10 s.
    pub connect_timeout: Duration,
    /// How long to wait for the next byte, either way. Default 30 s.
    pub idle_timeout: Duration,
    /// How long one call of the client may take as a whole; a run counts each of its requests. Default: no limit.
    pub total_timeout: Option<Duration>,
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
    /// Headers added to every request but not carried to another host by a redirect.
    pub extra_headers: Vec<(String, String)>,
    /// Who we say we are.
    pub user_agent: String,
    /// Proxy for `http` addresses.
    pub http_proxy: Option<String>,
    /// Proxy for `https` addresses.
    pub https_proxy: Option<String>,
    /// Hosts reached without a proxy, in the form of `NO_PROXY`.
    pub no_proxy: Option<String>,
    /// More root certificates, as PEM.
    pub root_certificates: Option<Vec<u8>>,
    pub(super) pace: Pace,
}

impl ClientOptions {
    /// The defaults, for the server at `base_url`.
    pub fn new(base_url: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            api_key: None,
            progress: Progress::silent(),
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            total_timeout: None,
            concurrency: 8,
            multipart_threshold: 2 << 30,
            part_size: 100 << 20,
            ranged_threshold: 16 << 20,
            largest_part: 4 << 20,
            extra_headers: Vec::new(),
            user_agent: concat!("wandb-pca/", env!("CARGO_PKG_VERSION")).to_owned(),
            http_proxy: None,
            https_proxy: None,
            no_proxy: None,
            root_certificates: None,
            pace: Pace::default(),
        }
    }

    /// Sets the key.
    #[must_use]
    pub fn with_api_key(mut self, api_key: Option<ApiKey>) -> Self {
        self.api_key = api_key;
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

    /// Sets how many retries one operation may spend, and the shortest and longest wait between them.
    #[must_use]
    pub fn with_retries(mut self, retries: u32, shortest: Duration, longest: Duration) -> Self {
        self.pace = Pace { retries, shortest, longest, ..self.pace };
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

    /// Sets the proxies for `http` and `https` and the hosts reached without one.
    #[must_use]
    pub fn with_proxies(mut self, http: Option<String>, https: Option<String>, without: Option<String>) -> Self {
        (self.http_proxy, self.https_proxy, self.no_proxy) = (http, https, without);
        self
    }

    /// Adds root certificates, as PEM.
    #[must_use]
    pub fn with_root_certificates(mut self, pem: Option<Vec<u8>>) -> Self {
        self.root_certificates = pem;
        self
    }
}
