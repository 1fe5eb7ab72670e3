//! The main job as a user runs it, and what happens when the user, the files or the server are wrong.
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
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, SystemTime};

use command::{Served, command, files_below, json, refused, run};

use serde_json::Value;
use wandb_pca::checkpoint::{Checkpoint, NamedTensor, OpenOptions, write_safetensors, write_torch};
use wandb_pca::digest::{Algorithm, Digest};
use wandb_pca::tensor::{Dtype, TensorView};

#[test]
fn the_demo_runs_and_downloads_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let first = json(&run(&["demo", "--data", data, "--json"]));
    assert_eq!((first["uploaded"].as_u64(), first["downloaded"].as_u64()), (Some(21), Some(21)));
    let again = json(&run(&["demo", "--data", data, "--json"]));
    assert_eq!((again["uploaded"].as_u64(), again["downloaded"].as_u64()), (Some(0), Some(0)));
    for at in 0..2 {
        assert_eq!(first["fits"][at]["totals"], again["fits"][at]["totals"]);
        let fit = PathBuf::from(first["fits"][at]["folder"].as_str().unwrap());
        for file in ["fit.json", "layers.parquet", "components.parquet", "gram.safetensors", "wandb-pca.lock"] {
            assert!(fit.join(file).is_file(), "{file}");
        }
    }
    let pair = &first["comparison"]["pairs"][0];
    assert_eq!((&pair["first"], &pair["second"]), (&"CIFAR100".into(), &"DTD".into()));
    assert!(pair["overlap"].as_f64().is_some_and(|overlap| (0.0..=1.0).contains(&overlap)), "{pair}");
    assert_eq!(again["comparison"]["pairs"], first["comparison"]["pairs"]);
    let text = run(&["demo", "--data", data]);
    let text = String::from_utf8_lossy(&text.stdout);
    assert!(text.contains("model.visual.transformer.resblocks.3.mlp.c_fc.weight"), "{text}");
    assert!(!text.contains("partial-"));
}

#[test]
fn artifacts_are_put_got_listed_and_described() {
    let served = Served::start();
    fs::create_dir(served.folder.path().join("in")).unwrap();
    fs::write(served.folder.path().join("in/a.txt"), "hello\n").unwrap();
    let put = json(&served.run(&["artifact", "put", "in", "--name", "p/thing", "--alias", "best", "--json"]));
    assert_eq!(put["artifact"], "local/p/thing:v0");
    let same = json(&served.run(&["artifact", "put", "in", "--name", "p/thing", "--json"]));
    assert_eq!(same["version"], "v0", "the same bytes are the same version");
    let got = json(&served.run(&["artifact", "get", "p/thing:best", "--root", "out", "--json"]));
    assert_eq!(got["artifacts"][0]["files"][0]["downloaded"], true);
    assert_eq!(fs::read(served.folder.path().join("out/a.txt")).unwrap(), b"hello\n");
    let again = json(&served.run(&["artifact", "get", "p/thing", "--root", "out", "--json"]));
    assert_eq!(again["artifacts"][0]["files"][0]["downloaded"], false);
    let list = json(&served.run(&["artifact", "ls", "p", "--json"]));
    assert_eq!(list["artifacts"][0]["name"], "thing");
    let info = json(&served.run(&["artifact", "info", "p/thing", "--json"]));
    assert_eq!(info["entries"][0]["digest"], "sZRqySSS0jR8YjW00mERhA==");
    let who = json(&served.run(&["whoami", "--json"]));
    assert_eq!((&who["entity"], &who["key_source"]), (&Value::from("local"), &Value::from("WANDB_API_KEY")));
}

#[test]
fn what_the_server_refuses_is_told_with_its_code() {
    let served = Served::start();
    refused(&served.run(&["artifact", "get", "local/none/nothing:latest"]), 3, &["local/none/nothing", "hint:"]);
    let wrong = "0".repeat(40);
    let denied = served.with_key(&wrong, &["whoami"]);
    refused(&denied, 4, &["does not accept the credential", "hint:"]);
    assert!(!String::from_utf8_lossy(&denied.stderr).contains(&wrong), "the key is not repeated");
    let nobody = command(&["--base-url", "http://127.0.0.1:9", "artifact", "get", "e/p/n", "-q"])
        .env("WANDB_API_KEY", &wrong)
        .env("WANDB_X_GRAPHQL_RETRY_MAX", "1")
        .output()
        .unwrap();
    refused(&nobody, 6, &["e/p/n", "hint:"]);
    refused(&command(&["--offline", "artifact", "get", "e/p/n"]).output().unwrap(), 3, &["offline"]);
}

#[test]
fn bytes_that_were_altered_on_the_server_are_refused() {
    let served = Served::start();
    let file = served.folder.path().join("weights.bin");
    fs::write(&file, vec![7u8; 50_000]).unwrap();
    json(&served.run(&["artifact", "put", "weights.bin", "--name", "p/w", "--json"]));
    let mut altered = 0;
    for blob in files_below(&served.folder.path().join("data")) {
        let mut bytes = fs::read(&blob).unwrap();
        if bytes.len() == 50_000 {
            bytes[1000] ^= 1;
            fs::write(&blob, bytes).unwrap();
            altered += 1;
        }
    }
    assert_eq!(altered, 1, "the server keeps the file once");
    refused(&served.run(&["artifact", "get", "p/w", "--root", "out"]), 5, &["local/p/w:v0", "weights.bin", "hint:"]);
    assert!(!served.folder.path().join("out/weights.bin").exists());
}

fn checkpoint(path: &Path, tensors: &[(&str, &[f32])]) {
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let views: Vec<_> = tensors
        .iter()
        .map(|(name, values)| (*name, TensorView::contiguous(Dtype::F32, vec![values.len()], bytes(values)).unwrap()))
        .collect();
    let named: Vec<_> = views.iter().map(|(name, view)| NamedTensor::new(name, view)).collect();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    write_torch(&mut fs::File::create(path).unwrap(), &named).unwrap();
}

/// A pretrained model and three seeds, of which the last is as given.
fn fit_with(last: &[(&str, &[f32])]) -> (tempfile::TempDir, Output) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).join("trained.ckpt");
    checkpoint(&at("pt"), &[("a", &[1.0, 2.0]), ("b", &[0.0])]);
    checkpoint(&at("ft_0"), &[("a", &[1.5, 2.0]), ("b", &[0.0])]);
    checkpoint(&at("ft_1"), &[("a", &[1.0, 2.5]), ("b", &[0.0])]);
    checkpoint(&at("ft_2"), last);
    let arguments =
        ["fit", "--pretrained", "pt/trained.ckpt", "--finetuned", "ft_{seed}/trained.ckpt", "--seeds", "0..2"];
    let output = command(&arguments).args(["--out", "fit", "--json"]).current_dir(folder.path()).output().unwrap();
    (folder, output)
}

#[test]
fn checkpoints_that_do_not_match_are_named() {
    let (folder, good) = fit_with(&[("a", &[1.0, 2.0]), ("b", &[0.0])]);
    let fit = json(&good);
    assert_eq!(fit["layers"][1]["degenerate"], true);
    assert_eq!(fit["layers"][1]["explained_variance_ratio"], Value::Null);
    assert!(fit["layers"][0]["total_variance"].as_f64().unwrap() > 0.0);
    drop(folder);
    type Case<'a> = (&'a [(&'a str, &'a [f32])], &'a [&'a str]);
    let cases: [Case<'_>; 5] = [
        (&[("a", &[1.0, 2.0])], &["ft_2/trained.ckpt", "layer b", "missing"]),
        (&[("a", &[1.0, 2.0]), ("b", &[0.0]), ("c", &[0.0])], &["ft_2/trained.ckpt", "layer c"]),
        (&[("a", &[1.0, 2.0, 3.0]), ("b", &[0.0])], &["ft_2/trained.ckpt", "layer a", "shape"]),
        (&[("a", &[f32::NAN, 2.0]), ("b", &[0.0])], &["ft_2/trained.ckpt", "layer a", "not finite", "element 0"]),
        (&[("a", &[1.0, f32::INFINITY]), ("b", &[0.0])], &["ft_2/trained.ckpt", "element 1"]),
    ];
    for (last, words) in cases {
        let (folder, output) = fit_with(last);
        refused(&output, 1, words);
        refused(&output, 1, &["hint:"]);
        assert!(!folder.path().join("fit").exists(), "nothing is left of a fit that failed");
    }
}

#[test]
fn layers_of_artifacts_are_read_without_fetching_the_rest() {
    let served = Served::start();
    let large: Vec<f32> = (0..400_000u32).map(|i| (i % 251) as f32).collect();
    for (name, shift) in [("m_pt", 0.0), ("m_task_0", 1.0), ("m_task_1", 3.0)] {
        let path = served.folder.path().join(name).join("trained.ckpt");
        let head: Vec<f32> = (0..30_000u16).map(|i| f32::from(i) + shift).collect();
        checkpoint(&path, &[("body", &large), ("head.weight", &head), ("head.bias", &[shift])]);
        json(&served.run(&["artifact", "put", path.to_str().unwrap(), "--name", &format!("p/{name}"), "--json"]));
    }
    let list = json(&served.run(&["inspect", "p/m_pt", "--json"]));
    assert_eq!((&list["schema"], &list["verified"]), (&Value::from("wandb-pca/inspect/2"), &Value::from("partly")));
    assert_eq!((&list["path"], &list["tensors"][0]["norm"]), (&Value::Null, &Value::Null));
    assert!(list["parts"]["fetched_bytes"].as_u64().unwrap() < 64_000);
    let text = served.run(&["inspect", "p/m_pt", "--layers", "head.*"]);
    let text = String::from_utf8_lossy(&text.stdout);
    assert!(text.contains("head.bias") && !text.contains("body") && text.contains("partly verified"), "{text}");
    let arguments = ["fit", "--pretrained", "p/m_pt", "--finetuned", "p/m_task_{seed}", "--seeds", "0,1", "--json"];
    let fit_of = |more: &[&str]| json(&served.run(&[&arguments[..], more].concat()));
    let parts = fit_of(&["--layers", "head.*", "--out", "parts"]);
    assert_eq!((&parts["schema"], &parts["verified"]), (&Value::from("wandb-pca/fit/2"), &Value::from("partly")));
    assert!(parts["inputs"].as_array().unwrap().iter().all(|input| input["verified"] == "partly"));
    let whole = fit_of(&["--layers", "head.*", "--out", "whole", "--whole"]);
    assert_eq!((&whole["verified"], &whole["layers"]), (&Value::from("whole"), &parts["layers"]));
    // The lock of the fit of parts holds the fit of whole files too.
    fit_of(&["--layers", "head.*", "--out", "parts", "--locked"]);
    refused(&served.run(&[&arguments[..], &["--partial"]].concat()), 2, &["--layers"]);
}

#[test]
fn a_model_is_not_drawn_from_files_that_changed_since_the_fit() {
    let (folder, good) = fit_with(&[("a", &[1.0, 2.0]), ("b", &[0.0])]);
    json(&good);
    let draw = || command(&["sample", "fit", "--json"]).current_dir(folder.path()).output().unwrap();
    assert_eq!(json(&draw())["models"].as_array().map(Vec::len), Some(1));
    checkpoint(&folder.path().join("ft_1/trained.ckpt"), &[("a", &[1.0, 2.5]), ("b", &[0.0]), ("longer", &[0.0; 64])]);
    refused(&draw(), 5, &["ft_1/trained.ckpt", "was made from", "hint:"]);
    // As long as before, and one weight is another.
    checkpoint(&folder.path().join("ft_1/trained.ckpt"), &[("a", &[1.0, 2.25]), ("b", &[0.0])]);
    refused(&draw(), 5, &["ft_1/trained.ckpt", "was made from zip-crc32:", "hint:"]);
    // The same weights, written at another time.
    checkpoint(&folder.path().join("ft_1/trained.ckpt"), &[("a", &[1.0, 2.5]), ("b", &[0.0])]);
    json(&draw());
}

#[test]
fn local_files_are_known_by_their_content() {
    let folder = tempfile::tempdir().unwrap();
    let large: Vec<f32> = (0..400_000u32).map(|i| (i % 251) as f32).collect();
    for (name, shift) in [("pt", 0.0), ("ft_0", 1.0), ("ft_1", 3.0)] {
        let view = |values: &[f32]| {
            let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
            TensorView::contiguous(Dtype::F32, vec![values.len()], bytes).unwrap()
        };
        let (a, b) = (view(&large.iter().map(|x| x + shift).collect::<Vec<_>>()), view(&[shift]));
        let file = fs::File::create(folder.path().join(format!("{name}.safetensors"))).unwrap();
        write_safetensors(&mut { file }, &[NamedTensor::new("a", &a), NamedTensor::new("b", &b)]).unwrap();
    }
    let cache = folder.path().join("cache");
    let run = |arguments: &[&str]| {
        command(arguments).env("WANDB_CACHE_DIR", &cache).current_dir(folder.path()).output().unwrap()
    };
    let fit = |out: &str| {
        let inputs = ["--pretrained", "pt.safetensors", "--finetuned", "ft_{seed}.safetensors", "--seeds", "0,1"];
        json(&run(&[&["fit", "--json", "--out", out], &inputs[..]].concat()))
    };
    let digests = |fit: &Value| -> Vec<Value> {
        fit["inputs"].as_array().unwrap().iter().map(|input| input["digest"].clone()).collect()
    };
    let path = folder.path().join("ft_1.safetensors");
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    fs::File::options().write(true).open(&path).unwrap().set_modified(hour_ago).unwrap();
    let first = digests(&fit("first"));
    let bytes = fs::read(&path).unwrap();
    assert_eq!(first[2], Digest::of(Algorithm::Xxh128, &bytes).to_string());
    assert!(first.iter().all(|digest| digest != &Value::Null) && first[0] != first[1] && first[1] != first[2]);
    assert_eq!(digests(&fit("again")), first, "whatever was remembered");
    json(&run(&["sample", "first", "--json"]));
    // Of the same length and time, and another weight.
    let mut other = bytes.clone();
    *other.last_mut().unwrap() ^= 1;
    fs::write(&path, &other).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(hour_ago).unwrap();
    refused(&run(&["sample", "first", "--json"]), 5, &["ft_1.safetensors", "was made from xxh128:", "hint:"]);
    assert_ne!(digests(&fit("other"))[2], first[2]);
}

#[test]
fn a_fit_counts_interference_and_prints_groups_when_asked() {
    let (folder, good) = fit_with(&[("a", &[0.5, 2.0]), ("b", &[0.0])]);
    let first = json(&good);
    assert_eq!(first["layers"][0]["sign_conflict"], Value::Null);
    assert!(first["layers"][0]["total_variance_error"].as_f64().unwrap() > 0.0);
    assert!(first["whole_model"]["first_ratio_certainty"]["null_high"].as_f64().unwrap() > 0.0);
    let arguments =
        ["fit", "--pretrained", "pt/trained.ckpt", "--finetuned", "ft_{seed}/trained.ckpt", "--seeds", "0..2"];
    let more = ["--out", "fit", "--sti", "--csv", "--group", "model", "--null-draws", "0"];
    let run =
        |json: &[&str]| command(&[&arguments, &more[..], json].concat()).current_dir(folder.path()).output().unwrap();
    let fit = json(&run(&["--json"]));
    // Task vectors of a: (0.5, 0), (0, 0.5), (−0.5, 0): the first parameter goes both ways, and so it does in the model.
    assert_eq!((&fit["layers"][0]["sign_conflict"], &fit["layers"][1]["sign_conflict"]), (&0.5.into(), &0.0.into()));
    assert_eq!((&fit["layers"][0]["mass_top_10"], &fit["layers"][1]["mass_top_10"]), (&1.0.into(), &Value::Null));
    assert_eq!(fit["layers"][0]["singular_interference"], Value::Null, "a vector is no matrix");
    assert!((fit["groups"][0]["sign_conflict"].as_f64().unwrap() - 1.0 / 3.0).abs() < 1e-12);
    assert_eq!(fit["whole_model"]["first_ratio_certainty"]["null_high"], Value::Null);
    assert_eq!(fit["layers"][0]["total_variance"], first["layers"][0]["total_variance"]);
    let text = String::from_utf8(run(&[]).stdout).unwrap();
    assert!(text.contains("signs conflict in 33.3 %") && text.contains("model       2"), "{text}");
    let table = fs::read_to_string(folder.path().join("fit/groups.csv")).unwrap();
    assert!(table.lines().last().unwrap().starts_with("model,model,2,3,"), "{table}");
    let report = command(&["report", "fit"]).current_dir(folder.path()).output().unwrap();
    assert!(report.status.success());
    assert!(fs::read_to_string(folder.path().join("report.html")).unwrap().contains("Mass in top 1 %"), "it is kept");
}

#[test]
fn components_are_written_as_orthonormal_tensors() {
    let (folder, good) = fit_with(&[("a", &[0.5, 2.0]), ("b", &[0.0])]);
    let first = json(&good);
    assert_eq!(first["components"], Value::Null);
    let arguments =
        ["fit", "--pretrained", "pt/trained.ckpt", "--finetuned", "ft_{seed}/trained.ckpt", "--seeds", "0..2"];
    let more = ["--out", "fit", "--components", "5", "--json"];
    let fit = json(&command(&[&arguments[..], &more[..]].concat()).current_dir(folder.path()).output().unwrap());
    assert!(fit["components"]["deviation"].as_f64().unwrap() < 1e-12);
    let file = folder.path().join(fit["components"]["file"].as_str().unwrap());
    let file = Checkpoint::open(&file, &OpenOptions::default()).unwrap();
    let values = |name: &str, count: usize| {
        let mut values = vec![0.0; count];
        let view = file.tensor(name).unwrap();
        assert_eq!(view.len(), count, "{name}");
        view.read_f64(0, &mut values).unwrap();
        values
    };
    let v = values("a/components", 4);
    for (i, j) in [(0, 0), (0, 1), (1, 1)] {
        let dot: f64 = (0..2).map(|k| v[2 * i + k] * v[2 * j + k]).sum();
        assert!((dot - if i == j { 1.0 } else { 0.0 }).abs() < 1e-6, "{v:?}");
    }
    // Task vectors of a: (0.5, 0), (0, 0.5), (−0.5, 0): the first component is the first axis.
    assert!(v[0].abs() > 0.999999, "{v:?}");
    let mean = values("a/mean", 2);
    assert!(mean[0].abs() < 1e-7 && (mean[1] - 0.5 / 3.0).abs() < 1e-7, "{mean:?}");
    assert!(file.tensor("b/components").is_err(), "a layer without variance has no components");
    assert_eq!(values("b/mean", 1), [0.0]);
}

#[test]
fn every_way_to_sample_gives_the_model_that_it_says() {
    let (folder, good) = fit_with(&[("a", &[1.0, 2.0]), ("b", &[0.0])]);
    json(&good);
    let sample = |more: &[&str]| {
        let arguments = [&["sample", "fit", "--json", "--format", "safetensors"], more].concat();
        command(&arguments).current_dir(folder.path()).output().unwrap()
    };
    let model = |of: &Value| {
        let path = PathBuf::from(of["files"][0].as_str().unwrap());
        let model = Checkpoint::open(&folder.path().join(path), &OpenOptions::default()).unwrap();
        let mut values = [0.0; 2];
        model.tensor("a").unwrap().read_f64(0, &mut values).unwrap();
        values
    };
    // Seeds of layer a: (1.5, 2), (1, 2.5), (1, 2).
    let mean = &json(&sample(&["--scale", "mean"]))["models"][0];
    assert!((model(mean)[0] - 3.5 / 3.0).abs() < 1e-6 && mean["distance_to_mean"].as_f64().unwrap() < 1e-9);
    let between = json(&sample(&["--between", "0,1", "--at", "0,0.25,1"]));
    let models: Vec<[f64; 2]> = between["models"].as_array().unwrap().iter().map(&model).collect();
    assert_eq!(models, [[1.5, 2.0], [1.375, 2.125], [1.0, 2.5]]);
    assert_eq!((&between["models"][1]["nearest"], &between["models"][1]["recipe"]["t"]), (&"0".into(), &0.25.into()));
    let nearest = between["models"][1]["distance_to_nearest"].as_f64().unwrap();
    assert!((nearest - 0.125 * 2f64.sqrt()).abs() < 1e-9);
    let convex = json(&sample(&["--scale", "convex", "--count", "3"]));
    for made in convex["models"].as_array().unwrap() {
        let weights: Vec<f64> = made["weights"]["a"].as_array().unwrap().iter().map(|w| w.as_f64().unwrap()).collect();
        assert!(weights.iter().all(|&w| w > 0.0) && (weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }
    fs::write(folder.path().join("none.json"), "[]").unwrap();
    fs::write(folder.path().join("z.json"), r#"{"a": [1.0]}"#).unwrap();
    let zero = &json(&sample(&["--coefficients", "none.json"]))["models"][0];
    assert_eq!(model(zero), model(mean), "no coefficient is the mean");
    let plain = json(&sample(&["--coefficients", "z.json", "--scale", "unit"]));
    assert!((plain["models"][0]["distance_to_mean"].as_f64().unwrap() - 1.0).abs() < 1e-9, "one length along v_1");
    let scaled = json(&sample(&["--coefficients", "z.json"]));
    let fit = json(&good);
    let sigma = fit["layers"][0]["explained_variance"][0].as_f64().unwrap().sqrt();
    assert!((scaled["models"][0]["distance_to_mean"].as_f64().unwrap() - sigma).abs() < 1e-9, "one standard deviation");
    refused(&sample(&["--between", "0,7"]), 2, &["no seed 7", "0, 1, 2"]);
    refused(&sample(&["--between", "0"]), 2, &["two seeds"]);
    fs::write(folder.path().join("bad.json"), r#"{"c": [1.0]}"#).unwrap();
    refused(&sample(&["--coefficients", "bad.json"]), 2, &["no layer c"]);
}

#[cfg(not(feature = "tch"))]
#[test]
fn without_libtorch_its_devices_are_refused_and_auto_is_built_in() {
    let folder = tempfile::tempdir().unwrap();
    for (name, value) in [("pt", 0.0), ("ft_0", 1.0), ("ft_1", 2.0)] {
        checkpoint(&folder.path().join(format!("{name}.ckpt")), &[("a", &[value])]);
    }
    let arguments = [
        "fit",
        "--pretrained",
        "pt.ckpt",
        "--finetuned",
        "ft_{seed}.ckpt",
        "--seeds",
        "0,1",
        "--out",
        "fit",
        "--device",
    ];
    let fit =
        |device: &str| command(&[&arguments[..], &[device]].concat()).current_dir(folder.path()).output().unwrap();
    for device in ["cpu", "cuda:0"] {
        refused(&fit(device), 2, &["has no libtorch", device, "--features tch", "docs/libtorch.md"]);
    }
    assert!(!folder.path().join("fit").exists(), "nothing was made");
    assert!(fit("auto").status.success());
    let record: Value = serde_json::from_slice(&fs::read(folder.path().join("fit/fit.json")).unwrap()).unwrap();
    assert_eq!(record["backend"], "built-in");
    let evaluate = ["evaluate", "--module", "m.pt", "--weights", "pt.ckpt", "--data", "ft_0.ckpt"];
    let output = command(&evaluate).current_dir(folder.path()).output().unwrap();
    refused(&output, 2, &["has no libtorch", "--features tch"]);
}

#[test]
fn inputs_that_are_none_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broken.ckpt");
    checkpoint(&path, &[("a", &[1.0])]);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let broken = path.to_str().unwrap();
    refused(&run(&["inspect", broken]), 5, &["broken.ckpt"]);
    refused(&run(&["inspect", "missing.ckpt"]), 3, &["missing.ckpt"]);
    let one = ["fit", "--pretrained", broken, "--finetuned", broken];
    refused(&run(&one), 1, &["at least two", "hint:"]);
    refused(&run(&["fit", "--pretrained", broken, "--finetuned", "x_{seed}.ckpt"]), 2, &["--seeds"]);
    refused(&run(&["fit", "--pretrained", broken, "--finetuned", broken, "--seeds", "0..2"]), 2, &["{seed}"]);
    refused(&run(&["sample", folder.path().to_str().unwrap()]), 1, &["is not a fit", "hint:"]);
    refused(&run(&["frobnicate"]), 2, &["frobnicate"]);
}

/// A checkpoint of layers of any dtype.
fn typed(path: &Path, tensors: &[(&str, Dtype, &[f64])]) {
    let bytes = |dtype, values: &[f64]| -> Vec<u8> {
        let of = |x: f64| match dtype {
            Dtype::F64 => x.to_le_bytes().to_vec(),
            Dtype::F16 => half::f16::from_f64(x).to_le_bytes().to_vec(),
            Dtype::Bf16 => half::bf16::from_f64(x).to_le_bytes().to_vec(),
            _ => (x as f32).to_le_bytes().to_vec(),
        };
        values.iter().flat_map(|&x| of(x)).collect()
    };
    let views: Vec<_> = tensors
        .iter()
        .map(|&(name, dtype, x)| (name, TensorView::contiguous(dtype, vec![x.len()], bytes(dtype, x)).unwrap()))
        .collect();
    let named: Vec<_> = views.iter().map(|(name, view)| NamedTensor::new(name, view)).collect();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    write_torch(&mut fs::File::create(path).unwrap(), &named).unwrap();
}

#[test]
fn odd_models_are_fitted_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).join("trained.ckpt");
    let evil = "h.0.<b onclick=alert(1)>&amp;\"w";
    // Two seeds; more seeds than parameters; alike; frozen; constant; all dtypes.
    let pretrained: [(&str, Dtype, &[f64]); 5] = [
        (evil, Dtype::F32, &[1.0, 2.0, 3.0]),
        ("h.0.one", Dtype::F64, &[1.0]),
        ("h.1.frozen", Dtype::F16, &[0.5; 4]),
        ("h.1.same", Dtype::Bf16, &[0.0; 2]),
        ("scalar", Dtype::F64, &[1e300]),
    ];
    typed(&at("pt"), &pretrained);
    for seed in 0..4u8 {
        let x = f64::from(seed);
        let mut tensors = pretrained;
        let (moved, one) = ([1.0 + x, 2.0, 3.0], [1.0 + x * x]);
        tensors[0].2 = &moved;
        tensors[1].2 = &one;
        tensors[3].2 = &[0.25, -0.25];
        if seed == 3 {
            // Widened exactly: these values are the same in every dtype.
            tensors[0].1 = Dtype::F16;
            tensors[1].1 = Dtype::Bf16;
        }
        typed(&at(&format!("ft_{seed}")), &tensors);
    }
    let run = |seeds: &str, more: &[&str]| {
        let inputs = ["fit", "--pretrained", "pt/trained.ckpt", "--finetuned", "ft_{seed}/trained.ckpt", "--json"];
        let arguments = [&inputs[..], &["--out", "fit", "--interference", "--seeds", seeds], more].concat();
        command(&arguments).current_dir(folder.path()).output().unwrap()
    };
    refused(&run("0..3", &[]), 1, &["ft_3/trained.ckpt", "dtype F16", "--mixed-dtypes"]);
    let fit = json(&run("0..3", &["--mixed-dtypes"]));
    let layer = |at: usize| &fit["layers"][at];
    let number = |at: usize, key: &str| layer(at)[key].as_f64().unwrap();
    assert_eq!(layer(0)["layer"], evil);
    // 0, 1, 2, 3 along one axis, and 0, 1, 4, 9 of one parameter, which has one component.
    assert!((number(0, "total_variance") - 5.0 / 3.0).abs() < 1e-12);
    assert_eq!(layer(0)["explained_variance_ratio"][0], 1.0);
    assert!((number(1, "total_variance") - 49.0 / 3.0).abs() < 1e-12);
    assert_eq!(layer(1)["explained_variance"].as_array().unwrap().len(), 1);
    for degenerate in [2, 3, 4] {
        assert_eq!(layer(degenerate)["degenerate"], true);
        assert_eq!(layer(degenerate)["explained_variance_ratio"], Value::Null);
        assert_eq!(number(degenerate, "total_variance"), 0.0);
    }
    assert!((number(3, "mean_cosine") - 1.0).abs() < 1e-12 && layer(2)["mean_cosine"] == Value::Null);
    assert_eq!((layer(3)["sign_conflict"].as_f64(), layer(3)["mass_top_10"].as_f64()), (Some(0.0), Some(0.5)));
    // Two seeds: one component, and nothing to leave out.
    let two = json(&run("0,2", &[]));
    let first = &two["layers"][0];
    assert!((first["total_variance"].as_f64().unwrap() - 2.0).abs() < 1e-12);
    assert_eq!(first["explained_variance_ratio"], serde_json::json!([1.0, 0.0]));
    assert_eq!(first["total_variance_error"], Value::Null);
    // Everything goes on from there: a model, a page, on which a name is text.
    json(&command(&["sample", "fit", "--json", "--scale", "mean"]).current_dir(folder.path()).output().unwrap());
    let mean = Checkpoint::open(&folder.path().join("fit/samples/mean/trained.ckpt"), &OpenOptions::default()).unwrap();
    let mut values = [0.0; 3];
    mean.tensor(evil).unwrap().read_f64(0, &mut values).unwrap();
    assert_eq!(values, [2.0, 2.0, 3.0]);
    let report = command(&["report", "fit", "--plots", "--json"]).current_dir(folder.path()).output().unwrap();
    assert!(json(&report)["files"].as_array().unwrap().len() > 4);
    let page = fs::read_to_string(folder.path().join("report.html")).unwrap();
    assert!(page.contains("h.<wbr>0.<wbr>&lt;b onclick=alert(1)&gt;&amp;amp;") && !page.contains("<b onclick"));
    refused(&run("1", &[]), 1, &["at least two", "hint:"]);
}
