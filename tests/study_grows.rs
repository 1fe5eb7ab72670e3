//! Studies and fits that grow and shrink: what an earlier fit knows of the same checkpoints is taken from there, everything
//! else is computed, and the numbers are those of a fresh one. Marks in stored Grams show what was not made again.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::panic, reason = "a test may end loudly")]

#[path = "support/command.rs"]
mod command;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use wandb_pca::analysis::Gram;
use wandb_pca::app::study::{self, Study};
use wandb_pca::app::{Device, Fit, Session};
use wandb_pca::checkpoint::{NamedTensor, write_torch};
use wandb_pca::progress::{Event, Progress, Stage, TaskId, Watch};
use wandb_pca::store::Store;
use wandb_pca::study::{ShardId, Spec};
use wandb_pca::tensor::{Dtype, TensorView};

use command::{command, json};

const DATASETS: [&str; 4] = ["a", "b", "c", "d"];
const SEEDS: u64 = 6;
/// Values of each layer of a checkpoint; a scalar is among them.
const LAYERS: [usize; 3] = [70_001, 512, 1];
const VALUES: u64 = 70_514;
const MARK: f64 = 1.001;

/// Files of a pretrained checkpoint and of some seeds of some datasets.
struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let lab = Self { folder: tempfile::tempdir().unwrap() };
        lab.write("pt", 0);
        for (number, dataset) in (1u64..).zip(DATASETS) {
            (0..SEEDS).for_each(|seed| lab.write(&format!("{dataset}_{seed}"), 100 * number + seed));
        }
        lab.settle();
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, number: u64) {
        let mut random = ChaCha8Rng::seed_from_u64(number);
        let layers = LAYERS.iter().enumerate().map(|(at, &count)| {
            let bytes: Vec<u8> = (0..count).flat_map(|_| random.random_range(-1.0f32..1.0).to_le_bytes()).collect();
            (format!("block.{at}.weight"), TensorView::contiguous(Dtype::F32, vec![count], bytes).unwrap())
        });
        let layers: Vec<_> = layers.collect();
        let named: Vec<_> = layers.iter().map(|(name, view)| NamedTensor::new(name, view)).collect();
        write_torch(&mut File::create(self.path(&format!("{name}.ckpt"))).unwrap(), &named).unwrap();
    }

    /// Until no later change can hide.
    fn settle(&self) {
        std::thread::sleep(Duration::from_millis(150));
    }

    fn study(&self, out: &str, (datasets, seeds, shards): (&[&str], &[u64], u32)) -> (Study, Arc<Seen>) {
        let at = |name: &str| self.path(name).display().to_string();
        let text = format!(
            "name: s\nmodels: [m]\ndatasets: {datasets:?}\nseeds: {seeds:?}\nretries: 0\nlog: []\nshards: {shards}\n\
             pretrained: '{}'\nfinetuned: '{}'\n",
            at("pt.ckpt"),
            at("{dataset}_{seed}.ckpt"),
        );
        let seen = Arc::new(Seen::default());
        let progress = Progress::new(Arc::<Seen>::clone(&seen));
        let session = Session {
            client: None,
            store: Store::new(self.path("store"), progress.clone()),
            progress,
            device: Device::default(),
            entity: None,
            project: None,
            app_url: "http://127.0.0.1".to_owned(),
            runs: self.path("runs"),
            artifact_dir: "artifacts".into(),
        };
        let spec = Spec::parse(&text).unwrap();
        (Study { session, spec, folder: self.path(out), worker: "here:1".to_owned() }, seen)
    }

    /// Runs a study and returns how many tasks were computed, what it said, and the values that it read.
    fn run(&self, out: &str, datasets: &[&str], seeds: &[u64]) -> (usize, Vec<String>, u64) {
        let (study, seen) = self.study(out, (datasets, seeds, 1));
        let outcome = block_on(async { study::run(&study, &study::survey(&study).await.unwrap()).await.unwrap() });
        assert!(outcome.is_complete(), "{outcome:?}");
        seen.take(outcome.computed)
    }

    fn fit(&self, out: &str, task: &str) -> Fit {
        Fit::read(&self.path(out).join(task)).unwrap()
    }

    /// Changes every stored number of a task a little; what is taken from there shows it.
    fn mark(&self, out: &str, task: &str) -> Fit {
        let mut fit = self.fit(out, task);
        for layer in &mut fit.layers {
            let values = layer.gram.values().iter().map(|x| x * MARK).collect();
            layer.gram = Gram::from_values(layer.gram.seeds(), layer.gram.parameters(), values).unwrap();
        }
        fit.write(&self.path(out).join(task)).unwrap();
        fit
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(work)
}

/// What a study says, and how much it reads to compute.
#[derive(Default)]
struct Seen {
    notes: Mutex<Vec<String>>,
    computing: Mutex<Vec<TaskId>>,
    bytes: AtomicU64,
}

impl Seen {
    fn take(&self, computed: usize) -> (usize, Vec<String>, u64) {
        let values = self.bytes.load(Ordering::Relaxed) / 4;
        (computed, std::mem::take(&mut *self.notes.lock().unwrap()), values)
    }
}

impl Watch for Seen {
    fn on_event(&self, event: Event<'_>) {
        match event {
            Event::Note { message } => self.notes.lock().unwrap().push(message.to_owned()),
            Event::Begin { task, stage: Stage::Compute, .. } => self.computing.lock().unwrap().push(task),
            Event::Advance { task, amount } if self.computing.lock().unwrap().contains(&task) => {
                self.bytes.fetch_add(amount, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

/// Entries between checkpoints that `before` has are those of `before` to the bit, all others those of `fresh`.
fn assert_grown(case: &str, (before, grown, fresh): (&Fit, &Fit, &Fit)) {
    let names = |fit: &Fit| -> Vec<String> { fit.record.finetuned.iter().map(|input| input.input.clone()).collect() };
    let (known, now) = (names(before), names(grown));
    assert_eq!(now, names(fresh), "{case}");
    let row = |name: &String| known.iter().position(|other| other == name);
    for ((before, grown), fresh) in before.layers.iter().zip(&grown.layers).zip(&fresh.layers) {
        let (n, m) = (now.len(), known.len());
        for at in 0..n * n {
            let (found, whole) = (grown.gram.values()[at], fresh.gram.values()[at]);
            let scale = (fresh.gram.values()[at / n * (n + 1)] * fresh.gram.values()[at % n * (n + 1)]).sqrt();
            match (row(&now[at / n]), row(&now[at % n])) {
                (Some(i), Some(j)) => assert_eq!(found, before.gram.values()[i * m + j], "{case}: {at}"),
                _ => assert!((found - whole).abs() <= 1e-14 * scale, "{case}: {at}: {found} {whole}"),
            }
        }
    }
}

#[test]
fn any_seeds_that_a_cell_had_are_taken_from_it() {
    let lab = Lab::new();
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut cases: Vec<(Vec<u64>, Vec<u64>)> = vec![
        (vec![0, 1, 2], vec![0, 1, 2, 3]),
        (vec![1, 3], vec![0, 1, 2, 3]),
        (vec![0, 2, 4], vec![0, 1, 2, 4]),
        (vec![0, 1, 2, 3], vec![1, 3]),
        (vec![0, 1, 2], vec![1, 2, 5]),
        (vec![0, 1], vec![2, 3]),
    ];
    cases.extend((0..6).map(|_| {
        let mut some = || {
            let mut all: Vec<u64> = (0..SEEDS).collect();
            all.shuffle(&mut random);
            all.truncate(random.random_range(2..=SEEDS as usize));
            all.sort_unstable();
            all
        };
        (some(), some())
    }));
    for (at, (before, now)) in cases.iter().enumerate() {
        let (case, out, fresh) = (format!("{before:?} to {now:?}"), format!("grown-{at}"), format!("fresh-{at}"));
        lab.run(&out, &["a"], before);
        let known = now.iter().filter(|seed| before.contains(seed)).count();
        let marked = lab.mark(&out, "m@a");
        let (computed, notes, read) = lab.run(&out, &["a"], now);
        lab.run(&fresh, &["a"], now);
        // The same seeds are the same cell, and nothing is done.
        assert_eq!(computed, usize::from(before != now), "{case}");
        if before != now {
            assert_eq!(notes.iter().any(|note| note.contains("are known from before")), known > 0, "{case}: {notes:?}");
            // Nothing is read when all is known; else every checkpoint once.
            let all = VALUES * (now.len() as u64 + 1);
            assert_eq!(read, if known == now.len() { 0 } else { all }, "{case}");
        }
        assert_grown(&case, (&marked, &lab.fit(&out, "m@a"), &lab.fit(&fresh, "m@a")));
    }
}

#[test]
fn a_dataset_more_is_computed_alone() {
    let lab = Lab::new();
    lab.run("grown", &["a", "c"], &[0, 1, 2]);
    let cell = lab.mark("grown", "m@a");
    let joint = lab.mark("grown", "m+joint");
    // Behind, before and between the others.
    let (computed, notes, _) = lab.run("grown", &["b", "a", "d", "c"], &[0, 1, 2]);
    assert_eq!(computed, 3, "two cells and the joint one");
    assert!(notes.iter().any(|note| note.starts_with("m+joint: 6 of 12 seeds are known")), "{notes:?}");
    lab.run("fresh", &["b", "a", "d", "c"], &[0, 1, 2]);
    assert_grown("joint", (&joint, &lab.fit("grown", "m+joint"), &lab.fit("fresh", "m+joint")));
    assert_eq!(lab.fit("grown", "m@a").layers, cell.layers);
    assert_eq!(lab.fit("grown", "m@d").layers, lab.fit("fresh", "m@d").layers);
    // A dataset fewer and a seed more at once.
    let joint = lab.mark("grown", "m+joint");
    let (computed, notes, _) = lab.run("grown", &["d", "b"], &[0, 1, 2, 3]);
    assert_eq!(computed, 3);
    assert!(notes.iter().any(|note| note.starts_with("m+joint: 6 of 8 seeds are known")), "{notes:?}");
    lab.run("smaller", &["d", "b"], &[0, 1, 2, 3]);
    assert_grown("smaller", (&joint, &lab.fit("grown", "m+joint"), &lab.fit("smaller", "m+joint")));
}

#[test]
fn shards_grow_from_the_whole_that_was_there_and_reduce_to_the_same_bits() {
    let lab = Lab::new();
    let grow = |out: &str, shards: u32| {
        lab.run(out, &["a"], &[0, 2, 3]);
        let (study, seen) = lab.study(out, (&["a"], &[0, 1, 2, 3], shards));
        block_on(async {
            let survey = study::survey(&study).await.unwrap();
            for index in 0..shards {
                let outcome = study::shard(&study, &survey, ShardId { index, of: shards }).await.unwrap();
                assert_eq!((outcome.computed, outcome.failed.len()), (1, 0));
            }
            let state = || study::status(&study, &survey).unwrap()[0].state;
            assert_eq!(state(), "to reduce");
            assert_eq!(study::reduce(&study, &survey).unwrap().computed, 1);
            assert_eq!(state(), "done");
        });
        let (_, notes, _) = seen.take(0);
        assert_eq!(notes.iter().filter(|note| note.contains("3 of 4 seeds are known")).count(), shards as usize);
        lab.fit(out, "m@a")
    };
    let sharded = grow("sharded", 2);
    lab.run("whole", &["a"], &[0, 2, 3]);
    lab.run("whole", &["a"], &[0, 1, 2, 3]);
    assert_eq!(sharded.layers, lab.fit("whole", "m@a").layers);
}

#[test]
fn a_file_that_was_changed_is_another_whatever_its_date_says() {
    let lab = Lab::new();
    lab.run("out", &["a"], &[0, 1, 2]);
    let path = lab.path("a_1.ckpt");
    let (size, date) = (fs::metadata(&path).unwrap().len(), fs::metadata(&path).unwrap().modified().unwrap());
    lab.write("a_1", 999);
    File::options().write(true).open(&path).unwrap().set_modified(date).unwrap();
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!((metadata.len(), metadata.modified().unwrap()), (size, date));
    let (computed, notes, _) = lab.run("out", &["a"], &[0, 1, 2]);
    assert_eq!(computed, 1);
    assert!(notes.iter().any(|note| note.contains("2 of 3 seeds are known")), "{notes:?}");
    lab.run("fresh", &["a"], &[0, 1, 2]);
    for (grown, fresh) in lab.fit("out", "m@a").layers.iter().zip(&lab.fit("fresh", "m@a").layers) {
        let pairs = grown.gram.values().iter().zip(fresh.gram.values());
        pairs.for_each(|(x, y)| assert!((x - y).abs() <= 1e-14 * fresh.gram.values()[0], "{x} {y}"));
    }
}

#[test]
fn a_fit_starts_from_the_one_in_its_folder() {
    let lab = Lab::new();
    let at = |name: &str| lab.path(name).display().to_string();
    let fit = |seeds: &str, extra: &[&str]| {
        let all = ["fit", "--json", "--dataset", "a", "--pretrained", &at("pt.ckpt"), "--seeds", seeds];
        let into = ["--finetuned", &at("a_{seed}.ckpt"), "--out", &at("fit")];
        let output = command(&[all.as_slice(), &into, extra].concat()).output().unwrap();
        let told = json(&output);
        (told["known_seeds"].as_u64().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned(), told)
    };
    let read = || Fit::read(Path::new(&at("fit"))).unwrap();
    assert_eq!(fit("0..3", &[]).0, 0);
    let (known, said, _) = fit("0..5", &[]);
    assert!(known == 4 && said.contains("4 of 6 seeds are known from the fit in"), "{said}");
    let grown = read();
    let (known, said, again) = fit("0..5", &[]);
    assert!(known == 6 && said.contains("all 6 seeds are known"), "{said}");
    assert_eq!(read().layers, grown.layers);
    let (known, _, fresh) = fit("0..5", &["--fresh"]);
    assert_eq!(known, 0);
    for (a, b) in again["layers"].as_array().unwrap().iter().zip(fresh["layers"].as_array().unwrap()) {
        let [a, b] = [a, b].map(|layer| layer["total_variance"].as_f64().unwrap());
        assert!((a - b).abs() <= 1e-12 * b, "{a} {b}");
    }
    assert_eq!(fit("1,4", &[]).0, 2, "seeds fewer");
    // Some layers only: known for those; more layers: known for the ones that were there.
    assert_eq!(fit("1,4", &["--layers", "block.1.*"]).0, 2);
    let (known, _, more) = fit("1,4,5", &[]);
    assert_eq!((known, more["layers"].as_array().map(Vec::len)), (2, Some(LAYERS.len())));
    // Whatever counts more than products reads everything anyway.
    assert_eq!(fit("1,4,5", &["--interference"]).0, 0);
    lab.write("pt", 1000);
    assert_eq!(fit("1,4,5", &[]).0, 0, "another pretrained checkpoint");
}
