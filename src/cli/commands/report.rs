//! `report`.

use serde_json::json;
use wandb_pca::app::{self, AppError, Fit, FitSource, OpenedResult};

use super::located::input_text;
use crate::cli::args;
use crate::cli::context::Context;
use crate::cli::exit::UsageError;
use crate::cli::render::{Output, printable};

pub(super) async fn report(context: &Context<'_>, args: &args::Report) -> anyhow::Result<Output> {
    let mut sources = Vec::with_capacity(args.fits.len());
    for text in &args.fits {
        sources.push(FitSource::parse(&input_text(context, text).await?).map_err(AppError::from)?);
    }
    let (mut fits, mut comparisons) = (Vec::new(), Vec::new());
    for opened in app::open_results(&context.session, &sources).await? {
        match opened {
            OpenedResult::Fit(opened) => fits.push(opened.fit),
            OpenedResult::Comparison(comparison) => comparisons.push(comparison),
            _ => {}
        }
    }
    if comparisons.len() > 1 {
        return Err(UsageError("a report takes one comparison at most".to_owned()).into());
    }
    let fits: Vec<&Fit> = fits.iter().collect();
    let files = app::report(&fits, comparisons.first().map(AsRef::as_ref), &args.output, args.plots)?;
    let lines = files.iter().map(|file| format!("{}\n", printable(&file.display().to_string())));
    Ok(Output { schema: "report/1", text: lines.collect(), json: json!({"files": files}) })
}
