//! A whole study on the demo's server: the study file, the checkpoints that it names and the server lacks, and the study.
//! The file is the user's to change: a seed or dataset more is made up, and only that is computed.

use std::fs;
use std::path::{Path, PathBuf};

use crate::app::error::AppError;
use crate::app::input::Input;
use crate::app::session::Session;
use crate::app::study::{Outcome, Study, StudyError, run, survey};
use crate::digest::Sha256;
use crate::store::write_durable;
use crate::study::Spec;

use super::ENTITY;
use super::model::{DemoModel, Size};
use super::upload::{DemoCheckpoint, upload};

const PROJECT: &str = "study";
/// The models there are, and their sizes: small, so that what takes time is the study.
const MODELS: [(&str, Size); 2] = [
    ("ViT-demo-S", Size { width: 24, blocks: 1, patch: 8, vocabulary: 32 }),
    ("ViT-demo-M", Size { width: 32, blocks: 2, patch: 8, vocabulary: 32 }),
];
/// The study file as it is written first.
const STUDY: &str = "\
# The study of `wandb-pca demo --study`: 2 models x 3 datasets x 5 seeds. Add a seed (`seeds: 0..5`) or a dataset and run
# it again: what the server lacks is made up and uploaded, and only what is new is computed.
name: demo
entity: demo
project: study
models: [ViT-demo-S, ViT-demo-M]
datasets: [CIFAR100, DTD, SVHN]
seeds: 0..4
pretrained: \"{model}_pt:latest\"
finetuned: \"{model}_{dataset}_{seed}:latest\"
";

/// What the study of the demo came to.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DemoStudy {
    /// How many artifact versions were new on the server.
    pub uploaded: usize,
    /// How many artifacts the study has.
    pub artifacts: usize,
    /// The study file.
    pub file: PathBuf,
    /// The study.
    pub study: Study,
    /// What became of it.
    pub outcome: Outcome,
}

/// Writes the study file unless there is one, uploads what it names and the server lacks, and runs the study. `worker` is who
/// works, for the ledger.
///
/// # Errors
/// [`StudyError::Spec`] when the file was changed to something that is no study, or the first thing that went wrong; what
/// concerns one cell is in the outcome.
pub async fn demo_study(session: &Session, folder: &Path, worker: String) -> Result<DemoStudy, AppError> {
    let file = folder.join("study.yaml");
    let spec = read_or_write(&file)?;
    let checkpoints = checkpoints(&spec)?;
    let entity = spec.entity.as_deref().unwrap_or(ENTITY);
    let project = spec.project.as_deref().unwrap_or(PROJECT);
    let uploaded = upload(session, (folder, entity, project), &checkpoints).await?;
    let results = folder.join("results").join(format!("study-{}", spec.name));
    let study = Study { session: session.clone(), spec, folder: results, worker };
    let survey = survey(&study).await?;
    let outcome = run(&study, &survey).await?;
    Ok(DemoStudy { uploaded, artifacts: checkpoints.len(), file, study, outcome })
}

fn read_or_write(path: &Path) -> Result<Spec, AppError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            write_durable(path, STUDY.as_bytes()).map_err(AppError::file("write", path))?;
            STUDY.to_owned()
        }
        Err(error) => return Err(AppError::file("read", path)(error)),
    };
    let wrong = |source| StudyError::Spec { path: path.to_owned(), source: Box::new(source) };
    Ok(Spec::parse(&text).map_err(wrong)?)
}

/// What the study needs of the models that there are; of others its plan says that they are missing.
fn checkpoints(spec: &Spec) -> Result<Vec<DemoCheckpoint>, AppError> {
    let mut checkpoints = Vec::new();
    let mut add = |reference: String, (model, size): (&str, Size), state| -> Result<(), AppError> {
        if let Input::Artifact(name) = Input::parse(&reference)? {
            let (name, model) = (name.collection().to_owned(), model.to_owned());
            checkpoints.push(DemoCheckpoint { name, model, size, state });
        }
        Ok(())
    };
    for (model, size) in MODELS.iter().filter(|(model, _)| spec.models.iter().any(|wanted| wanted == model)) {
        add(spec.pretrained_reference(model), (model, *size), DemoModel::Pretrained)?;
        for dataset in &spec.datasets {
            for &seed in &spec.seeds {
                let state = DemoModel::FineTuned { dataset: number_of(dataset), seed };
                add(spec.finetuned_reference(model, dataset, seed), (model, *size), state)?;
            }
        }
    }
    Ok(checkpoints)
}

/// The number of a dataset: the same whatever others there are.
fn number_of(dataset: &str) -> u64 {
    let digest = Sha256::of(dataset.as_bytes()).to_hex();
    digest.get(..16).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_study_file_names_the_whole_grid() {
        let spec = Spec::parse(STUDY).unwrap();
        assert_eq!((spec.models.len(), spec.datasets.len(), spec.seeds.len()), (2, 3, 5));
        let names: Vec<String> = checkpoints(&spec).unwrap().into_iter().map(|checkpoint| checkpoint.name).collect();
        assert_eq!(names.len(), 2 + 2 * 3 * 5);
        assert_eq!((names[0].as_str(), names[31].as_str()), ("ViT-demo-S_pt", "ViT-demo-M_SVHN_4"));
        assert_eq!(names.len(), spec.references().len());
    }
}
