//! How far a study is, from its folder alone.

use crate::app::AppError;
use crate::study::{ShardId, Standing};

use super::inputs::Survey;
use super::{Study, Unit};

/// How one task stands.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TaskStatus {
    /// The task.
    pub task: String,
    /// `done`, `to do`, `to reduce` (all shards are done), `changed`, `running or killed`, `failed`.
    pub state: &'static str,
    /// The error, or who works on it.
    pub detail: Option<String>,
    /// How long it took, once it is done.
    pub seconds: Option<f64>,
    /// Shards that are done.
    pub shards_done: u32,
    /// The run that holds it.
    pub run: Option<String>,
}

/// Every task of the plan, in order.
///
/// # Errors
/// [`AppError`] when the ledger cannot be read.
pub fn status(study: &Study, survey: &Survey) -> Result<Vec<TaskStatus>, AppError> {
    let ledger = study.files().ledger()?;
    let of = study.spec.shards;
    let describe = |task: crate::study::Task| {
        let (state, detail, run) = match ledger.standing(&task) {
            Standing::Missing => ("to do", None, None),
            Standing::Changed => ("changed", None, None),
            Standing::Interrupted { worker } => ("running or killed", Some(worker), None),
            Standing::Failed { error } => ("failed", Some(error), None),
            Standing::Done { logged, .. } => ("done", None, logged),
        };
        let shard_done = |index: &u32| {
            let unit = Unit { task: task.clone(), shard: Some(ShardId { index: *index, of }) };
            matches!(ledger.standing(&unit.ledger_task()), Standing::Done { .. })
        };
        let shards_done = (0..of).filter(shard_done).count() as u32;
        let open = matches!(state, "to do" | "changed");
        let state = if of > 1 && shards_done == of && open { "to reduce" } else { state };
        let done = matches!(ledger.standing(&task), Standing::Done { .. });
        let seconds = ledger.state(&task.id).filter(|_| done).and_then(|state| state.seconds);
        TaskStatus { task: task.id, state, detail, seconds, shards_done, run }
    };
    Ok(survey.plan.tasks().into_iter().map(describe).collect())
}
