//! Uploads against the embedded server, through a proxy that makes things go wrong: what is committed is whole and right,
//! what the server has is not sent again, and what cannot work ends with an error of its own kind.

#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

#[path = "support/proxy.rs"]
mod proxy;
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use proxy::{Proxy, Wrong};
use serde_json::{Value, json};
use support::{noise, store};
use wandb_pca::digest::Algorithm;
use wandb_pca::server::{Server, ServerOptions};
use wandb_pca::wandb::{
    Artifact, ArtifactDraft, Checksum, Client, ClientOptions, DownloadOptions, Filter, LoggedArtifact, QualifiedName,
    RunOptions, Ttl, WandbError, Wanted,
};

struct Lab {
    folder: tempfile::TempDir,
    server: Server,
    proxy: Proxy,
}

impl Lab {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(ServerOptions::new(folder.path().join("data"))).await.unwrap();
        let proxy = Proxy::before(server.base_url()).await;
        Self { folder, server, proxy }
    }

    fn options(&self) -> ClientOptions {
        ClientOptions::new(self.proxy.base.clone())
            .with_api_key(Some(self.server.api_key().clone()))
            .with_timeouts(Duration::from_secs(10), Duration::from_secs(10))
            .with_retries(6, Duration::from_millis(5), Duration::from_millis(40))
    }

    fn client(&self) -> Client {
        Client::new(self.options()).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    async fn find(&self, name: &str) -> Option<Artifact> {
        let client = self.client();
        let entity = client.viewer().await.unwrap().entity.unwrap();
        let (collection, alias) = name.split_once(':').unwrap();
        match client.artifact(&QualifiedName::new(&entity, "vectors", collection, alias)).await {
            Ok(artifact) => Some(artifact),
            Err(error) if error.is_not_found() => None,
            Err(error) => panic!("{error:?}"),
        }
    }

    /// `wandb-pca artifact put …`, through the proxy and away from everything of the user's.
    fn put(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wandb-pca"));
        command.args(["--json", "artifact", "put"]).args(arguments).current_dir(self.folder.path()).env_clear();
        command.env("HOME", self.folder.path()).env("WANDB_CACHE_DIR", self.path("cache"));
        command.env("WANDB_BASE_URL", &self.proxy.base).env("WANDB_API_KEY", self.server.api_key().expose());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.put(arguments);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments).await;
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {:?}\n{error}", output.status.code());
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

async fn log(client: &Client, draft: &ArtifactDraft) -> Result<LoggedArtifact, WandbError> {
    let run = client.start_run(RunOptions::new("vectors")).await.unwrap();
    let prepared = client.prepare(draft.clone(), run.entity(), run.project()).await?;
    let logged = run.log_prepared(&prepared).await;
    // What could not be sent stays in the run's log, and finishing says so.
    match run.finish(0).await {
        Err(WandbError::NotSent { .. }) if logged.is_err() => {}
        finished => finished.unwrap(),
    }
    logged
}

/// Every file of the artifact, freshly downloaded and verified.
async fn contents(client: &Client, artifact: &Artifact) -> BTreeMap<String, Vec<u8>> {
    let (_folder, store) = store();
    let manifest = client.manifest(artifact).await.unwrap();
    let wanted = [Wanted::all(artifact.clone(), manifest)];
    let got = client.download(&store, &wanted, &DownloadOptions::default()).await.unwrap();
    got[0].files.iter().map(|file| (file.path.clone(), fs::read(&file.object.path).unwrap())).collect()
}

fn draft(name: &str) -> ArtifactDraft {
    ArtifactDraft::new(name, "checkpoint").unwrap()
}

fn map<const N: usize>(files: [(&str, &[u8]); N]) -> BTreeMap<String, Vec<u8>> {
    files.into_iter().map(|(path, bytes)| (path.to_owned(), bytes.to_vec())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_that_passes_is_survived() {
    let lab = Lab::start().await;
    // One of these falls silent.
    let hasty = lab.options().with_timeouts(Duration::from_secs(10), Duration::from_secs(1));
    let client = Client::new(hasty).unwrap();
    for (name, on, wrong) in [
        ("reset", "PUT /storage/upload", vec![Wrong::ResetAt(100_000), Wrong::ResetAt(0)]),
        ("stall", "PUT /storage/upload", vec![Wrong::StallAt(1000)]),
        ("errors", "PUT /storage/upload", vec![Wrong::Answer(500, ""), Wrong::Answer(503, ""), Wrong::Answer(502, "")]),
        ("limited", "PUT /storage/upload", vec![Wrong::Answer(429, "Retry-After: 0\r\n"), Wrong::Answer(429, "")]),
        ("lost", "PUT /storage/upload", vec![Wrong::AnswerLost]),
        ("expired", "PUT /storage/upload", vec![Wrong::Answer(403, ""), Wrong::Answer(400, "")]),
        ("create", "CreateArtifact", vec![Wrong::AnswerLost, Wrong::Answer(500, "")]),
        ("ask", "CreateArtifactFiles", vec![Wrong::AnswerLost]),
        ("commit", "CommitArtifact", vec![Wrong::AnswerLost]),
    ] {
        lab.proxy.forget();
        let count = wrong.len();
        lab.proxy.fail(on, wrong);
        let bytes = [name.as_bytes(), &noise(300_000)].concat();
        let file = lab.write(name, &bytes);
        let logged =
            log(&client, &draft(name).with_file("f", file).unwrap()).await.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(logged.created && logged.artifact.version == "v0", "{name}");
        assert_eq!(contents(&client, &logged.artifact).await, map([("f", &bytes)]), "{name}");
        assert!(lab.proxy.passed(on).len() > count, "{name}: nothing went wrong");
        let asked = lab.proxy.passed("CreateArtifactFiles").len();
        assert_eq!(
            asked,
            if name == "expired" {
                3
            } else if name == "ask" {
                2
            } else {
                1
            },
            "{name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_that_stays_is_an_error_of_its_kind_and_nothing_is_committed() {
    let lab = Lab::start().await;
    type Judge = fn(&WandbError) -> bool;
    fn no_address(answer: &mut Value) {
        answer["data"]["createArtifactFiles"]["files"]["edges"][0]["node"]["uploadUrl"] = Value::Null;
    }
    /// A server that is not reached is one thing or the other: the error itself, or that the rest waits in the run's log.
    fn unreached(error: &WandbError) -> bool {
        error.is_network() || matches!(error, WandbError::NotSent { .. })
    }
    fn no_answers(answer: &mut Value) {
        answer["data"]["createArtifactFiles"]["files"]["edges"] = json!([]);
    }
    let cases: [(&str, &str, Vec<Wrong>, Judge); 7] = [
        ("denied", "PUT /storage/upload", vec![Wrong::Answer(403, ""); 9], WandbError::is_denied),
        ("broken", "PUT /storage/upload", vec![Wrong::ResetAt(10); 20], unreached),
        ("down", "PUT /storage/upload", vec![Wrong::Answer(503, ""); 20], unreached),
        ("lie", "CreateArtifactFiles", vec![Wrong::Change(no_address)], |e| matches!(e, WandbError::Rejected { .. })),
        ("none", "CreateArtifactFiles", vec![Wrong::Change(no_answers)], |e| matches!(e, WandbError::Malformed { .. })),
        ("untagged", "PUT /storage/part", vec![Wrong::NoETag; 3], |e| matches!(e, WandbError::Malformed { .. })),
        ("commit", "CommitArtifact", vec![Wrong::Answer(403, "")], WandbError::is_denied),
    ];
    for (name, on, wrong, is_right) in cases {
        lab.proxy.forget();
        lab.proxy.fail(on, wrong);
        let threshold = if name == "untagged" { 1000 } else { u64::MAX };
        let client = Client::new(lab.options().with_multipart_threshold(threshold)).unwrap();
        let file = lab.write(name, &[name.as_bytes(), &noise(50_000)].concat());
        let error = log(&client, &draft(name).with_file("f", file).unwrap()).await.unwrap_err();
        assert!(is_right(&error), "{name}: {error:?}");
        lab.proxy.forget();
        assert_eq!(lab.find(&format!("{name}:latest")).await, None, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_go_side_by_side_and_expired_ones_get_new_addresses() {
    let lab = Lab::start().await;
    let options = lab.options().with_multipart_threshold(1_000_000).with_part_size(250_000).with_concurrency(4);
    let client = Client::new(options).unwrap();
    let bytes = noise(2_600_000);
    let file = lab.write("big", &bytes);
    lab.proxy.slow_down(Duration::from_millis(5));
    let logged = log(&client, &draft("calm").with_file("big", file).unwrap()).await.unwrap();
    assert_eq!(contents(&client, &logged.artifact).await, map([("big", &bytes)]));
    assert!((2..=4).contains(&lab.proxy.peak()), "{}", lab.proxy.peak());
    let bytes = [&bytes[..], b"!"].concat();
    let file = lab.write("big", &bytes);
    lab.proxy.forget();
    lab.proxy.fail("PUT /storage/part", [Wrong::Answer(503, ""), Wrong::ResetAt(70_000), Wrong::Answer(403, "")]);
    lab.proxy.fail("CompleteMultipartUploadArtifact", [Wrong::AnswerLost]);
    let logged = log(&client, &draft("big").with_file("big", file).unwrap()).await.unwrap();
    assert_eq!(contents(&client, &logged.artifact).await, map([("big", &bytes)]));
    assert_eq!((logged.sent_files, logged.sent_bytes), (1, 2_600_001));
    assert_eq!(lab.proxy.passed("CreateArtifactFiles").len(), 2);
    // The second upload has all its eleven parts, once each.
    let last = lab.proxy.passed("PUT /storage/part").last().unwrap().what.clone();
    let upload = last.rsplit_once('/').unwrap().0.to_owned();
    let stored = lab.proxy.passed(&upload).iter().filter(|part| part.status == 200).count();
    assert_eq!(stored, 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_come_in_batches_and_transfers_are_bounded() {
    let lab = Lab::start().await;
    let client = Client::new(lab.options().with_concurrency(3)).unwrap();
    lab.proxy.slow_down(Duration::from_millis(2));
    let mut many = draft("many");
    for i in 0..60 {
        many = many.with_file(format!("{i:02}"), format!("content {i}").into_bytes()).unwrap();
    }
    let logged = log(&client, &many).await.unwrap();
    assert_eq!((logged.artifact.file_count, logged.sent_files), (60, 60));
    // As the official client does it: 25, 25 and 10.
    assert_eq!(lab.proxy.passed("CreateArtifactFiles").len(), 3);
    assert!(lab.proxy.peak() <= 3, "{}", lab.proxy.peak());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_after_hashing_is_refused() {
    let lab = Lab::start().await;
    let client = lab.client();
    let run = client.start_run(RunOptions::new("vectors")).await.unwrap();
    for (name, after) in [("longer", noise(70_000)), ("shorter", noise(10)), ("other", vec![7; 60_005])] {
        let file = lab.write(name, &[name.as_bytes(), &noise(60_000)].concat());
        let with = draft(name).with_file("f", file.clone()).unwrap();
        let prepared = client.prepare(with, run.entity(), run.project()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        fs::write(&file, after).unwrap();
        let error = run.log_prepared(&prepared).await.unwrap_err();
        assert!(matches!(&error, WandbError::Changed { path } if *path == file), "{name}: {error:?}");
        assert_eq!(lab.find(&format!("{name}:latest")).await, None, "{name}");
    }
    run.finish(1).await.unwrap();
}

/// How often the content of each large file was sent and stored.
fn stored(lab: &Lab) -> BTreeMap<String, usize> {
    let mut stored = BTreeMap::new();
    for put in lab.proxy.passed("PUT /storage/upload").iter().filter(|put| put.status == 200 && put.bytes > 100_000) {
        *stored.entry(put.what.clone()).or_default() += 1;
    }
    stored
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_upload_goes_on_and_makes_one_version() {
    let lab = Lab::start().await;
    let mut expected = BTreeMap::new();
    for i in 0..24u8 {
        let bytes = [vec![i], noise(150_000 + usize::from(i))].concat();
        lab.write(&format!("in/{i:02}.bin"), &bytes);
        expected.insert(format!("{i:02}.bin"), bytes);
    }
    lab.proxy.slow_down(Duration::from_millis(25));
    let arguments = ["in", "--name", "vectors/killed", "--type", "checkpoint"];
    // Killed a moment after so many files are stored.
    let mut halfway = 0;
    for (files, millis) in [(0, 30), (0, 90), (1, 5), (4, 11), (7, 0), (12, 17)] {
        let mut child = lab.put(&arguments).spawn().unwrap();
        let begun = || !lab.proxy.passed("CreateArtifact").is_empty();
        while child.try_wait().unwrap().is_none() && (!begun() || stored(&lab).len() < files) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        tokio::time::sleep(Duration::from_millis(millis)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        halfway += usize::from((1..24).contains(&stored(&lab).len()));
        // A version is whole or not there.
        assert!(lab.find("killed:latest").await.is_none_or(|artifact| artifact.file_count == 24));
    }
    assert!(halfway > 0, "no kill came in the middle");
    let done = lab.json(&arguments).await;
    assert_eq!(done["version"], "v0");
    let client = lab.client();
    assert_eq!(contents(&client, &lab.find("killed:latest").await.unwrap()).await, expected);
    assert_eq!(lab.find("killed:v1").await, None);
    let stored = stored(&lab);
    assert!(stored.len() == 24 && stored.values().all(|times| *times == 1), "{stored:?}");
    // Once more: nothing to do, and nothing is sent.
    lab.proxy.forget();
    let again = lab.json(&[&arguments[..], &["--if-changed"]].concat()).await;
    assert_eq!((&again["created"], &again["version"], &again["run"]), (&json!(false), &json!("v0"), &Value::Null));
    for quiet in ["PUT", "UpsertBucket", "CreateArtifact"] {
        assert_eq!(lab.proxy.passed(quiet).len(), 0, "{quiet}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_describes_a_version_goes_up() {
    let lab = Lab::start().await;
    for (path, text) in
        [("in/a.txt", "a"), ("in/deep/b.txt", "b"), ("in/deep/c.log", "c"), ("meta.json", "{\"seed\": 7}")]
    {
        lab.write(path, text.as_bytes());
    }
    let first = ["in", "-n", "vectors/data", "-a", "best", "--tag", "small set", "-d", "what it is", "--ttl", "30d"];
    let more = ["--metadata", "@meta.json", "--exclude", "**/*.log", "--link-to", "elsewhere/shelf:chosen"];
    let arguments = [&first[..], &more[..]].concat();
    let plan = lab.json(&[&arguments[..], &["--dry-run"]].concat()).await;
    assert_eq!((&plan["files"], &plan["bytes"], &plan["unchanged"]), (&json!(2), &json!(2), &json!(false)));
    assert_eq!(lab.proxy.passed("UpsertBucket").len(), 0);
    let put = lab.json(&arguments).await;
    assert_eq!((&put["created"], &put["sent_files"], &put["digest"]), (&json!(true), &json!(2), &plan["digest"]));
    let found = lab.find("data:best").await.unwrap();
    assert_eq!((found.tags.as_slice(), found.ttl_seconds), (&["small set".to_owned()][..], Some(2_592_000)));
    assert_eq!((found.description.as_deref(), &found.metadata["seed"]), (Some("what it is"), &json!(7)));
    let client = lab.client();
    let linked = QualifiedName::new(&found.entity, "elsewhere", "shelf", "chosen");
    assert_eq!(client.artifact(&linked).await.unwrap().source, found.name());
    assert_eq!(put["links"], json!([format!("{}/elsewhere/shelf:v0", found.entity)]));
    assert_eq!(lab.json(&[&arguments[..], &["--dry-run"]].concat()).await["unchanged"], true);

    // A version made of another: an entry replaced, one added, one left out; the description stays.
    lab.write("more/a.txt", b"A");
    lab.write("more/d.txt", b"d");
    let put = lab.json(&["more", "-n", "vectors/data", "--base", "latest", "--remove", "deep/b.txt"]).await;
    let second = lab.find("data:latest").await.unwrap();
    assert_eq!((&put["version"], second.description.as_deref()), (&json!("v1"), Some("what it is")));
    assert_eq!(contents(&client, &second).await, map([("a.txt", b"A"), ("d.txt", b"d")]));

    // An increment over an older version: the server lays it over that one.
    lab.write("e.txt", b"e");
    let increment = ["e.txt", "-n", "vectors/data", "--incremental", "--base", "v0"];
    assert_eq!(lab.json(&increment).await["version"], "v2");
    let third = lab.find("data:latest").await.unwrap();
    assert_eq!(contents(&client, &third).await, map([("a.txt", b"a"), ("deep/b.txt", b"b"), ("e.txt", b"e")]));
    let again = lab.json(&[&increment[..], &["--if-changed"]].concat()).await;
    assert_eq!((&again["created"], &again["version"]), (&json!(false), &json!("v2")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_uploaded_is_said() {
    let lab = Lab::start().await;
    fs::create_dir(lab.path("empty")).unwrap();
    lab.write("one/f", b"1");
    lab.write("two/f", b"2");
    for (arguments, code, says) in [
        (vec!["empty"], 1, "it holds no files"),
        (vec!["one", "--include", "*.ckpt"], 1, "none of its files is wanted"),
        (vec!["one", "two"], 1, "the draft has it already"),
        (vec!["gone"], 3, "gone"),
        (vec!["one", "--ttl", "soon"], 2, "30d"),
        (vec!["one", "--metadata", "[]"], 2, "JSON object"),
        (vec!["one", "--base", "v7"], 3, "not found"),
        (vec!["--reference", "tape://archive/7"], 1, "without a checksum"),
        #[cfg(not(feature = "cloud"))]
        (vec!["--reference", "s3://bucket/key"], 1, "without the feature `cloud`"),
        (vec!["--reference", "https://me:secret@example.org/x"], 1, "password"),
    ] {
        let arguments = [&arguments[..], &["-n", "vectors/none"]].concat();
        let output = lab.run(&arguments).await;
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code() == Some(code) && error.contains(says),
            "{arguments:?}: {:?} {error}",
            output.status
        );
        assert!(!error.contains("secret"), "{error}");
    }
    assert_eq!(lab.find("none:latest").await, None);
    assert_eq!(lab.proxy.passed("UpsertBucket").len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn xxh128_is_used_where_it_is_taken() {
    let lab = Lab::start().await;
    let client = lab.client();
    let with = |name: &str, text: &str| {
        let draft = draft(name).with_digest_algorithm(Algorithm::Xxh128).with_ttl(Ttl::Never);
        draft.with_file("f", text.as_bytes().to_vec()).unwrap()
    };
    let logged = log(&client, &with("fast", "fast")).await.unwrap().artifact;
    let manifest = client.manifest(&logged).await.unwrap();
    assert_eq!(manifest.algorithm, Algorithm::Xxh128);
    assert_eq!(manifest.entries["f"].file_digest().unwrap().algorithm(), Algorithm::Xxh128);
    assert_eq!(contents(&client, &logged).await, map([("f", b"fast")]));
    assert!(!log(&client, &with("fast", "fast")).await.unwrap().created);
    // A collection that has MD5 keeps it, and so does a server or an entity that does not take the other.
    log(&client, &draft("slow").with_file("f", b"first".to_vec()).unwrap()).await.unwrap();
    let no_feature: fn(&mut Value) = |answer| answer["data"]["serverInfo"]["features"] = json!([]);
    let not_enabled: fn(&mut Value) = |answer| answer["data"]["entity"]["xxhashDigestsEnabled"] = json!(false);
    for (name, on, change) in [
        ("slow", "nothing", no_feature),
        ("old", "ServerFeaturesQuery", no_feature),
        ("off", "XXHashDigestsEnabled", not_enabled),
    ] {
        lab.proxy.forget();
        lab.proxy.fail(on, [Wrong::Change(change)]);
        let logged = log(&client, &with(name, name)).await.unwrap().artifact;
        let manifest = client.manifest(&logged).await.unwrap();
        assert_eq!(manifest.algorithm, Algorithm::Md5, "{name}");
        assert!(manifest.entries["f"].extra.is_empty(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn references_pin_what_they_point_at() {
    let lab = Lab::start().await;
    let passport = vec![("X-Passport".to_owned(), "of our server".to_owned())];
    let client = Client::new(lab.options().with_extra_headers(passport)).unwrap();
    let web = support::Misbehaving::start().await;
    web.add("web", &[("x.bin", b"twelve bytes")]);
    let target = log(&client, &draft("target").with_file("in/f", b"target".to_vec()).unwrap()).await.unwrap().artifact;
    let folder = lab.path("local");
    lab.write("local/a b.txt", b"a");
    lab.write("local/deep/c", b"c");
    let http = format!("{}/object/web/x.bin", web.base);
    let local = format!("file://{}", folder.display());
    let named = format!("wandb-artifact://{}/in/f", target.name());
    let with = draft("pointers")
        .with_reference("", http.clone(), Checksum::Compute)
        .and_then(|draft| draft.with_reference("here", local.clone(), Checksum::Compute))
        .and_then(|draft| draft.with_reference("theirs", named, Checksum::Compute))
        .and_then(|draft| draft.with_reference("", "s3://bucket/key.bin", Checksum::Skip))
        .unwrap();
    web.objects_fail([support::Fault::Status(503, "")]);
    let logged = log(&client, &with).await.unwrap().artifact;
    let manifest = client.manifest(&logged).await.unwrap();
    let entry = |path: &str| {
        let entry = &manifest.entries[path];
        (entry.reference.clone().unwrap(), entry.digest.clone(), entry.size)
    };
    assert_eq!(entry("x.bin"), (http, "x.bin-0".to_owned(), 12));
    assert_eq!(manifest.entries["x.bin"].extra["etag"], "\"x.bin-0\"");
    assert_eq!(entry("here/a b.txt"), (format!("{local}/a%20b.txt"), "DMF1ucDxtqgxw5niaXcmYQ==".to_owned(), 1));
    assert_eq!(entry("here/deep/c").0, format!("{local}/deep/c"));
    assert_eq!(entry("key.bin"), ("s3://bucket/key.bin".to_owned(), "s3://bucket/key.bin".to_owned(), 0));
    let (theirs, digest, size) = entry("theirs");
    assert!(theirs.starts_with("wandb-artifact://4172") && theirs.ends_with("/in/f") && size == 0, "{theirs}");
    assert_eq!(digest, client.manifest(&target).await.unwrap().entries["in/f"].digest);
    // A reference to a reference leads to where the bytes are.
    let through = format!("wandb-artifact://{}/theirs", logged.name());
    let chained = draft("chained").with_reference("f", through, Checksum::Compute).unwrap();
    let chained = log(&client, &chained).await.unwrap().artifact;
    assert_eq!(client.manifest(&chained).await.unwrap().entries["f"].reference.as_deref(), Some(theirs.as_str()));
    // The key and the extra headers go to our server only.
    let private = |name| web.seen().iter().any(|seen| seen.headers.contains_key(name));
    assert!(!private("authorization") && !private("x-passport"));
    let gone = draft("gone").with_reference("", format!("{}/object/web/gone", web.base), Checksum::Compute).unwrap();
    assert!(log(&client, &gone).await.unwrap_err().is_not_found());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_can_be_drafted_from_an_older_one() {
    let lab = Lab::start().await;
    let client = lab.client();
    lab.write("in/a", b"a");
    lab.write("in/b", b"b");
    let all = draft("origin").with_folder("data", &lab.path("in"), &Filter::all()).unwrap();
    let first = log(&client, &all).await.unwrap().artifact;
    let next = ArtifactDraft::from_version(&first, client.manifest(&first).await.unwrap()).unwrap();
    assert_eq!(next.kept().collect::<Vec<_>>(), ["data/a", "data/b"]);
    assert!(next.clone().without("data/c").unwrap_err().is_not_found());
    let next = next.without("data/a").unwrap().with_file("data/b", b"B".to_vec()).unwrap();
    lab.proxy.forget();
    let second = log(&client, &next).await.unwrap();
    assert_eq!((second.artifact.version.as_str(), second.sent_files), ("v1", 1));
    assert_eq!(contents(&client, &second.artifact).await, map([("data/b", b"B")]));
}
