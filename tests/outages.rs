//! A server that is not there: at the start of a run, in its middle, at its end; or not meant to be there. Every row that
//! `log` returned for is on it exactly once after a sync.

#![cfg(feature = "server")]
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests, with helpers outside of test functions"
)]

#[path = "support/site.rs"]
mod site;

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use site::{PROJECT, Site, count, draft, log, names};
use wandb_pca::wandb::{WandbError, is_synced};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_at_the_start_loses_nothing() {
    let site = Site::new().await;
    site.gate.close();
    let run = site.client().start_run(site.options()).await.unwrap();
    assert!(!run.is_online());
    let id = run.id().to_owned();
    log(&run, 0..3).await;
    let Err(WandbError::NotSent { folder, source: Some(cause), .. }) = run.finish(0).await else { panic!() };
    assert!(cause.is_network(), "{cause:?}");
    assert!(folder.file_name().unwrap().to_str().unwrap().starts_with("offline-run-"));
    assert!(matches!(site.sync(&folder).await, Err(error) if error.is_network()));
    assert!(!is_synced(&folder).unwrap());
    site.gate.open();
    site.sync(&folder).await.unwrap();
    assert_eq!(site.xs(&id).await, count(0..3));
    assert_eq!(site.run(&id).await["state"], "finished");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_away_in_the_middle_loses_nothing() {
    let site = Site::new().await;
    let run = site.client().start_run(site.options()).await.unwrap();
    let id = run.id().to_owned();
    log(&run, 0..3).await;
    // Waits until it is on the server, rows before it or not.
    run.log_artifact(&draft(b"1")).await.unwrap();
    site.gate.close();
    log(&run, 3..6).await;
    run.upload_file("notes.txt", b"n".to_vec()).await.unwrap();
    assert_eq!(run.spool_artifact(&draft(b"2")).await.unwrap(), None, "it is kept, not refused");
    assert_eq!(run.spool_artifact(&draft(b"3")).await.unwrap(), None);
    log(&run, 6..8).await;
    let Err(WandbError::NotSent { folder, .. }) = run.finish(0).await else { panic!() };
    assert_eq!(site.folders(), std::slice::from_ref(&folder));
    site.gate.open();
    let synced = site.sync(&folder).await.unwrap();
    assert_eq!((synced.rows, synced.errands), (8, 3), "the first artifact was there");
    assert_eq!(site.xs(&id).await, count(0..8));
    let found = site.run(&id).await;
    assert_eq!(found["outputArtifacts"]["edges"].as_array().unwrap().len(), 3);
    assert!(names(&found["files"], |file| &file["name"]).contains(&"notes.txt".to_owned()));
    assert_eq!(found["state"], "finished");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_back_at_the_end_gets_everything() {
    let site = Site::new().await;
    let run = site.client().start_run(site.options()).await.unwrap();
    let id = run.id().to_owned();
    site.gate.close();
    log(&run, 0..4).await;
    assert_eq!(run.spool_artifact(&draft(b"1")).await.unwrap(), None);
    site.gate.open();
    run.finish(0).await.unwrap();
    assert_eq!(site.xs(&id).await, count(0..4));
    assert_eq!(site.run(&id).await["outputArtifacts"]["edges"].as_array().unwrap().len(), 1);
    assert!(site.folders().is_empty());
}

/// A checkpoint of one tensor.
fn write_checkpoint(path: &Path, values: [f32; 4]) {
    let head = json!({ "w": { "dtype": "F32", "shape": [4], "data_offsets": [0, 16] } }).to_string();
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let file = [&(head.len() as u64).to_le_bytes()[..], head.as_bytes(), &bytes].concat();
    std::fs::write(path, file).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_logs_offline_says_so_and_syncs() {
    let site = Site::new().await;
    let folder = site.root.path();
    write_checkpoint(&folder.join("pt.safetensors"), [0.0; 4]);
    for seed in 0..3u8 {
        write_checkpoint(
            &folder.join(format!("s{seed}.safetensors")),
            [f32::from(seed), 1.0, 2.0, f32::from(seed * seed)],
        );
    }
    let command = |base: &str, words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wandb-pca"));
        for name in ["WANDB_MODE", "WANDB_PROJECT", "WANDB_ENTITY", "WANDB_DIR"] {
            command.env_remove(name);
        }
        command.args(["--json", "--base-url", base]).args(words).current_dir(folder);
        command.env("WANDB_API_KEY", site.server.api_key().expose()).env("WANDB_CACHE_DIR", folder.join("cache"));
        command.env("WANDB_X_GRAPHQL_RETRY_MAX", "0").env("NETRC", folder.join("netrc"));
        let done = command.output().unwrap();
        let text = String::from_utf8(done.stdout).unwrap();
        let errors = String::from_utf8(done.stderr).unwrap();
        (done.status.code().unwrap(), serde_json::from_str::<Value>(&text).unwrap_or_default(), errors)
    };
    let fit = |mode: &'static str, out: &'static str| {
        [
            "--mode",
            mode,
            "--project",
            PROJECT,
            "fit",
            "--pretrained",
            "pt.safetensors",
            "--finetuned",
            "s{seed}.safetensors",
            "--seeds",
            "0..2",
            "--log",
            "--out",
            out,
        ]
    };
    let nobody = "http://127.0.0.1:9";
    let (code, meant, errors) = command(nobody, &fit("offline", "fit-1"));
    assert_eq!(code, 0, "{errors}");
    let (code, unmeant, errors) = command(nobody, &fit("online", "fit-2"));
    assert!(code == 7 && errors.contains("wandb-pca sync"), "{code}: {errors}");
    let (code, disabled, _) = command(nobody, &fit("disabled", "fit-3"));
    assert_eq!((code, &disabled["run"]), (0, &Value::Null));
    for told in [&meant, &unmeant] {
        assert!(
            Path::new(told["run"]["folder"].as_str().unwrap()).starts_with(folder.canonicalize().unwrap()),
            "{told}"
        );
        assert_eq!(told["run"]["url"], Value::Null);
    }
    let (code, _, errors) = command(nobody, &["sync", meant["run"]["folder"].as_str().unwrap()]);
    assert_eq!(code, 6, "{errors}");
    let (code, plan, _) = command(site.server.base_url(), &["sync", "--dry-run"]);
    assert_eq!(
        (code, plan["runs"].as_array().unwrap().len(), &plan["runs"][0]["state"]),
        (0, 2, &json!("would_be_sent"))
    );
    let (code, synced, errors) = command(site.server.base_url(), &["sync", "--clean"]);
    assert_eq!(code, 0, "{errors}");
    for run in synced["runs"].as_array().unwrap() {
        assert_eq!((&run["state"], &run["removed"]), (&json!("sent"), &json!(true)));
        let path = run["detail"]["path"].as_str().unwrap();
        assert_eq!(site.run(path.rsplit('/').next().unwrap()).await["state"], "finished");
    }
    assert!(site.folders().is_empty());
    let (code, nothing, _) = command(site.server.base_url(), &["sync"]);
    assert_eq!((code, nothing["runs"].as_array().unwrap().len()), (0, 0));
    assert_eq!(command(site.server.base_url(), &["sync", "nowhere"]).0, 3);
}
