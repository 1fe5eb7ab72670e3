//! A fit on disk: `fit.json`, `layers.parquet`, `components.parquet`, `groups.parquet`, `gram.safetensors` and the lock.
//!
//! `gram.safetensors` holds for each layer `<layer>/gram` (n × n), `<layer>/explained_variance` (min(n, d)) and
//! `<layer>/left_vectors` (n × rank), and where it was measured `<layer>/interference` (5), all F64: the dual coefficients are the left vectors divided by the singular values.
//! `fit.json` is written last, so a folder without it is no fit yet.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::analysis::{Gram, Interference, Layer, LayerFit, Pca};
use crate::checkpoint::{Checkpoint, NamedTensor, OpenOptions, write_safetensors};
use crate::report::parquet;
use crate::report::rows::{components_table, groups_table, layers_table};
use crate::store::{DurableFile, write_durable};
use crate::table::Table;
use crate::tensor::{Dtype, TensorView};

use super::error::AppError;
use super::fit_record::{FIT_SCHEMA, FitRecord};
use super::fit_rows::{self, FitRows, NULL_DRAWS};
use super::lock::{LOCK_FILE, Lock};

/// The record of a fit.
pub const RECORD_FILE: &str = "fit.json";
/// One row a layer.
pub const LAYERS_FILE: &str = "layers.parquet";
/// One row a layer and component.
pub const COMPONENTS_FILE: &str = "components.parquet";
/// One row a group of layers.
pub const GROUPS_FILE: &str = "groups.parquet";
/// Gram matrices and principal components.
pub const GRAM_FILE: &str = "gram.safetensors";

/// A fit: what it was made from, and the numbers of its layers.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Fit {
    /// What it was made from.
    pub record: FitRecord,
    /// Its layers, in the order of the model.
    pub layers: Vec<LayerFit>,
    /// The pinned inputs; empty for local files.
    pub lock: Lock,
    /// What they say, once somebody asked.
    rows: OnceLock<FitRows>,
}

/// The rows follow from the rest.
impl PartialEq for Fit {
    fn eq(&self, other: &Self) -> bool {
        (&self.record, &self.layers, &self.lock) == (&other.record, &other.layers, &other.lock)
    }
}

impl Fit {
    pub(super) fn new(record: FitRecord, layers: Vec<LayerFit>, lock: Lock) -> Self {
        Self { record, layers, lock, rows: OnceLock::new() }
    }

    /// The Gram of the flattened task vectors: the sum of the layers'. `None` when no layer was fitted.
    pub fn whole_gram(&self) -> Option<Gram> {
        let (first, rest) = self.layers.split_first()?;
        let mut gram = first.gram.clone();
        for fit in rest {
            gram.merge(&fit.gram).ok()?;
        }
        Some(gram)
    }

    /// What the fit says of layers, components and groups of layers. Made when first asked for.
    ///
    /// # Errors
    /// [`AppError::Analysis`] when two eigensolvers fail.
    pub fn rows(&self) -> Result<&FitRows, AppError> {
        if let Some(rows) = self.rows.get() {
            return Ok(rows);
        }
        let draws = self.record.null_draws.unwrap_or(NULL_DRAWS);
        let subject = |source| AppError::Analysis { subject: self.record.model.clone(), source };
        let rows = fit_rows::rows(&self.layers, draws).map_err(subject)?;
        Ok(self.rows.get_or_init(|| rows))
    }

    /// The tables `layers`, `components` and `groups`.
    ///
    /// # Errors
    /// As [`Self::rows`], and [`AppError::Table`] should a row not fit.
    pub fn tables(&self) -> Result<[(&'static str, Table); 3], AppError> {
        let rows = self.rows()?;
        Ok([
            ("layers", layers_table(&rows.layers)?),
            ("components", components_table(&rows.components)?),
            ("groups", groups_table(&rows.groups)?),
        ])
    }

    /// The files of a fit, without the lock.
    pub fn files(folder: &Path) -> [(&'static str, PathBuf); 5] {
        [RECORD_FILE, LAYERS_FILE, COMPONENTS_FILE, GROUPS_FILE, GRAM_FILE].map(|name| (name, folder.join(name)))
    }

    /// Writes the fit; a fit that was there before is replaced file by file, its record last.
    ///
    /// # Errors
    /// [`AppError::File`], [`AppError::Report`] or [`AppError::Write`] naming the file.
    pub fn write(&self, folder: &Path) -> Result<(), AppError> {
        let schema = [("schema", FIT_SCHEMA)];
        for (name, table) in self.tables()? {
            let path = folder.join(format!("{name}.parquet"));
            let bytes =
                parquet::write(&table, &schema).map_err(|source| AppError::Report { path: path.clone(), source })?;
            write_durable(&path, &bytes).map_err(AppError::file("write", &path))?;
        }
        self.write_gram(&folder.join(GRAM_FILE))?;
        if !self.lock.artifacts.is_empty() {
            self.lock.write(&folder.join(LOCK_FILE))?;
        }
        let path = folder.join(RECORD_FILE);
        let json = serde_json::to_vec_pretty(&self.record).map_err(|error| not_a_fit(&path, error))?;
        write_durable(&path, &json).map_err(AppError::file("write", &path))
    }

    fn write_gram(&self, path: &Path) -> Result<(), AppError> {
        let damaged = |error| not_a_fit(path, error);
        let mut tensors = Vec::with_capacity(3 * self.layers.len());
        for fit in &self.layers {
            let n = fit.gram.seeds();
            let parts = [
                ("gram", vec![n, n], fit.gram.values()),
                ("explained_variance", vec![fit.pca.explained_variance().len()], fit.pca.explained_variance()),
                ("left_vectors", vec![n, fit.pca.rank()], fit.pca.left_vectors()),
            ];
            for (part, shape, values) in parts {
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                let view = TensorView::contiguous(Dtype::F64, shape, bytes).map_err(damaged)?;
                tensors.push((format!("{}/{part}", fit.layer.name), view));
            }
            if let Some(interference) = fit.interference {
                let bytes: Vec<u8> = interference.to_values().iter().flat_map(|value| value.to_le_bytes()).collect();
                let view = TensorView::contiguous(Dtype::F64, vec![5], bytes).map_err(damaged)?;
                tensors.push((format!("{}/interference", fit.layer.name), view));
            }
        }
        let named: Vec<NamedTensor<'_>> = tensors.iter().map(|(name, view)| NamedTensor::new(name, view)).collect();
        let mut file = DurableFile::create(path).map_err(AppError::file("create", path))?;
        write_safetensors(&mut file, &named).map_err(|source| AppError::Write { path: path.to_owned(), source })?;
        file.commit().map_err(AppError::file("write", path))
    }

    /// Reads a fit back, number for number.
    ///
    /// # Errors
    /// [`AppError::NotAFit`] when the folder holds none or its parts do not agree.
    pub fn read(folder: &Path) -> Result<Self, AppError> {
        let [record, gram, lock] = [RECORD_FILE, GRAM_FILE, LOCK_FILE].map(|name| folder.join(name));
        Self::read_files((folder, &record), &gram, Some(&lock))
    }

    /// [`Self::read`] of files that need not be in one folder; `folder` is what the fit is called in errors.
    pub(super) fn read_files(
        (folder, record): (&Path, &Path),
        gram: &Path,
        lock: Option<&Path>,
    ) -> Result<Self, AppError> {
        let text = match fs::read(record) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(not_a_fit(folder, format!("there is no {RECORD_FILE} in it")));
            }
            Err(error) => return Err(AppError::file("read", record)(error)),
        };
        let path = folder.join(RECORD_FILE);
        let record: FitRecord = serde_json::from_slice(&text).map_err(|error| not_a_fit(&path, error))?;
        if !record.has_known_shape() {
            return Err(not_a_fit(&path, format!("it has the shape {}, not {FIT_SCHEMA}", record.schema)));
        }
        let path = folder.join(GRAM_FILE);
        let grams =
            Checkpoint::open(gram, &OpenOptions::default()).map_err(AppError::checkpoint("open", path.display()))?;
        let layers = record.layers.iter().map(|layer| {
            let dtype = Dtype::from_name(&layer.dtype);
            let dtype = dtype.ok_or_else(|| not_a_fit(folder, format!("`{}` is no dtype", layer.dtype)))?;
            let parameters = crate::tensor::element_count(&layer.shape);
            let parameters = parameters.ok_or_else(|| not_a_fit(folder, format!("{} is too large", layer.name)))?;
            read_layer(
                &grams,
                Layer { name: layer.name.clone(), dtype, shape: layer.shape.clone(), parameters },
                record.finetuned.len(),
            )
            .map_err(|reason| not_a_fit(&path, reason))
        });
        let layers = layers.collect::<Result<Vec<_>, _>>()?;
        let lock = lock.map(Lock::read).transpose()?.flatten().unwrap_or_else(|| Lock::new(Vec::new()));
        Ok(Self::new(record, layers, lock))
    }
}

fn read_layer(grams: &Checkpoint, layer: Layer, seeds: usize) -> Result<LayerFit, String> {
    let values = |part: &str| -> Result<Vec<f64>, String> {
        let view = grams.tensor(&format!("{}/{part}", layer.name)).map_err(|error| error.to_string())?;
        let mut values = vec![0.0; view.len()];
        view.read_f64(0, &mut values).map_err(|error| error.to_string())?;
        Ok(values)
    };
    let of_layer = |error: crate::analysis::AnalysisError| format!("layer {}: {error}", layer.name);
    let parameters = layer.parameters as u64;
    let gram = Gram::from_values(seeds, parameters, values("gram")?).map_err(of_layer)?;
    let pca = Pca::from_parts((seeds, parameters), values("explained_variance")?, values("left_vectors")?);
    let interference = values("interference").ok().and_then(|values| Interference::from_values(&values));
    Ok(LayerFit { pca: pca.map_err(of_layer)?, gram, interference, layer })
}

fn not_a_fit(path: &Path, reason: impl ToString) -> AppError {
    AppError::NotAFit { path: path.to_owned(), reason: reason.to_string() }
}
