//! `report`.

use serde_json::json;
use wandb_pca::app::{self, Fit};

use crate::cli::args;
use crate::cli::render::{Output, printable};

pub(super) fn report(args: &args::Report) -> anyhow::Result<Output> {
    let fits = args.fits.iter().map(|folder| Fit::read(folder)).collect::<Result<Vec<_>, _>>()?;
    let files = app::report(&fits, &args.output, args.plots)?;
    let lines = files.iter().map(|file| format!("{}\n", printable(&file.display().to_string())));
    Ok(Output { schema: "report/1", text: lines.collect(), json: json!({"files": files}) })
}
