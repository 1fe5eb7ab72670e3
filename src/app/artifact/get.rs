//! Downloads and verifies artifacts and places their files.

use std::path::PathBuf;

use crate::app::blocking::run_blocking;
use crate::app::error::AppError;
use crate::app::lock::{Lock, LockedArtifact, LockedFile};
use crate::app::pinned::{LockMode, Pins, resolve_pinned};
use crate::app::pull::know_sha256;
use crate::app::resolve::{Resolved, obtain};
use crate::app::roots;
use crate::app::session::Session;
use crate::store::{Store, can_share_blocks};
use crate::wandb::{
    Artifact, ArtifactName, DownloadOptions, DownloadedArtifact, Filter, LinkMode, Origin, Placed, Proof, Wanted,
    export,
};

/// Where the files of an artifact go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Nowhere: they stay in the store.
    Store,
    /// `<collection>:<version>` of each artifact, in the session's folder for them.
    Default,
    /// This folder.
    Folder(PathBuf),
}

impl Destination {
    fn folder(&self, session: &Session, artifact: &Artifact) -> Option<PathBuf> {
        match self {
            Self::Store => None,
            Self::Folder(folder) => Some(folder.clone()),
            Self::Default => Some(default_folder(session, artifact)),
        }
    }
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
    /// Which files.
    pub filter: Filter,
    /// How to download.
    pub download: DownloadOptions,
}

impl GetOptions {
    /// Everything else by default.
    pub fn new(to: Destination) -> Self {
        let (link, filter, download) = (LinkMode::default(), Filter::all(), DownloadOptions::default());
        Self { to, link, lock: None, filter, download }
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
    /// References to nothing that were left out, with the reason.
    pub missing: Vec<(String, String)>,
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
    /// What its bytes were checked against.
    pub proof: Proof,
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
    // Once all files are had, every name was resolved.
    let references: Vec<String> = resolved.iter().flatten().map(|resolved| resolved.asked.to_string()).collect();
    let wanted = |resolved: Resolved| {
        let (artifact, manifest) = (resolved.artifact, resolved.manifest);
        Wanted { artifact, manifest, filter: options.filter.clone() }
    };
    let wanted: Vec<_> = resolved.into_iter().map(|resolved| resolved.map(wanted)).collect();
    let how = options.download.clone().with_copies(copies(session, wanted.iter().flatten(), options));
    let downloads = obtain(session, wanted, &how).await?;
    if let Some((path, _)) = &options.lock {
        know_sha256(session, &downloads).await?;
        let store = &session.store;
        let artifacts = references.into_iter().zip(&downloads).map(|(reference, got)| locked(store, reference, got));
        let now = Lock::new(artifacts.collect::<Result<_, _>>()?);
        now.artifacts.iter().try_for_each(|artifact| pins.check(artifact))?;
        let lock = pins.lock().cloned().unwrap_or_else(|| Lock::new(Vec::new())).merged(&now);
        lock.write(path)?;
        roots::register(&session.store, path)?;
    }
    let mut got = Vec::with_capacity(downloads.len());
    for download in downloads {
        let folder = options.to.folder(session, &download.artifact);
        let link = options.link;
        got.push(run_blocking("placing files", move || place(download, folder, link)).await?);
    }
    Ok(got)
}

/// The folders that will hold a second copy of the bytes.
fn copies<'a>(session: &Session, wanted: impl Iterator<Item = &'a Wanted>, options: &GetOptions) -> Vec<PathBuf> {
    let folders: Vec<_> = wanted.filter_map(|wanted| options.to.folder(session, &wanted.artifact)).collect();
    let copied = match options.link {
        LinkMode::Copy => true,
        LinkMode::Auto => folders.first().is_some_and(|folder| !can_share_blocks(session.store.root(), folder)),
        _ => false,
    };
    if copied { folders } else { Vec::new() }
}

/// Where the files of a version go when nobody says.
pub(super) fn default_folder(session: &Session, artifact: &Artifact) -> PathBuf {
    session.artifact_dir.join(format!("{}:{}", artifact.collection, artifact.version))
}

fn locked(store: &Store, reference: String, got: &DownloadedArtifact) -> Result<LockedArtifact, AppError> {
    let mut files = Vec::with_capacity(got.files.len());
    for file in &got.files {
        let (path, digest) = (file.path.clone(), file.name_in_store());
        files.push(LockedFile { path, digest, size: file.object.size, sha256: Some(store.sha256(&file.object)?) });
    }
    let (resolved, digest) = (got.artifact.name().to_string(), got.artifact.digest.clone());
    Ok(LockedArtifact { reference, resolved, digest, files })
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
        let (size, proof) = (file.object.size, file.proof);
        GotFile { path: file.path, place, size, downloaded, placed: placed.next(), proof }
    });
    Ok(Got { files: files.collect(), missing: download.missing, artifact: download.artifact, folder })
}
