//! Names that are off, names of registries, and addresses of artifacts: what is asked of the server, and what is said.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "a test may end loudly"
)]

#[path = "support/scripted.rs"]
mod scripted;
mod support;

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use scripted::{Scripted, answer};
use serde_json::{Value, json};
use support::Misbehaving;
use wandb_pca::server::{Server, ServerOptions};
use wandb_pca::wandb::{ArtifactName, Client, ClientOptions, QualifiedName, WandbError};

fn client(base: &str) -> Client {
    let options = ClientOptions::new(base).with_retries(0, Duration::from_millis(1), Duration::from_millis(1));
    Client::new(options).unwrap()
}

fn name() -> QualifiedName {
    ArtifactName::parse("team/vectors/modle:v9").unwrap().with_defaults(None, None).unwrap()
}

async fn run(server: &Server, home: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wandb-pca"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WANDB")) {
        command.env_remove(name);
    }
    command.env("HOME", home).current_dir(home).args(arguments).args(["--entity", "local", "--project", "vectors"]);
    command.env("WANDB_BASE_URL", server.base_url()).env("WANDB_API_KEY", server.api_key().expose());
    command.env("WANDB_CACHE_DIR", home.join("cache")).env("WANDB_ARTIFACT_DIR", home.join("placed"));
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_off_is_told_what_exists_and_an_id_leads_to_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let server = Server::start(ServerOptions::new(home.join("data"))).await.unwrap();
    std::fs::write(home.join("x.txt"), "x").unwrap();
    for collection in ["model", "data"] {
        let put = ["artifact", "put", "x.txt", "--name", &format!("vectors/{collection}"), "--alias", "best"];
        let put = run(&server, home, &put).await;
        assert!(put.status.success(), "{}", String::from_utf8_lossy(&put.stderr));
    }
    for (text, told) in [
        ("model:v7", vec!["local/vectors/model:v7", "it has v0", "best, latest"]),
        ("modle", vec!["artifacts there: model, data"]),
        ("local/vector/model", vec!["project local/vector not found; projects there: vectors"]),
    ] {
        for verb in ["info", "get"] {
            let output = run(&server, home, &["artifact", verb, text]).await;
            let text = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(3), "{text}");
            for told in &told {
                assert!(text.contains(told), "`{told}` in {text}");
            }
        }
    }
    let client =
        Client::new(ClientOptions::new(server.base_url()).with_api_key(Some(server.api_key().clone()))).unwrap();
    let model = ArtifactName::parse("local/vectors/model").unwrap().with_defaults(None, None).unwrap();
    let id = client.artifact(&model).await.unwrap().id;
    let address = format!("wandb-artifact://_id/{id}");
    let got = run(&server, home, &["artifact", "get", &address, "--json"]).await;
    assert!(got.status.success(), "{}", String::from_utf8_lossy(&got.stderr));
    let got: Value = serde_json::from_slice(&got.stdout).unwrap();
    assert_eq!(got["artifacts"][0]["artifact"], "local/vectors/model:v0");
    assert!(home.join("placed/model:v0/x.txt").is_file(), "WANDB_ARTIFACT_DIR");
    for elsewhere in ["wandb-artifact://https://api.wandb.ai/local/vectors/model", "wandb-artifact://_id/%"] {
        assert_eq!(run(&server, home, &["artifact", "info", elsewhere]).await.status.code(), Some(2), "{elsewhere}");
    }
}

#[tokio::test]
async fn when_nobody_can_say_what_exists_the_first_answer_stays() {
    let nothing = || answer(200, r#"{"data":{"project":{"artifactCollectionMembership":null}}}"#);
    for second in [answer(500, ""), answer(200, r#"{"errors":[{"message":"no such field"}]}"#), answer(401, "")] {
        let server = Scripted::start([nothing(), second]).await;
        let error = client(&format!("http://{}", server.address)).artifact(&name()).await.unwrap_err();
        assert_eq!(error.to_string(), "artifact team/vectors/modle:v9 not found");
        assert!(matches!(error, WandbError::NotFound { .. }), "{error:?}");
        assert_eq!(server.seen().len(), 2);
    }
    // Nothing is asked when the answer was another one.
    let server = Scripted::start([answer(403, "")]).await;
    assert!(client(&format!("http://{}", server.address)).artifact(&name()).await.unwrap_err().is_denied());
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn the_organisation_of_a_registry_is_asked_for_once() {
    let org = json!({"name": "Org Inc", "orgEntity": {"name": "org-entity"}});
    let told = json!({"data": {"entity": {"organization": org, "user": null}}}).to_string();
    let server = Scripted::start([answer(200, &told)]).await;
    let client = client(&format!("http://{}", server.address));
    for given in [None, Some("Org Inc"), Some("org-entity")] {
        assert_eq!(client.registry_entity("team", given).await.unwrap(), "org-entity");
    }
    assert!(matches!(client.registry_entity("team", Some("Other")).await, Err(WandbError::Name { .. })));
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_link_goes_to_the_registry_of_the_versions_own_organisation() {
    let (server, home) = (Misbehaving::start().await, tempfile::tempdir().unwrap());
    server.add("model", &[("a", b"1")]);
    let run = |target: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wandb-pca"));
        command.env_clear().env("WANDB_BASE_URL", &server.base).env("WANDB_API_KEY", "k".repeat(40));
        // Somebody else's default entity has nothing to say about it.
        command.env("WANDB_ENTITY", "somebody").env("HOME", home.path());
        command.current_dir(home.path()).args(["--json", "artifact", "link", "team/vectors/model", target]);
        tokio::task::spawn_blocking(move || command.output().unwrap())
    };
    for (target, linked) in [
        ("wandb-registry-model/best", "team-org/wandb-registry-model/best:v0"),
        ("Team Inc/wandb-registry-model/best:chosen", "team-org/wandb-registry-model/best:v0"),
        ("shelf/best", "team/shelf/best:v0"),
        ("best", "team/uncategorized/best:v0"),
    ] {
        let output = run(target).await.unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{target}: {told}");
        let link: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(link["link"], linked, "{target}");
    }
    let output = run("Other Inc/wandb-registry-model/best").await.unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && told.contains("none that this entity belongs to"), "{told}");
}
