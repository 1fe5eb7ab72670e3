//! What proves who we are: a key that is always the same, or an access token that an identity token is exchanged for and
//! that is kept between processes. Reads and writes the two files; the exchange itself goes through the transport.
//!
//! Times, file and form are the official client's (`core/internal/api/credentials.go`), so that both can share the file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use reqwest::header::HeaderValue;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;

use crate::progress::Progress;
use crate::store::write_private;

use super::error::WandbError;
use super::options::Credential;

/// A token with less life left is exchanged for a new one.
const MARGIN: SignedDuration = SignedDuration::from_mins(5);
/// How the cache file writes times, in UTC.
const TIME: &str = "%Y-%m-%d %H:%M:%S";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// The proof that goes with requests to the API.
pub(super) enum Proof {
    /// None.
    Nothing,
    /// A key.
    Key(HeaderValue),
    /// A token.
    Token(TokenKeeper),
}

/// Keeps an access token fresh. One exchange at a time: who comes meanwhile waits for it and uses it too.
pub(super) struct TokenKeeper {
    token_file: PathBuf,
    cache_file: PathBuf,
    current: Mutex<Option<AccessToken>>,
}

/// An access token. No `Debug`: it is a secret.
#[derive(Clone, PartialEq)]
struct AccessToken {
    text: String,
    expires: Timestamp,
}

/// The answer to an exchange.
#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_in: u32,
}

impl Proof {
    pub(super) fn new(credential: Option<&Credential>) -> Result<Self, WandbError> {
        Ok(match credential {
            None => Self::Nothing,
            Some(Credential::ApiKey(key)) => {
                let text = format!("Basic {}", STANDARD.encode(format!("api:{}", key.expose())));
                Self::Key(secret(&text, "api_key")?)
            }
            Some(Credential::IdentityToken { token_file, cache_file }) => Self::Token(TokenKeeper {
                token_file: token_file.clone(),
                cache_file: cache_file.clone(),
                current: Mutex::new(None),
            }),
        })
    }
}

impl TokenKeeper {
    /// The `Authorization` header: from memory, else from the cache file, else from `exchange`, which is given the form to
    /// send and returns the server's answer.
    pub(super) async fn header<F: Future<Output = Result<bytes::Bytes, WandbError>>>(
        &self,
        (base, progress): (&str, &Progress),
        exchange: impl FnOnce(String) -> F,
    ) -> Result<HeaderValue, WandbError> {
        let mut current = self.current.lock().await;
        let fresh = |token: &AccessToken| token.is_fresh(Timestamp::now());
        let token = match current.take().filter(fresh).or_else(|| self.cached(base, progress).filter(fresh)) {
            Some(token) => token,
            None => {
                let token = self.read_answer(&exchange(self.form()?).await.map_err(|e| self.refused(e))?)?;
                self.keep(base, &token, progress);
                token
            }
        };
        let header = secret(&format!("Bearer {}", token.text), "identity_token");
        *current = Some(token);
        header
    }

    /// The identity token, as the exchange wants it; read each time because it is renewed from outside.
    fn form(&self) -> Result<String, WandbError> {
        let read = fs::read_to_string(&self.token_file);
        let text = read.map_err(|error| self.unusable(format!("it cannot be read: {error}")))?;
        let text = text.trim();
        if text.is_empty() {
            return Err(self.unusable("it is empty".to_owned()));
        }
        Ok(url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", GRANT)
            .append_pair("assertion", text)
            .finish())
    }

    fn read_answer(&self, bytes: &[u8]) -> Result<AccessToken, WandbError> {
        let what = || "the exchange of the identity token".to_owned();
        // The parser's words could repeat a part of the token.
        let malformed = |reason: &str| WandbError::Malformed { what: what(), reason: reason.to_owned() };
        let answer: Answer = serde_json::from_slice(bytes).map_err(|_| malformed("it holds no access token"))?;
        if answer.access_token.is_empty() || answer.expires_in == 0 {
            return Err(malformed("its access token is empty or over"));
        }
        let expires = Timestamp::now() + SignedDuration::from_secs(i64::from(answer.expires_in));
        Ok(AccessToken { text: answer.access_token, expires })
    }

    /// What the server says against the token is said of its file.
    fn refused(&self, error: WandbError) -> WandbError {
        match error {
            WandbError::Rejected { message, .. }
            | WandbError::Forbidden { message, .. }
            | WandbError::Unauthenticated { message, .. } => self.unusable(format!("the server refuses it: {message}")),
            WandbError::NotFound { .. } => self.unusable("the server exchanges no tokens".to_owned()),
            other => other,
        }
    }

    fn unusable(&self, reason: String) -> WandbError {
        WandbError::IdentityToken { path: self.token_file.clone(), reason }
    }

    /// The token that some process kept. A file that cannot be used is said so and done without.
    fn cached(&self, base: &str, progress: &Progress) -> Option<AccessToken> {
        match read_cache(&self.cache_file) {
            Ok(cache) => find(&cache, base),
            Err(error) => {
                progress.note(&format!("{} is not used: {error}", self.cache_file.display()));
                None
            }
        }
    }

    /// Puts the token beside those of other servers. Only a note when it fails: the token works all the same.
    fn keep(&self, base: &str, token: &AccessToken, progress: &Progress) {
        let write = || {
            let cache = with_token(read_cache(&self.cache_file)?, base, token);
            write_private(&self.cache_file, format!("{:#}", Value::Object(cache)).as_bytes())
        };
        if let Err(error) = write() {
            progress.note(&format!("the access token is not kept in {}: {error}", self.cache_file.display()));
        }
    }
}

impl AccessToken {
    fn is_fresh(&self, now: Timestamp) -> bool {
        self.expires.duration_since(now) > MARGIN
    }
}

/// How patient an exchange is: as the official client.
pub(super) const EXCHANGE_RETRIES: u32 = 3;
/// For an exchange with all its retries.
pub(super) const EXCHANGE_TOTAL: Duration = Duration::from_secs(60);
/// For one try.
pub(super) const EXCHANGE_ATTEMPT: Duration = Duration::from_secs(10);

fn secret(text: &str, option: &'static str) -> Result<HeaderValue, WandbError> {
    let refused = |_| WandbError::Option { option, reason: "it does not fit a header".to_owned() };
    let mut value = HeaderValue::try_from(text).map_err(refused)?;
    value.set_sensitive(true);
    Ok(value)
}

/// The cache file; one that is not there is empty, one that is something else is left alone.
fn read_cache(path: &Path) -> io::Result<Map<String, Value>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(error) => return Err(error),
    };
    let not_ours = || io::Error::new(io::ErrorKind::InvalidData, "it is not a file of access tokens");
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(cache)) if cache.get("credentials").is_none_or(Value::is_object) => Ok(cache),
        _ => Err(not_ours()),
    }
}

fn find(cache: &Map<String, Value>, base: &str) -> Option<AccessToken> {
    let entry = cache.get("credentials")?.get(base)?;
    let text = entry.get("access_token")?.as_str().filter(|text| !text.is_empty())?;
    let expires = DateTime::strptime(TIME, entry.get("expires_at")?.as_str()?).ok()?;
    let expires = expires.to_zoned(TimeZone::UTC).ok()?.timestamp();
    Some(AccessToken { text: text.to_owned(), expires })
}

fn with_token(mut cache: Map<String, Value>, base: &str, token: &AccessToken) -> Map<String, Value> {
    let entry = json!({
        "expires_at": token.expires.strftime(TIME).to_string(),
        "access_token": token.text,
    });
    let credentials = cache.entry("credentials").or_insert_with(|| json!({}));
    if let Some(credentials) = credentials.as_object_mut() {
        credentials.insert(base.to_owned(), entry);
    }
    cache
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::ApiKey;

    #[test]
    fn the_official_vector_of_basic_authorization() {
        let key = ApiKey::parse(&"0123456789".repeat(4)).unwrap();
        let Proof::Key(value) = Proof::new(Some(&Credential::ApiKey(key))).unwrap() else { panic!("a key") };
        let expected = "Basic YXBpOjAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODk=";
        assert_eq!(value.to_str().unwrap(), expected);
        assert!(value.is_sensitive());
    }

    #[test]
    fn the_cache_file_is_the_official_clients() {
        let text = r#"{"credentials": {"https://other": {"expires_at": "2026-01-02 03:04:05", "access_token": "a"}}}"#;
        let Value::Object(cache) = serde_json::from_str(text).unwrap() else { panic!("an object") };
        let found = find(&cache, "https://other").unwrap();
        assert_eq!((found.text.as_str(), found.expires.to_string().as_str()), ("a", "2026-01-02T03:04:05Z"));
        assert!(find(&cache, "https://else").is_none());
        let token = AccessToken { text: "b".to_owned(), expires: "2027-01-01T00:00:00Z".parse().unwrap() };
        let cache = with_token(cache, "https://else", &token);
        assert!(find(&cache, "https://else").unwrap() == token && find(&cache, "https://other").unwrap() == found);
        assert_eq!(cache["credentials"]["https://else"]["expires_at"], "2027-01-01 00:00:00");
    }

    #[test]
    fn five_minutes_left_are_too_few() {
        let token = AccessToken { text: String::new(), expires: "2026-01-01T01:00:00Z".parse().unwrap() };
        for (now, fresh) in
            [("2026-01-01T00:54:59Z", true), ("2026-01-01T00:55:00Z", false), ("2026-01-01T02:00:00Z", false)]
        {
            assert_eq!(token.is_fresh(now.parse().unwrap()), fresh, "{now}");
        }
    }

    #[test]
    fn a_file_that_holds_something_else_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials.json");
        for text in ["", "[]", "{\"credentials\": 1}"] {
            fs::write(&path, text).unwrap();
            assert!(read_cache(&path).is_err(), "{text}");
        }
        assert!(read_cache(&folder.path().join("absent")).unwrap().is_empty());
    }
}
