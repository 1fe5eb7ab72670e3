//! How fast and how small is a fit of ViT-B/16-size checkpoints? A program that prints wall time and peak private memory
//! beside the floor of reading every byte once, and beside the notebook's path when given a Python with torch and
//! scikit-learn. Each measurement is a process of its own, page cache warm; compare only numbers of one run.
//!
//! ```text
//! cargo bench --bench fit -- [--dir FOLDER] [--python PYTHON] [--seeds N] [--repeat N] [--model vit-b-16|small]
//! ```
//!
//! Checkpoints are made in FOLDER where they are not there yet (4.7 GB for 10 seeds), otherwise in a temporary folder.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints its measurements")]

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rayon::prelude::*;
use wandb_pca::analysis::{AnalysisError, DtypeRule, LayerFit, TaskVectors, TensorInfo, align, fit_layers};
use wandb_pca::checkpoint::{
    Checkpoint, CheckpointError, NamedTensor, OpenOptions, SourceError, TensorSource, write_torch,
};
use wandb_pca::progress::{Progress, Stage};
use wandb_pca::tensor::Dtype;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let options = Options::parse(std::env::args().skip(1))?;
    match options.worker.as_deref() {
        Some("fit") => worker(&options, |dir, seeds| fit(dir, seeds, true)),
        Some("fit-unchecked") => worker(&options, |dir, seeds| fit(dir, seeds, false)),
        Some("floor") => worker(&options, floor),
        Some(other) => Err(format!("no such worker: {other}").into()),
        None => compare(&options),
    }
}

#[derive(Debug)]
struct Options {
    dir: Option<PathBuf>,
    python: Option<PathBuf>,
    seeds: usize,
    repeat: usize,
    small: bool,
    worker: Option<String>,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut options = Self { dir: None, python: None, seeds: 10, repeat: 5, small: false, worker: None };
        while let Some(flag) = args.next() {
            // What cargo itself passes.
            if flag == "--bench" {
                continue;
            }
            let value = args.next().ok_or_else(|| format!("{flag} needs a value"))?;
            match flag.as_str() {
                "--dir" => options.dir = Some(value.into()),
                "--python" => options.python = Some(value.into()),
                "--seeds" => options.seeds = value.parse()?,
                "--repeat" => options.repeat = value.parse::<usize>()?.max(1),
                "--model" => options.small = value == "small",
                "--worker" => options.worker = Some(value),
                _ => return Err(format!("unknown flag {flag}").into()),
            }
        }
        Ok(options)
    }
}

/// Names and shapes of CLIP ViT-B/16 as open_clip saves it, without the text blocks; `small` is an eighth as wide.
fn tensors(small: bool) -> Vec<(String, Vec<usize>)> {
    let width = if small { 96 } else { 768 };
    let text = width * 2 / 3;
    let mut list: Vec<(String, Vec<usize>)> = Vec::new();
    let mut add = |name: &str, shape: &[usize]| list.push((name.to_owned(), shape.to_vec()));
    add("positional_embedding", &[77, text]);
    add("text_projection", &[text, text]);
    add("logit_scale", &[]);
    add("visual.class_embedding", &[width]);
    add("visual.positional_embedding", &[197, width]);
    add("visual.proj", &[width, text]);
    add("visual.conv1.weight", &[width, 3, 16, 16]);
    for part in ["weight", "bias"] {
        add(&format!("visual.ln_pre.{part}"), &[width]);
    }
    for block in 0..12 {
        let name = |part: &str| format!("visual.transformer.resblocks.{block}.{part}");
        for part in ["ln_1.weight", "ln_1.bias", "ln_2.weight", "ln_2.bias"] {
            add(&name(part), &[width]);
        }
        add(&name("attn.in_proj_weight"), &[3 * width, width]);
        add(&name("attn.in_proj_bias"), &[3 * width]);
        add(&name("attn.out_proj.weight"), &[width, width]);
        add(&name("attn.out_proj.bias"), &[width]);
        add(&name("mlp.c_fc.weight"), &[4 * width, width]);
        add(&name("mlp.c_fc.bias"), &[4 * width]);
        add(&name("mlp.c_proj.weight"), &[width, 4 * width]);
        add(&name("mlp.c_proj.bias"), &[width]);
    }
    for part in ["weight", "bias"] {
        add(&format!("visual.ln_post.{part}"), &[width]);
    }
    add("token_embedding.weight", &[49_408, text]);
    for part in ["weight", "bias"] {
        add(&format!("ln_final.{part}"), &[text]);
    }
    list
}

/// Weights from a hash of their position: the pretrained model, plus a shared direction and the seed's own noise on the
/// visual side.
#[derive(Debug)]
struct Weights<'a> {
    name: &'a str,
    shape: &'a [usize],
    layer: u64,
    seed: Option<u64>,
}

/// Uniform in −1..1, from SplitMix64's finaliser.
fn noise(stream: u64, at: u64) -> f32 {
    let mut x = stream.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ at.wrapping_mul(0xd1b5_4a32_d192_ed03);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x >> 40) as f32) / (1u64 << 23) as f32 - 1.0
}

impl TensorSource for Weights<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        self.shape
    }

    fn read_le_bytes(&self, start: usize, out: &mut [u8]) -> Result<(), SourceError> {
        let moves = self.name.starts_with("visual.");
        for (offset, bytes) in out.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let at = (start + offset) as u64;
            let mut weight = 0.05 * noise(self.layer, at);
            if let Some(seed) = self.seed.filter(|_| moves) {
                weight += 5e-4 * noise(1000 + self.layer, at) + 2e-4 * noise(10_000 * (seed + 1) + self.layer, at);
            }
            *bytes = weight.to_le_bytes();
        }
        Ok(())
    }
}

fn paths(dir: &Path, seeds: usize) -> Vec<PathBuf> {
    let seeds = (0..seeds).map(|seed| dir.join(format!("seed_{seed}.ckpt")));
    std::iter::once(dir.join("pretrained.ckpt")).chain(seeds).collect()
}

fn make(dir: &Path, options: &Options) -> Result<(), Failure> {
    let list = tensors(options.small);
    let parameters: usize = list.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    if !options.small {
        assert_eq!((list.len(), parameters), (158, 111_792_129), "this is CLIP ViT-B/16 without text blocks");
    }
    println!(
        "model: {} tensors, {parameters} f32 parameters; {} files in {}",
        list.len(),
        options.seeds + 1,
        dir.display()
    );
    paths(dir, options.seeds).par_iter().enumerate().filter(|(_, path)| !path.exists()).try_for_each(|(file, path)| {
        let seed = (file as u64).checked_sub(1);
        let weights: Vec<Weights<'_>> =
            (0u64..).zip(&list).map(|(layer, (name, shape))| Weights { name, shape, layer, seed }).collect();
        let named: Vec<NamedTensor<'_>> = weights.iter().map(|w| NamedTensor::new(w.name, w)).collect();
        let partial = path.with_extension("partial");
        let mut out = BufWriter::with_capacity(1 << 20, File::create(&partial)?);
        write_torch(&mut out, &named)?;
        out.flush()?;
        std::fs::rename(partial, path)?;
        Ok::<_, Failure>(())
    })
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

/// Every layer's PCA; prints the variances, so that nothing is optimised away and the paths can be compared.
fn fit(dir: &Path, seeds: usize, verify_crc: bool) -> Result<serde_json::Value, Failure> {
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
    let fits: Vec<LayerFit> = fit_layers(
        &layers.layers,
        |layer| {
            let seeds = fine_tuned.iter().map(|c| c.tensor(&layer.name)).collect::<Result<_, CheckpointError>>()?;
            Ok::<_, FitError>(TaskVectors::new(&*layer.name, pretrained.tensor(&layer.name)?, seeds)?)
        },
        &task,
    )?;
    let variances = fits.iter().map(|fit| (fit.layer.name.clone(), serde_json::json!(fit.pca.total_variance())));
    Ok(serde_json::Value::Object(variances.collect()))
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
    let sum: u64 = views
        .par_iter()
        .flat_map(|view| view.as_f32().unwrap_or_default().par_chunks(1 << 16))
        .map(|chunk| chunk.iter().fold(0u64, |sum, x| sum.wrapping_add(u64::from(x.to_bits()))))
        .reduce(|| 0, u64::wrapping_add);
    Ok(serde_json::json!({ "sum": sum }))
}

/// Runs `work` while watching this process's anonymous memory; prints one JSON object.
fn worker(options: &Options, work: fn(&Path, usize) -> Result<serde_json::Value, Failure>) -> Result<(), Failure> {
    let dir = options.dir.as_deref().ok_or("a worker needs --dir")?;
    let (peak, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let watch = {
        let (peak, done) = (Arc::clone(&peak), Arc::clone(&done));
        std::thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                peak.fetch_max(anonymous_memory(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(1));
            }
        })
    };
    let started = Instant::now();
    let result = work(dir, options.seeds)?;
    let wall = started.elapsed().as_secs_f64();
    done.store(true, Ordering::Relaxed);
    watch.join().map_err(|_| "the memory watcher failed")?;
    peak.fetch_max(anonymous_memory(), Ordering::Relaxed);
    println!(
        "{}",
        serde_json::json!({ "inner_s": wall, "peak_bytes": peak.load(Ordering::Relaxed), "result": result })
    );
    Ok(())
}

/// `RssAnon`: private memory, without the mapped pages of the checkpoints. 0 where the system does not tell.
fn anonymous_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

struct Measured {
    wall: Vec<f64>,
    peak: u64,
    output: serde_json::Value,
}

impl Measured {
    fn median(&self) -> f64 {
        let mut sorted = self.wall.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    }

    fn print(&self, what: &str) {
        let (least, most) = self.wall.iter().fold((f64::MAX, 0f64), |(a, b), &x| (a.min(x), b.max(x)));
        let (median, megabytes) = (self.median(), self.peak as f64 / 1e6);
        println!("{what:<36} {median:>8.3} s  ({least:.3} to {most:.3})   {megabytes:>9.1} MB private at most");
    }
}

/// Runs a command `repeat` times, each as a process from start to exit.
fn measure(repeat: usize, command: impl Fn() -> Command) -> Result<Measured, Failure> {
    let mut measured = Measured { wall: Vec::new(), peak: 0, output: serde_json::Value::Null };
    for _ in 0..repeat {
        let started = Instant::now();
        let output = command().output()?;
        measured.wall.push(started.elapsed().as_secs_f64());
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        measured.output = serde_json::from_slice(&output.stdout)?;
        measured.peak = measured.peak.max(measured.output["peak_bytes"].as_u64().unwrap_or(0));
    }
    Ok(measured)
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
    let ratio = |path: &Measured| path.median() / floor.median();
    println!("fit / floor = {:.2}, without CRC-32 {:.2}", ratio(&fit), ratio(&unchecked));
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
