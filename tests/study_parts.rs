//! What a study fetches when it needs only some layers: the shards of a cluster's nodes, and studies of a few layers. Bytes
//! are counted by the server.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::panic, reason = "a test may end loudly")]

#[allow(dead_code, reason = "each file of tests uses another part of it")]
mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use support::{Misbehaving, options, store};
use wandb_pca::analysis::Gram;
use wandb_pca::app::study::{self, Study, Survey};
use wandb_pca::app::{Device, Fit, Session};
use wandb_pca::checkpoint::{NamedTensor, write_torch};
use wandb_pca::progress::Progress;
use wandb_pca::store::Store;
use wandb_pca::study::{Rates, ShardId, Spec};
use wandb_pca::tensor::{Dtype, TensorView};
use wandb_pca::wandb::Client;

const SHARDS: u32 = 10;
const LAYERS: usize = 20;
/// So many that a file is well above the size up to which files are fetched whole.
const VALUES: usize = 50_000;
const FILES: usize = 4;

fn checkpoint(seed: usize) -> Vec<u8> {
    let layer = |at: usize| {
        let value = |i: usize| ((i * 31 + at * 17 + seed * 7919) % 1009) as f32 / 1009.0;
        let bytes = (0..VALUES).flat_map(|i| value(i).to_le_bytes()).collect::<Vec<u8>>();
        // One of them calls every layer otherwise, as Lightning does.
        let wrapper = if seed == 2 { "net." } else { "" };
        (format!("{wrapper}block.{at}.weight"), TensorView::contiguous(Dtype::F32, vec![VALUES], bytes).unwrap())
    };
    let layers: Vec<_> = (0..LAYERS).map(layer).collect();
    let named: Vec<_> = layers.iter().map(|(name, view)| NamedTensor::new(name, view)).collect();
    let mut file = std::io::Cursor::new(Vec::new());
    write_torch(&mut file, &named).unwrap();
    file.into_inner()
}

/// A server with a pretrained checkpoint and three seeds, and the bytes of all of them.
async fn family() -> (Misbehaving, u64) {
    let server = Misbehaving::start().await;
    let names = ["vit_pt", "vit_task_0", "vit_task_1", "vit_task_2"];
    let files: Vec<Vec<u8>> = (0..FILES).map(checkpoint).collect();
    for (name, file) in names.iter().zip(&files) {
        server.add(name, &[("trained.ckpt", file)]);
    }
    (server, files.iter().map(|file| file.len() as u64).sum())
}

/// Bytes of objects that were asked for.
fn asked(server: &Misbehaving, whole: u64) -> u64 {
    let requests = server.object_requests();
    let bytes = requests.iter().map(|seen| {
        let Some(range) = seen.headers.get("range") else { return whole / FILES as u64 };
        let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        last.parse::<u64>().unwrap() + 1 - first.parse::<u64>().unwrap()
    });
    bytes.sum()
}

fn study(server: Option<&Misbehaving>, store: &Store, (folder, extra): (&Path, &str)) -> Study {
    let text = format!(
        "name: s\nentity: {}\nproject: {}\nmodels: [vit]\ndatasets: [task]\nretries: 0\n{extra}",
        support::ENTITY,
        support::PROJECT
    );
    let seeds = if text.contains("seeds:") { "" } else { "seeds: 0..2\n" };
    let mut spec = Spec::parse(&format!("{text}{seeds}")).unwrap();
    spec.log.clear();
    let patient = |server: &Misbehaving| {
        let seconds = Duration::from_secs(20);
        Client::new(options(&server.base).with_timeouts(seconds, seconds)).unwrap()
    };
    let session = Session {
        client: server.map(patient),
        store: store.clone(),
        progress: Progress::silent(),
        device: Device::default(),
        entity: None,
        project: None,
        app_url: "http://127.0.0.1".to_owned(),
        runs: folder.to_owned(),
        artifact_dir: "artifacts".into(),
    };
    Study { session, spec, folder: folder.to_owned(), worker: "here:1".to_owned() }
}

fn numbers(folder: &Path) -> Vec<Vec<u8>> {
    let read = |name: &&str| fs::read(folder.join("vit@task").join(name)).unwrap();
    ["gram.safetensors", "layers.parquet", "components.parquet"].iter().map(read).collect()
}

fn verified(fit: &Path) -> Vec<String> {
    let record: serde_json::Value = serde_json::from_slice(&fs::read(fit.join("fit.json")).unwrap()).unwrap();
    let inputs = record["finetuned"].as_array().unwrap().iter().chain([&record["pretrained"]]);
    inputs.map(|input| input["verified"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_shard_fetches_its_layers_and_shards_come_to_the_same_bits() {
    let (server, whole) = family().await;
    let folder = tempfile::tempdir().unwrap();
    let sharded = folder.path().join("sharded");
    let with_shards = format!("shards: {SHARDS}\n");
    for index in 0..SHARDS {
        // A node with a disk of its own.
        let (_disk, store) = store();
        server.forget_seen();
        let node = study(Some(&server), &store, (&sharded, &with_shards));
        let survey = study::survey(&node).await.unwrap();
        let outcome = study::shard(&node, &survey, ShardId { index, of: SHARDS }).await.unwrap();
        assert_eq!((outcome.computed, outcome.failed), (1, vec![]));
        let bytes = asked(&server, whole);
        assert!(bytes > whole / 10 && bytes < whole / 8, "shard {index} fetched {bytes} of {whole}");
        let shard = sharded.join(format!("vit@task/shards/{}-of-{SHARDS}", index + 1));
        assert_eq!(verified(&shard), ["partly"; FILES]);
    }
    let (_disk, store) = store();
    let node = study(None, &store, (&sharded, &with_shards));
    let survey = study::survey(&node).await.unwrap();
    assert_eq!(study::reduce(&node, &survey).unwrap().computed, 1);
    assert_eq!(verified(&sharded.join("vit@task")), ["partly"; FILES]);

    server.forget_seen();
    let unsharded = folder.path().join("unsharded");
    let node = study(Some(&server), &store, (&unsharded, ""));
    study::run(&node, &study::survey(&node).await.unwrap()).await.unwrap();
    assert_eq!(verified(&unsharded.join("vit@task")), ["whole"; FILES]);
    assert_eq!(numbers(&sharded), numbers(&unsharded));
    assert!(asked(&server, whole) >= whole);
}

#[tokio::test]
async fn who_does_most_of_a_task_fetches_and_verifies_all_of_it() {
    let (server, whole) = family().await;
    let (folder, (_disk, store)) = (tempfile::tempdir().unwrap(), store());
    let node = study(Some(&server), &store, (folder.path(), "shards: 10\n"));
    let survey = study::survey(&node).await.unwrap();
    // The first of one part: all ten shards.
    let outcome = study::shard(&node, &survey, ShardId { index: 0, of: 1 }).await.unwrap();
    assert_eq!(outcome.computed, 10);
    assert_eq!(asked(&server, whole), whole);
    assert_eq!(verified(&folder.path().join("vit@task/shards/3-of-10")), ["whole"; FILES]);
}

#[tokio::test]
async fn a_study_of_few_layers_fetches_those_and_runs_offline_then() {
    let (server, whole) = family().await;
    let (folder, (_disk, store)) = (tempfile::tempdir().unwrap(), store());
    let few = "layers: ['block.1?.weight']\nexclude_layers: ['block.1[2-9].weight']\n";
    let node = study(Some(&server), &store, (folder.path(), few));
    let survey = study::survey(&node).await.unwrap();
    let planned = fetch_bytes(&node, &survey).await;
    study::prefetch(&node, &survey).await.unwrap();
    let bytes = asked(&server, whole);
    // The plan counts layers; the list of tensors comes on top.
    assert_eq!(planned, 2 * (VALUES * 4 * FILES) as u64);
    assert!(planned < bytes && bytes < planned + whole / 40, "{planned} planned, {bytes} asked for");
    assert_eq!(fetch_bytes(&node, &study::survey(&node).await.unwrap()).await, 0);
    assert!(bytes > whole / 10 && bytes < whole / 8, "{bytes} of {whole}");
    server.forget_seen();
    let node = study(None, &store, (folder.path(), few));
    let survey = study::survey(&node).await.unwrap();
    let outcome = study::run(&node, &survey).await.unwrap();
    assert_eq!((outcome.computed, outcome.failed), (1, vec![]));
    assert!(server.seen().is_empty());
    assert_eq!(verified(&folder.path().join("vit@task")), ["partly"; FILES]);
    let layers = fs::read_to_string(folder.path().join("cells.csv")).unwrap();
    assert_eq!(layers.lines().nth(1).unwrap().split(',').nth(3), Some("2"), "{layers}");
}

/// What the plan says that running it will fetch.
async fn fetch_bytes(node: &Study, survey: &Survey) -> u64 {
    let rates = Rates { download: 1.0, analysis: 1.0 };
    survey.plan.estimate(rates, &study::needs(node, survey).await.unwrap()).fetch_bytes
}

#[tokio::test]
async fn a_plan_counts_what_a_shard_fetches_by_itself() {
    let (server, whole) = family().await;
    let (folder, (_disk, store)) = (tempfile::tempdir().unwrap(), store());
    let node = study(Some(&server), &store, (folder.path(), "shards: 10\n"));
    let survey = study::survey(&node).await.unwrap();
    let needs = study::needs(&node, &survey).await.unwrap();
    assert_eq!(needs.shard, Some(2 * (VALUES * 4 * FILES) as u64));
    // Only a list of tensors was fetched for that. Who runs everything fetches whole files.
    assert!(asked(&server, whole) < whole / 100);
    assert_eq!(fetch_bytes(&node, &survey).await, whole);
}

#[tokio::test]
async fn a_new_seed_computes_only_its_rows() {
    let (server, _) = family().await;
    server.add("vit_task_3", &[("trained.ckpt", &checkpoint(4))]);
    let (folder, (_disk, store)) = (tempfile::tempdir().unwrap(), store());
    let run = async |folder: &Path, seeds: &str| {
        let node = study(Some(&server), &store, (folder, seeds));
        let outcome = study::run(&node, &study::survey(&node).await.unwrap()).await.unwrap();
        assert_eq!((outcome.computed, outcome.failed), (1, vec![]));
        Fit::read(&folder.join("vit@task")).unwrap()
    };
    let cell = folder.path().join("grown");
    let mut before = run(&cell, "seeds: 0..2\n").await;
    // What is stored is taken as it is: a mark in it shows that it was not made again.
    let marked = before.layers[5].gram.values().iter().map(|x| x * 1.001).collect();
    before.layers[5].gram = Gram::from_values(3, VALUES as u64, marked).unwrap();
    before.write(&cell.join("vit@task")).unwrap();
    let grown = run(&cell, "seeds: 0..3\n").await;
    let fresh = run(&folder.path().join("fresh"), "seeds: 0..3\n").await;
    assert_eq!((grown.layers.len(), grown.record.finetuned.len()), (LAYERS, 4));
    for (layer, (grown, fresh)) in grown.layers.iter().zip(&fresh.layers).enumerate() {
        assert_eq!(grown.gram.select(&[0, 1, 2]).unwrap(), before.layers[layer].gram);
        for seed in 0..4 {
            let (x, y) = (grown.gram.values()[12 + seed], fresh.gram.values()[12 + seed]);
            assert!((x - y).abs() <= 1e-12 * y.abs(), "{layer} {seed}: {x} {y}");
        }
    }
    // Seeds fewer take what there is; tests/study_grows.rs has every other way to grow and shrink.
    let other = run(&cell, "seeds: [0, 2, 3]\n").await;
    assert_eq!(other.layers[5].gram, grown.layers[5].gram.select(&[0, 2, 3]).unwrap());
}
