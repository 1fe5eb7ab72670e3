//! Fits as a report: the rows behind every plot, one HTML page, and the plots as pictures.

use std::path::{Path, PathBuf};

use crate::analysis::{Gram, Grouping, LayerFit, NullBand as NullRange, Pca, Similarity};
use crate::report::between::PairRow;
use crate::report::input::{Comparison as Between, FitSection, InputFile, Note, ReportInput, SCHEMA_VERSION};
use crate::report::palette::Theme;
use crate::report::plot::{
    MatrixScale, Measure, Spectra, cumulative, matrix, principal_angles, scree, seeds_in_plane, variance_by_depth,
    variance_by_layer,
};
use crate::report::rows::{self, Matrix, NullBand, PairAngles, Score, Scores};
use crate::report::scene::Scene;
use crate::report::{page, png, svg};
use crate::store::write_durable;

use super::comparison::Comparison;
use super::error::AppError;
use super::fit::labels;
use super::fit_folder::Fit;
use super::fit_record::InputRecord;

/// Bars in the plot of single layers.
const LAYERS_SHOWN: usize = 20;
/// Pixels to a unit of a plot.
const PNG_SCALE: f32 = 2.0;

/// Writes the page for `fits` and what a comparison says of them, and beside it, in `<page>-plots/`, each plot as SVG and
/// PNG when `plots` is set. Returns the files, the page first.
///
/// # Errors
/// [`AppError::Report`] or [`AppError::File`] naming the file.
pub fn report(
    fits: &[&Fit],
    comparison: Option<&Comparison>,
    target: &Path,
    plots: bool,
) -> Result<Vec<PathBuf>, AppError> {
    let input = report_input(fits, comparison)?;
    let page = page(&input, target)?;
    write_durable(target, page.as_bytes()).map_err(AppError::file("write", target))?;
    let mut files = vec![target.to_owned()];
    if plots {
        let folder = target.with_extension("plots");
        let of_fits = input
            .fits
            .iter()
            .flat_map(|fit| scenes(fit).into_iter().map(|(plot, scene)| (file_name(fit, plot), scene)));
        let between = input.comparison.iter().flat_map(comparison_scenes);
        for (name, scene) in of_fits.chain(between.map(|(plot, scene)| (plot.to_owned(), scene))) {
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
    page(&report_input(&[fit], None)?, Path::new("report.html"))
}

/// The page of a comparison and its fits.
///
/// # Errors
/// [`AppError::Report`].
pub(super) fn page_of_comparison(fits: &[&Fit], comparison: &Comparison) -> Result<String, AppError> {
    page(&report_input(fits, Some(comparison))?, Path::new("report.html"))
}

fn page(input: &ReportInput, target: &Path) -> Result<String, AppError> {
    page::write(input).map_err(|source| AppError::Report { path: target.to_owned(), source })
}

fn picture(scene: &Scene, target: &Path) -> Result<Vec<u8>, AppError> {
    png::file(scene, Theme::Light, PNG_SCALE).map_err(|source| AppError::Report { path: target.to_owned(), source })
}

/// The rows of a report.
///
/// # Errors
/// As [`Fit::rows`].
pub fn report_input(fits: &[&Fit], comparison: Option<&Comparison>) -> Result<ReportInput, AppError> {
    let sections = fits.iter().map(|fit| section(fit)).collect::<Result<Vec<_>, _>>()?;
    let mut names: Vec<String> = sections.iter().map(FitSection::name).collect();
    if let (true, Some(comparison)) = (names.is_empty(), comparison) {
        let datasets: Vec<&str> = comparison.record.datasets.iter().map(|fit| fit.name.as_str()).collect();
        names.push(format!("{} on {}", comparison.record.model, datasets.join(", ")));
    }
    let of_fits = fits.iter().flat_map(|fit| fit.record.inputs());
    let mut inputs: Vec<InputFile> = Vec::new();
    for record in of_fits.chain(comparison.into_iter().flat_map(|comparison| comparison.record.inputs())) {
        let input = input_file(record);
        if !inputs.contains(&input) {
            inputs.push(input);
        }
    }
    let made = fits.iter().map(|fit| &fit.record.created_at).chain(comparison.map(|made| &made.record.created_at));
    let left_out = comparison.into_iter().flat_map(|comparison| &comparison.record.left_out);
    let note =
        |layer: &String| Note { subject: layer.clone(), text: "is not in every fit, so not compared".to_owned() };
    Ok(ReportInput {
        schema_version: SCHEMA_VERSION,
        title: format!("Task-vector PCA: {}", names.join(", ")),
        generated: made.max().cloned().unwrap_or_default(),
        inputs,
        fits: sections,
        comparison: comparison.map(comparison_section),
        notes: left_out.map(note).collect(),
    })
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
///
/// # Errors
/// As [`Fit::rows`].
pub(super) fn section(fit: &Fit) -> Result<FitSection, AppError> {
    let (record, rows) = (&fit.record, fit.rows()?);
    let seeds = labels(record);
    let gram = fit.whole_gram();
    let pca = gram.as_ref().and_then(|gram| Pca::from_gram(gram).ok());
    let skipped = record.skipped.iter().map(|skipped| Note {
        subject: skipped.tensor.clone(),
        text: format!("takes no part: {} ({})", skipped.reason, skipped.dtype),
    });
    Ok(FitSection {
        model: record.model.clone(),
        dataset: record.dataset.clone().unwrap_or_default(),
        pretrained: record.pretrained.resolved.clone().unwrap_or_else(|| record.pretrained.input.clone()),
        layers: rows.layers.clone(),
        groups: rows.groups.clone(),
        spectra: fit.layers.iter().filter_map(spectrum_row).collect(),
        whole: pca.as_ref().and_then(Pca::explained_variance_ratio).unwrap_or_default(),
        null_band: null_band(&rows.null_ratios),
        cosine: gram.as_ref().map(|gram| cosine(gram, &seeds)),
        scores: pca.as_ref().and_then(|pca| scores(pca, &seeds, record.dataset.as_deref())),
        notes: skipped.collect(),
        seeds,
    })
}

fn null_band(ratios: &[NullRange]) -> Option<NullBand> {
    let ends = |end: fn(&NullRange) -> f64| ratios.iter().map(end).collect();
    (!ratios.is_empty()).then(|| NullBand { low: ends(|range| range.low), high: ends(|range| range.high) })
}

fn spectrum_row(fit: &LayerFit) -> Option<rows::Spectrum> {
    let ratios = fit.pca.explained_variance_ratio()?;
    Some(rows::Spectrum { layer: fit.layer.name.clone(), ratios })
}

/// What a report says of a comparison.
pub(super) fn comparison_section(comparison: &Comparison) -> Between {
    let rows = &comparison.rows;
    let names: Vec<String> = comparison.record.datasets.iter().map(|fit| fit.name.clone()).collect();
    let whole: Vec<&PairRow> = rows.pairs.iter().filter(|row| row.grouping == Grouping::Model.label()).collect();
    let between = |value: fn(&PairRow) -> Option<f64>| {
        let mut values = vec![vec![None; names.len()]; names.len()];
        for pair in &whole {
            let place = |name: &String| names.iter().position(|other| other == name);
            let (Some(a), Some(b)) = (place(&pair.first), place(&pair.second)) else { continue };
            (values[a][b], values[b][a]) = (value(pair), value(pair));
        }
        Matrix { labels: names.clone(), values }
    };
    let angles = whole.iter().map(|pair| PairAngles {
        first: pair.first.clone(),
        second: pair.second.clone(),
        degrees: pair.degrees.clone(),
    });
    Between {
        angles: angles.collect(),
        overlaps: Some(between(|pair| pair.overlap)),
        cosines: Some(between(|pair| pair.mean_cosine)),
        scores: joint_scores(comparison),
        pairs: rows.pairs.clone(),
        joint: rows.joint.clone(),
    }
}

/// All seeds in the plane of the joint components of the whole model.
fn joint_scores(comparison: &Comparison) -> Option<Scores> {
    let (first, rest) = comparison.layers.split_first()?;
    let mut gram = first.gram.clone();
    for layer in rest {
        gram.merge(&layer.gram).ok()?;
    }
    let pca = Pca::from_gram(&gram).ok()?;
    let labels = comparison.record.labels();
    let seeds: Vec<String> = labels.iter().map(|[_, seed]| seed.clone()).collect();
    let mut scores = scores(&pca, &seeds, None)?;
    for (point, [dataset, _]) in scores.points.iter_mut().zip(labels) {
        point.group = dataset;
    }
    Some(scores)
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

/// The plots of a comparison as PNG, by name, for logging.
///
/// # Errors
/// [`AppError::Report`].
pub(super) fn pictures_of_comparison(section: &Between) -> Result<Vec<(&'static str, Vec<u8>)>, AppError> {
    let scenes = comparison_scenes(section).into_iter();
    scenes.map(|(plot, scene)| Ok((plot, picture(&scene, Path::new(plot))?))).collect()
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

/// Every plot of a comparison that has something to show, by its name.
fn comparison_scenes(section: &Between) -> Vec<(&'static str, Scene)> {
    let matrix =
        |title, values: &Option<Matrix>, scale| values.as_ref().and_then(|values| matrix(title, values, scale));
    let plots = [
        ("principal-angles", principal_angles(&section.angles)),
        ("overlap", matrix("Subspace overlap", &section.overlaps, MatrixScale::Share)),
        ("cosine-between", matrix("Mean cosine between task vectors", &section.cosines, MatrixScale::Signed)),
        ("datasets-in-plane", section.scores.as_ref().and_then(seeds_in_plane)),
    ];
    plots.into_iter().filter_map(|(plot, scene)| Some((plot, scene?))).collect()
}
