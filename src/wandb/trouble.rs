//! What can go wrong with one attempt at a request: whether trying again may help, and how it is told. No I/O.

use std::time::Duration;

use reqwest::StatusCode;
use serde::Deserialize;

use super::error::WandbError;
use super::retry::{Traffic, Verdict, judge};

/// One attempt at something, failed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The server answered with this status.
    Status { status: u16, retry_after: Option<Duration>, message: String },
    /// No answer, or a broken one.
    Broken(reqwest::Error),
    /// Nothing for too long.
    Idle(Duration),
    /// The attempt as a whole took longer than this.
    Late(Duration),
    /// An answer that is against the protocol.
    Malformed(String),
    /// Something that trying again does not change.
    Final(WandbError),
}

impl Trouble {
    /// Whether to try again.
    pub(super) fn verdict(&self, traffic: Traffic) -> Verdict {
        match self {
            Self::Status { status, .. } => judge(traffic, *status),
            Self::Broken(error) if error.is_builder() || is_certificate(error) => Verdict::Fail,
            Self::Broken(_) | Self::Idle(_) | Self::Late(_) => Verdict::Retry,
            Self::Malformed(_) | Self::Final(_) => Verdict::Fail,
        }
    }

    /// The server asks to wait so long.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// In a few words, for a note on a retry.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Status { status, message, .. } => format!("status {status} ({message})"),
            Self::Broken(error) => root_cause(error),
            Self::Idle(limit) => format!("nothing came for {} s", limit.as_secs_f64()),
            Self::Late(limit) => format!("it took longer than {} s", limit.as_secs_f64()),
            Self::Malformed(reason) => reason.clone(),
            Self::Final(error) => error.to_string(),
        }
    }

    /// The error, once it is not tried again.
    pub(super) fn into_error(self, what: &str, host: &str) -> WandbError {
        let what_owned = || what.to_owned();
        match self {
            Self::Status { status, message, .. } => WandbError::from_status(status, what, host, message),
            Self::Broken(source) => WandbError::Network { what: format!("{what} at {host}"), source },
            Self::Idle(limit) | Self::Late(limit) => {
                WandbError::Timeout { what: what_owned(), seconds: limit.as_secs_f64().ceil() as u64 }
            }
            Self::Malformed(reason) => WandbError::Malformed { what: what_owned(), reason },
            Self::Final(error) => error,
        }
    }
}

impl From<WandbError> for Trouble {
    fn from(error: WandbError) -> Self {
        Self::Final(error)
    }
}

/// A TLS certificate that is refused stays refused.
fn is_certificate(error: &reqwest::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = cause {
        if error.to_string().contains("invalid peer certificate") {
            return true;
        }
        cause = error.source();
    }
    false
}

/// What a failure of the HTTP library comes down to.
pub(super) fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// The words of the server in any of the forms that W&B uses.
pub(super) fn message_of(body: &[u8], status: u16) -> String {
    #[derive(Deserialize)]
    struct Item {
        message: String,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum One {
        Text(String),
        Item(Item),
    }
    #[derive(Deserialize)]
    struct Form {
        #[serde(default)]
        errors: Vec<One>,
        error: Option<One>,
    }
    let text = |one: One| match one {
        One::Text(text) | One::Item(Item { message: text }) => text,
    };
    if let Ok(form) = serde_json::from_slice::<Form>(body) {
        let mut messages: Vec<String> = form.errors.into_iter().chain(form.error).map(text).collect();
        // Some servers say the same in both forms.
        messages.dedup();
        if !messages.is_empty() {
            return messages.join("; ");
        }
    }
    let plain = String::from_utf8_lossy(body);
    let plain = plain.trim();
    match StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()) {
        Some(reason) if plain.is_empty() => reason.to_owned(),
        _ => plain.chars().take(300).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_in_every_form() {
        for (body, message) in [
            (r#"{"errors":[{"message":"a"},{"message":"b"}],"data":null}"#, "a; b"),
            (r#"{"errors":[{"message":"a"}],"error":"a"}"#, "a"),
            (r#"{"error":"gone"}"#, "gone"),
            (r#"{"error":{"message":"no"}}"#, "no"),
            ("<html>", "<html>"),
            ("", "Forbidden"),
        ] {
            assert_eq!(message_of(body.as_bytes(), 403), message);
        }
    }
}
