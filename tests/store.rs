//! The store as the client uses it: hundreds of known artifacts in a few requests, and everything that was seen online
//! served offline.

#![allow(missing_docs, unreachable_pub, dead_code, clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod support;

use support::{ENTITY, Misbehaving, PROJECT, client, noise};
use wandb_pca::app::artifact::{Destination, GetOptions, Got, get};
use wandb_pca::app::{AppError, Device, FailureKind, Lack, Session};
use wandb_pca::progress::Progress;
use wandb_pca::store::Store;
use wandb_pca::wandb::{ArtifactName, QualifiedName};

fn session(server: &Misbehaving, store: &Store) -> Session {
    Session {
        client: Some(client(&server.base)),
        store: store.clone(),
        progress: Progress::silent(),
        device: Device::default(),
        entity: None,
        project: Some(PROJECT.to_owned()),
        app_url: server.base.clone(),
        runs: std::path::PathBuf::from("."),
        artifact_dir: "artifacts".into(),
    }
}

fn offline(server: &Misbehaving, store: &Store) -> Session {
    Session { client: None, ..session(server, store) }
}

fn names(texts: &[String]) -> Vec<ArtifactName> {
    texts.iter().map(|text| ArtifactName::parse(text).unwrap()).collect()
}

async fn fetch(session: &Session, texts: &[String]) -> Result<Vec<Got>, AppError> {
    get(session, &names(texts), &GetOptions::new(Destination::Store)).await
}

/// Artifacts of one file each, and their names.
fn fill(server: &Misbehaving, count: usize) -> Vec<String> {
    let name = |at: usize| {
        let name = format!("seed{at}");
        server.add(&name, &[("trained.ckpt", &noise(100 + at))]);
        name
    };
    (0..count).map(name).collect()
}

#[tokio::test]
async fn three_hundred_known_artifacts_take_a_few_round_trips() {
    let server = Misbehaving::start().await;
    let (_folder, store) = support::store();
    let texts: Vec<_> = (0..302).map(|at| format!("seed{at}")).collect();
    // The same bytes in all, so that the test is about questions.
    texts.iter().for_each(|text| server.add(text, &[("trained.ckpt", &noise(100))]));
    let got = fetch(&session(&server, &store), &texts).await.unwrap();
    assert!(got.iter().all(|got| got.files[0].downloaded), "everything came over the network once");
    server.forget_seen();
    let got = fetch(&session(&server, &store), &texts).await.unwrap();
    assert!(got.iter().zip(&texts).all(|(got, text)| got.artifact.collection == *text && !got.files[0].downloaded));
    // Whose key it is, and seven questions about some fifty names, all at once: two round trips. Nothing else.
    assert_eq!((server.operations("Viewer"), server.operations("ArtifactMemberships")), (1, 7));
    assert_eq!(server.seen().len(), 8);
}

#[tokio::test]
async fn a_server_that_takes_no_batches_is_asked_one_by_one() {
    let server = Misbehaving::start().await;
    server.refuse_batches();
    let (_folder, store) = support::store();
    let got = fetch(&session(&server, &store), &fill(&server, 3)).await.unwrap();
    assert_eq!(got.len(), 3);
    assert_eq!(server.operations("ArtifactMembershipByName"), 3);
}

#[tokio::test]
async fn one_unknown_name_among_many_is_named() {
    let server = Misbehaving::start().await;
    let mut texts = fill(&server, 3);
    texts.insert(1, "nothing".to_owned());
    let named: Vec<_> = texts.iter().map(|text| QualifiedName::new(ENTITY, PROJECT, text, "latest")).collect();
    let found = client(&server.base).artifacts(&named).await.unwrap();
    assert_eq!(found.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true, true]);
    let (_folder, store) = support::store();
    let error = fetch(&session(&server, &store), &texts).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::NotFound);
    assert!(error.to_string().contains("team/vectors/nothing:latest"), "{error}");
}

#[tokio::test]
async fn what_was_seen_online_is_served_offline() {
    let server = Misbehaving::start().await;
    let (_folder, store) = support::store();
    let texts = fill(&server, 3);
    let online = fetch(&session(&server, &store), &texts).await.unwrap();
    server.forget_seen();
    // By the same name, the version, and the digest; without an entity too.
    let digest = format!("seed1:{}", online[1].artifact.digest);
    let asked = ["seed0".to_owned(), "seed0:v3".to_owned(), digest, "team/vectors/seed2:latest".to_owned()];
    let got = fetch(&offline(&server, &store), &asked).await.unwrap();
    let collections: Vec<_> = got.iter().map(|got| got.artifact.collection.as_str()).collect();
    assert_eq!(collections, ["seed0", "seed0", "seed1", "seed2"]);
    assert_eq!(std::fs::read(&got[3].files[0].place).unwrap(), noise(102));
    assert_eq!(server.seen().len(), 0);
    // Another server's answers are not this one's.
    let other = Session { app_url: "http://elsewhere:8080".to_owned(), ..offline(&server, &store) };
    let error = fetch(&other, &["team/vectors/seed0:latest".to_owned()]).await.unwrap_err();
    assert!(matches!(&error, AppError::NotInStore { missing } if missing[0].lack == Lack::Resolution), "{error}");
}

#[tokio::test]
async fn offline_everything_that_is_missing_is_named() {
    let server = Misbehaving::start().await;
    let (folder, store) = support::store();
    let texts = fill(&server, 4);
    let online = fetch(&session(&server, &store), &texts).await.unwrap();
    std::fs::remove_file(&online[1].files[0].place).unwrap();
    std::fs::remove_file(&online[2].files[0].place).unwrap();
    let asked = [texts.as_slice(), &["never".to_owned(), "nor:v1".to_owned()]].concat();
    let error = fetch(&offline(&server, &store), &asked).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::NotFound);
    assert_eq!(
        error.to_string(),
        "we are offline, and the store lacks trained.ckpt of team/vectors/seed1:v3; \
         trained.ckpt of team/vectors/seed2:v3; what team/vectors/never:latest stands for; \
         what team/vectors/nor:v1 stands for"
    );
    // A manifest that was tampered with proves nothing.
    for manifest in std::fs::read_dir(folder.path().join("artifacts/wandb-pca-1/manifests")).unwrap() {
        let path = manifest.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap().replace("trained.ckpt", "another.ckpt");
        std::fs::write(&path, text).unwrap();
    }
    let error = fetch(&offline(&server, &store), &texts[..1]).await.unwrap_err();
    assert!(matches!(&error, AppError::NotInStore { missing } if missing[0].lack == Lack::Manifest), "{error}");
    // Online it is asked for again.
    fetch(&session(&server, &store), &texts).await.unwrap();
    fetch(&offline(&server, &store), &texts).await.unwrap();
}
