//! Every fixture made by the real tools is read to the bit. `fixtures/checkpoint/make_fixtures.py` and
//! `make_framework_fixtures.py` made them, together with what torch itself sees in them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde_json::Value;
use sha2::{Digest, Sha256};
use wandb_pca::app::{Device, DiffOptions, FailureKind, FitOptions, Input, Seeded, Session, diff, fit};
use wandb_pca::checkpoint::{Checkpoint, CheckpointError, NamedTensor, OpenOptions, Prefixes, write_torch};
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
        let left = checkpoint.tensor_to_compare(&info.name).unwrap();
        if let Some(crc32) = left.crc32_to_compare() {
            assert!(info.has_checksum);
            assert_eq!(crc32fast::hash(left.as_le_bytes().unwrap()), crc32, "{}", info.name);
        }
        let view = checkpoint.tensor(&info.name).unwrap();
        assert_eq!(sha256(&left), sha256(&view));
        assert_eq!((view.dtype(), view.shape()), (info.dtype, &info.shape[..]));
        serde_json::json!([info.name, info.dtype.name(), info.shape, sha256(&view)])
    };
    checkpoint.tensors().iter().map(row).collect()
}

/// Three weights, written by torch's rules; in the second file a bit is flipped in the second weight.
fn sound_and_damaged() -> (tempfile::TempDir, [PathBuf; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["sound.ckpt", "damaged.ckpt"].map(|name| folder.path().join(name));
    let views: Vec<_> = [1.0f32, 2.0, 3.0]
        .map(|x| TensorView::contiguous(Dtype::F32, vec![4], [x; 4].map(f32::to_le_bytes).concat()).unwrap())
        .into();
    let named: Vec<_> = ["a", "b", "c"].iter().zip(&views).map(|(name, view)| NamedTensor::new(name, view)).collect();
    let mut bytes = Vec::new();
    write_torch(&mut bytes, &named).unwrap();
    std::fs::write(&paths[0], &bytes).unwrap();
    let second = bytes.windows(16).position(|window| window == [2.0f32; 4].map(f32::to_le_bytes).concat()).unwrap();
    bytes[second + 5] ^= 1;
    std::fs::write(&paths[1], bytes).unwrap();
    (folder, paths)
}

#[tokio::test]
async fn a_fit_names_the_damaged_file_and_writes_nothing() {
    let (folder, [sound, damaged]) = sound_and_damaged();
    let input = |path: &Path| Input::File(path.to_owned());
    let seeds = [&sound, &damaged, &sound].map(|path| Seeded { seed: None, input: input(path) });
    let out = folder.path().join("fit");
    let error = fit(&session(folder.path()), FitOptions::new(input(&sound), seeds.to_vec(), &out)).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(error.kind(), FailureKind::Integrity, "{error}: {cause}");
    assert!(error.to_string().contains("damaged.ckpt"), "{error}");
    assert!(cause.contains("layer b of the fine-tuned checkpoint 1 is damaged: its CRC-32 is"), "{cause}");
    assert!(!out.exists());
}

#[test]
fn damage_is_found_by_whoever_is_left_to_compare() {
    let (_folder, [_, path]) = sound_and_damaged();
    let checkpoint = Checkpoint::open(&path, &OpenOptions::default()).unwrap();
    assert!(matches!(checkpoint.tensor("b"), Err(CheckpointError::Damaged { .. })));
    let agrees = |name: &str| {
        let view = checkpoint.tensor_to_compare(name).unwrap();
        crc32fast::hash(view.as_le_bytes().unwrap()) == view.crc32_to_compare().unwrap()
    };
    assert_eq!([agrees("a"), agrees("b"), agrees("c")], [true, false, true]);
    checkpoint.tensor("a").unwrap();
    assert_eq!(checkpoint.tensor_to_compare("a").unwrap().crc32_to_compare(), None, "it was compared before");
    let mut trusted = OpenOptions::default();
    trusted.verify_crc = false;
    let trusted = Checkpoint::open(&path, &trusted);
    assert_eq!(trusted.unwrap().tensor_to_compare("b").unwrap().crc32_to_compare(), None);
}

fn check_folder(folder: &str, least: usize) {
    let folder = fixtures().join(folder);
    let expected: Value = serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap();
    let expected = expected.as_object().unwrap();
    assert!(expected.len() >= least);
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
    check_folder("torch-2.13", 45);
}

#[test]
fn files_of_torch_1_13() {
    check_folder("torch-1.13", 40);
}

/// Lightning, nn-template, and folders of torch.distributed.checkpoint by one process and by two.
#[test]
fn files_of_frameworks() {
    check_folder("frameworks", 5);
}

/// What torch wrote around 4 GiB of data, in a sparse file.
#[test]
fn sizes_and_offsets_beyond_4_gib() {
    let recorded = std::fs::read(fixtures().join("frameworks/zip64.json")).unwrap();
    let recorded: Value = serde_json::from_slice(&recorded).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(recorded["bytes"].as_u64().unwrap()).unwrap();
    for segment in recorded["segments"].as_array().unwrap() {
        let bytes = base64::engine::general_purpose::STANDARD.decode(segment[1].as_str().unwrap()).unwrap();
        file.as_file().write_all_at(&bytes, segment[0].as_u64().unwrap()).unwrap();
    }
    let checkpoint = Checkpoint::open(file.path(), &OpenOptions::default()).unwrap();
    let sizes: Vec<(&str, u64)> = checkpoint.tensors().iter().map(|info| (info.name.as_str(), info.bytes)).collect();
    assert_eq!(sizes, [("big", (1 << 32) + 64), ("after", 24)]);
    assert!(checkpoint.tensors().iter().all(|info| !info.has_checksum), "torch was told not to compute any");
    let after = checkpoint.tensor("after").unwrap();
    assert_eq!(serde_json::json!(["after", "F32", [6], sha256(&after)]), recorded["after"]);
    let big = checkpoint.tensor("big").unwrap();
    let mut last = [1];
    big.read_le_bytes(big.len() - 1, &mut last).unwrap();
    assert_eq!(last, [0]);
}

#[test]
fn the_tar_of_torch_0_1_is_refused_by_name() {
    let error = Checkpoint::open(&fixtures().join("frameworks/tar_v01.tar"), &OpenOptions::default()).unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("a tar archive, as torch 0.1 wrote them; load it with torch and save it again"),
        "{message}"
    );
}

/// One model as it is saved by itself, under data parallelism, compiled, and by Lightning, has the same names and values.
#[test]
fn wrappers_of_one_model_align() {
    let folder = fixtures().join("torch-2.13");
    let read = |file: &str, prefix: Option<&str>| {
        let mut options = OpenOptions::default();
        options.prefixes = prefix.map_or(Prefixes::Wrappers, |prefix| Prefixes::Drop(prefix.to_owned()));
        rows(&Checkpoint::open(&folder.join(file), &options).unwrap())
    };
    let alone = read("state_dict.pt", None);
    assert!(alone.len() > 10);
    for file in ["data_parallel.pt", "compiled.pt", "nested_state_dict.pt", "module.pt", "legacy_state_dict.pth"] {
        assert_eq!(read(file, None), alone, "{file}");
    }
    assert_eq!(read("lightning_prefix.pt", Some("net.")), alone);
    assert_ne!(read("lightning_prefix.pt", None), alone);
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

/// A session without a server.
fn session(folder: &Path) -> Session {
    Session {
        client: None,
        store: Store::new(folder.join("store"), Progress::silent()),
        progress: Progress::silent(),
        device: Device::default(),
        entity: None,
        project: None,
        app_url: String::new(),
        runs: PathBuf::from("."),
        artifact_dir: "artifacts".into(),
    }
}

/// What Lightning calls `net.head.weight` is compared with `head.weight`, and inflated on the disk of the store.
#[tokio::test]
async fn checkpoints_of_different_wrappers_are_compared_without_being_asked() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(folder.path());
    let file = |name: &str| Input::File(fixtures().join("torch-2.13").join(name));
    for other in ["lightning_prefix.pt", "data_parallel.pt", "nn_template.ckpt.zip"] {
        let found = diff(&session, DiffOptions::new(file("state_dict.pt"), file(other))).await.unwrap();
        assert_eq!((found.different, found.equal > 10), (0, true), "{other}");
    }
    assert!(session.store.scratch().is_dir());
}

#[tokio::test]
async fn a_comparison_says_what_changed_and_by_how_much() {
    let folder = tempfile::tempdir().unwrap();
    let session = session(folder.path());
    let [before, after] = ["before.pt", "after.pt"].map(|name| folder.path().join(name));
    save(&before, &[("same", vec![1.0, 2.0]), ("moved", vec![3.0, 4.0]), ("grown", vec![1.0]), ("gone", vec![1.0])]);
    save(&after, &[("new", vec![1.0]), ("grown", vec![1.0, 1.0]), ("moved", vec![3.0, 9.0]), ("same", vec![1.0, 2.0])]);
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
