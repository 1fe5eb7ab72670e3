//! Why a reference could not be followed. No I/O.

use std::io;

/// What is wrong with a reference, or with what it points at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// Nothing is there any more. Under `allow_missing_references` such an entry is left out.
    #[error("there is nothing: {reason}")]
    Missing {
        /// Who says so.
        reason: String,
    },
    /// What is there is not what was referred to.
    #[error("it changed: expected {expected}, found {found}")]
    Changed {
        /// Version, digest or size of the entry.
        expected: String,
        /// The same of what is there.
        found: String,
    },
    /// Whoever holds it does not give it to us.
    #[error("{host} refuses it with status {status}: {message}")]
    Refused {
        /// Who holds it.
        host: String,
        /// The HTTP status.
        status: u16,
        /// What it said.
        message: String,
    },
    /// A scheme that W&B tracks and nobody fetches.
    #[error("references with the scheme `{scheme}` are only tracked, never fetched")]
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// A reference that does not say where it points.
    #[error("the reference cannot be read: {reason}")]
    Address {
        /// Why.
        reason: &'static str,
    },
    /// This program was built without clouds.
    #[error("this program was built without the feature `cloud`, which fetches from {cloud}")]
    NoCloud {
        /// Whose bucket.
        cloud: &'static str,
    },
    /// Another version took its place, and the one that was referred to is not named.
    #[error("it changed: expected version {expected}, found {found}, and earlier versions in {cloud} are not searched")]
    Superseded {
        /// The version referred to.
        expected: String,
        /// The newest version.
        found: String,
        /// Whose bucket.
        cloud: &'static str,
    },
    /// A cloud failed, even after retries.
    #[error("{cloud} did not give it")]
    Cloud {
        /// Whose bucket.
        cloud: &'static str,
        /// What it said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Nothing is at an address that a reference is to be made to.
    #[error("there is nothing to refer to: {reason}")]
    NoTarget {
        /// Who says so.
        reason: String,
    },
    /// A target that no reference can be made to.
    #[error("{reason}")]
    Unusable {
        /// Why.
        reason: String,
    },
    /// Artifacts that refer to each other in a circle.
    #[error("it comes back to itself after {steps} steps")]
    Circle {
        /// Steps taken.
        steps: usize,
    },
    /// More artifacts in a row than anybody makes.
    #[error("it leads through more than {limit} artifacts")]
    TooDeep {
        /// Most steps taken.
        limit: usize,
    },
    /// A local file that is none.
    #[error("there is no regular file")]
    NotAFile,
    /// A local file that cannot be read.
    #[error("the file cannot be read")]
    Unreadable(#[source] io::Error),
}

impl ReferenceError {
    /// Nothing there: what `allow_missing_references` leaves out.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. } | Self::NoTarget { .. })
    }

    /// Whoever holds it does not give it to us.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }

    /// Whoever holds it failed, now but perhaps not later.
    pub fn is_network(&self) -> bool {
        matches!(self, Self::Cloud { .. })
    }

    /// It is there and not what was referred to.
    pub fn is_integrity(&self) -> bool {
        matches!(self, Self::Changed { .. } | Self::Superseded { .. } | Self::Circle { .. } | Self::TooDeep { .. })
    }
}
