//! Puts the shards of every task together: whole layers in the order of the model, the same to the bit as unsharded.

use jiff::Timestamp;

use crate::app::AppError;
use crate::app::fit::totals;
use crate::app::fit_folder::Fit;
use crate::study::{LayerGram, ShardId, ShardResult, Standing, Task, merge};

use super::compute::{UnitNote, read_note, write};
use super::inputs::Survey;
use super::run::{Outcome, TaskFailure, explain};
use super::{Study, StudyError, Unit};

/// Reduces every task whose shards are all finished; the others are failures of the outcome.
///
/// # Errors
/// What concerns the whole study.
pub fn reduce(study: &Study, survey: &Survey) -> Result<Outcome, AppError> {
    let tasks = survey.plan.tasks();
    let mut outcome = Outcome { tasks: tasks.len(), ..Outcome::default() };
    for task in &tasks {
        let mut claim = match study.files().claim(task, &study.worker) {
            Err(AppError::Study(StudyError::Busy { .. })) => {
                outcome.elsewhere += 1;
                continue;
            }
            claim => claim?,
        };
        if let Standing::Done { .. } = claim.ledger.standing(task) {
            outcome.before += 1;
            continue;
        }
        claim.begin()?;
        match reduce_task(study, task) {
            Ok(result) => {
                claim.done(result, 0.0)?;
                outcome.computed += 1;
            }
            Err(error) => outcome.failed.push(TaskFailure { task: task.id.clone(), error: explain(&error) }),
        }
    }
    Ok(outcome)
}

fn reduce_task(study: &Study, task: &Task) -> Result<String, AppError> {
    let (mut results, mut fits, mut layers) = (Vec::new(), Vec::new(), 0);
    let ledger = study.files().ledger()?;
    for index in 0..study.spec.shards {
        let shard = ShardId { index, of: study.spec.shards };
        let unit = Unit { task: task.clone(), shard: Some(shard) };
        if !matches!(ledger.standing(&unit.ledger_task()), Standing::Done { .. }) {
            let (shard, task) = (shard, task.id.clone());
            return Err(StudyError::from(crate::study::MergeError::Incomplete { shard, task, twice: false }).into());
        }
        let folder = study.files().shard(&task.id, shard);
        let missing = || crate::study::MergeError::Incomplete { shard, task: task.id.clone(), twice: false };
        let note = read_note(&folder).ok_or_else(missing).map_err(StudyError::from)?;
        let fit = Fit::read(&folder)?;
        layers = layers.max(note.layers);
        results.push(result((&note, shard), &fit));
        fits.push(fit);
    }
    let merged = merge(results).map_err(StudyError::from)?;
    let mut fits = fits.into_iter();
    let mut fit = fits.next().ok_or(StudyError::Merge(crate::study::MergeError::Nothing))?;
    for more in fits {
        fit.record.layers.extend(more.record.layers);
        fit.layers.extend(more.layers);
    }
    let in_order = merged.len() == layers
        && fit.layers.len() == layers
        && fit.layers.iter().zip(&merged).all(|(fit, merged)| fit.layer.name == merged.layer);
    if !in_order {
        let layer = merged.last().map(|layer| layer.layer.clone()).unwrap_or_default();
        return Err(StudyError::from(crate::study::MergeError::Pieces { layer, task: task.id.clone() }).into());
    }
    fit.record.totals = totals(&fit.layers);
    fit.record.created_at = Timestamp::now().to_string();
    let (id, inputs) = (task.id.clone(), task.inputs.clone());
    let note = UnitNote { task: id, inputs, shard: None, first: 0, layers };
    write(&study.files().fit(&task.id), &fit, &note)
}

fn result((note, shard): (&UnitNote, ShardId), fit: &Fit) -> ShardResult {
    let layer = |(offset, fit): (usize, &crate::analysis::LayerFit)| LayerGram {
        layer: fit.layer.name.clone(),
        position: note.first + offset,
        parameters: fit.gram.parameters(),
        elements: (0, fit.gram.parameters()),
        values: fit.gram.values().to_vec(),
    };
    ShardResult {
        task: note.task.clone(),
        inputs: note.inputs.clone(),
        shard,
        seeds: fit.record.finetuned.len(),
        layers: fit.layers.iter().enumerate().map(layer).collect(),
    }
}
