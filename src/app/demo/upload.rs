//! The demo's checkpoints as artifacts: written as torch would, and uploaded where the server does not have them.

use std::path::{Path, PathBuf};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Map, json};

use crate::app::blocking::run_blocking;
use crate::app::error::AppError;
use crate::app::session::Session;
use crate::checkpoint::{NamedTensor, write_torch};
use crate::progress::Stage;
use crate::store::DurableFile;
use crate::tensor::{Dtype, TensorView};
use crate::wandb::{Artifact, ArtifactDraft, QualifiedName, Run, RunOptions, WandbError};

use super::model::{DemoModel, DemoTensor, Size, state_dict};

/// Artifacts that are uploaded at the same time.
const UPLOADS: usize = 4;

/// A checkpoint of the demo.
#[derive(Debug, Clone)]
pub(super) struct DemoCheckpoint {
    /// Its artifact's collection.
    pub(super) name: String,
    /// What the model is called.
    pub(super) model: String,
    pub(super) size: Size,
    pub(super) state: DemoModel,
}

/// Uploads those of the checkpoints that the project lacks, in one run; returns how many.
pub(super) async fn upload(
    session: &Session,
    (folder, entity, project): (&Path, &str, &str),
    checkpoints: &[DemoCheckpoint],
) -> Result<usize, AppError> {
    let client = session.online("the demo's server")?;
    let mut absent = Vec::new();
    for checkpoint in checkpoints {
        let latest = QualifiedName::new(entity, project, &checkpoint.name, "latest");
        match client.artifact(&latest).await {
            Ok(_) => {}
            Err(error) if error.is_not_found() => absent.push(checkpoint),
            Err(error) => return Err(AppError::wandb(format!("look for {}", checkpoint.name))(error)),
        }
    }
    if absent.is_empty() {
        return Ok(0);
    }
    let run = RunOptions::new(project)
        .with_entity(Some(entity.to_owned()))
        .with_display_name(Some("fine-tuning (made by arithmetic)".to_owned()))
        .with_job_type(Some("fine-tune".to_owned()));
    let run = session.start_run(run).await.map_err(AppError::wandb("start the demo's run"))?;
    let task = session.progress.begin(Stage::Upload, "the demo's checkpoints", None);
    let uploads = stream::iter(absent).map(async |checkpoint| {
        let artifact = log(&run, folder, checkpoint).await?;
        task.advance(1);
        Ok::<_, AppError>(artifact)
    });
    let uploaded: Result<Vec<_>, AppError> = uploads.buffered(UPLOADS).try_collect().await;
    run.finish(i32::from(uploaded.is_err())).await.map_err(AppError::wandb("finish the demo's run"))?;
    Ok(uploaded?.len())
}

async fn log(run: &Run, folder: &Path, checkpoint: &DemoCheckpoint) -> Result<Artifact, AppError> {
    let name = &checkpoint.name;
    let path = write_model(folder, checkpoint).await?;
    let draft = draft(checkpoint, &path).map_err(AppError::wandb(format!("describe {name}")))?;
    run.log_artifact(&draft).await.map_err(AppError::wandb(format!("upload {name}")))
}

fn draft(checkpoint: &DemoCheckpoint, path: &Path) -> Result<ArtifactDraft, WandbError> {
    let metadata = Map::from_iter([
        ("model_name".to_owned(), json!(checkpoint.model)),
        ("model_class".to_owned(), json!("open_clip.model.CLIP")),
    ]);
    ArtifactDraft::new(&checkpoint.name, "checkpoint")?.with_metadata(metadata)?.with_file("trained.ckpt", path)
}

async fn write_model(folder: &Path, checkpoint: &DemoCheckpoint) -> Result<PathBuf, AppError> {
    let path = folder.join("checkpoints").join(&checkpoint.name).join("trained.ckpt");
    let (size, state) = (checkpoint.size, checkpoint.state);
    run_blocking("the demo's models", move || {
        write_state_dict(&path, &state_dict(size, state))?;
        Ok(path)
    })
    .await
}

fn write_state_dict(path: &Path, tensors: &[DemoTensor]) -> Result<(), AppError> {
    let view = |tensor: &DemoTensor| {
        let bytes: Vec<u8> = tensor.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        TensorView::contiguous(Dtype::F32, tensor.shape.clone(), bytes)
    };
    let views = tensors.iter().map(view).collect::<Result<Vec<_>, _>>();
    let views = views.map_err(|error| AppError::file("describe", path)(std::io::Error::other(error)))?;
    let named: Vec<_> = tensors.iter().zip(&views).map(|(tensor, view)| NamedTensor::new(&tensor.name, view)).collect();
    let mut file = DurableFile::create(path).map_err(AppError::file("create", path))?;
    write_torch(&mut file, &named).map_err(|source| AppError::Write { path: path.to_owned(), source })?;
    file.commit().map_err(AppError::file("write", path))
}
