//! What people are told of work, and tell it, with the real command: `--alert` where a fit or a study ends or fails, and a
//! stop request from W&B's page while nothing is logged.

#![cfg(feature = "server")]
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests, with helpers outside of test functions"
)]

#[path = "support/command.rs"]
mod command;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use command::{Served, command};
use serde_json::{Value, json};
use wandb_pca::wandb::{ArtifactDraft, RunOptions};

/// A checkpoint of one tensor.
fn write_checkpoint(path: &Path, values: [f32; 4]) {
    let head = json!({ "w": { "dtype": "F32", "shape": [4], "data_offsets": [0, 16] } }).to_string();
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let file = [&(head.len() as u64).to_le_bytes()[..], head.as_bytes(), &bytes].concat();
    std::fs::write(path, file).unwrap();
}

/// The server's own rows for a statement of text columns.
fn rows(served: &Served, sql: &str) -> Vec<Vec<String>> {
    let db = rusqlite::Connection::open(served.path().join("data/server.db")).unwrap();
    let mut statement = db.prepare(sql).unwrap();
    let columns = statement.column_count();
    let row = |row: &rusqlite::Row<'_>| (0..columns).map(|at| row.get::<_, String>(at)).collect();
    statement.query_map([], row).unwrap().map(Result::unwrap).collect()
}

/// Title, severity and text of every alert, and the state of the run that it was told through.
fn alerts(served: &Served) -> Vec<Vec<String>> {
    rows(served, "SELECT title, severity, text, state FROM alert JOIN run ON run.id = alert.run_id ORDER BY alert.id")
}

fn refused(output: &Output, code: i32, word: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(code) && text.contains(word), "{:?}: {text}", output.status);
}

#[test]
fn a_fit_tells_how_it_ended() {
    let served = Served::start();
    let at = |name: &str| served.path().join(name);
    write_checkpoint(&at("pt.safetensors"), [0.0; 4]);
    for seed in 0..3u8 {
        write_checkpoint(&at(&format!("s{seed}.safetensors")), [f32::from(seed), 1.0, 2.0, f32::from(seed * seed)]);
    }
    let fit = ["fit", "--pretrained", "pt.safetensors", "--finetuned", "s{seed}.safetensors", "--seeds", "0..2"];
    let fit = |more: &[&str]| served.run(&[&fit[..], &["--project", "p", "--out", "fit"], more].concat());
    refused(&fit(&["--alert"]), 2, "--log");
    assert!(fit(&["--log"]).status.success());
    assert!(alerts(&served).is_empty(), "nobody asked to be told");

    assert!(fit(&["--log", "--alert"]).status.success());
    let told = alerts(&served);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0][1..], ["INFO", "1 layers of 3 seeds", "finished"].map(str::to_owned));
    assert!(told[0][0].ends_with(" is fitted"), "{told:?}");

    write_checkpoint(&at("s2.safetensors"), [f32::NAN; 4]);
    refused(&fit(&["--log", "--alert"]), 1, "not finite");
    // A name that stands for nothing: no run is made for the work, one is made to tell.
    let missing = ["fit", "--pretrained", "local/p/none", "--finetuned", "local/p/none_{seed}", "--seeds", "0..2"];
    refused(&served.run(&[&missing[..], &["--project", "p"]].concat()), 3, "local/p/none");
    assert_eq!(rows(&served, "SELECT name FROM run").len(), 3);
    refused(&served.run(&[&missing[..], &["--project", "p", "--alert"]].concat()), 3, "local/p/none");
    let told = alerts(&served);
    assert_eq!(told.len(), 3, "{told:?}");
    for (alert, word) in told[1..].iter().zip(["not finite", "local/p/none"]) {
        assert!(alert[0].ends_with(" failed") && alert[2].contains(word), "{alert:?}");
        assert_eq!(alert[1..=1], ["ERROR".to_owned()]);
        assert_eq!(alert[3], "failed");
    }
    // The run says so, too, where its output is shown.
    let said = rows(&served, "SELECT content FROM run_line WHERE stream = 'output'");
    assert!(said.len() == 1 && said[0][0].starts_with("ERROR ") && said[0][0].contains("not finite"), "{said:?}");
}

/// The address of a way to the server on which no checkpoint ever comes.
fn way_without_checkpoints(served: &Served) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let server = served.base_url.trim_start_matches("http://").to_owned();
    std::thread::spawn(move || {
        while let Ok((client, _)) = listener.accept() {
            let server = TcpStream::connect(&server).unwrap();
            let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            std::thread::spawn(move || pass_on((client, server)));
        }
    });
    base
}

/// Passes on what a client sends, up to the request for a checkpoint: that one is never answered.
fn pass_on((mut client, mut server): (TcpStream, TcpStream)) {
    let mut bytes = vec![0; 65_536];
    loop {
        let read = client.read(&mut bytes).unwrap_or(0);
        let line = bytes[..read].split(|byte| *byte == b'\r').next().unwrap();
        if String::from_utf8_lossy(line).contains("/trained.safetensors") {
            std::thread::sleep(Duration::from_secs(600));
        }
        if read == 0 || server.write_all(&bytes[..read]).is_err() {
            let _ = server.shutdown(Shutdown::Both);
            return;
        }
    }
}

/// Logs checkpoints as artifacts.
fn upload(served: &Served, checkpoints: &[(&str, [f32; 4])]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = RunOptions::new("inputs").with_root(served.path());
        let run = served.client().start_run(options).await.unwrap();
        for (name, values) in checkpoints {
            let path = served.path().join(format!("{name}.safetensors"));
            write_checkpoint(&path, *values);
            let draft = ArtifactDraft::new(*name, "checkpoint").unwrap();
            let draft = draft.with_file("trained.safetensors", path).unwrap();
            run.log_artifact(&draft).await.unwrap();
        }
        run.finish(0).await.unwrap();
    });
}

#[test]
fn a_study_tells_how_it_ended() {
    let served = Served::start();
    let checkpoints = [
        ("m_pt", [0.0; 4]),
        ("m_good_0", [1.0, 2.0, 3.0, 4.0]),
        ("m_good_1", [1.0, 0.0, 3.0, 0.0]),
        ("m_bad_0", [f32::NAN; 4]),
        ("m_bad_1", [1.0; 4]),
    ];
    upload(&served, &checkpoints);
    let run = |datasets: &str, more: &[&str]| {
        let text =
            format!("name: grid\nproject: inputs\nmodels: [m]\ndatasets: [{datasets}]\nseeds: 0..1\nretries: 0\n");
        std::fs::write(served.path().join("study.yaml"), text).unwrap();
        served.run(&[&["study", "run", "study.yaml", "--out"], more].concat())
    };
    assert!(run("good", &["one", "--alert"]).status.success());
    assert_eq!(alerts(&served), [["study grid is done", "INFO", "1 tasks, 1 of them computed now", "finished"]]);
    // Through the summary's own run, which is what it was.
    let summary = rows(&served, "SELECT config FROM run JOIN alert ON run.id = alert.run_id");
    assert!(summary.len() == 1 && summary[0][0].contains("\"datasets\""), "{summary:?}");

    refused(&run("good, bad", &["two", "--alert"]), 7, "went wrong");
    let told = alerts(&served);
    assert_eq!(told[1..], [["study grid is not done", "ERROR", "2 of 3 tasks went wrong", "failed"]], "{told:?}");
    // The cell's own run failed and says why.
    let failed = "SELECT group_name, content FROM run JOIN run_line ON run.id = run_id AND stream = 'output'";
    let failed = rows(&served, failed);
    assert!(failed.len() == 1 && failed[0][0] == "grid" && failed[0][1].contains("not finite"), "{failed:?}");

    refused(&run("missing", &["three", "--alert"]), 3, "m_missing_0");
    let told = alerts(&served);
    assert_eq!((told.len(), told[2][0].as_str(), told[2][1].as_str()), (3, "study grid failed", "ERROR"), "{told:?}");
    assert!(told[2][2].contains("m_missing_0") && told[2][3] == "failed", "{told:?}");
}

/// The running run of which this holds, once the command has begun it.
fn begun(served: &Served, command: &mut Child, what: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(row) = rows(served, &format!("SELECT name FROM run WHERE state = 'running' AND {what}")).pop() {
            return row[0].clone();
        }
        let ended = command.try_wait().unwrap();
        if ended.is_some() || Instant::now() > deadline {
            let mut said = String::new();
            command.kill().unwrap();
            command.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            panic!("{ended:?}, and no run began: {said}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Asks the server to stop a run.
fn stop(served: &Served, name: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ask = async |query: &str, variables: Value| {
        let body = json!({ "query": query, "variables": variables, "operationName": "" });
        let request = reqwest::Client::new().post(format!("{}/graphql", served.base_url));
        let request = request.basic_auth("api", Some(&served.api_key)).json(&body);
        request.send().await.unwrap().json::<Value>().await.unwrap()
    };
    runtime.block_on(async {
        let query = "query R($id: String!) { project(name: \"inputs\") { run(name: $id) { id } } }";
        let run = ask(query, json!({ "id": name })).await;
        let query = "mutation S($id: ID!) { stopRun(input: { id: $id }) { success } }";
        let stopped = ask(query, json!({ "id": run["data"]["project"]["run"]["id"] })).await;
        assert_eq!(stopped["data"]["stopRun"]["success"], true, "{stopped}");
    });
}

fn start(served: &Served, way: &str, arguments: &[&str]) -> Child {
    let mut command = command(arguments);
    command.env("WANDB_BASE_URL", way).env("WANDB_API_KEY", &served.api_key);
    command.env("WANDB_CACHE_DIR", served.cache()).current_dir(served.path());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn work_that_logs_nothing_yet_hears_that_it_is_to_stop() {
    let served = Served::start();
    upload(&served, &[("m_pt", [0.0; 4]), ("m_slow_0", [1.0; 4]), ("m_slow_1", [2.0; 4])]);
    let way = way_without_checkpoints(&served);
    let start = |arguments: &[&str]| start(&served, &way, arguments);

    let fit = ["fit", "--pretrained", "local/inputs/m_pt", "--finetuned", "local/inputs/m_slow_{seed}"];
    let mut fit = start(&[&fit[..], &["--seeds", "0..1", "--out", "fit"]].concat());
    stop(&served, &begun(&served, &mut fit, "job_type = 'pca'"));
    let fit = fit.wait_with_output().unwrap();
    refused(&fit, 130, "somebody asked W&B to stop the run local/inputs/");
    assert!(!served.path().join("fit").exists());
    let runs =
        |column: &str| rows(&served, &format!("SELECT state, coalesce(exit_code, '') || '' FROM run WHERE {column}"));
    assert_eq!(runs("job_type = 'pca'"), [["killed", "255"]]);

    let text = "name: grid\nproject: inputs\nmodels: [m]\ndatasets: [slow]\nseeds: 0..1\n";
    std::fs::write(served.path().join("study.yaml"), text).unwrap();
    let mut study = start(&["study", "run", "study.yaml", "--out", "study"]);
    stop(&served, &begun(&served, &mut study, "group_name = 'grid'"));
    refused(&study.wait_with_output().unwrap(), 130, "somebody asked W&B to stop the run local/inputs/");
    assert_eq!(runs("group_name = 'grid'"), [["killed", "255"]]);
    // Run again, it goes on, and so does the run.
    let again = served.run(&["study", "run", "study.yaml", "--out", "study"]);
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    assert_eq!(runs("group_name = 'grid' AND job_type = 'pca'"), [["finished", "0"]]);

    // Ctrl-C, too, ends the run and not only the command.
    let fit = ["fit", "--pretrained", "local/inputs/m_pt", "--finetuned", "local/inputs/m_slow_{seed}"];
    let mut fit = start(&[&fit[..], &["--seeds", "0..1", "--out", "fit", "--project", "other"]].concat());
    let of_other = "project_id = (SELECT id FROM project WHERE name = 'other')";
    begun(&served, &mut fit, of_other);
    // Some moments later its log is there, too.
    std::thread::sleep(Duration::from_millis(300));
    let id = fit.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    refused(&fit.wait_with_output().unwrap(), 130, "interrupted");
    assert_eq!(runs(of_other), [["failed", "1"]]);
    // Nothing is left to be sent.
    assert!(!served.path().join("wandb").exists());
}
