//! Inputs held to a lock: what the lock has is used as locked, what it lacks is resolved anew, and what moved meanwhile is
//! told or refused.

use std::path::Path;

use crate::wandb::{ArtifactName, QualifiedName};

use super::error::AppError;
use super::lock::{Lock, LockError, LockedArtifact};
use super::resolve::{Resolved, Version, qualify, versions, with_manifests};
use super::session::Session;

/// What to do with a lock that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LockMode {
    /// Take what it has; resolve and add what it lacks. A name that stands for something else by now is told.
    #[default]
    Keep,
    /// Take what it has; refuse what it lacks and what stands for something else by now.
    Locked,
    /// Resolve everything anew.
    Update,
}

/// A lock and how closely to hold to it.
#[derive(Debug, Clone, Default)]
pub(super) struct Pins {
    lock: Option<Lock>,
    mode: LockMode,
}

impl Pins {
    /// The pins of the lock at `path`.
    pub(super) fn read(path: &Path, mode: LockMode) -> Result<Self, LockError> {
        let lock = Lock::read(path)?;
        match (mode, &lock) {
            (LockMode::Locked, None) => Err(LockError::Missing { path: path.to_owned() }),
            _ => Ok(Self { lock, mode }),
        }
    }

    /// The lock as it was read.
    pub(super) fn lock(&self) -> Option<&Lock> {
        self.lock.as_ref()
    }

    fn entry(&self, name: &QualifiedName) -> Option<&LockedArtifact> {
        let lock = self.lock.as_ref().filter(|_| self.mode != LockMode::Update)?;
        lock.entry(&name.to_string())
    }

    /// Holds files that were read to what the lock has for the same version: a path that it has must have the same bytes.
    pub(super) fn check(&self, now: &LockedArtifact) -> Result<(), LockError> {
        let lock = self.lock.as_ref().filter(|_| self.mode != LockMode::Update);
        let Some(entry) = lock.and_then(|lock| lock.entry(&now.reference)) else { return Ok(()) };
        for file in &now.files {
            let drift = |locked: String| LockError::Drift {
                reference: format!("{} of {}", file.path, now.reference),
                locked,
                found: file.to_string(),
            };
            match entry.files.iter().find(|locked| locked.path == file.path) {
                Some(locked) if !locked.agrees(file) => return Err(drift(locked.to_string())),
                None if self.mode == LockMode::Locked => return Err(drift("nothing for it".to_owned())),
                _ => {}
            }
        }
        Ok(())
    }
}

/// What every name stands for, in their order: as locked, or as the server says. What is wrong with one name is in its
/// place.
///
/// # Errors
/// [`LockError::Drift`] as the mode says, and what concerns all names.
pub(super) async fn resolve_pinned(
    session: &Session,
    names: &[ArtifactName],
    pins: &Pins,
) -> Result<Vec<Result<Resolved, AppError>>, AppError> {
    let names = qualify(session, names).await?;
    let mut asked = Vec::with_capacity(names.len());
    let mut moved = Vec::new();
    for name in &names {
        match pins.entry(name) {
            None if pins.mode == LockMode::Locked => return Err(missing(name).into()),
            None => asked.push(name.clone()),
            Some(entry) => {
                let pinned = version_of(entry)?;
                if session.client.is_some() && pinned != *name {
                    moved.push(name.clone());
                }
                asked.push(pinned);
            }
        }
    }
    // One question for what is used and for what the names stand for by now.
    let mut found = versions(session, asked.into_iter().chain(moved).collect()).await?;
    let now = found.split_off(names.len());
    for (name, now) in &now {
        tell_moved(session, pins, name, now.as_ref().ok().map(|artifact| artifact.name()))?;
    }
    let named: Vec<Version> = names.into_iter().zip(found).map(|(name, (_, found))| (name, found)).collect();
    let resolved = with_manifests(session, named).await?;
    for resolved in resolved.iter().flatten() {
        if let Some(entry) = pins.entry(&resolved.asked).filter(|entry| entry.digest != resolved.artifact.digest) {
            let found = format!("{} with digest {}", resolved.artifact.name(), resolved.artifact.digest);
            return Err(LockError::drift(&entry.reference, Some(entry), found).into());
        }
    }
    Ok(resolved)
}

fn version_of(entry: &LockedArtifact) -> Result<QualifiedName, AppError> {
    let reading = || AppError::wandb("read the lock");
    let name = ArtifactName::parse(&entry.resolved).map_err(reading())?;
    name.with_defaults(None, None).map_err(reading())
}

fn missing(name: &QualifiedName) -> LockError {
    LockError::drift(&name.to_string(), None, "wanted".to_owned())
}

/// A name that stands for another version than the locked one, or for none.
fn tell_moved(
    session: &Session,
    pins: &Pins,
    name: &QualifiedName,
    now: Option<QualifiedName>,
) -> Result<(), AppError> {
    let Some(entry) = pins.entry(name) else { return Ok(()) };
    let now = now.map_or_else(|| "gone".to_owned(), |now| now.to_string());
    if now == entry.resolved {
        return Ok(());
    }
    if pins.mode == LockMode::Locked {
        return Err(LockError::drift(&entry.reference, Some(entry), now).into());
    }
    session.progress.note(&format!("{name} is {now} by now; the lock keeps {}", entry.resolved));
    Ok(())
}
