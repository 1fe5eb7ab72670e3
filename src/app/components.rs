//! Principal components as tensors: `components.safetensors` beside a fit, for those who want them in another program. A fit
//! itself needs none. Each layer is read once more to check that they are orthonormal, and once to write them.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::analysis::{Combination, LayerFit, TaskVectors};
use crate::checkpoint::{Checkpoint, NamedTensor, SourceError, TensorSource, write_safetensors};
use crate::progress::{Progress, Stage, Task};
use crate::store::DurableFile;
use crate::tensor::Dtype;

use super::error::AppError;
use super::fit::{Trouble, open, task_vectors};
use super::fit_folder::Fit;
use super::pull::Pulled;

/// The components of a fit as tensors: `<layer>/components` (k × the layer's shape) and `<layer>/mean`, F32.
pub const COMPONENTS_TENSORS: &str = "components.safetensors";
/// Largest deviation of an inner product of two components from 1 or 0, before they are rounded to F32.
const ORTHONORMAL: f64 = 1e-6;

/// Components that were written.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct WrittenComponents {
    /// The file.
    pub file: PathBuf,
    /// Most components of a layer; layers with less variance have fewer, those without any have none.
    pub count: usize,
    /// Largest deviation of an inner product of two components of a layer from 1 or 0.
    pub deviation: f64,
}

/// Writes the first `count` components of every layer beside the fit.
pub(super) fn write(
    fit: &Fit,
    pulled: &[Pulled],
    (folder, count): (&Path, usize),
    progress: &Progress,
) -> Result<WrittenComponents, AppError> {
    let checkpoints =
        pulled.iter().map(|pulled| open(pulled, fit.record.key.clone())).collect::<Result<Vec<Checkpoint>, _>>()?;
    let numerics = |source| AppError::Analysis { subject: fit.record.model.clone(), source };
    let vectors = fit.layers.iter().map(|layer| task_vectors(&checkpoints, pulled, (&layer.layer, Checkpoint::tensor)));
    let vectors = vectors.collect::<Result<Vec<_>, _>>().map_err(|trouble| match trouble {
        Trouble::Read(error) => error,
        Trouble::Numbers(source) => numerics(source),
    })?;
    let mut deviation: f64 = 0.0;
    for (vectors, layer) in vectors.iter().zip(&fit.layers) {
        let found = vectors.orthonormality(&layer.pca, count).map_err(numerics)?;
        if found > ORTHONORMAL {
            return Err(AppError::NotOrthonormal { layer: layer.layer.name.clone(), deviation: found });
        }
        deviation = deviation.max(found);
    }
    let file = folder.join(COMPONENTS_TENSORS);
    let task = progress.begin(Stage::Write, &file.display().to_string(), None);
    write_file(&file, (&vectors, &fit.layers), count, &task)?;
    Ok(WrittenComponents { file, count, deviation })
}

fn write_file(
    path: &Path,
    (vectors, layers): (&[TaskVectors<'_>], &[LayerFit]),
    count: usize,
    task: &Task,
) -> Result<(), AppError> {
    let mut tensors = Vec::with_capacity(2 * layers.len());
    for (vectors, fit) in vectors.iter().zip(layers) {
        let numerics = |source| AppError::Analysis { subject: fit.layer.name.clone(), source };
        let (seeds, rank) = (fit.pca.seeds(), fit.pca.rank());
        let duals = fit.pca.duals();
        let direction = |weights| Combination::direction(vectors, weights, Dtype::F32).map_err(numerics);
        let of_component = |k: usize| duals.iter().skip(k).step_by(rank.max(1)).copied().collect();
        let rows = (0..rank.min(count)).map(|k| direction(of_component(k))).collect::<Result<Vec<_>, _>>()?;
        let shape: Vec<usize> = std::iter::once(rows.len()).chain(fit.layer.shape.iter().copied()).collect();
        let parameters = fit.layer.parameters;
        if !rows.is_empty() {
            tensors.push((format!("{}/components", fit.layer.name), Stacked { rows, shape, parameters, task }));
        }
        let rows = vec![direction(vec![1.0 / seeds as f64; seeds])?];
        let shape = fit.layer.shape.clone();
        tensors.push((format!("{}/mean", fit.layer.name), Stacked { rows, shape, parameters, task }));
    }
    let named: Vec<NamedTensor<'_>> = tensors.iter().map(|(name, source)| NamedTensor::new(name, source)).collect();
    let file = DurableFile::create(path).map_err(AppError::file("create", path))?;
    let mut file = std::io::BufWriter::with_capacity(1 << 20, file);
    write_safetensors(&mut file, &named).map_err(|source| AppError::Write { path: path.to_owned(), source })?;
    let file = file.into_inner().map_err(|error| AppError::file("write", path)(error.into_error()))?;
    file.commit().map_err(AppError::file("write", path))
}

/// Several directions of one layer as one tensor.
struct Stacked<'s> {
    rows: Vec<Combination<'s, 's>>,
    shape: Vec<usize>,
    parameters: usize,
    task: &'s Task,
}

impl TensorSource for Stacked<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn read_le_bytes(&self, start: usize, out: &mut [u8]) -> Result<(), SourceError> {
        self.task.advance(out.len() as u64);
        let size = Dtype::F32.size();
        let (mut at, mut rest) = (start, out);
        while !rest.is_empty() {
            let (row, column) = (at / self.parameters, at % self.parameters);
            let count = (self.parameters - column).min(rest.len() / size);
            let Some(direction) = self.rows.get(row).filter(|_| count > 0) else {
                return Err("the tensor ends before its bytes do".into());
            };
            let (now, later) = rest.split_at_mut(count * size);
            direction.fill(column, now)?;
            (at, rest) = (at + count, later);
        }
        Ok(())
    }
}
