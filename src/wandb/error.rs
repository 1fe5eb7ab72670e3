//! What can go wrong with W&B, one variant per decision a caller can take, and the one place where an HTTP status
//! becomes a variant. No I/O.

use std::path::PathBuf;

use crate::digest::Digest;
use crate::store::StoreError;

use super::artifact::reference::ReferenceError;
use super::artifact::suggest::Suggestions;

/// Why the W&B client could not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WandbError {
    /// A setting of the client that cannot work.
    #[error("the option {option} cannot be used: {reason}")]
    Option {
        /// Which.
        option: &'static str,
        /// Why.
        reason: String,
    },
    /// A text that is no artifact name.
    #[error("`{text}` is not an artifact name: {reason}")]
    Name {
        /// The text.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Nothing there under that name, or nothing that this key may see.
    #[error("{what} not found")]
    NotFound {
        /// What was looked for, with its full name.
        what: String,
    },
    /// Nothing there under that name, but something near it.
    #[error("{what}; {suggestions}")]
    NoSuchName {
        /// What [`WandbError::NotFound`] says.
        what: String,
        /// What exists instead.
        suggestions: Box<Suggestions>,
    },
    /// The version was there and was deleted.
    #[error("artifact {artifact} was deleted")]
    Deleted {
        /// Its name.
        artifact: String,
    },
    /// The version exists but is not committed yet.
    #[error("artifact {artifact} is {state}, not committed")]
    NotCommitted {
        /// Its name.
        artifact: String,
        /// Its state, in the server's word.
        state: String,
    },
    /// An identity token that cannot be exchanged for an access token.
    #[error("the identity token in {} cannot be used: {reason}", path.display())]
    IdentityToken {
        /// The file with the token.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// No credential, or one that the server does not know.
    #[error("{host} does not accept the credential for {what}: {message}")]
    Unauthenticated {
        /// What was asked for.
        what: String,
        /// The server.
        host: String,
        /// What it said.
        message: String,
    },
    /// The key is known but has no permission.
    #[error("{host} refuses {what}: {message}")]
    Forbidden {
        /// What was asked for.
        what: String,
        /// The server.
        host: String,
        /// What it said.
        message: String,
    },
    /// Too many requests, even after waiting.
    #[error("{host} limits the rate of {what}: {message}")]
    RateLimited {
        /// What was asked for.
        what: String,
        /// The server.
        host: String,
        /// What it said.
        message: String,
    },
    /// The server understood and said no: wrong type for a collection, an argument it does not take.
    #[error("{what} was rejected: {message}")]
    Rejected {
        /// What was asked for.
        what: String,
        /// What the server said.
        message: String,
    },
    /// The server failed, even after retries.
    #[error("{host} failed at {what} with status {status}: {message}")]
    Server {
        /// What was asked for.
        what: String,
        /// The server.
        host: String,
        /// The HTTP status.
        status: u16,
        /// What it said.
        message: String,
    },
    /// No connection, or one that broke, even after retries.
    #[error("{what} did not get through")]
    Network {
        /// What was asked for, with the address.
        what: String,
        /// The cause.
        #[source]
        source: reqwest::Error,
    },
    /// No answer, no byte for too long, or the whole took too long.
    #[error("{what} took longer than {seconds} s")]
    Timeout {
        /// What was asked for.
        what: String,
        /// The limit that passed.
        seconds: u64,
    },
    /// The server's answer is not what the protocol says.
    #[error("the answer to {what} makes no sense: {reason}")]
    Malformed {
        /// What was asked for.
        what: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// The manifest does not hash to the artifact's digest.
    #[error("the manifest of {artifact} hashes to {found}, not to the artifact's digest {expected}")]
    ManifestDigest {
        /// The artifact.
        artifact: String,
        /// The artifact's digest.
        expected: String,
        /// The manifest's digest.
        found: String,
    },
    /// A path in a manifest that could leave its folder or names two things at once.
    #[error("the entry `{path}` of {artifact} is refused: {reason}")]
    EntryPath {
        /// The artifact.
        artifact: String,
        /// The path.
        path: String,
        /// Why.
        reason: &'static str,
    },
    /// An entry whose digest has a form that we cannot check.
    #[error("the entry `{path}` of {artifact} cannot be verified: {reason}")]
    Unverifiable {
        /// The artifact.
        artifact: String,
        /// The path.
        path: String,
        /// Why.
        reason: String,
    },
    /// The bytes that came are not the ones the manifest promised, twice.
    #[error("{what} arrived altered")]
    Corrupt {
        /// Artifact and path.
        what: String,
        /// What was expected and what came.
        #[source]
        source: StoreError,
    },
    /// A reference whose target is gone, changed, or of a kind that cannot be fetched.
    #[error("the reference `{path}` of {artifact} to {uri} cannot be followed")]
    Reference {
        /// The artifact.
        artifact: String,
        /// The path.
        path: String,
        /// Where it points.
        uri: String,
        /// Why not.
        #[source]
        source: ReferenceError,
    },
    /// Too little room for what is to come.
    #[error("{} needs {needed} more bytes, {free} are free", folder.display())]
    NoSpace {
        /// The folder that would fill up.
        folder: PathBuf,
        /// Bytes to write.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// The store could not take or give bytes.
    #[error("the store failed for {what}")]
    Store {
        /// Artifact and path.
        what: String,
        /// The cause.
        #[source]
        source: StoreError,
    },
    /// A local file could not be read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Something to upload that cannot be.
    #[error("cannot upload {}: {reason}", path.display())]
    Unfit {
        /// The file or folder, or the path of the entry.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file to upload was written to meanwhile.
    #[error("{} changed while it was uploaded", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A digest that is not what the server stored.
    #[error("{what} was stored as {found}, not as {expected}")]
    Stored {
        /// Artifact and path.
        what: String,
        /// What was sent.
        expected: Digest,
        /// What is there.
        found: String,
    },
    /// A run that was to be new is there already.
    #[error("the run {run} exists already")]
    RunExists {
        /// Its path.
        run: String,
    },
    /// Somebody asked W&B to stop the run.
    #[error("somebody asked W&B to stop the run {run}")]
    Stopped {
        /// Its path.
        run: String,
    },
    /// The run is over; nothing can be logged to it any more.
    #[error("the run {run} is finished")]
    RunFinished {
        /// Its path.
        run: String,
    },
    /// Not everything that a run logged is on the server. Nothing is lost: it is in the run's folder.
    #[error("not everything of run {run} reached the server; it is kept in {}", folder.display())]
    NotSent {
        /// Its path.
        run: String,
        /// The folder, for [`Client::sync`](super::Client::sync).
        folder: PathBuf,
        /// What stood in the way; nothing for a run that never had a server.
        #[source]
        source: Option<Box<Self>>,
    },
    /// A log that a run still writes to, or that is being sent.
    #[error("{} is in use by another process", path.display())]
    Busy {
        /// The log.
        path: PathBuf,
    },
    /// A log that cannot be sent.
    #[error("the log {} cannot be sent: {reason}", path.display())]
    Log {
        /// The log.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The work was cancelled from outside: the runtime is shutting down or a worker thread died.
    #[error("{what} was interrupted")]
    Interrupted {
        /// What was under way.
        what: String,
    },
}

impl WandbError {
    /// An HTTP status other than 2xx, after all retries.
    pub(super) fn from_status(status: u16, what: &str, host: &str, message: String) -> Self {
        let (what, host) = (what.to_owned(), host.to_owned());
        match status {
            401 => Self::Unauthenticated { what, host, message },
            403 => Self::Forbidden { what, host, message },
            404 | 410 => Self::NotFound { what },
            429 => Self::RateLimited { what, host, message },
            408 | 425 | 500.. => Self::Server { what, host, status, message },
            _ => Self::Rejected { what, message },
        }
    }

    /// Nothing there: exit code 3.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::NotFound { .. } | Self::NoSuchName { .. } | Self::NotCommitted { .. } | Self::Deleted { .. } => true,
            Self::Reference { source, .. } => source.is_missing(),
            _ => false,
        }
    }

    /// No permission: exit code 4.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Unauthenticated { .. } | Self::Forbidden { .. } | Self::IdentityToken { .. })
    }

    /// Bytes or names that cannot be trusted: exit code 5.
    pub fn is_integrity(&self) -> bool {
        match self {
            Self::ManifestDigest { .. } | Self::EntryPath { .. } | Self::Unverifiable { .. } => true,
            Self::Corrupt { .. } | Self::Changed { .. } | Self::Stored { .. } => true,
            Self::Store { source, .. } => matches!(source, StoreError::Corrupt { .. }),
            Self::Reference { source, .. } => source.is_integrity(),
            _ => false,
        }
    }

    /// The network or the server, now but perhaps not later: exit code 6.
    pub fn is_network(&self) -> bool {
        match self {
            Self::Network { .. } | Self::Timeout { .. } | Self::RateLimited { .. } | Self::Server { .. } => true,
            Self::Reference { source, .. } => source.is_network(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_one_meaning() {
        let of = |status| WandbError::from_status(status, "x", "h", "m".to_owned());
        for status in [404, 410] {
            assert!(of(status).is_not_found());
        }
        for status in [401, 403] {
            assert!(of(status).is_denied());
        }
        for status in [408, 425, 429, 500, 502, 503, 504, 599] {
            assert!(of(status).is_network(), "{status}");
        }
        for status in [304, 400, 409, 413, 422] {
            assert!(matches!(of(status), WandbError::Rejected { .. }), "{status}");
        }
    }
}
