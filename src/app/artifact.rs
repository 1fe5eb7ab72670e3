//! Artifacts as such: get, put, list, describe.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::table::{ColumnKind, Table};
use crate::wandb::{
    Artifact, ArtifactDraft, ArtifactName, Client, DownloadOptions, Entry, LinkMode, Manifest, Origin, QualifiedName,
    RunOptions, Wanted, export,
};

use super::blocking::run_blocking;
use super::error::AppError;
use super::session::Session;

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

fn place(download: crate::wandb::DownloadedArtifact, folder: Option<PathBuf>) -> Result<Got, AppError> {
    let name = download.artifact.name().to_string();
    if let Some(folder) = &folder {
        let files: Vec<_> = download.files.iter().map(|file| (file.path.as_str(), &file.object)).collect();
        export(&name, &files, folder, LinkMode::Copy).map_err(AppError::wandb(format!("place the files of {name}")))?;
    }
    let files = download.files.into_iter().map(|file| {
        let place = folder.as_ref().map_or_else(|| file.object.path.clone(), |folder| folder.join(&file.path));
        (file.path, place, file.object.size, file.origin == Origin::Network)
    });
    Ok(Got { files: files.collect(), artifact: download.artifact, folder })
}

/// What to upload.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PutOptions {
    /// A file or folder.
    pub path: PathBuf,
    /// The collection; its alias is not used.
    pub name: ArtifactName,
    /// Type of the artifact.
    pub artifact_type: String,
    /// Aliases besides `latest`.
    pub aliases: Vec<String>,
    /// Description.
    pub description: Option<String>,
    /// Metadata.
    pub metadata: Map<String, Value>,
}

impl PutOptions {
    /// A file or folder as a new version of a collection.
    pub fn new(path: impl Into<PathBuf>, name: ArtifactName, artifact_type: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            name,
            artifact_type: artifact_type.into(),
            aliases: Vec::new(),
            description: None,
            metadata: Map::new(),
        }
    }
}

/// Uploads a file or folder as a new version, inside a run of its own, as W&B wants it.
///
/// # Errors
/// [`AppError`] naming the file or the collection; no version is committed then.
pub async fn put(session: &Session, options: &PutOptions) -> Result<Artifact, AppError> {
    let client = session.online(&options.name)?;
    let name = session.qualify(&options.name).await?;
    let draft = draft(options, &name)?;
    upload(client, &name, &draft).await
}

/// Logs one draft in a run of its own.
async fn upload(client: &Client, name: &QualifiedName, draft: &ArtifactDraft) -> Result<Artifact, AppError> {
    let run = RunOptions::new(name.project.clone())
        .with_entity(Some(name.entity.clone()))
        .with_job_type(Some("artifact-put".to_owned()));
    let run = client.start_run(run).await.map_err(AppError::wandb(format!("start a run in {}", name.project)))?;
    let action = format!("upload {}/{}/{}", name.entity, name.project, name.collection);
    let logged = run.log_artifact(draft).await.map_err(AppError::wandb(action));
    let finished =
        run.finish(i32::from(logged.is_err())).await.map_err(AppError::wandb("finish the run of the upload"));
    let artifact = logged?;
    finished?;
    Ok(artifact)
}

fn draft(options: &PutOptions, name: &QualifiedName) -> Result<ArtifactDraft, AppError> {
    let describing = || AppError::wandb(format!("describe {}", name.collection));
    let mut draft = ArtifactDraft::new(name.collection.clone(), options.artifact_type.clone()).map_err(describing())?;
    if let Some(description) = &options.description {
        draft = draft.with_description(description.clone());
    }
    draft = draft.with_metadata(options.metadata.clone()).map_err(describing())?;
    for alias in &options.aliases {
        draft = draft.with_alias(alias.clone()).map_err(describing())?;
    }
    for (entry, path) in files_under(&options.path)? {
        draft = draft.with_file(entry, path).map_err(describing())?;
    }
    Ok(draft)
}

/// The file itself, or every file below a folder by its path from there. Links to folders are not followed.
fn files_under(root: &Path) -> Result<Vec<(String, PathBuf)>, AppError> {
    let metadata = fs::metadata(root).map_err(AppError::file("read", root))?;
    if !metadata.is_dir() {
        let name = root.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        return Ok(vec![(name, root.to_owned())]);
    }
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(AppError::file("list", &folder))? {
            let path = entry.map_err(AppError::file("list", &folder))?.path();
            let kind = fs::symlink_metadata(&path).map_err(AppError::file("read", &path))?;
            if kind.is_dir() {
                folders.push(path);
            } else if let Ok(below) = path.strip_prefix(root) {
                let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy().into_owned()).collect();
                files.push((parts.join("/"), path));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// One version with its manifest.
///
/// # Errors
/// [`AppError::Wandb`] naming it.
pub async fn describe(session: &Session, name: &ArtifactName) -> Result<(Artifact, Manifest), AppError> {
    let client = session.online(name)?;
    let name = session.qualify(name).await?;
    let artifact = client.artifact(&name).await.map_err(AppError::wandb(format!("resolve {name}")))?;
    let reading = format!("read the manifest of {}", artifact.name());
    let manifest = client.manifest(&artifact).await.map_err(AppError::wandb(reading))?;
    Ok((artifact, manifest))
}

/// The entries of a manifest as a table.
///
/// # Errors
/// Never for a manifest that was read.
pub fn entry_table(manifest: &Manifest) -> Result<Table, AppError> {
    let columns = [
        ("path", ColumnKind::Text),
        ("size", ColumnKind::Integer),
        ("digest", ColumnKind::Text),
        ("reference", ColumnKind::Text),
    ];
    let mut table = Table::new(columns);
    for (path, Entry { digest, size, reference, .. }) in &manifest.entries {
        table.push(vec![path.as_str().into(), (*size).into(), digest.as_str().into(), reference.clone().into()])?;
    }
    Ok(table)
}

/// The collections of a project, one row each with its newest version.
///
/// # Errors
/// [`AppError::Wandb`] naming the project.
pub async fn collections(session: &Session, path: &str, only: Option<&str>) -> Result<Table, AppError> {
    let (entity, project) = project(session, path).await?;
    let client = session.online(format!("{entity}/{project}"))?;
    let listing = || AppError::wandb(format!("list {entity}/{project}"));
    let types = client.artifact_types(&entity, &project).await.map_err(listing())?;
    let mut table = Table::new([
        ("name", ColumnKind::Text),
        ("type", ColumnKind::Text),
        ("version", ColumnKind::Text),
        ("size", ColumnKind::Integer),
        ("updated_at", ColumnKind::Text),
    ]);
    for kind in types.iter().filter(|kind| only.is_none_or(|only| kind.name == only)) {
        let collections = client.collections(&entity, &project, &kind.name).await.map_err(listing())?;
        for collection in collections {
            let name = QualifiedName::new(&entity, &project, &collection.name, "latest");
            let latest = match client.artifact(&name).await {
                Ok(artifact) => Some(artifact),
                Err(error) if error.is_not_found() => None,
                Err(error) => return Err(listing()(error)),
            };
            let row = vec![
                collection.name.into(),
                kind.name.as_str().into(),
                latest.as_ref().map(|latest| latest.version.clone()).into(),
                latest.as_ref().map(|latest| latest.size).into(),
                collection.updated_at.or(Some(collection.created_at)).into(),
            ];
            table.push(row)?;
        }
    }
    Ok(table)
}

/// The versions of a collection, one row each.
///
/// # Errors
/// [`AppError::Wandb`] naming the collection.
pub async fn versions(session: &Session, name: &ArtifactName) -> Result<Table, AppError> {
    let (newest, _) = describe(session, name).await?;
    let client = session.online(name)?;
    let listing = AppError::wandb(format!("list the versions of {name}"));
    let versions = client.versions(&newest.name(), &newest.artifact_type).await.map_err(listing)?;
    let mut table = Table::new([
        ("name", ColumnKind::Text),
        ("aliases", ColumnKind::Text),
        ("files", ColumnKind::Integer),
        ("size", ColumnKind::Integer),
        ("digest", ColumnKind::Text),
        ("created_at", ColumnKind::Text),
    ]);
    for version in versions {
        table.push(vec![
            format!("{}:{}", version.collection, version.version).into(),
            version.aliases.join(", ").into(),
            version.file_count.into(),
            version.size.into(),
            version.digest.into(),
            version.created_at.into(),
        ])?;
    }
    Ok(table)
}

async fn project(session: &Session, path: &str) -> Result<(String, String), AppError> {
    // A project is named like a collection of it, with a placeholder where the collection stands.
    let name = ArtifactName::parse(&format!("{path}/_")).map_err(AppError::wandb("read the name"))?;
    let name = session.qualify(&name).await?;
    Ok((name.entity, name.project))
}
