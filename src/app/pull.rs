//! From inputs to files on this machine: resolve, pin, download, verify. Local files pass through.

use std::fs;
use std::path::{Path, PathBuf};

use futures_util::future::try_join_all;

use crate::digest::Digest;
use crate::report::input::Verified;
use crate::wandb::{Artifact, Client, DownloadOptions, DownloadedArtifact, Filter, Manifest, Origin, Wanted};

use super::error::AppError;
use super::fit_record::InputRecord;
use super::input::{Input, Seeded};
use super::lock::{LockedArtifact, LockedFile};
use super::parts::Parts;
use super::session::Session;

/// Endings of files that hold weights.
const CHECKPOINT_ENDINGS: [&str; 6] = [".ckpt", ".pt", ".pth", ".bin", ".safetensors", ".ckpt.zip"];

/// One checkpoint, readable now.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Pulled {
    /// What it is, exactly.
    pub record: InputRecord,
    /// Where its bytes are: in the store, or where the user keeps them.
    pub path: PathBuf,
    /// The artifact version it comes from.
    pub artifact: Option<Artifact>,
    /// Whether bytes came over the network now.
    pub downloaded: bool,
    /// Which parts of it are here, when it was not fetched whole.
    pub parts: Option<Parts>,
    pub(super) locked: Option<LockedArtifact>,
}

/// Makes every input readable: all artifacts are resolved at the same time, then their files downloaded in one plan.
/// `file` names the checkpoint in artifacts that hold several files.
///
/// # Errors
/// [`AppError`] naming the first input that could not be had.
pub async fn pull(session: &Session, inputs: &[Seeded], file: Option<&str>) -> Result<Vec<Pulled>, AppError> {
    let chosen = resolve_all(session, inputs, file).await?;
    pull_chosen(session, inputs, chosen).await
}

/// What every input stands for; nothing for local files.
pub(super) async fn resolve_all(
    session: &Session,
    inputs: &[Seeded],
    file: Option<&str>,
) -> Result<Vec<Option<Choice>>, AppError> {
    try_join_all(inputs.iter().map(|seeded| resolve(session, &seeded.input, file))).await
}

/// [`pull`] when it is known what the inputs stand for.
pub(super) async fn pull_chosen(
    session: &Session,
    inputs: &[Seeded],
    chosen: Vec<Option<Choice>>,
) -> Result<Vec<Pulled>, AppError> {
    let wanted: Vec<Wanted> = chosen.iter().flatten().map(|choice| choice.wanted.clone()).collect();
    let mut downloads = match &session.client {
        Some(client) if !wanted.is_empty() => download(client, session, &wanted).await?,
        _ => Vec::new(),
    }
    .into_iter();
    let mut pulled = Vec::with_capacity(inputs.len());
    for (seeded, choice) in inputs.iter().zip(chosen) {
        pulled.push(match (&seeded.input, choice) {
            (Input::File(path), _) => local(seeded, path)?,
            (Input::Artifact(_), Some(choice)) => fetched(seeded, &choice, downloads.next())?,
            (Input::Artifact(name), None) => return Err(AppError::Offline { what: name.to_string() }),
        });
    }
    Ok(pulled)
}

/// The file of a recorded input, when the store has its bytes; `None` for local files and for what is not there.
///
/// # Errors
/// The store failed.
pub(super) fn in_store(session: &Session, record: &InputRecord) -> Result<Option<Pulled>, AppError> {
    let Some(digest) = record.digest.as_deref().and_then(|text| Digest::parse(text).ok()) else { return Ok(None) };
    let found = session.store.find(&digest, record.size)?;
    Ok(found.map(|object| Pulled {
        record: record.clone(),
        path: object.path,
        artifact: None,
        downloaded: false,
        parts: None,
        locked: None,
    }))
}

/// The version an artifact input stands for and the file of it that is meant.
pub(super) struct Choice {
    pub(super) reference: String,
    pub(super) path: String,
    digest: String,
    pub(super) wanted: Wanted,
}

pub(super) async fn resolve(session: &Session, input: &Input, file: Option<&str>) -> Result<Option<Choice>, AppError> {
    let Input::Artifact(name) = input else { return Ok(None) };
    let client = session.online(name)?;
    let name = session.qualify(name).await?;
    let artifact = client.artifact(&name).await.map_err(AppError::wandb(format!("resolve {name}")))?;
    let reading = format!("read the manifest of {}", artifact.name());
    let manifest = client.manifest(&artifact).await.map_err(AppError::wandb(reading))?;
    let path = checkpoint_in(&artifact, &manifest, file)?;
    let digest = manifest.entries.get(&path).map(|entry| entry.digest.clone()).unwrap_or_default();
    let exactly = [globset::escape(&path)];
    let filter = Filter::new(&exactly, &[]).map_err(AppError::wandb("select the checkpoint"))?;
    Ok(Some(Choice { reference: name.to_string(), path, digest, wanted: Wanted { artifact, manifest, filter } }))
}

/// The file of an artifact that holds the weights: the one named, the only one, or the only one with a checkpoint's ending.
fn checkpoint_in(artifact: &Artifact, manifest: &Manifest, file: Option<&str>) -> Result<String, AppError> {
    let unclear = |found: String| AppError::WhichFile { artifact: artifact.name().to_string(), found };
    if let Some(file) = file {
        return match manifest.entries.contains_key(file) {
            true => Ok(file.to_owned()),
            false => Err(unclear(format!("no file `{file}`"))),
        };
    }
    let is_checkpoint = |path: &&String| CHECKPOINT_ENDINGS.iter().any(|ending| path.ends_with(ending));
    let candidates: Vec<&String> = manifest.entries.keys().filter(is_checkpoint).collect();
    match (manifest.entries.len(), candidates.as_slice()) {
        (_, [only]) => Ok((*only).clone()),
        (1, []) => Ok(manifest.entries.keys().next().cloned().unwrap_or_default()),
        (0, _) => Err(unclear("no files".to_owned())),
        (files, []) => Err(unclear(format!("{files} files, none with a checkpoint's ending"))),
        (_, several) => Err(unclear(format!("several checkpoints ({}, …)", several[0]))),
    }
}

async fn download(client: &Client, session: &Session, wanted: &[Wanted]) -> Result<Vec<DownloadedArtifact>, AppError> {
    let options = DownloadOptions::default();
    client.download(&session.store, wanted, &options).await.map_err(AppError::wandb("download the inputs"))
}

fn fetched(seeded: &Seeded, choice: &Choice, download: Option<DownloadedArtifact>) -> Result<Pulled, AppError> {
    let download = download.ok_or(AppError::Worker { what: "the download" })?;
    let missing = || AppError::Offline { what: format!("{} of {}", choice.path, choice.reference) };
    let file = download.files.into_iter().find(|file| file.path == choice.path).ok_or_else(missing)?;
    let artifact = download.artifact;
    let (digest, sha256, size) = (file.object.digest.to_string(), file.object.sha256, file.object.size);
    let record = InputRecord {
        input: seeded.input.to_string(),
        seed: seeded.seed,
        resolved: Some(artifact.name().to_string()),
        artifact_digest: Some(artifact.digest.clone()),
        file: PathBuf::from(&choice.path),
        size,
        digest: Some(digest.clone()),
        sha256: Some(sha256),
        verified: Verified::Whole,
    };
    let locked = LockedArtifact {
        reference: choice.reference.clone(),
        resolved: artifact.name().to_string(),
        digest: artifact.digest.clone(),
        files: vec![LockedFile { path: choice.path.clone(), digest, size, sha256: Some(sha256) }],
    };
    tracing::info!(artifact = %artifact.name(), digest = choice.digest, "verified");
    let downloaded = file.origin == Origin::Network;
    Ok(Pulled {
        record,
        path: file.object.path,
        artifact: Some(artifact),
        downloaded,
        parts: None,
        locked: Some(locked),
    })
}

pub(super) fn local(seeded: &Seeded, path: &Path) -> Result<Pulled, AppError> {
    let path = path.canonicalize().map_err(AppError::file("find", path))?;
    let size = fs::metadata(&path).map_err(AppError::file("read", &path))?.len();
    let record = InputRecord {
        input: seeded.input.to_string(),
        seed: seeded.seed,
        resolved: None,
        artifact_digest: None,
        file: path.clone(),
        size,
        digest: None,
        sha256: None,
        verified: Verified::No,
    };
    Ok(Pulled { record, path, artifact: None, downloaded: false, parts: None, locked: None })
}
