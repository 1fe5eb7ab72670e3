//! How fast and how small is a fit of ViT-B/16-size checkpoints? A program that prints wall time and peak private memory
//! beside the floor of reading every byte once, and beside the notebook's path when given a Python with torch and
//! scikit-learn. Each measurement is a process of its own, page cache warm; compare only numbers of one run.
//!
//! ```text
//! cargo bench --bench fit -- [--dir FOLDER] [--python PYTHON] [--seeds N] [--repeat N] [--model vit-b-16|small]
//!                            [--curve 10,20,40,70] [--sti]
//! RUSTFLAGS="--cfg avx2_only" cargo bench --bench fit     # what CPUs without AVX-512 get
//! ```
//!
//! With `--features tch` libtorch's time on the CPU is printed beside (docs/libtorch.md).
//!
//! `--curve` measures the fit alone for several numbers of seeds: how time grows with N. `--model small --seeds 70` is the shape
//! of 7 datasets × 10 seeds. `--sti` measures singular task interference too, once, which takes minutes.
//!
//! Checkpoints are made in FOLDER where they are not there yet (4.7 GB for 10 seeds), otherwise in a temporary folder.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints its measurements")]

mod measure;
mod vit;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use rayon::prelude::*;
use wandb_pca::analysis::{
    AnalysisError, Backend, BuiltIn, Combination, DtypeRule, Headline, LayerFit, Measure, TaskVectors, TensorInfo,
    align, fit_layers, jackknife, null_model,
};
use wandb_pca::checkpoint::{
    Checkpoint, CheckpointError, NamedTensor, OpenOptions, SourceError, TensorSource, write_torch,
};
use wandb_pca::progress::{Progress, Stage};
use wandb_pca::tensor::Dtype;

use measure::{Measured, measure, worker};

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let options = Options::parse(std::env::args().skip(1))?;
    match options.worker.as_deref() {
        Some("fit") => worker(|| told(&fit(options.folder()?, options.seeds, (true, Measure::Gram))?)),
        Some("fit-unchecked") => worker(|| told(&fit(options.folder()?, options.seeds, (false, Measure::Gram))?)),
        #[cfg(feature = "tch")]
        Some("fit-libtorch") => {
            let torch = wandb_pca::libtorch::Torch::on(wandb_pca::libtorch::Device::Cpu)?;
            worker(|| told(&fit_by(&torch, options.folder()?, options.seeds, (false, Measure::Gram))?))
        }
        Some("fit-sure") => worker(|| sure(options.folder()?, options.seeds)),
        Some("interference") => {
            worker(|| told(&fit(options.folder()?, options.seeds, (false, Measure::Interference))?))
        }
        Some("sti") => worker(|| told(&fit(options.folder()?, options.seeds, (false, Measure::SingularInterference))?)),
        Some("sample") => worker(|| sample(options.folder()?, options.seeds)),
        Some("floor") => worker(|| floor(options.folder()?, options.seeds)),
        Some(other) => Err(format!("no such worker: {other}").into()),
        None if options.curve.is_empty() => compare(&options),
        None => curve(&options),
    }
}

#[derive(Debug)]
struct Options {
    dir: Option<PathBuf>,
    python: Option<PathBuf>,
    seeds: usize,
    repeat: usize,
    small: bool,
    sti: bool,
    curve: Vec<usize>,
    worker: Option<String>,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let (curve, worker) = (Vec::new(), None);
        let mut options =
            Self { dir: None, python: None, seeds: 10, repeat: 5, small: false, sti: false, curve, worker };
        while let Some(flag) = args.next() {
            // What cargo itself passes.
            if flag == "--bench" {
                continue;
            }
            if flag == "--sti" {
                options.sti = true;
                continue;
            }
            let value = args.next().ok_or_else(|| format!("{flag} needs a value"))?;
            match flag.as_str() {
                "--dir" => options.dir = Some(value.into()),
                "--python" => options.python = Some(value.into()),
                "--seeds" => options.seeds = value.parse()?,
                "--repeat" => options.repeat = value.parse::<usize>()?.max(1),
                "--model" => options.small = value == "small",
                "--curve" => options.curve = value.split(',').map(str::parse).collect::<Result<_, _>>()?,
                "--worker" => options.worker = Some(value),
                _ => return Err(format!("unknown flag {flag}").into()),
            }
        }
        Ok(options)
    }

    fn folder(&self) -> Result<&Path, Failure> {
        Ok(self.dir.as_deref().ok_or("a worker needs --dir")?)
    }
}

fn paths(dir: &Path, seeds: usize) -> Vec<PathBuf> {
    let seeds = (0..seeds).map(|seed| dir.join(format!("seed_{seed}.ckpt")));
    std::iter::once(dir.join("pretrained.ckpt")).chain(seeds).collect()
}

/// The two errors that fitting files can end with.
#[derive(Debug)]
enum FitError {
    Analysis(AnalysisError),
    Checkpoint(CheckpointError),
}

impl std::fmt::Display for FitError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Analysis(error) => error.fmt(f),
            Self::Checkpoint(error) => error.fmt(f),
        }
    }
}

impl Error for FitError {}

impl From<AnalysisError> for FitError {
    fn from(error: AnalysisError) -> Self {
        Self::Analysis(error)
    }
}

impl From<CheckpointError> for FitError {
    fn from(error: CheckpointError) -> Self {
        Self::Checkpoint(error)
    }
}

fn open(dir: &Path, seeds: usize, verify_crc: bool) -> Result<Vec<Checkpoint>, Failure> {
    let mut options = OpenOptions::default();
    options.verify_crc = verify_crc;
    let open = |path: &PathBuf| Checkpoint::open(path, &options);
    Ok(paths(dir, seeds).iter().map(open).collect::<Result<_, _>>()?)
}

/// Every layer's PCA.
fn fit(dir: &Path, seeds: usize, how: (bool, Measure)) -> Result<Vec<LayerFit>, Failure> {
    fit_by(&BuiltIn, dir, seeds, how)
}

fn fit_by(
    backend: &dyn Backend,
    dir: &Path,
    seeds: usize,
    (verify_crc, measure): (bool, Measure),
) -> Result<Vec<LayerFit>, Failure> {
    let checkpoints = open(dir, seeds, verify_crc)?;
    let (pretrained, fine_tuned) = checkpoints.split_first().ok_or("no checkpoints")?;
    let infos = |checkpoint: &'_ Checkpoint| -> Vec<(String, Dtype, Vec<usize>)> {
        checkpoint.tensors().iter().map(|t| (t.name.clone(), t.dtype, t.shape.clone())).collect()
    };
    let lists: Vec<_> = checkpoints.iter().map(infos).collect();
    let views: Vec<Vec<TensorInfo<'_>>> = lists
        .iter()
        .map(|list| list.iter().map(|(name, dtype, shape)| TensorInfo { name, dtype: *dtype, shape }).collect())
        .collect();
    let layers = align(&views[0], &views[1..], DtypeRule::Same)?;
    let task = Progress::silent().begin(Stage::Compute, "fit", None);
    Ok(fit_layers(
        &layers.layers,
        |layer| {
            let view = |checkpoint| Checkpoint::tensor_to_compare(checkpoint, &layer.name);
            let seeds = fine_tuned.iter().map(view).collect::<Result<_, CheckpointError>>()?;
            Ok::<_, FitError>(TaskVectors::new(&*layer.name, view(pretrained)?, seeds)?)
        },
        (backend, measure, &task),
    )?)
}

/// The variances, so that nothing is optimised away and the paths can be compared.
fn told(fits: &[LayerFit]) -> Result<serde_json::Value, Failure> {
    let variances = fits.iter().map(|fit| (fit.layer.name.clone(), serde_json::json!(fit.pca.total_variance())));
    Ok(serde_json::Value::Object(variances.collect()))
}

/// The fit with what the command adds by default: jackknife and a hundred draws of the null model for every layer.
fn sure(dir: &Path, seeds: usize) -> Result<serde_json::Value, Failure> {
    let fits = fit(dir, seeds, (false, Measure::Gram))?;
    let headlines = [Headline::TotalVariance, Headline::FirstRatio, Headline::EffectiveRank];
    fits.par_iter().try_for_each(|fit| {
        jackknife(&fit.gram, &headlines)?;
        null_model(&fit.gram, &headlines, (100, 0)).map(drop)
    })?;
    told(&fits)
}

/// A model that is the mean of the seeds, written beside them: n + 1 files read, one written.
fn sample(dir: &Path, seeds: usize) -> Result<serde_json::Value, Failure> {
    let checkpoints = open(dir, seeds, false)?;
    let (pretrained, fine_tuned) = checkpoints.split_first().ok_or("no checkpoints")?;
    let layers: Vec<_> = pretrained.tensors().iter().map(|tensor| tensor.name.clone()).collect();
    let vectors = layers.iter().map(|layer| {
        let seeds = fine_tuned.iter().map(|c| c.tensor(layer)).collect::<Result<_, CheckpointError>>()?;
        Ok(TaskVectors::new(&**layer, pretrained.tensor(layer)?, seeds)?)
    });
    let vectors = vectors.collect::<Result<Vec<_>, Failure>>()?;
    let weights = vec![1.0 / seeds as f64; seeds];
    let combined = vectors.iter().zip(pretrained.tensors()).map(|(vectors, tensor)| {
        let combination = Combination::new(vectors, weights.clone(), tensor.dtype)?;
        Ok(Combined { combination, dtype: tensor.dtype, shape: tensor.shape.clone() })
    });
    let combined = combined.collect::<Result<Vec<_>, Failure>>()?;
    let named: Vec<_> = layers.iter().zip(&combined).map(|(name, source)| NamedTensor::new(name, source)).collect();
    let path = dir.join("sample.ckpt");
    let mut file = std::io::BufWriter::with_capacity(1 << 20, std::fs::File::create(&path)?);
    write_torch(&mut file, &named)?;
    drop(file);
    let bytes = std::fs::metadata(&path)?.len();
    std::fs::remove_file(&path)?;
    Ok(serde_json::json!({ "bytes": bytes }))
}

struct Combined<'v> {
    combination: Combination<'v, 'v>,
    dtype: Dtype,
    shape: Vec<usize>,
}

impl TensorSource for Combined<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn read_le_bytes(&self, start: usize, out: &mut [u8]) -> Result<(), SourceError> {
        Ok(self.combination.fill(start, out)?)
    }
}

/// The fit for several numbers of seeds of one set of files.
fn curve(options: &Options) -> Result<(), Failure> {
    let scratch = tempfile::tempdir()?;
    let dir = options.dir.clone().unwrap_or_else(|| scratch.path().to_owned());
    std::fs::create_dir_all(&dir)?;
    let most = options.curve.iter().copied().max().unwrap_or(2);
    make(&dir, &Options { seeds: most, dir: None, python: None, worker: None, curve: Vec::new(), ..*options })?;
    let program = std::env::current_exe()?;
    println!("{} rayon threads, page cache warm, medians of {}", rayon::current_num_threads(), options.repeat);
    for &seeds in &options.curve {
        let worker = |which: &str| {
            let mut command = Command::new(&program);
            command.args(["--worker", which, "--seeds", &seeds.to_string(), "--dir"]).arg(&dir);
            command
        };
        measure(1, || worker("floor"))?;
        let (floor, fit) =
            (measure(options.repeat, || worker("floor"))?, measure(options.repeat, || worker("fit-unchecked"))?);
        let seconds = fit.inner();
        println!(
            "{seeds:>4} seeds {seconds:>9.4} s, {:.2} times the floor, {:.3} ms a seed, {:.4} ms a pair of seeds, {:.1} MB private",
            seconds / floor.inner(),
            1e3 * seconds / seeds as f64,
            2e3 * seconds / (seeds * (seeds + 1)) as f64,
            fit.peak as f64 / 1e6,
        );
    }
    Ok(())
}

/// Reads every byte of every tensor once, in place, and does no more than add them up.
fn floor(dir: &Path, seeds: usize) -> Result<serde_json::Value, Failure> {
    let checkpoints = open(dir, seeds, false)?;
    let mut views = Vec::new();
    for checkpoint in &checkpoints {
        for tensor in checkpoint.tensors() {
            views.push(checkpoint.tensor(&tensor.name)?);
        }
    }
    let sum: u32 = views
        .par_iter()
        .flat_map(|view| view.as_f32().unwrap_or_default().par_chunks(1 << 16))
        .map(|chunk| chunk.iter().fold(0u32, |sum, x| sum.wrapping_add(x.to_bits())))
        .reduce(|| 0, u32::wrapping_add);
    Ok(serde_json::json!({ "sum": sum }))
}

fn make(dir: &Path, options: &Options) -> Result<(), Failure> {
    println!("{} files in {}", options.seeds + 1, dir.display());
    paths(dir, options.seeds)
        .par_iter()
        .enumerate()
        .try_for_each(|(file, path)| vit::make(path, options.small, (file as u64).checked_sub(1), write_torch))
}

fn compare(options: &Options) -> Result<(), Failure> {
    let scratch = tempfile::tempdir()?;
    let dir = options.dir.clone().unwrap_or_else(|| scratch.path().to_owned());
    std::fs::create_dir_all(&dir)?;
    make(&dir, options)?;
    let program = std::env::current_exe()?;
    let seeds = options.seeds.to_string();
    let worker = |which: &str| {
        let mut command = Command::new(&program);
        command.args(["--worker", which, "--seeds", &seeds, "--dir"]).arg(&dir);
        command
    };
    // The first run brings the files into the page cache.
    measure(1, || worker("floor"))?;
    let floor = measure(options.repeat, || worker("floor"))?;
    let fit = measure(options.repeat, || worker("fit"))?;
    println!("{} rayon threads, page cache warm, medians of {}", rayon::current_num_threads(), options.repeat);
    floor.print("floor: read every byte once");
    let unchecked = measure(options.repeat, || worker("fit-unchecked"))?;
    unchecked.print("fit without checking CRC-32");
    fit.print("fit: CRC-32 and PCA of every layer");
    if cfg!(feature = "tch") {
        let libtorch = measure(options.repeat, || worker("fit-libtorch"))?;
        libtorch.print("fit by libtorch on the CPU, no CRC-32");
        println!("libtorch / built-in = {:.2}, its start included", libtorch.median() / unchecked.median());
        println!("libtorch / built-in = {:.2}, the fit alone", libtorch.inner() / unchecked.inner());
    }
    let ratio = |path: &Measured| path.median() / floor.median();
    println!("fit / floor = {:.2}, without CRC-32 {:.2}", ratio(&fit), ratio(&unchecked));
    measure(options.repeat, || worker("fit-sure"))?.print("fit, jackknife and null model");
    measure(options.repeat.min(3), || worker("interference"))?.print("fit, signs and largest parameters");
    if options.sti {
        measure(1, || worker("sti"))?.print("the same and singular task interference");
    }
    measure(options.repeat.min(3), || worker("sample"))?.print("sample: the mean, one file written");
    let Some(python) = &options.python else {
        println!("the notebook's path was not measured: give --python a Python with torch and scikit-learn");
        return Ok(());
    };
    let script = scratch.path().join("notebook.py");
    std::fs::write(&script, include_str!("notebook.py"))?;
    let notebook = measure(1, || {
        let mut command = Command::new(python);
        command.arg(&script).arg(&dir).arg(&seeds);
        command
    })?;
    notebook.print("notebook: torch.load, sklearn PCA");
    let told = |key: &str| notebook.output[key].as_str().unwrap_or("?").to_owned();
    let seconds = |key: &str| notebook.output[key].as_f64().unwrap_or(f64::NAN);
    println!("  torch {}, scikit-learn {}", told("torch"), told("sklearn"));
    let [import, load, subtract, pca] = ["import_s", "load_s", "subtract_s", "pca_s"].map(seconds);
    println!("  import {import:.1}, load {load:.1}, subtract {subtract:.1}, PCA {pca:.1} s");
    println!("notebook / fit = {:.0}", notebook.median() / fit.median());
    println!("memory: notebook / fit = {:.0}", notebook.peak as f64 / fit.peak.max(1) as f64);
    println!("largest relative difference of a layer's total variance: {:.1e}", disagreement(&fit, &notebook));
    Ok(())
}

/// Between the two paths; the notebook works in `f32`.
fn disagreement(fit: &Measured, notebook: &Measured) -> f64 {
    let ours = fit.output["result"].as_object().into_iter().flatten();
    let pairs = ours.filter_map(|(name, ours)| Some((ours.as_f64()?, notebook.output["variance"][name].as_f64()?)));
    pairs.filter(|&(ours, _)| ours > 0.0).map(|(ours, theirs)| (theirs / ours - 1.0).abs()).fold(0.0, f64::max)
}
