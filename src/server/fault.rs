//! Why the server refuses or cannot serve a request, and the HTTP status each reason means. No I/O.
//!
//! Statuses follow what the official clients do with them: 400, 401, 403, 404, 409, 410, 413 and 422 are final for them,
//! everything in the 500s is tried again up to twenty times (`core/internal/clients/retry_policy.go`).

use std::io;
use std::path::{Path, PathBuf};

/// One reason, with who and what it is about.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The request says something that cannot be.
    #[error("{0}")]
    Invalid(String),
    /// A thing that is not here.
    #[error("{kind} `{name}` not found")]
    NotFound {
        /// What kind of thing.
        kind: &'static str,
        /// Its name or id.
        name: String,
    },
    /// The request is well formed, but what is stored contradicts it.
    #[error("{0}")]
    Conflict(String),
    /// The signature of a URL is wrong or its time is over.
    #[error("this URL is not signed by this server or has expired")]
    BadSignature,
    /// An identity token that is not taken.
    #[error("the identity token is refused: {0}")]
    BadIdentity(&'static str),
    /// No API key or access token, or another one.
    #[error("invalid API key or access token: send `Authorization: Basic base64(\"api:\" + key)`")]
    Unauthorized,
    /// A field that the schema promises and no resolver answers.
    #[error("no resolver for field `{field}` of type {type_name}")]
    Unresolved {
        /// The type.
        type_name: String,
        /// The field.
        field: String,
    },
    /// The body broke off.
    #[error("the request body ended early")]
    BodyBroken,
    /// The database refused.
    #[error("the database refused")]
    Database(#[from] rusqlite::Error),
    /// The file system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// A background task was lost.
    #[error("a task of the server was lost")]
    Lost,
}

impl Fault {
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::Conflict(message.into())
    }

    pub(super) fn not_found(kind: &'static str, name: impl Into<String>) -> Self {
        Self::NotFound { kind, name: name.into() }
    }

    /// For `map_err` after a file operation.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// The HTTP status that says the same.
    pub(super) fn status(&self) -> u16 {
        match self {
            Self::Invalid(_) | Self::BodyBroken => 400,
            Self::Unauthorized | Self::BadIdentity(_) => 401,
            Self::BadSignature => 403,
            Self::NotFound { .. } => 404,
            Self::Conflict(_) => 409,
            Self::Unresolved { .. } => 501,
            Self::Database(_) | Self::Io { .. } | Self::Lost => 500,
        }
    }

    /// The message a client may see: of our own failures it learns that they happened, not paths of this machine.
    pub(super) fn public_message(&self) -> String {
        match self {
            Self::Database(_) | Self::Io { .. } | Self::Lost => "the server failed; its log says why".to_owned(),
            other => other.to_string(),
        }
    }
}
