//! Downloads and verifies artifacts and places their files.

use std::path::PathBuf;

use crate::app::blocking::run_blocking;
use crate::app::error::AppError;
use crate::app::session::Session;
use crate::wandb::{
    Artifact, ArtifactName, DownloadOptions, DownloadedArtifact, LinkMode, Origin, Proof, Wanted, export,
};

use super::describe::describe;

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

/// An artifact that was got.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Got {
    /// The version.
    pub artifact: Artifact,
    /// Where its files are: a folder, or `None` when they stay in the store.
    pub folder: Option<PathBuf>,
    /// Its files: path in the artifact, place on this machine, size, whether it came over the network now.
    pub files: Vec<(String, PathBuf, u64, bool)>,
    /// Those of its files whose bytes no digest proves, with what they were checked against.
    pub unverified: Vec<(String, Proof)>,
}

/// Downloads and verifies artifacts, all files in one plan, and places them.
///
/// # Errors
/// [`AppError`] naming the artifact or file; what was downloaded until then stays in the store.
pub async fn get(session: &Session, names: &[ArtifactName], to: &Destination) -> Result<Vec<Got>, AppError> {
    let wanted = futures_util::future::try_join_all(names.iter().map(async |name| {
        let (artifact, manifest) = describe(session, name).await?;
        Ok::<_, AppError>(Wanted::all(artifact, manifest))
    }))
    .await?;
    let client = session.online("an artifact")?;
    let downloads = client.download(&session.store, &wanted, &DownloadOptions::default()).await;
    let downloads = downloads.map_err(AppError::wandb("download"))?;
    let mut got = Vec::with_capacity(downloads.len());
    for download in downloads {
        let folder = match to {
            Destination::Store => None,
            Destination::Folder(folder) => Some(folder.clone()),
            Destination::Default => Some(
                PathBuf::from("artifacts")
                    .join(format!("{}:{}", download.artifact.collection, download.artifact.version)),
            ),
        };
        got.push(run_blocking("placing files", move || place(download, folder)).await?);
    }
    Ok(got)
}

fn place(download: DownloadedArtifact, folder: Option<PathBuf>) -> Result<Got, AppError> {
    let name = download.artifact.name().to_string();
    if let Some(folder) = &folder {
        let files: Vec<_> = download.files.iter().map(|file| (file.path.as_str(), &file.object)).collect();
        export(&name, &files, folder, LinkMode::Copy).map_err(AppError::wandb(format!("place the files of {name}")))?;
    }
    let unverified = download.files.iter().filter(|file| !file.proof.is_verified());
    let unverified = unverified.map(|file| (file.path.clone(), file.proof)).collect();
    let files = download.files.into_iter().map(|file| {
        let place = folder.as_ref().map_or_else(|| file.object.path.clone(), |folder| folder.join(&file.path));
        (file.path, place, file.object.size, file.origin == Origin::Network)
    });
    Ok(Got { files: files.collect(), unverified, artifact: download.artifact, folder })
}
