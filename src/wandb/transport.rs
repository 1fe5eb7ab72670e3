//! The only user of the HTTP library: who gets the credential, what a redirect may carry, how long silence may last, and
//! the loop that tries again. Network I/O.
//!
//! The credential goes only to addresses under the base URL's scheme, host, port and path, and only when the caller asks for it;
//! redirects are followed by hand, without the key and, to another host, without extra headers. Objects are asked for
//! without compression.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use url::Url;

use crate::progress::Progress;
use crate::redact::SafeUrl;

use super::connect;
use super::credential::{EXCHANGE_ATTEMPT, EXCHANGE_RETRIES, EXCHANGE_TOTAL, Proof};
use super::error::WandbError;
use super::limit::Limiter;
use super::options::ClientOptions;
use super::retry::{Budget, Pace, Traffic, Verdict, judge, retry_after, system_seed};
use super::traced::traced;
use super::trouble::{Trouble, message_of};

/// Answers of the API are small; more than this is a mistake or an attack.
const ANSWER_LIMIT: usize = 256 << 20;
const REDIRECT_LIMIT: usize = 5;

/// HTTP with this project's rules.
pub(super) struct Transport {
    http: reqwest::Client,
    base: Url,
    proof: Proof,
    extra: HeaderMap,
    /// Who asks; for the API only.
    user: HeaderMap,
    limiter: Limiter,
    idle: Duration,
    connect: Duration,
    /// For one request to the API.
    api_attempt: Option<Duration>,
    /// For one transfer.
    transfer_attempt: Option<Duration>,
    exchange_pace: Pace,
    pub(super) progress: Progress,
    /// One permit a transfer of a file.
    pub(super) transfers: Arc<Semaphore>,
}

/// What an attempt was for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Errand<'a> {
    pub(super) traffic: Traffic,
    /// In words, for messages.
    pub(super) what: &'a str,
}

/// A request for (part of) an object.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Want<'a> {
    /// First byte wanted.
    pub(super) from: u64,
    /// Byte behind the last wanted; none means to the end.
    pub(super) until: Option<u64>,
    /// Only when it is still this version of the object.
    pub(super) if_range: Option<&'a str>,
    /// Send the key: for routes of the API itself.
    pub(super) with_key: bool,
    /// A token of the address's own server; not along redirects.
    pub(super) bearer: Option<&'a str>,
    /// Whose address it is.
    pub(super) trust: Trust,
    /// In which form.
    pub(super) encoding: Encoding,
}

/// Who gave an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Trust {
    /// The W&B server: it may have the extra headers.
    #[default]
    Server,
    /// Whoever made an artifact: it gets extra headers only where it is the W&B server's own.
    Stranger,
}

/// In which form an object is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Encoding {
    /// As it is.
    #[default]
    Identity,
    /// Compressed, where the server has it so.
    Gzip,
}

impl Transport {
    pub(super) fn new(options: &ClientOptions) -> Result<Self, WandbError> {
        let refuse = |option, reason: String| WandbError::Option { option, reason };
        let base = Url::parse(options.base_url.trim_end_matches('/'))
            .map_err(|error| refuse("base_url", format!("`{}`: {error}", options.base_url)))?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return Err(refuse("base_url", format!("`{}` is no http or https address", SafeUrl::from(base))));
        }
        let extra = connect::extra_headers(options)?;
        Ok(Self {
            http: connect::build(options, extra.proxy.as_ref())?,
            base,
            proof: Proof::new(options.credential.as_ref())?,
            extra: extra.everywhere,
            user: connect::user_headers(options)?,
            limiter: Limiter::default(),
            idle: options.idle_timeout,
            connect: options.connect_timeout,
            api_attempt: options.api_timeout,
            transfer_attempt: options.transfer_timeout,
            exchange_pace: Pace {
                retries: EXCHANGE_RETRIES,
                shortest: options.pace.shortest.min(Duration::from_secs(1)),
                longest: options.pace.longest.min(Duration::from_secs(5)),
                patience: EXCHANGE_TOTAL,
            },
            progress: options.progress.clone(),
            transfers: Arc::new(Semaphore::new(options.concurrency.max(1))),
        })
    }

    /// The server, for messages.
    pub(super) fn host(&self) -> String {
        let host = self.base.host_str().unwrap_or_default();
        self.base.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// The address of a route of the API, given as path segments.
    pub(super) fn route(&self, segments: &[&str]) -> Result<SafeUrl, WandbError> {
        let mut url = self.base.clone();
        let refused = |()| WandbError::Option { option: "base_url", reason: "it cannot carry a path".to_owned() };
        url.path_segments_mut().map_err(refused)?.pop_if_empty().extend(segments);
        Ok(url.into())
    }

    /// Resolves an address that the server gave: absolute, or relative to the base.
    pub(super) fn resolve(&self, text: &str, what: &str) -> Result<SafeUrl, WandbError> {
        let malformed = |reason: String| WandbError::Malformed { what: what.to_owned(), reason };
        let url = match Url::parse(text) {
            Err(url::ParseError::RelativeUrlWithoutBase) => self.base.join(text),
            parsed => parsed,
        };
        let url = url.map_err(|error| malformed(format!("an address in it: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(malformed(format!("an address with scheme `{}`", url.scheme())));
        }
        Ok(url.into())
    }

    /// Whether the key may go to `url`.
    fn owns(&self, url: &Url) -> bool {
        let prefix = self.base.path().trim_end_matches('/');
        let below = url.path().strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        same_origin(&self.base, url) && below
    }

    /// Sends JSON with the credential and returns the whole answer; one attempt.
    pub(super) async fn post_json(&self, url: &SafeUrl, body: Bytes) -> Result<Bytes, Trouble> {
        let mut headers = self.headers(url.expose(), true, true).await?;
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.post(url, headers, body, self.api_attempt).await
    }

    async fn post(
        &self,
        url: &SafeUrl,
        headers: HeaderMap,
        body: Bytes,
        limit: Option<Duration>,
    ) -> Result<Bytes, Trouble> {
        tokio::time::sleep(self.limiter.take(Instant::now())).await;
        let exchange = async {
            let request = self.http.request(Method::POST, url.expose().clone()).headers(headers).body(body);
            let response = traced(&Method::POST, url.expose(), self.idle(request.send())).await?;
            self.heed(response.headers());
            let response = self.accept(Traffic::Api, response).await?;
            self.read_all(response, ANSWER_LIMIT).await
        };
        match limit {
            Some(limit) => tokio::time::timeout(limit, exchange).await.unwrap_or(Err(Trouble::Late(limit))),
            None => exchange.await,
        }
    }

    /// What the server says of the rate of requests.
    fn heed(&self, headers: &HeaderMap) {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        self.limiter.learn(text("ratelimit-remaining"), text("ratelimit-reset"), Instant::now());
    }

    /// Exchanges an identity token, as a form, for an access token.
    async fn exchange(&self, form: String) -> Result<Bytes, WandbError> {
        let url = self.route(&["oidc", "token"])?;
        let errand = Errand { traffic: Traffic::Exchange, what: "the exchange of the identity token" };
        let budget = Budget::new((self.exchange_pace, self.exchange_pace), Some(EXCHANGE_TOTAL), system_seed());
        let form = Bytes::from(form);
        let once = || async {
            let mut headers = self.extra.clone();
            let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
            headers.insert(header::CONTENT_TYPE, kind);
            self.post(&url, headers, form.clone(), Some(EXCHANGE_ATTEMPT)).await
        };
        // Not a plain await: persisting asks for headers, which may exchange.
        Box::pin(self.persist(&budget, errand, once)).await
    }

    /// Asks for an object; one attempt, redirects included. The answer has an accepted status.
    pub(super) async fn get(&self, url: &SafeUrl, want: Want<'_>) -> Result<reqwest::Response, Trouble> {
        let origin = url.expose().clone();
        let mut url = origin.clone();
        for hop in 0..=REDIRECT_LIMIT {
            let with_extra = match want.trust {
                Trust::Server => same_origin(&origin, &url),
                Trust::Stranger => same_origin(&self.base, &url),
            };
            let mut headers = self.headers(&url, want.with_key && hop == 0, with_extra).await?;
            let encoding = match want.encoding {
                Encoding::Identity => "identity",
                Encoding::Gzip => "gzip",
            };
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(encoding));
            if let Some(token) = want.bearer.filter(|_| hop == 0) {
                insert(&mut headers, header::AUTHORIZATION, &format!("Bearer {token}"))?;
            }
            if want.from > 0 || want.until.is_some() {
                let until = want.until.map(|until| until.saturating_sub(1).to_string()).unwrap_or_default();
                insert(&mut headers, header::RANGE, &format!("bytes={}-{until}", want.from))?;
                if let Some(version) = want.if_range {
                    insert(&mut headers, header::IF_RANGE, version)?;
                }
            }
            let request = self.limited(self.http.request(Method::GET, url.clone()).headers(headers));
            let response = traced(&Method::GET, &url, self.idle(request.send())).await?;
            if !is_redirect(response.status()) {
                return self.accept(Traffic::Object, response).await;
            }
            url = redirect_target(&url, response.headers())?;
        }
        Err(Trouble::Malformed(format!("more than {REDIRECT_LIMIT} redirects")))
    }

    /// Sends an object to a signed address; one attempt. `moved` counts bytes taken from the body: while it grows, the
    /// transfer is alive.
    pub(super) async fn put(&self, put: Put<'_>) -> Result<HeaderMap, Trouble> {
        let url = put.url.expose();
        let mut headers = self.headers(url, put.with_key, true).await?;
        headers.extend(put.headers.clone());
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(put.length));
        let request = self.limited(self.http.request(Method::PUT, url.clone()).headers(headers).body(put.body));
        let sent = async {
            tokio::select! {
                sent = request.send() => sent.map_err(|error| self.broken(error)),
                () = self.stalled(&put.moved) => Err(Trouble::Idle(self.idle)),
            }
        };
        let response = self.accept(Traffic::Object, traced(&Method::PUT, url, sent).await?).await?;
        Ok(response.headers().clone())
    }

    /// How long to wait for the next byte.
    #[cfg(feature = "cloud")]
    pub(super) fn idle_timeout(&self) -> Duration {
        self.idle
    }

    /// The next bytes of an answer, or none at its end.
    pub(super) async fn chunk(&self, response: &mut reqwest::Response) -> Result<Option<Bytes>, Trouble> {
        self.idle(response.chunk()).await
    }

    /// The rest of an answer, up to `limit` bytes.
    pub(super) async fn read_all(&self, mut response: reqwest::Response, limit: usize) -> Result<Bytes, Trouble> {
        let mut all = BytesMut::new();
        while let Some(chunk) = self.chunk(&mut response).await? {
            if all.len() + chunk.len() > limit {
                return Err(Trouble::Malformed(format!("more than {limit} bytes")));
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    /// Tries until it works, the budget ends or trying again is no use.
    pub(super) async fn persist<T, A: Future<Output = Result<T, Trouble>>>(
        &self,
        budget: &Budget,
        errand: Errand<'_>,
        mut once: impl FnMut() -> A,
    ) -> Result<T, WandbError> {
        let mut attempt = 0;
        loop {
            match self.within(budget, errand.what, once()).await? {
                Ok(value) => {
                    budget.earn();
                    return Ok(value);
                }
                Err(trouble) => self.pause(budget, errand, (trouble, attempt)).await?,
            }
            attempt += 1;
        }
    }

    /// Waits before the next attempt, or says why there is none.
    pub(super) async fn pause(
        &self,
        budget: &Budget,
        errand: Errand<'_>,
        (trouble, attempt): (Trouble, u32),
    ) -> Result<(), WandbError> {
        self.pause_at(budget, errand, (&self.host(), trouble, attempt)).await
    }

    /// [`Transport::pause`] for a request to this host.
    pub(super) async fn pause_at(
        &self,
        budget: &Budget,
        errand: Errand<'_>,
        (host, trouble, attempt): (&str, Trouble, u32),
    ) -> Result<(), WandbError> {
        let wait = match trouble.verdict(errand.traffic) {
            Verdict::Retry => budget.spend(errand.traffic, attempt, trouble.retry_after()),
            Verdict::Accept | Verdict::Fail => None,
        };
        let Some(wait) = wait else { return Err(trouble.into_error(errand.what, host)) };
        let why = trouble.describe();
        self.progress.note(&format!("{}: {why}; trying again in {:.1} s", errand.what, wait.as_secs_f64()));
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// Bounds anything by the operation's deadline.
    pub(super) async fn within<T>(
        &self,
        budget: &Budget,
        what: &str,
        work: impl Future<Output = T>,
    ) -> Result<T, WandbError> {
        let Some((deadline, seconds)) = budget.deadline else { return Ok(work.await) };
        let late = |_| WandbError::Timeout { what: what.to_owned(), seconds };
        tokio::time::timeout_at(deadline, work).await.map_err(late)
    }

    /// The headers of a request to `url`. Getting the credential may take an exchange of tokens first.
    async fn headers(&self, url: &Url, with_key: bool, with_extra: bool) -> Result<HeaderMap, WandbError> {
        let mut headers = if with_extra { self.extra.clone() } else { HeaderMap::new() };
        if with_key && self.owns(url) {
            headers.extend(self.user.clone());
            match &self.proof {
                Proof::Nothing => {}
                Proof::Key(value) => drop(headers.insert(header::AUTHORIZATION, value.clone())),
                Proof::Token(keeper) => {
                    let base = self.base.as_str().trim_end_matches('/');
                    let value = keeper.header((base, &self.progress), |form| self.exchange(form)).await?;
                    headers.insert(header::AUTHORIZATION, value);
                }
            }
        }
        Ok(headers)
    }

    fn limited(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match self.transfer_attempt {
            Some(limit) => request.timeout(limit),
            None => request,
        }
    }

    async fn idle<T>(&self, work: impl Future<Output = reqwest::Result<T>>) -> Result<T, Trouble> {
        match tokio::time::timeout(self.idle, work).await {
            Ok(result) => result.map_err(|error| self.broken(error)),
            Err(_) => Err(Trouble::Idle(self.idle)),
        }
    }

    fn broken(&self, error: reqwest::Error) -> Trouble {
        match self.transfer_attempt {
            _ if error.is_timeout() && error.is_connect() => Trouble::Late(self.connect),
            Some(limit) if error.is_timeout() => Trouble::Late(limit),
            // The address may be signed.
            _ => Trouble::Broken(error.without_url()),
        }
    }

    /// Ends when `moved` did not grow for the idle timeout.
    async fn stalled(&self, moved: &AtomicU64) {
        let mut seen = moved.load(Ordering::Relaxed);
        loop {
            tokio::time::sleep(self.idle).await;
            let now = moved.load(Ordering::Relaxed);
            if now == seen {
                return;
            }
            seen = now;
        }
    }

    async fn accept(&self, traffic: Traffic, response: reqwest::Response) -> Result<reqwest::Response, Trouble> {
        let status = response.status().as_u16();
        if judge(traffic, status) == Verdict::Accept {
            return Ok(response);
        }
        let after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = after.and_then(|text| retry_after(text, SystemTime::now()));
        if let (Traffic::Api, 429, Some(wait)) = (traffic, status, retry_after) {
            self.limiter.hold_for(wait, Instant::now());
        }
        // A body that cannot be read leaves the status to speak for itself.
        let body = self.read_all(response, 64 << 10).await.unwrap_or_default();
        Err(Trouble::Status { status, retry_after, message: message_of(&body, status) })
    }
}

/// What [`Transport::put`] sends.
pub(super) struct Put<'a> {
    pub(super) url: &'a SafeUrl,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: reqwest::Body,
    pub(super) length: u64,
    pub(super) moved: Arc<AtomicU64>,
    pub(super) with_key: bool,
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) -> Result<(), Trouble> {
    let value = HeaderValue::try_from(value).map_err(|_| Trouble::Malformed(format!("a value for {name}")))?;
    headers.insert(name, value);
    Ok(())
}

/// The headers that the server wants on an upload, each `Name:Value`; items without a colon say nothing.
pub(super) fn upload_headers(items: &[String], what: &str) -> Result<HeaderMap, WandbError> {
    let mut headers = HeaderMap::new();
    for (name, value) in items.iter().filter_map(|item| item.split_once(':')) {
        let malformed = || WandbError::Malformed { what: what.to_owned(), reason: format!("upload header `{name}`") };
        let name = HeaderName::try_from(name.trim()).map_err(|_| malformed())?;
        headers.insert(name, HeaderValue::try_from(value.trim()).map_err(|_| malformed())?);
    }
    Ok(headers)
}

fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme() && a.host() == b.host() && a.port_or_known_default() == b.port_or_known_default()
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn redirect_target(from: &Url, headers: &HeaderMap) -> Result<Url, Trouble> {
    let location = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
    let target = location.and_then(|location| from.join(location).ok());
    match target {
        Some(url) if url.scheme() == from.scheme() || url.scheme() == "https" => Ok(url),
        _ => Err(Trouble::Malformed("a redirect without a usable target".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::ApiKey;

    fn transport(base: &str) -> Transport {
        let key = ApiKey::parse(&"k".repeat(40)).unwrap();
        Transport::new(&ClientOptions::new(base).with_api_key(Some(key))).unwrap()
    }

    #[tokio::test]
    async fn the_key_and_the_user_stay_under_the_base_url() {
        let key = ApiKey::parse(&"k".repeat(40)).unwrap();
        let options = ClientOptions::new("https://host:8443/wandb/").with_api_key(Some(key));
        let transport = Transport::new(&options.with_user(Some("ada".to_owned()), None)).unwrap();
        let given = async |url: &str, with_key| {
            let headers = transport.headers(&Url::parse(url).unwrap(), with_key, true).await.unwrap();
            assert_eq!(headers.contains_key("authorization"), headers.contains_key("x-wandb-username"));
            headers.contains_key("authorization")
        };
        assert!(given("https://host:8443/wandb/graphql", true).await);
        assert!(given("https://host:8443/wandb", true).await);
        for url in [
            "http://host:8443/wandb/graphql",
            "https://host/wandb/graphql",
            "https://host:8443/wandbish/graphql",
            "https://host:8443/other",
            "https://host.evil:8443/wandb/graphql",
        ] {
            assert!(!given(url, true).await, "{url}");
        }
        assert!(!given("https://host:8443/wandb/x", false).await);
    }

    #[test]
    fn routes_escape_their_segments() {
        let transport = transport("http://127.0.0.1:8080/api");
        let route = transport.route(&["files", "a b", "c/d", "file_stream"]).unwrap();
        assert_eq!(route.expose().as_str(), "http://127.0.0.1:8080/api/files/a%20b/c%2Fd/file_stream");
        assert_eq!(
            transport.resolve("/storage/x?sig=1", "x").unwrap().expose().as_str(),
            "http://127.0.0.1:8080/storage/x?sig=1"
        );
        assert!(transport.resolve("file:///etc/passwd", "x").is_err());
    }

    #[test]
    fn nonsense_options_are_refused() {
        for base in ["", "host", "ftp://host", "file:///x"] {
            assert!(matches!(Transport::new(&ClientOptions::new(base)), Err(WandbError::Option { .. })), "{base}");
        }
        let headers = vec![("bad name".to_owned(), "x".to_owned())];
        assert!(Transport::new(&ClientOptions::new("http://h").with_extra_headers(headers)).is_err());
    }
}
