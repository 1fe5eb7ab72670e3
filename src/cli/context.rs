//! What every verb gets: settings, client, store, and how results are shown.

use anyhow::Context as _;
use wandb_pca::app::{LogOptions, Session};
use wandb_pca::progress::Progress;
use wandb_pca::redact::ApiKey;
use wandb_pca::store::Store;
use wandb_pca::wandb::{Client, ClientOptions};

use super::args::Cli;
use super::env::{self, Environment};
use super::settings::{Mode, Settings};
use super::sources;

/// What every verb gets.
pub(crate) struct Context<'a> {
    pub(super) settings: Settings,
    pub(super) session: Session,
    pub(super) environment: &'a Environment,
    pub(super) json: bool,
}

impl<'a> Context<'a> {
    /// Resolves the settings and opens what they name; nothing is sent.
    ///
    /// # Errors
    /// A setting that cannot be used.
    pub(crate) fn open(cli: &Cli, environment: &'a Environment, progress: &Progress) -> anyhow::Result<Self> {
        let settings = Settings::resolve(&sources::collect(&cli.global, environment)?)?;
        let session = session(&settings, environment, progress)?;
        Ok(Self { settings, session, environment, json: cli.global.json })
    }

    /// How runs are logged.
    pub(super) fn log_options(&self) -> LogOptions {
        let get = |name| self.environment.get(name).map(str::to_owned);
        let mut options = LogOptions::default();
        options.entity = self.settings.entity.clone();
        options.project = self.settings.project.clone();
        options.group = get(env::RUN_GROUP);
        options.name = get(env::NAME);
        options.notes = get(env::NOTES);
        let tags = get(env::TAGS).unwrap_or_default();
        options.tags = tags.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect();
        options
    }
}

fn session(settings: &Settings, environment: &Environment, progress: &Progress) -> anyhow::Result<Session> {
    let client = match settings.mode {
        Mode::Offline => None,
        Mode::Online | Mode::Disabled => {
            Some(client(settings, progress, settings.api_key.as_ref().map(|(key, _)| key.clone()))?)
        }
    };
    Ok(Session {
        client,
        store: Store::new(sources::store_dir(environment)?, progress.clone()),
        progress: progress.clone(),
        entity: settings.entity.clone(),
        project: settings.project.clone(),
        app_url: settings.app_url.clone(),
    })
}

/// A client with this key and everything else as the settings say.
pub(super) fn client(settings: &Settings, progress: &Progress, key: Option<ApiKey>) -> anyhow::Result<Client> {
    let options = ClientOptions::new(settings.base_url.as_str())
        .with_api_key(key)
        .with_progress(progress.clone())
        .with_retries(settings.retries.most, settings.retries.shortest, settings.retries.longest)
        .with_extra_headers(settings.extra_headers.clone());
    Client::new(options).context("cannot use the server's settings")
}
