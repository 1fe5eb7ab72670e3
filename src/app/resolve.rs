//! From names to versions and manifests: the one place that asks the server, or the store's records when offline.
//!
//! Names go to the server some fifty at a time, and manifests that the store has are not asked for again, so that
//! hundreds of known artifacts take a few round trips. Whatever the server tells is recorded for offline use.

use std::collections::HashMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::progress::Stage;
use crate::wandb::{
    Artifact, ArtifactName, Client, DownloadOptions, DownloadedArtifact, Manifest, QualifiedName, Wanted, present,
};

use super::blocking::run_blocking;
use super::error::{AppError, Lack, Missing};
use super::session::Session;

/// Manifests asked for at the same time.
const QUESTIONS: usize = 16;

/// What a name stands for.
#[derive(Debug, Clone)]
pub(super) struct Resolved {
    /// The name, with entity and project.
    pub(super) asked: QualifiedName,
    pub(super) artifact: Artifact,
    pub(super) manifest: Manifest,
}

/// What every name stands for, in their order.
///
/// # Errors
/// The first name that cannot be resolved; offline, all that the store lacks.
pub(super) async fn resolve(session: &Session, names: &[ArtifactName]) -> Result<Vec<Resolved>, AppError> {
    let names = qualify(session, names).await?;
    all(with_manifests(session, versions(session, names).await?).await?)
}

/// The names with entity and project filled in.
pub(super) async fn qualify(session: &Session, names: &[ArtifactName]) -> Result<Vec<QualifiedName>, AppError> {
    let mut qualified = Vec::with_capacity(names.len());
    for name in names {
        qualified.push(session.qualify(name).await?);
    }
    Ok(qualified)
}

/// A name and its version, or why it has none.
pub(super) type Version = (QualifiedName, Result<Artifact, AppError>);

/// The version behind each name. What is wrong with one name does not spoil the others.
///
/// # Errors
/// What concerns all names: the server cannot be asked, the store fails.
pub(super) async fn versions(session: &Session, names: Vec<QualifiedName>) -> Result<Vec<Version>, AppError> {
    let Some(first) = names.first() else { return Ok(Vec::new()) };
    let _task = session.progress.begin(Stage::Resolve, "artifacts", None);
    let recorded = session.recorded();
    let Some(client) = &session.client else {
        let remember = move |asked: QualifiedName| match recorded.resolution(&asked) {
            Ok(Some(artifact)) => Ok((asked, Ok(artifact))),
            Ok(None) => {
                let lack = lacking(&asked, Lack::Resolution);
                Ok((asked, Err(lack)))
            }
            Err(error) => Err(error.into()),
        };
        return run_blocking("the records", move || names.into_iter().map(remember).collect()).await;
    };
    let found = client.artifacts(&names).await.map_err(AppError::wandb(format!("resolve {first}")))?;
    let mut versions: Vec<Version> = Vec::with_capacity(names.len());
    for (name, found) in names.into_iter().zip(found) {
        let failed = AppError::wandb(format!("resolve {name}"));
        let found = match found {
            // One explanation will do: names that are off are off in the same way.
            Err(error) if versions.iter().all(|(_, found)| found.is_ok()) => Err(client.explain(&name, error).await),
            found => found,
        };
        versions.push((name, found.map_err(failed)));
    }
    let good = versions.iter().filter_map(|(name, found)| Some((name.clone(), found.as_ref().ok()?.clone())));
    let good: Vec<_> = good.collect();
    session.noted(run_blocking("the records", move || Ok(recorded.record(&good))).await?);
    Ok(versions)
}

/// The versions with what they hold: kept manifests from the store, the others from the server, and kept from now on.
///
/// # Errors
/// The first manifest that cannot be had from the server.
pub(super) async fn with_manifests(
    session: &Session,
    versions: Vec<Version>,
) -> Result<Vec<Result<Resolved, AppError>>, AppError> {
    let good = || versions.iter().filter_map(|(_, found)| found.as_ref().ok());
    let (recorded, artifacts) = (session.recorded(), good().cloned().collect::<Vec<_>>());
    let mut known: HashMap<String, Manifest> = run_blocking("the records", move || {
        let mut known = HashMap::new();
        for artifact in artifacts {
            if let Some(manifest) = recorded.manifest(&artifact)? {
                known.insert(artifact.id, manifest);
            }
        }
        Ok(known)
    })
    .await?;
    if let Some(client) = &session.client {
        let unknown = good().filter(|artifact| !known.contains_key(&artifact.id));
        let unknown: HashMap<_, _> = unknown.map(|artifact| (artifact.id.clone(), artifact.clone())).collect();
        known.extend(fetch_manifests(session, client, unknown.into_values().collect()).await?);
    }
    let resolved = versions.into_iter().map(|(asked, found)| {
        let artifact = found?;
        match known.get(&artifact.id) {
            Some(manifest) => Ok(Resolved { asked, manifest: manifest.clone(), artifact }),
            None => Err(lacking(&asked, Lack::Manifest)),
        }
    });
    Ok(resolved.collect())
}

async fn fetch_manifests(
    session: &Session,
    client: &Client,
    artifacts: Vec<Artifact>,
) -> Result<Vec<(String, Manifest)>, AppError> {
    let fetch = async |artifact: Artifact| {
        let reading = AppError::wandb(format!("read the manifest of {}", artifact.name()));
        let (manifest, text) = client.manifest_text(&artifact).await.map_err(reading)?;
        Ok::<_, AppError>((artifact, manifest, text.to_vec()))
    };
    let fetched: Vec<_> =
        stream::iter(artifacts.into_iter().map(fetch)).buffer_unordered(QUESTIONS).try_collect().await?;
    let (manifests, texts): (Vec<_>, Vec<_>) = fetched
        .into_iter()
        .map(|(artifact, manifest, text)| ((artifact.id.clone(), manifest), (artifact, text)))
        .unzip();
    let recorded = session.recorded();
    session.noted(run_blocking("the records", move || Ok(recorded.keep_manifests(&texts))).await?);
    Ok(manifests)
}

fn lacking(reference: &QualifiedName, lack: Lack) -> AppError {
    AppError::NotInStore { missing: vec![Missing { reference: reference.to_string(), lack }] }
}

/// All of them, or what is wrong: everything that the store lacks, or the first other error.
pub(super) fn all<T>(results: impl IntoIterator<Item = Result<T, AppError>>) -> Result<Vec<T>, AppError> {
    let (mut good, mut lacking) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(value) => good.push(value),
            Err(AppError::NotInStore { missing }) => lacking.extend(missing),
            Err(error) => return Err(error),
        }
    }
    if lacking.is_empty() { Ok(good) } else { Err(AppError::NotInStore { missing: lacking }) }
}

/// The wanted files, verified and in the store: downloaded where they are not there and we are online. What could not be
/// resolved is passed in as it is, so that offline everything that the store lacks is told at once.
///
/// # Errors
/// The first thing that could not be had; offline, all that the store lacks.
pub(super) async fn obtain(
    session: &Session,
    wanted: Vec<Result<Wanted, AppError>>,
    options: &DownloadOptions,
) -> Result<Vec<DownloadedArtifact>, AppError> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    if let Some(client) = &session.client {
        let wanted = all(wanted)?;
        return client.download(&session.store, &wanted, options).await.map_err(AppError::wandb("download"));
    }
    let store = session.store.clone();
    let look = move |wanted: Result<Wanted, AppError>| {
        let wanted = wanted?;
        let name = wanted.artifact.name().to_string();
        let (here, absent) =
            present(&store, &wanted).map_err(AppError::wandb(format!("read {name} from the store")))?;
        match absent.is_empty() {
            true => Ok(here),
            false => Err(lacking(&wanted.artifact.name(), Lack::Files(absent))),
        }
    };
    run_blocking("the store", move || all(wanted.into_iter().map(look))).await
}
