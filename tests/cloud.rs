//! References to objects in S3, Google Cloud Storage and Azure: made as the official SDK makes them, fetched only as what
//! they were made of. `cargo test --features cloud --test cloud`.

#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

#[path = "support/buckets.rs"]
mod buckets;
#[path = "support/command.rs"]
mod command;
mod support;

use std::collections::BTreeMap;

use buckets::{Buckets, Object};
use command::Served;
use serde_json::{Value, json};
use support::{ENTITY, Fault, Misbehaving, PROJECT, noise, options, store, wanted};
use wandb_pca::digest::{Algorithm, Digest};
use wandb_pca::store::Store;
use wandb_pca::wandb::{
    ArtifactDraft, Checksum, Client, CloudSettings, DownloadOptions, DownloadedArtifact, Entry, Origin, Proof,
    ReferenceError, WandbError,
};

const LEN: usize = 300_000;

async fn get(client: &Client, store: &Store) -> Result<DownloadedArtifact, WandbError> {
    let wanted = wanted(client, "model").await;
    client.download(store, &[wanted], &DownloadOptions::default()).await.map(|mut got| got.remove(0))
}

fn refused(error: WandbError) -> ReferenceError {
    match error {
        WandbError::Reference { source, .. } => source,
        other => panic!("{other:?}"),
    }
}

/// Settings of all three clouds that lead to a server here.
fn settings(base: &str) -> CloudSettings {
    CloudSettings::new([
        ("AWS_ACCESS_KEY_ID", "who"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_REGION", "nowhere-1"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
        ("AWS_S3_ENDPOINT_URL", base),
        ("GOOGLE_BASE_URL", base),
        ("GOOGLE_BEARER_TOKEN", "google-token"),
        ("AZURE_STORAGE_ACCOUNT_NAME", "mine"),
        ("AZURE_STORAGE_ACCOUNT_KEY", "c2VjcmV0"),
        ("AZURE_STORAGE_ENDPOINT", base),
    ])
}

/// What a reference becomes, nothing of it sent anywhere.
async fn made(
    buckets: &Buckets,
    (path, uri): (&str, &str),
    change: impl FnOnce(ArtifactDraft) -> ArtifactDraft,
) -> Result<BTreeMap<String, Entry>, WandbError> {
    let client = Client::new(options(&buckets.base).with_cloud(settings(&buckets.base))).unwrap();
    let draft = ArtifactDraft::new("model", "checkpoint")?.with_reference(path, uri, Checksum::Compute)?;
    Ok(client.prepare(change(draft), ENTITY, PROJECT).await?.manifest().entries.clone())
}

async fn entries(buckets: &Buckets, path: &str, uri: &str) -> Vec<(String, Value)> {
    let made = made(buckets, (path, uri), |draft| draft).await.unwrap_or_else(|error| panic!("{uri}: {error:?}"));
    made.into_iter().map(|(path, entry)| (path, serde_json::to_value(entry).unwrap())).collect()
}

async fn refusal(buckets: &Buckets, uri: &str) -> ReferenceError {
    refused(made(buckets, ("", uri), |draft| draft).await.unwrap_err())
}

fn paths(entries: &[(String, Value)]) -> Vec<(&str, &str)> {
    entries.iter().map(|(path, entry)| (path.as_str(), entry["ref"].as_str().unwrap())).collect()
}

/// Objects below `data`, beside it, and what only marks folders.
async fn shelf() -> Buckets {
    let buckets = Buckets::start().await;
    for (key, bytes) in [
        ("data/a.bin", "aa"),
        ("data/deep/b.bin", "bb"),
        ("data/deep/er/c.bin", "cc"),
        ("data-old/d.bin", "dd"),
        ("database", "ee"),
    ] {
        buckets.add(key, bytes.as_bytes());
    }
    buckets
}

#[tokio::test]
async fn an_object_of_s3_is_pinned() {
    let buckets = shelf().await;
    let tag = Object::from(&b"aa"[..]).tag();
    let entry = json!({ "digest": tag, "ref": "s3://b/data/a.bin", "size": 2, "extra": { "etag": tag } });
    assert_eq!(entries(&buckets, "", "s3://b/data/a.bin").await, [("a.bin".to_owned(), entry.clone())]);
    assert_eq!(entries(&buckets, "n/m", "s3://b/data/a.bin").await, [("n/m".to_owned(), entry)]);
    let seen = buckets.seen().remove(0);
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("HEAD", "/b/data/a.bin"));
    assert!(seen.headers["authorization"].starts_with("AWS4-HMAC-SHA256 Credential=who/"));
}

#[tokio::test]
async fn versions_of_s3_are_pinned_and_may_be_chosen() {
    let buckets = Buckets::start().await;
    let version = |bytes: &[u8], version| Object { version: Some(version), ..Object::from(bytes) };
    let (old, new) = (version(b"old", "v1"), version(b"newer", "v2"));
    buckets.add("x", old.clone());
    buckets.add("x", new.clone());
    for (uri, object) in [("s3://b/x", &new), ("s3://b/x?versionId=v1", &old)] {
        let extra = json!({ "etag": object.tag(), "versionID": object.version });
        let entry = json!({ "digest": object.tag(), "ref": "s3://b/x", "size": object.bytes.len(), "extra": extra });
        assert_eq!(entries(&buckets, "", uri).await, [("x".to_owned(), entry)]);
    }
    assert!(refusal(&buckets, "s3://b/x?versionId=v3").await.to_string().contains("no such version"));
    // What was there before the bucket kept versions has none of its own.
    buckets.add("y", version(b"y", "null"));
    assert_eq!(entries(&buckets, "", "s3://b/y").await[0].1["extra"], json!({ "etag": version(b"y", "").tag() }));
}

#[tokio::test]
async fn a_prefix_of_s3_is_all_below_it() {
    let buckets = shelf().await;
    buckets.add("data/deep/", &b""[..]);
    buckets.add("mark", Object { headers: "Content-Type: application/x-directory\r\n", ..Object::from(&b"?"[..]) });
    buckets.add("mark/f", &b"f"[..]);
    let below = [
        ("a.bin", "s3://b/data/a.bin"),
        ("deep/b.bin", "s3://b/data/deep/b.bin"),
        ("deep/er/c.bin", "s3://b/data/deep/er/c.bin"),
    ];
    for uri in ["s3://b/data", "s3://b/data/"] {
        assert_eq!(paths(&entries(&buckets, "", uri).await), below, "{uri}");
    }
    let named = entries(&buckets, "n", "s3://b/data").await;
    assert_eq!(
        paths(&named).iter().map(|(path, _)| *path).collect::<Vec<_>>(),
        ["n/a.bin", "n/deep/b.bin", "n/deep/er/c.bin"]
    );
    assert_eq!(paths(&entries(&buckets, "", "s3://b/mark").await), [("f", "s3://b/mark/f")]);
    let whole = entries(&buckets, "", "s3://b").await;
    assert_eq!(whole.len(), 6, "{whole:?}");
    assert!(paths(&whole).contains(&("data-old/d.bin", "s3://b/data-old/d.bin")));
}

#[tokio::test]
async fn versions_below_a_prefix_are_pinned_too() {
    let buckets = Buckets::start().await;
    for key in ["p/1", "p/2", "p/3"] {
        buckets.add(key, Object { version: Some("v7"), ..Object::from(key.as_bytes()) });
    }
    let found = entries(&buckets, "", "s3://b/p").await;
    assert_eq!(found.iter().filter(|(_, entry)| entry["extra"]["versionID"] == "v7").count(), 3);
}

#[tokio::test]
async fn more_objects_than_allowed_are_refused() {
    let buckets = shelf().await;
    for uri in ["s3://b/data", "gs://b/data", "https://mine.blob.core.windows.net/b/data"] {
        let buckets = if uri.starts_with("gs") { google_shelf().await } else { buckets.clone() };
        let error = made(&buckets, ("", uri), |draft| draft.with_most_objects(2)).await.unwrap_err();
        assert!(refused(error).to_string().contains("more than 2 objects"), "{uri}");
        assert_eq!(made(&buckets, ("", uri), |draft| draft.with_most_objects(3)).await.unwrap().len(), 3, "{uri}");
    }
}

#[tokio::test]
async fn nothing_there_is_an_error_in_every_cloud() {
    let buckets = shelf().await;
    for uri in ["s3://b/dat", "s3://b/none/", "gs://b/dat", "gs://b/x#5", "https://mine.blob.core.windows.net/b/dat"] {
        assert!(refusal(&buckets, uri).await.is_missing(), "{uri}");
    }
    assert!(refusal(&buckets, "s3:///x").await.to_string().contains("no bucket"));
}

#[tokio::test]
async fn closed_buckets_are_told_from_passing_trouble() {
    for uri in ["s3://b/data/a.bin", "gs://b/data/a.bin", "https://mine.blob.core.windows.net/b/data/a.bin"] {
        let buckets = google_shelf().await;
        buckets.fail([403]);
        assert!(refusal(&buckets, uri).await.is_denied(), "{uri}");
        buckets.fail([503, 500]);
        assert_eq!(entries(&buckets, "", uri).await.len(), 1, "{uri}");
    }
}

#[tokio::test]
async fn without_a_checksum_nobody_is_asked() {
    let buckets = Buckets::start().await;
    let client = Client::new(options(&buckets.base).with_cloud(settings(&buckets.base))).unwrap();
    for (path, uri, entry, reference) in [
        ("", "s3://b/k/l?versionId=1", "k/l", "s3://b/k/l"),
        ("n", "s3://b/k/l", "n", "s3://b/k/l"),
        ("", "s3://b", "b", "s3://b/"),
        ("", "gs://b/k#1", "k", "gs://b/k"),
        ("", "https://a.blob.core.windows.net/c/k/l", "k/l", "https://a.blob.core.windows.net/c/k/l"),
    ] {
        let draft =
            ArtifactDraft::new("model", "checkpoint").unwrap().with_reference(path, uri, Checksum::Skip).unwrap();
        let prepared = client.prepare(draft, ENTITY, PROJECT).await.unwrap();
        let found = &prepared.manifest().entries[entry];
        assert_eq!((found.reference.as_deref(), found.digest.as_str(), found.size), (Some(reference), reference, 0));
    }
    assert!(buckets.seen().is_empty());
}

/// The same objects in buckets that keep generations.
async fn google_shelf() -> Buckets {
    let buckets = Buckets::start().await;
    for key in ["data/a.bin", "data/deep/b.bin", "data/deep/er/c.bin", "data-old/d.bin"] {
        buckets.add(key, Object { version: Some("1700000000000007"), ..Object::from(key.as_bytes()) });
    }
    buckets.add("data/deep/", Object { version: Some("1"), ..Object::default() });
    buckets
}

#[tokio::test]
async fn objects_of_google_are_pinned_as_its_json_api_knows_them() {
    let buckets = google_shelf().await;
    let digest = format!("json/{}=", Object::from(&b"data/a.bin"[..]).tag());
    let extra = json!({ "versionID": 1_700_000_000_000_007_i64 });
    let entry = json!({ "digest": digest, "ref": "gs://b/data/a.bin", "size": 10, "extra": extra });
    for uri in ["gs://b/data/a.bin", "gs://b/data/a.bin#1700000000000007"] {
        assert_eq!(entries(&buckets, "", uri).await, [("a.bin".to_owned(), entry.clone())]);
    }
    let seen = buckets.seen().remove(0);
    assert!(seen.path.starts_with("/storage/v1/b/b/o/data%2Fa.bin?"), "{}", seen.path);
    assert_eq!(seen.headers["authorization"], "Bearer google-token");
    assert!(!seen.headers.contains_key("x-wandb-username"));
    let below = entries(&buckets, "n", "gs://b/data").await;
    let found = [
        ("n/a.bin", "gs://b/data/a.bin"),
        ("n/deep/b.bin", "gs://b/data/deep/b.bin"),
        ("n/deep/er/c.bin", "gs://b/data/deep/er/c.bin"),
    ];
    assert_eq!(paths(&below), found);
}

#[tokio::test]
async fn blobs_of_azure_are_pinned() {
    let buckets = shelf().await;
    buckets.add("kept", Object { version: Some("2026-01-01T00"), ..Object::from(&b"kept"[..]) });
    buckets.add("data", Object { headers: "x-ms-meta-hdi_isfolder: true\r\n", ..Object::default() });
    buckets.add("data/deep", &b""[..]);
    let account = "https://mine.blob.core.windows.net/b";
    let object = Object::from(&b"kept"[..]);
    let extra = json!({ "etag": object.tag(), "versionID": "2026-01-01T00" });
    let entry = json!({ "digest": object.tag(), "ref": format!("{account}/kept"), "size": 4, "extra": extra });
    assert_eq!(entries(&buckets, "", &format!("{account}/kept")).await, [("kept".to_owned(), entry)]);
    assert!(buckets.seen()[0].headers["authorization"].starts_with("SharedKey mine:"));
    let found = entries(&buckets, "", &format!("{account}/data")).await;
    assert_eq!(
        found.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(),
        ["a.bin", "deep/b.bin", "deep/er/c.bin"]
    );
    assert_eq!(found[1].1["ref"], format!("{account}/data/deep/b.bin"));
}

#[tokio::test]
async fn what_is_pinned_is_what_comes_back() {
    let buckets = google_shelf().await;
    for uri in ["s3://b/data", "gs://b/data", "https://mine.blob.core.windows.net/b/data"] {
        let server = Misbehaving::start().await;
        for (path, entry) in entries(&buckets, "", uri).await {
            server.refer_as("model", &path, entry);
        }
        let (_folder, store) = store();
        let client = Client::new(options(&server.base).with_cloud(settings(&buckets.base))).unwrap();
        let got = get(&client, &store).await.unwrap_or_else(|error| panic!("{uri}: {error:?}"));
        let read = |path: &std::path::Path| String::from_utf8(std::fs::read(path).unwrap()).unwrap();
        let bytes: Vec<_> = got.files.iter().map(|file| read(&file.object.path)).collect();
        assert_eq!(bytes, ["data/a.bin", "data/deep/b.bin", "data/deep/er/c.bin"], "{uri}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_refers_to_a_bucket_and_reads_it_back() {
    let (buckets, served) = (shelf().await, Served::start());
    let run = |arguments: &[&str]| {
        let mut command = served.command(arguments);
        command.env("AWS_ACCESS_KEY_ID", "who").env("AWS_SECRET_ACCESS_KEY", "secret");
        command.env("AWS_S3_ENDPOINT_URL", &buckets.base).output().unwrap()
    };
    let put = ["--json", "artifact", "put", "--name", "p/m", "--reference", "far=s3://b/data"];
    assert_eq!(command::json(&run(&put))["files"], 3);
    let root = served.folder.path().join("out");
    let got = command::json(&run(&["--json", "artifact", "get", "p/m", "--root", root.to_str().unwrap()]));
    assert_eq!(got["artifacts"][0]["files"].as_array().unwrap().len(), 3);
    assert_eq!(std::fs::read(root.join("far/deep/b.bin")).unwrap(), b"bb");
    let many = [&put[..], &["--max-objects", "2"]].concat();
    command::refused(&run(&many), 1, &["more than 2 objects"]);
    buckets.remove("data/a.bin");
    let gone = run(&["artifact", "put", "--name", "p/m", "--reference", "s3://b/data/a.bin"]);
    command::refused(&gone, 3, &["S3 has no object of that name or below it"]);
}

struct Bucket {
    server: Misbehaving,
    s3: Misbehaving,
    data: Vec<u8>,
    _folder: tempfile::TempDir,
    store: Store,
}

async fn bucket(entry: Value) -> Bucket {
    let (server, s3) = (Misbehaving::start().await, Misbehaving::start().await);
    let data = noise(LEN);
    s3.add("bucket", &[("deep/x.bin", &data), ("hashed.bin", b"hello")]);
    server.refer_as("model", "x.bin", entry);
    let (_folder, store) = store();
    Bucket { server, s3, data, _folder, store }
}

fn entry(extra: Value) -> Value {
    json!({ "digest": "deep/x.bin-0", "ref": "s3://bucket/deep/x.bin", "size": LEN, "extra": extra })
}

impl Bucket {
    async fn get(&self) -> Result<DownloadedArtifact, WandbError> {
        let endpoint = format!("{}/object", self.s3.base);
        let settings = CloudSettings::new([
            ("AWS_ACCESS_KEY_ID", "who"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_REGION", "nowhere-1"),
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
            ("AWS_S3_ENDPOINT_URL", &endpoint),
        ]);
        get(&Client::new(options(&self.server.base).with_cloud(settings)).unwrap(), &self.store).await
    }

    fn right(&self, got: &DownloadedArtifact) {
        assert!(std::fs::read(&got.files[0].object.path).unwrap() == self.data);
        assert!(matches!(got.files[0].proof, Proof::Etag(_)));
    }
}

#[tokio::test]
async fn an_object_is_fetched_once_signed_and_without_our_key() {
    let bucket = bucket(entry(json!({ "etag": "deep/x.bin-0" }))).await;
    bucket.right(&bucket.get().await.unwrap());
    let again = bucket.get().await.unwrap();
    bucket.right(&again);
    assert_eq!(again.files[0].origin, Origin::Store);
    let seen = bucket.s3.object_requests();
    assert_eq!((seen.len(), seen[0].path.as_str()), (1, "/object/bucket/deep/x.bin"));
    let authorization = &seen[0].headers["authorization"];
    assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=who/"), "{authorization}");
    assert!(authorization.contains("nowhere-1"));
}

#[tokio::test]
async fn a_recorded_version_is_asked_for() {
    let bucket = bucket(entry(json!({ "etag": "deep/x.bin-0", "versionID": "v7" }))).await;
    bucket.right(&bucket.get().await.unwrap());
    assert!(bucket.s3.object_requests()[0].path.ends_with("?versionId=v7"));
}

#[tokio::test]
async fn breaks_are_gone_on_with() {
    let bucket = bucket(entry(json!({}))).await;
    bucket.s3.objects_fail([Fault::ResetAt(100_000), Fault::Status(503, "")]);
    bucket.right(&bucket.get().await.unwrap());
}

#[tokio::test]
async fn what_changed_is_refused() {
    for (extra, versioned) in [(json!({}), false), (json!({ "versionID": "v7" }), true)] {
        let bucket = bucket(entry(extra)).await;
        bucket.s3.objects_fail([Fault::NewVersion]);
        let error = bucket.get().await.unwrap_err();
        assert!(error.is_integrity(), "{error:?}");
        match refused(error) {
            ReferenceError::Superseded { .. } => assert!(!versioned),
            ReferenceError::Changed { .. } => assert!(versioned),
            other => panic!("{other:?}"),
        }
        assert!(!bucket.store.root().join("obj").exists());
    }
}

#[tokio::test]
async fn what_is_gone_or_closed_is_told_apart() {
    for (status, missing, denied) in [(404, true, false), (403, false, true), (400, false, false)] {
        let bucket = bucket(entry(json!({}))).await;
        bucket.s3.objects_fail([Fault::Status(status, "")]);
        let error = refused(bucket.get().await.unwrap_err());
        assert_eq!((error.is_missing(), error.is_denied()), (missing, denied), "{status}: {error:?}");
    }
}

#[tokio::test]
async fn an_object_sent_in_one_part_is_proven_by_its_version_tag() {
    let digest = Digest::of(Algorithm::Md5, b"hello").to_hex();
    let entry = json!({ "digest": digest, "ref": "s3://bucket/hashed.bin", "size": 5, "extra": {} });
    let got = bucket(entry).await.get().await.unwrap();
    assert_eq!(got.files[0].proof, Proof::Digest);
}
