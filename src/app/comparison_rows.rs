//! What the Grams of a comparison say, as rows: for single layers, blocks, kinds of modules and the whole model. Pure.

use rayon::prelude::*;

use crate::analysis::{AnalysisError, Gram, Grouping, Pca, Similarity, Spectrum, Subspaces};
use crate::report::between::{JointRow, PairRow, SimilarityRow};

use super::comparison::{CompareRecord, JointLayer};
use super::error::AppError;

/// The rows of a comparison.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rows {
    /// One a group and pair of datasets; groups from single layers to the whole model.
    pub pairs: Vec<PairRow>,
    /// One a group.
    pub joint: Vec<JointRow>,
    /// One for each ordered pair of task vectors of the whole model.
    pub similarity: Vec<SimilarityRow>,
}

/// A group of layers over all fits.
struct Joined {
    grouping: Grouping,
    name: String,
    gram: Gram,
    /// Of each fit; from the Gram where it is of several layers.
    fits: Vec<Pca>,
}

pub(super) fn rows(record: &CompareRecord, layers: &[JointLayer]) -> Result<Rows, AppError> {
    let subject = |source| AppError::Analysis { subject: record.model.clone(), source };
    let groups = joined(record, layers).map_err(subject)?;
    let of_groups: Vec<_> = groups.par_iter().map(|group| of_group(record, group)).collect();
    let mut rows = Rows::default();
    for of_group in of_groups {
        let (pairs, joint) = of_group.map_err(subject)?;
        rows.pairs.extend(pairs);
        rows.joint.push(joint);
    }
    if let Some(model) = groups.last() {
        rows.similarity = similarities(&record.labels(), &model.gram);
    }
    Ok(rows)
}

/// Every group of every way to put layers together; the whole model last.
fn joined(record: &CompareRecord, layers: &[JointLayer]) -> Result<Vec<Joined>, AnalysisError> {
    let own = layers.iter().map(|layer| Joined {
        grouping: Grouping::Layer,
        name: layer.layer.name.clone(),
        gram: layer.gram.clone(),
        fits: layer.fits.clone(),
    });
    let mut groups: Vec<Joined> = own.collect();
    for grouping in [Grouping::Block, Grouping::Module, Grouping::Model] {
        let named = layers.iter().map(|layer| (layer.layer.name.as_str(), &layer.gram));
        for (name, gram) in crate::analysis::group(named, grouping)? {
            let mut fits = Vec::with_capacity(record.datasets.len());
            let mut start = 0;
            for fit in &record.datasets {
                let end = start + fit.finetuned.len();
                fits.push(Pca::from_gram(&gram.select(&(start..end).collect::<Vec<_>>())?)?);
                start = end;
            }
            groups.push(Joined { grouping, name, gram, fits });
        }
    }
    Ok(groups)
}

fn of_group(record: &CompareRecord, group: &Joined) -> Result<(Vec<PairRow>, JointRow), AnalysisError> {
    let subspaces = Subspaces::of_fits(&group.gram, group.fits.clone())?;
    let most = record.components.unwrap_or(usize::MAX);
    let mut pairs = Vec::new();
    for first in 0..record.datasets.len() {
        for second in first + 1..record.datasets.len() {
            let overlap = subspaces.overlap(first, second, most)?;
            let count = |fit: usize| subspaces.fits().get(fit).map_or(0, |fit| fit.rank().min(most));
            let name = |fit: usize| record.datasets.get(fit).map(|fit| fit.name.clone()).unwrap_or_default();
            pairs.push(PairRow {
                grouping: group.grouping.label().to_owned(),
                group: group.name.clone(),
                first: name(first),
                second: name(second),
                components: [first, second].map(|fit| small(count(fit))),
                overlap: overlap.overlap,
                degrees: overlap.angles().into_iter().map(f64::to_degrees).collect(),
                first_in_second: subspaces.residual(first, second, most)?,
                second_in_first: subspaces.residual(second, first, most)?,
                mean_cosine: subspaces.mean_cosine(first, second)?,
            });
        }
    }
    let split = subspaces.variance_split();
    let spectrum = Spectrum::of(&subspaces.joint()?);
    let ratio = |k: usize| spectrum.ratios.as_ref().and_then(|ratios| ratios.get(k).copied());
    let joint = JointRow {
        grouping: group.grouping.label().to_owned(),
        group: group.name.clone(),
        parameters: group.gram.parameters(),
        scatter: split.total,
        between: split.between,
        within: split.within,
        dataset_share: split.dataset_share(),
        first_ratio: ratio(0),
        second_ratio: ratio(1),
        effective_rank: spectrum.effective_rank,
        components_90: spectrum.components_90.map(small),
        components_95: spectrum.components_95.map(small),
        components_99: spectrum.components_99.map(small),
    };
    Ok((pairs, joint))
}

fn similarities(labels: &[[String; 2]], gram: &Gram) -> Vec<SimilarityRow> {
    let n = gram.seeds();
    let similarity = Similarity::of(gram);
    let (cosines, angles) = (similarity.cosines(), similarity.angles());
    let (distances, ratios) = (similarity.distances(), similarity.magnitude_ratios());
    let row = |at: usize| {
        Some(SimilarityRow {
            first: labels.get(at / n)?.clone(),
            second: labels.get(at % n)?.clone(),
            dot: *similarity.dots().get(at)?,
            cosine: *cosines.get(at)?,
            angle: *angles.get(at)?,
            distance: *distances.get(at)?,
            magnitude_ratio: *ratios.get(at)?,
        })
    };
    (0..n * n).filter_map(row).collect()
}

/// Seeds are fewer than four thousand million.
fn small(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
