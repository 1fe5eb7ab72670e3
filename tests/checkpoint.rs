//! Every fixture made by the real tools is read to the bit. `fixtures/checkpoint/make_fixtures.py` made them, together
//! with what torch itself sees in them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};
use wandb_pca::app::{DiffOptions, Input, Session, diff};
use wandb_pca::checkpoint::{Checkpoint, NamedTensor, OpenOptions, Prefixes, write_torch};
use wandb_pca::progress::Progress;
use wandb_pca::store::Store;
use wandb_pca::table::Cell;
use wandb_pca::tensor::{Dtype, TensorView};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/checkpoint")
}

fn options(expected: &Value) -> OpenOptions {
    let mut options = OpenOptions::default();
    options.key = expected["key"].as_str().map(str::to_owned);
    options.prefixes = match expected["prefixes"].as_str() {
        None => Prefixes::Wrappers,
        Some("keep") => Prefixes::Keep,
        Some(prefix) => Prefixes::Drop(prefix.to_owned()),
    };
    options
}

fn sha256(view: &TensorView<'_>) -> String {
    let mut bytes = vec![0; view.len() * view.dtype().size()];
    view.read_le_bytes(0, &mut bytes).unwrap();
    Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Name, dtype, shape and digest of every tensor, in the form of `expected.json`.
fn rows(checkpoint: &Checkpoint) -> Vec<Value> {
    let row = |info: &wandb_pca::checkpoint::TensorInfo| {
        let view = checkpoint.tensor(&info.name).unwrap();
        assert_eq!((view.dtype(), view.shape()), (info.dtype, &info.shape[..]));
        serde_json::json!([info.name, info.dtype.name(), info.shape, sha256(&view)])
    };
    checkpoint.tensors().iter().map(row).collect()
}

fn check_folder(folder: &str) {
    let folder = fixtures().join(folder);
    let expected: Value = serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap();
    let expected = expected.as_object().unwrap();
    assert!(expected.len() > 30);
    let mut wrong = Vec::new();
    for (file, expected) in expected {
        let checkpoint = match Checkpoint::open(&folder.join(file), &options(expected)) {
            Ok(checkpoint) => checkpoint,
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                wrong.push(format!("{error}: {cause:?}"));
                continue;
            }
        };
        let mut found = rows(&checkpoint);
        let mut tensors = expected["tensors"].as_array().unwrap().clone();
        if expected["any_order"] == true {
            found.sort_by_key(Value::to_string);
            tensors.sort_by_key(Value::to_string);
        }
        if checkpoint.format().to_string() != expected["format"] {
            wrong.push(format!("{file}: read as {}", checkpoint.format()));
        }
        if found != tensors {
            wrong.push(format!("{file}: tensors differ\n found {found:?}\n expected {tensors:?}"));
        }
        let skipped: Vec<&str> = checkpoint.skipped().iter().map(|skipped| skipped.name.as_str()).collect();
        if serde_json::json!(skipped) != expected["skipped"] {
            wrong.push(format!("{file}: skipped {:?}", checkpoint.skipped()));
        }
    }
    assert!(wrong.is_empty(), "{} of {} fixtures:\n{}", wrong.len(), expected.len(), wrong.join("\n"));
}

#[test]
fn files_of_torch_2_13() {
    check_folder("torch-2.13");
}

#[test]
fn files_of_torch_1_13() {
    check_folder("torch-1.13");
}

/// Writes a checkpoint of these vectors.
fn save(path: &Path, tensors: &[(&str, Vec<f32>)]) {
    let view = |numbers: &Vec<f32>| {
        let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        TensorView::contiguous(Dtype::F32, vec![numbers.len()], bytes).unwrap()
    };
    let views: Vec<_> = tensors.iter().map(|(name, numbers)| (*name, view(numbers))).collect();
    let named: Vec<NamedTensor<'_>> = views.iter().map(|(name, view)| NamedTensor::new(name, view)).collect();
    write_torch(&mut File::create(path).unwrap(), &named).unwrap();
}

#[tokio::test]
async fn a_comparison_says_what_changed_and_by_how_much() {
    let folder = tempfile::tempdir().unwrap();
    let [before, after] = ["before.pt", "after.pt"].map(|name| folder.path().join(name));
    save(&before, &[("same", vec![1.0, 2.0]), ("moved", vec![3.0, 4.0]), ("grown", vec![1.0]), ("gone", vec![1.0])]);
    save(&after, &[("new", vec![1.0]), ("grown", vec![1.0, 1.0]), ("moved", vec![3.0, 9.0]), ("same", vec![1.0, 2.0])]);
    let session = Session {
        client: None,
        store: Store::new(folder.path().join("store"), Progress::silent()),
        progress: Progress::silent(),
        entity: None,
        project: None,
        app_url: String::new(),
        runs: PathBuf::from("."),
        artifact_dir: "artifacts".into(),
    };
    let options = DiffOptions::new(Input::File(before), Input::File(after));
    let found = diff(&session, options).await.unwrap();
    assert_eq!((found.equal, found.different), (1, 4));
    let text = |cell: &Cell| cell.to_string();
    let told: Vec<Vec<String>> =
        found.differing().unwrap().rows().iter().map(|row| row.iter().map(text).collect()).collect();
    let changes: Vec<(&str, &str)> = told.iter().map(|row| (row[0].as_str(), row[1].as_str())).collect();
    assert_eq!(changes, [("moved", "values"), ("grown", "shape"), ("gone", "removed"), ("new", "added")]);
    assert_eq!(told[0][4..], ["1", "5", "1", "5"], "elements changed, norm, relative to 5, largest");
    assert_eq!(told[1][3], "1 → 2");
}
