//! How long does a study take with one process and with two on one folder, and when it grows or shrinks by a seed? A program
//! that prints wall time of the command `study run`, from start to exit, on files, nothing logged. Page cache warm; compare
//! only numbers of one run.
//!
//! ```text
//! cargo bench --bench study -- [--dir FOLDER] [--cells N] [--seeds N] [--repeat N] [--model vit-b-16|small]
//! cargo bench --bench study -- --cells 1 --seeds 100        # where products, not reading, are the work
//! ```
//!
//! Checkpoints are made in FOLDER where they are not there yet, otherwise in a temporary folder.

#![allow(clippy::print_stdout, reason = "a program that prints its measurements")]

mod vit;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use wandb_pca::checkpoint::write_torch;

type Failure = Box<dyn Error + Send + Sync>;

struct Bench {
    dir: PathBuf,
    cells: u64,
    seeds: u64,
    repeat: usize,
    small: bool,
}

fn main() -> Result<(), Failure> {
    let (mut dir, mut cells, mut seeds, mut repeat, mut small) = (None, 4, 5, 3, true);
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        // What cargo itself passes.
        if flag == "--bench" {
            continue;
        }
        let value = args.next().ok_or_else(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--dir" => dir = Some(PathBuf::from(value)),
            "--cells" => cells = value.parse()?,
            "--seeds" => seeds = value.parse()?,
            "--repeat" => repeat = value.parse::<usize>()?.max(1),
            "--model" => small = value == "small",
            _ => return Err(format!("unknown flag {flag}").into()),
        }
    }
    let temporary = tempfile::tempdir()?;
    let dir = dir.unwrap_or_else(|| temporary.path().to_owned());
    fs::create_dir_all(&dir)?;
    let bench = Bench { dir, cells, seeds, repeat, small };
    bench.make()?;
    bench.measure()
}

impl Bench {
    fn make(&self) -> Result<(), Failure> {
        vit::make(&self.dir.join("pt.ckpt"), self.small, None, write_torch)?;
        for cell in 0..self.cells {
            for seed in 0..=self.seeds {
                let path = self.dir.join(format!("d{cell}_{seed}.ckpt"));
                vit::make(&path, self.small, Some(1000 * cell + seed), write_torch)?;
            }
        }
        Ok(())
    }

    fn measure(&self) -> Result<(), Failure> {
        let parameters: usize = vit::tensors(self.small).iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        let elements = (parameters as u64 * self.cells * (self.seeds + 1)) as f64;
        let (cells, seeds) = (self.cells, self.seeds);
        println!("{cells} cells of {seeds} seeds, {parameters} parameters: {:.2} GB to read", elements * 4e-9);
        let told = |what: &str, seconds: f64| {
            let (rate, bytes) = (elements / seconds, 4e-9 * elements / seconds);
            println!("{what:<28} {seconds:>8.3} s, {bytes:>6.2} GB/s, {rate:.3e} elements/s");
        };
        let study = |seeds: u64| self.study(seeds);
        let (usual, more) = (study(self.seeds)?, study(self.seeds + 1)?);
        for processes in [1, 2] {
            let run = |at: usize| self.run(&usual, &self.fresh(&format!("out-{processes}-{at}"))?, processes);
            // The first one warms the page cache.
            told(&format!("{processes} process(es)"), best(self.repeat + 1, run)?);
        }
        for (what, before, now) in [("a seed more", &usual, &more), ("a seed fewer", &more, &usual)] {
            let run = |at: usize| {
                let out = self.fresh(&format!("out-{what}-{at}"))?;
                self.run(before, &out, 1)?;
                self.run(now, &out, 1)
            };
            told(what, best(self.repeat, run)?);
        }
        Ok(())
    }

    /// A folder for results, without those of another day.
    fn fresh(&self, name: &str) -> Result<PathBuf, Failure> {
        let out = self.dir.join(name);
        match fs::remove_dir_all(&out) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(out),
        }
    }

    fn study(&self, seeds: u64) -> Result<PathBuf, Failure> {
        let dir = self.dir.display();
        let datasets = (0..self.cells).map(|cell| format!("d{cell}")).collect::<Vec<_>>().join(", ");
        let text = format!(
            "name: bench\nmodels: [vit]\ndatasets: [{datasets}]\nseeds: 0..{}\nmeasures: [variance]\nlog: []\n\
             pretrained: '{dir}/pt.ckpt'\nfinetuned: '{dir}/{{dataset}}_{{seed}}.ckpt'\n",
            seeds - 1
        );
        let path = self.dir.join(format!("study-{seeds}.yaml"));
        fs::write(&path, text)?;
        Ok(path)
    }

    /// Seconds that so many processes together take for a study in a folder.
    fn run(&self, study: &Path, out: &Path, processes: usize) -> Result<f64, Failure> {
        let started = Instant::now();
        let command = || -> std::io::Result<Child> {
            let mut command = Command::new(env!("CARGO_BIN_EXE_wandb-pca"));
            command.args(["--quiet", "--offline", "study", "run"]).arg(study).arg("--out").arg(out);
            command.env("WANDB_CACHE_DIR", self.dir.join("cache")).stdout(Stdio::null()).spawn()
        };
        let children = (0..processes).map(|_| command()).collect::<Result<Vec<_>, _>>()?;
        for mut child in children {
            let status = child.wait()?;
            if !status.success() {
                return Err(format!("study run ended with {status}").into());
            }
        }
        Ok(started.elapsed().as_secs_f64())
    }
}

/// The shortest of several runs.
fn best(repeat: usize, run: impl Fn(usize) -> Result<f64, Failure>) -> Result<f64, Failure> {
    (0..repeat).map(run).try_fold(f64::INFINITY, |best, seconds| Ok(best.min(seconds?)))
}
