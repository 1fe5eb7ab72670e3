//! Downloads against a server that misbehaves: each fault ends with the right bytes or with the right error, and never
//! with wrong bytes under a final name.

#![allow(missing_docs, unreachable_pub, dead_code, clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod support;

use std::time::{Duration, Instant};

use support::{Fault, Misbehaving, client, hasty, noise, options, store, wanted};
use wandb_pca::store::Store;
use wandb_pca::wandb::{
    ArtifactName, Client, ClientOptions, DownloadOptions, Filter, Origin, QualifiedName, WandbError,
};

const LEN: usize = 300_000;

/// Server with one artifact of one file, its bytes, and a store.
async fn setting() -> (Misbehaving, Vec<u8>, tempfile::TempDir, Store) {
    let server = Misbehaving::start().await;
    let data = noise(LEN);
    server.add("model", &[("trained.ckpt", &data)]);
    let (folder, store) = store();
    (server, data, folder, store)
}

async fn download(client: &Client, store: &Store, name: &str) -> Result<(Vec<u8>, Origin), WandbError> {
    let wanted = wanted(client, name).await;
    let got = client.download(store, &[wanted], &DownloadOptions::default()).await?;
    let file = &got[0].files[0];
    Ok((std::fs::read(&file.object.path).unwrap(), file.origin))
}

/// The faults pass, the bytes are right, and this many requests for bytes were needed.
async fn survives(faults: Vec<Fault>, requests: usize) {
    let (server, data, _folder, store) = setting().await;
    let about = format!("{faults:?}");
    server.objects_fail(faults);
    let (bytes, origin) = download(&client(&server.base), &store, "model").await.expect(&about);
    assert!(bytes == data, "{about}");
    assert_eq!(origin, Origin::Network, "{about}");
    assert_eq!(server.object_requests().len(), requests, "{about}");
}

#[tokio::test]
async fn breaks_are_resumed_where_they_happened() {
    let (server, data, _folder, store) = setting().await;
    server.objects_fail([Fault::ResetAt(100_000), Fault::StallAt(50_000), Fault::ResetAt(0)]);
    let (bytes, _) = download(&Client::new(hasty(&server.base)).unwrap(), &store, "model").await.unwrap();
    assert!(bytes == data);
    let ranges: Vec<_> = server.object_requests().iter().map(|seen| seen.headers.get("range").cloned()).collect();
    let range = |from: usize| Some(format!("bytes={from}-"));
    assert_eq!(ranges, [None, range(100_000), range(150_000), range(150_000)]);
    let proofs: Vec<_> = server.object_requests().iter().map(|seen| seen.headers.contains_key("if-range")).collect();
    assert_eq!(proofs, [false, true, true, true]);
}

#[tokio::test]
async fn passing_trouble_passes() {
    survives(vec![Fault::Status(500, ""), Fault::Status(502, ""), Fault::Status(503, "")], 4).await;
    survives(vec![Fault::Status(429, ""), Fault::Status(408, "")], 3).await;
    survives(vec![Fault::ResetAt(1000), Fault::NoRange], 2).await;
    survives(vec![Fault::ResetAt(1000), Fault::OtherPart], 3).await;
    survives(vec![Fault::Gzip], 1).await;
    survives(vec![Fault::ResetAt(1000), Fault::Gzip], 2).await;
    survives(vec![Fault::ResetAt(1000), Fault::Status(416, "")], 3).await;
}

#[tokio::test]
async fn altered_and_mismeasured_bytes_are_downloaded_once_more() {
    survives(vec![Fault::FlipAt(77)], 2).await;
    survives(vec![Fault::ShortTo(1000)], 2).await;
    survives(vec![Fault::LongBy(1)], 2).await;
}

#[tokio::test]
async fn bytes_that_stay_wrong_are_an_integrity_error_and_get_no_name() {
    for fault in [Fault::FlipAt(299_999), Fault::ShortTo(299_999), Fault::LongBy(5)] {
        let (server, _, folder, store) = setting().await;
        server.objects_fail([fault.clone(), fault.clone()]);
        let error = download(&client(&server.base), &store, "model").await.unwrap_err();
        assert!(matches!(error, WandbError::Corrupt { .. }) && error.is_integrity(), "{fault:?}: {error:?}");
        assert!(error.to_string().contains("team/vectors/model:v3/trained.ckpt"), "{error}");
        assert!(!folder.path().join("artifacts/obj").exists(), "{fault:?}");
        // The next attempt starts afresh and is right.
        assert_eq!(download(&client(&server.base), &store, "model").await.unwrap().1, Origin::Network);
    }
}

#[tokio::test]
async fn a_new_version_in_the_middle_restarts_rather_than_mixing() {
    let (server, data, _folder, store) = setting().await;
    // `If-Range` makes an honest server send the whole; one that sends a part of another version is not believed.
    server.objects_fail([Fault::ResetAt(1000), Fault::NewVersion]);
    assert!(download(&client(&server.base), &store, "model").await.unwrap().0 == data);
    assert_eq!(server.object_requests().len(), 2);
    let (_other, store) = support::store();
    server.objects_fail([Fault::ResetAt(1000), Fault::MixedVersion, Fault::Fine]);
    assert!(download(&client(&server.base), &store, "model").await.unwrap().0 == data);
    let ranges: Vec<_> = server.object_requests().iter().map(|seen| seen.headers.contains_key("range")).collect();
    assert_eq!(ranges, [false, true, false, true, false]);
}

#[tokio::test]
async fn an_expired_address_is_asked_for_again_and_the_rest_resumed() {
    let (server, data, _folder, store) = setting().await;
    for status in [400, 401, 403, 404] {
        server.objects_fail([Fault::ResetAt(1000), Fault::Status(status, "")]);
        let (_, fresh) = support::store();
        assert!(download(&client(&server.base), &fresh, "model").await.unwrap().0 == data, "{status}");
    }
    assert_eq!(server.operations("ArtifactMembershipFiles"), 8);
    let paths: Vec<_> = server.object_requests().into_iter().map(|seen| seen.path).collect();
    assert!(paths[0] == paths[1] && paths[1] != paths[2]);
    // An address that stays refused is a permission error, after a few fresh ones.
    server.objects_fail(vec![Fault::Status(403, ""); 5]);
    let error = download(&client(&server.base), &store, "model").await.unwrap_err();
    assert!(error.is_denied(), "{error:?}");
}

#[tokio::test]
async fn retry_after_is_obeyed_and_an_endless_one_ends_the_operation() {
    let (server, _, _folder, store) = setting().await;
    server.objects_fail([Fault::Status(429, "Retry-After: 0.4\r\n")]);
    let begun = Instant::now();
    download(&client(&server.base), &store, "model").await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(400));
    let (_other, store) = support::store();
    server.objects_fail([Fault::Status(429, "Retry-After: 90000\r\n")]);
    let error = download(&client(&server.base), &store, "model").await.unwrap_err();
    assert!(matches!(error, WandbError::RateLimited { .. }) && error.is_network());
}

#[tokio::test]
async fn a_budget_bounds_all_files_together() {
    let server = Misbehaving::start().await;
    let files: Vec<(String, Vec<u8>)> = (0..40).map(|i| (format!("f{i}"), noise(100 + i))).collect();
    let borrowed: Vec<(&str, &[u8])> = files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
    server.add("many", &borrowed);
    server.objects_fail(vec![Fault::Status(503, ""); 1000]);
    let (_folder, store) = store();
    let error = download(&client(&server.base), &store, "many").await.unwrap_err();
    assert!(matches!(error, WandbError::Server { status: 503, .. }), "{error:?}");
    assert!(server.object_requests().len() < 30, "{} requests", server.object_requests().len());
}

#[tokio::test]
async fn silence_ends_with_a_timeout() {
    let (server, _, _folder, store) = setting().await;
    server.objects_fail(vec![Fault::StallAt(0); 20]);
    let client = Client::new(hasty(&server.base).with_retries(1, Duration::ZERO, Duration::ZERO)).unwrap();
    let error = download(&client, &store, "model").await.unwrap_err();
    assert!(matches!(error, WandbError::Timeout { .. }) && error.is_network(), "{error:?}");
    // The total bound holds although single waits would go on.
    server.objects_fail(vec![Fault::StallAt(0); 20]);
    let total = Some(Duration::from_millis(700));
    let bounded = Client::new(options(&server.base).with_total_timeout(total)).unwrap();
    let begun = Instant::now();
    let error = download(&bounded, &store, "model").await.unwrap_err();
    assert!(matches!(error, WandbError::Timeout { .. }), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(8), "less than one silence of these options");
}

#[tokio::test]
async fn nobody_listening_is_a_network_error() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = Client::new(options(&base).with_retries(2, Duration::ZERO, Duration::ZERO)).unwrap();
    let error = client.viewer().await.unwrap_err();
    assert!(matches!(error, WandbError::Network { .. }) && error.is_network(), "{error:?}");
}

#[tokio::test]
async fn redirects_are_followed_without_credentials() {
    let (server, data, _folder, store) = setting().await;
    let other = Misbehaving::start().await;
    other.add("model", &[("trained.ckpt", &data)]);
    server.objects_fail([Fault::Redirect(format!("{}/object/model/trained.ckpt?sig=x", other.base))]);
    let extra = vec![("X-Team-Secret".to_owned(), "hidden".to_owned())];
    let client = Client::new(options(&server.base).with_extra_headers(extra)).unwrap();
    assert!(download(&client, &store, "model").await.unwrap().0 == data);
    let asked = other.seen();
    assert_eq!(asked.len(), 1);
    assert!(!asked[0].headers.contains_key("authorization") && !asked[0].headers.contains_key("x-team-secret"));
    // GraphQL carries the key, signed addresses do not.
    for seen in server.seen() {
        assert_eq!(seen.headers.contains_key("authorization"), seen.path == "/graphql", "{}", seen.path);
        assert_eq!(seen.headers["x-team-secret"], "hidden");
    }
    // A circle ends.
    let (_other, store) = support::store();
    let circle = Fault::Redirect(format!("{}/object/model/trained.ckpt", server.base));
    server.objects_fail(vec![circle; 50]);
    let error = download(&client, &store, "model").await.unwrap_err();
    assert!(matches!(error, WandbError::Malformed { .. }), "{error:?}");
}

#[tokio::test]
async fn the_api_is_retried_and_its_refusals_are_typed() {
    let server = Misbehaving::start().await;
    server.add("model", &[]);
    let client = client(&server.base);
    server.api_fails([Fault::Status(502, ""), Fault::ResetAt(3), Fault::Status(429, "")]);
    assert_eq!(client.viewer().await.unwrap().username.as_deref(), Some("ada"));
    let name = QualifiedName::new("team", "vectors", "nothing", "latest");
    let error = client.artifact(&name).await.unwrap_err();
    assert!(error.is_not_found() && error.to_string().contains("team/vectors/nothing:latest"));
    server.api_fails([Fault::Status(401, "")]);
    let error = client.viewer().await.unwrap_err();
    assert!(matches!(&error, WandbError::Unauthenticated { message, .. } if message == "as told"), "{error:?}");
    server.api_fails([Fault::Status(403, "")]);
    assert!(matches!(client.artifact(&name).await.unwrap_err(), WandbError::Forbidden { .. }));
    server.api_fails([Fault::ShortTo(5)]);
    assert!(matches!(client.viewer().await.unwrap_err(), WandbError::Malformed { .. }));
}

#[tokio::test]
async fn a_full_store_is_used_without_a_request_for_files() {
    let server = Misbehaving::start().await;
    let data = noise(5000);
    for seed in 0..30 {
        let own = noise(1000 + seed);
        server.add(&format!("seed{seed}"), &[("trained.ckpt", &own), ("shared", &data)]);
    }
    let (_folder, store) = store();
    let client = client(&server.base);
    let mut all = Vec::new();
    for seed in 0..30 {
        all.push(wanted(&client, &format!("seed{seed}")).await);
    }
    server.forget_seen();
    let got = client.download(&store, &all, &DownloadOptions::default()).await.unwrap();
    assert_eq!(got.iter().map(|artifact| artifact.files.len()).sum::<usize>(), 60);
    // The shared file came once.
    assert_eq!(server.object_requests().len(), 31);
    server.forget_seen();
    let got = client.download(&store, &all, &DownloadOptions::default()).await.unwrap();
    assert!(got.iter().flat_map(|artifact| &artifact.files).all(|file| file.origin == Origin::Store));
    assert_eq!(server.seen().len(), 0);
}

#[tokio::test]
async fn a_partial_file_of_an_earlier_process_is_continued() {
    let (server, data, _folder, store) = setting().await;
    server.objects_fail(std::iter::once(Fault::ResetAt(123_456)).chain(vec![Fault::Status(503, ""); 20]));
    let poor = Client::new(options(&server.base).with_retries(2, Duration::ZERO, Duration::ZERO)).unwrap();
    download(&poor, &store, "model").await.unwrap_err();
    let rest = Misbehaving::start().await;
    rest.add("model", &[("trained.ckpt", &data)]);
    assert!(download(&client(&rest.base), &store, "model").await.unwrap().0 == data);
    assert_eq!(rest.object_requests()[0].headers["range"], "bytes=123456-");
}

#[tokio::test]
async fn clients_on_one_store_share_a_download() {
    let (server, data, _folder, store) = setting().await;
    let race = (0..8).map(|_| {
        let (base, store) = (server.base.clone(), store.clone());
        tokio::spawn(async move { download(&client(&base), &store, "model").await })
    });
    for task in race.collect::<Vec<_>>() {
        assert!(task.await.unwrap().unwrap().0 == data);
    }
    assert_eq!(server.object_requests().len(), 1);
}

#[tokio::test]
async fn a_manifest_that_lies_is_refused() {
    let (server, _, _folder, _store) = setting().await;
    let client = client(&server.base);
    let name = ArtifactName::parse("team/vectors/model").unwrap().with_defaults(None, None).unwrap();
    let artifact = client.artifact(&name).await.unwrap();
    let head = r#"{"version":1,"storagePolicy":"wandb-storage-policy-v1","storagePolicyConfig":{},"contents":"#;
    for (contents, integrity) in [
        (r#"{"trained.ckpt":{"digest":"XUFAKrxLKna5cZ2REBfFkg==","size":5}}}"#, true),
        (r#"{"../x":{"digest":"XUFAKrxLKna5cZ2REBfFkg==","size":5}}}"#, true),
        (r#"[]}"#, false),
        (r#"{"#, false),
    ] {
        server.forge_manifest("model", &format!("{head}{contents}"));
        let error = client.manifest(&artifact).await.unwrap_err();
        assert_eq!(error.is_integrity(), integrity, "{contents}: {error}");
    }
}

#[tokio::test]
async fn a_size_that_lies_is_refused() {
    let (server, data, folder, store) = setting().await;
    let digest = wandb_pca::digest::Digest::of(wandb_pca::digest::Algorithm::Md5, &data).to_base64();
    for size in [LEN - 1, LEN + 1, 0] {
        let text = serde_json::json!({
            "version": 1, "storagePolicy": "wandb-storage-policy-v1",
            "contents": { "trained.ckpt": { "digest": digest, "size": size } },
        });
        server.forge_manifest("model", &text.to_string());
        let error = download(&client(&server.base), &store, "model").await.unwrap_err();
        assert!(error.is_integrity(), "{size}: {error:?}");
        assert!(!folder.path().join("artifacts/obj").exists());
    }
}

#[tokio::test]
async fn only_what_is_wanted_moves() {
    let server = Misbehaving::start().await;
    server.add("model", &[("a.ckpt", b"one"), ("logs/b.txt", b"two"), ("logs/c.txt", b"three")]);
    let (_folder, store) = store();
    let client = client(&server.base);
    let mut some = wanted(&client, "model").await;
    some.filter = Filter::new(&["logs/**".to_owned()], &["**/c.txt".to_owned()]).unwrap();
    let got = client.download(&store, &[some], &DownloadOptions::default()).await.unwrap();
    let paths: Vec<_> = got[0].files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!((paths, server.object_requests().len()), (vec!["logs/b.txt"], 1));
}

#[tokio::test]
async fn errors_and_notes_do_not_show_signed_addresses() {
    let (server, _, _folder, store) = setting().await;
    server.objects_fail(vec![Fault::ResetAt(0); 50]);
    let error = download(&client(&server.base), &store, "model").await.unwrap_err();
    let shown = format!("{error:?} {error} {:?}", std::error::Error::source(&error).map(ToString::to_string));
    assert!(!shown.contains("secret"), "{shown}");
}

#[tokio::test]
async fn a_large_file_comes_in_parts_at_once_and_survives_the_same_faults() {
    let server = Misbehaving::start().await;
    let data = noise((20 << 20) + 12_345);
    server.add("model", &[("trained.ckpt", &data)]);
    let patient = client(&server.base);
    for (faults, most) in [
        (vec![], 21),
        (vec![Fault::ResetAt(1 << 20), Fault::Status(503, "")], 45),
        (vec![Fault::Fine, Fault::Fine, Fault::Status(403, "")], 45),
        (vec![Fault::Fine, Fault::FlipAt(9_000_000)], 45),
        (vec![Fault::Fine, Fault::Fine, Fault::MixedVersion], 45),
        (vec![Fault::NoRange; 6], 45),
    ] {
        let (_folder, store) = store();
        server.forget_seen();
        let about = format!("{faults:?}");
        server.objects_fail(faults);
        assert!(download(&patient, &store, "model").await.expect(&about).0 == data, "{about}");
        server.no_more_faults();
        let asked = server.object_requests();
        let begins = |seen: &support::Seen| seen.headers["range"].starts_with("bytes=0-");
        assert!((5..=most).contains(&asked.len()) && asked.iter().any(begins), "{about}: {}", asked.len());
    }
}

/// A client that receives in parts of up to 32 KiB.
fn in_parts(options: ClientOptions) -> Client {
    Client::new(options.with_ranged_parts(64 << 10, 32 << 10)).unwrap()
}

/// The faults pass, the bytes are right, and they came in parts.
async fn survives_in_parts(faults: Vec<Fault>) {
    let (server, data, _folder, store) = setting().await;
    let about = format!("{faults:?}");
    let silent = faults.iter().any(|fault| matches!(fault, Fault::StallAt(_)));
    let options = if silent { hasty(&server.base) } else { options(&server.base) };
    server.objects_fail(faults);
    let (bytes, _) = download(&in_parts(options), &store, "model").await.expect(&about);
    assert!(bytes == data, "{about}");
    let asked = server.object_requests();
    assert!(asked.len() >= 10 && asked[0].headers["range"].starts_with("bytes="), "{about}: {}", asked.len());
}

#[tokio::test]
async fn parts_survive_passing_trouble() {
    survives_in_parts(vec![]).await;
    survives_in_parts(vec![Fault::Status(500, ""), Fault::Status(502, ""), Fault::Status(503, "")]).await;
    survives_in_parts(vec![Fault::Fine, Fault::Status(429, ""), Fault::Status(429, "Retry-After: 0.1\r\n")]).await;
    survives_in_parts(vec![Fault::ResetAt(0), Fault::ResetAt(20_000), Fault::StallAt(10_000)]).await;
    for status in [400, 401, 403, 404] {
        survives_in_parts(vec![Fault::Fine, Fault::Fine, Fault::Status(status, "")]).await;
    }
}

#[tokio::test]
async fn parts_that_are_not_what_was_asked_for_are_asked_for_again() {
    survives_in_parts(vec![Fault::Fine, Fault::OtherPart]).await;
    survives_in_parts(vec![Fault::Fine, Fault::ShortPart(1000)]).await;
    survives_in_parts(vec![Fault::Fine, Fault::LongPart(1)]).await;
    survives_in_parts(vec![Fault::Fine, Fault::GzipPart]).await;
    survives_in_parts(vec![Fault::Fine, Fault::Fine, Fault::NewVersion]).await;
    survives_in_parts(vec![Fault::Fine, Fault::Fine, Fault::MixedVersion]).await;
    survives_in_parts(vec![Fault::FlipAt(77_777); 10]).await;
}

#[tokio::test]
async fn a_server_without_ranges_gets_one_stream() {
    for fault in [Fault::NoRange, Fault::Gzip] {
        let (server, data, _folder, store) = setting().await;
        server.objects_fail(vec![fault.clone(); 60]);
        assert!(download(&in_parts(options(&server.base)), &store, "model").await.unwrap().0 == data, "{fault:?}");
        let whole = server.object_requests().iter().filter(|seen| !seen.headers.contains_key("range")).count();
        assert_eq!(whole, 1, "{fault:?}");
    }
}

#[tokio::test]
async fn parts_that_stay_altered_are_an_integrity_error() {
    let (server, _, folder, store) = setting().await;
    server.objects_fail(vec![Fault::FlipAt(200_000); 100]);
    let error = download(&in_parts(options(&server.base)), &store, "model").await.unwrap_err();
    assert!(matches!(error, WandbError::Corrupt { .. }), "{error:?}");
    assert!(!folder.path().join("artifacts/obj").exists());
}

#[tokio::test]
async fn parts_follow_redirects_without_credentials() {
    let (server, data, _folder, store) = setting().await;
    let other = Misbehaving::start().await;
    other.add("model", &[("trained.ckpt", &data)]);
    server.objects_fail(vec![Fault::Redirect(format!("{}/object/model/trained.ckpt?sig=x", other.base)); 100]);
    let extra = vec![("X-Team-Secret".to_owned(), "hidden".to_owned())];
    let options = options(&server.base).with_extra_headers(extra).with_ranged_parts(64 << 10, 32 << 10);
    assert!(download(&Client::new(options).unwrap(), &store, "model").await.unwrap().0 == data);
    let asked = other.seen();
    assert!(asked.len() >= 10);
    for seen in asked {
        assert!(!seen.headers.contains_key("authorization") && !seen.headers.contains_key("x-team-secret"));
    }
}

#[tokio::test]
async fn a_partial_file_is_continued_in_parts() {
    let (server, data, _folder, store) = setting().await;
    server.objects_fail(std::iter::once(Fault::ResetAt(100_000)).chain(vec![Fault::Status(503, ""); 20]));
    let poor = Client::new(options(&server.base).with_retries(2, Duration::ZERO, Duration::ZERO)).unwrap();
    download(&poor, &store, "model").await.unwrap_err();
    server.no_more_faults();
    server.forget_seen();
    assert!(download(&in_parts(options(&server.base)), &store, "model").await.unwrap().0 == data);
    let first = |seen: &support::Seen| seen.headers["range"]["bytes=".len()..].split('-').next().unwrap().parse();
    let starts: Vec<usize> = server.object_requests().iter().map(|seen| first(seen).unwrap()).collect();
    assert_eq!(starts.iter().min(), Some(&100_000), "{starts:?}");
}

#[tokio::test]
async fn a_download_that_cannot_fit_is_refused_before_its_first_byte() {
    let (server, data, _folder, store) = setting().await;
    let digest = wandb_pca::digest::Digest::of(wandb_pca::digest::Algorithm::Md5, &data).to_base64();
    let text = serde_json::json!({
        "version": 1, "storagePolicy": "wandb-storage-policy-v1",
        "contents": { "trained.ckpt": { "digest": digest, "size": 1u64 << 60 } },
    });
    server.forge_manifest("model", &text.to_string());
    let error = download(&client(&server.base), &store, "model").await.unwrap_err();
    assert!(matches!(error, WandbError::NoSpace { needed, .. } if needed == 1 << 60), "{error:?}");
    assert_eq!(server.object_requests().len(), 0);
}

#[test]
fn futures_of_the_client_can_be_spawned() {
    fn spawnable<T: Send>(_: impl Fn() -> T) {}
    let (client, (_folder, store)) = (client("http://127.0.0.1:9"), store());
    let name = QualifiedName::new("e", "p", "c", "latest");
    let everything = DownloadOptions::default();
    spawnable(|| client.artifact(&name));
    spawnable(|| client.download(&store, &[], &everything));
    spawnable(|| client.start_run(wandb_pca::wandb::RunOptions::new("p")));
}
