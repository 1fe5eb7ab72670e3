//! Uploads a file or folder as a new version.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::app::error::AppError;
use crate::app::session::Session;
use crate::wandb::{Artifact, ArtifactDraft, ArtifactName, Client, QualifiedName, RunOptions};

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
