//! The main job: pretrained and fine-tuned checkpoints in, explained variance of every layer out.

use std::path::PathBuf;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use jiff::Timestamp;

use crate::analysis::{
    AnalysisError, Checkpoint as Which, DtypeRule, Layer, LayerFit, Layers, Measure, Similarity, TaskVectors,
    TensorInfo, align, complete_layers, fit_layers,
};
use crate::checkpoint::{Checkpoint, CheckpointError, OpenOptions, Prefixes, prefixes_to_drop};
use crate::progress::{Progress, Stage};
use crate::report::input::Verified;
use crate::tensor::TensorView;
use crate::wandb::Artifact;

use super::blocking::run_blocking;
use super::components::{self, WrittenComponents};
use super::device::Device;
use super::error::AppError;
use super::fit_folder::Fit;
use super::fit_known::KnownFit;
use super::fit_record::{FIT_SCHEMA, FitRecord, InputRecord, LayerRecord, SkippedTensor, Totals, names_from_inputs};
use super::fit_rows::NULL_DRAWS;
use super::input::{Input, Seeded};
use super::local::identify;
use super::lock::{LOCK_FILE, Lock};
use super::parts::{Extent, Wish, pull_chosen_parts};
use super::pinned::{LockMode, Pins};
use super::pull::{Choice, Pulled, choose_pinned, pull_chosen};
use super::resolve::all;
use super::roots;
use super::session::Session;
use super::table_files::write_csv;

/// What to fit.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FitOptions {
    /// The pretrained checkpoint.
    pub pretrained: Input,
    /// The fine-tuned checkpoints, in the order of the rows of every Gram.
    pub finetuned: Vec<Seeded>,
    /// Where the fit goes.
    pub folder: PathBuf,
    /// Name of the model; taken from the inputs' names otherwise.
    pub model: Option<String>,
    /// Name of the dataset; taken from the inputs' names otherwise.
    pub dataset: Option<String>,
    /// Globs over layer names; all layers when empty.
    pub layer_globs: Vec<String>,
    /// Nested dictionary that holds the weights, where there are several.
    pub key: Option<String>,
    /// The checkpoint in artifacts that hold several files.
    pub file: Option<String>,
    /// Draws of the null model: how often every layer's spectrum is made from random directions. 0 leaves it out.
    pub null_draws: usize,
    /// How many components of each layer are written as tensors, beside the fit.
    pub components: Option<usize>,
    /// Whether a layer may have another floating-point dtype in some checkpoints than in the pretrained one.
    pub dtypes: DtypeRule,
    /// What is counted besides the Grams.
    pub measure: Measure,
    /// How much of each artifact's file is fetched when `layer_globs` select some of its layers.
    pub extent: Extent,
    /// What to do with the lock in `folder`, where there is one.
    pub lock: LockMode,
    /// Whether the tables are written as CSV, too.
    pub csv: bool,
    /// Whether everything is computed, whatever an earlier fit in `folder` knows.
    pub fresh: bool,
}

impl FitOptions {
    /// A fit of these inputs into `folder`, everything else by default.
    pub fn new(pretrained: Input, finetuned: Vec<Seeded>, folder: impl Into<PathBuf>) -> Self {
        Self {
            pretrained,
            finetuned,
            folder: folder.into(),
            model: None,
            dataset: None,
            layer_globs: Vec::new(),
            null_draws: NULL_DRAWS,
            components: None,
            dtypes: DtypeRule::Same,
            measure: Measure::default(),
            key: None,
            file: None,
            extent: Extent::default(),
            lock: LockMode::default(),
            csv: false,
            fresh: false,
        }
    }

    /// Model and dataset, as given or as the inputs' names tell.
    pub fn names(&self) -> (String, Option<String>) {
        let template = self.finetuned.first().map(|first| {
            let name = first.input.to_string();
            // The seed stands where the template had it: behind the last separator of the name.
            match first.seed {
                Some(seed) => replace_last(&name, &seed.to_string(), "{seed}"),
                None => name,
            }
        });
        let (model, dataset) = names_from_inputs(&self.pretrained.to_string(), &template.unwrap_or_default());
        (self.model.clone().unwrap_or(model), self.dataset.clone().or(dataset))
    }
}

/// A fit that was made and written.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FitOutcome {
    /// The fit.
    pub fit: Fit,
    /// Where it is.
    pub folder: PathBuf,
    /// The artifacts it was made from: the pretrained one first.
    pub artifacts: Vec<Artifact>,
    /// How many inputs came over the network now.
    pub downloaded: usize,
    /// How many seeds an earlier fit in the folder knew.
    pub known: usize,
    /// The components that were written as tensors.
    pub components: Option<WrittenComponents>,
}

/// A fit of which it is known what all names stand for.
pub(super) struct PlannedFit {
    options: FitOptions,
    /// The pretrained one first.
    inputs: Vec<Seeded>,
    choices: Vec<Result<Choice, AppError>>,
    pins: Pins,
    select: Option<GlobSet>,
}

/// Pulls the inputs, fits every layer, and writes the fit to its folder.
///
/// # Errors
/// [`AppError`] naming the input, layer or file. Nothing is written then.
pub async fn fit(session: &Session, options: FitOptions) -> Result<FitOutcome, AppError> {
    let planned = plan(session, options).await?;
    make(session, planned).await
}

/// Checks the options and asks what the names stand for.
pub(super) async fn plan(session: &Session, options: FitOptions) -> Result<PlannedFit, AppError> {
    let select = globs(&options.layer_globs)?;
    session.device.check()?;
    if options.finetuned.len() < 2 {
        let source = AnalysisError::TooFewSeeds { found: options.finetuned.len() };
        return Err(AppError::Analysis { subject: options.pretrained.to_string(), source });
    }
    let pretrained = Seeded { seed: None, input: options.pretrained.clone() };
    let inputs: Vec<Seeded> = std::iter::once(pretrained).chain(options.finetuned.iter().cloned()).collect();
    let pins = Pins::read(&options.folder.join(LOCK_FILE), options.lock)?;
    let files: Vec<_> = inputs.iter().map(|seeded| (seeded, options.file.as_deref())).collect();
    let choices = choose_pinned(session, &files, &pins).await?;
    Ok(PlannedFit { options, inputs, choices, pins, select })
}

impl PlannedFit {
    /// Nothing, when every name stands for something.
    ///
    /// # Errors
    /// The first one that does not.
    pub(super) fn check(&mut self) -> Result<(), AppError> {
        self.choices = all(std::mem::take(&mut self.choices))?.into_iter().map(Ok).collect();
        Ok(())
    }

    async fn pull(&mut self, session: &Session) -> Result<Vec<Pulled>, AppError> {
        let inputs: Vec<&Seeded> = self.inputs.iter().collect();
        let chosen = (inputs.as_slice(), std::mem::take(&mut self.choices));
        match &self.select {
            None => pull_chosen(session, chosen, &self.pins).await,
            Some(globs) => {
                let (key, extent) = (self.options.key.clone(), self.options.extent);
                let wish = Wish { layers: Some(globs.clone()), key, extent };
                pull_chosen_parts(session, chosen, (&self.pins, &wish)).await
            }
        }
    }
}

/// Makes a planned fit.
pub(super) async fn make(session: &Session, mut planned: PlannedFit) -> Result<FitOutcome, AppError> {
    let pulled = identify(session, planned.pull(session).await?).await?;
    let PlannedFit { options, pins, select, .. } = planned;
    let lock = Lock::new(pulled.iter().filter_map(|pulled| pulled.locked.clone()).collect());
    if let (LockMode::Locked, Some(locked)) = (options.lock, pins.lock()) {
        locked.hold(&lock)?;
    }
    let artifacts = pulled.iter().filter_map(|pulled| pulled.artifact.clone()).collect();
    let downloaded = pulled.iter().filter(|pulled| pulled.downloaded).count();
    let progress = session.progress.clone();
    let (folder, store, device) = (options.folder.clone(), session.store.clone(), session.device);
    let (fit, known, components) = run_blocking("the fit", move || {
        // Whatever else is measured takes a pass over everything, and the Grams come with it.
        let from_earlier = !options.fresh && options.measure == Measure::Gram;
        let known = from_earlier.then(|| KnownFit::in_folder(&options.folder, &pulled, options.key.as_deref()));
        let known = known.flatten();
        if let Some(known) = &known {
            progress.note(&known.sentence(&format!("the fit in {}", options.folder.display())));
        }
        let dtypes = options.dtypes;
        let reading =
            Reading { key: options.key.clone(), dtypes, measure: options.measure, known: known.as_ref(), device };
        let computed = compute(&pulled, reading, &progress, |layers| match &select {
            Some(globs) => layers.select(|layer| globs.is_match(&layer.name)),
            None => Ok(layers),
        })?;
        let fit = Fit::new(record(&options, &pulled, &computed)?, computed.fits, lock);
        fit.write(&options.folder)?;
        if options.csv {
            write_csv(&options.folder, &fit.tables()?)?;
        }
        let place = |count| (options.folder.as_path(), count);
        let components = options.components.map(|count| components::write(&fit, &pulled, place(count), &progress));
        if !fit.lock.artifacts.is_empty() {
            roots::register(&store, &options.folder.join(LOCK_FILE))?;
        }
        Ok((fit, known.map_or(0, |known| known.seeds().0), components.transpose()?))
    })
    .await?;
    Ok(FitOutcome { fit, folder, artifacts, downloaded, known, components })
}

/// How checkpoints are read, and what is known of them.
pub(super) struct Reading<'k> {
    /// Nested dictionary that holds the weights.
    pub(super) key: Option<String>,
    /// Which dtypes a layer may have.
    pub(super) dtypes: DtypeRule,
    /// What is measured besides; nothing where something is known.
    pub(super) measure: Measure,
    /// What an earlier fit knows, which is not made again.
    pub(super) known: Option<&'k KnownFit>,
    /// What makes the products; built in where something else is measured besides.
    pub(super) device: Device,
}

/// The layers of a model, fitted.
pub(super) struct Computed {
    pub(super) layers: Layers,
    pub(super) fits: Vec<LayerFit>,
    /// What made the products.
    pub(super) backend: String,
}

/// Opens, aligns, narrows and fits. The checkpoints are mapped, so that this touches every weight once and keeps none.
pub(super) fn compute(
    pulled: &[Pulled],
    Reading { key, dtypes, measure, known, device }: Reading<'_>,
    progress: &Progress,
    narrow: impl FnOnce(Layers) -> Result<Layers, AnalysisError>,
) -> Result<Computed, AppError> {
    let device = if measure == Measure::Gram { device } else { Device::BuiltIn };
    let backend = device.backend(pulled.len().saturating_sub(1))?;
    let checkpoints = open_alike(pulled, key.as_deref())?;
    let infos: Vec<Vec<TensorInfo<'_>>> = checkpoints.iter().map(tensor_infos).collect();
    let subject = |source: AnalysisError| AppError::Analysis { subject: subject_of(&source, pulled), source };
    let Some((pretrained, fine_tuned)) = infos.split_first() else {
        return Err(AppError::Worker { what: "the fit" });
    };
    let layers = align(pretrained, fine_tuned, dtypes).and_then(narrow).map_err(subject)?;
    let bytes = layers.layers.iter().map(|layer| (layer.parameters * layer.dtype.size()) as u64).sum::<u64>();
    let task = progress.begin(Stage::Compute, "task vectors", Some(bytes * checkpoints.len() as u64));
    let open_layer = |layer: &Layer| task_vectors(&checkpoints, pulled, (layer, Checkpoint::tensor_to_compare));
    let fits = match known {
        None => fit_layers(&layers.layers, open_layer, (&*backend, measure, &task)),
        Some(known) => complete_layers(&layers.layers, |layer| known.layer(layer), open_layer, (&*backend, &task)),
    };
    let fits = fits.map_err(|error| match error {
        Trouble::Read(error) => error,
        Trouble::Numbers(source) => subject(source),
    })?;
    let backend = known.map_or_else(|| backend.name(), |known| known.backends(&backend.name()));
    Ok(Computed { layers, fits, backend })
}

/// The layers of one checkpoint as they are when every other has the same.
pub(super) fn alone(
    pulled: &Pulled,
    narrow: impl FnOnce(Layers) -> Result<Layers, AnalysisError>,
) -> Result<Layers, AppError> {
    let checkpoint = open(pulled, None)?;
    let infos = tensor_infos(&checkpoint);
    let subject = |source| AppError::Analysis { subject: pulled.record.input.clone(), source };
    align(&infos, &[infos.clone(), infos.clone()], DtypeRule::Same).and_then(narrow).map_err(subject)
}

/// Opens checkpoints of one model. What a framework put before every name of some of them is dropped where the others
/// lack it.
pub(super) fn open_alike(pulled: &[Pulled], key: Option<&str>) -> Result<Vec<Checkpoint>, AppError> {
    let key = || key.map(str::to_owned);
    let mut checkpoints = pulled.iter().map(|pulled| open(pulled, key())).collect::<Result<Vec<_>, _>>()?;
    let names = |checkpoint: &Checkpoint| checkpoint.tensors().iter().map(|info| info.name.clone()).collect();
    let names: Vec<Vec<String>> = checkpoints.iter().map(names).collect();
    let names: Vec<Vec<&str>> = names.iter().map(|names| names.iter().map(String::as_str).collect()).collect();
    for ((checkpoint, pulled), prefix) in checkpoints.iter_mut().zip(pulled).zip(prefixes_to_drop(&names)) {
        if let Some(prefix) = prefix {
            *checkpoint = open_with(
                pulled,
                OpenOptions { key: key(), prefixes: Prefixes::Drop(prefix), ..OpenOptions::default() },
            )?;
        }
    }
    Ok(checkpoints)
}

pub(super) fn open(pulled: &Pulled, key: Option<String>) -> Result<Checkpoint, AppError> {
    open_with(pulled, OpenOptions { key, ..OpenOptions::default() })
}

fn open_with(pulled: &Pulled, options: OpenOptions) -> Result<Checkpoint, AppError> {
    let present = pulled.parts.as_ref().map(|parts| parts.present.clone());
    let verify_crc = pulled.record.verified != Verified::Whole;
    let scratch = Some(pulled.scratch.clone());
    let options = OpenOptions { verify_crc, present, scratch, ..options };
    Checkpoint::open(&pulled.path, &options).map_err(AppError::checkpoint("open", &pulled.record.input))
}

fn tensor_infos(checkpoint: &Checkpoint) -> Vec<TensorInfo<'_>> {
    let infos = checkpoint.tensors().iter();
    infos.map(|info| TensorInfo { name: &info.name, dtype: info.dtype, shape: &info.shape }).collect()
}

/// How a tensor is had: [`Checkpoint::tensor`], or [`Checkpoint::tensor_to_compare`] for Grams, which compare CRC-32 in
/// their pass.
type View = for<'c> fn(&'c Checkpoint, &str) -> Result<TensorView<'c>, CheckpointError>;

/// One layer of all checkpoints, the pretrained one first.
pub(super) fn task_vectors<'a>(
    checkpoints: &'a [Checkpoint],
    pulled: &[Pulled],
    (layer, view): (&Layer, View),
) -> Result<TaskVectors<'a>, Trouble> {
    let view = |(checkpoint, pulled): (&'a Checkpoint, &Pulled)| {
        view(checkpoint, &layer.name).map_err(AppError::checkpoint("read", &pulled.record.input)).map_err(Trouble::Read)
    };
    let mut views = checkpoints.iter().zip(pulled).map(view).collect::<Result<Vec<_>, _>>()?.into_iter();
    let Some(pretrained) = views.next() else { return Err(Trouble::Read(AppError::Worker { what: "the fit" })) };
    Ok(TaskVectors::new(layer.name.clone(), pretrained, views.collect())?)
}

/// What can happen to one layer.
pub(super) enum Trouble {
    Read(AppError),
    Numbers(AnalysisError),
}

impl From<AnalysisError> for Trouble {
    fn from(error: AnalysisError) -> Self {
        Self::Numbers(error)
    }
}

/// Which inputs an error is about, in the user's words.
pub(super) fn subject_of(error: &AnalysisError, pulled: &[Pulled]) -> String {
    let at = match checkpoint_of(error) {
        Some(Which::Pretrained) => Some(0),
        Some(Which::FineTuned(index)) => Some(index + 1),
        None => None,
    };
    match at.and_then(|at| pulled.get(at)) {
        Some(pulled) => pulled.record.input.clone(),
        None => "these checkpoints".to_owned(),
    }
}

fn checkpoint_of(error: &AnalysisError) -> Option<Which> {
    match error {
        AnalysisError::DuplicateLayer { checkpoint, .. }
        | AnalysisError::MissingLayer { checkpoint, .. }
        | AnalysisError::ExtraLayer { checkpoint, .. }
        | AnalysisError::ShapeMismatch { checkpoint, .. }
        | AnalysisError::DtypeMismatch { checkpoint, .. }
        | AnalysisError::NotFloat { checkpoint, .. }
        | AnalysisError::NonFinite { checkpoint, .. }
        | AnalysisError::Damaged { checkpoint, .. }
        | AnalysisError::Read { checkpoint, .. } => Some(*checkpoint),
        AnalysisError::InLayer { source, .. } => checkpoint_of(source),
        _ => None,
    }
}

pub(super) fn record(
    options: &FitOptions,
    pulled: &[Pulled],
    Computed { layers, fits, backend }: &Computed,
) -> Result<FitRecord, AppError> {
    let (model, dataset) = options.names();
    let mut inputs = pulled.iter().map(|pulled| pulled.record.clone());
    let pretrained = inputs.next().ok_or(AppError::Worker { what: "the fit" })?;
    let skipped = layers.skipped.iter().map(|skipped| SkippedTensor {
        tensor: skipped.name.clone(),
        dtype: skipped.dtype.name().to_owned(),
        reason: skipped.reason.to_string(),
    });
    Ok(FitRecord {
        schema: FIT_SCHEMA.to_owned(),
        created_at: Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        program: concat!("wandb-pca ", env!("CARGO_PKG_VERSION")).to_owned(),
        model,
        dataset,
        pretrained,
        finetuned: inputs.collect(),
        layer_globs: options.layer_globs.clone(),
        key: options.key.clone(),
        null_draws: Some(options.null_draws),
        backend: Some(backend.clone()),
        totals: totals(fits),
        layers: fits
            .iter()
            .map(|fit| LayerRecord {
                name: fit.layer.name.clone(),
                dtype: fit.layer.dtype.name().to_owned(),
                shape: fit.layer.shape.clone(),
            })
            .collect(),
        skipped: skipped.collect(),
    })
}

pub(super) fn totals(fits: &[LayerFit]) -> Totals {
    let parameters = |fits: &mut dyn Iterator<Item = &LayerFit>| fits.map(|fit| fit.layer.parameters as u64).sum();
    let degenerate = || fits.iter().filter(|fit| fit.pca.is_degenerate());
    let squares = fits.iter().map(|fit| {
        let norms = Similarity::of(&fit.gram).norms();
        norms.iter().map(|norm| norm * norm).sum::<f64>() / norms.len() as f64
    });
    Totals {
        layers: fits.len(),
        parameters: parameters(&mut fits.iter()),
        degenerate_layers: degenerate().count(),
        degenerate_parameters: parameters(&mut degenerate()),
        total_variance: fits.iter().map(|fit| fit.pca.total_variance()).sum(),
        mean_squared_norm: squares.sum(),
    }
}

pub(super) fn globs(patterns: &[String]) -> Result<Option<GlobSet>, AppError> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let bad = |glob: &String| {
        let glob = glob.clone();
        move |source| AppError::Glob { glob, source }
    };
    let mut set = GlobSetBuilder::new();
    for glob in patterns {
        set.add(GlobBuilder::new(glob).build().map_err(bad(glob))?);
    }
    set.build().map(Some).map_err(bad(&patterns.join(", ")))
}

fn replace_last(text: &str, what: &str, with: &str) -> String {
    match text.rfind(what) {
        Some(at) => format!("{}{with}{}", &text[..at], &text[at + what.len()..]),
        None => text.to_owned(),
    }
}

/// Rows of one Gram by what they are called: the seed, or the input.
pub fn labels(record: &FitRecord) -> Vec<String> {
    record.finetuned.iter().map(InputRecord::label).collect()
}
