//! The pages of a study: one for each model, with its cells and what its datasets say about each other. Made from the fits
//! that are there, no checkpoint is read.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::analysis::LayerFit;
use crate::app::AppError;
use crate::app::comparison::{COMPARE_SCHEMA, CompareRecord, ComparedFit, Comparison, JointLayer};
use crate::app::fit_folder::Fit;
use crate::app::report::report;
use crate::study::{Cell, Joint};

use super::folder::StudyFolder;
use super::inputs::Survey;

/// What a study knows of one model.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ModelPage {
    /// The model.
    pub model: String,
    /// Its page.
    pub page: PathBuf,
    /// All its datasets in one Gram, where that is finished.
    pub comparison: Option<Comparison>,
}

/// A finished task with its fit.
pub(super) struct Finished<'s, T> {
    pub(super) task: &'s T,
    pub(super) fit: Fit,
}

/// The models with finished cells, and what becomes of each page; the comparisons are made in here.
pub(super) fn models(
    survey: &Survey,
    files: &StudyFolder,
    (cells, joints): (&[Finished<'_, Cell>], &[Finished<'_, Joint>]),
) -> Result<Vec<ModelPage>, AppError> {
    let mut models: Vec<ModelPage> = Vec::new();
    for cell in cells {
        let model = &cell.task.model;
        if models.iter().any(|known| known.model == *model) {
            continue;
        }
        let joint = joints.iter().find(|joint| joint.task.model == *model);
        let comparison = joint.map(|joint| compare(survey, files, (joint, cells))).transpose()?.flatten();
        models.push(ModelPage { model: model.clone(), page: page(files, model), comparison });
    }
    Ok(models)
}

/// Where the page of a model is.
pub(super) fn page(files: &StudyFolder, model: &str) -> PathBuf {
    files.path(&format!("report-{model}.html"))
}

/// Writes the page of a model.
pub(super) fn write(made: &ModelPage, cells: &[Finished<'_, Cell>]) -> Result<(), AppError> {
    let fits: Vec<&Fit> = cells.iter().filter(|cell| cell.task.model == made.model).map(|cell| &cell.fit).collect();
    report(&fits, made.comparison.as_ref(), &made.page, false).map(drop)
}

/// The fit of all datasets as a comparison of the cells' fits; nothing while some of those are not finished.
fn compare(
    survey: &Survey,
    files: &StudyFolder,
    (joint, cells): (&Finished<'_, Joint>, &[Finished<'_, Cell>]),
) -> Result<Option<Comparison>, AppError> {
    let of_joint = joint.task.cells.iter().filter_map(|&at| survey.plan.cells.get(at));
    let fit_of = |cell: &Cell| cells.iter().find(|known| known.task.id == cell.id);
    let Some(parts) = of_joint.map(fit_of).collect::<Option<Vec<_>>>() else { return Ok(None) };
    let compared = |part: &&Finished<'_, Cell>| ComparedFit {
        name: part.task.dataset.clone(),
        fit: files.fit(&part.task.id).display().to_string(),
        artifact: None,
        created_at: part.fit.record.created_at.clone(),
        finetuned: part.fit.record.finetuned.clone(),
    };
    let whole = &joint.fit.record;
    let record = CompareRecord {
        schema: COMPARE_SCHEMA.to_owned(),
        created_at: whole.created_at.clone(),
        program: whole.program.clone(),
        model: whole.model.clone(),
        pretrained: whole.pretrained.clone(),
        datasets: parts.iter().map(compared).collect(),
        components: None,
        backend: whole.backend.clone(),
        layer_globs: whole.layer_globs.clone(),
        layers: whole.layers.clone(),
        left_out: Vec::new(),
    };
    let parts: Vec<HashMap<&str, &LayerFit>> = parts.iter().map(|part| by_name(&part.fit)).collect();
    let layers = joint.fit.layers.iter().map(|whole| {
        let of_part = |part: &HashMap<&str, &LayerFit>| part.get(whole.layer.name.as_str()).map(|fit| fit.pca.clone());
        let fits = parts.iter().map(of_part).collect::<Option<Vec<_>>>()?;
        Some(JointLayer { layer: whole.layer.clone(), gram: whole.gram.clone(), fits })
    });
    // Checkpoints of one model have one set of layers; where they do not, there is nothing to set side by side.
    let Some(layers) = layers.collect::<Option<Vec<_>>>() else { return Ok(None) };
    Comparison::new(record, layers).map(Some)
}

fn by_name(fit: &Fit) -> HashMap<&str, &LayerFit> {
    fit.layers.iter().map(|fit| (fit.layer.name.as_str(), fit)).collect()
}
