//! How fast and how small is reading one ViT-B/16-size checkpoint? A program that prints, for listing the tensors and
//! for adding up every element in f64, the time inside the process and its private memory, beside `pytorch-reader`, the
//! `safetensors` crate and, when given a Python with them, `torch.load` and `safe_open`. Page cache warm; compare only
//! numbers of one run. The time leaves out the start of the process, which for Python is the import of torch.
//!
//! ```text
//! cargo bench --bench checkpoint -- [--dir FOLDER] [--python PYTHON] [--repeat N] [--model vit-b-16|small]
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints its measurements")]

mod measure;
mod vit;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use wandb_pca::checkpoint::{Checkpoint, OpenOptions, write_safetensors, write_torch};

use measure::{Measured, measure, worker};

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let options = Options::parse(std::env::args().skip(1))?;
    let folder = || options.dir.clone().ok_or("a worker needs --dir");
    match options.worker.as_deref() {
        None => compare(&options),
        Some(which) => {
            let (what, reader) = which.split_once('-').ok_or("a worker is what-reader")?;
            let dir = folder()?;
            worker(|| work(what, reader, &dir))
        }
    }
}

#[derive(Debug)]
struct Options {
    dir: Option<PathBuf>,
    python: Option<PathBuf>,
    repeat: usize,
    small: bool,
    worker: Option<String>,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut options = Self { dir: None, python: None, repeat: 5, small: false, worker: None };
        while let Some(flag) = args.next() {
            // What cargo itself passes.
            if flag == "--bench" {
                continue;
            }
            let value = args.next().ok_or_else(|| format!("{flag} needs a value"))?;
            match flag.as_str() {
                "--dir" => options.dir = Some(value.into()),
                "--python" => options.python = Some(value.into()),
                "--repeat" => options.repeat = value.parse::<usize>()?.max(1),
                "--model" => options.small = value == "small",
                "--worker" => options.worker = Some(value),
                _ => return Err(format!("unknown flag {flag}").into()),
            }
        }
        Ok(options)
    }
}

fn torch_file(dir: &Path) -> PathBuf {
    dir.join("pretrained.ckpt")
}

fn safetensors_file(dir: &Path) -> PathBuf {
    dir.join("pretrained.safetensors")
}

fn work(what: &str, reader: &str, dir: &Path) -> Result<Value, Failure> {
    match (what, reader) {
        (_, "ours-torch") => ours(what, &torch_file(dir), true),
        (_, "ours-torch-unchecked") => ours(what, &torch_file(dir), false),
        (_, "ours-safetensors") => ours(what, &safetensors_file(dir), true),
        (_, "pytorch-reader") => pytorch_reader(what, &torch_file(dir)),
        (_, "safetensors-crate") => safetensors_crate(what, &safetensors_file(dir)),
        _ => Err(format!("no such worker: {what} {reader}").into()),
    }
}

fn ours(what: &str, path: &Path, verify_crc: bool) -> Result<Value, Failure> {
    let mut options = OpenOptions::default();
    options.verify_crc = verify_crc;
    let checkpoint = Checkpoint::open(path, &options)?;
    let mut sum = 0.0;
    if what == "sum" {
        let mut block = vec![0.0; 4096];
        for info in checkpoint.tensors() {
            let view = checkpoint.tensor(&info.name)?;
            for start in (0..view.len()).step_by(block.len()) {
                let count = block.len().min(view.len() - start);
                view.read_f64(start, &mut block[..count])?;
                sum += block[..count].iter().sum::<f64>();
            }
        }
    }
    Ok(json!({ "found": checkpoint.tensors().len(), "sum": sum }))
}

fn pytorch_reader(what: &str, path: &Path) -> Result<Value, Failure> {
    let reader = pytorch_reader::PytorchReader::new(path)?;
    let (mut found, mut sum) = (0, 0.0);
    for name in reader.keys() {
        let Some(tensor) = reader.get(&name) else { continue };
        found += 1;
        if what == "sum" {
            sum += sum_f32(&tensor.read()?);
        }
    }
    Ok(json!({ "found": found, "sum": sum }))
}

fn safetensors_crate(what: &str, path: &Path) -> Result<Value, Failure> {
    let bytes = std::fs::read(path)?;
    let opened = safetensors::SafeTensors::deserialize(&bytes)?;
    let mut sum = 0.0;
    if what == "sum" {
        for (_, tensor) in opened.tensors() {
            sum += sum_f32(tensor.data());
        }
    }
    Ok(json!({ "found": opened.len(), "sum": sum }))
}

fn sum_f32(bytes: &[u8]) -> f64 {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).sum()
}

const OURS: [(&str, &str); 3] = [
    ("ours-torch", "ours: torch, CRC-32 checked"),
    ("ours-torch-unchecked", "ours: torch, verified by digest"),
    ("ours-safetensors", "ours: safetensors"),
];
const CRATES: [(&str, &str); 2] =
    [("pytorch-reader", "pytorch-reader: torch"), ("safetensors-crate", "safetensors: file read to memory")];
const PYTHONS: [(&str, &str); 3] = [
    ("torch", "torch.load(weights_only=True)"),
    ("torch-mmap", "torch.load(…, mmap=True)"),
    ("safetensors", "safetensors.safe_open"),
];

fn compare(options: &Options) -> Result<(), Failure> {
    let scratch = tempfile::tempdir()?;
    let dir = options.dir.clone().unwrap_or_else(|| scratch.path().to_owned());
    std::fs::create_dir_all(&dir)?;
    vit::make(&torch_file(&dir), options.small, None, write_torch)?;
    vit::make(&safetensors_file(&dir), options.small, None, write_safetensors)?;
    let script = scratch.path().join("checkpoint.py");
    std::fs::write(&script, include_str!("checkpoint.py"))?;
    let program = std::env::current_exe()?;
    println!("page cache warm, medians of {}", options.repeat);
    for (what, title) in [("list", "list the tensors"), ("sum", "add up every element in f64")] {
        println!("\n{title}");
        let run = |reader: &str| {
            let worker = format!("{what}-{reader}");
            measure(options.repeat, || {
                let mut command = Command::new(&program);
                command.args(["--worker", &worker, "--dir"]).arg(&dir);
                command
            })
        };
        let best = run("ours-torch")?;
        for (reader, name) in OURS.into_iter().chain(CRATES) {
            line(name, &run(reader)?, &best);
        }
        let Some(python) = &options.python else { continue };
        for (reader, name) in PYTHONS {
            let file = if reader == "safetensors" { safetensors_file(&dir) } else { torch_file(&dir) };
            let measured = measure(options.repeat, || {
                let mut command = Command::new(python);
                command.arg(&script).arg(format!("{what}-{reader}")).arg(&file);
                command
            })?;
            line(name, &measured, &best);
        }
    }
    if options.python.is_none() {
        println!("\ntorch.load was not measured: give --python a Python with torch and safetensors");
    }
    Ok(())
}

fn line(name: &str, measured: &Measured, ours: &Measured) {
    measured.print(name);
    println!("{:<36} {:>9.2} × ours inside", "", measured.inner() / ours.inner());
}
