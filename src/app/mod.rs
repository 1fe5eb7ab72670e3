//! Use-cases, one verb per file, joining the rooms below; the only bridge between asynchronous and CPU-bound work.
//!
//! A verb takes a [`Session`] (client, store, watcher) and its options as values, and returns what it made. It knows
//! neither the terminal nor the environment.

mod alert;
pub mod artifact;
mod begin_run;
mod blocking;
mod cache;
mod compare;
mod comparison;
mod comparison_rows;
mod components;
#[cfg(feature = "server")]
pub mod demo;
mod device;
mod diff;
mod draw;
mod error;
mod evaluate;
#[cfg(feature = "tch")]
mod evaluate_models;
mod fit;
mod fit_charts;
mod fit_folder;
mod fit_in_run;
mod fit_known;
mod fit_record;
mod fit_results;
mod fit_rows;
mod fit_source;
mod input;
mod inspect;
mod layer_name;
mod local;
mod lock;
mod log_compare;
mod log_evaluate;
mod log_fit;
mod merged;
mod parts;
mod pinned;
mod pull;
mod recorded;
mod reopen;
mod report;
mod resolve;
mod roots;
mod sample;
mod session;
pub mod study;
mod sync;
mod table_files;

pub use alert::Alert;
pub use cache::{
    CacheInfo, CachedObject, Corrupt, PruneMode, Verification, cache_info, cache_list, cache_prune, cache_verify,
};
pub use compare::{CompareOptions, CompareOutcome, compare};
pub use comparison::{COMPARE_FILE, COMPARE_SCHEMA, CompareRecord, ComparedFit, Comparison, JointLayer};
pub use comparison_rows::Rows as ComparisonRows;
pub use components::{COMPONENTS_TENSORS, WrittenComponents};
pub use device::Device;
pub use diff::{DiffOptions, Difference, diff};
pub use draw::{Coefficients, Draw};
pub use error::{AppError, FailureKind, Lack, Missing};
pub use evaluate::{EvaluateOptions, EvaluatedModel, Evaluation, ModelKind, Weights, evaluate};
pub use fit::{FitOptions, FitOutcome, fit, labels};
pub use fit_folder::{COMPONENTS_FILE, Fit, GRAM_FILE, GROUPS_FILE, LAYERS_FILE, RECORD_FILE};
pub use fit_in_run::fit_in_run;
pub use fit_record::{FIT_SCHEMA, FitRecord, InputRecord, LayerRecord, SkippedTensor, Totals};
pub use fit_rows::{FitRows, MOST_RESAMPLED, NULL_DRAWS};
pub use fit_source::{FitSource, OpenedFit, OpenedResult, open_fits, open_results};
pub use input::{Input, InputError, Seeded, expand, parse_seeds};
pub use inspect::{InspectOptions, Inspection, Norms, inspect};
pub use lock::{LOCK_FILE, Lock, LockError, LockedArtifact, LockedFile};
pub use log_compare::log_compare;
pub use log_evaluate::log_evaluation;
pub use log_fit::{LogOptions, Logged, Unsent, log_fit, log_samples};
pub use parts::{Extent, MOST_SHARE, Parts, SMALL};
pub use pinned::LockMode;
pub use pull::{Pulled, pull};
pub use report::{report, report_input};
pub use sample::{ModelFormat, SampleOptions, Sampled, sample};
pub use session::Session;
pub use sync::{SyncFolder, SyncRequest, SyncState, clean, explain_wandb, runs_to_send, sync};
pub use table_files::write_csv;
