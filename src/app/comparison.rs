//! Several fits in one Gram, and the folder that keeps it: `compare.json`, `gram.safetensors`, and the tables `pairs`,
//! `angles`, `joint` and `similarity` as Parquet.
//!
//! `gram.safetensors` holds `<layer>/gram` over the seeds of all datasets, in the order of `compare.json`, which is written
//! last. A later comparison of the same fits and further ones takes its products from there.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::analysis::{Gram, Layer, Pca, Subspaces};
use crate::checkpoint::{Checkpoint, NamedTensor, OpenOptions, write_safetensors};
use crate::report::between::{angles_table, joint_table, pairs_table, similarity_table};
use crate::report::parquet;
use crate::store::{DurableFile, write_durable};
use crate::table::Table;
use crate::tensor::{Dtype, TensorView};

use super::comparison_rows::{self, Rows};
use super::error::AppError;
use super::fit_record::{InputRecord, LayerRecord};

/// Name and version of the shape of `compare.json`.
pub const COMPARE_SCHEMA: &str = "wandb-pca/comparison/1";
/// The record of a comparison.
pub const COMPARE_FILE: &str = "compare.json";
const GRAM_FILE: &str = "gram.safetensors";

/// What was compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CompareRecord {
    /// [`COMPARE_SCHEMA`].
    pub schema: String,
    /// When it was made, RFC 3339 in UTC.
    pub created_at: String,
    /// The version of this program.
    pub program: String,
    /// The model.
    pub model: String,
    /// The pretrained checkpoint of all fits.
    pub pretrained: InputRecord,
    /// The fits, in the order of the rows of every Gram.
    pub datasets: Vec<ComparedFit>,
    /// How many components of each fit were compared; all with variance when absent.
    pub components: Option<usize>,
    /// What made the products between fits, the last where some were there; built in when absent.
    #[serde(default)]
    pub backend: Option<String>,
    /// Globs that selected the layers; all of them when empty.
    pub layer_globs: Vec<String>,
    /// The layers that all fits have, in the order of the first.
    pub layers: Vec<LayerRecord>,
    /// Layers that only some of the fits have.
    pub left_out: Vec<String>,
}

/// One of the fits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ComparedFit {
    /// What it is called here: its dataset, where no other has the same.
    pub name: String,
    /// Where it was: a folder, or an artifact's version.
    pub fit: String,
    /// The artifact's version.
    pub artifact: Option<String>,
    /// When it was made.
    pub created_at: String,
    /// Its checkpoints.
    pub finetuned: Vec<InputRecord>,
}

/// A layer over all fits.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct JointLayer {
    /// The layer.
    pub layer: Layer,
    /// Inner products of the task vectors of all fits.
    pub gram: Gram,
    /// The PCA of each fit by itself.
    pub fits: Vec<Pca>,
}

/// Fits compared.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Comparison {
    /// What was compared.
    pub record: CompareRecord,
    /// Its layers.
    pub layers: Vec<JointLayer>,
    /// What they say.
    pub rows: Rows,
}

impl Comparison {
    pub(super) fn new(record: CompareRecord, layers: Vec<JointLayer>) -> Result<Self, AppError> {
        let rows = comparison_rows::rows(&record, &layers)?;
        Ok(Self { record, layers, rows })
    }

    /// The tables, by the names under which they are kept.
    ///
    /// # Errors
    /// [`AppError::Table`] should a row not fit.
    pub fn tables(&self) -> Result<[(&'static str, Table); 4], AppError> {
        let Rows { pairs, joint, similarity } = &self.rows;
        Ok([
            ("pairs", pairs_table(pairs)?),
            ("angles", angles_table(pairs)?),
            ("joint", joint_table(joint)?),
            ("similarity", similarity_table(similarity)?),
        ])
    }

    /// Whether a folder looks like a comparison's.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(COMPARE_FILE).is_file()
    }

    /// Reads a comparison back. The PCA of each fit is made from its block of the Gram, which has the plain error of
    /// [`Pca::from_gram`].
    ///
    /// # Errors
    /// [`AppError::NotAComparison`] when the folder holds none or its parts do not agree.
    pub fn read(folder: &Path) -> Result<Self, AppError> {
        Self::of((folder, KnownGrams::read(folder)?))
    }

    /// [`Self::read`] of files that need not be in one folder; `name` is what the comparison is called in errors.
    pub(super) fn read_files((name, record): (&Path, &Path), gram: &Path) -> Result<Self, AppError> {
        Self::of((name, KnownGrams::read_files((name, record), gram)?))
    }

    fn of((folder, known): (&Path, KnownGrams)) -> Result<Self, AppError> {
        let sizes: Vec<usize> = known.record.datasets.iter().map(|fit| fit.finetuned.len()).collect();
        let layers = known.record.layers.iter().zip(known.grams).map(|(layer, gram)| {
            let wrong = |reason: &dyn ToString| not_one(folder, format!("{}: {}", layer.name, reason.to_string()));
            let dtype = Dtype::from_name(&layer.dtype).ok_or_else(|| wrong(&"no such dtype"))?;
            let parameters = crate::tensor::element_count(&layer.shape).ok_or_else(|| wrong(&"too large"))?;
            let fits = Subspaces::of(&gram, &sizes).map_err(|error| wrong(&error))?.fits().to_vec();
            let layer = Layer { name: layer.name.clone(), dtype, shape: layer.shape.clone(), parameters };
            Ok(JointLayer { layer, gram, fits })
        });
        let layers = layers.collect::<Result<Vec<_>, AppError>>()?;
        Self::new(known.record, layers)
    }

    /// The files of a comparison.
    pub(super) fn files(folder: &Path) -> [(&'static str, PathBuf); 6] {
        let names = [COMPARE_FILE, GRAM_FILE, "pairs.parquet", "angles.parquet", "joint.parquet", "similarity.parquet"];
        names.map(|name| (name, folder.join(name)))
    }

    /// Writes the comparison; one that was there before is replaced file by file, its record last.
    ///
    /// # Errors
    /// [`AppError::File`], [`AppError::Report`] or [`AppError::Write`] naming the file.
    pub fn write(&self, folder: &Path) -> Result<(), AppError> {
        let schema = [("schema", COMPARE_SCHEMA)];
        for (name, table) in self.tables()? {
            let path = folder.join(format!("{name}.parquet"));
            let bytes =
                parquet::write(&table, &schema).map_err(|source| AppError::Report { path: path.clone(), source })?;
            write_durable(&path, &bytes).map_err(AppError::file("write", &path))?;
        }
        write_grams(&self.layers, &folder.join(GRAM_FILE))?;
        let path = folder.join(COMPARE_FILE);
        let json = serde_json::to_vec_pretty(&self.record).map_err(|error| not_one(&path, error))?;
        write_durable(&path, &json).map_err(AppError::file("write", &path))
    }
}

fn write_grams(layers: &[JointLayer], path: &Path) -> Result<(), AppError> {
    let mut tensors = Vec::with_capacity(layers.len());
    for layer in layers {
        let n = layer.gram.seeds();
        let bytes: Vec<u8> = layer.gram.values().iter().flat_map(|value| value.to_le_bytes()).collect();
        let view = TensorView::contiguous(Dtype::F64, vec![n, n], bytes).map_err(|error| not_one(path, error))?;
        tensors.push((format!("{}/gram", layer.layer.name), view));
    }
    let named: Vec<NamedTensor<'_>> = tensors.iter().map(|(name, view)| NamedTensor::new(name, view)).collect();
    let mut file = DurableFile::create(path).map_err(AppError::file("create", path))?;
    write_safetensors(&mut file, &named).map_err(|source| AppError::Write { path: path.to_owned(), source })?;
    file.commit().map_err(AppError::file("write", path))
}

/// The Grams that an earlier comparison kept, and of what.
#[derive(Debug)]
pub(super) struct KnownGrams {
    pub(super) record: CompareRecord,
    /// In the order of the record's layers.
    grams: Vec<Gram>,
}

impl KnownGrams {
    /// What `folder` keeps.
    pub(super) fn read(folder: &Path) -> Result<Self, AppError> {
        Self::read_files((folder, &folder.join(COMPARE_FILE)), &folder.join(GRAM_FILE))
    }

    fn read_files((folder, record): (&Path, &Path), gram: &Path) -> Result<Self, AppError> {
        let text = fs::read(record).map_err(AppError::file("read", record))?;
        let path = folder.join(COMPARE_FILE);
        let record: CompareRecord = serde_json::from_slice(&text).map_err(|error| not_one(&path, error))?;
        if record.schema != COMPARE_SCHEMA {
            return Err(not_one(&path, format!("it has the shape {}, not {COMPARE_SCHEMA}", record.schema)));
        }
        let path = folder.join(GRAM_FILE);
        let file = Checkpoint::open(gram, &OpenOptions::default());
        let file = file.map_err(AppError::checkpoint("open", path.display()))?;
        let seeds = record.datasets.iter().map(|fit| fit.finetuned.len()).sum();
        let gram = |layer: &LayerRecord| -> Result<Gram, AppError> {
            let wrong = |reason: &dyn ToString| not_one(&path, format!("{}: {}", layer.name, reason.to_string()));
            let view = file.tensor(&format!("{}/gram", layer.name)).map_err(|error| wrong(&error))?;
            let mut values = vec![0.0; view.len()];
            view.read_f64(0, &mut values).map_err(|error| wrong(&error))?;
            let parameters = crate::tensor::element_count(&layer.shape).ok_or_else(|| wrong(&"too large"))?;
            Gram::from_values(seeds, parameters as u64, values).map_err(|error| wrong(&error))
        };
        let grams = record.layers.iter().map(gram).collect::<Result<_, _>>()?;
        Ok(Self { record, grams })
    }

    pub(super) fn gram(&self, layer: &Layer) -> Option<&Gram> {
        let at = self.record.layers.iter().position(|known| known.name == layer.name && known.shape == layer.shape)?;
        self.grams.get(at)
    }
}

impl CompareRecord {
    /// Dataset and seed of each row of the Grams.
    pub fn labels(&self) -> Vec<[String; 2]> {
        let of_fit = |fit: &ComparedFit| {
            let name = fit.name.clone();
            fit.finetuned.iter().map(move |input| [name.clone(), input.label()]).collect::<Vec<_>>()
        };
        self.datasets.iter().flat_map(of_fit).collect()
    }

    /// All inputs, the pretrained one first.
    pub fn inputs(&self) -> impl Iterator<Item = &InputRecord> {
        std::iter::once(&self.pretrained).chain(self.datasets.iter().flat_map(|fit| &fit.finetuned))
    }
}

fn not_one(path: &Path, reason: impl ToString) -> AppError {
    AppError::NotAComparison { path: path.to_owned(), reason: reason.to_string() }
}
