//! The client against the embedded server: what goes up comes down the same, and lineage, listing and runs are what the
//! server says they are. The two share no code, so each is a witness for the other.

#![allow(missing_docs, unreachable_pub, dead_code, clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod support;

use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};
use support::{noise, store};
use wandb_pca::server::{Server, ServerOptions};
use wandb_pca::table::{ColumnKind, Table};
use wandb_pca::wandb::{
    Artifact, ArtifactDraft, ArtifactName, Client, ClientOptions, DownloadOptions, LinkMode, Origin, Run, RunOptions,
    WandbError, Wanted, export,
};

async fn server(folder: &Path) -> Server {
    Server::start(ServerOptions::new(folder.join("data"))).await.unwrap()
}

fn options(server: &Server) -> ClientOptions {
    ClientOptions::new(server.base_url().to_string()).with_api_key(Some(server.api_key().clone())).with_retries(
        3,
        Duration::from_millis(5),
        Duration::from_millis(50),
    )
}

fn client(server: &Server) -> Client {
    Client::new(options(server)).unwrap()
}

async fn start(client: &Client) -> Run {
    client.start_run(RunOptions::new("vectors").with_job_type(Some("test".to_owned()))).await.unwrap()
}

/// Every file of the artifact, freshly downloaded.
async fn contents(client: &Client, artifact: &Artifact) -> Vec<(String, Vec<u8>)> {
    let (_folder, store) = store();
    let manifest = client.manifest(artifact).await.unwrap();
    let wanted = [Wanted::all(artifact.clone(), manifest)];
    let got = client.download(&store, &wanted, &DownloadOptions::default()).await.unwrap();
    assert!(got[0].files.iter().all(|file| file.origin == Origin::Network));
    got[0].files.iter().map(|file| (file.path.clone(), std::fs::read(&file.object.path).unwrap())).collect()
}

async fn find(client: &Client, name: &str) -> Result<Artifact, WandbError> {
    let viewer = client.viewer().await?;
    client.artifact(&ArtifactName::parse(name)?.with_defaults(viewer.entity.as_deref(), Some("vectors"))?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_up_comes_down() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path()).await;
    let client = client(&server);
    let path = folder.path().join("trained.ckpt");
    std::fs::write(&path, noise(3_000_000)).unwrap();
    let run = start(&client).await;
    let draft = |seed: u64| {
        let metadata = Map::from_iter([("seed".to_owned(), json!(seed)), ("naïve".to_owned(), json!("é"))]);
        let draft = ArtifactDraft::new("ViT-B-16_pt", "checkpoint").unwrap();
        let draft = draft.with_metadata(metadata).unwrap().with_alias("best").unwrap().with_description("pre");
        let draft = draft.with_file("trained.ckpt", path.clone()).unwrap().with_file("empty", Vec::new()).unwrap();
        draft.with_file("notes/ü #1?.txt", format!("seed {seed}").into_bytes()).unwrap()
    };
    let first = run.log_artifact(&draft(1)).await.unwrap();
    assert_eq!((first.version.as_str(), first.file_count, first.size), ("v0", 3, 3_000_006));
    assert_eq!(first.metadata["naïve"], "é");
    // The same content is the same version; other content is the next one, and takes the aliases.
    assert_eq!(run.log_artifact(&draft(1)).await.unwrap().id, first.id);
    let second = run.log_artifact(&draft(2)).await.unwrap();
    assert_eq!((second.version.as_str(), second.aliases.len()), ("v1", 2));
    assert_eq!(find(&client, "ViT-B-16_pt:best").await.unwrap().id, second.id);
    assert_eq!(find(&client, "ViT-B-16_pt:v0").await.unwrap().id, first.id);
    assert!(find(&client, "ViT-B-16_pt:v7").await.unwrap_err().is_not_found());
    let got = contents(&client, &second).await;
    let expected = [("empty", Vec::new()), ("notes/ü #1?.txt", b"seed 2".to_vec()), ("trained.ckpt", noise(3_000_000))];
    assert!(got.iter().map(|(path, bytes)| (path.as_str(), bytes)).eq(expected.iter().map(|(p, b)| (*p, b))));
    // Content of the first version was not sent again: the manifest says who brought it.
    let manifest = client.manifest(&second).await.unwrap();
    assert_eq!(manifest.entries["trained.ckpt"].birth_artifact_id.as_deref(), Some(first.id.as_str()));
    run.finish(0).await.unwrap();
    server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn large_files_go_in_parts() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path()).await;
    let client = Client::new(options(&server).with_multipart_threshold(1_000_000)).unwrap();
    let path = folder.path().join("big");
    std::fs::write(&path, noise(2_500_000)).unwrap();
    let run = start(&client).await;
    let draft = ArtifactDraft::new("big", "checkpoint").unwrap().with_file("big", path).unwrap();
    let logged = run.log_artifact(&draft).await.unwrap();
    assert!(contents(&client, &logged).await[0].1 == noise(2_500_000));
    run.finish(0).await.unwrap();
    server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_keeps_what_it_logs() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path()).await;
    let client = client(&server);
    let config = Map::from_iter([("seeds".to_owned(), json!([0, 1, 2]))]);
    let options = RunOptions::new("vectors").with_config(config).with_tags(vec!["pca".to_owned()]);
    let run = client.start_run(options.with_display_name(Some("fit".to_owned()))).await.unwrap();
    assert_eq!((run.project(), run.display_name(), run.id().len()), ("vectors", Some("fit"), 8));
    for step in 0..5 {
        run.log(Map::from_iter([("loss".to_owned(), json!(1.0 / f64::from(step + 1)))])).await.unwrap();
    }
    let mut table = Table::new([("layer", ColumnKind::Text), ("variance", ColumnKind::Number)]);
    table.push(vec!["conv1".into(), 0.0127.into()]).unwrap();
    run.log_table("pca/layers", &table).await.unwrap();
    run.set_summary(Map::from_iter([("layers".to_owned(), json!(158))])).await.unwrap();
    let draft = ArtifactDraft::new("input", "checkpoint").unwrap().with_file("a", b"a".to_vec()).unwrap();
    let artifact = run.log_artifact(&draft).await.unwrap();
    let user = start(&client).await;
    user.use_artifact(&artifact).await.unwrap();
    user.finish(1).await.unwrap();
    let id = run.id().to_owned();
    run.finish(0).await.unwrap();
    let logged = find(&client, &format!("run-{id}-pcalayers-{}", hash_of(&id))).await.unwrap();
    assert_eq!(logged.artifact_type, "run_table");
    let table: Value = serde_json::from_slice(&contents(&client, &logged).await[0].1).unwrap();
    assert_eq!(table["data"], json!([["conv1", 0.0127]]));
    server.shutdown().await.unwrap();
}

/// The suffix of a name from which characters were removed.
fn hash_of(id: &str) -> String {
    use base64::Engine as _;
    let crc = crc32fast::hash(format!("run-{id}-pca/layers").as_bytes());
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(crc.to_be_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_can_be_listed() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path()).await;
    let client = client(&server);
    let run = start(&client).await;
    for (name, kind) in [("a", "checkpoint"), ("b", "checkpoint"), ("c", "pca")] {
        for version in 0..3u8 {
            let draft = ArtifactDraft::new(name, kind).unwrap().with_file("f", vec![version]).unwrap();
            run.log_artifact(&draft).await.unwrap();
        }
    }
    let (entity, project) = (run.entity().to_owned(), run.project().to_owned());
    run.finish(0).await.unwrap();
    let mut collections = client.collections(&entity, &project).await.unwrap();
    collections.retain(|collection| collection.artifact_type == "checkpoint");
    assert!(
        collections.iter().all(|found| (found.versions, found.newest.as_ref().unwrap().version.as_str()) == (3, "v2"))
    );
    let mut names: Vec<_> = collections.iter().map(|collection| collection.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["a", "b"]);
    let name = ArtifactName::parse("a").unwrap().with_defaults(Some(&entity), Some(&project)).unwrap();
    let versions = client.versions(&name).await.unwrap();
    let mut listed: Vec<_> = versions.iter().map(|artifact| artifact.version.as_str()).collect();
    listed.sort_unstable();
    assert_eq!(listed, ["v0", "v1", "v2"]);
    assert!(client.collections(&entity, "nowhere").await.unwrap_err().is_not_found());
    server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_typed() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path()).await;
    let wrong = wandb_pca::redact::ApiKey::parse(&"x".repeat(40)).unwrap();
    let stranger = Client::new(options(&server).with_api_key(Some(wrong))).unwrap();
    assert!(stranger.viewer().await.unwrap_err().is_denied());
    let client = client(&server);
    let run = start(&client).await;
    let draft = |kind| ArtifactDraft::new("model", kind).unwrap().with_file("f", b"x".to_vec()).unwrap();
    run.log_artifact(&draft("checkpoint")).await.unwrap();
    // A collection has one type for good.
    let error = run.log_artifact(&draft("dataset")).await.unwrap_err();
    assert!(matches!(error, WandbError::Rejected { .. }), "{error:?}");
    let gone = ArtifactDraft::new("gone", "checkpoint").unwrap().with_file("f", folder.path().join("none")).unwrap();
    assert!(matches!(run.log_artifact(&gone).await.unwrap_err(), WandbError::File { action: "open", .. }));
    run.finish(0).await.unwrap();
    server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_downloaded_artifact_becomes_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path()).await;
    let client = client(&server);
    let run = start(&client).await;
    let draft = ArtifactDraft::new("model", "checkpoint").unwrap();
    let draft = draft.with_file("a/one", b"1".to_vec()).unwrap().with_file("two", b"22".to_vec()).unwrap();
    let artifact = run.log_artifact(&draft).await.unwrap();
    run.finish(0).await.unwrap();
    let (_store_folder, store) = store();
    let wanted = [Wanted::all(artifact.clone(), client.manifest(&artifact).await.unwrap())];
    let got = client.download(&store, &wanted, &DownloadOptions::default()).await.unwrap();
    let files: Vec<_> = got[0].files.iter().map(|file| (file.path.as_str(), &file.object)).collect();
    let out = folder.path().join("out");
    export("model:v0", &files, &out, LinkMode::Copy).unwrap();
    assert_eq!(std::fs::read(out.join("a/one")).unwrap(), b"1");
    assert_eq!(std::fs::read(out.join("two")).unwrap(), b"22");
    server.shutdown().await.unwrap();
}
