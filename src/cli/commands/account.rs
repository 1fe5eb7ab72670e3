//! `login` and `whoami`.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::Context as _;
use serde_json::json;
use wandb_pca::app::AppError;
use wandb_pca::redact::ApiKey;
use wandb_pca::store::write_private;
use wandb_pca::wandb::Credential;

use crate::cli::args;
use crate::cli::context::{Context, client};
use crate::cli::env;
use crate::cli::exit::{CredentialError, UsageError};
use crate::cli::netrc;
use crate::cli::render::{Output, printable};
use crate::cli::settings::Mode;
use crate::cli::settings::base_url::machine;
use crate::cli::sources;

pub(super) async fn login(context: &Context<'_>, args: &args::Login) -> anyhow::Result<Output> {
    let host = &context.settings.base_url;
    if context.settings.mode == Mode::Offline {
        anyhow::bail!(UsageError("login asks the server whether the key is good; it cannot do so offline".to_owned()));
    }
    let text = match args.key_stdin {
        true => io::read_to_string(io::stdin()).context("cannot read the key from standard input")?,
        false => rpassword::prompt_password(format!("API key for {host} (it is not shown): "))
            .context("cannot ask for the key here; pipe it in with --key-stdin")?,
    };
    let key = ApiKey::parse(&text).map_err(|error| CredentialError(error.to_string()))?;
    let credential = Some(Credential::ApiKey(key.clone()));
    let viewer = client(&context.settings, context.environment, &context.session.progress, credential)?.viewer().await;
    let viewer = viewer.map_err(|source| AppError::Wandb { action: format!("log in to {host}"), source })?;
    let path = sources::netrc_path(context.environment)?;
    store_key(&path, &machine(host), &key)?;
    if let Some(variable) =
        [env::API_KEY, env::IDENTITY_TOKEN_FILE].iter().find(|v| context.environment.get(v).is_some())
    {
        tracing::warn!("{variable} is set and wins over the key that was stored; unset it to use the latter");
    }
    let user = viewer.username.or(viewer.entity);
    let who = printable(user.as_deref().unwrap_or("-"));
    let text = format!("logged in to {host} as {who}; key stored in {}\n", path.display());
    Ok(Output { schema: "login/1", json: json!({"host": host.as_str(), "user": user, "stored_in": path}), text })
}

pub(super) async fn whoami(context: &Context<'_>) -> anyhow::Result<Output> {
    let host = &context.settings.base_url;
    let Ok(Some(chosen)) = &context.settings.credential else {
        let names = [env::API_KEY, env::IDENTITY_TOKEN_FILE].join(" or ");
        anyhow::bail!(CredentialError(format!("no credential for {host}: set {names}, or run `wandb-pca login`")));
    };
    let client =
        context.session.client.as_ref().ok_or(AppError::Offline { what: "the owner of the credential".to_owned() })?;
    let viewer = client.viewer().await;
    let viewer =
        viewer.map_err(|source| AppError::Wandb { action: format!("ask {host} whose credential this is"), source })?;
    let kind = match &chosen.credential {
        Credential::IdentityToken { .. } => "identity-token",
        _ => "api-key",
    };
    let shown = |text: &Option<String>| printable(text.as_deref().unwrap_or("-"));
    let (user, entity) = (shown(&viewer.username), shown(&viewer.entity));
    let noun = kind.replace('-', " ").replace("api", "API");
    let text = format!("{user} (entity {entity}) on {host}, {noun} from {}\n", chosen.source);
    let json = json!({
        "host": host.as_str(),
        "user": viewer.username,
        "entity": viewer.entity,
        "teams": viewer.teams,
        "credential": kind,
        "key_source": chosen.source.to_string(),
    });
    Ok(Output { schema: "whoami/1", json, text })
}

/// Puts the key into the netrc file, readable by its owner only, other entries untouched.
fn store_key(path: &Path, machine: &str, key: &ApiKey) -> anyhow::Result<()> {
    let before = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let text = netrc::with_password(&before, machine, key.expose())
        .with_context(|| format!("the key is good, but {} is not a netrc file and was left alone", path.display()))?;
    write_private(path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}
