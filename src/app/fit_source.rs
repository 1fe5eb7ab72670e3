//! A fit or comparison that the user points at: a folder, or an artifact of type `pca` or `comparison` that is had first.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::wandb::{Artifact, ArtifactName, Filter};

use super::artifact::{Destination, GetOptions, Got, GotFile, get};
use super::comparison::{COMPARE_FILE, Comparison};
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
    /// An artifact of type `pca`, or `comparison` where one may be meant.
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

/// A fit or a comparison of fits.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum OpenedResult {
    /// A fit.
    Fit(Box<OpenedFit>),
    /// A comparison.
    Comparison(Box<Comparison>),
}

/// Reads fits; those that are artifacts are downloaded to the store first, all in one plan.
///
/// # Errors
/// [`AppError::NotAFit`] naming the folder or artifact, and those of getting artifacts.
pub async fn open_fits(session: &Session, sources: &[FitSource]) -> Result<Vec<OpenedFit>, AppError> {
    let fetched = fetch(session, sources, &[RECORD_FILE, GRAM_FILE, LOCK_FILE]).await?;
    sources.iter().zip(&fetched).map(|(source, got)| open_fit(source, got.as_ref())).collect()
}

/// The same for fits and comparisons, whichever each of them is.
///
/// # Errors
/// As [`open_fits`], and [`AppError::NotAComparison`].
pub async fn open_results(session: &Session, sources: &[FitSource]) -> Result<Vec<OpenedResult>, AppError> {
    let fetched = fetch(session, sources, &[RECORD_FILE, GRAM_FILE, LOCK_FILE, COMPARE_FILE]).await?;
    let open = |(source, got): (&FitSource, &Option<Got>)| {
        let comparison = match (source, got) {
            (FitSource::Folder(folder), _) => Comparison::is_in(folder).then(|| Comparison::read(folder)),
            (FitSource::Artifact(_), Some(got)) => comparison_in_store(&got.artifact, &got.files),
            (FitSource::Artifact(_), None) => None,
        };
        Ok(match comparison.transpose()? {
            Some(comparison) => OpenedResult::Comparison(Box::new(comparison)),
            None => OpenedResult::Fit(Box::new(open_fit(source, got.as_ref())?)),
        })
    };
    sources.iter().zip(&fetched).map(open).collect()
}

/// These files of the sources that are artifacts, for each source in order.
async fn fetch(session: &Session, sources: &[FitSource], files: &[&str]) -> Result<Vec<Option<Got>>, AppError> {
    let names = sources.iter().filter_map(|source| match source {
        FitSource::Artifact(name) => Some(name.clone()),
        FitSource::Folder(_) => None,
    });
    let names: Vec<ArtifactName> = names.collect();
    let mut got = match names.is_empty() {
        true => Vec::new().into_iter(),
        false => {
            let mut options = GetOptions::new(Destination::Store);
            let files: Vec<String> = files.iter().map(|&file| file.to_owned()).collect();
            options.filter = Filter::new(&files, &[]).map_err(AppError::wandb("select the files of the fits"))?;
            get(session, &names, &options).await?.into_iter()
        }
    };
    let of_source = |source: &FitSource| match source {
        FitSource::Folder(_) => Ok(None),
        FitSource::Artifact(_) => got.next().map(Some).ok_or(AppError::Worker { what: "the download" }),
    };
    sources.iter().map(of_source).collect()
}

fn open_fit(source: &FitSource, got: Option<&Got>) -> Result<OpenedFit, AppError> {
    match (source, got) {
        (FitSource::Folder(folder), _) => Ok(OpenedFit { fit: Fit::read(folder)?, artifact: None }),
        (FitSource::Artifact(_), Some(got)) => {
            let fit = fit_in_store(&got.artifact, &got.files)?;
            Ok(OpenedFit { fit, artifact: Some(got.artifact.clone()) })
        }
        (FitSource::Artifact(_), None) => Err(AppError::Worker { what: "the download" }),
    }
}

/// The fit in an artifact whose files are in the store.
fn fit_in_store(artifact: &Artifact, files: &[GotFile]) -> Result<Fit, AppError> {
    let name = PathBuf::from(artifact.name().to_string());
    let need = |path: &str| -> Result<&Path, AppError> {
        let reason = || format!("it is of type {} and has no {path}", artifact.artifact_type);
        place(files, path).ok_or_else(|| AppError::NotAFit { path: name.clone(), reason: reason() })
    };
    Fit::read_files((&name, need(RECORD_FILE)?), need(GRAM_FILE)?, place(files, LOCK_FILE))
}

/// The comparison in an artifact whose files are in the store, when it is one.
fn comparison_in_store(artifact: &Artifact, files: &[GotFile]) -> Option<Result<Comparison, AppError>> {
    let (record, gram) = (place(files, COMPARE_FILE)?, place(files, GRAM_FILE)?);
    Some(Comparison::read_files((Path::new(&artifact.name().to_string()), record), gram))
}

fn place<'f>(files: &'f [GotFile], path: &str) -> Option<&'f Path> {
    files.iter().find(|file| file.path == path).map(|file| file.place.as_path())
}
