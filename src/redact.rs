//! Secrets as types: an API key that cannot be printed and a URL whose query cannot be printed.
//!
//! Signed URLs carry their permission in the query, under names that differ between stores, so [`SafeUrl`] hides all of
//! it rather than a list of known parameters.

use std::fmt;

use url::Url;

/// A W&B API key. `Debug` shows its length only; there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

/// Why a text is not an API key. Never contains the text.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
#[non_exhaustive]
pub enum ApiKeyError {
    /// Nothing there.
    #[error("the API key is empty")]
    Empty,
    /// The part after an optional `prefix-` is shorter than W&B's shortest key.
    #[error("the API key has {found} characters after its prefix, fewer than the 40 of the shortest W&B key")]
    TooShort {
        /// Characters found.
        found: usize,
    },
    /// A character that no key has.
    #[error("the API key contains a character other than letters, digits, `_`, `-` and `.`")]
    BadCharacter,
}

impl ApiKey {
    /// Parses a key by the rules of the official SDK (`wandb/sdk/lib/wbauth/validation.py`): either three
    /// dot-separated segments (a JWT), or an optional prefix up to the first `-` and at least 40 word characters.
    ///
    /// # Errors
    /// [`ApiKeyError`] naming the rule, without the key.
    pub fn parse(text: &str) -> Result<Self, ApiKeyError> {
        let key = text.trim();
        if key.is_empty() {
            return Err(ApiKeyError::Empty);
        }
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let segments: Vec<&str> = key.split('.').collect();
        if segments.len() == 3 && segments.iter().all(|s| !s.is_empty() && s.chars().all(is_word)) {
            return Ok(Self(key.to_owned()));
        }
        let secret = key.split_once('-').map_or(key, |(_, secret)| secret);
        if !key.chars().all(is_word) {
            return Err(ApiKeyError::BadCharacter);
        }
        if secret.len() < 40 {
            return Err(ApiKeyError::TooShort { found: secret.len() });
        }
        Ok(Self(key.to_owned()))
    }

    /// The key itself, for the `Authorization` header and for storing it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({} characters)", self.0.len())
    }
}

/// A URL that prints without user info, query and fragment.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SafeUrl(Url);

impl SafeUrl {
    /// Parses an absolute URL.
    ///
    /// # Errors
    /// The parser's error, which does not contain the text.
    pub fn parse(text: &str) -> Result<Self, url::ParseError> {
        Url::parse(text).map(Self)
    }

    /// The URL with everything in it, for sending a request.
    pub fn expose(&self) -> &Url {
        &self.0
    }
}

impl From<Url> for SafeUrl {
    fn from(url: Url) -> Self {
        Self(url)
    }
}

impl fmt::Display for SafeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = &self.0;
        write!(f, "{}://{}", url.scheme(), url.host_str().unwrap_or(""))?;
        if let Some(port) = url.port() {
            write!(f, ":{port}")?;
        }
        f.write_str(url.path())?;
        if url.query().is_some() {
            f.write_str("?…")?;
        }
        Ok(())
    }
}

impl fmt::Debug for SafeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SafeUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_every_form_are_accepted() {
        for key in [
            "0123456789".repeat(4),
            format!("local-{}", "a".repeat(40)),
            "wandb_v1_".to_owned() + &"x".repeat(77),
            "aa.bb.cc".to_owned(),
        ] {
            assert_eq!(ApiKey::parse(&format!(" {key}\n")).unwrap().expose(), key);
        }
    }

    #[test]
    fn bad_keys_are_refused_without_repeating_them() {
        assert_eq!(ApiKey::parse("  "), Err(ApiKeyError::Empty));
        assert_eq!(ApiKey::parse("short"), Err(ApiKeyError::TooShort { found: 5 }));
        assert_eq!(ApiKey::parse(&format!("{}!", "a".repeat(50))), Err(ApiKeyError::BadCharacter));
        assert!(!format!("{:?}", ApiKey::parse(&"k".repeat(40)).unwrap()).contains("kk"));
    }

    #[test]
    fn urls_print_without_secrets() {
        let url = SafeUrl::parse("https://user:pw@host:8080/a/b?X-Sig=secret#frag").unwrap();
        assert_eq!(url.to_string(), "https://host:8080/a/b?…");
        assert!(!format!("{url:?}").contains("secret"));
    }
}
