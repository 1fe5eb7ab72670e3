//! Fits of several datasets, made whenever, set against each other. What a fit keeps says nothing of how its task vectors
//! lie to another's, so the checkpoints are read again in one pass that makes only the products between fits; these are
//! kept, so that no pass is made twice.

use std::collections::HashMap;
use std::path::PathBuf;

use globset::GlobSet;
use jiff::Timestamp;

use crate::analysis::{Gram, Layer, LayerFit, Pca, join_grams};
use crate::checkpoint::Checkpoint;
use crate::progress::{Progress, Stage};

use super::blocking::run_blocking;
use super::comparison::{COMPARE_SCHEMA, CompareRecord, ComparedFit, Comparison, JointLayer, KnownGrams};
use super::device::Device;
use super::error::AppError;
use super::fit::{Trouble, globs, open, subject_of, task_vectors};
use super::fit_record::{InputRecord, LayerRecord};
use super::fit_source::{FitSource, OpenedFit, open_fits};
use super::pull::Pulled;
use super::reopen::reopen;
use super::session::Session;

/// What to compare.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CompareOptions {
    /// The fits, in the order of the rows of every joint Gram.
    pub fits: Vec<FitSource>,
    /// Where the comparison goes.
    pub folder: PathBuf,
    /// How many components of each fit are compared; all with variance otherwise.
    pub components: Option<usize>,
    /// Globs over layer names; all layers when empty.
    pub layer_globs: Vec<String>,
}

impl CompareOptions {
    /// A comparison of these fits into `folder`, everything else by default.
    pub fn new(fits: Vec<FitSource>, folder: impl Into<PathBuf>) -> Self {
        Self { fits, folder: folder.into(), components: None, layer_globs: Vec::new() }
    }
}

/// A comparison that was made and written.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CompareOutcome {
    /// The comparison.
    pub comparison: Comparison,
    /// The fits, in its order.
    pub fits: Vec<OpenedFit>,
    /// Where it is.
    pub folder: PathBuf,
    /// Whether checkpoints were read; not where an earlier comparison in the folder had all products.
    pub read: bool,
}

/// Compares fits and writes the comparison to its folder.
///
/// # Errors
/// [`AppError`]: a fit that is none, [`AppError::NotComparable`], checkpoints that are gone or changed. Nothing is written
/// then.
pub async fn compare(session: &Session, options: CompareOptions) -> Result<CompareOutcome, AppError> {
    let select = globs(&options.layer_globs)?;
    session.device.check()?;
    let fits = open_fits(session, &options.fits).await?;
    let mut plan = Plan::new(&fits, &options, select.as_ref())?;
    let pulled = match plan.is_known() {
        true => Vec::new(),
        false => reopen(session, &plan.record.inputs().collect::<Vec<_>>()).await?,
    };
    let (progress, device) = (session.progress.clone(), session.device);
    let folder = options.folder;
    run_blocking("the comparison", move || {
        let read = !plan.is_known();
        let grams = plan.grams(&fits, &pulled, (device, &progress))?;
        let comparison = plan.finish(&fits, grams)?;
        comparison.write(&folder)?;
        Ok(CompareOutcome { comparison, fits, folder, read })
    })
    .await
}

/// What is to be compared, and how much of it is known.
struct Plan {
    record: CompareRecord,
    layers: Vec<Layer>,
    /// An earlier comparison of the first fits.
    known: Option<KnownGrams>,
}

impl Plan {
    fn new(fits: &[OpenedFit], options: &CompareOptions, select: Option<&GlobSet>) -> Result<Self, AppError> {
        let [first, _, ..] = fits else {
            return Err(not_comparable(format!("it takes two fits at least, and there is {}", fits.len())));
        };
        for other in fits {
            same_pretrained(first, other)?;
        }
        let (layers, left_out) = shared_layers(fits, select);
        if layers.is_empty() {
            return Err(not_comparable("they have no layer in common that is selected".to_owned()));
        }
        let record = CompareRecord {
            schema: COMPARE_SCHEMA.to_owned(),
            created_at: Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            program: concat!("wandb-pca ", env!("CARGO_PKG_VERSION")).to_owned(),
            model: first.fit.record.model.clone(),
            pretrained: first.fit.record.pretrained.clone(),
            datasets: compared(fits, &options.fits),
            components: options.components,
            backend: None,
            layer_globs: options.layer_globs.clone(),
            layers: layers.iter().map(layer_record).collect(),
            left_out,
        };
        let known = KnownGrams::read(&options.folder).ok();
        // One that cannot be used is made anew.
        let known = known.filter(|known| starts_with(&record, &known.record));
        let known = known.filter(|known| layers.iter().all(|layer| known.gram(layer).is_some()));
        Ok(Self { record, layers, known })
    }

    /// Whether no checkpoint has to be read.
    fn is_known(&self) -> bool {
        let known = self.known.as_ref().map_or(0, |known| known.record.datasets.len());
        known == self.record.datasets.len()
    }

    /// The Gram of each layer over all fits.
    fn grams(
        &mut self,
        fits: &[OpenedFit],
        pulled: &[Pulled],
        (device, progress): (Device, &Progress),
    ) -> Result<Vec<Gram>, AppError> {
        if let (true, Some(known)) = (self.is_known(), &self.known) {
            self.record.backend.clone_from(&known.record.backend);
            return Ok(self.layers.iter().filter_map(|layer| known.gram(layer).cloned()).collect());
        }
        let keys = std::iter::once(0).chain(
            fits.iter().enumerate().flat_map(|(at, fit)| std::iter::repeat_n(at, fit.fit.record.finetuned.len())),
        );
        let backend = device.backend(self.record.inputs().count().saturating_sub(1))?;
        self.record.backend = Some(backend.name());
        let key = |fit: usize| fits.get(fit).and_then(|fit| fit.fit.record.key.clone());
        let checkpoints = pulled.iter().zip(keys).map(|(pulled, fit)| open(pulled, key(fit)));
        let checkpoints = checkpoints.collect::<Result<Vec<_>, _>>()?;
        let bytes: u64 = self.layers.iter().map(|layer| (layer.parameters * layer.dtype.size()) as u64).sum();
        let task = progress.begin(Stage::Compute, "task vectors", Some(bytes * checkpoints.len() as u64));
        let fitted: Vec<HashMap<&str, &LayerFit>> = fits.iter().map(|fit| by_name(&fit.fit.layers)).collect();
        let layers: Vec<(&Layer, Vec<&Gram>)> =
            self.layers.iter().map(|layer| (layer, self.known_of(layer, &fitted))).collect();
        let open_layer = |layer: &Layer| task_vectors(&checkpoints, pulled, (layer, Checkpoint::tensor_to_compare));
        let joined = join_grams(&layers, open_layer, (&*backend, &task));
        joined.map_err(|trouble| match trouble {
            Trouble::Read(error) => error,
            Trouble::Numbers(source) => AppError::Analysis { subject: subject_of(&source, pulled), source },
        })
    }

    /// The Grams that are known of consecutive rows: of an earlier comparison, then of each further fit.
    fn known_of<'k>(&'k self, layer: &Layer, fitted: &[HashMap<&str, &'k LayerFit>]) -> Vec<&'k Gram> {
        let earlier = self.known.as_ref().and_then(|known| Some((known.gram(layer)?, known.record.datasets.len())));
        let done = earlier.map_or(0, |(_, done)| done);
        let rest = fitted.iter().skip(done).filter_map(|fit| fit.get(layer.name.as_str()).map(|fit| &fit.gram));
        earlier.map(|(gram, _)| gram).into_iter().chain(rest).collect()
    }

    fn finish(self, fits: &[OpenedFit], grams: Vec<Gram>) -> Result<Comparison, AppError> {
        let fitted: Vec<HashMap<&str, &LayerFit>> = fits.iter().map(|fit| by_name(&fit.fit.layers)).collect();
        let layers = self.layers.into_iter().zip(grams).map(|(layer, gram)| {
            let of_fits: Vec<Pca> =
                fitted.iter().filter_map(|fit| fit.get(layer.name.as_str()).map(|fit| fit.pca.clone())).collect();
            JointLayer { layer, gram, fits: of_fits }
        });
        let layers = layers.collect();
        Comparison::new(self.record, layers)
    }
}

fn by_name(layers: &[LayerFit]) -> HashMap<&str, &LayerFit> {
    layers.iter().map(|fit| (fit.layer.name.as_str(), fit)).collect()
}

fn layer_record(layer: &Layer) -> LayerRecord {
    LayerRecord { name: layer.name.clone(), dtype: layer.dtype.name().to_owned(), shape: layer.shape.clone() }
}

/// The layers that every fit has in one shape and that are selected, in the order of the first; and the names of those
/// that are selected but not in all fits.
fn shared_layers(fits: &[OpenedFit], select: Option<&GlobSet>) -> (Vec<Layer>, Vec<String>) {
    let mut seen: HashMap<(&str, &[usize]), usize> = HashMap::new();
    let mut order: Vec<&Layer> = Vec::new();
    for layer in fits.iter().flat_map(|fit| &fit.fit.layers).map(|fit| &fit.layer) {
        if select.is_some_and(|globs| !globs.is_match(&layer.name)) {
            continue;
        }
        let count = seen.entry((&layer.name, &layer.shape)).or_default();
        *count += 1;
        if *count == 1 {
            order.push(layer);
        }
    }
    let in_all = |layer: &&&Layer| seen.get(&(layer.name.as_str(), layer.shape.as_slice())) == Some(&fits.len());
    let (shared, others): (Vec<&&Layer>, Vec<&&Layer>) = order.iter().partition(in_all);
    let mut left_out: Vec<String> = others.into_iter().map(|layer| layer.name.clone()).collect();
    left_out.dedup();
    (shared.into_iter().map(|layer| (*layer).clone()).collect(), left_out)
}

/// The fits with names that tell them apart.
fn compared(fits: &[OpenedFit], sources: &[FitSource]) -> Vec<ComparedFit> {
    let own = |opened: &OpenedFit| {
        let record = &opened.fit.record;
        record.dataset.clone().unwrap_or_else(|| record.model.clone())
    };
    let mut taken: HashMap<String, usize> = HashMap::new();
    let mut compared = Vec::with_capacity(fits.len());
    for (opened, source) in fits.iter().zip(sources) {
        let name = own(opened);
        let times = taken.entry(name.clone()).or_default();
        *times += 1;
        let artifact = opened.artifact.as_ref().map(|artifact| artifact.name().to_string());
        compared.push(ComparedFit {
            name: if *times == 1 { name } else { format!("{name} ({times})") },
            fit: artifact.clone().unwrap_or_else(|| source.to_string()),
            artifact,
            created_at: opened.fit.record.created_at.clone(),
            finetuned: opened.fit.record.finetuned.clone(),
        });
    }
    compared
}

/// Task vectors of different pretrained models cannot be compared.
fn same_pretrained(first: &OpenedFit, other: &OpenedFit) -> Result<(), AppError> {
    let (a, b) = (&first.fit.record.pretrained, &other.fit.record.pretrained);
    if is_same_file(a, b) && first.fit.record.key == other.fit.record.key {
        return Ok(());
    }
    let name = |input: &InputRecord| input.resolved.clone().unwrap_or_else(|| input.file.display().to_string());
    Err(not_comparable(format!("one is of the pretrained checkpoint {}, another of {}", name(a), name(b))))
}

/// By what is known of the bytes: hashes, or for files that were not hashed, where they are.
fn is_same_file(a: &InputRecord, b: &InputRecord) -> bool {
    let by_hash = a.sha256.zip(b.sha256).map(|(a, b)| a == b);
    let kind = |digest: &str| digest.split_once(':').map(|(kind, _)| kind.to_owned());
    let digests = a.digest.as_deref().zip(b.digest.as_deref());
    // Two kinds of digest say nothing about each other.
    let by_digest = digests.filter(|(a, b)| kind(a) == kind(b)).map(|(a, b)| a == b);
    let by_place = a.resolved.is_none() && b.resolved.is_none() && a.file == b.file;
    a.size == b.size && by_hash.or(by_digest).unwrap_or(by_place)
}

/// Whether `earlier` compared the first of these fits.
fn starts_with(record: &CompareRecord, earlier: &CompareRecord) -> bool {
    let rows = |fits: &[ComparedFit]| fits.iter().map(|fit| fit.finetuned.clone()).collect::<Vec<_>>();
    let first = record.datasets.get(..earlier.datasets.len());
    let hashed = earlier.inputs().all(|input| input.sha256.is_some() || input.digest.is_some());
    hashed
        && is_same_file(&record.pretrained, &earlier.pretrained)
        && first.is_some_and(|first| rows(first) == rows(&earlier.datasets))
}

fn not_comparable(reason: String) -> AppError {
    AppError::NotComparable { reason }
}
