//! `compare` as a user runs it: geometry that is known by hand, fits made at different times, products that are kept.
#![allow(
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    reason = "a test may end loudly"
)]

#[path = "support/command.rs"]
mod command;

use std::fs;
use std::path::Path;

use command::{Served, command, json, refused};
use serde_json::Value;
use wandb_pca::checkpoint::{NamedTensor, write_torch};
use wandb_pca::tensor::{Dtype, TensorView};

fn checkpoint(folder: &Path, name: &str, tensors: &[(&str, &[f64])]) {
    let bytes = |values: &[f64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let views: Vec<_> = tensors
        .iter()
        .map(|(name, values)| (*name, TensorView::contiguous(Dtype::F64, vec![values.len()], bytes(values)).unwrap()))
        .collect();
    let named: Vec<_> = views.iter().map(|(name, view)| NamedTensor::new(name, view)).collect();
    let folder = folder.join(name);
    fs::create_dir_all(&folder).unwrap();
    write_torch(&mut fs::File::create(folder.join("trained.ckpt")).unwrap(), &named).unwrap();
}

/// `h.0.w` varies along x for dataset A, and for dataset B along x turned by 0.3 towards y; `h.1.w` along z for A, and not at
/// all for B; C is A moved.
fn models(folder: &Path) {
    let (s, c) = 0.3f64.sin_cos();
    let base = [1.0, 2.0, 3.0];
    let at = |x: [f64; 3]| [base[0] + x[0], base[1] + x[1], base[2] + x[2]];
    checkpoint(folder, "m_pt", &[("h.0.w", &base), ("h.1.w", &base)]);
    for (seed, sign) in [(0, 1.0), (1, -1.0)] {
        let name = |dataset: &str| format!("m_{dataset}_{seed}");
        checkpoint(folder, &name("A"), &[("h.0.w", &at([sign, 0.0, 5.0])), ("h.1.w", &at([0.0, 0.0, sign]))]);
        checkpoint(
            folder,
            &name("B"),
            &[("h.0.w", &at([3.0 + sign * c, sign * s, 0.0])), ("h.1.w", &at([1.0, 0.0, 0.0]))],
        );
        checkpoint(folder, &name("C"), &[("h.0.w", &at([2.0 * sign, 1.0, 1.0])), ("h.1.w", &at([0.0, sign, 0.0]))]);
    }
}

fn fit(folder: &Path, dataset: &str, more: &[&str]) {
    let finetuned = format!("m_{dataset}_{{seed}}/trained.ckpt");
    let out = format!("fit-{dataset}");
    let arguments = ["fit", "--pretrained", "m_pt/trained.ckpt", "--finetuned", &finetuned, "--seeds", "0,1", "--json"];
    let output =
        command(&arguments).args(["--dataset", dataset, "--out", &out]).args(more).current_dir(folder).output();
    json(&output.unwrap());
}

fn near(value: &Value, expected: f64) {
    let found = value.as_f64().unwrap_or_else(|| panic!("{value} is not {expected}"));
    assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
}

#[test]
fn angles_residuals_and_scatter_are_those_of_the_geometry() {
    let folder = tempfile::tempdir().unwrap();
    models(folder.path());
    fit(folder.path(), "A", &[]);
    fit(folder.path(), "B", &[]);
    let run = |more: &[&str]| {
        let arguments = ["compare", "fit-A", "fit-B", "--json"];
        command(&arguments).args(more).current_dir(folder.path()).output().unwrap()
    };
    let layers = json(&run(&["--group", "layer"]));
    assert_eq!((&layers["schema"], &layers["checkpoints_read"]), (&"wandb-pca/compare/1".into(), &true.into()));
    let pair = &layers["pairs"][0];
    assert_eq!((&pair["group"], &pair["first"], &pair["second"]), (&"h.0.w".into(), &"A".into(), &"B".into()));
    near(&pair["smallest_angle_degrees"], 0.3f64.to_degrees());
    near(&pair["overlap"], 0.3f64.cos().powi(2));
    near(&pair["residual_first_in_second"], 0.3f64.sin().powi(2));
    // B does not vary in h.1.w: no component, no angle; none of A's variance is in it.
    let frozen = &layers["pairs"][1];
    assert_eq!((&frozen["overlap"], &frozen["residual_second_in_first"]), (&Value::Null, &Value::Null));
    near(&frozen["residual_first_in_second"], 1.0);
    // h.0.w: A at (±1, 0, 5), B at (3 ± c, ± s, 0): within 2 + 2, between 4 (1.5² + 2.5²).
    let joint = &layers["joint"][0];
    near(&joint["within"], 4.0);
    near(&joint["between"], 4.0 * (1.5f64.powi(2) + 2.5f64.powi(2)));
    let similarity = &layers["similarity"];
    assert_eq!(similarity["labels"][2], serde_json::json!(["B", "0"]));
    near(&similarity["cosine"][0][1], (-1.0 + 25.0 - 1.0) / (26.0 + 1.0));
    let whole = json(&run(&[]));
    // Over the whole model A varies along (x, z)/√2 of both layers, B along its own direction of the first.
    near(&whole["pairs"][0]["smallest_angle_degrees"], (0.3f64.cos() / 2f64.sqrt()).acos().to_degrees());
    near(&whole["joint"][0]["within"], 6.0);
    for file in
        ["compare.json", "gram.safetensors", "pairs.parquet", "angles.parquet", "joint.parquet", "similarity.parquet"]
    {
        assert!(folder.path().join("compare-A-B").join(file).is_file(), "{file}");
    }
    let page = fs::read_to_string(folder.path().join("compare-A-B/report.html")).unwrap();
    assert!(page.contains("Between datasets") && page.contains("Principal angles between datasets"));
    let text = command(&["compare", "fit-A", "fit-B", "--csv"]).current_dir(folder.path()).output().unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("A (2), B (2)") && text.contains("between datasets"), "{text}");
    assert!(
        fs::read_to_string(folder.path().join("compare-A-B/pairs.csv")).unwrap().starts_with("grouping,group,first")
    );
    let report = command(&["report", "fit-A", "compare-A-B", "--plots", "--json"]).current_dir(folder.path()).output();
    let files = json(&report.unwrap())["files"].to_string();
    assert!(files.contains("principal-angles.png") && files.contains("overlap.svg"), "{files}");
}

#[test]
fn fits_that_do_not_belong_together_are_refused_and_layers_are_those_in_common() {
    let folder = tempfile::tempdir().unwrap();
    models(folder.path());
    fit(folder.path(), "A", &[]);
    fit(folder.path(), "C", &["--layers", "h.0.*"]);
    let compare =
        |fits: &[&str]| command(&["compare", "--json"]).args(fits).current_dir(folder.path()).output().unwrap();
    let found = json(&compare(&["fit-A", "fit-C"]));
    assert_eq!((&found["layers"], &found["left_out"][0]), (&1.into(), &"h.1.w".into()));
    refused(&compare(&["fit-A"]), 2, &["2"]);
    refused(&compare(&["fit-A", "./fit-B"]), 3, &["./fit-B"]);
    refused(&compare(&["fit-A", "fit-C", "--layers", "h.1.*"]), 1, &["no layer in common", "hint:"]);
    let other = folder.path().join("other");
    models(&other);
    fit(&other, "B", &[]);
    assert_eq!(json(&compare(&["fit-A", "other/fit-B"]))["layers"], 2, "the same weights, wherever they lie");
    checkpoint(&other, "m_pt", &[("h.0.w", &[1.0, 2.0, 3.5]), ("h.1.w", &[1.0, 2.0, 3.0])]);
    fit(&other, "B", &[]);
    refused(&compare(&["fit-A", "other/fit-B"]), 1, &["pretrained checkpoint", "m_pt", "hint:"]);
    fs::write(folder.path().join("m_A_1/trained.ckpt"), b"gone").unwrap();
    refused(&compare(&["fit-A", "fit-C", "--out", "again"]), 5, &["m_A_1", "was made from"]);
    // As long as it was, and no longer what it was.
    checkpoint(folder.path(), "m_A_1", &[("h.0.w", &[0.0; 3]), ("h.1.w", &[0.0; 3])]);
    refused(&compare(&["fit-A", "fit-C", "--out", "again"]), 5, &["m_A_1", "was made from zip-crc32:"]);
    assert!(!folder.path().join("again").exists(), "nothing is left of a comparison that failed");
}

#[test]
fn fits_of_the_server_are_compared_logged_and_extended_without_reading_twice() {
    let served = Served::start();
    models(served.path());
    for name in ["m_pt", "m_A_0", "m_A_1", "m_B_0", "m_B_1", "m_C_0", "m_C_1"] {
        let file = served.path().join(name).join("trained.ckpt");
        served.ok(&["artifact", "put", file.to_str().unwrap(), "--name", &format!("p/{name}")]);
    }
    for dataset in ["A", "B", "C"] {
        let finetuned = format!("p/m_{dataset}_{{seed}}");
        served.ok(&["fit", "--pretrained", "p/m_pt", "--finetuned", &finetuned, "--seeds", "0,1", "--out", dataset]);
    }
    let two = served.ok(&["compare", "p/m_A_pca", "p/m_B_pca:latest", "--out", "joint"]);
    assert_eq!((&two["checkpoints_read"], &two["datasets"][0]["fit"]), (&true.into(), &"local/p/m_A_pca:v0".into()));
    near(&two["pairs"][0]["smallest_angle_degrees"], (0.3f64.cos() / 2f64.sqrt()).acos().to_degrees());
    assert!(two["artifact"].as_str().unwrap().starts_with("local/p/m_A_B_comparison"), "{two}");
    let lineage = served.ok(&["artifact", "lineage", "p/m_A_pca"]).to_string();
    assert!(lineage.contains("compare"), "the run used the fit: {lineage}");
    let again = served.ok(&["compare", "A", "B", "--out", "joint", "--no-log"]);
    assert_eq!((&again["checkpoints_read"], &again["run"]), (&false.into(), &Value::Null));
    assert_eq!(again["pairs"], two["pairs"]);
    let three = served.ok(&["compare", "A", "B", "p/m_C_pca", "--out", "joint", "--no-log"]);
    assert_eq!(three["checkpoints_read"], true);
    let anew = served.ok(&["compare", "A", "B", "C", "--out", "anew"]);
    let numbers = |value: &Value| -> Vec<f64> {
        value["similarity"]["cosine"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|row| row.as_array().unwrap().clone())
            .map(|x| x.as_f64().unwrap())
            .collect()
    };
    for (a, b) in numbers(&three).iter().zip(numbers(&anew)) {
        assert!((a - b).abs() < 1e-12);
    }
    assert_eq!(numbers(&three).len(), 36);
    refused(&served.run(&["compare", "p/m_A_pca", "p/m_A_0"]), 1, &["m_A_0", "is not a fit", "hint:"]);

    // Reports of what is on the server are those of the folders.
    let page = |arguments: &[&str], file: &str| {
        served.ok(&[&["report", "--output", file], arguments].concat());
        fs::read_to_string(served.path().join(file)).unwrap()
    };
    let comparison = two["artifact"].as_str().unwrap();
    assert_eq!(page(&["A"], "folder.html"), page(&["p/m_A_pca:latest"], "artifact.html"));
    let both = page(&["p/m_A_pca", "B", comparison], "both.html");
    assert!(both.contains("Between datasets") && both.contains("Principal angles between datasets"));
    refused(&served.run(&["report", comparison, "joint"]), 2, &["one comparison"]);
    refused(&served.run(&["report", "p/m_A_0"]), 1, &["m_A_0", "is not a fit"]);
    refused(&served.run(&["report", "p/none_pca"]), 3, &["none_pca"]);
}

#[test]
fn models_are_drawn_from_a_fit_on_the_server_and_know_where_they_come_from() {
    let served = Served::start();
    models(served.path());
    for name in ["m_pt", "m_A_0", "m_A_1"] {
        let file = served.path().join(name).join("trained.ckpt");
        served.ok(&["artifact", "put", file.to_str().unwrap(), "--name", &format!("p/{name}")]);
    }
    served.ok(&["fit", "--pretrained", "p/m_pt", "--finetuned", "p/m_A_{seed}", "--seeds", "0,1", "--out", "A"]);
    // Versions that come later change nothing: the fit names its inputs by version and digest.
    checkpoint(served.path(), "m_A_1", &[("h.0.w", &[9.0; 3]), ("h.1.w", &[9.0; 3])]);
    let moved = served.path().join("m_A_1/trained.ckpt");
    served.ok(&["artifact", "put", moved.to_str().unwrap(), "--name", "p/m_A_1"]);
    // On a machine that has neither the fit nor the checkpoints.
    let elsewhere = tempfile::tempdir().unwrap();
    let there = |arguments: &[&str]| {
        let mut command = served.command(&[arguments, &["--json"]].concat());
        command.env("WANDB_CACHE_DIR", elsewhere.path().join("cache")).current_dir(elsewhere.path()).output().unwrap()
    };
    let drawn = json(&there(&["sample", "p/m_A_pca:latest", "--random-seed", "7", "--log"]));
    let model = &drawn["models"][0];
    let file = elsewhere.path().join("m_A_pca-samples/variance-7-0/trained.ckpt");
    assert_eq!(model["files"][0], "m_A_pca-samples/variance-7-0/trained.ckpt");
    let here = served.ok(&["sample", "A", "--random-seed", "7"]);
    assert_eq!(here["models"][0]["weights"], model["weights"]);
    assert_eq!(fs::read(file).unwrap(), fs::read(served.path().join("A/samples/variance-7-0/trained.ckpt")).unwrap());
    let artifact = model["artifact"].as_str().unwrap();
    assert_eq!(artifact, "local/p/m_A_sample:v0");
    let lineage = json(&there(&["artifact", "lineage", artifact])).to_string();
    for used in ["m_A_pca:v0", "m_pt:v0", "m_A_0:v0", "m_A_1:v0"] {
        assert!(lineage.contains(used), "{used} is not in {lineage}");
    }
    assert!(!lineage.contains("m_A_1:v1"), "{lineage}");
    // All that was had once is there without the server.
    let offline = there(&["sample", "p/m_A_pca:latest", "--random-seed", "7", "--offline", "--out", "again"]);
    assert_eq!(json(&offline)["models"][0]["weights"], model["weights"]);
}
