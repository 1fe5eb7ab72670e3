//! Locks and the store as a user meets them: what is pinned stays, what is cached is found again, what is pruned was free.
#![allow(unreachable_pub, dead_code, clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test")]

#[path = "support/command.rs"]
mod command;

use std::fs;
use std::path::Path;

use command::{Served, json, refused};
use serde_json::Value;
use wandb_pca::checkpoint::{NamedTensor, write_torch};
use wandb_pca::tensor::{Dtype, TensorView};

/// A checkpoint of one layer as the newest version of a collection.
fn put(served: &Served, name: &str, values: [f32; 2]) {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let view = TensorView::contiguous(Dtype::F32, vec![2], bytes).unwrap();
    let path = served.folder.path().join("trained.ckpt");
    write_torch(&mut fs::File::create(path).unwrap(), &[NamedTensor::new("a", &view)]).unwrap();
    json(&served.run(&["artifact", "put", "trained.ckpt", "--name", &format!("p/{name}"), "--json"]));
}

fn experiment() -> Served {
    let served = Served::start();
    put(&served, "m_pt", [0.0, 0.0]);
    put(&served, "m_0", [1.0, 0.0]);
    put(&served, "m_1", [0.0, 1.0]);
    served
}

const FIT: [&str; 10] =
    ["fit", "--pretrained", "p/m_pt", "--finetuned", "p/m_{seed}", "--seeds", "0,1", "--out", "fit", "--no-log"];

fn fit<'a>(more: &[&'a str]) -> Vec<&'a str> {
    FIT.iter().chain(more).copied().collect()
}

fn versions(fit: &Value) -> Vec<&str> {
    let inputs = fit["inputs"].as_array().unwrap();
    inputs.iter().map(|input| input["resolved"].as_str().unwrap().rsplit(':').next().unwrap()).collect()
}

#[test]
fn latest_cannot_change_a_fit_silently() {
    let served = experiment();
    refused(&served.run(&fit(&["--locked"])), 3, &["there is no lock", "hint:"]);
    let first = json(&served.run(&fit(&["--json"])));
    assert_eq!(versions(&first), ["v0", "v0", "v0"]);
    json(&served.run(&fit(&["--json", "--locked"])));
    put(&served, "m_1", [0.0, 5.0]);
    // The lock's version is used, and that another one is there is said.
    let again = served.run(&fit(&["--json"]));
    let told = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(told.contains("local/p/m_1:latest is local/p/m_1:v1 by now; the lock keeps local/p/m_1:v0"), "{told}");
    assert_eq!(json(&again)["totals"], first["totals"]);
    refused(&served.run(&fit(&["--locked"])), 5, &["local/p/m_1:latest is local/p/m_1:v1", "m_1:v0", "--update"]);
    // Offline the lock holds just as well, from the store alone.
    assert_eq!(json(&served.run(&fit(&["--json", "--offline", "--locked"])))["totals"], first["totals"]);
    let updated = json(&served.run(&fit(&["--json", "--update"])));
    assert_eq!(versions(&updated), ["v0", "v0", "v1"]);
    assert_ne!(updated["totals"], first["totals"]);
    json(&served.run(&fit(&["--json", "--locked"])));
    // A lock that has another digest or fewer inputs is not held to in silence.
    let path = served.folder.path().join("fit/wandb-pca.lock");
    let text = fs::read_to_string(&path).unwrap();
    let sha256 = text.lines().find(|line| line.starts_with("sha256")).unwrap();
    fs::write(&path, text.replace(sha256, &format!("sha256 = \"{}\"", "0".repeat(64)))).unwrap();
    refused(&served.run(&fit(&[])), 5, &["trained.ckpt of local/p/m_pt:latest", "but the lock has"]);
    let cut = text.rfind("[[artifact]]").unwrap();
    fs::write(&path, &text[..cut]).unwrap();
    refused(&served.run(&fit(&["--locked"])), 5, &["local/p/m_1:latest", "nothing for it"]);
    json(&served.run(&fit(&["--json"])));
    assert_eq!(fs::read_to_string(&path).unwrap(), text, "what the lock lacked was added");
}

#[test]
fn artifacts_are_got_as_locked() {
    let served = experiment();
    let get = |more: &[&str]| {
        let base = ["artifact", "get", "p/m_0", "p/m_1", "--store-only", "--lock", "my.lock", "--json"];
        served.run(&base.iter().chain(more).copied().collect::<Vec<_>>())
    };
    refused(&get(&["--locked"]), 3, &["my.lock"]);
    json(&get(&[]));
    put(&served, "m_0", [3.0, 3.0]);
    assert_eq!(json(&get(&[]))["artifacts"][0]["version"], "v0");
    refused(&get(&["--locked"]), 5, &["m_0:latest"]);
    assert_eq!(json(&get(&["--update"]))["artifacts"][0]["version"], "v1");
    let lock = fs::read_to_string(served.folder.path().join("my.lock")).unwrap();
    assert!(lock.contains("local/p/m_0:v1") && lock.contains("local/p/m_1:v0"), "{lock}");
    // Another artifact is added, what the lock had stays.
    json(&served.run(&["artifact", "get", "p/m_pt", "--store-only", "--lock", "my.lock", "--json"]));
    let more = fs::read_to_string(served.folder.path().join("my.lock")).unwrap();
    assert!(more.starts_with(&lock) && more.contains("m_pt"), "{more}");
    let unlocked = served.run(&["artifact", "get", "p/m_0", "--store-only", "--update"]);
    refused(&unlocked, 2, &["--lock"]);
    assert!(Path::new(&served.folder.path().join("cache")).exists());
}

#[test]
fn the_store_is_listed_verified_and_pruned() {
    let served = experiment();
    json(&served.run(&fit(&["--json"])));
    put(&served, "extra", [9.0, 9.0]);
    let got = json(&served.run(&["artifact", "get", "p/extra", "--root", "out", "--json"]));
    assert_eq!(got["artifacts"][0]["files"][0]["downloaded"], true);
    let cache =
        |more: &[&str]| served.run(&["cache"].iter().chain(more).chain(&["--json"]).copied().collect::<Vec<_>>());
    let info = json(&cache(&["info"]));
    assert_eq!((&info["objects"]["files"], &info["pinned"]["files"]), (&Value::from(4), &Value::from(3)));
    assert!(info["disk"]["free"].as_u64().is_some() && info["folders"]["obj/md5"]["files"] == 4, "{info}");
    let objects = |list: &Value| list["objects"].as_array().unwrap().len();
    let list = json(&cache(&["ls", "local/p/m_*"]));
    assert_eq!(objects(&list), 3);
    assert!(list["objects"][0]["pinned_by"][0].as_str().unwrap().ends_with("fit/wandb-pca.lock"), "{list}");
    assert_eq!(objects(&json(&cache(&["ls", "--pinned"]))), 3);
    assert_eq!(objects(&json(&cache(&["ls", "--unverified"]))), 0);
    let extra = json(&cache(&["ls", "*extra:v0/trained.ckpt"]));
    assert_eq!(extra["objects"][0]["names"][0], "local/p/extra:v0/trained.ckpt");
    // What a lock pins stays whatever the rule; a dry run removes nothing.
    let plan = json(&cache(&["prune", "--older-than", "0s", "--dry-run"]));
    assert_eq!((plan["removed"].as_array().unwrap().len(), &plan["pinned"]), (1, &Value::from(3)));
    assert_eq!(objects(&json(&cache(&["ls"]))), 4);
    refused(&cache(&["prune", "--max-size", "1kB"]), 7, &["pinned"]);
    assert_eq!(objects(&json(&cache(&["ls"]))), 3);
    // A bit that changed on the disk is found, and the object goes when that is asked for.
    let path = list["objects"][0]["path"].as_str().unwrap();
    let mut bytes = fs::read(path).unwrap();
    bytes[100] ^= 1;
    fs::write(path, bytes).unwrap();
    let verified = cache(&["verify"]);
    refused(&verified, 5, &["the store has 1 corrupt object\n"]);
    let told: Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!((&told["ok"]["files"], &told["corrupt"][0]["path"]), (&Value::from(2), &Value::from(path)));
    refused(&cache(&["verify", "--remove"]), 5, &["corrupt"]);
    assert_eq!(json(&cache(&["verify"]))["ok"]["files"], 2);
    // Without the fit nothing is pinned.
    fs::remove_dir_all(served.folder.path().join("fit")).unwrap();
    assert_eq!(json(&cache(&["prune", "--older-than", "0s"]))["left"], 0);
    assert_eq!(json(&cache(&["info"]))["objects"]["files"], 0);
    refused(&cache(&["prune", "--max-size", "plenty"]), 2, &["50GB"]);
}

#[test]
fn a_lock_that_cannot_be_read_stops_pruning() {
    let served = experiment();
    json(&served.run(&fit(&["--json"])));
    fs::write(served.folder.path().join("fit/wandb-pca.lock"), "version = 99\n").unwrap();
    refused(&served.run(&["cache", "prune", "--max-size", "0"]), 1, &["wandb-pca.lock", "newer"]);
    let info = json(&served.run(&["cache", "info", "--json"]));
    assert!(info["unreadable_locks"][0].as_str().unwrap().contains("wandb-pca.lock"), "{info}");
    assert_eq!(fs::read_dir(served.folder.path().join("cache/artifacts/obj/md5")).unwrap().count(), 3);
}

#[test]
fn ids_are_inputs_as_names_are() {
    let served = experiment();
    let id = |name: &str| served.ok(&["artifact", "info", name])["id"].as_str().unwrap().to_owned();
    let address = |name: &str| format!("wandb-artifact://_id/{}", id(name));
    let inspected = served.ok(&["inspect", &address("p/m_0")]);
    assert_eq!(inspected["artifact"], format!("{}/p/m_0:v0", served.entity));
    assert_eq!(served.ok(&["inspect", &address("p/m_0"), "--diff", &address("p/m_1")])["different"], 1);
    let (pretrained, one, two) = (address("p/m_pt"), address("p/m_0"), address("p/m_1"));
    let fit =
        ["fit", "--pretrained", &pretrained, "--finetuned", &one, "--finetuned", &two, "--out", "fit", "--no-log"];
    assert_eq!(versions(&served.ok(&fit)), ["v0", "v0", "v0"]);
}

#[test]
fn files_are_placed_as_asked() {
    let served = experiment();
    let get = |root: &str, link: &str| {
        let arguments = ["artifact", "get", "p/m_0", "--root", root, "--link", link, "--json"];
        served.run(&arguments)
    };
    let placed = |output: &std::process::Output| json(output)["artifacts"][0]["files"][0]["placed"].clone();
    assert_eq!(placed(&get("copy", "copy")), "copied");
    assert!(["copied", "reflinked"].contains(&placed(&get("auto", "auto")).as_str().unwrap()));
    assert_eq!(placed(&get("auto", "copy")), "kept");
    assert_eq!(placed(&get("hard", "hardlink")), "hardlinked");
    let reflink = get("ref", "reflink");
    if reflink.status.success() {
        assert_eq!(placed(&reflink), "reflinked");
    } else {
        refused(&reflink, 1, &["reflink", "trained.ckpt"]);
        assert!(!served.folder.path().join("ref/trained.ckpt").exists());
    }
    // What is edited in the folder does not change what is got from the store, however it was placed.
    let original = fs::read(served.folder.path().join("copy/trained.ckpt")).unwrap();
    for root in ["copy", "auto", "hard"] {
        let path = served.folder.path().join(root).join("trained.ckpt");
        let mut edited = original.clone();
        edited[50] ^= 1;
        fs::write(path, edited).unwrap();
        placed(&get("again", "copy"));
        assert_eq!(fs::read(served.folder.path().join("again/trained.ckpt")).unwrap(), original, "{root}");
    }
}
