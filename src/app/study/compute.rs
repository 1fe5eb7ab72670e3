//! One unit of a study: its checkpoints in, a fit in the study's folder out. The same unit always gives the same numbers.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use globset::GlobSet;
use serde::{Deserialize, Serialize};

use crate::analysis::{AnalysisError, Layers};
use crate::app::AppError;
use crate::app::blocking::run_blocking;
use crate::app::fit::{self, FitOptions, Reading};
use crate::app::fit_folder::{Fit, GRAM_FILE};
use crate::app::fit_known::KnownFit;
use crate::app::input::Input;
use crate::app::lock::{LOCK_FILE, Lock};
use crate::app::parts::MOST_SHARE;
use crate::app::pull::Pulled;
use crate::app::roots;
use crate::digest::Sha256;
use crate::store::write_durable;
use crate::study::{self, Cell, LayerFilter, Plan, ShardId, split};

use super::inputs::{Survey, listing, obtain};
use super::needs::layer_bytes;
use super::run::explain;
use super::{Study, StudyError, Unit};

/// What is written beside the fit of a unit, last: without it the fit is not finished.
pub(super) const UNIT_FILE: &str = "unit.json";

/// Which unit a fit is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct UnitNote {
    pub(super) task: String,
    pub(super) inputs: String,
    pub(super) shard: Option<ShardId>,
    /// Position of its first layer among those of the task.
    pub(super) first: usize,
    /// Layers of the whole task.
    pub(super) layers: usize,
}

/// What a task reads.
pub(super) struct Material<'p> {
    pub(super) cells: Vec<&'p Cell>,
}

impl<'p> Material<'p> {
    /// The cells of a task; `None` when the plan has no such task.
    pub(super) fn of(plan: &'p Plan, task: &str) -> Option<Self> {
        if let Some(cell) = plan.cell(task) {
            return Some(Self { cells: vec![cell] });
        }
        let joint = plan.joint(task)?;
        Some(Self { cells: joint.cells.iter().filter_map(|&at| plan.cells.get(at)).collect() })
    }

    /// The pretrained checkpoint, then the fine-tuned ones of every cell with their seeds.
    pub(super) fn inputs(&self) -> Vec<(&'p study::Input, Option<u64>)> {
        let pretrained = self.cells.iter().take(1).map(|cell| (&cell.pretrained, None));
        let tuned = self.cells.iter().flat_map(|cell| {
            let seeds = cell.seeds.iter().map(|seed| Some(*seed));
            cell.finetuned.iter().zip(seeds)
        });
        pretrained.chain(tuned).collect()
    }
}

/// A unit to compute, and how much of its checkpoints is fetched for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order<'u> {
    pub(super) unit: &'u Unit,
    /// Only the layers of this shard; all that the study takes otherwise.
    fetch: Option<ShardId>,
}

impl<'u> Order<'u> {
    /// A unit among all that this process does: when those are most of its task, the task's layers are fetched at once, and
    /// every byte of the files is verified.
    pub(super) fn of(unit: &'u Unit, all: &[Unit]) -> Self {
        let mine = all.iter().filter(|other| other.task.id == unit.task.id && other.shard.is_some()).count();
        let few = |shard: &ShardId| mine as f64 <= MOST_SHARE * f64::from(shard.of);
        Self { unit, fetch: unit.shard.filter(few) }
    }

    /// Makes what the unit reads readable.
    async fn obtain(self, study: &Study, survey: &Survey) -> Result<Vec<Pulled>, AppError> {
        let gone = AppError::Worker { what: "the study" };
        let inputs = Material::of(&survey.plan, &self.unit.task.id).ok_or(gone)?.inputs();
        let wanted = match inputs.first() {
            Some((pretrained, _)) => layers_wanted(study, survey, (pretrained, self.fetch)).await?,
            None => None,
        };
        obtain(&study.session, survey, (&inputs, wanted.as_ref())).await
    }

    /// Downloads what the unit will need. Its errors are the unit's own: it will meet them again.
    pub(super) async fn fetch_ahead(self, study: &Study, survey: &Survey) {
        if let Err(error) = self.obtain(study, survey).await {
            tracing::debug!("fetching ahead: {}", explain(&error));
        }
    }
}

/// The layers to fetch for a shard, or for everything that the study takes; nothing when that is all of them. The
/// pretrained checkpoint says which there are.
pub(super) async fn layers_wanted(
    study: &Study,
    survey: &Survey,
    (pretrained, shard): (&study::Input, Option<ShardId>),
) -> Result<Option<GlobSet>, AppError> {
    let shard = shard.filter(|shard| shard.of > 1);
    let filter = study.spec.layers.clone();
    if shard.is_none() && filter.takes_all() {
        return Ok(None);
    }
    let listed = listing(&study.session, survey, pretrained).await?;
    run_blocking("the listing", move || {
        let layers = fit::alone(&listed, |layers| keep(&filter, layers))?;
        let layers = match shard {
            Some(shard) => part(layers, shard).0,
            None => layers,
        };
        let names: Vec<String> = layers.layers.iter().flat_map(|layer| names_of(&layer.name)).collect();
        // A shard may have no layer, and then nothing is fetched.
        fit::globs(&names).map(|globs| Some(globs.unwrap_or_default()))
    })
    .await
}

/// Globs of what a layer may be called in checkpoints of the same model: by its name, with something before it, or without
/// the first part of it.
fn names_of(layer: &str) -> impl Iterator<Item = String> {
    let name = globset::escape(layer);
    let bare = layer.split_once('.').map(|(_, rest)| globset::escape(rest));
    [format!("*.{name}"), name].into_iter().chain(bare)
}

/// Makes the fit of a unit and returns the digest of its numbers.
pub(super) async fn compute(study: &Study, survey: &Survey, order: Order<'_>) -> Result<String, AppError> {
    let (unit, gone) = (order.unit, AppError::Worker { what: "the study" });
    let material = Material::of(&survey.plan, &unit.task.id).ok_or(gone)?;
    let pulled = order.obtain(study, survey).await?;
    let options = options(study, &material, &pulled)?;
    let (filter, progress, unit) = (study.spec.layers.clone(), study.session.progress.clone(), unit.clone());
    let folder = match unit.shard {
        None => study.files().fit(&unit.task.id),
        Some(shard) => study.files().shard(&unit.task.id, shard),
    };
    let (store, device) = (study.session.store.clone(), study.session.device);
    let whole = study.files().fit(&unit.task.id);
    run_blocking("the study", move || {
        let (task, inputs) = (unit.task.id.clone(), unit.task.inputs.clone());
        let mut note = UnitNote { task, inputs, shard: unit.shard, first: 0, layers: 0 };
        let narrow = |layers: Layers| {
            let layers = keep(&filter, layers)?;
            note.layers = layers.layers.len();
            Ok(match unit.shard {
                None => layers,
                Some(shard) => {
                    let (layers, first) = part(layers, shard);
                    note.first = first;
                    layers
                }
            })
        };
        let whole = unit.shard.map(|_| whole);
        let known = earlier(std::iter::once(&folder).chain(&whole), &pulled);
        if let Some(known) = &known {
            progress.note(&format!("{}: {}", unit.ledger_task().id, known.sentence("before")));
        }
        let reading =
            Reading { key: None, dtypes: options.dtypes, measure: options.measure, known: known.as_ref(), device };
        let computed = fit::compute(&pulled, reading, &progress, narrow)?;
        let lock = Lock::new(pulled.iter().filter_map(|pulled| pulled.locked.clone()).collect());
        let fit = Fit::new(fit::record(&options, &pulled, &computed)?, computed.fits, lock);
        let digest = write(&folder, &fit, &note)?;
        if !fit.lock.artifacts.is_empty() {
            roots::register(&store, &folder.join(LOCK_FILE))?;
        }
        Ok(digest)
    })
    .await
}

/// What the finished fits in these folders know of a unit as it was with other seeds or datasets: the one that knows most, the
/// first of equals.
fn earlier<'f>(folders: impl Iterator<Item = &'f PathBuf>, pulled: &[Pulled]) -> Option<KnownFit> {
    let finished = folders.filter_map(|folder| {
        let note = read_note(folder)?;
        let fit = Fit::read(folder).ok().filter(|fit| note.shard.is_some() || fit.layers.len() == note.layers)?;
        KnownFit::of(fit, pulled, None)
    });
    finished.reduce(|best, other| if other.seeds() > best.seeds() { other } else { best })
}

/// Writes a fit with its note around it, and returns the digest of its numbers.
pub(super) fn write(folder: &Path, fit: &Fit, note: &UnitNote) -> Result<String, AppError> {
    let path = folder.join(UNIT_FILE);
    // The old note must not vouch for a mixture of old and new files.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(AppError::file("remove", &path)(error));
        }
        _ => {}
    }
    fit.write(folder)?;
    let json = serde_json::to_vec(note).map_err(|error| not_a_fit(&path, &error))?;
    write_durable(&path, &json).map_err(AppError::file("write", &path))?;
    digest(folder)
}

/// The note beside a fit, when there is one.
pub(super) fn read_note(folder: &Path) -> Option<UnitNote> {
    serde_json::from_slice(&fs::read(folder.join(UNIT_FILE)).ok()?).ok()
}

/// The layers that the study takes.
pub(super) fn keep(filter: &LayerFilter, layers: Layers) -> Result<Layers, AnalysisError> {
    if filter.takes_all() {
        return Ok(layers);
    }
    layers.select(|layer| filter.admits(&layer.name))
}

/// The layers of one shard, of which there may be none when there are more shards than layers, and the position of the first.
fn part(mut layers: Layers, shard: ShardId) -> (Layers, usize) {
    let range = split(&layer_bytes(&layers), shard.of).into_iter().nth(shard.index as usize).unwrap_or(0..0);
    layers.layers.truncate(range.end);
    layers.layers.drain(..range.start);
    (layers, range.start)
}

/// The fit's options: names for its record, nothing to pull.
fn options(study: &Study, material: &Material<'_>, pulled: &[Pulled]) -> Result<FitOptions, AppError> {
    let first = material.cells.first().ok_or(AppError::Worker { what: "the study" })?;
    let pretrained = pulled.first().map(|pulled| Input::File(pulled.path.clone()));
    let pretrained = pretrained.ok_or(AppError::Worker { what: "the study" })?;
    let mut options = FitOptions::new(pretrained, Vec::new(), &study.folder);
    options.model = Some(first.model.clone());
    let datasets: BTreeSet<&str> = material.cells.iter().map(|cell| cell.dataset.as_str()).collect();
    options.dataset = Some(datasets.into_iter().collect::<Vec<_>>().join("+"));
    let excluded = study.spec.layers.exclude().iter().map(|glob| format!("!{glob}"));
    options.layer_globs = study.spec.layers.include().iter().cloned().chain(excluded).collect();
    Ok(options)
}

/// The digest of a unit's numbers, when its folder holds the finished fit of exactly these inputs: what a process killed
/// between writing the fit and writing the ledger left behind.
pub(super) fn finished(study: &Study, unit: &Unit) -> Option<String> {
    let folder = match unit.shard {
        None => study.files().fit(&unit.task.id),
        Some(shard) => study.files().shard(&unit.task.id, shard),
    };
    let note = read_note(&folder)?;
    let same = note.task == unit.task.id && note.inputs == unit.task.inputs && note.shard == unit.shard;
    if same && Fit::read(&folder).is_ok() { digest(&folder).ok() } else { None }
}

/// SHA-256 of the file with the numbers.
pub(super) fn digest(folder: &Path) -> Result<String, AppError> {
    let path = folder.join(GRAM_FILE);
    let bytes = fs::read(&path).map_err(AppError::file("read", &path))?;
    Ok(Sha256::of(&bytes).to_string())
}

fn not_a_fit(path: &Path, error: &serde_json::Error) -> AppError {
    AppError::NotAFit { path: path.to_owned(), reason: error.to_string() }
}

impl From<study::PlanError> for AppError {
    fn from(error: study::PlanError) -> Self {
        StudyError::from(error).into()
    }
}
