//! What a checkpoint holds: its tensors, with the norm of each.

use std::path::PathBuf;

use crate::checkpoint::Format;
use crate::progress::{Progress, Stage};
use crate::table::{ColumnKind, Table};
use crate::tensor::TensorView;

use super::blocking::run_blocking;
use super::error::AppError;
use super::fit;
use super::input::{Input, Seeded};
use super::layer_table::shape_text;
use super::pull::{Pulled, pull};
use super::session::Session;

/// What to look at.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct InspectOptions {
    /// The checkpoint.
    pub input: Input,
    /// Which file of an artifact that holds several.
    pub file: Option<String>,
    /// Nested dictionary that holds the weights, where there are several.
    pub key: Option<String>,
    /// Read every element and compute norms.
    pub norms: bool,
}

impl InspectOptions {
    /// All of a checkpoint, norms included.
    pub fn new(input: Input) -> Self {
        Self { input, file: None, key: None, norms: true }
    }
}

/// What a checkpoint holds.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Inspection {
    /// Where its bytes are.
    pub path: PathBuf,
    /// What kind of file it is.
    pub format: Format,
    /// Whether every byte was checked against W&B's digest.
    pub verified: bool,
    /// One row a tensor: tensor, dtype, shape, parameters, bytes, norm.
    pub tensors: Table,
    /// Elements of all tensors.
    pub parameters: u64,
    /// Tensors that are listed and not read, with the reason.
    pub skipped: Vec<(String, String)>,
}

/// Lists the tensors of a checkpoint.
///
/// # Errors
/// [`AppError`] naming the input, and the tensor where one is damaged.
pub async fn inspect(session: &Session, options: InspectOptions) -> Result<Inspection, AppError> {
    let seeded = Seeded { seed: None, input: options.input.clone() };
    let mut pulled = pull(session, &[seeded], options.file.as_deref()).await?;
    let pulled = pulled.pop().ok_or(AppError::Worker { what: "the inspection" })?;
    let progress = session.progress.clone();
    run_blocking("the inspection", move || list(&pulled, &options, &progress)).await
}

fn list(pulled: &Pulled, options: &InspectOptions, progress: &Progress) -> Result<Inspection, AppError> {
    use ColumnKind::{Integer, Number, Text};
    let checkpoint = fit::open(pulled, options.key.clone())?;
    let columns = [
        ("tensor", Text),
        ("dtype", Text),
        ("shape", Text),
        ("parameters", Integer),
        ("bytes", Integer),
        ("norm", Number),
    ];
    let mut tensors = Table::new(columns);
    let bytes = checkpoint.tensors().iter().map(|info| info.bytes).sum();
    let task = options.norms.then(|| progress.begin(Stage::Compute, "norms", Some(bytes)));
    for info in checkpoint.tensors() {
        let norm = match &task {
            Some(task) if !info.dtype.is_complex() => {
                let view = checkpoint.tensor(&info.name).map_err(AppError::checkpoint("read", &pulled.record.input))?;
                task.advance(info.bytes);
                norm(&view)
            }
            _ => None,
        };
        let row = vec![
            info.name.as_str().into(),
            info.dtype.name().into(),
            shape_text(&info.shape).into(),
            info.len().into(),
            info.bytes.into(),
            norm.into(),
        ];
        tensors.push(row)?;
    }
    Ok(Inspection {
        path: pulled.path.clone(),
        format: checkpoint.format(),
        verified: pulled.record.verified,
        parameters: checkpoint.tensors().iter().map(|info| info.len() as u64).sum(),
        skipped: checkpoint.skipped().iter().map(|skipped| (skipped.name.clone(), skipped.reason.clone())).collect(),
        tensors,
    })
}

/// The Euclidean norm, summed in f64; `None` when it is not finite.
fn norm(view: &TensorView<'_>) -> Option<f64> {
    let mut block = [0.0; 4096];
    let mut sum = 0.0;
    for start in (0..view.len()).step_by(block.len()) {
        let count = block.len().min(view.len() - start);
        view.read_f64(start, &mut block[..count]).ok()?;
        sum += block[..count].iter().map(|x| x * x).sum::<f64>();
    }
    Some(sum.sqrt()).filter(|norm| norm.is_finite())
}
