//! An experiment of 2 models × 3 datasets × 5 seeds on an embedded server, and the command to work on it.
#![allow(dead_code, reason = "each file of tests uses its part")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use wandb_pca::checkpoint::{NamedTensor, write_torch};
use wandb_pca::server::{Server, ServerOptions};
use wandb_pca::tensor::{Dtype, TensorView};
use wandb_pca::wandb::{ArtifactDraft, Client, ClientOptions, RunOptions};

#[path = "study_folder.rs"]
mod study_folder;

#[allow(unused_imports, reason = "each file of tests uses its part")]
pub use study_folder::{computed_once, ledger};

pub const MODELS: [&str; 2] = ["tiny", "small"];
pub const DATASETS: [&str; 3] = ["CIFAR100", "DTD", "SVHN"];
pub const SEEDS: u64 = 5;

/// A server with the experiment on it, and where everything lives.
pub struct World {
    runtime: tokio::runtime::Runtime,
    server: Option<Server>,
    folder: tempfile::TempDir,
}

impl World {
    pub fn new() -> Self {
        let world = Self::bare();
        world.runtime.block_on(upload(world.server.as_ref().unwrap(), world.folder.path(), checkpoints()));
        world
    }

    /// The same with the checkpoints in files, and a study `files.yaml` of those: nothing is uploaded or logged.
    pub fn of_files() -> Self {
        let world = Self::bare();
        for (name, size, seed) in checkpoints() {
            write_checkpoint(&world.checkpoint(&name), size, seed);
        }
        let text = fs::read_to_string(world.path("study.yaml")).unwrap();
        let names = "pretrained: './checkpoints/{model}_pt/trained.ckpt'\n\
                     finetuned: './checkpoints/{model}_{dataset}_{seed}/trained.ckpt'\n";
        fs::write(world.path("files.yaml"), format!("{text}{names}")).unwrap();
        world
    }

    /// The file of a checkpoint.
    pub fn checkpoint(&self, name: &str) -> PathBuf {
        self.path("checkpoints").join(name).join("trained.ckpt")
    }

    fn bare() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let options = ServerOptions::new(folder.path().join("server")).with_entity("lab");
        let server = runtime.block_on(Server::start(options)).unwrap();
        let text = "name: grid\nentity: lab\nproject: vectors\nmodels: [tiny, small]\ndatasets: [CIFAR100, DTD, SVHN]\n\
                    seeds: 0..4\nretries: 0\nshards: 3\n";
        fs::write(folder.path().join("study.yaml"), text).unwrap();
        Self { runtime, server: Some(server), folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `wandb-pca` with these arguments, away from everything of the user's.
    pub fn command(&self, cache: &str, arguments: &[&str]) -> Command {
        let server = self.server.as_ref().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_wandb-pca"));
        command.args(arguments).current_dir(self.folder.path()).env_clear();
        command.env("HOME", self.folder.path()).env("WANDB_CACHE_DIR", self.path(cache));
        command.env("WANDB_BASE_URL", server.base_url()).env("WANDB_API_KEY", server.api_key().expose());
        command.stdin(Stdio::null());
        command
    }

    pub fn run(&self, cache: &str, arguments: &[&str]) -> Output {
        let output = self.command(cache, arguments).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {:?}\n{error}", output.status.code());
        output
    }

    /// Asks the server, and returns the data.
    pub fn graphql(&self, query: &str, variables: Value) -> Value {
        let server = self.server.as_ref().unwrap();
        let request = reqwest::Client::new()
            .post(format!("{}/graphql", server.base_url()))
            .basic_auth("api", Some(server.api_key().expose()))
            .json(&serde_json::json!({ "query": query, "variables": variables }));
        let mut answer: Value = self.runtime.block_on(async { request.send().await.unwrap().json().await.unwrap() });
        assert!(answer["errors"].is_null(), "{answer}");
        answer["data"].take()
    }

    /// Registers a sweep as `wandb sweep` does, and returns its id.
    pub fn register_sweep(&self, config: &str) -> String {
        let query = "mutation S($input: UpsertSweepInput!) { upsertSweep(input: $input) { sweep { name } } }";
        let input = serde_json::json!({"entityName": "lab", "projectName": "vectors", "config": config});
        let answer = self.graphql(query, serde_json::json!({ "input": input }));
        answer["upsertSweep"]["sweep"]["name"].as_str().unwrap().to_owned()
    }

    /// Uploads the checkpoints of one more dataset of a model.
    pub fn add_dataset(&self, model: &str, size: usize, dataset: &str) {
        let names = (0..SEEDS).map(|seed| (format!("{model}_{dataset}_{seed}"), size, 900 + seed)).collect();
        self.runtime.block_on(upload(self.server.as_ref().unwrap(), self.folder.path(), names));
    }

    /// The numbers of every task in a study's folder.
    pub fn numbers(&self, out: &str) -> BTreeMap<String, Vec<u8>> {
        study_folder::numbers(&self.path(out), &tasks())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.shutdown()).unwrap();
        }
    }
}

pub fn tasks() -> Vec<String> {
    let cells = MODELS.iter().flat_map(|model| DATASETS.iter().map(move |dataset| format!("{model}@{dataset}")));
    cells.chain(MODELS.iter().map(|model| format!("{model}+joint"))).collect()
}

/// All checkpoints: name, size, and the number that decides their weights.
fn checkpoints() -> Vec<(String, usize, u64)> {
    let of_model = |(model, size): (&str, usize)| {
        let mut names = vec![(format!("{model}_pt"), size, 0)];
        for (number, dataset) in (1u64..).zip(DATASETS) {
            names.extend((0..SEEDS).map(|seed| (format!("{model}_{dataset}_{seed}"), size, number * 100 + seed)));
        }
        names
    };
    MODELS.into_iter().zip([4usize, 6]).flat_map(of_model).collect()
}

async fn upload(server: &Server, folder: &Path, names: Vec<(String, usize, u64)>) {
    let options = ClientOptions::new(server.base_url()).with_api_key(Some(server.api_key().clone()));
    let client = Client::new(options).unwrap();
    let run = RunOptions::new("vectors").with_entity(Some("lab".to_owned()));
    let run = client.start_run(run.with_root(folder.join("uploads"))).await.unwrap();
    for (name, size, seed) in names {
        let path = folder.join("checkpoints").join(&name).join("trained.ckpt");
        write_checkpoint(&path, size, seed);
        let draft = ArtifactDraft::new(&name, "checkpoint").unwrap().with_file("trained.ckpt", path).unwrap();
        run.log_artifact(&draft).await.unwrap();
    }
    run.finish(0).await.unwrap();
}

pub fn write_checkpoint(path: &Path, size: usize, seed: u64) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let shapes = [vec![64, size], vec![size * 8, 32], vec![]];
    let tensors: Vec<(String, TensorView<'_>)> = shapes
        .into_iter()
        .enumerate()
        .map(|(layer, shape)| {
            let count: usize = shape.iter().product();
            let values: Vec<f32> = (0..count).map(|_| random.random_range(-1.0..1.0)).collect();
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            (format!("block.{layer}.weight"), TensorView::contiguous(Dtype::F32, shape, bytes).unwrap())
        })
        .collect();
    let named: Vec<_> = tensors.iter().map(|(name, view)| NamedTensor::new(name, view)).collect();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut file = fs::File::create(path).unwrap();
    write_torch(&mut file, &named).unwrap();
}

pub fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}
