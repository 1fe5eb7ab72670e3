//! What every verb gets: settings, client, store, and how results are shown.

use std::fs;

use anyhow::Context as _;
use wandb_pca::app::{Device, LogOptions, Session};
use wandb_pca::progress::Progress;
use wandb_pca::store::Store;
use wandb_pca::wandb::{CertificateCheck, Client, ClientOptions, Credential};

use super::args::{Cli, Command};
use super::env::{self, Environment};
use super::render::printable;
use super::settings::network::Network;
use super::settings::{Mode, Settings};
use super::sources;

/// What every verb gets.
pub(crate) struct Context<'a> {
    pub(super) settings: Settings,
    pub(super) session: Session,
    pub(super) environment: &'a Environment,
    pub(super) json: bool,
    /// `--entity` and `--project` as typed.
    pub(super) typed: [Option<String>; 2],
}

impl<'a> Context<'a> {
    /// Resolves the settings and opens what they name; nothing is sent.
    ///
    /// # Errors
    /// A setting that cannot be used.
    pub(crate) fn open(cli: &Cli, environment: &'a Environment, progress: &Progress) -> anyhow::Result<Self> {
        let settings = Settings::resolve(&sources::collect(&cli.global, environment)?)?;
        if !matches!(cli.command, Command::Login(_)) {
            settings.credential.as_ref().map_err(Clone::clone)?;
        }
        for warning in &settings.warnings {
            tracing::warn!("{}", printable(warning));
        }
        let mut session = session(&settings, environment, progress)?;
        session.device = cli.command.device();
        let typed = [cli.global.entity.clone(), cli.global.project.clone()];
        Ok(Self { settings, session, environment, json: cli.global.json, typed })
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
            let chosen = settings.credential.as_ref().ok().and_then(Option::as_ref);
            let credential = chosen.map(|chosen| chosen.credential.clone());
            Some(client(settings, environment, progress, credential)?)
        }
    };
    Ok(Session {
        client,
        store: Store::new(sources::store_dir(environment)?, progress.clone()),
        progress: progress.clone(),
        device: Device::default(),
        entity: settings.entity.clone(),
        project: settings.project.clone(),
        app_url: settings.app_url.clone(),
        runs: sources::runs_dir(environment),
        artifact_dir: environment.path(env::ARTIFACT_DIR).unwrap_or_else(|| "artifacts".into()),
    })
}

/// A client with this credential and everything else as the settings say.
pub(super) fn client(
    settings: &Settings,
    environment: &Environment,
    progress: &Progress,
    credential: Option<Credential>,
) -> anyhow::Result<Client> {
    let network = &settings.network;
    if network.certificate_check == CertificateCheck::Off {
        tracing::warn!(
            "{} is set: no certificate is checked, so anyone on the way can read your credential and change every byte",
            env::INSECURE_DISABLE_SSL
        );
    }
    let mut options = ClientOptions::new(settings.base_url.as_str());
    let timeouts = network.timeouts;
    let connect = timeouts.connect.unwrap_or(options.connect_timeout);
    let idle = timeouts.idle.unwrap_or(options.idle_timeout);
    let [http, https] = network.proxies.clone();
    let [user, email] = network.user.clone();
    let (api, objects) = (network.api, network.objects);
    options = options
        .with_credential(credential)
        .with_progress(progress.clone())
        .with_timeouts(connect, idle)
        .with_total_timeout(timeouts.total)
        .with_attempt_timeouts(api.attempt, objects.attempt)
        .with_retries(api.retries, api.shortest, api.longest)
        .with_transfer_retries(objects.retries, objects.shortest, objects.longest)
        .with_cloud(environment.cloud())
        .with_extra_headers(network.extra_headers.clone())
        .with_user(user, email)
        .with_proxies(http, https)
        .with_certificate_check(network.certificate_check)
        .with_root_certificates(certificates(network)?);
    let [threshold, part] = network.parts;
    if let Some(bytes) = threshold {
        options = options.with_multipart_threshold(bytes);
    }
    if let Some(bytes) = part {
        options = options.with_part_size(bytes);
    }
    Client::new(options).context("cannot use the server's settings")
}

/// The certificates of the files that the environment names, together.
fn certificates(network: &Network) -> anyhow::Result<Option<Vec<u8>>> {
    let mut all: Option<Vec<u8>> = None;
    for (variable, path) in &network.certificate_files {
        let pem = fs::read(path)
            .with_context(|| format!("cannot read the certificates in {} ({variable})", path.display()))?;
        let all = all.get_or_insert_default();
        all.extend(pem);
        all.push(b'\n');
    }
    Ok(all)
}
