//! The verbs on artifacts that are there already, as a user runs them: list, describe, trace, verify, edit, link, remove.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::panic, reason = "a test may end loudly")]

#[path = "support/command.rs"]
mod command;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use command::{Served, refused};
use serde_json::{Value, json};
use wandb_pca::wandb::{Artifact, ArtifactDraft, Run, RunOptions};

fn names(list: &Value, key: &str) -> Vec<String> {
    list.as_array().unwrap().iter().map(|item| item[key].as_str().unwrap().to_owned()).collect()
}

fn draft(name: &str, kind: &str, content: &str) -> ArtifactDraft {
    let metadata = json!({"content": content, "length": content.len()});
    let draft =
        ArtifactDraft::new(name, kind).unwrap().with_file("deep/file.txt", content.as_bytes().to_vec()).unwrap();
    let draft = draft.with_file("same.txt", b"same".to_vec()).unwrap();
    draft.with_metadata(metadata.as_object().unwrap().clone()).unwrap()
}

async fn start(served: &Served, name: &str) -> Run {
    let options = RunOptions::new("vectors").with_display_name(Some(name.to_owned()));
    served.client().start_run(options).await.unwrap()
}

/// Logs versions of one collection by a run of its own.
fn log(served: &Served, name: &str, contents: &[&str]) -> Vec<Artifact> {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let run = start(served, "logger").await;
        let mut logged = Vec::new();
        for content in contents {
            logged.push(run.log_artifact(&draft(name, "checkpoint", content)).await.unwrap());
        }
        run.finish(0).await.unwrap();
        logged
    })
}

#[test]
fn what_is_there_is_listed_with_filters() {
    let served = Served::start();
    log(&served, "vit-a", &["one", "two", "three"]);
    log(&served, "vit-b", &["four"]);
    log(&served, "bert", &["five"]);
    served.ok(&["artifact", "tag", "vectors/vit-a:v1", "--add", "good"]);
    served.ok(&["artifact", "alias", "vectors/vit-a:v1", "--add", "best"]);
    let all = served.ok(&["artifact", "ls", "vectors"]);
    assert_eq!(all["schema"], "wandb-pca/artifact-ls/2");
    assert_eq!(names(&all["artifacts"], "name"), ["bert", "vit-a", "vit-b"]);
    let vit_a = &all["artifacts"][1];
    assert_eq!((&vit_a["version"], &vit_a["versions"], &vit_a["size"]), (&json!("v2"), &json!(3), &json!(9)));
    assert_eq!((&vit_a["type"], &vit_a["aliases"]), (&json!("checkpoint"), &json!(["latest"])));
    let list = |arguments: &[&str]| {
        let listed = served.ok(&[&["artifact", "ls"], arguments].concat());
        names(&listed["artifacts"], "name")
    };
    assert_eq!(list(&["vectors", "--name", "vit-*"]), ["vit-a", "vit-b"]);
    assert_eq!(list(&["vectors", "--limit", "1"]), ["bert"]);
    assert!(list(&["vectors", "--type", "dataset"]).is_empty());
    assert!(list(&["vectors", "--older-than", "1d"]).is_empty());
    let vit_a = format!("{}/vectors/vit-a", served.entity);
    let version = |index: usize| format!("{vit_a}:v{index}");
    assert_eq!(list(&[&vit_a]), [version(2), version(1), version(0)]);
    assert_eq!(list(&[&vit_a, "--tag", "good"]), [version(1)]);
    assert_eq!(list(&[&vit_a, "--alias", "best"]), [version(1)]);
    assert_eq!(list(&[&vit_a, "--alias", "v0"]), [version(0)]);
    assert_eq!(list(&[&vit_a, "--metadata", "content=three"]), [version(2)]);
    assert_eq!(list(&[&vit_a, "--metadata", "length=3", "--limit", "1"]), [version(1)]);
    let csv = served.run(&["artifact", "ls", &vit_a, "--csv"]);
    assert!(String::from_utf8(csv.stdout).unwrap().starts_with("name,aliases,tags,files,size,digest,created_at,ttl"));
    refused(&served.run(&["artifact", "ls", "nowhere"]), 3, &["nowhere", "hint"]);
    refused(&served.run(&["artifact", "ls", "vectors", "--older-than", "soon"]), 2, &["30d"]);
    refused(&served.run(&["artifact", "ls", "vectors", "--metadata", "a=b"]), 2, &["collection"]);
}

#[test]
fn ids_are_taken_where_names_are() {
    let served = Served::start();
    let logged = log(&served, "vit", &["one", "two", "three"]);
    let address = |index: usize| format!("wandb-artifact://_id/{}", logged[index].id);
    let (first, second) = (address(0), address(1));
    served.ok(&["artifact", "tag", &first, "--add", "good"]);
    served.ok(&["artifact", "alias", &first, "--add", "best"]);
    let link = served.ok(&["artifact", "link", &first, "shelf/vits"]);
    assert_eq!(link["link"], format!("{}/shelf/vits:v0", served.entity));
    let info = served.ok(&["artifact", "info", "vectors/vit:best"]);
    assert_eq!((&info["version"], &info["tags"]), (&json!("v0"), &json!(["good"])));
    // A new version of the collection that an id is of, on top of another one of its versions.
    fs::write(served.path().join("more.txt"), "more").unwrap();
    let put = ["artifact", "put", "more.txt", "--name", &first, "--type", "checkpoint", "--base", &second];
    let info = served.ok(&["artifact", "info", served.ok(&put)["artifact"].as_str().unwrap()]);
    assert_eq!((&info["version"], &info["files"]), (&json!("v3"), &json!(3)));
    let other = log(&served, "bert", &["four"]);
    let base = format!("wandb-artifact://_id/{}", other[0].id);
    let put = served.run(&["artifact", "put", "more.txt", "--name", "vectors/vit", "--base", &base]);
    refused(&put, 2, &["no version of vit"]);
    served.ok(&["artifact", "rm", &second, "--yes"]);
    refused(&served.run(&["artifact", "info", "vectors/vit:v1"]), 3, &["vit"]);
    refused(
        &served.run(&["artifact", "rm", "wandb-artifact://_id/QXJ0aWZhY3Q6OTk5", "--yes"]),
        3,
        &["QXJ0aWZhY3Q6OTk5"],
    );
}

#[test]
fn requests_are_told_one_a_line_and_without_secrets() {
    let served = Served::start();
    log(&served, "vit", &["one"]);
    let output = served.run(&["-vv", "artifact", "get", "vectors/vit", "--root", "out"]);
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{log}");
    let host = served.base_url.trim_start_matches("http://");
    let told: Vec<&str> = log.lines().filter(|line| line.contains(host) && line.contains(" ms")).collect();
    let of = |what: &str| told.iter().filter(|line| line.contains(&format!("{what} {host}/"))).count();
    assert!(of("POST") >= 2 && of("GET") >= 2, "{log}");
    assert!(told.iter().all(|line| line.contains(" 200 ")), "{log}");
    assert!(!log.contains(&served.api_key) && !told.iter().any(|line| line.contains('?')), "{log}");
    let quiet = served.run(&["-v", "artifact", "get", "vectors/vit", "--root", "out"]);
    assert!(!String::from_utf8(quiet.stderr).unwrap().contains("POST"));
}

/// Passes everything on to the server and counts what is asked of it.
fn counting(served: &Served) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (count, target) = (Arc::new(AtomicUsize::new(0)), served.base_url.trim_start_matches("http://").to_owned());
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, mut server) = (client.unwrap(), TcpStream::connect(&target).unwrap());
            let (mut back, mut from) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let counted = Arc::clone(&counted);
            std::thread::spawn(move || std::io::copy(&mut from, &mut back));
            std::thread::spawn(move || {
                let mut buffer = [0; 65_536];
                while let Ok(n @ 1..) = client.read(&mut buffer) {
                    let asked = buffer[..n].windows(13).filter(|bytes| bytes == b"POST /graphql").count();
                    counted.fetch_add(asked, Ordering::SeqCst);
                    server.write_all(&buffer[..n]).unwrap();
                }
            });
        }
    });
    (address, count)
}

#[test]
fn many_collections_are_one_request() {
    let served = Served::start();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let run = start(&served, "logger").await;
        for index in 0..12 {
            run.log_artifact(&draft(&format!("model-{index:02}"), &format!("type-{}", index % 3), "x")).await.unwrap();
        }
        run.finish(0).await.unwrap();
    });
    let (address, count) = counting(&served);
    let path = format!("{}/vectors", served.entity);
    let listed = served.ok(&["artifact", "ls", &path, "--base-url", &address]);
    assert_eq!((listed["artifacts"].as_array().unwrap().len(), count.load(Ordering::SeqCst)), (12, 1));
}

#[test]
fn a_version_is_described_with_what_is_here() {
    let served = Served::start();
    log(&served, "vit", &["one"]);
    let before = served.ok(&["artifact", "info", "vectors/vit"]);
    assert_eq!((&before["bytes_stored"], &before["bytes_to_fetch"]), (&json!(0), &json!(7)));
    assert_eq!((&before["made_by"]["name"], &before["digest_algorithm"]), (&json!("logger"), &json!("md5")));
    served.ok(&["artifact", "get", "vectors/vit", "--store-only"]);
    served.ok(&["artifact", "edit", "vectors/vit", "--ttl", "30d", "-d", "a model", "--metadata", r#"{"a": 1}"#]);
    served.ok(&["artifact", "link", "vectors/vit", "shelf/models:chosen"]);
    let after = served.ok(&["artifact", "info", "vectors/vit", "--files", "deep/**"]);
    assert_eq!((&after["bytes_stored"], &after["bytes_to_fetch"]), (&json!(7), &json!(0)));
    assert_eq!((&after["ttl_seconds"], &after["description"]), (&json!(2_592_000), &json!("a model")));
    assert_eq!(
        (&after["metadata"], names(&after["entries"], "path")),
        (&json!({"a": 1}), vec!["deep/file.txt".to_owned()])
    );
    assert_eq!(after["links"], json!([format!("{}/shelf/models:v0", served.entity)]));
    let link = served.ok(&["artifact", "info", "shelf/models:chosen"]);
    assert_eq!((&link["source"], &link["id"]), (&after["artifact"], &after["id"]));
    served.ok(&["artifact", "edit", "vectors/vit", "--ttl", "never"]);
    assert_eq!(served.ok(&["artifact", "info", "vectors/vit"])["ttl_seconds"], Value::Null);
    let text = served.run(&["artifact", "info", "vectors/vit", "--limit", "1"]);
    assert!(String::from_utf8(text.stdout).unwrap().contains("1 files more"));
    refused(&served.run(&["artifact", "edit", "vectors/vit"]), 2, &["required"]);
    refused(&served.run(&["artifact", "edit", "vectors/vit", "--metadata", "[1]"]), 2, &["JSON object"]);
    refused(&served.run(&["artifact", "info", "vectors/none:v1"]), 3, &["vectors/none:v1 not found", "hint"]);
}

#[test]
fn lineage_goes_both_ways_and_ends() {
    let served = Served::start();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let [prepare, train, evaluate] =
            [start(&served, "prepare").await, start(&served, "train").await, start(&served, "evaluate").await];
        let data = prepare.log_artifact(&draft("data", "dataset", "data")).await.unwrap();
        train.use_artifact(&data).await.unwrap();
        let model = train.log_artifact(&draft("model", "checkpoint", "model")).await.unwrap();
        evaluate.use_artifact(&model).await.unwrap();
        // A cycle: what came of the model is read by the run that made it.
        let scores = evaluate.log_artifact(&draft("scores", "table", "scores")).await.unwrap();
        train.use_artifact(&scores).await.unwrap();
        for run in [prepare, train, evaluate] {
            run.finish(0).await.unwrap();
        }
    });
    let graph = served.ok(&["artifact", "lineage", "vectors/model"]);
    let node = |graph: &Value, name: &str| {
        let ends = |node: &&Value| node["name"].as_str().unwrap().contains(name) || node["display_name"] == name;
        graph["nodes"].as_array().unwrap().iter().find(ends).map(|node| node["id"].clone())
    };
    let [model, data, scores] = ["/model:v0", "/data:v0", "/scores:v0"].map(|name| node(&graph, name).unwrap());
    let [train, evaluate] = ["train", "evaluate"].map(|name| node(&graph, name).unwrap());
    assert_eq!(model, 0);
    assert_eq!(node(&graph, "prepare"), None);
    let edges = graph["edges"].as_array().unwrap();
    let edge = |from: &Value, to: &Value, relation: &str| json!({"from": from, "to": to, "relation": relation});
    for expected in [
        edge(&train, &model, "made"),
        edge(&data, &train, "used"),
        edge(&scores, &train, "used"),
        edge(&model, &evaluate, "used"),
        edge(&evaluate, &scores, "made"),
    ] {
        assert!(edges.contains(&expected), "{expected} is not in {edges:?}");
    }
    assert_eq!((edges.len(), &graph["truncated"]), (5, &json!(false)));
    let far = served.ok(&["artifact", "lineage", "vectors/model", "--depth", "9"]);
    assert!(node(&far, "prepare").is_some());
    let few = served.ok(&["artifact", "lineage", "vectors/model", "--limit", "2"]);
    assert_eq!((few["nodes"].as_array().unwrap().len(), &few["truncated"]), (2, &json!(true)));
    let text = String::from_utf8(served.run(&["artifact", "lineage", "vectors/model", "--depth", "9"]).stdout).unwrap();
    for words in ["  made by run ", "    which used ", "  used by run ", "    which made ", " …\n"] {
        assert!(text.contains(words), "`{words}` is not in:\n{text}");
    }
}

#[test]
fn bytes_are_hashed_again() {
    let served = Served::start();
    log(&served, "vit", &["one"]);
    let verify = |arguments: &[&str]| {
        let (code, json) = served.json(&[&["artifact", "verify", "vectors/vit"], arguments].concat());
        let states = json["files"]
            .as_array()
            .unwrap()
            .iter()
            .map(|file| format!("{} {}", file["path"].as_str().unwrap(), file["state"].as_str().unwrap()));
        (code, states.collect::<Vec<_>>())
    };
    served.ok(&["artifact", "get", "vectors/vit"]);
    assert_eq!(verify(&[]), (0, vec!["deep/file.txt ok".to_owned(), "same.txt ok".to_owned()]));
    assert_eq!(verify(&["--store"]).0, 0);
    let folder = served.path().join("artifacts/vit:v0");
    fs::write(folder.join("more.txt"), "more").unwrap();
    assert_eq!(verify(&[]).0, 0);
    let (code, states) = verify(&["--strict"]);
    assert_eq!((code, states[1].as_str()), (5, "more.txt extra"));
    // Same length, other bytes: only a hash tells.
    fs::write(folder.join("same.txt"), "sane").unwrap();
    fs::remove_file(folder.join("deep/file.txt")).unwrap();
    let (code, states) = verify(&["--root", "artifacts/vit:v0"]);
    assert_eq!(
        (code, states),
        (5, ["deep/file.txt missing", "more.txt extra", "same.txt corrupt"].map(str::to_owned).into())
    );
    let output = served.run(&["artifact", "verify", "vectors/vit"]);
    refused(&output, 5, &["vectors/vit:v0 is not what its manifest says", "1 missing", "1 corrupt"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("corrupt      same.txt (md5:"));
    // The folder is a copy, so the store still holds; then it does not.
    assert_eq!(verify(&["--store"]).0, 0);
    let object = served.cache().join("artifacts/obj/md5/51/037a4a37730f52c8732586d3aaa316");
    let mut permissions = fs::metadata(&object).unwrap().permissions();
    #[allow(clippy::permissions_set_readonly_false, reason = "a file of this test")]
    permissions.set_readonly(false);
    fs::set_permissions(&object, permissions).unwrap();
    fs::write(&object, "sane").unwrap();
    assert_eq!(verify(&["--store"]), (5, vec!["deep/file.txt ok".to_owned(), "same.txt corrupt".to_owned()]));
    assert!(object.exists(), "verify changes nothing");
    // What was resolved once can be verified without the server.
    assert_eq!(verify(&["--offline"]).0, 5);
    fs::write(folder.join("same.txt"), "same").unwrap();
    fs::write(folder.join("deep/file.txt"), "one").unwrap();
    assert_eq!(verify(&["--offline"]).0, 0);
    refused(&served.run(&["artifact", "verify", "vectors/other", "--offline"]), 3, &["vectors/other"]);
    refused(&served.run(&["artifact", "verify", "vectors/vit", "--root", "nowhere"]), 1, &["nowhere"]);
}

#[test]
fn versions_go_by_rule_and_never_by_accident() {
    let served = Served::start();
    log(&served, "vit", &["one", "two", "three", "four"]);
    let left =
        || names(&served.ok(&["artifact", "ls", &format!("{}/vectors/vit", served.entity)])["artifacts"], "version");
    served.ok(&["artifact", "alias", "vectors/vit:v1", "--add", "best"]);
    fn rm<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
        [&["artifact", "rm"], arguments].concat()
    }
    // Nobody is there to agree, a rule is missing, an alias is in the way: nothing goes.
    refused(&served.run(&rm(&["vectors/vit:v0"])), 2, &["--yes"]);
    refused(&served.run(&rm(&["--collection", "vectors/vit", "--yes"])), 2, &["--older-than"]);
    refused(&served.run(&rm(&["vectors/vit:v0", "vectors/vit:v1", "--yes"])), 2, &["vit:v1 has aliases (best)"]);
    refused(&served.run(&rm(&["vectors/vit:v9", "vectors/vit:v0", "--yes"])), 3, &["vectors/vit:v9 not found"]);
    refused(&served.run(&["artifact", "rm"]), 2, &["required"]);
    let plan = served.ok(&rm(&["--collection", "vectors/vit", "--keep-last", "1", "--keep-aliases", "--dry-run"]));
    let action = |at: usize| format!("{} {}", plan["versions"][at]["action"], plan["versions"][at]["reason"]);
    assert_eq!(
        [0, 1, 2, 3].map(action),
        [r#""keep" "among the newest""#, r#""delete" null"#, r#""keep" "has aliases""#, r#""delete" null"#]
    );
    assert_eq!(left(), ["v3", "v2", "v1", "v0"]);
    let young = served.ok(&rm(&["--collection", "vectors/vit", "--older-than", "1h", "--delete-aliases", "--yes"]));
    assert!(young["versions"].as_array().unwrap().iter().all(|version| version["removed"] == false));
    let done = served.ok(&rm(&["--collection", "vectors/vit", "--keep-last", "1", "--keep-aliases", "--yes"]));
    let removed = done["versions"].as_array().unwrap().iter().filter(|version| version["removed"] == true);
    assert_eq!((removed.count(), left()), (2, vec!["v3".to_owned(), "v1".to_owned()]));
    served.ok(&rm(&["vectors/vit:best", "--delete-aliases", "--yes"]));
    assert_eq!(left(), ["v3"]);
    refused(&served.run(&["artifact", "info", "vectors/vit:v1"]), 3, &["not found"]);
}

#[test]
fn links_go_without_their_source() {
    let served = Served::start();
    let logged = log(&served, "vit", &["one", "two"]);
    let link = served.ok(&["artifact", "link", "vectors/vit:v0", "shelf/models"]);
    assert_eq!(link["link"], format!("{}/shelf/models:v0", served.entity));
    served.ok(&["artifact", "link", "vectors/vit:v1", "shelf/models"]);
    let shelf = served.ok(&["artifact", "ls", &format!("{}/shelf/models", served.entity)]);
    assert_eq!(
        (&shelf["artifacts"][0]["source"], &shelf["artifacts"][0]["aliases"]),
        (&json!(logged[1].name().to_string()), &json!(["latest"]))
    );
    let plan = served.ok(&["artifact", "rm", "shelf/models:v0", "--dry-run"]);
    assert_eq!(plan["versions"][0]["action"], "unlink");
    served.ok(&["artifact", "rm", "shelf/models:v0", "--yes"]);
    refused(&served.run(&["artifact", "info", "shelf/models:v0"]), 3, &["not found"]);
    served.ok(&["artifact", "unlink", "shelf/models:v1"]);
    assert_eq!(served.ok(&["artifact", "info", "vectors/vit:v0"])["links"], json!([]));
    refused(&served.run(&["artifact", "unlink", "vectors/vit:v0"]), 2, &["is no link", "artifact rm"]);
}

#[test]
fn what_was_done_is_said_when_not_all_could_be() {
    let served = Served::start();
    log(&served, "vit", &["one", "two", "three"]);
    // A link with an alias elsewhere: the server refuses to delete its source without leave, and we learn it only then.
    served.ok(&["artifact", "link", "vectors/vit:v0", "shelf/models"]);
    let (code, json) = served.json(&["artifact", "rm", "vectors/vit:v0", "vectors/vit:v1", "--yes"]);
    assert_eq!(
        (code, &json["versions"][0]["removed"], &json["versions"][1]["removed"]),
        (7, &json!(false), &json!(true))
    );
    assert!(json["versions"][0]["error"].as_str().unwrap().contains("aliases"));
    let all = served.run(&["artifact", "rm", "vectors/vit:v0", "--yes"]);
    refused(&all, 1, &["cannot remove", "vectors/vit:v0"]);
}
