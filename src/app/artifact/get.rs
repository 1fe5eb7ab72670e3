//! Downloads and verifies artifacts and places their files.

use std::path::PathBuf;

use crate::app::blocking::run_blocking;
use crate::app::error::AppError;
use crate::app::lock::{Lock, LockedArtifact, LockedFile};
use crate::app::pinned::{LockMode, Pins, resolve_pinned};
use crate::app::resolve::obtain;
use crate::app::roots;
use crate::app::session::Session;
use crate::wandb::{Artifact, ArtifactName, DownloadedArtifact, LinkMode, Origin, Placed, Wanted, export};

/// Where the files of an artifact go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Nowhere: they stay in the store.
    Store,
    /// `./artifacts/<collection>:<version>` of each artifact.
    Default,
    /// This folder.
    Folder(PathBuf),
}

/// How to get artifacts.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct GetOptions {
    /// Where the files go.
    pub to: Destination,
    /// How they get there from the store.
    pub link: LinkMode,
    /// The lock to hold to and to write, and how closely.
    pub lock: Option<(PathBuf, LockMode)>,
}

impl GetOptions {
    /// Everything else by default.
    pub fn new(to: Destination) -> Self {
        Self { to, link: LinkMode::default(), lock: None }
    }
}

/// An artifact that was got.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Got {
    /// The version.
    pub artifact: Artifact,
    /// Where its files are: a folder, or `None` when they stay in the store.
    pub folder: Option<PathBuf>,
    /// Its files.
    pub files: Vec<GotFile>,
}

/// A file of an artifact that was got.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GotFile {
    /// Path in the artifact.
    pub path: String,
    /// Where it is on this machine.
    pub place: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Whether it came over the network now.
    pub downloaded: bool,
    /// How it got to its place; `None` when it stays in the store.
    pub placed: Option<Placed>,
}

/// Downloads and verifies artifacts, all files in one plan, and places them.
///
/// # Errors
/// [`AppError`] naming the artifact or file; what was downloaded until then stays in the store.
pub async fn get(session: &Session, names: &[ArtifactName], options: &GetOptions) -> Result<Vec<Got>, AppError> {
    let pins = match &options.lock {
        Some((path, mode)) => Pins::read(path, *mode)?,
        None => Pins::default(),
    };
    let resolved = resolve_pinned(session, names, &pins).await?;
    let references: Vec<String> = resolved.iter().map(|resolved| resolved.asked.to_string()).collect();
    let wanted = resolved.into_iter().map(|resolved| Wanted::all(resolved.artifact, resolved.manifest));
    let downloads = obtain(session, wanted.collect()).await?;
    if let Some((path, _)) = &options.lock {
        let artifacts = references.into_iter().zip(&downloads).map(|(reference, got)| locked(reference, got));
        let now = Lock::new(artifacts.collect());
        now.artifacts.iter().try_for_each(|artifact| pins.check(artifact))?;
        let lock = pins.lock().cloned().unwrap_or_else(|| Lock::new(Vec::new())).merged(&now);
        lock.write(path)?;
        roots::register(&session.store, path)?;
    }
    let mut got = Vec::with_capacity(downloads.len());
    for download in downloads {
        let folder = match &options.to {
            Destination::Store => None,
            Destination::Folder(folder) => Some(folder.clone()),
            Destination::Default => Some(
                PathBuf::from("artifacts")
                    .join(format!("{}:{}", download.artifact.collection, download.artifact.version)),
            ),
        };
        let link = options.link;
        got.push(run_blocking("placing files", move || place(download, folder, link)).await?);
    }
    Ok(got)
}

fn locked(reference: String, got: &DownloadedArtifact) -> LockedArtifact {
    let file = |file: &crate::wandb::DownloadedFile| LockedFile {
        path: file.path.clone(),
        digest: file.object.digest.to_string(),
        size: file.object.size,
        sha256: file.object.sha256,
    };
    let files = got.files.iter().map(file).collect();
    let (resolved, digest) = (got.artifact.name().to_string(), got.artifact.digest.clone());
    LockedArtifact { reference, resolved, digest, files }
}

fn place(download: DownloadedArtifact, folder: Option<PathBuf>, link: LinkMode) -> Result<Got, AppError> {
    let name = download.artifact.name().to_string();
    let placed = match &folder {
        None => Vec::new(),
        Some(folder) => {
            let files: Vec<_> = download.files.iter().map(|file| (file.path.as_str(), &file.object)).collect();
            export(&name, &files, folder, link).map_err(AppError::wandb(format!("place the files of {name}")))?
        }
    };
    let mut placed = placed.into_iter();
    let files = download.files.into_iter().map(|file| {
        let place = folder.as_ref().map_or_else(|| file.object.path.clone(), |folder| folder.join(&file.path));
        let downloaded = file.origin == Origin::Network;
        GotFile { path: file.path, place, size: file.object.size, downloaded, placed: placed.next() }
    });
    Ok(Got { files: files.collect(), artifact: download.artifact, folder })
}
