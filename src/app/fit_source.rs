//! A fit that the user points at: a folder, or an artifact of type `pca` that is had first.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::wandb::{Artifact, ArtifactName, Filter};

use super::artifact::{Destination, GetOptions, GotFile, get};
use super::error::AppError;
use super::fit_folder::{Fit, GRAM_FILE, RECORD_FILE};
use super::input::{Input, InputError};
use super::lock::LOCK_FILE;
use super::session::Session;

/// Where a fit is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FitSource {
    /// A folder on this machine.
    Folder(PathBuf),
    /// An artifact of type `pca`.
    Artifact(ArtifactName),
}

impl FitSource {
    /// A folder where one exists, otherwise an artifact name.
    ///
    /// # Errors
    /// [`InputError`] saying why it is neither.
    pub fn parse(text: &str) -> Result<Self, InputError> {
        Ok(match Input::parse(text)? {
            Input::File(path) => Self::Folder(path),
            Input::Artifact(name) => Self::Artifact(name),
        })
    }
}

impl fmt::Display for FitSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::Artifact(name) => write!(f, "{name}"),
        }
    }
}

/// A fit, and the artifact version that it came from.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OpenedFit {
    /// The fit.
    pub fit: Fit,
    /// The version, for artifacts.
    pub artifact: Option<Artifact>,
}

/// Reads fits; those that are artifacts are downloaded to the store first, all in one plan.
///
/// # Errors
/// [`AppError::NotAFit`] naming the folder or artifact, and those of getting artifacts.
pub async fn open_fits(session: &Session, sources: &[FitSource]) -> Result<Vec<OpenedFit>, AppError> {
    let names = sources.iter().filter_map(|source| match source {
        FitSource::Artifact(name) => Some(name.clone()),
        FitSource::Folder(_) => None,
    });
    let names: Vec<ArtifactName> = names.collect();
    let mut got = match names.is_empty() {
        true => Vec::new().into_iter(),
        false => {
            let mut options = GetOptions::new(Destination::Store);
            let files = [RECORD_FILE, GRAM_FILE, LOCK_FILE].map(str::to_owned);
            options.filter = Filter::new(&files, &[]).map_err(AppError::wandb("select the files of the fits"))?;
            get(session, &names, &options).await?.into_iter()
        }
    };
    let mut opened = Vec::with_capacity(sources.len());
    for source in sources {
        opened.push(match source {
            FitSource::Folder(folder) => OpenedFit { fit: Fit::read(folder)?, artifact: None },
            FitSource::Artifact(_) => {
                let got = got.next().ok_or(AppError::Worker { what: "the download" })?;
                let fit = from_store(&got.artifact, &got.files)?;
                OpenedFit { fit, artifact: Some(got.artifact) }
            }
        });
    }
    Ok(opened)
}

/// The fit in an artifact whose files are in the store.
fn from_store(artifact: &Artifact, files: &[GotFile]) -> Result<Fit, AppError> {
    let name = PathBuf::from(artifact.name().to_string());
    let place = |path: &str| files.iter().find(|file| file.path == path).map(|file| file.place.as_path());
    let need = |path: &str| -> Result<&Path, AppError> {
        let reason = || format!("it is of type {} and has no {path}", artifact.artifact_type);
        place(path).ok_or_else(|| AppError::NotAFit { path: name.clone(), reason: reason() })
    };
    Fit::read_files((&name, need(RECORD_FILE)?), need(GRAM_FILE)?, place(LOCK_FILE))
}
