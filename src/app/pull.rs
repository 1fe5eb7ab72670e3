//! From inputs to files on this machine: resolve, pin, download, verify. Local files pass through.

use std::path::PathBuf;

use rayon::prelude::*;

use crate::digest::Digest;
use crate::report::input::Verified;
use crate::store::EtagKey;
use crate::wandb::{Artifact, DownloadOptions, DownloadedArtifact, Filter, Manifest, Origin, Wanted};

use super::blocking::run_blocking;
use super::error::AppError;
use super::fit_record::InputRecord;
use super::input::{Input, Seeded};
use super::local::local;
use super::lock::{LockedArtifact, LockedFile};
use super::parts::Parts;
use super::pinned::{Pins, resolve_pinned};
use super::resolve::{Resolved, obtain};
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
    /// Where an inflated copy may lie while it is read.
    pub(super) scratch: PathBuf,
    pub(super) locked: Option<LockedArtifact>,
}

/// Makes every input readable: all artifacts are resolved at the same time, then their files downloaded in one plan.
/// `file` names the checkpoint in artifacts that hold several files.
///
/// # Errors
/// [`AppError`] naming the first input that could not be had; offline, all that the store lacks.
pub async fn pull(session: &Session, inputs: &[Seeded], file: Option<&str>) -> Result<Vec<Pulled>, AppError> {
    let inputs: Vec<_> = inputs.iter().map(|seeded| (seeded, file)).collect();
    pull_pinned(session, &inputs, &Pins::default()).await
}

/// [`pull`] with a file for each input, held to a lock.
pub(super) async fn pull_pinned(
    session: &Session,
    inputs: &[(&Seeded, Option<&str>)],
    pins: &Pins,
) -> Result<Vec<Pulled>, AppError> {
    let choices = choose_pinned(session, inputs, pins).await?;
    let inputs: Vec<&Seeded> = inputs.iter().map(|(seeded, _)| *seeded).collect();
    pull_chosen(session, (&inputs, choices), pins).await
}

/// What the artifacts among the inputs stand for, in their order, and which of their files are meant.
pub(super) async fn choose_pinned(
    session: &Session,
    inputs: &[(&Seeded, Option<&str>)],
    pins: &Pins,
) -> Result<Vec<Result<Choice, AppError>>, AppError> {
    let of_artifact = |(seeded, file): &(&Seeded, Option<&str>)| match &seeded.input {
        Input::Artifact(name) => Some((name.clone(), file.map(str::to_owned))),
        Input::File(_) => None,
    };
    let (names, files): (Vec<_>, Vec<_>) = inputs.iter().filter_map(of_artifact).unzip();
    let resolved = resolve_pinned(session, &names, pins).await?;
    Ok(resolved.into_iter().zip(files).map(|(resolved, file)| choose(resolved?, file.as_deref())).collect())
}

/// Makes inputs readable of which it is known what the artifacts among them stand for, or why that is not known.
pub(super) async fn pull_chosen(
    session: &Session,
    (inputs, choices): (&[&Seeded], Vec<Result<Choice, AppError>>),
    pins: &Pins,
) -> Result<Vec<Pulled>, AppError> {
    // Once all files are had, every name was resolved.
    let chosen: Vec<_> =
        choices.iter().flatten().map(|choice| (choice.reference.clone(), choice.path.clone())).collect();
    let wanted = choices.into_iter().map(|choice| choice.map(|choice| choice.wanted)).collect();
    let downloads = obtain(session, wanted, &DownloadOptions::default()).await?;
    know_sha256(session, &downloads).await?;
    let mut got = chosen.into_iter().zip(downloads);
    let mut pulled = Vec::with_capacity(inputs.len());
    for &seeded in inputs {
        let one = match &seeded.input {
            Input::File(path) => local(session, seeded, path)?,
            Input::Artifact(_) => {
                let (chosen, download) = got.next().ok_or(AppError::Worker { what: "the download" })?;
                fetched(session, (seeded, chosen), download)?
            }
        };
        if let Some(locked) = &one.locked {
            pins.check(locked)?;
        }
        pulled.push(one);
    }
    Ok(pulled)
}

/// The file of a recorded input, when the store has its bytes; `None` for local files and for what is not there.
///
/// # Errors
/// The store failed.
pub(super) fn in_store(session: &Session, record: &InputRecord) -> Result<Option<Pulled>, AppError> {
    let Some(text) = record.digest.as_deref().filter(|_| record.resolved.is_some()) else { return Ok(None) };
    let found = match (Digest::parse(text), EtagKey::parse(text)) {
        (Ok(digest), _) => session.store.find(&digest, record.size)?,
        (_, Ok(key)) => session.store.find_etag(&key, Some(record.size))?,
        _ => None,
    };
    Ok(found.map(|object| Pulled {
        record: record.clone(),
        path: object.path,
        artifact: None,
        downloaded: false,
        parts: None,
        scratch: session.store.scratch(),
        locked: None,
    }))
}

/// The version an artifact input stands for and the file of it that is meant.
pub(super) struct Choice {
    pub(super) reference: String,
    pub(super) path: String,
    pub(super) wanted: Wanted,
}

/// Decides which file of a version is meant.
pub(super) fn choose(resolved: Resolved, file: Option<&str>) -> Result<Choice, AppError> {
    let Resolved { asked, artifact, manifest } = resolved;
    let path = checkpoint_in(&artifact, &manifest, file)?;
    let exactly = [globset::escape(&path)];
    let filter = Filter::new(&exactly, &[]).map_err(AppError::wandb("select the checkpoint"))?;
    Ok(Choice { reference: asked.to_string(), path, wanted: Wanted { artifact, manifest, filter } })
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

/// Brings the SHA-256 of all files into the store's memory, on all cores.
pub(super) async fn know_sha256(session: &Session, downloads: &[DownloadedArtifact]) -> Result<(), AppError> {
    let objects: Vec<_> =
        downloads.iter().flat_map(|artifact| &artifact.files).map(|file| file.object.clone()).collect();
    let store = session.store.clone();
    let work = move || objects.par_iter().try_for_each(|object| store.sha256(object).map(drop)).map_err(AppError::from);
    run_blocking("hashing the inputs", work).await
}

fn fetched(
    session: &Session,
    (seeded, (reference, path)): (&Seeded, (String, String)),
    download: DownloadedArtifact,
) -> Result<Pulled, AppError> {
    let missing = || AppError::Offline { what: format!("{path} of {reference}") };
    let file = download.files.into_iter().find(|file| file.path == path).ok_or_else(missing)?;
    let artifact = download.artifact;
    let (digest, size) = (file.name_in_store(), file.object.size);
    let sha256 = session.store.sha256(&file.object)?;
    let record = InputRecord {
        input: seeded.input.to_string(),
        seed: seeded.seed,
        resolved: Some(artifact.name().to_string()),
        artifact_digest: Some(artifact.digest.clone()),
        file: PathBuf::from(&path),
        size,
        digest: Some(digest.clone()),
        sha256: Some(sha256),
        verified: if file.proof.is_verified() { Verified::Whole } else { Verified::No },
    };
    let locked = LockedArtifact {
        reference,
        resolved: artifact.name().to_string(),
        digest: artifact.digest.clone(),
        files: vec![LockedFile { path: path.clone(), digest, size, sha256: Some(sha256) }],
    };
    tracing::info!(artifact = %artifact.name(), path, "verified");
    let downloaded = file.origin == Origin::Network;
    Ok(Pulled {
        record,
        path: file.object.path,
        artifact: Some(artifact),
        downloaded,
        parts: None,
        scratch: session.store.scratch(),
        locked: Some(locked),
    })
}
