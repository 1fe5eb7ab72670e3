//! Sweeps over a study on the embedded server, through the command: made, split between two agents in two processes,
//! stopped, cancelled, interrupted, failed and done again. `tests/interop/test_sdk_sweeps.py` has the official agent.
#![cfg(unix)]
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may end loudly")]

#[path = "support/experiment.rs"]
mod experiment;

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json as object};

use experiment::{World, json, ledger};

/// The sweep as the server has it.
fn sweep(world: &World, id: &str) -> Value {
    let query =
        "query S($sweep: String!) { project(name: \"vectors\", entityName: \"lab\") { sweep(sweepName: $sweep) {
                 state runCount runs { edges { node { name state config jobType displayName } } } } } }";
    world.graphql(query, object!({ "sweep": id }))["project"]["sweep"].take()
}

/// Id, state and cell of every run of a sweep.
fn runs(sweep: &Value) -> Vec<(String, String, String)> {
    let nodes = sweep["runs"]["edges"].as_array().unwrap().iter().map(|edge| &edge["node"]);
    nodes
        .map(|node| {
            let config: Value = serde_json::from_str(node["config"].as_str().unwrap()).unwrap();
            let text = |name: &str| config[name]["value"].as_str().unwrap().to_owned();
            let of = |name: &str| node[name].as_str().unwrap().to_owned();
            (of("name"), of("state"), format!("{}@{}", text("model"), text("dataset")))
        })
        .collect()
}

fn create(world: &World, file: &str) -> String {
    json(&world.run("cache", &["--json", "sweep", "create", file]))["id"].as_str().unwrap().to_owned()
}

/// An agent in a process of its own.
fn agent(world: &World, arguments: &[&str]) -> Child {
    let all = [&["--json", "sweep", "agent"], arguments, &["--heartbeat", "0.1"]].concat();
    world.command("cache", &all).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// Keeps every process from a cell of the study in this folder, as one that computes it would.
fn occupy(world: &World, folder: &str, cell: &str) -> fs::File {
    let ledger = world.path(folder).join("ledger");
    fs::create_dir_all(&ledger).unwrap();
    let file = fs::File::create(ledger.join(format!("{cell}.jsonl"))).unwrap();
    file.lock().unwrap();
    file
}

fn states(output: &Output) -> Vec<String> {
    let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    json["cells"].as_array().unwrap().iter().map(|cell| cell["state"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn two_agents_split_a_sweep() {
    let world = World::new();
    let made = json(&world.run("cache", &["--json", "sweep", "create", "study.yaml"]));
    let (id, path) = (made["id"].as_str().unwrap(), made["sweep"].as_str().unwrap());
    assert_eq!(path, format!("lab/vectors/{id}"));
    assert!(made["url"].as_str().unwrap().ends_with(&format!("/lab/vectors/sweeps/{id}")), "{made}");
    assert_eq!(sweep(&world, id)["state"], "PENDING");
    // As on two machines: nothing in common but the server.
    let agents = ["one", "two"].map(|folder| agent(&world, &[path, "study.yaml", "--out", folder]));
    let mut cells = BTreeMap::new();
    for agent in agents {
        let output = agent.wait_with_output().unwrap();
        let did = json(&output);
        assert_eq!((output.status.code(), did["end"].as_str()), (Some(0), Some("over")), "{did}");
        for cell in did["cells"].as_array().unwrap() {
            assert_eq!(cell["state"], "finished");
            *cells.entry(cell["cell"].as_str().unwrap().to_owned()).or_insert(0) += 1;
        }
    }
    assert_eq!((cells.len(), cells.values().all(|count| *count == 1)), (6, true), "{cells:?}");
    let mut computed = BTreeMap::new();
    for (task, (begun, done)) in ["one", "two"].into_iter().flat_map(|folder| ledger(&world.path(folder))) {
        let count: &mut (usize, usize) = computed.entry(task).or_default();
        *count = (count.0 + begun, count.1 + done);
    }
    assert_eq!((computed.len(), computed.values().all(|count| *count == (1, 1))), (6, true), "{computed:?}");
    let sweep = sweep(&world, id);
    assert_eq!((sweep["state"].as_str(), sweep["runCount"].as_u64()), (Some("FINISHED"), Some(6)));
    let runs: BTreeMap<String, String> = runs(&sweep).into_iter().map(|(_, state, cell)| (cell, state)).collect();
    assert!(runs.keys().eq(cells.keys()) && runs.values().all(|state| state == "finished"), "{runs:?}");
    // Who comes late finds nothing to do.
    let late = json(&world.run("cache", &["--json", "sweep", "agent", id, "study.yaml", "--out", "three"]));
    assert_eq!((late["end"].as_str(), late["cells"].as_array().map(Vec::len)), (Some("over"), Some(0)));
}

#[test]
fn failed_cells_are_done_again_when_asked_for() {
    let world = World::new();
    let text = fs::read_to_string(world.path("study.yaml")).unwrap();
    let text = text.replace("[tiny, small]", "[tiny]").replace("[CIFAR100, DTD, SVHN]", "[DTD, LATE]");
    fs::write(world.path("study.yaml"), text).unwrap();
    let id = create(&world, "study.yaml");
    let first = agent(&world, &[&id, "study.yaml", "--out", "swept"]).wait_with_output().unwrap();
    assert_eq!((first.status.code(), states(&first)), (Some(7), ["finished", "failed"].map(str::to_owned).to_vec()));
    let before = runs(&sweep(&world, &id));
    let late = before.iter().find(|(_, _, cell)| cell == "tiny@LATE").unwrap().clone();
    assert_eq!(late.1, "failed");
    let log = "query L($run: String!) { project(name: \"vectors\", entityName: \"lab\") { run(name: $run) {
               logLineCount } } }";
    assert_eq!(world.graphql(log, object!({ "run": late.0 }))["project"]["run"]["logLineCount"], 1);

    world.add_dataset("tiny", 4, "LATE");
    let again = ["--retry-failed", "--out", "swept", &id, "study.yaml"];
    let second = agent(&world, &again).wait_with_output().unwrap();
    assert_eq!((second.status.code(), states(&second)), (Some(0), vec!["finished".to_owned()]));
    let after = runs(&sweep(&world, &id));
    assert_eq!((after.len(), after.iter().all(|(_, state, _)| state == "finished")), (2, true), "{after:?}");
    assert!(after.iter().any(|(run, _, _)| *run == late.0), "the same run goes on");
    let third = agent(&world, &again).wait_with_output().unwrap();
    assert_eq!((third.status.code(), states(&third)), (Some(0), vec![]));
}

#[test]
fn agents_without_a_folder_in_common_do_each_failed_cell_again_once() {
    let world = World::new();
    let late = ["LATE1", "LATE2", "LATE3", "LATE4"];
    let text = fs::read_to_string(world.path("study.yaml")).unwrap();
    let text =
        text.replace("[tiny, small]", "[tiny]").replace("[CIFAR100, DTD, SVHN]", &format!("[{}]", late.join(", ")));
    fs::write(world.path("study.yaml"), text).unwrap();
    let id = create(&world, "study.yaml");
    let first = agent(&world, &[&id, "study.yaml", "--out", "zero"]).wait_with_output().unwrap();
    assert_eq!((first.status.code(), states(&first)), (Some(7), vec!["failed".to_owned(); 4]));
    let before = runs(&sweep(&world, &id));
    late.iter().for_each(|dataset| world.add_dataset("tiny", 4, dataset));
    let agents = ["one", "two", "three"].map(|folder| {
        let all =
            ["--json", "sweep", "agent", "--retry-failed", "--heartbeat", "1.5", &id, "study.yaml", "--out", folder];
        world.command("cache", &all).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    });
    let mut done = Vec::new();
    for agent in agents {
        let output = agent.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        done.extend(
            json(&output)["cells"].as_array().unwrap().iter().map(|cell| cell["cell"].as_str().unwrap().to_owned()),
        );
    }
    done.sort_unstable();
    assert_eq!(done, late.map(|dataset| format!("tiny@{dataset}")));
    let computed: Vec<_> = ["one", "two", "three"].iter().flat_map(|folder| ledger(&world.path(folder))).collect();
    assert!(computed.len() == 4 && computed.iter().all(|(_, counts)| *counts == (1, 1)), "{computed:?}");
    let after = runs(&sweep(&world, &id));
    assert!(after.iter().all(|(_, state, _)| state == "finished"), "{after:?}");
    let ids = |runs: &[(String, String, String)]| runs.iter().map(|(id, _, _)| id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&after), ids(&before), "the same runs");
    let config =
        "query C($run: String!) { project(name: \"vectors\", entityName: \"lab\") { run(name: $run) { config } } }";
    let config = world.graphql(config, object!({ "run": after[0].0 }));
    assert!(!config.to_string().contains("retried_by"), "the mark is gone: {config}");
}

#[test]
fn an_agent_obeys_and_ends_in_order() {
    let world = World::new();
    let id = create(&world, "study.yaml");
    let dataset = ["CIFAR100", "DTD", "SVHN"];
    let running = |cell: &str| {
        let runs = runs(&sweep(&world, &id));
        runs.into_iter().find(|(_, state, of)| state == "running" && of == cell).map(|(run, _, _)| run)
    };
    let state_of = |run: &str| runs(&sweep(&world, &id)).into_iter().find(|(id, _, _)| id == run).unwrap().1;

    // Somebody stops a run: its agent goes on with the next cell. Then it is told to leave: it ends the cell first.
    let held = occupy(&world, "swept", &format!("tiny@{}", dataset[0]));
    let next = occupy(&world, "swept", &format!("small@{}", dataset[0]));
    let child = agent(&world, &[&id, "study.yaml", "--out", "swept"]);
    let mut run = None;
    wait_until("the first cell runs", || {
        run = running("tiny@CIFAR100");
        run.is_some()
    });
    let run = run.unwrap();
    let stored =
        "query I($run: String!) { project(name: \"vectors\", entityName: \"lab\") { run(name: $run) { id } } }";
    let stored = world.graphql(stored, object!({ "run": run }))["project"]["run"]["id"].take();
    world.graphql("mutation X($id: ID!) { stopRun(input: { id: $id }) { success } }", object!({ "id": stored }));
    wait_until("the run is stopped", || state_of(&run) == "killed");
    wait_until("the next cell runs", || running("small@CIFAR100").is_some());
    signal(&child, "-INT");
    std::thread::sleep(Duration::from_millis(300));
    drop(next);
    let left = child.wait_with_output().unwrap();
    assert_eq!((left.status.code(), states(&left)), (Some(130), ["stopped", "finished"].map(str::to_owned).to_vec()));
    drop(held);

    // Told twice, it gives up the cell, and its run says so.
    let held = occupy(&world, "swept", "tiny@DTD");
    let child = agent(&world, &[&id, "study.yaml", "--out", "swept"]);
    wait_until("the cell runs", || running("tiny@DTD").is_some());
    let run = running("tiny@DTD").unwrap();
    signal(&child, "-TERM");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(state_of(&run), "running");
    signal(&child, "-INT");
    let left = child.wait_with_output().unwrap();
    assert_eq!((left.status.code(), states(&left)), (Some(130), vec!["stopped".to_owned()]));
    assert_eq!(state_of(&run), "failed");
    drop(held);

    let one =
        json(&world.run("cache", &["--json", "sweep", "agent", &id, "study.yaml", "--out", "swept", "--count", "1"]));
    assert_eq!((one["end"].as_str(), one["finished"].as_u64()), (Some("count"), Some(1)));

    // The sweep is cancelled: whatever runs is given up.
    let held = occupy(&world, "swept", "tiny@SVHN");
    let child = agent(&world, &[&id, "study.yaml", "--out", "swept"]);
    wait_until("the cell runs", || running("tiny@SVHN").is_some());
    let query = "query S($sweep: String!) { project(name: \"vectors\", entityName: \"lab\") { sweep(sweepName: $sweep) { id } } }";
    let stored = world.graphql(query, object!({ "sweep": id }))["project"]["sweep"]["id"].take();
    let cancel = "mutation C($id: ID!) { upsertSweep(input: { id: $id, state: \"CANCELED\" }) { sweep { state } } }";
    world.graphql(cancel, object!({ "id": stored }));
    let over = child.wait_with_output().unwrap();
    assert_eq!((over.status.code(), states(&over)), (Some(0), vec!["stopped".to_owned()]));
    drop(held);
}

#[test]
fn a_sweep_of_something_else_is_refused_before_it_loses_a_run() {
    let world = World::new();
    let id = world.register_sweep("method: grid\nparameters:\n  lr:\n    values: [1, 2]\n");
    let refused = |id: &str| {
        let output = world.command("cache", &["sweep", "agent", id, "study.yaml"]).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, text) = refused(&id);
    assert!(code == Some(2) && text.contains("not of this study"), "{text}");
    assert_eq!(sweep(&world, &id)["state"], "PENDING");
    assert_eq!(refused("lab/vectors/nothere").0, Some(3));
    assert_eq!(refused("lab/vec tors/x").0, Some(2));
}

#[test]
fn the_program_of_a_sweep() {
    let world = World::new();
    let config =
        String::from_utf8(world.run("cache", &["sweep", "config", "study.yaml", "--out", "swept"]).stdout).unwrap();
    assert!(config.contains("method: grid\n") && config.contains("values: [CIFAR100, DTD, SVHN]"), "{config}");
    let sweep = world.register_sweep(&config);
    fs::write(world.path("parameters.yaml"), "wandb_version: 1\n\ndataset:\n  value: DTD\nmodel:\n  value: small\n")
        .unwrap();
    let agent = |run: &str| {
        let mut command = world.command("cache", &["--json", "sweep", "cell", "study.yaml", "--out", "swept"]);
        command.env("WANDB_SWEEP_ID", &sweep).env("WANDB_RUN_ID", run);
        command.env("WANDB_SWEEP_PARAM_PATH", world.path("parameters.yaml"));
        json(&command.output().unwrap())
    };
    let first = agent("agentrun1");
    assert_eq!((first["computed"].as_u64(), first["runs"][0].as_str()), (Some(1), Some("lab/vectors/agentrun1")));
    // A second run of the same cell computes nothing, but is a run.
    let second = agent("agentrun2");
    assert_eq!((second["computed"].as_u64(), second["runs"][0].as_str()), (Some(0), Some("lab/vectors/agentrun2")));
    let by_hand =
        ["sweep", "cell", "study.yaml", "--out", "swept", "--", "--model=tiny", "--dataset=DTD", "--seeds=0..2"];
    world.run("cache", &by_hand);
    let unknown =
        world.command("cache", &["sweep", "cell", "study.yaml", "--", "--model=huge", "--dataset=DTD"]).output();
    assert_eq!(unknown.unwrap().status.code(), Some(2));
}
