//! What can be wrong with a study as a whole, beyond what can be wrong with one cell.

use std::path::PathBuf;

use crate::app::FailureKind;
use crate::study::slurm::SlurmAnswerError;
use crate::study::sweep::AssignmentError;
use crate::study::{LedgerError, MergeError, PlanError, SpecError};

/// Why a study cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StudyError {
    /// The study file is wrong.
    #[error("{} is not a study file", path.display())]
    Spec {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<SpecError>,
    },
    /// The plan cannot be run.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The ledger is damaged.
    #[error("{} is damaged", path.display())]
    Ledger {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: LedgerError,
    },
    /// Shards that do not fit together.
    #[error("the shards cannot be put together")]
    Merge(#[from] MergeError),
    /// There are no pinned inputs, or they are not readable.
    #[error("{} does not pin the study's inputs: {reason}", path.display())]
    Inputs {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// More shards were asked for than there are units of work.
    #[error("there is no unit {shard}: the study has {units} units of work")]
    NoSuchUnit {
        /// What was asked for.
        shard: String,
        /// How many there are.
        units: usize,
    },
    /// Another process works on the task.
    #[error("another process works on `{task}`")]
    Busy {
        /// The task.
        task: String,
    },
    /// Nothing in the project looks like a grid.
    #[error("no grid of <model>_pt and <model>_<dataset>_<seed> among the {collections} collections of {project}")]
    NothingFound {
        /// `entity/project`.
        project: String,
        /// Collections there.
        collections: usize,
    },
    /// A sweep hands out something else than cells of the study.
    #[error("the sweep is not of this study")]
    Assignment(#[from] AssignmentError),
    /// A sweep was named without its project.
    #[error("it is not said which project sweep {sweep} is in")]
    NoProject {
        /// The sweep as named.
        sweep: String,
    },
    /// The cell that a sweep assigned went wrong, however often it was tried.
    #[error("{task} failed: {reason}")]
    Cell {
        /// The cell.
        task: String,
        /// The error with its causes.
        reason: String,
    },
    /// A program of SLURM could not be run, or failed.
    #[error("{program} failed: {reason}")]
    Slurm {
        /// The program.
        program: String,
        /// What it said.
        reason: String,
    },
    /// A program of SLURM answered in another form.
    #[error("SLURM answered unexpectedly")]
    SlurmAnswer(#[from] SlurmAnswerError),
}

impl StudyError {
    /// What kind of failure this is.
    pub(in crate::app) fn kind(&self) -> FailureKind {
        match self {
            Self::Spec { .. } | Self::NoSuchUnit { .. } | Self::Assignment(_) | Self::NoProject { .. } => {
                FailureKind::Usage
            }
            Self::Plan(_) | Self::NothingFound { .. } | Self::Inputs { .. } => FailureKind::NotFound,
            Self::Ledger { .. } | Self::Merge(_) => FailureKind::Integrity,
            _ => FailureKind::Failure,
        }
    }
}
