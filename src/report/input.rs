//! What a report is made of, as plain rows.
//!
//! Owns the shape that callers fill and may store as JSON: a page can be made again from it, without checkpoints, network
//! or clock. Pure.

use serde::{Deserialize, Serialize};

use super::between::{JointRow, PairRow};
use super::rows::{GroupRow, LayerRow, Matrix, NullBand, PairAngles, Scores, Spectrum};

/// Version of [`ReportInput`] as JSON. A change that an older reader would misread raises it.
pub const SCHEMA_VERSION: u32 = 1;

/// Everything on a page.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReportInput {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Heading of the page.
    pub title: String,
    /// When and by what it was made, in the caller's words: the page reads no clock.
    pub generated: String,
    /// Every artifact and file that the numbers come from.
    pub inputs: Vec<InputFile>,
    /// One section each.
    pub fits: Vec<FitSection>,
    /// What the fits say about each other, for more than one dataset.
    pub comparison: Option<Comparison>,
    /// What concerns the whole report.
    pub notes: Vec<Note>,
}

/// How much of a file was checked against what others say about it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", from = "Spelled")]
pub enum Verified {
    /// Nothing was checked against what others say about it: a local file, or there is no digest.
    #[default]
    No,
    /// Only parts were fetched, and what was read of them agrees with the CRC-32 that the file states for it.
    Partly,
    /// Every byte was hashed and agrees with the digest that W&B stores.
    Whole,
}

impl Verified {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Partly => "partly",
            Self::Whole => "whole",
        }
    }
}

/// [`Verified`] as it is written, and as it was when it was either whole or not.
#[derive(Deserialize)]
#[serde(untagged)]
enum Spelled {
    Former(bool),
    Now(Name),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Name {
    No,
    Partly,
    Whole,
}

impl From<Spelled> for Verified {
    fn from(spelled: Spelled) -> Self {
        match spelled {
            Spelled::Former(false) | Spelled::Now(Name::No) => Self::No,
            Spelled::Now(Name::Partly) => Self::Partly,
            Spelled::Former(true) | Spelled::Now(Name::Whole) => Self::Whole,
        }
    }
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct InputFile {
    /// Artifact reference as given, or a local name.
    pub reference: String,
    /// Resolved version, for instance `v3`; empty for local files.
    pub version: String,
    /// Digest that W&B stores; for local files, of their content.
    pub digest: String,
    /// SHA-256 of the bytes, hexadecimal.
    pub sha256: String,
    /// Size in bytes.
    pub size: Option<u64>,
    /// What was checked.
    pub verified: Verified,
}

/// One model on one dataset.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FitSection {
    /// The model.
    pub model: String,
    /// The dataset.
    pub dataset: String,
    /// Reference of the pretrained checkpoint.
    pub pretrained: String,
    /// The seeds, in the order of the fit.
    pub seeds: Vec<String>,
    /// One row a layer, in the order of the state dict.
    pub layers: Vec<LayerRow>,
    /// One row a block, a kind of module, and the whole model.
    #[serde(default)]
    pub groups: Vec<GroupRow>,
    /// Spectrum of each layer that has variance.
    pub spectra: Vec<Spectrum>,
    /// Explained variance ratios of the whole model; empty when it was not fitted as one.
    pub whole: Vec<f64>,
    /// Range of [`Self::whole`] under random directions.
    pub null_band: Option<NullBand>,
    /// Cosine similarity between the task vectors of the seeds, whole model.
    pub cosine: Option<Matrix>,
    /// The seeds on the first two components, whole model.
    pub scores: Option<Scores>,
    /// Skipped tensors with their reasons, degenerate layers, and what else a reader should know.
    pub notes: Vec<Note>,
}

/// Several datasets together.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Comparison {
    /// Principal angles between the seed subspaces of each pair of datasets.
    pub angles: Vec<PairAngles>,
    /// Normalised overlap of the subspaces, 0 to 1.
    pub overlaps: Option<Matrix>,
    /// Mean cosine between the task vectors of each pair of datasets.
    #[serde(default)]
    pub cosines: Option<Matrix>,
    /// All seeds of all datasets on the first two components of their joint fit.
    pub scores: Option<Scores>,
    /// One row a group of layers and pair of datasets.
    #[serde(default)]
    pub pairs: Vec<PairRow>,
    /// One row a group of layers.
    #[serde(default)]
    pub joint: Vec<JointRow>,
}

/// Something a reader should know.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Note {
    /// What it is about, for instance a tensor.
    pub subject: String,
    /// What is to be said about it.
    pub text: String,
}

impl FitSection {
    /// `model on dataset`, or the one of them that is known.
    pub fn name(&self) -> String {
        match (self.model.is_empty(), self.dataset.is_empty()) {
            (false, false) => format!("{} on {}", self.model, self.dataset),
            (false, true) => self.model.clone(),
            (true, false) => self.dataset.clone(),
            (true, true) => "fit".to_owned(),
        }
    }

    /// Parameters of all layers.
    pub fn parameters(&self) -> u64 {
        self.layers.iter().fold(0, |sum, row| sum.saturating_add(row.parameters))
    }

    /// Total variance of all layers: the total variance of the whole model, since variances of disjoint layers add up.
    pub fn total_variance(&self) -> f64 {
        self.layers.iter().filter_map(|row| row.total_variance).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_checked_is_a_word_and_was_once_a_bool() {
        let read = |text: &str| serde_json::from_str::<Verified>(text);
        assert_eq!((read("true").unwrap(), read("false").unwrap()), (Verified::Whole, Verified::No));
        for verified in [Verified::No, Verified::Partly, Verified::Whole] {
            let text = serde_json::to_string(&verified).unwrap();
            assert_eq!(text, format!("\"{}\"", verified.name()));
            assert_eq!(read(&text).unwrap(), verified);
        }
        assert!(read("\"mostly\"").is_err() && Verified::No < Verified::Partly && Verified::Partly < Verified::Whole);
    }
}
