//! Exit codes, and the hint that goes with an error.

use std::fmt::Write as _;
use std::process::ExitCode;

use wandb_pca::analysis::AnalysisError;
use wandb_pca::app::study::StudyError;
use wandb_pca::app::{AppError, FailureKind, InputError, LockError};
use wandb_pca::store::StoreError;
use wandb_pca::study::PlanError;
use wandb_pca::wandb::{ReferenceError, WandbError};

/// What the process ends with; documented in `--help` and the README.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Ok = 0,
    /// Failed.
    Failure = 1,
    /// The command was wrong.
    Usage = 2,
    /// Something named does not exist.
    NotFound = 3,
    /// Authentication or permission.
    Auth = 4,
    /// Bytes are not what they should be.
    Integrity = 5,
    /// Network or timeout.
    Network = 6,
    /// Some of it done, some not.
    Partly = 7,
    /// Ctrl-C.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Ctrl-C came.
#[derive(Debug, thiserror::Error)]
#[error("interrupted; the same command goes on where this one stopped")]
pub(crate) struct Interrupted;

/// Some of the work is done and some is not; what was done is kept.
#[derive(Debug, thiserror::Error)]
#[error("not everything could be done: {0}")]
pub(crate) struct PartlyDone(pub(crate) String);

/// Bytes were checked and are not what they should be; the results are out.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct DamageFound(pub(crate) String);

/// The command asks for something that does not fit together.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UsageError(pub(crate) String);

/// There is no credential, or none that can be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
#[error("{0}")]
pub(crate) struct CredentialError(pub(crate) String);

/// The exit code of an error.
pub(crate) fn code(error: &anyhow::Error) -> Exit {
    if error.is::<Interrupted>() {
        return Exit::Interrupted;
    }
    if error.is::<PartlyDone>() {
        return Exit::Partly;
    }
    if error.is::<DamageFound>() {
        return Exit::Integrity;
    }
    if error.is::<UsageError>() {
        return Exit::Usage;
    }
    if error.is::<CredentialError>() {
        return Exit::Auth;
    }
    let app = error.chain().find_map(|cause| cause.downcast_ref::<AppError>());
    match app.map(AppError::kind) {
        Some(FailureKind::Usage) => Exit::Usage,
        Some(FailureKind::NotFound) => Exit::NotFound,
        Some(FailureKind::Auth) => Exit::Auth,
        Some(FailureKind::Integrity) => Exit::Integrity,
        Some(FailureKind::Network) => Exit::Network,
        Some(FailureKind::Partly) => Exit::Partly,
        Some(FailureKind::Stopped) => Exit::Interrupted,
        Some(FailureKind::Failure) | None => Exit::Failure,
    }
}

/// The error with its causes, one a line, and what to do about it.
pub(crate) fn message(error: &anyhow::Error) -> String {
    let mut text = format!("error: {error}\n");
    for cause in error.chain().skip(1) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  because {cause}");
    }
    if let Some(hint) = error.chain().find_map(hint) {
        let _ = writeln!(text, "hint: {hint}");
    }
    super::render::printable_lines(&text)
}

fn hint(cause: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    let of_app = cause.downcast_ref::<AppError>().and_then(app_hint);
    let of_input = || cause.downcast_ref::<InputError>().and_then(input_hint);
    let of_lock = || cause.downcast_ref::<LockError>().and_then(lock_hint);
    let of_wandb = || cause.downcast_ref::<WandbError>().and_then(wandb_hint);
    let of_analysis = || cause.downcast_ref::<AnalysisError>().and_then(analysis_hint);
    let of_store = || cause.downcast_ref::<StoreError>().and_then(store_hint);
    of_app.or_else(of_store).or_else(of_input).or_else(of_lock).or_else(of_wandb).or_else(of_analysis)
}

fn app_hint(error: &AppError) -> Option<&'static str> {
    match error {
        AppError::NoLibtorch { .. } => Some("build it with `--features tch`: docs/libtorch.md tells how"),
        AppError::NotAScript { .. } => Some("save it with `torch.jit.script(model).save(…)` or `torch.jit.trace`"),
        AppError::OtherTensors { .. } => Some("--partial lets each have tensors that the other lacks"),
        AppError::NotALink { .. } => Some("`wandb-pca artifact rm` deletes versions"),
        AppError::Offline { .. } | AppError::NotInStore { .. } => {
            Some("run it once online, or without WANDB_MODE=offline")
        }
        AppError::WhichFile { .. } => Some("name the file of the artifact with --file"),
        AppError::NoParts { .. } => Some("leave out --partial to fetch it whole"),
        AppError::InputChanged { .. } => Some("restore the file, or fit again"),
        AppError::NotAFit { .. } => Some("give the folder that `wandb-pca fit` wrote, or its `pca` artifact"),
        AppError::Study(error) => study_hint(error),
        AppError::NotComparable { .. } => {
            Some("compare fits of one pretrained checkpoint, the same file or artifact version, that share layers")
        }
        _ => None,
    }
}

fn study_hint(error: &StudyError) -> Option<&'static str> {
    match error {
        StudyError::Plan(PlanError::Missing { .. }) => {
            Some("`study plan` lists them; `missing: skip-seed` or `skip-cell` in the study file goes on without")
        }
        StudyError::Plan(PlanError::NothingToDo { .. }) => Some("`study plan` says what each cell lacks"),
        StudyError::NothingFound { .. } => {
            Some("write the study file by hand, with your own `pretrained` and `finetuned`")
        }
        StudyError::Inputs { .. } => Some("run `study plan` or `study prefetch` once where there is network"),
        StudyError::NoProject { .. } => Some("name it as entity/project/id, or give --project"),
        _ => None,
    }
}

fn input_hint(error: &InputError) -> Option<&'static str> {
    match error {
        InputError::NoSeeds { .. } => Some("add --seeds, such as --seeds 0..9 for zero to nine"),
        InputError::NoPlaceholder { .. } => Some("write {seed} where the seed stands in the name, in quotes"),
        InputError::BadSeeds { .. } => Some("write ranges and lists, such as 0..9 (both included) or 0,3,7"),
        InputError::Neither { .. } => Some("artifact names are entity/project/name:alias; files must exist"),
        _ => None,
    }
}

fn store_hint(error: &StoreError) -> Option<&'static str> {
    match error {
        StoreError::NoLocks { .. } => Some("keep the store elsewhere: WANDB_CACHE_DIR says where"),
        StoreError::DiskFull { .. } => Some("`wandb-pca cache prune` makes room; what was downloaded is kept"),
        _ => None,
    }
}

fn lock_hint(error: &LockError) -> Option<&'static str> {
    match error {
        LockError::Drift { .. } => Some("--update takes what the names stand for now, and rewrites the lock"),
        LockError::Missing { .. } => Some("run it once without --locked; that writes the lock"),
        _ => None,
    }
}

fn reference_hint(error: &ReferenceError) -> Option<&'static str> {
    match error {
        ReferenceError::Missing { .. } => Some("--allow-missing-references of `artifact get` leaves such entries out"),
        ReferenceError::Changed { .. } | ReferenceError::Superseded { .. } => {
            Some("bring back what was there, or log a version that refers to what is there now")
        }
        ReferenceError::NoTarget { .. } => Some("s3://bucket/data stands for that object, or for all below data/"),
        ReferenceError::NoCloud { .. } => Some("build it with `cargo install wandb-pca --features cloud`"),
        ReferenceError::Refused { .. } => {
            Some("references get no W&B key; buckets take their keys from the environment")
        }
        _ => None,
    }
}

fn wandb_hint(error: &WandbError) -> Option<&'static str> {
    if let WandbError::Reference { source, .. } = error {
        reference_hint(source)
    } else if matches!(error, WandbError::Deleted { .. }) {
        Some("`wandb-pca artifact ls entity/project/collection` lists the versions that remain")
    } else if matches!(error, WandbError::NotCommitted { .. }) {
        Some("its upload did not finish: wait for the run that makes it, or log it again")
    } else if matches!(error, WandbError::NotSent { .. }) {
        Some("`wandb-pca sync` sends it when the server can be reached")
    } else if matches!(error, WandbError::Busy { .. }) {
        Some("wait until its run is over; a run that was killed lets go of its log at once")
    } else if error.is_denied() {
        Some("check the key with `wandb-pca whoami`, or store one with `wandb-pca login`; --project logs elsewhere")
    } else if matches!(error, WandbError::NotFound { what } if what.starts_with("sweep ")) {
        Some("`wandb-pca sweep create` makes one; its id is the last part of its address")
    } else if error.is_not_found() {
        Some("`wandb-pca artifact ls entity/project` lists what exists there")
    } else if error.is_network() {
        Some("check WANDB_BASE_URL and the connection; what was downloaded is kept, so the same command goes on")
    } else if matches!(error, WandbError::Changed { .. }) {
        Some(
            "wait until nothing writes to the file, and run the same command again; what the server has is not sent twice",
        )
    } else if error.is_integrity() {
        Some("nothing of it was kept under its name; try again, and tell the owner of the artifact if it stays")
    } else {
        None
    }
}

fn analysis_hint(error: &AnalysisError) -> Option<&'static str> {
    match error {
        AnalysisError::TooFewSeeds { .. } => Some("give at least two seeds; ten are a good start"),
        AnalysisError::NonFinite { .. } => Some("that training diverged: leave the seed out, or leave the layer out"),
        AnalysisError::DtypeMismatch { .. } => Some(
            "--mixed-dtypes takes them as they are; the coarser one's rounding then counts as part of the task vector",
        ),
        AnalysisError::MissingLayer { .. } | AnalysisError::ExtraLayer { .. } | AnalysisError::ShapeMismatch { .. } => {
            Some("all checkpoints must come from the same model; `wandb-pca inspect` shows what each one holds")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_told_apart() {
        let (artifact, what) = ("e/p/a:v1".to_owned(), "artifact e/p/a:v1".to_owned());
        let errors = [
            (WandbError::NotFound { what: what.clone() }, Exit::NotFound, "not found", "lists what exists"),
            (WandbError::Deleted { artifact: artifact.clone() }, Exit::NotFound, "was deleted", "that remain"),
            (
                WandbError::NotCommitted { artifact, state: "pending".to_owned() },
                Exit::NotFound,
                "is pending, not committed",
                "did not finish",
            ),
            (
                WandbError::Forbidden { what, host: "h".to_owned(), message: "no".to_owned() },
                Exit::Auth,
                "refuses artifact e/p/a:v1",
                "check the key",
            ),
        ];
        for (source, exit, says, hint) in errors {
            let error = anyhow::Error::new(AppError::Wandb { action: "read e/p/a:v1".to_owned(), source });
            let text = message(&error);
            assert_eq!(code(&error), exit, "{text}");
            assert!(text.contains(says) && text.contains(hint) && text.contains("e/p/a:v1"), "{text}");
        }
    }

    #[test]
    fn errors_are_told_with_cause_and_hint() {
        let error = anyhow::Error::new(AppError::Input(InputError::BadSeeds { text: "x\u{1b}".to_owned() }));
        let text = message(&error);
        assert_eq!(code(&error), Exit::Usage);
        assert!(text.contains("because `x\u{fffd}` is not a list of seeds\nhint: "), "{text}");
        assert_eq!(code(&anyhow::Error::new(Interrupted)), Exit::Interrupted);
        assert_eq!(code(&anyhow::anyhow!("else")), Exit::Failure);
    }
}
