//! What can go wrong with a verb: which input, which file, and the cause. Says what it means, not how to mend it; hints
//! are the command's.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::analysis::AnalysisError;
use crate::checkpoint::{CheckpointError, WriteError};
#[cfg(feature = "tch")]
use crate::libtorch::LibtorchError;
use crate::report::ReportError;
#[cfg(feature = "server")]
use crate::server::ServerError;
use crate::store::StoreError;
use crate::table::TableError;
use crate::wandb::WandbError;

use super::input::InputError;
use super::lock::LockError;
use super::study::StudyError;

/// Why a verb did not do its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppError {
    /// An input that is none.
    #[error("cannot use the inputs")]
    Input(#[from] InputError),
    /// W&B said no, or was not reached.
    #[error("cannot {action}")]
    Wandb {
        /// What was tried, with the name of the artifact or run.
        action: String,
        /// The cause.
        #[source]
        source: WandbError,
    },
    /// A checkpoint cannot be read or written.
    #[error("cannot {action} checkpoint {input}")]
    Checkpoint {
        /// What was tried.
        action: &'static str,
        /// The input as the user named it.
        input: String,
        /// The cause.
        #[source]
        source: CheckpointError,
    },
    /// A checkpoint could not be written; nothing is left of it.
    #[error("cannot write the checkpoint {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: WriteError,
    },
    /// A glob that is none.
    #[error("`{glob}` is not a glob")]
    Glob {
        /// The text.
        glob: String,
        /// What is wrong with it.
        #[source]
        source: globset::Error,
    },
    /// The numbers do not work out.
    #[error("cannot fit {subject}")]
    Analysis {
        /// What was fitted: the inputs that the cause speaks of, where it does.
        subject: String,
        /// The cause.
        #[source]
        source: AnalysisError,
    },
    /// The lock says otherwise.
    #[error("the inputs do not hold to the lock")]
    Lock(#[from] LockError),
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// A file of ours could not be read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// A table could not be written or read.
    #[error("cannot read or write the table {}", path.display())]
    Report {
        /// Which file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: ReportError,
    },
    /// Rows that do not fit their table: a mistake in this program.
    #[error("a row does not fit its table")]
    Table(#[from] TableError),
    /// A folder that should hold a fit does not, or holds a damaged one.
    #[error("{} is not a fit: {reason}", path.display())]
    NotAFit {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A folder that should hold a comparison holds a damaged one.
    #[error("{} is not a comparison: {reason}", path.display())]
    NotAComparison {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Fits that say nothing about each other.
    #[error("the fits cannot be compared: {reason}")]
    NotComparable {
        /// Why not.
        reason: String,
    },
    /// A file that should hold coefficients does not.
    #[error("{} holds no coefficients: {reason}", path.display())]
    NotCoefficients {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Components that rounding has spoilt.
    #[error("the components of layer {layer} are not orthonormal: an inner product is off by {deviation:.1e}")]
    NotOrthonormal {
        /// The layer.
        layer: String,
        /// By how much.
        deviation: f64,
    },
    /// A seed that the fit does not have.
    #[error("the fit has no seed {seed}; it has {}", known.join(", "))]
    UnknownSeed {
        /// What was asked for.
        seed: String,
        /// What there is.
        known: Vec<String>,
    },
    /// A layer that the fit does not have.
    #[error("the fit has no layer {layer}")]
    UnknownLayer {
        /// What was asked for.
        layer: String,
    },
    /// The artifact holds no checkpoint, or several.
    #[error("{artifact} holds {found}, so it is not clear which file is the checkpoint")]
    WhichFile {
        /// The artifact.
        artifact: String,
        /// What it holds.
        found: String,
    },
    /// Parts were asked for of a file that is only read whole.
    #[error("cannot fetch only parts of {input}: {reason}")]
    NoParts {
        /// The input.
        input: String,
        /// Why not.
        reason: &'static str,
    },
    /// What was to be unlinked is where it was logged.
    #[error("{artifact} is no link; it was logged there")]
    NotALink {
        /// The version.
        artifact: String,
    },
    /// Something needs the server, but we are offline.
    #[error("{what} is not in the store, and we are offline")]
    Offline {
        /// The reference.
        what: String,
    },
    /// We are offline, and the store lacks what is needed.
    #[error("we are offline, and the store lacks {}", listed(missing))]
    NotInStore {
        /// Everything that it lacks.
        missing: Vec<Missing>,
    },
    /// The bytes of an input are not those the fit was made from.
    #[error("{input} has {found}, but the fit was made from {expected}")]
    InputChanged {
        /// The input.
        input: String,
        /// What the fit was made from: its SHA-256, or its size.
        expected: String,
        /// What is there now.
        found: String,
    },
    /// This build has no libtorch.
    #[error("this build of wandb-pca has no libtorch, which it takes {what}")]
    NoLibtorch {
        /// What for.
        what: String,
    },
    /// libtorch failed, or was asked for what it has not.
    #[cfg(feature = "tch")]
    #[error("cannot {action}")]
    Libtorch {
        /// What was tried.
        action: String,
        /// The cause.
        #[source]
        source: LibtorchError,
    },
    /// A file that should be a TorchScript module is another kind of file.
    #[error("{} is no TorchScript module, but a {found} file", path.display())]
    NotAScript {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: String,
    },
    /// Module and weights have not the same tensors.
    #[error("the weights are not those of the module: {}", difference(missing, unused))]
    OtherTensors {
        /// Tensors of the module that the weights lack.
        missing: Vec<String>,
        /// Tensors of the weights that the module lacks.
        unused: Vec<String>,
    },
    /// Weights do not fit into a module.
    #[error("cannot put the weights into {}", path.display())]
    PutWeights {
        /// The module.
        path: PathBuf,
        /// The cause.
        #[source]
        source: WriteError,
    },
    /// The embedded server failed.
    #[cfg(feature = "server")]
    #[error("the embedded server failed")]
    Server(#[from] ServerError),
    /// Something is wrong with a study.
    #[error(transparent)]
    Study(#[from] StudyError),
    /// A worker ended before its work.
    #[error("a worker of {what} ended early")]
    Worker {
        /// What it worked on.
        what: &'static str,
    },
}

/// What the store lacks of one reference.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Missing {
    /// The reference, with entity and project.
    pub reference: String,
    /// What of it.
    pub lack: Lack,
}

/// What of a reference is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lack {
    /// Which version the name stands for.
    Resolution,
    /// What the version holds.
    Manifest,
    /// The bytes of these files.
    Files(Vec<String>),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.lack {
            Lack::Resolution => write!(f, "what {} stands for", self.reference),
            Lack::Manifest => write!(f, "the manifest of {}", self.reference),
            Lack::Files(files) => write!(f, "{} of {}", files.join(", "), self.reference),
        }
    }
}

/// Some of the names: a module has hundreds.
fn difference(missing: &[String], unused: &[String]) -> String {
    const MOST: usize = 5;
    let some = |names: &[String], what: &str| {
        let more = if names.len() > MOST { format!(" and {} more", names.len() - MOST) } else { String::new() };
        let shown = names.iter().take(MOST).map(String::as_str).collect::<Vec<_>>().join(", ");
        (!names.is_empty()).then(|| format!("{what} {shown}{more}"))
    };
    let parts = [some(missing, "they lack"), some(unused, "the module lacks")];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn listed(missing: &[Missing]) -> String {
    missing.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// What kind of failure, for exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// Anything else.
    Failure,
    /// The command was wrong.
    Usage,
    /// Something named does not exist.
    NotFound,
    /// Key or permission.
    Auth,
    /// Bytes are not what they should be.
    Integrity,
    /// The network or the server did not answer in time.
    Network,
    /// Done, but not all of it is on the server.
    Partly,
    /// Somebody wanted it to stop.
    Stopped,
}

impl AppError {
    /// What kind of failure this is.
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Input(InputError::NoFile { .. }) => FailureKind::NotFound,
            Self::Input(_) | Self::Glob { .. } | Self::NotALink { .. } => FailureKind::Usage,
            Self::NotCoefficients { .. } | Self::UnknownSeed { .. } | Self::UnknownLayer { .. } => FailureKind::Usage,
            Self::Wandb { source, .. } => wandb_kind(source),
            Self::Store(StoreError::Corrupt { .. }) | Self::InputChanged { .. } => FailureKind::Integrity,
            Self::Checkpoint { source, .. } => checkpoint_kind(source),
            Self::Analysis { source: AnalysisError::Damaged { .. }, .. } => FailureKind::Integrity,
            Self::Lock(LockError::Drift { .. }) => FailureKind::Integrity,
            Self::Lock(LockError::Missing { .. }) | Self::Offline { .. } | Self::NotInStore { .. } => {
                FailureKind::NotFound
            }
            Self::Study(error) => error.kind(),
            Self::NoLibtorch { .. } => FailureKind::Usage,
            #[cfg(feature = "tch")]
            Self::Libtorch { source: LibtorchError::NoDevice { .. }, .. } => FailureKind::NotFound,
            Self::File { action: "read" | "find" | "open", source, .. } if source.kind() == io::ErrorKind::NotFound => {
                FailureKind::NotFound
            }
            _ => FailureKind::Failure,
        }
    }

    pub(super) fn wandb(action: impl Into<String>) -> impl FnOnce(WandbError) -> Self {
        let action = action.into();
        move |source| Self::Wandb { action, source }
    }

    #[cfg(feature = "tch")]
    pub(super) fn libtorch(action: impl Into<String>) -> impl FnOnce(LibtorchError) -> Self {
        let action = action.into();
        move |source| Self::Libtorch { action, source }
    }

    pub(super) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }

    pub(super) fn checkpoint(action: &'static str, input: impl ToString) -> impl FnOnce(CheckpointError) -> Self {
        let input = input.to_string();
        move |source| Self::Checkpoint { action, input, source }
    }
}

fn checkpoint_kind(error: &CheckpointError) -> FailureKind {
    match error {
        CheckpointError::Open { source, .. } if source.kind() == io::ErrorKind::NotFound => FailureKind::NotFound,
        CheckpointError::Open { .. } => FailureKind::Failure,
        CheckpointError::Zip { .. }
        | CheckpointError::Pickle { .. }
        | CheckpointError::Safetensors { .. }
        | CheckpointError::Damaged { .. }
        | CheckpointError::Layout { .. } => FailureKind::Integrity,
        _ => FailureKind::Failure,
    }
}

fn wandb_kind(error: &WandbError) -> FailureKind {
    if matches!(error, WandbError::Stopped { .. }) {
        return FailureKind::Stopped;
    }
    if matches!(error, WandbError::NotSent { .. }) {
        return FailureKind::Partly;
    }
    if error.is_not_found() {
        FailureKind::NotFound
    } else if error.is_denied() {
        FailureKind::Auth
    } else if error.is_integrity() {
        FailureKind::Integrity
    } else if error.is_network() {
        FailureKind::Network
    } else {
        FailureKind::Failure
    }
}
