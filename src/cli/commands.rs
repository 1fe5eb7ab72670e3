//! One short function a verb: arguments to a call of the library, and what it returns to an [`Output`].

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Map, Value, json};
use wandb_pca::app::{self, AppError, Draw, Fit, Input, LogOptions, Logged, ModelFormat, Session};
use wandb_pca::progress::Progress;
use wandb_pca::redact::ApiKey;
use wandb_pca::store::{DurableFile, Store};
use wandb_pca::table::{ColumnKind, Table};
use wandb_pca::wandb::{ArtifactName, Client, ClientOptions};

use super::args::{self, Cli, Command};
use super::env::{self, Environment};
use super::exit::UsageError;
use super::netrc;
use super::render::{Output, bytes_text, columns, number_text, objects, printable};
use super::settings::{Mode, Settings, machine};
use super::sources;

/// What every verb gets.
pub(super) struct Context<'a> {
    settings: Settings,
    pub(super) session: Session,
    pub(super) environment: &'a Environment,
    pub(super) json: bool,
}

/// Runs the verb that was typed.
///
/// # Errors
/// Whatever went wrong; see [`super::exit`].
pub(crate) async fn dispatch(
    cli: &Cli,
    environment: &Environment,
    progress: Progress,
) -> anyhow::Result<Option<Output>> {
    let settings = Settings::resolve(&sources::collect(&cli.global, environment)?)?;
    let session = session(&settings, environment, &progress)?;
    let context = Context { settings, session, environment, json: cli.global.json };
    match &cli.command {
        Command::Demo(demo) => super::demo::demo(demo, &context.session.progress, context.json).await,
        Command::Serve(serve) => super::demo::serve(serve, context.json).await,
        Command::Fit(fit) => context.fit(fit).await.map(Some),
        Command::Sample(sample) => context.sample(sample).await.map(Some),
        Command::Report(report) => write_report(report).map(Some),
        Command::Inspect(inspect) => context.inspect(inspect).await.map(Some),
        Command::Study(study) => super::study::dispatch(&context, study).await.map(Some),
        Command::Sweep(sweep) => super::study::sweep(&context, sweep).await.map(Some),
        Command::Artifact(args::Artifact::Get(get)) => context.get(get).await.map(Some),
        Command::Artifact(args::Artifact::Put(put)) => context.put(put).await.map(Some),
        Command::Artifact(args::Artifact::Ls(ls)) => context.ls(ls).await.map(Some),
        Command::Artifact(args::Artifact::Info(info)) => context.info(info).await.map(Some),
        Command::Login(login) => context.login(login).await.map(Some),
        Command::Whoami => context.whoami().await.map(Some),
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

fn client(settings: &Settings, progress: &Progress, key: Option<ApiKey>) -> anyhow::Result<Client> {
    let options = ClientOptions::new(settings.base_url.as_str())
        .with_api_key(key)
        .with_progress(progress.clone())
        .with_retries(settings.retries.most, settings.retries.shortest, settings.retries.longest)
        .with_extra_headers(settings.extra_headers.clone());
    Client::new(options).context("cannot use the server's settings")
}

impl Context<'_> {
    async fn fit(&self, args: &args::Fit) -> anyhow::Result<Output> {
        let seeds = args.seeds.as_deref().map(app::parse_seeds).transpose().map_err(AppError::from)?;
        let pretrained = Input::parse(&args.pretrained).map_err(AppError::from)?;
        let finetuned = app::expand(&args.finetuned, seeds.as_deref()).map_err(AppError::from)?;
        let from_artifacts = finetuned.iter().any(|seeded| matches!(seeded.input, Input::Artifact(_)));
        let mut options = app::FitOptions::new(pretrained, finetuned, PathBuf::new());
        options.dataset = args.dataset.clone();
        options.layer_globs = args.layers.clone();
        options.key = args.key.clone();
        options.file = args.file.clone();
        options.locked = args.locked;
        let (model, dataset) = options.names();
        let name = dataset.map_or(model.clone(), |dataset| format!("{model}_{dataset}"));
        options.folder = args.out.clone().unwrap_or_else(|| PathBuf::from(format!("fit-{}", file_name(&name))));
        let log = (args.log || (from_artifacts && !args.no_log)) && self.settings.mode == Mode::Online;
        if args.dry_run {
            return Ok(plan(&options, log));
        }
        let outcome = app::fit(&self.session, options).await?;
        let logged = match log {
            true => Some(app::log_fit(&self.session, (&outcome.fit, &outcome.folder), &self.log_options()).await?),
            false => None,
        };
        fit_output(&outcome.fit, &outcome.folder, logged.as_ref())
    }

    fn log_options(&self) -> LogOptions {
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

    async fn sample(&self, args: &args::Sample) -> anyhow::Result<Output> {
        let mut options = app::SampleOptions::new(args.fit.clone());
        if let Some(folder) = &args.out {
            options.folder = folder.clone();
        }
        options.count = args.count.into();
        options.random_seed = args.random_seed;
        options.draw = match args.scale {
            args::SampleScale::Variance => Draw::Variance,
            args::SampleScale::Unit => Draw::Unit,
            args::SampleScale::Mean => Draw::Mean,
        };
        let format = |format: &args::SampleFormat| match format {
            args::SampleFormat::Torch => ModelFormat::Torch,
            args::SampleFormat::Safetensors => ModelFormat::Safetensors,
        };
        options.formats = args.format.iter().map(format).collect();
        let (fit, models) = app::sample(&self.session, options).await?;
        let logged = match args.log {
            true => Some(app::log_samples(&self.session, (&fit, &models), &self.log_options()).await?),
            false => None,
        };
        let mut text = String::new();
        let mut list = Vec::new();
        for (at, model) in models.iter().enumerate() {
            let artifact = logged.as_ref().and_then(|logged| logged.artifacts.get(at));
            for file in &model.files {
                writeln!(text, "{}", printable(&file.display().to_string()))?;
            }
            let nearest = model.nearest.as_deref().unwrap_or("-");
            let distances = [model.distance_to_mean, model.distance_to_nearest.unwrap_or(0.0)].map(number_text);
            writeln!(
                text,
                "  distance to the mean {}, to the nearest seed ({nearest}) {}",
                distances[0], distances[1]
            )?;
            let mut value = serde_json::to_value(model)?;
            if let Some(object) = value.as_object_mut() {
                object.insert("artifact".to_owned(), json!(artifact));
            }
            list.push(value);
        }
        write_run(&mut text, logged.as_ref())?;
        Ok(Output { schema: "sample/1", json: json!({"models": list, "run": run_json(logged.as_ref())}), text })
    }

    async fn inspect(&self, args: &args::Inspect) -> anyhow::Result<Output> {
        let mut options = app::InspectOptions::new(Input::parse(&args.input).map_err(AppError::from)?);
        options.file = args.file.clone();
        options.key = args.key.clone();
        options.norms = !args.no_norms;
        let found = app::inspect(&self.session, options).await?;
        let mut text = columns(&found.tensors);
        for (name, reason) in &found.skipped {
            writeln!(text, "{}  not read: {}", printable(name), printable(reason))?;
        }
        let count = found.tensors.rows().len();
        writeln!(text, "{count} tensors, {} parameters, format {}", found.parameters, found.format)?;
        let skipped: Vec<Value> =
            found.skipped.iter().map(|(tensor, reason)| json!({"tensor": tensor, "reason": reason})).collect();
        let json = json!({
            "path": found.path,
            "format": found.format.to_string(),
            "verified": found.verified,
            "parameters": found.parameters,
            "tensors": objects(&found.tensors),
            "skipped": skipped,
        });
        Ok(Output { schema: "inspect/1", json, text })
    }

    async fn get(&self, args: &args::Get) -> anyhow::Result<Output> {
        let names = args.artifacts.iter().map(|text| artifact_name(text)).collect::<anyhow::Result<Vec<_>>>()?;
        let destination = match (&args.root, args.store_only) {
            (Some(_), _) if names.len() > 1 => {
                return Err(UsageError("--root takes one artifact; several would mix their files".to_owned()).into());
            }
            (Some(root), _) => app::artifact::Destination::Folder(root.clone()),
            (None, true) => app::artifact::Destination::Store,
            (None, false) => app::artifact::Destination::Default,
        };
        let got = app::artifact::get(&self.session, &names, &destination).await?;
        let mut text = String::new();
        let mut list = Vec::new();
        for got in &got {
            let fetched: u64 = got.files.iter().filter(|file| file.3).map(|file| file.2).sum();
            let total: u64 = got.files.iter().map(|file| file.2).sum();
            for (_, place, ..) in &got.files {
                writeln!(text, "{}", printable(&place.display().to_string()))?;
            }
            let (files, name) = (got.files.len(), got.artifact.name());
            writeln!(
                text,
                "  {name}: {files} files, {} verified, {} downloaded",
                bytes_text(total),
                bytes_text(fetched)
            )?;
            let file = |(path, place, size, downloaded): &(String, PathBuf, u64, bool)| json!({"path": path, "place": place, "size": size, "downloaded": downloaded});
            list.push(json!({
                "artifact": name.to_string(),
                "version": got.artifact.version,
                "digest": got.artifact.digest,
                "folder": got.folder,
                "verified": true,
                "files": got.files.iter().map(file).collect::<Vec<_>>(),
            }));
        }
        Ok(Output { schema: "artifact-get/1", json: json!({"artifacts": list}), text })
    }

    async fn put(&self, args: &args::Put) -> anyhow::Result<Output> {
        let mut options = app::artifact::PutOptions::new(&args.path, artifact_name(&args.name)?, &args.kind);
        options.aliases = args.alias.clone();
        options.description = args.description.clone();
        if let Some(text) = &args.metadata {
            options.metadata = serde_json::from_str::<Map<String, Value>>(text)
                .map_err(|error| UsageError(format!("--metadata is not a JSON object: {error}")))?;
        }
        let artifact = app::artifact::put(&self.session, &options).await?;
        let text = format!("{} ({} files, {})\n", artifact.name(), artifact.file_count, bytes_text(artifact.size));
        let json =
            json!({"artifact": artifact.name().to_string(), "version": artifact.version, "digest": artifact.digest});
        Ok(Output { schema: "artifact-put/1", json, text })
    }

    async fn ls(&self, args: &args::Ls) -> anyhow::Result<Output> {
        let table = match args.path.split('/').count() {
            3 => app::artifact::versions(&self.session, &artifact_name(&args.path)?).await?,
            _ => app::artifact::collections(&self.session, &args.path, args.kind.as_deref()).await?,
        };
        Ok(Output { schema: "artifact-ls/1", json: json!({"artifacts": objects(&table)}), text: columns(&table) })
    }

    async fn info(&self, args: &args::Info) -> anyhow::Result<Output> {
        let (artifact, manifest) = app::artifact::describe(&self.session, &artifact_name(&args.artifact)?).await?;
        let entries = app::artifact::entry_table(&manifest)?;
        let json = json!({
            "artifact": artifact.name().to_string(),
            "type": artifact.artifact_type,
            "digest": artifact.digest,
            "size": artifact.size,
            "aliases": artifact.aliases,
            "tags": artifact.tags,
            "description": artifact.description,
            "metadata": artifact.metadata,
            "created_at": artifact.created_at,
            "entries": objects(&entries),
        });
        let mut text = format!("{}\n", artifact.name());
        let described = [
            ("type", artifact.artifact_type.clone()),
            ("aliases", artifact.aliases.join(", ")),
            ("created", artifact.created_at.clone()),
            ("digest", artifact.digest.clone()),
            ("size", bytes_text(artifact.size)),
            ("about", artifact.description.clone().unwrap_or_default()),
        ];
        for (name, value) in described.iter().filter(|(_, value)| !value.is_empty()) {
            writeln!(text, "  {name:8} {}", printable(value))?;
        }
        for (key, value) in &artifact.metadata {
            writeln!(text, "  {} = {}", printable(key), printable(&value.to_string()))?;
        }
        Ok(Output { schema: "artifact-info/1", json, text: format!("{text}\n{}", columns(&entries)) })
    }

    async fn login(&self, args: &args::Login) -> anyhow::Result<Output> {
        let host = &self.settings.base_url;
        let text = match args.key_stdin {
            true => std::io::read_to_string(std::io::stdin()).context("cannot read the key from standard input")?,
            false => rpassword::prompt_password(format!("API key for {host}: ")).context("cannot ask for the key")?,
        };
        let key = ApiKey::parse(&text)?;
        let viewer = client(&self.settings, &self.session.progress, Some(key.clone()))?.viewer().await;
        let viewer = viewer.map_err(|source| AppError::Wandb { action: format!("log in to {host}"), source })?;
        let path = sources::netrc_path(self.environment)?;
        store_key(&path, &machine(host), &key)?;
        let who = viewer.username.or(viewer.entity);
        let text =
            format!("logged in to {host} as {}; key stored in {}\n", who.as_deref().unwrap_or("-"), path.display());
        Ok(Output { schema: "login/1", json: json!({"host": host.as_str(), "user": who, "stored_in": path}), text })
    }

    async fn whoami(&self) -> anyhow::Result<Output> {
        let host = &self.settings.base_url;
        let Some((_, source)) = &self.settings.api_key else {
            anyhow::bail!(UsageError(format!("no API key for {host}: set WANDB_API_KEY or run `wandb-pca login`")));
        };
        let client =
            self.session.client.as_ref().ok_or(AppError::Offline { what: "the owner of the key".to_owned() })?;
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
}

fn write_report(args: &args::Report) -> anyhow::Result<Output> {
    let fits = args.fits.iter().map(|folder| Fit::read(folder)).collect::<Result<Vec<_>, _>>()?;
    let files = app::report(&fits, &args.output, args.plots)?;
    let lines = files.iter().map(|file| format!("{}\n", printable(&file.display().to_string())));
    Ok(Output { schema: "report/1", text: lines.collect(), json: json!({"files": files}) })
}

fn artifact_name(text: &str) -> anyhow::Result<ArtifactName> {
    ArtifactName::parse(text).map_err(|error| UsageError(error.to_string()).into())
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

/// A name with only what file systems agree on.
fn file_name(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() || "_-.".contains(c) { c } else { '-' }).collect()
}

fn plan(options: &app::FitOptions, log: bool) -> Output {
    let (model, dataset) = options.names();
    let inputs: Vec<String> = options.finetuned.iter().map(|seeded| seeded.input.to_string()).collect();
    let folder = options.folder.display().to_string();
    let mut text = format!("fit {model}{}\n", dataset.as_ref().map(|d| format!(" on {d}")).unwrap_or_default());
    // Writing to a String cannot fail.
    let _ = writeln!(text, "  pretrained  {}", options.pretrained);
    for input in &inputs {
        let _ = writeln!(text, "  fine-tuned  {input}");
    }
    let _ = writeln!(text, "  into {folder}{}", if log { ", logged as a W&B run" } else { "" });
    let json = json!({
        "model": model,
        "dataset": dataset,
        "pretrained": options.pretrained.to_string(),
        "finetuned": inputs,
        "folder": folder,
        "log": log,
    });
    Output { schema: "fit-plan/1", json, text }
}

fn fit_output(fit: &Fit, folder: &Path, logged: Option<&Logged>) -> anyhow::Result<Output> {
    let layers: Vec<Value> = fit.layers.iter().map(layer_json).collect();
    let json = json!({
        "fit": folder,
        "model": fit.record.model,
        "dataset": fit.record.dataset,
        "seeds": app::labels(&fit.record),
        "totals": fit.record.totals,
        "inputs": std::iter::once(&fit.record.pretrained).chain(&fit.record.finetuned).collect::<Vec<_>>(),
        "skipped": fit.record.skipped,
        "layers": layers,
        "run": run_json(logged),
        "artifact": logged.and_then(|logged| logged.artifacts.first()),
    });
    let mut text = fit_text(fit, 10)?;
    writeln!(text, "\nfit     {}", printable(&folder.display().to_string()))?;
    write_run(&mut text, logged)?;
    Ok(Output { schema: "fit/1", json, text })
}

fn layer_json(fit: &wandb_pca::analysis::LayerFit) -> Value {
    json!({
        "layer": fit.layer.name,
        "shape": fit.layer.shape,
        "dtype": fit.layer.dtype.name(),
        "parameters": fit.layer.parameters,
        "total_variance": fit.pca.total_variance(),
        "explained_variance": fit.pca.explained_variance(),
        "explained_variance_ratio": fit.pca.explained_variance_ratio(),
        "degenerate": fit.pca.is_degenerate(),
    })
}

/// The layers of highest variance as a short table, and the totals.
pub(super) fn fit_text(fit: &Fit, most: usize) -> anyhow::Result<String> {
    let mut layers: Vec<_> = fit.layers.iter().collect();
    layers.sort_by(|a, b| b.pca.total_variance().total_cmp(&a.pca.total_variance()));
    let mut table = Table::new([
        ("layer", ColumnKind::Text),
        ("parameters", ColumnKind::Integer),
        ("explained variance", ColumnKind::Number),
        ("first component", ColumnKind::Text),
        ("for 95 %", ColumnKind::Integer),
    ]);
    for fit in layers.iter().take(most) {
        let spectrum = wandb_pca::analysis::Spectrum::of(&fit.pca);
        let first = spectrum.ratios.as_ref().and_then(|ratios| ratios.first());
        table.push(vec![
            fit.layer.name.as_str().into(),
            fit.layer.parameters.into(),
            spectrum.total_variance.into(),
            first.map(|ratio| format!("{:.1} %", 100.0 * ratio)).into(),
            spectrum.components_95.into(),
        ])?;
    }
    let (record, totals) = (&fit.record, &fit.record.totals);
    let dataset = record.dataset.as_ref().map(|dataset| format!(" on {dataset}")).unwrap_or_default();
    let mut text = columns(&table);
    writeln!(
        text,
        "\n{}{}: {} seeds, {} layers, {} parameters, total explained variance {}",
        printable(&record.model),
        printable(&dataset),
        record.finetuned.len(),
        totals.layers,
        totals.parameters,
        number_text(totals.total_variance),
    )?;
    if totals.degenerate_layers > 0 {
        let (layers, parameters) = (totals.degenerate_layers, totals.degenerate_parameters);
        writeln!(text, "{layers} layers ({parameters} parameters) do not vary between the seeds")?;
    }
    for skipped in &record.skipped {
        writeln!(text, "{} takes no part: {}", printable(&skipped.tensor), skipped.reason)?;
    }
    Ok(text)
}

pub(super) fn run_json(logged: Option<&Logged>) -> Value {
    logged.map_or(Value::Null, |logged| json!({"path": logged.path, "url": logged.url, "artifacts": logged.artifacts}))
}

pub(super) fn write_run(text: &mut String, logged: Option<&Logged>) -> std::fmt::Result {
    let Some(logged) = logged else { return Ok(()) };
    writeln!(text, "run     {}", printable(&logged.url))?;
    logged.artifacts.iter().try_for_each(|artifact| writeln!(text, "logged  {}", printable(artifact)))
}
