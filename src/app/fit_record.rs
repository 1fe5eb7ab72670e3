//! What a fit is made of and how it is kept: `fit.json`, the record that names every input exactly.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::digest::Sha256;
use crate::report::input::Verified;

/// Name and version of the shape of `fit.json`.
pub const FIT_SCHEMA: &str = "wandb-pca/fit/2";
/// The shape before, which is read as well: `verified` was true or false.
const FORMER_SCHEMA: &str = "wandb-pca/fit/1";

/// Everything about a fit that is not a number of a layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FitRecord {
    /// [`FIT_SCHEMA`].
    pub schema: String,
    /// When it was made, RFC 3339 in UTC.
    pub created_at: String,
    /// The version of this program.
    pub program: String,
    /// The model, as its pretrained checkpoint is named.
    pub model: String,
    /// The dataset, where known.
    pub dataset: Option<String>,
    /// The pretrained checkpoint.
    pub pretrained: InputRecord,
    /// The fine-tuned checkpoints, in the order of the rows of every Gram.
    pub finetuned: Vec<InputRecord>,
    /// Globs that selected the layers; all of them when empty.
    pub layer_globs: Vec<String>,
    /// Nested dictionary that was read, where one was named.
    pub key: Option<String>,
    /// Draws of the null model; the usual number when absent.
    #[serde(default)]
    pub null_draws: Option<usize>,
    /// What made the products of task vectors, here and in the earlier fits that they were taken from; absent in fits made
    /// before there was a choice, which are built in.
    #[serde(default)]
    pub backend: Option<String>,
    /// Sums over the layers.
    pub totals: Totals,
    /// The layers that took part, in the order of the model.
    pub layers: Vec<LayerRecord>,
    /// Tensors that take no part.
    pub skipped: Vec<SkippedTensor>,
}

/// A layer that took part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// Name in the state dict.
    pub name: String,
    /// Its dtype in the pretrained model, by its safetensors name.
    pub dtype: String,
    /// Logical shape; empty for a scalar.
    pub shape: Vec<usize>,
}

/// One checkpoint of a fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputRecord {
    /// As it was given.
    pub input: String,
    /// Its seed, for templates over seeds.
    pub seed: Option<u64>,
    /// The version it stood for, for artifacts: `entity/project/name:v3`.
    pub resolved: Option<String>,
    /// W&B's digest of the artifact.
    pub artifact_digest: Option<String>,
    /// Path in the artifact, or on this machine.
    pub file: PathBuf,
    /// Size in bytes.
    pub size: u64,
    /// W&B's digest of the file, with its algorithm; of a reference that no digest proves, its name in the store; of a local
    /// file, what [`content_digest`](crate::checkpoint::content_digest) makes of its content. Local files of older fits have
    /// none.
    pub digest: Option<String>,
    /// SHA-256 of the file; not of local files, nor of those of which only parts were fetched.
    pub sha256: Option<Sha256>,
    /// What was checked of the bytes that were read.
    pub verified: Verified,
}

impl FitRecord {
    /// Whether this program reads the record's shape.
    pub(super) fn has_known_shape(&self) -> bool {
        [FIT_SCHEMA, FORMER_SCHEMA].contains(&self.schema.as_str())
    }

    /// All inputs, the pretrained one first.
    pub fn inputs(&self) -> impl Iterator<Item = &InputRecord> {
        std::iter::once(&self.pretrained).chain(&self.finetuned)
    }

    /// What was checked of every input at least.
    pub fn verified(&self) -> Verified {
        self.inputs().map(|input| input.verified).min().unwrap_or_default()
    }
}

impl InputRecord {
    /// What to call it in tables: its seed, or its name.
    pub fn label(&self) -> String {
        self.seed.map_or_else(|| self.input.clone(), |seed| seed.to_string())
    }
}

/// Sums over the layers of a fit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Layers that took part.
    pub layers: usize,
    /// Their parameters.
    pub parameters: u64,
    /// Layers without variance between the seeds.
    pub degenerate_layers: usize,
    /// Their parameters.
    pub degenerate_parameters: u64,
    /// Total explained variance of all layers together.
    pub total_variance: f64,
    /// Mean squared norm of the task vectors of the whole model.
    pub mean_squared_norm: f64,
}

/// A tensor that takes no part in the fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedTensor {
    /// Its name.
    pub tensor: String,
    /// Its dtype.
    pub dtype: String,
    /// Why it takes no part.
    pub reason: String,
}

/// Model and dataset as the names of the checkpoints tell them: `ViT-B-16_pt` and `ViT-B-16_CIFAR100_{seed}` are model
/// `ViT-B-16` and dataset `CIFAR100`.
pub(super) fn names_from_inputs(pretrained: &str, finetuned: &str) -> (String, Option<String>) {
    let pretrained = stem(pretrained);
    let suffixes = ["_pt", "-pt", "_pretrained", "-pretrained", "_base", "-base"];
    let model = suffixes.iter().find_map(|suffix| pretrained.strip_suffix(suffix)).unwrap_or(&pretrained).to_owned();
    let finetuned = stem(finetuned).replace("{seed}", "");
    let rest = finetuned.strip_prefix(model.as_str()).unwrap_or(&finetuned);
    let dataset = rest.trim_matches(['_', '-', '.']);
    let dataset = (!dataset.is_empty() && dataset != model).then(|| dataset.to_owned());
    (model, dataset)
}

/// The telling part of an input's name: the collection, or the file or folder that is not called like every other.
fn stem(input: &str) -> String {
    let collection = |name: &str| name.rsplit('/').next().unwrap_or(name).split(':').next().unwrap_or(name).to_owned();
    let generic = ["trained.ckpt", "checkpoint.ckpt", "model.safetensors", "pytorch_model.bin", "trained.ckpt.zip"];
    let mut parts = input.rsplit(['/', '\\']);
    let last = parts.next().unwrap_or(input);
    match parts.next() {
        Some(folder) if generic.contains(&last) && !folder.is_empty() && folder != "{seed}" => folder.to_owned(),
        _ if generic.contains(&last) => "model".to_owned(),
        _ => {
            let name = collection(input);
            let endings = [".safetensors", ".ckpt.zip", ".ckpt", ".pth", ".pt", ".bin"];
            endings.iter().find_map(|ending| name.strip_suffix(ending)).map(str::to_owned).unwrap_or(name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_model_and_dataset() {
        let names = |pretrained: &str, finetuned: &str| {
            let (model, dataset) = names_from_inputs(pretrained, finetuned);
            (model, dataset.unwrap_or_default())
        };
        let expect = |model: &str, dataset: &str| (model.to_owned(), dataset.to_owned());
        assert_eq!(
            names("e/p/ViT-B-16_pt:latest", "e/p/ViT-B-16_CIFAR100_{seed}:latest"),
            expect("ViT-B-16", "CIFAR100")
        );
        assert_eq!(names("runs/pt/trained.ckpt", "runs/DTD_{seed}/trained.ckpt"), expect("pt", "DTD"));
        assert_eq!(names("base.safetensors", "tuned_{seed}.safetensors"), expect("base", "tuned"));
        assert_eq!(names("m_pt.ckpt", "m_{seed}.ckpt"), expect("m", ""));
    }
}
