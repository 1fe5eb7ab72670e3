//! What a checkpoint holds: its tensors, with the norm of each where its bytes are here or asked for.

use std::path::PathBuf;

use globset::GlobSet;

use crate::checkpoint::{Checkpoint, Format};
use crate::progress::{Progress, Stage};
use crate::report::input::Verified;
use crate::table::{ColumnKind, Table};
use crate::tensor::TensorView;

use super::blocking::run_blocking;
use super::error::AppError;
use super::fit;
use super::input::{Input, Seeded};
use super::layer_name::shape_text;
use super::parts::{Extent, Parts, Wish, pull_parts};
use super::pinned::Pins;
use super::pull::Pulled;
use super::session::Session;

/// Whether norms are computed, which reads every byte of a tensor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Norms {
    /// Where the bytes are here: in local files, in the store, and of the layers that were asked for.
    #[default]
    Here,
    /// Always, fetching the bytes.
    Always,
    /// Never.
    Never,
}

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
    /// Globs over the names of tensors; all of them when empty.
    pub layer_globs: Vec<String>,
    /// Whether to compute norms.
    pub norms: Norms,
    /// Fetch all of an artifact's file, and verify it, instead of what is looked at.
    pub whole: bool,
}

impl InspectOptions {
    /// All of a checkpoint, with norms where its bytes are here.
    pub fn new(input: Input) -> Self {
        Self { input, file: None, key: None, layer_globs: Vec::new(), norms: Norms::Here, whole: false }
    }

    /// The layers whose bytes are looked at, which is none for a mere list, and how much of a file to fetch for that.
    fn wish(&self, globs: Option<&GlobSet>) -> Wish {
        let all = self.norms == Norms::Always && globs.is_none();
        let extent = if self.whole || all { Extent::Whole } else { Extent::Cheaper };
        let layers = globs.filter(|_| self.norms != Norms::Never).cloned();
        Wish { layers, key: self.key.clone(), extent }
    }
}

/// What a checkpoint holds.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Inspection {
    /// Where its bytes are; `None` when only parts of them were fetched.
    pub path: Option<PathBuf>,
    /// The artifact version it comes from.
    pub artifact: Option<String>,
    /// Size of the file in bytes.
    pub size: u64,
    /// What kind of file it is.
    pub format: Format,
    /// What was checked of the bytes that were read.
    pub verified: Verified,
    /// What was fetched, when that was not all.
    pub parts: Option<Parts>,
    /// One row a tensor: tensor, dtype, shape, parameters, bytes, norm.
    pub tensors: Table,
    /// Elements of all tensors listed.
    pub parameters: u64,
    /// Tensors that are listed and not read, with the reason.
    pub skipped: Vec<(String, String)>,
}

/// Lists the tensors of a checkpoint. Of an artifact that is not in the store, only what is looked at is fetched.
///
/// # Errors
/// [`AppError`] naming the input, and the tensor where one is damaged.
pub async fn inspect(session: &Session, options: InspectOptions) -> Result<Inspection, AppError> {
    let globs = fit::globs(&options.layer_globs)?;
    let seeded = Seeded { seed: None, input: options.input.clone() };
    let wish = options.wish(globs.as_ref());
    let input = [(&seeded, options.file.as_deref())];
    let mut pulled = pull_parts(session, &input, (&Pins::default(), &wish)).await?;
    let pulled = pulled.pop().ok_or(AppError::Worker { what: "the inspection" })?;
    let norms = options.norms != Norms::Never && (pulled.parts.is_none() || wish.layers.is_some());
    let progress = session.progress.clone();
    let key = options.key;
    run_blocking("the inspection", move || {
        let checkpoint = fit::open(&pulled, key)?;
        list(&pulled, &checkpoint, (globs.as_ref(), norms), &progress)
    })
    .await
}

fn list(
    pulled: &Pulled,
    checkpoint: &Checkpoint,
    (globs, norms): (Option<&GlobSet>, bool),
    progress: &Progress,
) -> Result<Inspection, AppError> {
    use ColumnKind::{Integer, Number, Text};
    let columns = [
        ("tensor", Text),
        ("dtype", Text),
        ("shape", Text),
        ("parameters", Integer),
        ("bytes", Integer),
        ("norm", Number),
    ];
    let mut tensors = Table::new(columns);
    let wanted = |name: &str| globs.is_none_or(|globs| globs.is_match(name));
    let listed: Vec<_> = checkpoint.tensors().iter().filter(|info| wanted(&info.name)).collect();
    let bytes = listed.iter().map(|info| info.bytes).sum();
    let task = norms.then(|| progress.begin(Stage::Compute, "norms", Some(bytes)));
    for info in &listed {
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
    let skipped = checkpoint.skipped().iter().filter(|skipped| wanted(&skipped.name));
    Ok(Inspection {
        path: pulled.parts.is_none().then(|| pulled.path.clone()),
        artifact: pulled.record.resolved.clone(),
        size: pulled.record.size,
        format: checkpoint.format(),
        verified: pulled.record.verified,
        parts: pulled.parts.clone(),
        parameters: listed.iter().map(|info| info.len() as u64).sum(),
        skipped: skipped.map(|skipped| (skipped.name.clone(), skipped.reason.clone())).collect(),
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
