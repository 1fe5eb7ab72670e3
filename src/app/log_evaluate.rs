//! An evaluation as a W&B run: config, a table of models, a chart of accuracy and one of loss over the distance from the mean,
//! and what was read as lineage.

use serde_json::{Map, Value, json};

use crate::wandb::Chart;

use super::begin_run::{PROGRAM, Subject, begin, home_of, name_of};
use super::error::AppError;
use super::evaluate::{EvaluatedModel, Evaluation, ModelKind};
use super::log_fit::{LogOptions, Logged, finish, object, qualified};
use super::session::Session;

/// Logs an evaluation.
///
/// # Errors
/// [`AppError::Wandb`]; the run is marked failed then.
pub async fn log_evaluation(
    session: &Session,
    evaluation: &Evaluation,
    options: &LogOptions,
) -> Result<Logged, AppError> {
    let (table, lines) = (evaluation.table()?, evaluation.lines()?);
    let used = qualified(evaluation.artifacts.iter())?;
    let fit = evaluation.fit.as_ref().map(|opened| &opened.fit.record);
    let about = fit.map_or_else(|| evaluation.options.weights.to_string(), name_of);
    let subject = Subject {
        job: "evaluate",
        name: format!("evaluate {about}"),
        home: home_of(fit.and_then(|record| record.finetuned.first())),
        config: config(evaluation),
    };
    let run = begin(session, options, &subject).await?;
    let work = async {
        for name in &used {
            run.use_version(name).await?;
        }
        let mut row = run.store_table("evaluate/models", &table).await?;
        if !lines.rows().is_empty() {
            for (column, title) in [("accuracy", "Accuracy"), ("loss", "Loss")] {
                let chart = Chart::line_series("scale", "sample", column)
                    .with_title(&format!("{title} over the distance from the mean of the seeds"))
                    .with_text("xname", "standard deviations");
                row.extend(run.store_chart(&format!("evaluate/{column}_by_scale"), &lines, &chart).await?);
            }
        }
        run.log(row).await?;
        run.set_summary(summary(evaluation)).await?;
        Ok(Vec::new())
    };
    let outcome = work.await;
    finish(session, run, outcome).await
}

fn config(evaluation: &Evaluation) -> Map<String, Value> {
    let options = &evaluation.options;
    let fit = evaluation.fit.as_ref().map(|opened| &opened.fit.record);
    object(json!({
        "module": options.module,
        "weights": options.weights.to_string(),
        "data": options.data.to_string(),
        "data_samples": evaluation.samples,
        "model": fit.map(|record| &record.model),
        "dataset": fit.and_then(|record| record.dataset.as_ref()),
        "scales": fit.map(|_| &options.scales),
        "samples": fit.map(|_| options.samples),
        "random_seed": fit.map(|_| options.random_seed),
        "backend": evaluation.backend,
        "program": PROGRAM,
    }))
}

/// A few numbers; single models are in the table.
fn summary(evaluation: &Evaluation) -> Map<String, Value> {
    let of = |kind: ModelKind| {
        let models = evaluation.models.iter().filter(move |model| model.kind == kind);
        mean_accuracy(models)
    };
    object(json!({
        "evaluate/models_run": evaluation.models.len(),
        "evaluate/accuracy/checkpoint": of(ModelKind::Checkpoint),
        "evaluate/accuracy/pretrained": of(ModelKind::Pretrained),
        "evaluate/accuracy/seeds": of(ModelKind::Seed),
        "evaluate/accuracy/mean": of(ModelKind::Mean),
        "evaluate/accuracy/samples": of(ModelKind::Sample),
    }))
}

fn mean_accuracy<'m>(models: impl Iterator<Item = &'m EvaluatedModel>) -> Option<f64> {
    let accuracies: Vec<f64> = models.map(|model| model.accuracy).collect();
    (!accuracies.is_empty()).then(|| accuracies.iter().sum::<f64>() / accuracies.len() as f64)
}
