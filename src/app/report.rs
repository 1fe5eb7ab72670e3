//! Fits as a report: the rows behind every plot, one HTML page, and the plots as pictures.

use std::path::{Path, PathBuf};

use crate::analysis::{Gram, LayerFit, Pca, Similarity, Spectrum};
use crate::report::input::{FitSection, InputFile, Note, ReportInput, SCHEMA_VERSION};
use crate::report::palette::Theme;
use crate::report::plot::{
    MatrixScale, Measure, Spectra, cumulative, matrix, scree, seeds_in_plane, variance_by_depth, variance_by_layer,
};
use crate::report::rows::{self, LayerRow, Matrix, Score, Scores};
use crate::report::scene::Scene;
use crate::report::{page, png, svg};
use crate::store::write_durable;

use super::error::AppError;
use super::fit::labels;
use super::fit_folder::Fit;
use super::fit_record::InputRecord;
use super::layer_table::{depth, module};

/// Bars in the plot of single layers.
const LAYERS_SHOWN: usize = 20;
/// Pixels to a unit of a plot.
const PNG_SCALE: f32 = 2.0;

/// Writes the page for `fits`, and beside it, in `<page>-plots/`, each plot as SVG and PNG when `plots` is set. Returns
/// the files, the page first.
///
/// # Errors
/// [`AppError::Report`] or [`AppError::File`] naming the file.
pub fn report(fits: &[Fit], target: &Path, plots: bool) -> Result<Vec<PathBuf>, AppError> {
    let input = report_input(fits);
    let page = page(&input, target)?;
    write_durable(target, page.as_bytes()).map_err(AppError::file("write", target))?;
    let mut files = vec![target.to_owned()];
    if plots {
        let folder = target.with_extension("plots");
        let plots = input
            .fits
            .iter()
            .flat_map(|fit| scenes(fit).into_iter().map(|(plot, scene)| (file_name(fit, plot), scene)));
        for (name, scene) in plots {
            for (ending, bytes) in
                [("svg", svg::file(&scene, Theme::Light).into_bytes()), ("png", picture(&scene, target)?)]
            {
                let path = folder.join(format!("{name}.{ending}"));
                write_durable(&path, &bytes).map_err(AppError::file("write", &path))?;
                files.push(path);
            }
        }
    }
    Ok(files)
}

/// The page of one fit, for logging.
///
/// # Errors
/// [`AppError::Report`].
pub(super) fn page_of(fit: &Fit) -> Result<String, AppError> {
    page(&report_input(std::slice::from_ref(fit)), Path::new("report.html"))
}

fn page(input: &ReportInput, target: &Path) -> Result<String, AppError> {
    page::write(input).map_err(|source| AppError::Report { path: target.to_owned(), source })
}

fn picture(scene: &Scene, target: &Path) -> Result<Vec<u8>, AppError> {
    png::file(scene, Theme::Light, PNG_SCALE).map_err(|source| AppError::Report { path: target.to_owned(), source })
}

/// The rows of a report, from fits alone.
pub fn report_input(fits: &[Fit]) -> ReportInput {
    let names: Vec<String> = fits.iter().map(|fit| section(fit).name()).collect();
    let mut inputs: Vec<InputFile> = Vec::new();
    for record in fits.iter().flat_map(|fit| std::iter::once(&fit.record.pretrained).chain(&fit.record.finetuned)) {
        let input = input_file(record);
        if !inputs.contains(&input) {
            inputs.push(input);
        }
    }
    ReportInput {
        schema_version: SCHEMA_VERSION,
        title: format!("Task-vector PCA: {}", names.join(", ")),
        generated: fits.iter().map(|fit| fit.record.created_at.clone()).max().unwrap_or_default(),
        inputs,
        fits: fits.iter().map(section).collect(),
        comparison: None,
        notes: Vec::new(),
    }
}

fn input_file(record: &InputRecord) -> InputFile {
    InputFile {
        reference: record.input.clone(),
        version: record.resolved.clone().unwrap_or_default(),
        digest: record.digest.clone().unwrap_or_default(),
        sha256: record.sha256.map(|sha256| sha256.to_hex()).unwrap_or_default(),
        size: Some(record.size),
        verified: record.verified,
    }
}

/// What a report says of one fit.
pub(super) fn section(fit: &Fit) -> FitSection {
    let record = &fit.record;
    let seeds = labels(record);
    let gram = fit.whole_gram();
    let pca = gram.as_ref().and_then(|gram| Pca::from_gram(gram).ok());
    let skipped = record.skipped.iter().map(|skipped| Note {
        subject: skipped.tensor.clone(),
        text: format!("takes no part: {} ({})", skipped.reason, skipped.dtype),
    });
    FitSection {
        model: record.model.clone(),
        dataset: record.dataset.clone().unwrap_or_default(),
        pretrained: record.pretrained.resolved.clone().unwrap_or_else(|| record.pretrained.input.clone()),
        layers: fit.layers.iter().map(layer_row).collect(),
        spectra: fit.layers.iter().filter_map(spectrum_row).collect(),
        whole: pca.as_ref().and_then(Pca::explained_variance_ratio).unwrap_or_default(),
        null_band: None,
        cosine: gram.as_ref().map(|gram| cosine(gram, &seeds)),
        scores: pca.as_ref().and_then(|pca| scores(pca, &seeds, record.dataset.as_deref())),
        notes: skipped.collect(),
        seeds,
    }
}

fn layer_row(fit: &LayerFit) -> LayerRow {
    let spectrum = Spectrum::of(&fit.pca);
    let ratio = |k: usize| spectrum.ratios.as_ref().and_then(|ratios| ratios.get(k).copied());
    let count = |components: Option<usize>| components.and_then(|k| u32::try_from(k).ok());
    LayerRow {
        layer: fit.layer.name.clone(),
        depth: depth(&fit.layer.name).and_then(|depth| u32::try_from(depth).ok()),
        module: module(&fit.layer.name).to_owned(),
        parameters: fit.layer.parameters as u64,
        total_variance: Some(spectrum.total_variance),
        variance_per_parameter: Some(spectrum.variance_per_parameter),
        first_ratio: ratio(0),
        second_ratio: ratio(1),
        effective_rank: spectrum.effective_rank,
        k90: count(spectrum.components_90),
        k95: count(spectrum.components_95),
        k99: count(spectrum.components_99),
        degenerate: fit.pca.is_degenerate(),
    }
}

fn spectrum_row(fit: &LayerFit) -> Option<rows::Spectrum> {
    let ratios = fit.pca.explained_variance_ratio()?;
    Some(rows::Spectrum { layer: fit.layer.name.clone(), ratios })
}

fn cosine(gram: &Gram, seeds: &[String]) -> Matrix {
    let cosines = Similarity::of(gram).cosines();
    Matrix { labels: seeds.to_vec(), values: cosines.chunks(seeds.len().max(1)).map(<[_]>::to_vec).collect() }
}

fn scores(pca: &Pca, seeds: &[String], dataset: Option<&str>) -> Option<Scores> {
    let rank = pca.rank();
    let ratios = pca.explained_variance_ratio()?;
    let scores = pca.scores(false);
    let points = seeds.iter().zip(scores.chunks(rank.max(1))).map(|(seed, row)| Score {
        label: seed.clone(),
        group: dataset.unwrap_or_default().to_owned(),
        first: row.first().copied().unwrap_or(0.0),
        second: row.get(1).copied().unwrap_or(0.0),
    });
    Some(Scores { points: points.collect(), ratios: [ratios.first().copied(), ratios.get(1).copied()] })
}

/// The plots of one fit as PNG, by name, for logging.
///
/// # Errors
/// [`AppError::Report`].
pub(super) fn pictures_of(section: &FitSection) -> Result<Vec<(&'static str, Vec<u8>)>, AppError> {
    scenes(section).into_iter().map(|(plot, scene)| Ok((plot, picture(&scene, Path::new(plot))?))).collect()
}

fn file_name(section: &FitSection, plot: &str) -> String {
    let whole = format!("{}-{plot}", section.name());
    whole.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect()
}

/// Every plot of a fit that has something to show, by its name.
fn scenes(section: &FitSection) -> Vec<(&'static str, Scene)> {
    let spectra = Spectra { whole: &section.whole, layers: &section.spectra, null: section.null_band.as_ref() };
    let cosines = section.cosine.as_ref().and_then(|values| matrix("Cosine similarity", values, MatrixScale::Signed));
    let plots = [
        ("variance-by-depth", variance_by_depth(&section.layers, Measure::PerParameter)),
        ("variance-by-layer", variance_by_layer(&section.layers, LAYERS_SHOWN)),
        ("scree", scree(&spectra)),
        ("cumulative", cumulative(&spectra)),
        ("cosine", cosines),
        ("seeds", section.scores.as_ref().and_then(seeds_in_plane)),
    ];
    plots.into_iter().filter_map(|(plot, scene)| Some((plot, scene?))).collect()
}
