//! A fit on disk: `fit.json`, `layers.parquet`, `components.parquet`, `gram.safetensors` and the lock.
//!
//! `gram.safetensors` holds for each layer `<layer>/gram` (n × n), `<layer>/explained_variance` (min(n, d)) and
//! `<layer>/left_vectors` (n × rank), all F64: the dual coefficients are the left vectors divided by the singular values.
//! `fit.json` is written last, so a folder without it is no fit yet.

use std::fs;
use std::path::{Path, PathBuf};

use crate::analysis::{Gram, Layer, LayerFit, Pca, Spectrum};
use crate::checkpoint::{Checkpoint, NamedTensor, OpenOptions, write_safetensors};
use crate::report::parquet;
use crate::store::{DurableFile, write_durable};
use crate::table::Table;
use crate::tensor::{Dtype, TensorView};

use super::error::AppError;
use super::fit_record::{FIT_SCHEMA, FitRecord};
use super::layer_table;
use super::lock::{LOCK_FILE, Lock};

/// The record of a fit.
pub const RECORD_FILE: &str = "fit.json";
/// One row a layer.
pub const LAYERS_FILE: &str = "layers.parquet";
/// One row a layer and component.
pub const COMPONENTS_FILE: &str = "components.parquet";
/// Gram matrices and principal components.
pub const GRAM_FILE: &str = "gram.safetensors";

/// A fit: what it was made from, and the numbers of its layers.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Fit {
    /// What it was made from.
    pub record: FitRecord,
    /// Its layers, in the order of the model.
    pub layers: Vec<LayerFit>,
    /// The pinned inputs; empty for local files.
    pub lock: Lock,
}

/// All layers taken together as one vector a seed.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct WholeModel {
    /// The spectrum of the flattened task vectors.
    pub spectrum: Spectrum,
    /// Mean cosine similarity between different seeds; `None` when a task vector is zero.
    pub mean_cosine: Option<f64>,
}

impl Fit {
    /// The Gram of the flattened task vectors: the sum of the layers'. `None` when no layer was fitted.
    pub fn whole_gram(&self) -> Option<Gram> {
        let (first, rest) = self.layers.split_first()?;
        let mut gram = first.gram.clone();
        for fit in rest {
            gram.merge(&fit.gram).ok()?;
        }
        Some(gram)
    }

    /// The flattened model. `None` when no layer was fitted or its eigenvalues do not converge.
    pub fn whole_model(&self) -> Option<WholeModel> {
        let gram = self.whole_gram()?;
        let spectrum = Spectrum::of(&Pca::from_gram(&gram).ok()?);
        let mean_cosine = layer_table::mean_cosine(&gram);
        Some(WholeModel { spectrum, mean_cosine })
    }

    /// The table `pca/layers`.
    ///
    /// # Errors
    /// [`AppError::Table`] should a row not fit.
    pub fn layer_table(&self) -> Result<Table, AppError> {
        Ok(layer_table::layers(&self.layers)?)
    }

    /// The table `pca/components`.
    ///
    /// # Errors
    /// As [`Self::layer_table`].
    pub fn component_table(&self) -> Result<Table, AppError> {
        Ok(layer_table::components(&self.layers)?)
    }

    /// The files of a fit, without the lock.
    pub fn files(folder: &Path) -> [(&'static str, PathBuf); 4] {
        [RECORD_FILE, LAYERS_FILE, COMPONENTS_FILE, GRAM_FILE].map(|name| (name, folder.join(name)))
    }

    /// Writes the fit; a fit that was there before is replaced file by file, its record last.
    ///
    /// # Errors
    /// [`AppError::File`], [`AppError::Report`] or [`AppError::Write`] naming the file.
    pub fn write(&self, folder: &Path) -> Result<(), AppError> {
        let schema = [("schema", FIT_SCHEMA)];
        for (name, table) in [(LAYERS_FILE, self.layer_table()?), (COMPONENTS_FILE, self.component_table()?)] {
            let path = folder.join(name);
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
        let path = folder.join(RECORD_FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(not_a_fit(folder, format!("there is no {RECORD_FILE} in it")));
            }
            Err(error) => return Err(AppError::file("read", &path)(error)),
        };
        let record: FitRecord = serde_json::from_slice(&text).map_err(|error| not_a_fit(&path, error))?;
        if !record.has_known_shape() {
            return Err(not_a_fit(&path, format!("it has the shape {}, not {FIT_SCHEMA}", record.schema)));
        }
        let path = folder.join(GRAM_FILE);
        let grams =
            Checkpoint::open(&path, &OpenOptions::default()).map_err(AppError::checkpoint("open", path.display()))?;
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
        let lock = Lock::read(&folder.join(LOCK_FILE))?.unwrap_or_else(|| Lock::new(Vec::new()));
        Ok(Self { record, layers, lock })
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
    Ok(LayerFit { pca: pca.map_err(of_layer)?, gram, layer })
}

fn not_a_fit(path: &Path, reason: impl ToString) -> AppError {
    AppError::NotAFit { path: path.to_owned(), reason: reason.to_string() }
}
