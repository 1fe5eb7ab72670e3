//! A study of 2 models × 3 datasets × 5 seeds on the embedded server, through the command: undisturbed, killed at random
//! moments and run again, sharded and reduced. `STUDY_KILLS=50 cargo test --test study killed -- --nocapture` kills more.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may end loudly")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use wandb_pca::checkpoint::{NamedTensor, write_torch};
use wandb_pca::server::{Server, ServerOptions};
use wandb_pca::tensor::{Dtype, TensorView};
use wandb_pca::wandb::{ArtifactDraft, Client, ClientOptions, RunOptions};

const MODELS: [&str; 2] = ["tiny", "small"];
const DATASETS: [&str; 3] = ["CIFAR100", "DTD", "SVHN"];
const SEEDS: u64 = 5;
/// Results that must be the same to the bit; `fit.json` holds the time of its making.
const NUMBERS: [&str; 3] = ["gram.safetensors", "layers.parquet", "components.parquet"];

/// A server with the experiment on it, and where everything lives.
struct World {
    runtime: tokio::runtime::Runtime,
    server: Option<Server>,
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let server = runtime.block_on(async {
            let server =
                Server::start(ServerOptions::new(folder.path().join("server")).with_entity("lab")).await.unwrap();
            upload(&server, folder.path()).await;
            server
        });
        let text = "name: grid\nentity: lab\nproject: vectors\nmodels: [tiny, small]\ndatasets: [CIFAR100, DTD, SVHN]\n\
                    seeds: 0..4\nretries: 0\nshards: 3\n";
        fs::write(folder.path().join("study.yaml"), text).unwrap();
        Self { runtime, server: Some(server), folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `wandb-pca` with these arguments, away from everything of the user's.
    fn command(&self, cache: &str, arguments: &[&str]) -> Command {
        let server = self.server.as_ref().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_wandb-pca"));
        command.args(arguments).current_dir(self.folder.path()).env_clear();
        command.env("HOME", self.folder.path()).env("WANDB_CACHE_DIR", self.path(cache));
        command.env("WANDB_BASE_URL", server.base_url()).env("WANDB_API_KEY", server.api_key().expose());
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, cache: &str, arguments: &[&str]) -> Output {
        let output = self.command(cache, arguments).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {:?}\n{error}", output.status.code());
        output
    }

    /// Registers a sweep as `wandb sweep` does, and returns its id.
    fn register_sweep(&self, config: &str) -> String {
        let server = self.server.as_ref().unwrap();
        let query = "mutation S($input: UpsertSweepInput!) { upsertSweep(input: $input) { sweep { name } } }";
        let input = serde_json::json!({"entityName": "lab", "projectName": "vectors", "config": config});
        let request = reqwest::Client::new()
            .post(format!("{}/graphql", server.base_url()))
            .basic_auth("api", Some(server.api_key().expose()))
            .json(&serde_json::json!({"query": query, "variables": {"input": input}}));
        let answer: serde_json::Value =
            self.runtime.block_on(async { request.send().await.unwrap().json().await.unwrap() });
        answer["data"]["upsertSweep"]["sweep"]["name"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// The numbers of every task in a study's folder.
    fn numbers(&self, out: &str) -> BTreeMap<String, Vec<u8>> {
        let mut numbers = BTreeMap::new();
        for task in tasks() {
            for name in NUMBERS {
                let path = self.path(out).join(&task).join(name);
                numbers.insert(format!("{task}/{name}"), fs::read(&path).unwrap_or_else(|_| panic!("{path:?}")));
            }
        }
        numbers
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.shutdown()).unwrap();
        }
    }
}

fn tasks() -> Vec<String> {
    let cells = MODELS.iter().flat_map(|model| DATASETS.iter().map(move |dataset| format!("{model}@{dataset}")));
    cells.chain(MODELS.iter().map(|model| format!("{model}+joint"))).collect()
}

async fn upload(server: &Server, folder: &Path) {
    let options = ClientOptions::new(server.base_url()).with_api_key(Some(server.api_key().clone()));
    let client = Client::new(options).unwrap();
    let run = RunOptions::new("vectors").with_entity(Some("lab".to_owned()));
    let run = client.start_run(run).await.unwrap();
    for (size, model) in [4usize, 6].into_iter().zip(MODELS) {
        let mut names = vec![(format!("{model}_pt"), 0)];
        for (number, dataset) in (1u64..).zip(DATASETS) {
            names.extend((0..SEEDS).map(|seed| (format!("{model}_{dataset}_{seed}"), number * 100 + seed)));
        }
        for (name, seed) in names {
            let path = folder.join("checkpoints").join(&name).join("trained.ckpt");
            write_checkpoint(&path, size, seed);
            let draft = ArtifactDraft::new(&name, "checkpoint").unwrap().with_file("trained.ckpt", path).unwrap();
            run.log_artifact(&draft).await.unwrap();
        }
    }
    run.finish(0).await.unwrap();
}

fn write_checkpoint(path: &Path, size: usize, seed: u64) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let shapes = [vec![64, size], vec![size], vec![size * 8, 32], vec![32], vec![]];
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

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_study_from_init_to_status() {
    let world = World::new();
    world.run("cache", &["study", "init", "lab/vectors", "--out", "found.yaml"]);
    let plan = json(&world.run("cache", &["--json", "study", "plan", "found.yaml"]));
    assert_eq!(plan["plan"]["cells"].as_array().unwrap().len(), 6);
    assert_eq!(plan["todo"], 8);
    assert!(plan["estimate"]["fetch_bytes"].as_u64().unwrap() > 0);
    let first = json(&world.run("cache", &["--json", "study", "run", "study.yaml", "--out", "whole"]));
    assert_eq!((first["computed"].as_u64(), first["runs"].as_array().map(Vec::len)), (Some(8), Some(7)));
    let again = json(&world.run("cache", &["--json", "study", "run", "study.yaml", "--out", "whole"]));
    assert_eq!((again["computed"].as_u64(), again["runs"].as_array().map(Vec::len)), (Some(0), Some(0)));
    let status = json(&world.run("cache", &["--json", "study", "status", "study.yaml", "--out", "whole"]));
    assert_eq!(status["done"], 8);
    let cells = fs::read_to_string(world.path("whole/cells.csv")).unwrap();
    assert_eq!(cells.lines().count(), 7, "{cells}");
    assert_eq!(fs::read_to_string(world.path("whole/datasets.csv")).unwrap().lines().count(), 13);

    // Offline shards by hand, in any order, reduce to the same bits; two of them at the same time.
    world.run("cache", &["study", "prefetch", "study.yaml", "--out", "parts"]);
    let shard = |part: &str| {
        let arguments = ["--offline", "study", "shard", "study.yaml", part, "--out", "parts"];
        world.command("cache", &arguments).stdout(Stdio::null()).spawn().unwrap()
    };
    for pair in [["5/5", "2/5"], ["1/5", "4/5"]] {
        for mut child in pair.map(shard) {
            assert!(child.wait().unwrap().success());
        }
    }
    let early = world.command("cache", &["--offline", "study", "reduce", "study.yaml", "--out", "parts"]);
    assert_eq!({ early }.output().unwrap().status.code(), Some(7));
    assert!(shard("3/5").wait().unwrap().success());
    world.run("cache", &["--offline", "study", "reduce", "study.yaml", "--out", "parts"]);
    assert_eq!(world.numbers("parts"), world.numbers("whole"));

    // A checkpoint that is gone: refused, or left out, as the file says.
    let text = fs::read_to_string(world.path("study.yaml")).unwrap().replace("0..4", "0..5");
    fs::write(world.path("more.yaml"), format!("{text}missing: fail\n")).unwrap();
    let refused = world.command("cache", &["study", "run", "more.yaml"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(3));
    fs::write(world.path("more.yaml"), format!("{text}missing: skip-seed\nminimum_seeds: 5\n")).unwrap();
    let skipped = json(&world.run("cache", &["--json", "study", "plan", "more.yaml", "--out", "whole"]));
    assert_eq!(
        (skipped["todo"].as_u64(), skipped["plan"]["skipped_seeds"].as_array().map(Vec::len)),
        (Some(0), Some(6))
    );
    fs::write(world.path("wrong.yaml"), "name: x\nmodles: [a]\n").unwrap();
    let wrong = world.command("cache", &["study", "plan", "wrong.yaml"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("line 2, column 1"), "{wrong:?}");
}

#[test]
fn two_workers_and_a_sweeps_agent_share_one_folder() {
    let world = World::new();
    let arguments = ["--json", "study", "run", "study.yaml", "--out", "shared", "--no-log"];
    let workers = [0, 1].map(|_| world.command("cache", &arguments).stdout(Stdio::piped()).spawn().unwrap());
    let computed: u64 = workers
        .into_iter()
        .map(|worker| {
            let output = worker.wait_with_output().unwrap();
            assert!(output.status.success(), "{output:?}");
            json(&output)["computed"].as_u64().unwrap()
        })
        .sum();
    assert_eq!(computed, 8);
    for (task, (begun, done)) in ledger(&world.path("shared")) {
        assert_eq!((begun, done), (1, 1), "{task}");
    }

    // As `wandb agent` starts the program of a sweep.
    let config =
        String::from_utf8(world.run("cache", &["sweep", "config", "study.yaml", "--out", "swept"]).stdout).unwrap();
    assert!(config.contains("method: grid\n") && config.contains("values: [CIFAR100, DTD, SVHN]"), "{config}");
    let sweep = world.register_sweep(&config);
    fs::write(world.path("parameters.yaml"), "wandb_version: 1\n\ndataset:\n  value: DTD\nmodel:\n  value: small\n")
        .unwrap();
    let agent = |run: &str| {
        let mut command = world.command("cache", &["--json", "sweep", "cell", "study.yaml", "--out", "swept"]);
        command.env("WANDB_SWEEP_ID", &sweep).env("WANDB_RUN_ID", run);
        command.env("WANDB_SWEEP_PARAM_PATH", world.path("parameters.yaml"));
        json(&command.output().unwrap())
    };
    let first = agent("agentrun1");
    assert_eq!((first["computed"].as_u64(), first["runs"][0].as_str()), (Some(1), Some("lab/vectors/agentrun1")));
    // A second run of the same cell computes nothing, but is a run.
    let second = agent("agentrun2");
    assert_eq!((second["computed"].as_u64(), second["runs"][0].as_str()), (Some(0), Some("lab/vectors/agentrun2")));
    let by_hand =
        ["sweep", "cell", "study.yaml", "--out", "swept", "--", "--model=tiny", "--dataset=DTD", "--seeds=0..2"];
    world.run("cache", &by_hand);
    let unknown =
        world.command("cache", &["sweep", "cell", "study.yaml", "--", "--model=huge", "--dataset=DTD"]).output();
    assert_eq!(unknown.unwrap().status.code(), Some(2));
}

/// How often each task was begun and ended, by the ledger.
fn ledger(folder: &Path) -> BTreeMap<String, (usize, usize)> {
    let mut counts = BTreeMap::new();
    for entry in fs::read_dir(folder.join("ledger")).into_iter().flatten() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        for line in text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()) {
            let task = line["task"].as_str().unwrap().to_owned();
            let count: &mut (usize, usize) = counts.entry(task).or_default();
            count.0 += usize::from(line["event"] == "claimed");
            count.1 += usize::from(line["event"] == "done");
        }
    }
    counts
}

#[test]
fn killed_at_any_moment_and_run_again() {
    let kills: u32 = std::env::var("STUDY_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let world = World::new();
    let started = Instant::now();
    world.run("cache-whole", &["study", "run", "study.yaml", "--out", "whole"]);
    let undisturbed = started.elapsed();
    let expected = world.numbers("whole");
    let mut random = ChaCha8Rng::seed_from_u64(u64::from(kills));
    let (mut killed, mut round) = (0, 0);
    while killed < kills {
        round += 1;
        // A fresh folder and cache each time; some rounds are killed several times before they end.
        let (out, cache) = (format!("killed-{round}"), format!("cache-{round}"));
        loop {
            let arguments = ["study", "run", "study.yaml", "--out", &out];
            let mut child =
                world.command(&cache, &arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let patience = undisturbed.mul_f64(random.random_range(0.02..1.1));
            let deadline = Instant::now() + patience;
            let ended = loop {
                if let Some(status) = child.try_wait().unwrap() {
                    break Some(status);
                }
                if Instant::now() >= deadline {
                    break None;
                }
                std::thread::sleep(Duration::from_millis(2));
            };
            match ended {
                Some(status) => {
                    assert!(status.success(), "round {round}: {status}");
                    break;
                }
                None if killed < kills => {
                    child.kill().unwrap();
                    child.wait().unwrap();
                    killed += 1;
                }
                None => {
                    assert!(child.wait().unwrap().success());
                    break;
                }
            }
        }
        assert_eq!(world.numbers(&out), expected, "round {round}");
        for (task, (_, done)) in ledger(&world.path(&out)) {
            assert!(done <= 1 || task == "summary", "round {round}: {task} was finished {done} times");
        }
        let again = json(&world.run(&cache, &["--json", "study", "run", "study.yaml", "--out", &out]));
        assert_eq!(again["computed"], 0, "round {round}");
    }
    println!("{killed} kills in {round} rounds; undisturbed {undisturbed:?}");
}
