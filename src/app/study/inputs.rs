//! What the references of a study stand for: looked up once, pinned in the study's folder, fetched into the store.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use globset::GlobSet;
use serde::{Deserialize, Serialize};

use crate::app::AppError;
use crate::app::fit_record::InputRecord;
use crate::app::input::{Input, InputError, Seeded};
use crate::app::local::{identify, local};
use crate::app::lock::{LockedArtifact, LockedFile};
use crate::app::parts::{Extent, Wish, pull_parts};
use crate::app::pinned::Pins;
use crate::app::pull::{Pulled, choose};
use crate::app::resolve::{Resolved, all, qualify, versions, with_manifests};
use crate::app::session::Session;
use crate::digest::Digest;
use crate::report::input::Verified;
use crate::store::write_durable;
use crate::study::{self, Found, Inventory, Plan, plan};

use super::compute::layers_wanted;
use super::{Study, StudyError};

/// Name of the file that pins the inputs.
pub(super) const INPUTS_FILE: &str = "inputs.json";

/// What one reference stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pinned {
    #[serde(flatten)]
    found: Found,
    /// Path in the artifact, or on this machine.
    file: PathBuf,
    /// W&B's digest of the artifact; `None` for files.
    artifact_digest: Option<String>,
}

/// A plan with what it rests on.
#[derive(Debug, Clone)]
pub struct Survey {
    /// The plan.
    pub plan: Plan,
    pub(super) pinned: BTreeMap<String, Pinned>,
}

/// Looks up every reference of the study and pins what it finds in the study's folder; offline, artifacts are what was pinned.
///
/// # Errors
/// [`AppError`] when the server cannot be asked, or nothing is pinned. What does not exist is no error: the plan has it.
pub async fn survey(study: &Study) -> Result<Survey, AppError> {
    let references = study.spec.references();
    let pinned = if study.session.client.is_none() && study.files().path(INPUTS_FILE).exists() {
        pinned_offline(study, &references).await?
    } else {
        let found = look_up(&study.session, &references).await?;
        let path = study.files().path(INPUTS_FILE);
        // What other cells of a sweep pinned stays.
        let known = pinned_before(study).ok();
        let mut pinned = known.clone().unwrap_or_default();
        pinned.retain(|reference, _| !references.contains(reference));
        pinned.extend(found);
        if known.as_ref() != Some(&pinned) {
            let reason =
                |error: serde_json::Error| StudyError::Inputs { path: path.clone(), reason: error.to_string() };
            let json = serde_json::to_vec_pretty(&pinned).map_err(reason)?;
            write_durable(&path, &json).map_err(AppError::file("write", &path))?;
        }
        pinned
    };
    over(study, pinned)
}

/// The same without asking the server, where every artifact that the study names was pinned before.
///
/// # Errors
/// As [`survey`], which it is otherwise.
pub async fn survey_pinned(study: &Study) -> Result<Survey, AppError> {
    let known = pinned_before(study).unwrap_or_default();
    let is_known = |reference: &String| known.contains_key(reference) || !is_artifact(reference);
    if !study.spec.references().iter().all(is_known) {
        return survey(study).await;
    }
    let pinned = pinned_offline(study, &study.spec.references()).await?;
    over(study, pinned)
}

/// The plan over what is there.
fn over(study: &Study, pinned: BTreeMap<String, Pinned>) -> Result<Survey, AppError> {
    let mut inventory: Inventory = BTreeMap::new();
    for (reference, pinned) in &pinned {
        let mut found = pinned.found.clone();
        found.cached = pinned.bytes_here(&study.session)?;
        inventory.insert(reference.clone(), found);
    }
    Ok(Survey { plan: plan(&study.spec, &inventory), pinned })
}

fn is_artifact(reference: &str) -> bool {
    matches!(Input::parse(reference), Ok(Input::Artifact(_)))
}

/// Artifacts as they were pinned before; files as they are now, since looking at them takes no network.
async fn pinned_offline(study: &Study, references: &[String]) -> Result<BTreeMap<String, Pinned>, AppError> {
    let mut pinned = pinned_before(study)?;
    pinned.retain(|_, pinned| pinned.artifact_digest.is_some());
    let files: Vec<String> = references.iter().filter(|reference| !is_artifact(reference)).cloned().collect();
    pinned.extend(look_up(&study.session, &files).await?);
    Ok(pinned)
}

/// What was pinned before, as offline shards need it.
fn pinned_before(study: &Study) -> Result<BTreeMap<String, Pinned>, AppError> {
    let path = study.files().path(INPUTS_FILE);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(StudyError::Inputs { path, reason: "there is no such file".to_owned() }.into());
        }
        Err(error) => return Err(AppError::file("read", &path)(error)),
    };
    Ok(serde_json::from_slice(&text).map_err(|error| StudyError::Inputs { path, reason: error.to_string() })?)
}

/// What the references stand for; those that stand for nothing are left out.
async fn look_up(session: &Session, references: &[String]) -> Result<Vec<(String, Pinned)>, AppError> {
    let (mut files, mut asked, mut names) = (Vec::new(), Vec::new(), Vec::new());
    for reference in references {
        match Input::parse(reference) {
            Ok(Input::File(path)) => {
                let path = path.canonicalize().map_err(AppError::file("find", &path))?;
                files.push((reference.clone(), path));
            }
            Ok(Input::Artifact(name)) => {
                asked.push(reference.clone());
                names.push(name);
            }
            Err(InputError::NoFile { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let found = versions(session, qualify(session, &names).await?).await?;
    let told =
        asked.into_iter().zip(with_manifests(session, found).await?).map(|(reference, resolved)| match resolved {
            Ok(resolved) => Ok(Some((reference, pin_artifact(resolved)?))),
            Err(AppError::Wandb { source, .. }) if source.is_not_found() => Ok(None),
            Err(error) => Err(error),
        });
    let mut pinned = pin_files(session, &files).await?;
    pinned.extend(all(told)?.into_iter().flatten());
    Ok(pinned)
}

/// Pins files by what is in them.
async fn pin_files(session: &Session, files: &[(String, PathBuf)]) -> Result<Vec<(String, Pinned)>, AppError> {
    let record = |(reference, path): &(String, PathBuf)| {
        let seeded = Seeded { seed: None, input: Input::File(path.clone()) };
        local(session, &seeded, path).map(|pulled| (reference.clone(), pulled))
    };
    let (references, pulled): (Vec<_>, Vec<_>) =
        files.iter().map(record).collect::<Result<Vec<_>, AppError>>()?.into_iter().unzip();
    let known = match identify(session, pulled.clone()).await {
        Ok(known) => known,
        // One that is no checkpoint is for its cell to tell.
        Err(_) => {
            let mut known = Vec::with_capacity(pulled.len());
            for file in pulled {
                known.push(
                    identify(session, vec![file.clone()]).await.ok().and_then(|mut one| one.pop()).unwrap_or(file),
                );
            }
            known
        }
    };
    let pinned = known.into_iter().map(|Pulled { record, .. }| {
        let version = record.file.display().to_string();
        let digest = record.digest.unwrap_or_else(|| format!("unreadable:{version}:{}", jiff::Timestamp::now()));
        let found = Found { version, digest, bytes: record.size, cached: 0 };
        Pinned { found, file: record.file, artifact_digest: None }
    });
    Ok(references.into_iter().zip(pinned).collect())
}

fn pin_artifact(resolved: Resolved) -> Result<Pinned, AppError> {
    let choice = choose(resolved, None)?;
    let (artifact, manifest) = (&choice.wanted.artifact, &choice.wanted.manifest);
    let entry = manifest.entries.get(&choice.path).map(|entry| (entry.file_digest(), entry.size));
    let Some((Ok(digest), bytes)) = entry else {
        let found = format!("`{}`, whose digest cannot be verified", choice.path);
        return Err(AppError::WhichFile { artifact: choice.reference, found });
    };
    let found = Found { version: artifact.name().to_string(), digest: digest.to_string(), bytes, cached: 0 };
    Ok(Pinned { found, file: PathBuf::from(&choice.path), artifact_digest: Some(artifact.digest.clone()) })
}

impl Survey {
    /// Whether this is a file of the user's, which is in no store.
    pub(super) fn is_file(&self, input: &study::Input) -> bool {
        self.pinned.get(&input.reference).is_some_and(|pinned| pinned.artifact_digest.is_none())
    }
}

impl Pinned {
    /// How many of the bytes are in the store.
    fn bytes_here(&self, session: &Session) -> Result<u64, AppError> {
        if self.in_store(session)?.is_some() {
            return Ok(self.found.bytes);
        }
        let digest = Digest::parse(&self.found.digest).ok();
        Ok(digest.map_or(0, |digest| session.store.bytes_of_parts(&digest, self.found.bytes)))
    }

    /// The record and place of these bytes, when they are on this machine.
    fn in_store(&self, session: &Session) -> Result<Option<crate::store::Object>, AppError> {
        let Ok(digest) = Digest::parse(&self.found.digest) else { return Ok(None) };
        // A reference to another artifact states no size.
        match self.found.bytes {
            0 => Ok(session.store.find_unsized(&digest)?),
            bytes => Ok(session.store.find(&digest, bytes)?),
        }
    }

    fn take_from_store(&self, session: &Session, input: (&str, Option<u64>)) -> Result<Option<Pulled>, AppError> {
        let (reference, seed) = input;
        let Some(artifact_digest) = &self.artifact_digest else {
            let seeded = Seeded { seed, input: Input::File(self.file.clone()) };
            return local(session, &seeded, &self.file).map(Some);
        };
        let Some(object) = self.in_store(session)? else { return Ok(None) };
        let sha256 = session.store.sha256(&object)?;
        let locked = LockedArtifact {
            reference: reference.to_owned(),
            resolved: self.found.version.clone(),
            digest: artifact_digest.clone(),
            files: vec![LockedFile {
                path: self.file.display().to_string(),
                digest: self.found.digest.clone(),
                size: object.size,
                sha256: Some(sha256),
            }],
        };
        let record = InputRecord {
            input: reference.to_owned(),
            seed,
            resolved: Some(self.found.version.clone()),
            artifact_digest: Some(artifact_digest.clone()),
            file: self.file.clone(),
            size: object.size,
            digest: Some(self.found.digest.clone()),
            sha256: Some(sha256),
            verified: Verified::Whole,
        };
        Ok(Some(Pulled {
            record,
            path: object.path,
            artifact: None,
            downloaded: false,
            parts: None,
            scratch: session.store.scratch(),
            locked: Some(locked),
        }))
    }
}

/// Makes these inputs readable, pinned to their versions: from the store without a question, else over the network. Of what
/// is not here as a whole, only the `wanted` layers are fetched where that is cheaper.
pub(super) async fn obtain(
    session: &Session,
    survey: &Survey,
    (inputs, wanted): (&[(&study::Input, Option<u64>)], Option<&GlobSet>),
) -> Result<Vec<Pulled>, AppError> {
    let pinned = |input: &study::Input| {
        let missing = || AppError::Offline { what: input.reference.clone() };
        survey.pinned.get(&input.reference).ok_or_else(missing)
    };
    let mut lacking = Vec::new();
    for (at, (input, seed)) in inputs.iter().enumerate() {
        if pinned(input)?.take_from_store(session, (&input.reference, *seed))?.is_none() {
            lacking.push((at, Seeded { seed: *seed, input: Input::parse(&input.found.version)? }));
        }
    }
    let mut parts = BTreeMap::new();
    if !lacking.is_empty() {
        let asked: Vec<_> = lacking.iter().map(|(_, seeded)| (seeded, None)).collect();
        let layers = wanted.cloned();
        let extent = if layers.is_some() { Extent::Cheaper } else { Extent::Whole };
        let wish = Wish { layers, key: None, extent };
        let had = pull_parts(session, &asked, (&Pins::default(), &wish)).await?;
        parts.extend(lacking.iter().map(|(at, _)| *at).zip(had).filter(|(_, pulled)| pulled.parts.is_some()));
    }
    let mut pulled = Vec::with_capacity(inputs.len());
    for (at, (input, seed)) in inputs.iter().enumerate() {
        let here = match parts.remove(&at) {
            Some(part) => Some(named(part, &input.reference)),
            None => pinned(input)?.take_from_store(session, (&input.reference, *seed))?,
        };
        pulled.push(here.ok_or_else(|| AppError::Offline { what: input.reference.clone() })?);
    }
    identify(session, pulled).await
}

/// As the study names it, not as the version that it was fetched as.
fn named(mut pulled: Pulled, reference: &str) -> Pulled {
    reference.clone_into(&mut pulled.record.input);
    if let Some(locked) = &mut pulled.locked {
        reference.clone_into(&mut locked.reference);
    }
    pulled
}

/// What lists the layers of a checkpoint, without fetching any of them where it is not here as a whole.
pub(super) async fn listing(session: &Session, survey: &Survey, input: &study::Input) -> Result<Pulled, AppError> {
    let none = GlobSet::empty();
    let listed = obtain(session, survey, (&[(input, None)], Some(&none))).await?;
    listed.into_iter().next().ok_or(AppError::Worker { what: "the study" })
}

/// Fetches everything the plan needs, so that its tasks need no network: the layers that the study takes, where they are
/// few, else all.
///
/// # Errors
/// As for a download.
pub async fn prefetch(study: &Study, survey: &Survey) -> Result<(), AppError> {
    survey.plan.check().map_err(StudyError::from)?;
    for cell in &survey.plan.cells {
        let wanted = layers_wanted(study, survey, (&cell.pretrained, None)).await?;
        let inputs: Vec<_> = cell.checkpoints().map(|input| (input, None)).collect();
        obtain(&study.session, survey, (&inputs, wanted.as_ref())).await?;
    }
    Ok(())
}
