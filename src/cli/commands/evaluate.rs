//! `evaluate`.

use std::fmt::Write as _;

use serde_json::json;
use wandb_pca::app::{self, AppError, EvaluateOptions, Input, Weights};
use wandb_pca::table::{ColumnKind, Table};

use super::located::input_text;
use super::logged::{run_json, told, write_run};
use crate::cli::args;
use crate::cli::context::Context;
use crate::cli::render::{Output, columns, printable};
use crate::cli::settings::Mode;

pub(super) async fn evaluate(context: &Context<'_>, args: &args::Evaluate) -> anyhow::Result<Output> {
    let weights = Weights::parse(&input_text(context, &args.weights).await?, args.fit).map_err(AppError::from)?;
    let data = Input::parse(&input_text(context, &args.data).await?).map_err(AppError::from)?;
    let mut options = EvaluateOptions::new(&args.module, weights, data);
    options.inputs = args.inputs.clone();
    options.labels = args.labels.clone();
    options.batch = args.batch_size as usize;
    options.scales = args.scales.clone();
    options.samples = args.samples.into();
    options.random_seed = args.random_seed;
    options.partial = args.partial;
    options.outputs = args.outputs.clone();
    let evaluation = app::evaluate(&context.session, options).await?;
    let logged = match args.log && context.settings.mode != Mode::Disabled {
        true => Some(app::log_evaluation(&context.session, &evaluation, &context.log_options()).await?),
        false => None,
    };
    let json = json!({
        "module": evaluation.options.module,
        "weights": evaluation.options.weights.to_string(),
        "data": evaluation.options.data.to_string(),
        "samples": evaluation.samples,
        "backend": evaluation.backend,
        "models": evaluation.models,
        "kept": evaluation.kept,
        "unused": evaluation.unused,
        "run": run_json(logged.as_ref()),
    });
    let mut text = columns(&table(&evaluation)?);
    let (samples, backend) = (evaluation.samples, &evaluation.backend);
    writeln!(text, "\n{samples} samples of {}, {backend}", printable(&evaluation.options.data.to_string()))?;
    for name in &evaluation.kept {
        writeln!(text, "{} is not among the weights: the module keeps its own", printable(name))?;
    }
    for name in &evaluation.unused {
        writeln!(text, "{} is not in the module", printable(name))?;
    }
    write_run(&mut text, logged.as_ref())?;
    told(Output { schema: "evaluation/1", json, text }, logged.as_ref(), context.json)
}

fn table(evaluation: &app::Evaluation) -> anyhow::Result<Table> {
    use ColumnKind::{Number, Text};
    let columns = [("model", Text), ("distance to the mean", Number), ("loss", Number), ("accuracy", Text)];
    let mut table = Table::new(columns);
    for model in &evaluation.models {
        let accuracy = format!("{:.2} %", 100.0 * model.accuracy);
        table.push(vec![
            model.model.as_str().into(),
            model.distance_to_mean.into(),
            model.loss.into(),
            accuracy.as_str().into(),
        ])?;
    }
    Ok(table)
}
