//! Reading parts of a checkpoint inside an artifact: what it costs, what it proves, and what happens when the server or the
//! bytes are wrong.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::single_range_in_vec_init,
    reason = "a test"
)]

#[allow(dead_code, reason = "each file of tests uses another part of it")]
mod support;

use std::fs;
use std::ops::Range;

use std::time::Duration;

use support::{Fault, Misbehaving, noise, options, resolve, store};
use wandb_pca::app::{
    self, AppError, Device, Extent, FailureKind, FitOptions, FitSource, Input, InspectOptions, Inspection, Norms,
    SampleOptions, Session,
};
use wandb_pca::checkpoint::zip::Directory;
use wandb_pca::checkpoint::{NamedTensor, write_safetensors, write_torch};
use wandb_pca::progress::Progress;
use wandb_pca::report::input::Verified;
use wandb_pca::store::Store;
use wandb_pca::tensor::{Dtype, TensorView};
use wandb_pca::wandb::{Client, DownloadOptions, Fetched, RemoteFile, RemoteParts, WandbError, Wanted};

const LEN: usize = 900_000;
const UNIT: u64 = 100_000;

/// Patient where the support's client is not: what is tested here is not how long silence may last.
fn client(base: &str) -> Client {
    let seconds = Duration::from_secs(20);
    Client::new(options(base).with_timeouts(seconds, seconds)).unwrap()
}

async fn setting() -> (Misbehaving, Vec<u8>, tempfile::TempDir, Store) {
    let server = Misbehaving::start().await;
    let data = noise(LEN);
    server.add("model", &[("trained.ckpt", &data)]);
    let (folder, store) = store();
    (server, data, folder, store)
}

/// Fetches ranges of the one file; returns what became of it and what the file holds at the first range then.
async fn fetch(client: &Client, store: &Store, ranges: &[Range<u64>]) -> Result<(Fetched, Vec<u8>), WandbError> {
    let (artifact, manifest) = resolve(client, "model").await;
    let entry = &manifest.entries["trained.ckpt"];
    let parts = client.remote_parts(store, (&artifact, "trained.ckpt", entry), 1).await?;
    let RemoteParts::Parts(mut file) = parts else { panic!("only parts were fetched") };
    let outcome = file.fetch(ranges, "parts").await?;
    Ok((outcome, read(&file, &ranges[0])))
}

fn read(file: &RemoteFile<'_>, range: &Range<u64>) -> Vec<u8> {
    fs::read(file.place()).unwrap()[range.start as usize..range.end as usize].to_vec()
}

#[tokio::test]
async fn only_what_is_asked_for_travels_and_only_once() {
    let (server, data, _folder, store) = setting().await;
    let client = client(&server.base);
    let wanted = [UNIT..2 * UNIT, 2 * UNIT + 5000..3 * UNIT, 8 * UNIT..8 * UNIT + 7];
    let (outcome, bytes) = fetch(&client, &store, &wanted).await.unwrap();
    assert_eq!(outcome, Fetched::All);
    assert!(bytes == data[UNIT as usize..2 * UNIT as usize]);
    let mut ranges: Vec<_> = server.object_requests().iter().map(|seen| seen.headers["range"].clone()).collect();
    ranges.sort();
    // The first two lie close together.
    assert_eq!(ranges, [format!("bytes={UNIT}-{}", 3 * UNIT - 1), format!("bytes={}-{}", 8 * UNIT, 8 * UNIT + 6)]);
    server.forget_seen();
    // In a later process the parts are still here; what is new is asked for under the proof of the old version.
    assert_eq!(fetch(&client, &store, &wanted).await.unwrap().0, Fetched::All);
    assert!(server.object_requests().is_empty());
    let (outcome, bytes) = fetch(&client, &store, &[0..UNIT + 1]).await.unwrap();
    assert_eq!(outcome, Fetched::All);
    assert!(bytes == data[..=UNIT as usize]);
    let [seen] = &server.object_requests()[..] else { panic!("one request") };
    assert_eq!(seen.headers["range"], format!("bytes=0-{}", UNIT - 1));
    assert_eq!(seen.headers["if-range"], "\"trained.ckpt-0\"");
}

#[tokio::test]
async fn trouble_that_passes_passes_and_addresses_are_renewed() {
    for fault in
        [Fault::ResetAt(1000), Fault::StallAt(1000), Fault::Status(503, ""), Fault::OtherPart, Fault::Status(403, "")]
    {
        let (server, data, _folder, store) = setting().await;
        let about = format!("{fault:?}");
        server.objects_fail([fault]);
        let client = Client::new(support::hasty(&server.base)).unwrap();
        let (outcome, bytes) = fetch(&client, &store, &[0..UNIT, 3 * UNIT..3 * UNIT + 1]).await.unwrap();
        assert_eq!(outcome, Fetched::All, "{about}");
        assert!(bytes == data[..UNIT as usize], "{about}");
        assert_eq!(server.object_requests().len(), 3, "{about}");
    }
    let (server, _, _folder, store) = setting().await;
    server.objects_fail(vec![Fault::Status(403, ""); 5]);
    let error = fetch(&client(&server.base), &store, &[0..100]).await.unwrap_err();
    assert!(error.is_denied(), "{error:?}");
}

#[tokio::test]
async fn parts_of_two_versions_are_never_mixed() {
    for fault in [Fault::NewVersion, Fault::MixedVersion] {
        let (server, data, _folder, store) = setting().await;
        let client = client(&server.base);
        assert_eq!(fetch(&client, &store, &[0..1000]).await.unwrap().0, Fetched::All);
        server.objects_fail([fault]);
        let (outcome, bytes) = fetch(&client, &store, &[UNIT..UNIT + 1000]).await.unwrap();
        assert_eq!((outcome, bytes), (Fetched::StartedAnew, vec![0; 1000]));
        let (outcome, bytes) = fetch(&client, &store, &[0..1000]).await.unwrap();
        assert_eq!(outcome, Fetched::All);
        assert!(bytes == data[..1000]);
    }
}

#[tokio::test]
async fn a_server_without_ranges_says_so_before_its_body_is_read() {
    for fault in [Fault::NoRange, Fault::Gzip, Fault::Status(416, "")] {
        let (server, _, _folder, store) = setting().await;
        server.objects_fail([fault]);
        assert_eq!(fetch(&client(&server.base), &store, &[10..1000]).await.unwrap().0, Fetched::NoRanges);
    }
}

#[tokio::test]
async fn the_whole_file_makes_its_parts_superfluous() {
    let (server, data, folder, store) = setting().await;
    let client = client(&server.base);
    fetch(&client, &store, &[0..1000]).await.unwrap();
    let (artifact, manifest) = resolve(&client, "model").await;
    let wanted = [Wanted::all(artifact.clone(), manifest.clone())];
    let got = client.download(&store, &wanted, &DownloadOptions::default()).await.unwrap();
    assert!(fs::read(&got[0].files[0].object.path).unwrap() == data);
    assert_eq!(fs::read_dir(folder.path().join("artifacts/wandb-pca-1/ranges")).unwrap().count(), 0);
    server.forget_seen();
    let file = (&artifact, "trained.ckpt", &manifest.entries["trained.ckpt"]);
    assert!(matches!(client.remote_parts(&store, file, 1).await.unwrap(), RemoteParts::Whole(_)));
    assert!(server.seen().is_empty());
}

/// A checkpoint of `layers` layers of `len` values each.
fn checkpoint(layers: usize, len: usize, seed: usize, safetensors: bool) -> Vec<u8> {
    let layer = |at: usize| {
        let value = |i: usize| ((i * 31 + at * 17 + seed * 7919) % 1009) as f32 / 1009.0;
        let mut bytes = Vec::with_capacity(4 * len);
        (0..len).for_each(|i| bytes.extend_from_slice(&value(i).to_le_bytes()));
        (format!("model.visual.block.{at}.weight"), TensorView::contiguous(Dtype::F32, vec![len], bytes).unwrap())
    };
    let layers: Vec<_> = (0..layers).map(layer).collect();
    let named: Vec<_> = layers.iter().map(|(name, view)| NamedTensor::new(name, view)).collect();
    let mut file = std::io::Cursor::new(Vec::new());
    match safetensors {
        true => write_safetensors(&mut file, &named).unwrap(),
        false => write_torch(&mut file, &named).unwrap(),
    }
    file.into_inner()
}

/// Names of the tensors that were listed, and whether each has a norm.
fn listed(found: &Inspection) -> Vec<(String, bool)> {
    let rows = found.tensors.rows().iter();
    rows.map(|row| (row[0].to_string(), !matches!(row[5], wandb_pca::table::Cell::Null))).collect()
}

fn session(client: &Client, store: &Store) -> Session {
    Session {
        client: Some(client.clone()),
        store: store.clone(),
        progress: Progress::silent(),
        device: Device::default(),
        entity: Some(support::ENTITY.to_owned()),
        project: Some(support::PROJECT.to_owned()),
        app_url: "http://127.0.0.1".to_owned(),
        runs: std::path::PathBuf::from("."),
        artifact_dir: "artifacts".into(),
    }
}

fn input(name: &str) -> Input {
    Input::parse(name).unwrap()
}

/// Layers of the models here, and values of each.
const LAYERS: usize = 24;
const VALUES: usize = 20_000;

/// A server with one checkpoint, and a session on an empty store.
async fn remote(safetensors: bool) -> (Misbehaving, tempfile::TempDir, Session, Vec<u8>) {
    let server = Misbehaving::start().await;
    let data = checkpoint(LAYERS, VALUES, 0, safetensors);
    server.add("model", &[("trained.ckpt", &data)]);
    let (folder, store) = store();
    let session = session(&client(&server.base), &store);
    (server, folder, session, data)
}

fn one_layer() -> InspectOptions {
    let mut options = InspectOptions::new(input("model"));
    options.layer_globs = vec!["*.block.7.*".to_owned()];
    options
}

/// Bytes that the answers to all requests for bytes carried.
fn travelled(server: &Misbehaving) -> u64 {
    let length = |range: &str| {
        let (from, to) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        to.parse::<u64>().unwrap() + 1 - from.parse::<u64>().unwrap()
    };
    server.object_requests().iter().map(|seen| length(&seen.headers["range"])).sum()
}

#[tokio::test]
async fn listing_many_layers_costs_little() {
    let server = Misbehaving::start().await;
    server.add("model", &[("trained.ckpt", &checkpoint(158, 5_000, 0, false))]);
    let (_folder, store) = store();
    let session = session(&client(&server.base), &store);
    let found = app::inspect(&session, InspectOptions::new(input("model"))).await.unwrap();
    assert_eq!((found.tensors.rows().len(), found.parameters), (158, 158 * 5_000));
    assert!(listed(&found).iter().all(|(_, norm)| !norm));
    assert_eq!((found.verified, found.path.as_ref()), (Verified::Partly, None));
    let (requests, bytes) = (server.object_requests().len(), travelled(&server));
    assert!(requests <= 3 && bytes <= 64_000, "{requests} requests for {bytes} bytes");
    let parts = found.parts.unwrap();
    assert_eq!((parts.fetched, parts.requests), (bytes, requests));
    // The second time it is known.
    server.forget_seen();
    app::inspect(&session, InspectOptions::new(input("model"))).await.unwrap();
    assert!(server.object_requests().is_empty());
}

#[tokio::test]
async fn a_layer_costs_its_bytes_and_has_the_norm_of_the_whole_file() {
    for (safetensors, verified) in [(false, Verified::Partly), (true, Verified::No)] {
        let (server, folder, session, data) = remote(safetensors).await;
        let found = app::inspect(&session, one_layer()).await.unwrap();
        assert_eq!(listed(&found), [("model.visual.block.7.weight".to_owned(), true)]);
        assert_eq!(found.verified, verified);
        let bytes = travelled(&server);
        assert!((80_000..80_000 + 64_000).contains(&bytes) && server.object_requests().len() <= 3, "{bytes}");
        let path = folder.path().join("whole.ckpt");
        fs::write(&path, data).unwrap();
        let whole = app::inspect(&session, InspectOptions::new(Input::File(path))).await.unwrap();
        let row = whole.tensors.rows().iter().find(|row| row[0] == found.tensors.rows()[0][0]).unwrap();
        assert_eq!(&found.tensors.rows()[0], row);
    }
}

#[tokio::test]
async fn an_altered_byte_is_found_where_there_is_a_checksum() {
    let (server, _folder, session, data) = remote(false).await;
    // Head and tail come first, then the layer.
    let directory = Directory::read(&data[..]).unwrap();
    let (_, record) = directory.records().find(|(name, _)| name.ends_with("data/7")).unwrap();
    let place = record.span().start as usize;
    let flipped = [Fault::Fine, Fault::Fine, Fault::FlipAt(place + 1000)];
    server.objects_fail(flipped.iter().chain(&flipped).cloned());
    let error = app::inspect(&session, one_layer()).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Integrity);
    let text = chain(&error);
    assert!(text.contains("model.visual.block.7.weight") && text.contains("CRC-32"), "{text}");
    // Nothing of it is kept, and what is damaged once is fetched once more.
    server.objects_fail(flipped);
    server.forget_seen();
    let found = app::inspect(&session, one_layer()).await.unwrap();
    assert_eq!((found.verified, server.object_requests().len()), (Verified::Partly, 6));
    // So is one in the pickle, which lists the tensors. Head and tail come in any order.
    let (server, _folder, session, _) = remote(false).await;
    server.objects_fail(vec![Fault::FlipAt(500); 4]);
    let error = app::inspect(&session, InspectOptions::new(input("model"))).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Integrity, "{}", chain(&error));
    app::inspect(&session, InspectOptions::new(input("model"))).await.unwrap();
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!("; {error}");
        cause = error.source();
    }
    text
}

#[tokio::test]
async fn faults_on_the_way_to_a_layer() {
    let two = || vec![Fault::Fine, Fault::Fine];
    for fault in [Fault::Status(403, ""), Fault::ResetAt(5), Fault::NewVersion, Fault::MixedVersion] {
        let (server, _folder, session, _) = remote(false).await;
        let about = format!("{fault:?}");
        server.objects_fail(two().into_iter().chain([fault]));
        let found = app::inspect(&session, one_layer()).await.unwrap();
        assert_eq!((found.verified, listed(&found)[0].1), (Verified::Partly, true), "{about}");
    }
    // Where parts are not to be had, all of it comes, and is verified.
    for faults in [vec![Fault::NoRange], two().into_iter().chain([Fault::NoRange]).collect()] {
        let (server, _folder, session, _) = remote(false).await;
        server.objects_fail(faults);
        let found = app::inspect(&session, one_layer()).await.unwrap();
        assert_eq!((found.verified, found.parts), (Verified::Whole, None));
    }
}

#[tokio::test]
async fn what_is_asked_for_as_a_whole_comes_as_a_whole() {
    for change in [
        |options: &mut InspectOptions| options.whole = true,
        |options: &mut InspectOptions| options.norms = Norms::Always,
    ] {
        let (_server, _folder, session, _) = remote(false).await;
        let mut options = InspectOptions::new(input("model"));
        change(&mut options);
        let found = app::inspect(&session, options).await.unwrap();
        assert_eq!((found.verified, found.parts.as_ref()), (Verified::Whole, None));
        assert!(found.path.is_some() && listed(&found).iter().all(|(_, norm)| *norm));
        // From now on it is in the store, and norms cost nothing.
        let again = app::inspect(&session, InspectOptions::new(input("model"))).await.unwrap();
        assert!(again.verified == Verified::Whole && listed(&again).iter().all(|(_, norm)| *norm));
    }
}

#[tokio::test]
async fn offline_the_parts_that_are_here_serve_and_others_are_told() {
    let (server, _folder, session, _) = remote(false).await;
    let online = app::inspect(&session, one_layer()).await.unwrap();
    server.forget_seen();
    let offline = Session { client: None, ..session };
    let again = app::inspect(&offline, one_layer()).await.unwrap();
    assert_eq!((again.tensors, again.verified), (online.tensors, Verified::Partly));
    let mut options = one_layer();
    options.layer_globs = vec!["*.block.8.*".to_owned()];
    let error = app::inspect(&offline, options).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::NotFound, "{}", chain(&error));
    assert!(server.seen().is_empty());
}

/// A server with a pretrained checkpoint and three seeds.
async fn family(safetensors: bool) -> Misbehaving {
    let server = Misbehaving::start().await;
    server.add("vit_pt", &[("trained.ckpt", &checkpoint(LAYERS, VALUES, 0, safetensors))]);
    for seed in 0..3 {
        let data = checkpoint(LAYERS, VALUES, seed + 1, safetensors);
        server.add(&format!("vit_task_{seed}"), &[("trained.ckpt", &data)]);
    }
    server
}

fn fit_options(folder: &std::path::Path, globs: &[&str], extent: Extent) -> FitOptions {
    let finetuned = app::expand(&["vit_task_{seed}".to_owned()], Some(&[0, 1, 2])).unwrap();
    let mut options = FitOptions::new(input("vit_pt"), finetuned, folder);
    options.layer_globs = globs.iter().map(|&glob| glob.to_owned()).collect();
    options.extent = extent;
    options
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fit_of_parts_is_the_fit_of_the_whole_to_the_bit() {
    for (safetensors, verified) in [(false, Verified::Partly), (true, Verified::No)] {
        let server = family(safetensors).await;
        let client = client(&server.base);
        let globs = ["*.block.1?.weight"];
        let (_parts_folder, parts_store) = store();
        let (_whole_folder, whole_store) = store();
        let out = tempfile::tempdir().unwrap();
        let (a, b) = (out.path().join("a"), out.path().join("b"));
        let options = fit_options(&a, &globs, Extent::Cheaper);
        let parts = app::fit(&session(&client, &parts_store), options).await.unwrap().fit;
        // Ten of 24 layers, and what lists them.
        let bytes = travelled(&server);
        assert!((3_200_000..3_200_000 + 4 * 64_000).contains(&bytes), "{bytes}");
        let options = fit_options(&b, &globs, Extent::Whole);
        let whole = app::fit(&session(&client, &whole_store), options).await.unwrap().fit;
        assert_eq!(parts.layers, whole.layers);
        assert_eq!(parts.layers.len(), 10);
        assert!(parts.record.inputs().all(|input| input.verified == verified && input.sha256.is_none()));
        assert_eq!((parts.record.verified(), whole.record.verified()), (verified, Verified::Whole));
        // The lock of either holds the other.
        whole.lock.hold(&parts.lock).unwrap();
        parts.lock.hold(&whole.lock).unwrap();
        assert_eq!(app::Fit::read(&a).unwrap().record, parts.record);
        let page = fs::read_to_string(report_of(&parts, out.path())).unwrap();
        assert!(page.contains(if safetensors { "not verified" } else { "partly verified" }));
        // Models are drawn from whole files, which are fetched and verified now.
        let options = SampleOptions::new(FitSource::Folder(a.clone()));
        let (opened, models) = app::sample(&session(&client, &parts_store), options).await.unwrap();
        assert_eq!((opened.fit.layers.len(), models.len()), (10, 1));
        let (artifact, manifest) = resolve(&client, "vit_task_0").await;
        let file = (&artifact, "trained.ckpt", &manifest.entries["trained.ckpt"]);
        assert!(matches!(client.remote_parts(&parts_store, file, 1).await.unwrap(), RemoteParts::Whole(_)));
    }
}

fn report_of(fit: &app::Fit, folder: &std::path::Path) -> std::path::PathBuf {
    app::report(&[fit], None, &folder.join("report.html"), false).unwrap().remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_are_fetched_only_where_that_is_cheaper_or_asked_for() {
    let server = family(false).await;
    let client = client(&server.base);
    let out = tempfile::tempdir().unwrap();
    // 20 of 24 layers are more than the rule allows.
    for (extent, verified) in [(Extent::Cheaper, Verified::Whole), (Extent::Parts, Verified::Partly)] {
        let (_folder, store) = store();
        let options = fit_options(out.path(), &["*.block.?.*", "*.block.1*"], extent);
        let fit = app::fit(&session(&client, &store), options).await.unwrap().fit;
        assert_eq!((fit.layers.len(), fit.record.verified()), (20, verified));
    }
    // What the store has as a whole is never asked for in parts.
    let (_folder, store) = store();
    let session = session(&client, &store);
    app::fit(&session, fit_options(out.path(), &["*.block.1.*"], Extent::Whole)).await.unwrap();
    server.forget_seen();
    let fit = app::fit(&session, fit_options(out.path(), &["*.block.1.*"], Extent::Parts)).await.unwrap().fit;
    assert_eq!(fit.record.verified(), Verified::Whole);
    assert!(server.object_requests().is_empty());
}

#[tokio::test]
async fn files_without_a_directory_are_fetched_whole_or_refused() {
    let server = Misbehaving::start().await;
    let fixture = |name: &str| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/checkpoint/torch-2.13").join(name);
        fs::read(path).unwrap()
    };
    for (name, file, why) in
        [("old", "legacy_state_dict.pth", "before 1.6"), ("wrapped", "nn_template.ckpt.zip", "wraps")]
    {
        server.add(name, &[("trained.ckpt", &fixture(file))]);
        let (_folder, store) = store();
        let session = session(&client(&server.base), &store);
        let found = app::inspect(&session, InspectOptions::new(input(name))).await.unwrap();
        assert_eq!((found.verified, found.parts), (Verified::Whole, None));
        let (_folder, store) = support::store();
        let session = self::session(&client(&server.base), &store);
        let mut options =
            FitOptions::new(input(name), app::expand(&[name.into(), name.into()], None).unwrap(), "unused");
        options.layer_globs = vec!["*".to_owned()];
        options.extent = Extent::Parts;
        let error = app::fit(&session, options).await.unwrap_err();
        assert!(matches!(error, AppError::NoParts { .. }) && error.to_string().contains(why), "{error}");
    }
}
