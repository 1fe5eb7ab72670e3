//! `sample`.

use std::fmt::Write as _;

use serde_json::json;
use wandb_pca::analysis::Scale;
use wandb_pca::app::{self, AppError, Coefficients, Draw, FitSource, ModelFormat};

use super::located::input_text;
use super::logged::{run_json, told, write_run};
use crate::cli::args;
use crate::cli::context::Context;
use crate::cli::exit::UsageError;
use crate::cli::render::{Output, number_text, printable};
use crate::cli::settings::Mode;

/// How models are made: between seeds, from coefficients, or as `--scale` says.
fn draw(args: &args::Sample) -> anyhow::Result<Draw> {
    if let Some(ends) = &args.between {
        let [from, to] = ends.as_slice() else { return Err(UsageError("--between takes two seeds".to_owned()).into()) };
        return Ok(Draw::Interpolation { from: from.clone(), to: to.clone(), at: args.at.clone() });
    }
    let scale = match args.scale {
        args::SampleScale::Variance => Scale::Variance,
        args::SampleScale::Unit => Scale::Unit,
        args::SampleScale::Convex => return Ok(Draw::Convex),
        args::SampleScale::Mean => return Ok(Draw::Mean),
    };
    Ok(match &args.coefficients {
        Some(path) => Draw::Coefficients { values: Coefficients::read(path)?, scale },
        None => Draw::Gaussian(scale),
    })
}

pub(super) async fn sample(context: &Context<'_>, args: &args::Sample) -> anyhow::Result<Output> {
    let source = FitSource::parse(&input_text(context, &args.fit).await?).map_err(AppError::from)?;
    let mut options = app::SampleOptions::new(source);
    if let Some(folder) = &args.out {
        options.folder = folder.clone();
    }
    options.count = args.count.into();
    options.random_seed = args.random_seed;
    options.draw = draw(args)?;
    let format = |format: &args::SampleFormat| match format {
        args::SampleFormat::Torch => ModelFormat::Torch,
        args::SampleFormat::Safetensors => ModelFormat::Safetensors,
    };
    options.formats = args.format.iter().map(format).collect();
    let (fit, models) = app::sample(&context.session, options).await?;
    let logged = match args.log && context.settings.mode != Mode::Disabled {
        true => Some(app::log_samples(&context.session, (&fit, &models), &context.log_options()).await?),
        false => None,
    };
    let mut text = String::new();
    let mut list = Vec::new();
    for (at, model) in models.iter().enumerate() {
        let artifact = logged.as_ref().and_then(|logged| logged.artifacts.get(at));
        for file in &model.files {
            writeln!(text, "{}", printable(&file.display().to_string()))?;
        }
        let nearest = model.nearest.as_deref().unwrap_or("-");
        let distances = [model.distance_to_mean, model.distance_to_nearest.unwrap_or(0.0)].map(number_text);
        writeln!(text, "  distance to the mean {}, to the nearest seed ({nearest}) {}", distances[0], distances[1])?;
        let mut value = serde_json::to_value(model)?;
        if let Some(object) = value.as_object_mut() {
            object.insert("artifact".to_owned(), json!(artifact));
        }
        list.push(value);
    }
    write_run(&mut text, logged.as_ref())?;
    let output = Output { schema: "sample/1", json: json!({"models": list, "run": run_json(logged.as_ref())}), text };
    told(output, logged.as_ref(), context.json)
}
