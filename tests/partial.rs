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

use support::{Fault, Misbehaving, client, noise, resolve, store};
use wandb_pca::store::Store;
use wandb_pca::wandb::{Client, DownloadOptions, Fetched, RemoteFile, RemoteParts, WandbError, Wanted};

const LEN: usize = 9_000_000;
const MIB: u64 = 1 << 20;

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
    let wanted = [MIB..2 * MIB, 2 * MIB + 5000..3 * MIB, 8 * MIB..8 * MIB + 7];
    let (outcome, bytes) = fetch(&client, &store, &wanted).await.unwrap();
    assert_eq!(outcome, Fetched::All);
    assert!(bytes == data[MIB as usize..2 * MIB as usize]);
    let mut ranges: Vec<_> = server.object_requests().iter().map(|seen| seen.headers["range"].clone()).collect();
    ranges.sort();
    // The first two lie close together.
    assert_eq!(ranges, [format!("bytes={MIB}-{}", 3 * MIB - 1), format!("bytes={}-{}", 8 * MIB, 8 * MIB + 6)]);
    server.forget_seen();
    // In a later process the parts are still here; what is new is asked for under the proof of the old version.
    assert_eq!(fetch(&client, &store, &wanted).await.unwrap().0, Fetched::All);
    assert!(server.object_requests().is_empty());
    let (outcome, bytes) = fetch(&client, &store, &[0..MIB + 1]).await.unwrap();
    assert_eq!(outcome, Fetched::All);
    assert!(bytes == data[..=MIB as usize]);
    let [seen] = &server.object_requests()[..] else { panic!("one request") };
    assert_eq!(seen.headers["range"], format!("bytes=0-{}", MIB - 1));
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
        let (outcome, bytes) = fetch(&client(&server.base), &store, &[0..100_000, MIB..MIB + 1]).await.unwrap();
        assert_eq!(outcome, Fetched::All, "{about}");
        assert!(bytes == data[..100_000], "{about}");
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
        let (outcome, bytes) = fetch(&client, &store, &[MIB..MIB + 1000]).await.unwrap();
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
