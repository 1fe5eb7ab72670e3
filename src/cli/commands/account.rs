//! `login` and `whoami`.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde_json::json;
use wandb_pca::app::AppError;
use wandb_pca::redact::ApiKey;
use wandb_pca::store::DurableFile;

use crate::cli::args;
use crate::cli::context::{Context, client};
use crate::cli::exit::UsageError;
use crate::cli::netrc;
use crate::cli::render::Output;
use crate::cli::settings::machine;
use crate::cli::sources;

pub(super) async fn login(context: &Context<'_>, args: &args::Login) -> anyhow::Result<Output> {
    let host = &context.settings.base_url;
    let text = match args.key_stdin {
        true => std::io::read_to_string(std::io::stdin()).context("cannot read the key from standard input")?,
        false => rpassword::prompt_password(format!("API key for {host}: ")).context("cannot ask for the key")?,
    };
    let key = ApiKey::parse(&text)?;
    let viewer = client(&context.settings, &context.session.progress, Some(key.clone()))?.viewer().await;
    let viewer = viewer.map_err(|source| AppError::Wandb { action: format!("log in to {host}"), source })?;
    let path = sources::netrc_path(context.environment)?;
    store_key(&path, &machine(host), &key)?;
    let who = viewer.username.or(viewer.entity);
    let text = format!("logged in to {host} as {}; key stored in {}\n", who.as_deref().unwrap_or("-"), path.display());
    Ok(Output { schema: "login/1", json: json!({"host": host.as_str(), "user": who, "stored_in": path}), text })
}

pub(super) async fn whoami(context: &Context<'_>) -> anyhow::Result<Output> {
    let host = &context.settings.base_url;
    let Some((_, source)) = &context.settings.api_key else {
        anyhow::bail!(UsageError(format!("no API key for {host}: set WANDB_API_KEY or run `wandb-pca login`")));
    };
    let client =
        context.session.client.as_ref().ok_or(AppError::Offline { what: "the owner of the key".to_owned() })?;
    let viewer = client.viewer().await;
    let viewer =
        viewer.map_err(|source| AppError::Wandb { action: format!("ask {host} whose key this is"), source })?;
    let (user, entity) = (viewer.username.as_deref().unwrap_or("-"), viewer.entity.as_deref().unwrap_or("-"));
    let text = format!("{user} (entity {entity}) on {host}, key from {source}\n");
    let json = json!({
        "host": host.as_str(),
        "user": viewer.username,
        "entity": viewer.entity,
        "teams": viewer.teams,
        "key_source": source.to_string(),
    });
    Ok(Output { schema: "whoami/1", json, text })
}

/// Puts the key into the netrc file, readable by its owner only, other entries untouched.
fn store_key(path: &Path, machine: &str, key: &ApiKey) -> anyhow::Result<()> {
    let before = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let text = netrc::with_password(&before, machine, key.expose());
    let write = || {
        let mut file = DurableFile::create_private(path)?;
        file.write_all(text.as_bytes())?;
        file.commit()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
