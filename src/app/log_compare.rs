//! A comparison as a W&B run: config, summary, tables, plots, the report, the `comparison` artifact, and the fits and their
//! checkpoints as lineage.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::analysis::Grouping;
use crate::report::between::PairRow;
use crate::wandb::{ArtifactDraft, Image, WandbError};

use super::begin_run::{Subject, begin, home_of};
use super::compare::CompareOutcome;
use super::comparison::{CompareRecord, Comparison};
use super::error::AppError;
use super::log_fit::{LogOptions, Logged, allowed_name, finish, object, qualified, spool};
use super::report::{comparison_section, page_of_comparison, pictures_of_comparison};
use super::session::Session;

/// Logs a comparison that was written to its folder.
///
/// # Errors
/// [`AppError::Wandb`]; the run is marked failed then, and the comparison on disk is as it was.
pub async fn log_compare(
    session: &Session,
    outcome: &CompareOutcome,
    options: &LogOptions,
) -> Result<Logged, AppError> {
    let comparison = &outcome.comparison;
    let fits: Vec<_> = outcome.fits.iter().map(|opened| &opened.fit).collect();
    let page = page_of_comparison(&fits, comparison)?;
    let tables = comparison.tables()?;
    let mut plots = Vec::new();
    for (plot, png) in pictures_of_comparison(&comparison_section(comparison))? {
        let image = Image::png(png).map_err(AppError::wandb(format!("log the plot {plot}")))?;
        plots.push((format!("compare/plots/{}", plot.replace('-', "_")), image));
    }
    let (config, summary) = (config(&comparison.record), summary(comparison));
    let draft = draft(&outcome.folder, &comparison.record, (&page, &summary));
    let draft = draft.map_err(AppError::wandb("describe the comparison artifact"))?;
    let record = &comparison.record;
    let checkpoints = record.inputs().filter_map(|input| input.resolved.as_ref());
    let used = qualified(record.datasets.iter().filter_map(|fit| fit.artifact.as_ref()).chain(checkpoints))?;
    let home = home_of(record.inputs().nth(1));
    let subject = Subject { job: "compare", name: format!("compare {}", title(record)), home, config };
    let run = begin(session, options, &subject).await?;
    let work = async {
        for name in &used {
            run.use_version(name).await?;
        }
        let mut row = Map::new();
        for (name, table) in &tables {
            row.extend(run.store_table(&format!("compare/{name}"), table).await?);
        }
        for (key, image) in &plots {
            row.extend(run.store_image(key, image).await?);
        }
        row.extend(run.store_html("compare/report", page.into_bytes()).await?);
        run.check_stop()?;
        run.log(row).await?;
        let artifacts = if options.without_artifact { Vec::new() } else { vec![spool(&run, &draft).await?] };
        run.set_summary(summary).await?;
        Ok(artifacts)
    };
    let outcome = work.await;
    finish(session, run, outcome).await
}

fn title(record: &CompareRecord) -> String {
    let names: Vec<&str> = record.datasets.iter().map(|fit| fit.name.as_str()).collect();
    format!("{} {}", record.model, names.join(", "))
}

fn draft(
    folder: &Path,
    record: &CompareRecord,
    (page, summary): (&str, &Map<String, Value>),
) -> Result<ArtifactDraft, WandbError> {
    let names: Vec<&str> = record.datasets.iter().map(|fit| fit.name.as_str()).collect();
    let name = allowed_name(&format!("{}_{}_comparison", record.model, names.join("_")));
    let mut draft =
        ArtifactDraft::new(name, "comparison")?.with_description("Task vectors of several datasets in one Gram");
    for (file, path) in Comparison::files(folder) {
        draft = draft.with_file(file, path)?;
    }
    draft = draft.with_file("report.html", page.as_bytes().to_vec())?;
    let mut metadata = config(record);
    metadata.extend(summary.clone());
    draft.with_metadata(metadata)
}

fn config(record: &CompareRecord) -> Map<String, Value> {
    object(json!({
        "model": record.model,
        "datasets": record.datasets.iter().map(|fit| &fit.name).collect::<Vec<_>>(),
        "fits": record.datasets.iter().map(|fit| &fit.fit).collect::<Vec<_>>(),
        "pretrained": record.pretrained.resolved.as_ref().unwrap_or(&record.pretrained.input),
        "components": record.components,
        "layers": record.layer_globs,
        "program": record.program,
    }))
}

/// A few numbers of the whole model; pairs are in the tables.
fn summary(comparison: &Comparison) -> Map<String, Value> {
    let model = Grouping::Model.label();
    let pairs: Vec<&PairRow> = comparison.rows.pairs.iter().filter(|row| row.grouping == model).collect();
    let mean = |value: fn(&PairRow) -> Option<f64>| {
        let values: Vec<f64> = pairs.iter().filter_map(|row| value(row)).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let joint = comparison.rows.joint.iter().find(|row| row.grouping == model);
    object(json!({
        "compare/datasets": comparison.record.datasets.len(),
        "compare/layers_compared": comparison.layers.len(),
        "compare/layers_left_out": comparison.record.left_out.len(),
        "compare/mean_overlap": mean(|row| row.overlap),
        "compare/mean_cosine": mean(|row| row.mean_cosine),
        "compare/mean_first_angle_degrees": mean(|row| row.degrees.first().copied()),
        "compare/dataset_share": joint.and_then(|row| row.dataset_share),
        "compare/joint_first_ratio": joint.and_then(|row| row.first_ratio),
        "compare/joint_effective_rank": joint.and_then(|row| row.effective_rank),
    }))
}
