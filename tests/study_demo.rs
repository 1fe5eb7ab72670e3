//! `demo --study`: a study of 2 models × 3 datasets × 5 seeds on the embedded server in one command; run twice, grown, and
//! killed at random moments, the server with it. `STUDY_KILLS=50 cargo test --test study_demo killed -- --nocapture` kills
//! more.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may end loudly")]

#[path = "support/command.rs"]
mod command;
#[path = "support/kill.rs"]
mod kill;
#[path = "support/study_folder.rs"]
mod study_folder;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use command::{command, json, refused};
use kill::Killer;
use study_folder::{computed_once, numbers};

const MODELS: [&str; 2] = ["ViT-demo-S", "ViT-demo-M"];
const DATASETS: [&str; 3] = ["CIFAR100", "DTD", "SVHN"];

fn demo(data: &Path) -> Command {
    command(&["demo", "--study", "--json", "--data", data.to_str().unwrap()])
}

fn results(data: &Path) -> PathBuf {
    data.join("results/study-demo")
}

fn tasks() -> Vec<String> {
    let cells = |model: &&str| DATASETS.map(|dataset| format!("{model}@{dataset}")).into_iter().collect::<Vec<_>>();
    let joints = MODELS.iter().map(|model| format!("{model}+joint"));
    MODELS.iter().flat_map(cells).chain(joints).collect()
}

#[test]
fn the_study_of_the_demo_is_done_once_and_grows() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path();
    let first = json(&demo(data).output().unwrap());
    let counts = |told: &serde_json::Value| {
        ["uploaded", "computed", "before"].map(|name| told[name].as_u64().unwrap_or(u64::MAX))
    };
    assert_eq!((counts(&first), first["runs"].as_array().map(Vec::len)), ([32, 8, 0], Some(7)));
    assert_eq!((first["cells"].as_array().map(Vec::len), first["artifacts"].as_u64()), (Some(6), Some(32)));
    assert_eq!(first["datasets"].as_array().map(Vec::len), Some(12), "pairs of datasets, each with itself too");
    let pages: Vec<&str> = first["reports"].as_array().unwrap().iter().map(|page| page.as_str().unwrap()).collect();
    assert_eq!(pages.len(), 2);
    for (page, model) in pages.iter().zip(MODELS) {
        let text = fs::read_to_string(page).unwrap();
        assert!(text.contains(&format!("{model} on SVHN")) && text.contains("Between datasets"), "{page}");
    }
    let bits = numbers(&results(data), &tasks());
    let again = json(&demo(data).output().unwrap());
    assert_eq!((counts(&again), again["runs"].as_array().map(Vec::len)), ([0, 0, 8], Some(0)));
    assert_eq!(again["cells"], first["cells"]);
    assert_eq!(numbers(&results(data), &tasks()), bits);

    // What it says to try next: how far it is, without a server; and one more seed.
    let out = results(data);
    let file = data.join("study.yaml");
    let status = ["--json", "study", "status", file.to_str().unwrap(), "--out", out.to_str().unwrap()];
    let status = json(&command(&status).env("WANDB_CACHE_DIR", data.join("elsewhere")).output().unwrap());
    assert_eq!(status["done"], 8);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("seeds: 0..4", "seeds: 0..5")).unwrap();
    let grown = json(&demo(data).output().unwrap());
    assert_eq!((counts(&grown), grown["cells"][0]["seeds"].as_u64()), ([6, 8, 0], Some(6)));
    fs::write(&file, text.replace("seeds: 0..4", "seeds: 4..0")).unwrap();
    refused(&demo(data).output().unwrap(), 2, &["study.yaml", "line 8, column 8", "4..0"]);

    fs::write(&file, text.replace("seeds: 0..4", "seeds: 0..5")).unwrap();
    let said = command(&["demo", "--study", "--data", data.to_str().unwrap()]).output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout);
    for word in ["ViT-demo-M", "first angle", "report-ViT-demo-S.html", "study.yaml", "8 done before", "study status"] {
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
}

#[test]
fn killed_with_its_server_and_run_again() {
    let kills: u32 = std::env::var("STUDY_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    let mut killer = Killer::new(kills, || demo(&whole));
    let expected = numbers(&results(&whole), &tasks());
    while !killer.is_done() {
        // A server, cache and folder of its own each time; some rounds are killed several times before they end.
        let data = folder.path().join(format!("round-{}", killer.begin_round()));
        killer.run_to_the_end(|| demo(&data));
        assert_eq!(numbers(&results(&data), &tasks()), expected, "round {}", killer.round());
        computed_once(&results(&data));
        let again = json(&demo(&data).output().unwrap());
        assert_eq!((again["computed"].as_u64(), again["uploaded"].as_u64()), (Some(0), Some(0)));
        fs::remove_dir_all(&data).unwrap();
    }
    println!("{killer}");
}
