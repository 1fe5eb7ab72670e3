//! References against servers that misbehave: what is fetched is what was referred to, or nothing is, and what no digest
//! proves is never called verified.

#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

mod support;

use std::path::Path;

use support::{Fault, Misbehaving, client, hasty, noise, options, store, wanted};
use wandb_pca::digest::{Algorithm, Digest};
use wandb_pca::store::Store;
use wandb_pca::wandb::{
    Client, DownloadOptions, DownloadedArtifact, Origin, Proof, ReferenceError, WandbError, present,
};

const LEN: usize = 300_000;

async fn get(client: &Client, store: &Store) -> Result<DownloadedArtifact, WandbError> {
    let wanted = wanted(client, "model").await;
    client.download(store, &[wanted], &DownloadOptions::default()).await.map(|mut got| got.remove(0))
}

async fn get_what_is_there(client: &Client, store: &Store) -> Result<DownloadedArtifact, WandbError> {
    let wanted = wanted(client, "model").await;
    let options = DownloadOptions::default().with_missing_references_allowed(true);
    client.download(store, &[wanted], &options).await.map(|mut got| got.remove(0))
}

fn refused(error: WandbError) -> ReferenceError {
    match error {
        WandbError::Reference { source, .. } => source,
        other => panic!("{other:?}"),
    }
}

/// A W&B server, a stranger's server with `x.bin`, and an artifact whose `data.bin` refers to it.
struct Setting {
    server: Misbehaving,
    stranger: Misbehaving,
    data: Vec<u8>,
    _folder: tempfile::TempDir,
    store: Store,
}

async fn setting() -> Setting {
    let (server, stranger) = (Misbehaving::start().await, Misbehaving::start().await);
    let data = noise(LEN);
    stranger.add("data", &[("x.bin", &data)]);
    let uri = format!("{}/object/data/x.bin?token=secret", stranger.base);
    server.refer("model", "data.bin", &uri, ("x.bin-0", LEN));
    let (_folder, store) = store();
    Setting { server, stranger, data, _folder, store }
}

impl Setting {
    async fn get(&self) -> Result<DownloadedArtifact, WandbError> {
        get(&client(&self.server.base), &self.store).await
    }

    fn right(&self, got: &DownloadedArtifact) {
        assert!(std::fs::read(&got.files[0].object.path).unwrap() == self.data);
        assert!(matches!(got.files[0].proof, Proof::Etag(_)) && !got.files[0].proof.is_verified());
    }
}

#[tokio::test]
async fn an_address_is_fetched_once_and_gets_no_secrets() {
    let setting = setting().await;
    let extra = vec![("x-proxy-secret".to_owned(), "s".to_owned())];
    let client = Client::new(options(&setting.server.base).with_extra_headers(extra)).unwrap();
    let got = get(&client, &setting.store).await.unwrap();
    setting.right(&got);
    assert_eq!(got.files[0].origin, Origin::Network);
    for seen in setting.stranger.seen() {
        assert!(
            !seen.headers.contains_key("authorization") && !seen.headers.contains_key("x-proxy-secret"),
            "{seen:?}"
        );
    }
    assert!(setting.server.seen().iter().all(|seen| seen.headers.contains_key("x-proxy-secret")));
    let again = get(&client, &setting.store).await.unwrap();
    setting.right(&again);
    assert_eq!((again.files[0].origin, setting.stranger.seen().len()), (Origin::Store, 1));
}

#[tokio::test]
async fn a_redirect_to_our_own_server_does_not_bring_the_key() {
    let setting = setting().await;
    setting.server.add("data", &[("x.bin", &setting.data)]);
    setting.stranger.objects_fail([Fault::Redirect(format!("{}/object/data/x.bin", setting.server.base))]);
    setting.right(&setting.get().await.unwrap());
    assert!(!setting.server.object_requests()[0].headers.contains_key("authorization"));
}

#[tokio::test]
async fn breaks_are_resumed_under_the_version_tag() {
    let setting = setting().await;
    setting.stranger.objects_fail([Fault::ResetAt(100_000), Fault::Status(503, ""), Fault::StallAt(50_000)]);
    let client = Client::new(hasty(&setting.server.base)).unwrap();
    setting.right(&get(&client, &setting.store).await.unwrap());
    let seen = setting.stranger.object_requests();
    let ranges: Vec<_> = seen.iter().map(|seen| seen.headers.get("range").map(String::as_str)).collect();
    assert_eq!(ranges, [None, Some("bytes=100000-"), Some("bytes=100000-"), Some("bytes=150000-")]);
    assert_eq!(seen[1].headers["if-range"], "\"x.bin-0\"");
}

#[tokio::test]
async fn what_an_earlier_process_received_is_gone_on_with() {
    let setting = setting().await;
    setting.stranger.objects_fail([Fault::ResetAt(100_000), Fault::Status(403, "")]);
    assert!(matches!(refused(setting.get().await.unwrap_err()), ReferenceError::Refused { status: 403, .. }));
    setting.stranger.forget_seen();
    setting.right(&setting.get().await.unwrap());
    assert_eq!(setting.stranger.object_requests()[0].headers["range"], "bytes=100000-");
}

#[tokio::test]
async fn passing_trouble_passes() {
    for faults in [
        vec![Fault::Status(500, ""), Fault::Status(429, "Retry-After: 0\r\n")],
        vec![Fault::ResetAt(1000), Fault::NoRange],
        vec![Fault::ResetAt(1000), Fault::OtherPart],
        vec![Fault::ResetAt(1000), Fault::Status(416, "")],
        vec![Fault::Gzip],
        vec![Fault::ResetAt(1000), Fault::Gzip],
    ] {
        let setting = setting().await;
        setting.stranger.objects_fail(faults.clone());
        let got = setting.get().await.unwrap_or_else(|error| panic!("{faults:?}: {error:?}"));
        setting.right(&got);
    }
}

#[tokio::test]
async fn what_changed_is_refused() {
    for faults in [
        vec![Fault::NewVersion],
        vec![Fault::ResetAt(1000), Fault::NewVersion],
        vec![Fault::ResetAt(1000), Fault::MixedVersion],
        vec![Fault::ShortTo(1000)],
        vec![Fault::LongBy(1)],
    ] {
        let setting = setting().await;
        setting.stranger.objects_fail(faults.clone());
        let error = setting.get().await.unwrap_err();
        assert!(error.is_integrity(), "{faults:?}: {error:?}");
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        assert!(matches!(refused(error), ReferenceError::Changed { .. }), "{faults:?}");
        assert!(!setting.store.root().join("obj").exists(), "{faults:?}");
    }
}

#[tokio::test]
async fn what_is_gone_may_be_left_out_and_nothing_else() {
    let setting = setting().await;
    let client = client(&setting.server.base);
    setting.stranger.objects_fail([Fault::Status(404, ""), Fault::Status(410, "")]);
    let error = setting.get().await.unwrap_err();
    assert!(error.is_not_found() && matches!(refused(error), ReferenceError::Missing { .. }));
    let got = get_what_is_there(&client, &setting.store).await.unwrap();
    assert_eq!((got.files.len(), got.missing.len(), got.missing[0].0.as_str()), (0, 1, "data.bin"));
    assert!(got.missing[0].1.contains("410"));
    for fault in [Fault::Status(401, ""), Fault::NewVersion] {
        setting.stranger.objects_fail([fault]);
        refused(get_what_is_there(&client, &setting.store).await.unwrap_err());
    }
}

#[tokio::test]
async fn there_must_be_room_for_what_references_bring() {
    let setting = setting().await;
    let uri = format!("{}/object/data/x.bin", setting.stranger.base);
    setting.server.refer("model", "vast.bin", &uri, ("x.bin-0", 1 << 60));
    let error = setting.get().await.unwrap_err();
    assert!(matches!(error, WandbError::NoSpace { needed, .. } if needed == (1 << 60) + LEN as u64), "{error:?}");
    assert_eq!(setting.stranger.seen().len(), 0);
    // What is here already takes no more.
    let (artifact, manifest) = support::resolve(&client(&setting.server.base), "model").await;
    let filter = wandb_pca::wandb::Filter::new(&[], &["vast.bin".to_owned()]).unwrap();
    let wanted = [wandb_pca::wandb::Wanted { artifact, manifest, filter }];
    client(&setting.server.base).download(&setting.store, &wanted, &DownloadOptions::default()).await.unwrap();
    let error = setting.get().await.unwrap_err();
    assert!(matches!(error, WandbError::NoSpace { needed, .. } if needed == 1 << 60), "{error:?}");
}

#[tokio::test]
async fn without_a_checksum_nothing_is_proven_nor_reused() {
    let (server, stranger) = (Misbehaving::start().await, Misbehaving::start().await);
    stranger.add("data", &[("x.bin", b"hello")]);
    let uri = format!("{}/object/data/x.bin", stranger.base);
    server.refer("model", "data.bin", &uri, (&uri, 0));
    let (_folder, store) = store();
    for turn in 1..=2 {
        let got = get(&client(&server.base), &store).await.unwrap();
        assert!(matches!(got.files[0].proof, Proof::Unproven(_)));
        assert_eq!(std::fs::read(&got.files[0].object.path).unwrap(), b"hello");
        assert_eq!(stranger.object_requests().len(), turn);
    }
}

fn file_uri(path: &Path) -> String {
    format!("file://{}", path.display())
}

async fn file_reference(path: &Path, digest: &str, size: usize) -> (Misbehaving, tempfile::TempDir, Store) {
    let server = Misbehaving::start().await;
    server.refer("model", "data.bin", &file_uri(path), (digest, size));
    let (folder, store) = store();
    (server, folder, store)
}

#[tokio::test]
async fn a_local_file_is_verified_and_becomes_an_ordinary_object() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.bin");
    std::fs::write(&path, b"hello").unwrap();
    let digest = Digest::of(Algorithm::Md5, b"hello");
    let (server, _store_folder, store) = file_reference(&path, &digest.to_base64(), 5).await;
    let client = client(&server.base);
    let got = get(&client, &store).await.unwrap();
    assert_eq!((got.files[0].proof, &got.files[0].object.path), (Proof::Digest, &store.object_path(&digest)));
    std::fs::remove_file(&path).unwrap();
    assert_eq!(get(&client, &store).await.unwrap().files[0].origin, Origin::Store);
}

#[tokio::test]
async fn a_local_file_that_changed_or_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.bin");
    let digest = Digest::of(Algorithm::Md5, b"hello").to_base64();
    let (server, _store_folder, store) = file_reference(&path, &digest, 5).await;
    let client = client(&server.base);
    let error = get(&client, &store).await.unwrap_err();
    assert!(matches!(refused(error), ReferenceError::Missing { .. }));
    assert_eq!(get_what_is_there(&client, &store).await.unwrap().missing.len(), 1);
    for wrong in [&b"jello"[..], b"hello!"] {
        std::fs::write(&path, wrong).unwrap();
        let error = get_what_is_there(&client, &store).await.unwrap_err();
        assert!(error.is_integrity() && matches!(refused(error), ReferenceError::Changed { .. }));
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(matches!(refused(get(&client, &store).await.unwrap_err()), ReferenceError::NotAFile));
}

#[tokio::test]
async fn a_local_file_without_a_checksum_is_marked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap().join("x.bin");
    std::fs::write(&path, b"hello").unwrap();
    // What the SDK writes under `checksum=False`: the digest of the address.
    let digest = Digest::of(Algorithm::Md5, file_uri(&path).as_bytes()).to_base64();
    let (server, _store_folder, store) = file_reference(&path, &digest, 5).await;
    let got = get(&client(&server.base), &store).await.unwrap();
    assert!(matches!(got.files[0].proof, Proof::Unproven(_)));
    assert_eq!(std::fs::read(&got.files[0].object.path).unwrap(), b"hello");
}

/// A server with an artifact `base` of two files.
async fn base() -> (Misbehaving, tempfile::TempDir, Store, String) {
    let server = Misbehaving::start().await;
    server.add("base", &[("a.bin", b"hello"), ("b-2.bin", b"other")]);
    let (folder, store) = store();
    (server, folder, store, Digest::of(Algorithm::Md5, b"hello").to_base64())
}

#[tokio::test]
async fn references_between_artifacts_end_at_verified_files() {
    let (server, _folder, store, digest) = base().await;
    let other = Digest::of(Algorithm::Md5, b"other").to_base64();
    server.refer("model", "x.bin", &Misbehaving::uri_of("base", "a.bin"), (&digest, 0));
    server.refer("model", "y.bin", &Misbehaving::uri_of("base", "b-2.bin"), (&other, 0));
    server.refer("model", "z.bin", &Misbehaving::uri_of("middle", "m.bin"), (&digest, 0));
    server.refer("middle", "m.bin", &Misbehaving::uri_of("base", "a.bin"), (&digest, 0));
    let got = get(&client(&server.base), &store).await.unwrap();
    let bytes: Vec<_> = got.files.iter().map(|file| std::fs::read(&file.object.path).unwrap()).collect();
    assert_eq!(bytes, [b"hello", b"other", b"hello"]);
    assert!(got.files.iter().all(|file| file.proof.is_verified()));
    // Each artifact was asked for once, each object fetched once.
    assert_eq!((server.operations("ArtifactByID"), server.object_requests().len()), (2, 2));
}

#[tokio::test]
async fn a_reference_to_a_reference_leads_outside() {
    let setting = setting().await;
    let uri = format!("{}/object/data/x.bin?token=secret", setting.stranger.base);
    setting.server.refer("middle", "m.bin", &uri, ("x.bin-0", LEN));
    setting.server.refer("model", "z.bin", &Misbehaving::uri_of("middle", "m.bin"), ("x.bin-0", 0));
    let got = setting.get().await.unwrap();
    assert_eq!(got.files.len(), 2);
    setting.right(&got);
    assert_eq!((got.files[0].proof, &got.files[0].object), (got.files[1].proof, &got.files[1].object));
    assert_eq!(setting.stranger.object_requests().len(), 1);
}

#[tokio::test]
async fn circles_and_endless_chains_end() {
    let (server, _folder, store, digest) = base().await;
    for (from, to) in [("model", "one"), ("one", "two"), ("two", "one")] {
        server.refer(from, "x.bin", &Misbehaving::uri_of(to, "x.bin"), (&digest, 0));
    }
    let error = get(&client(&server.base), &store).await.unwrap_err();
    assert!(error.is_integrity() && matches!(refused(error), ReferenceError::Circle { .. }));

    let (server, _folder, store, digest) = base().await;
    server.refer("model", "x.bin", &Misbehaving::uri_of("n0", "x.bin"), (&digest, 0));
    for step in 0..30 {
        server.refer(
            &format!("n{step}"),
            "x.bin",
            &Misbehaving::uri_of(&format!("n{}", step + 1), "x.bin"),
            (&digest, 0),
        );
    }
    let error = get(&client(&server.base), &store).await.unwrap_err();
    assert!(matches!(refused(error), ReferenceError::TooDeep { .. }));
    assert!(server.operations("ArtifactByID") < 20);
}

#[tokio::test]
async fn a_reference_to_other_bytes_than_it_says_is_refused() {
    let (server, _folder, store, _) = base().await;
    let lie = Digest::of(Algorithm::Md5, b"jello").to_base64();
    server.refer("model", "x.bin", &Misbehaving::uri_of("base", "a.bin"), (&lie, 0));
    let error = get(&client(&server.base), &store).await.unwrap_err();
    assert!(error.is_integrity() && matches!(refused(error), ReferenceError::Changed { .. }));
}

#[tokio::test]
async fn a_reference_to_an_artifact_that_is_gone_may_be_left_out() {
    let (server, _folder, store, digest) = base().await;
    server.refer("model", "x.bin", &Misbehaving::uri_of("nobody", "a.bin"), (&digest, 0));
    server.refer("model", "y.bin", &Misbehaving::uri_of("base", "nothing"), (&digest, 0));
    let client = client(&server.base);
    assert!(get(&client, &store).await.unwrap_err().is_not_found());
    let got = get_what_is_there(&client, &store).await.unwrap();
    assert_eq!(got.missing.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), ["x.bin", "y.bin"]);
}

#[tokio::test]
async fn the_store_alone_serves_what_it_has_with_its_proof() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.bin");
    std::fs::write(&path, b"hello").unwrap();
    let setting = setting().await;
    let digest = Digest::of(Algorithm::Md5, b"hello").to_base64();
    let open = format!("{}/object/data/x.bin", setting.stranger.base);
    setting.server.refer("model", "local.bin", &file_uri(&path), (&digest, 5));
    setting.server.refer("model", "open.bin", &open, (&open, LEN));
    setting.server.add("base", &[("a.bin", b"other")]);
    let other = Digest::of(Algorithm::Md5, b"other").to_base64();
    setting.server.refer("model", "other.bin", &Misbehaving::uri_of("base", "a.bin"), (&other, 0));
    let all = wanted(&client(&setting.server.base), "model").await;
    assert_eq!(present(&setting.store, &all).unwrap().1.len(), 4);
    let online = setting.get().await.unwrap();
    let (here, absent) = present(&setting.store, &all).unwrap();
    assert_eq!(absent, Vec::<String>::new());
    let brief = |got: &DownloadedArtifact| {
        got.files.iter().map(|file| (file.path.clone(), file.object.clone(), file.proof)).collect::<Vec<_>>()
    };
    assert_eq!(brief(&here), brief(&online));
    assert_eq!(
        here.files.iter().map(|file| file.proof.name()).collect::<Vec<_>>(),
        ["etag", "digest", "none", "digest"]
    );
}

#[tokio::test]
async fn schemes_that_nobody_fetches_are_named() {
    let server = Misbehaving::start().await;
    server.refer("model", "x", "ftp://h/x", ("ftp://h/x", 0));
    let (_folder, store) = store();
    let error = get_what_is_there(&client(&server.base), &store).await.unwrap_err();
    assert!(matches!(refused(error), ReferenceError::Scheme { scheme } if scheme == "ftp"));
}

#[tokio::test]
async fn a_version_tag_that_is_the_md5_of_the_bytes_proves_them() {
    let (server, stranger) = (Misbehaving::start().await, Misbehaving::start().await);
    stranger.add("data", &[("hashed.bin", b"hello")]);
    let digest = Digest::of(Algorithm::Md5, b"hello");
    let uri = format!("{}/object/data/hashed.bin", stranger.base);
    server.refer("model", "x.bin", &uri, (&digest.to_hex(), 5));
    let (_folder, store) = store();
    let client = client(&server.base);
    let got = get(&client, &store).await.unwrap();
    assert_eq!((got.files[0].proof, &got.files[0].object.path), (Proof::Digest, &store.object_path(&digest)));
    let again = get(&client, &store).await.unwrap();
    assert_eq!((again.files[0].proof, again.files[0].origin), (Proof::Digest, Origin::Store));
    let (here, absent) = present(&store, &wanted(&client, "model").await).unwrap();
    assert_eq!((here.files[0].proof, absent.len()), (Proof::Digest, 0));
}

#[cfg(not(feature = "cloud"))]
#[tokio::test]
async fn without_the_feature_buckets_are_refused_by_name() {
    for (uri, name) in [
        ("s3://bucket/key", "S3"),
        ("gs://bucket/key", "Google Cloud Storage"),
        ("https://account.blob.core.windows.net/container/blob", "Azure Blob Storage"),
    ] {
        let server = Misbehaving::start().await;
        server.refer("model", "x.bin", uri, ("tag", 5));
        let (_folder, store) = store();
        let error = get_what_is_there(&client(&server.base), &store).await.unwrap_err();
        assert!(matches!(refused(error), ReferenceError::NoCloud { cloud } if cloud == name));
    }
}
