//! `report`.

use serde_json::json;
use wandb_pca::app::{self, Comparison, Fit};

use crate::cli::args;
use crate::cli::exit::UsageError;
use crate::cli::render::{Output, printable};

pub(super) fn report(args: &args::Report) -> anyhow::Result<Output> {
    let (comparisons, folders): (Vec<_>, Vec<_>) = args.fits.iter().partition(|folder| Comparison::is_in(folder));
    if comparisons.len() > 1 {
        return Err(UsageError("a report takes one comparison at most".to_owned()).into());
    }
    let comparison = comparisons.first().map(|folder| Comparison::read(folder)).transpose()?;
    let fits = folders.iter().map(|folder| Fit::read(folder)).collect::<Result<Vec<_>, _>>()?;
    let fits: Vec<&Fit> = fits.iter().collect();
    let files = app::report(&fits, comparison.as_ref(), &args.output, args.plots)?;
    let lines = files.iter().map(|file| format!("{}\n", printable(&file.display().to_string())));
    Ok(Output { schema: "report/1", text: lines.collect(), json: json!({"files": files}) })
}
