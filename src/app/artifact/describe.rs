//! One version: its manifest, its entries, who made it, where it is linked, and how much of it is here already.

use std::collections::BTreeSet;

use crate::app::blocking::run_blocking;
use crate::app::error::AppError;
use crate::app::resolve::resolve;
use crate::app::session::Session;
use crate::store::Store;
use crate::wandb::{Artifact, ArtifactName, Lineage, Manifest};

/// One version with its manifest.
///
/// # Errors
/// [`AppError::Wandb`] naming it.
pub async fn describe(session: &Session, name: &ArtifactName) -> Result<(Artifact, Manifest), AppError> {
    let resolved = resolve(session, std::slice::from_ref(name)).await?.pop();
    let resolved = resolved.ok_or(AppError::Worker { what: "the lookup" })?;
    Ok((resolved.artifact, resolved.manifest))
}

/// Everything about one version.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Description {
    /// The version.
    pub artifact: Artifact,
    /// What it holds.
    pub manifest: Manifest,
    /// Who made it, who used it, where it is linked; nothing when we are offline.
    pub lineage: Option<Lineage>,
    /// How much of it is in the store.
    pub presence: Presence,
}

/// How much of a version is in the store. Objects are counted by name and size; their bytes are not hashed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Presence {
    /// Paths of the entries whose bytes are here.
    pub stored: BTreeSet<String>,
    /// Bytes that a download would fetch; equal files count once.
    pub bytes_to_fetch: u64,
    /// Bytes that the version has in the store; equal files count once.
    pub bytes_stored: u64,
}

/// Everything about one version, in three round trips.
///
/// # Errors
/// [`AppError::Wandb`] naming it.
pub async fn info(session: &Session, name: &ArtifactName) -> Result<Description, AppError> {
    let (artifact, manifest) = describe(session, name).await?;
    let lineage = match &session.client {
        Some(client) => {
            let reading = AppError::wandb(format!("read the lineage of {}", artifact.name()));
            Some(client.lineage(&artifact.id).await.map_err(reading)?)
        }
        None => None,
    };
    let (store, entries) = (session.store.clone(), manifest.clone());
    let presence = run_blocking("looking into the store", move || Ok(presence(&store, &entries))).await?;
    Ok(Description { artifact, manifest, lineage, presence })
}

/// How much of a manifest is in the store. Reads sizes, not bytes.
pub fn presence(store: &Store, manifest: &Manifest) -> Presence {
    let mut presence = Presence::default();
    let mut seen = BTreeSet::new();
    for (path, entry) in manifest.entries.iter().filter(|(_, entry)| entry.reference.is_none()) {
        // What cannot be verified is never taken from the store.
        let object = entry.file_digest().ok().map(|digest| store.object_path(&digest));
        let here = object.as_ref().and_then(|object| std::fs::metadata(object).ok());
        let here = here.is_some_and(|found| found.is_file() && found.len() == entry.size);
        if here {
            presence.stored.insert(path.clone());
        }
        if seen.insert((entry.digest.as_str(), entry.size)) {
            let sum = if here { &mut presence.bytes_stored } else { &mut presence.bytes_to_fetch };
            *sum = sum.saturating_add(entry.size);
        }
    }
    presence
}
