//! The work of `evaluate`: reads module, weights and data with the checkpoint reader, writes the module again with each of
//! the weights, and has libtorch run it.

use std::collections::HashMap;
use std::path::Path;

use crate::analysis::{Backend as _, SampleRecipe, Scale};
use crate::checkpoint::{
    Checkpoint, Format, NamedTensor, OpenOptions, SourceError, TensorInfo, TensorSource, prefixes_to_drop,
    write_safetensors,
};
use crate::libtorch::{Score, ScriptModule, Torch, from_torch, to_torch};
use crate::progress::{Progress, Stage, Task};
use crate::store::DurableFile;
use crate::tensor::{Dtype, TensorView};

use super::blocking::run_blocking;
use super::device::Device;
use super::error::AppError;
use super::evaluate::{EvaluateOptions, EvaluatedModel, Evaluation, ModelKind, Weights};
use super::fit::{labels, open, open_alike};
use super::fit_source::open_fits;
use super::input::{Input, Seeded};
use super::merged::Seeds;
use super::pull::{Pulled, pull};
use super::reopen::reopen;
use super::session::Session;

pub(super) async fn evaluate(session: &Session, options: EvaluateOptions) -> Result<Evaluation, AppError> {
    let alone = |input: &Input| Seeded { seed: None, input: input.clone() };
    let mut data = pull(session, &[alone(&options.data)], None).await?;
    let (fit, pulled) = match &options.weights {
        Weights::Checkpoint(input) => (None, pull(session, &[alone(input)], None).await?),
        Weights::Fit(source) => {
            let opened = open_fits(session, std::slice::from_ref(source)).await?.pop();
            let opened = opened.ok_or(AppError::Worker { what: "the evaluation" })?;
            let records: Vec<_> = opened.fit.record.inputs().collect();
            let pulled = reopen(session, &records).await?;
            (Some(opened), pulled)
        }
    };
    let data = data.pop().ok_or(AppError::Worker { what: "the evaluation" })?;
    let artifact = fit.as_ref().and_then(|opened| opened.artifact.as_ref()).map(|artifact| artifact.name().to_string());
    let inputs = std::iter::once(&data).chain(&pulled).filter_map(|pulled| pulled.record.resolved.clone());
    let artifacts = artifact.into_iter().chain(inputs).collect();
    let (progress, device) = (session.progress.clone(), session.device);
    run_blocking("the evaluation", move || {
        let torch = Torch::on(device.of_libtorch()).map_err(AppError::libtorch("run the module"))?;
        let mut bench = Bench::new(&options, &data, device, &progress)?;
        let key = fit.as_ref().and_then(|opened| opened.fit.record.key.as_deref());
        let checkpoints = open_alike(&pulled, key)?;
        let (models, fitting) = match (&fit, checkpoints.as_slice()) {
            (Some(opened), _) => bench.fit(&Seeds::new(&opened.fit, &checkpoints, &pulled)?, &checkpoints)?,
            (None, [checkpoint]) => bench.checkpoint(checkpoint, &options.weights.to_string())?,
            (None, _) => return Err(AppError::Worker { what: "the evaluation" }),
        };
        bench.write_outputs()?;
        let (samples, backend, Fitting { kept, unused, .. }) = (bench.samples(), torch.name(), fitting);
        Ok(Evaluation { options, samples, backend, models, fit, kept, unused, artifacts })
    })
    .await
}

/// The module and the data.
struct Bench<'b> {
    options: &'b EvaluateOptions,
    device: Device,
    script: Checkpoint,
    inputs: tch::Tensor,
    labels: tch::Tensor,
    progress: &'b Progress,
    /// The outputs of each model so far, where they are wanted.
    outputs: Vec<(String, TensorView<'static>)>,
}

/// Which tensors of module and weights belong together.
struct Fitting {
    /// Name in the module, name in the weights.
    pairs: Vec<(String, String)>,
    kept: Vec<String>,
    unused: Vec<String>,
}

impl<'b> Bench<'b> {
    fn new(
        options: &'b EvaluateOptions,
        data: &Pulled,
        device: Device,
        progress: &'b Progress,
    ) -> Result<Self, AppError> {
        let name = options.module.display().to_string();
        let script = Checkpoint::open(&options.module, &OpenOptions::default());
        let script = script.map_err(AppError::checkpoint("open", &name))?;
        if script.format() != Format::TorchScript {
            return Err(AppError::NotAScript { path: options.module.clone(), found: script.format().to_string() });
        }
        let batch = open(data, None)?;
        let tensor = |name: &str| {
            let read = AppError::checkpoint("read", &data.record.input);
            let view = batch.tensor(name).map_err(read)?;
            to_torch(&view).map_err(AppError::libtorch(format!("take tensor {name} of {}", data.record.input)))
        };
        let (inputs, labels) = (tensor(&options.inputs)?, tensor(&options.labels)?);
        Ok(Self { options, device, script, inputs, labels, progress, outputs: Vec::new() })
    }

    fn samples(&self) -> usize {
        self.inputs.size().first().and_then(|&samples| usize::try_from(samples).ok()).unwrap_or(0)
    }

    /// One checkpoint by itself.
    fn checkpoint(&mut self, checkpoint: &Checkpoint, name: &str) -> Result<(Vec<EvaluatedModel>, Fitting), AppError> {
        let fitting = self.fitting(checkpoint)?;
        let model = Model { name: name.to_owned(), kind: ModelKind::Checkpoint, at: None };
        Ok((vec![self.evaluate(&Values::Checkpoint(checkpoint), &fitting, model)?], fitting))
    }

    /// The checkpoints of a fit, their mean, and samples around it.
    fn fit(
        &mut self,
        seeds: &Seeds<'_>,
        checkpoints: &[Checkpoint],
    ) -> Result<(Vec<EvaluatedModel>, Fitting), AppError> {
        let fitting = self.fitting(seeds.pretrained)?;
        let names = std::iter::once("pretrained".to_owned())
            .chain(labels(&seeds.fit.record).into_iter().map(|label| format!("seed {label}")));
        let kinds = std::iter::once(ModelKind::Pretrained).chain(std::iter::repeat(ModelKind::Seed));
        let mut models = Vec::new();
        for ((checkpoint, name), kind) in checkpoints.iter().zip(names).zip(kinds) {
            let model = Model { name, kind, at: None };
            models.push(self.evaluate(&Values::Checkpoint(checkpoint), &fitting, model)?);
        }
        let mut scales = self.options.scales.clone();
        scales.sort_by(f64::total_cmp);
        scales.dedup();
        let mean = seeds.weights(|_| SampleRecipe::Mean)?;
        for scale in scales {
            // All directions meet in the mean.
            let numbers = if scale == 0.0 { 0..1 } else { 0..self.options.samples };
            for number in numbers {
                let seed = self.options.random_seed;
                let drawn = seeds.weights(|_| SampleRecipe::Gaussian { scale: Scale::Variance, seed, number })?;
                let weights = from_mean(&mean, &drawn, scale);
                let distance = seeds.distances(&weights)?.map_or(0.0, |distances| distances.to_mean());
                let (name, kind, number) = match scale == 0.0 {
                    true => ("mean".to_owned(), ModelKind::Mean, None),
                    false => (format!("sample {number} at {scale}"), ModelKind::Sample, Some(number)),
                };
                let model = Model { name, kind, at: Some((scale, number, distance)) };
                models.push(self.evaluate(&Values::Merged(seeds, &weights), &fitting, model)?);
            }
        }
        Ok((models, fitting))
    }

    /// Which tensors of the module get values from where. What a framework put before every name of one of them is dropped.
    fn fitting(&self, weights: &Checkpoint) -> Result<Fitting, AppError> {
        let names = |checkpoint: &Checkpoint| -> Vec<String> {
            checkpoint.tensors().iter().map(|info| info.name.clone()).collect()
        };
        let lists = [names(&self.script), names(weights)];
        let borrowed = lists.each_ref().map(|list| list.iter().map(String::as_str).collect::<Vec<_>>());
        let prefixes = prefixes_to_drop(&borrowed);
        let bare = |list: usize, name: &str| {
            let prefix = prefixes.get(list).and_then(Option::as_deref).unwrap_or_default();
            name.strip_prefix(prefix).unwrap_or(name).to_owned()
        };
        let [of_script, of_weights] = &lists;
        let mut there: HashMap<String, &String> = of_weights.iter().map(|name| (bare(1, name), name)).collect();
        let mut fitting = Fitting { pairs: Vec::new(), kept: Vec::new(), unused: Vec::new() };
        for name in of_script {
            match there.remove(&bare(0, name)) {
                Some(found) => fitting.pairs.push((name.clone(), found.clone())),
                None => fitting.kept.push(name.clone()),
            }
        }
        fitting.unused = there.into_values().cloned().collect();
        fitting.unused.sort();
        let complete = fitting.kept.is_empty() && fitting.unused.is_empty();
        match fitting.pairs.is_empty() || (!complete && !self.options.partial) {
            true => Err(AppError::OtherTensors { missing: fitting.kept, unused: fitting.unused }),
            false => Ok(fitting),
        }
    }

    /// Runs the module with these weights on all of the data.
    fn evaluate(&mut self, values: &Values<'_>, fitting: &Fitting, model: Model) -> Result<EvaluatedModel, AppError> {
        let task = self.progress.begin(Stage::Compute, &model.name, None);
        let module = self.module(values, fitting, &task)?;
        let failed = || AppError::libtorch(format!("run {} with {}", self.path().display(), model.name));
        let outputs = module.outputs(&self.inputs, self.options.batch).map_err(failed())?;
        let score = Score::of(&outputs, &self.labels).map_err(failed())?;
        if self.options.outputs.is_some() {
            let outputs = from_torch(&outputs).map_err(failed())?;
            self.outputs.push((model.name.clone(), outputs));
        }
        let (scale, number, distance_to_mean) = match model.at {
            Some((scale, number, distance)) => (Some(scale), number, Some(distance)),
            None => (None, None, None),
        };
        Ok(EvaluatedModel {
            model: model.name,
            kind: model.kind,
            scale,
            number,
            distance_to_mean,
            loss: Some(score.loss).filter(|loss| loss.is_finite()),
            accuracy: score.accuracy(),
        })
    }

    /// Writes what the models answered, where that is wanted.
    fn write_outputs(&self) -> Result<(), AppError> {
        let Some(path) = &self.options.outputs else { return Ok(()) };
        let named: Vec<_> = self.outputs.iter().map(|(name, outputs)| NamedTensor::new(name, outputs)).collect();
        let mut file = DurableFile::create(path).map_err(AppError::file("create", path))?;
        write_safetensors(&mut file, &named).map_err(|source| AppError::Write { path: path.clone(), source })?;
        file.commit().map_err(AppError::file("write", path))
    }

    fn path(&self) -> &Path {
        &self.options.module
    }

    /// The module with these values in its tensors, loaded.
    fn module(&self, values: &Values<'_>, fitting: &Fitting, task: &Task) -> Result<ScriptModule, AppError> {
        let of_script: HashMap<&str, &TensorInfo> =
            self.script.tensors().iter().map(|info| (info.name.as_str(), info)).collect();
        let mut sources = Vec::with_capacity(fitting.pairs.len());
        for (name, of_weights) in &fitting.pairs {
            let Some(info) = of_script.get(name.as_str()) else { continue };
            sources.push((name, values.source(of_weights, info.dtype, task)?));
        }
        let tensors: Vec<_> = sources.iter().map(|(name, source)| NamedTensor::new(name, &**source)).collect();
        let mut archive = Vec::new();
        let failed = |source| AppError::PutWeights { path: self.path().to_owned(), source };
        self.script.write_with(&mut archive, &tensors).map_err(failed)?;
        let loaded = ScriptModule::load(&mut archive.as_slice(), self.path(), self.device.of_libtorch());
        loaded.map_err(AppError::libtorch(format!("load {}", self.path().display())))
    }
}

/// A model before it is evaluated.
struct Model {
    name: String,
    kind: ModelKind,
    /// Scale, number of the direction, distance to the mean.
    at: Option<(f64, Option<u64>, f64)>,
}

/// (1 − s) · mean + s · drawn: the same direction, s times as far.
fn from_mean(mean: &[Vec<f64>], drawn: &[Vec<f64>], scale: f64) -> Vec<Vec<f64>> {
    let layer = |(mean, drawn): (&Vec<f64>, &Vec<f64>)| {
        mean.iter().zip(drawn).map(|(mean, drawn)| mean + scale * (drawn - mean)).collect()
    };
    mean.iter().zip(drawn).map(layer).collect()
}

/// Where the values of a model come from.
enum Values<'v> {
    Checkpoint(&'v Checkpoint),
    Merged(&'v Seeds<'v>, &'v [Vec<f64>]),
}

impl<'v> Values<'v> {
    /// The values of a tensor in the dtype that the module has it in.
    fn source(&self, name: &str, dtype: Dtype, task: &'v Task) -> Result<Box<dyn TensorSource + 'v>, AppError> {
        let checkpoint: &'v Checkpoint = match *self {
            Self::Checkpoint(checkpoint) => checkpoint,
            Self::Merged(seeds, _) => seeds.pretrained,
        };
        let read = || AppError::checkpoint("read", checkpoint.file());
        let info = checkpoint.info(name);
        // Tied tensors have the values of the first, as in a written sample.
        let info = info.and_then(|info| checkpoint.tensors().get(info.tied_to?)).or(info);
        if let (Self::Merged(seeds, weights), Some(info)) = (self, info)
            && seeds.fit.layers.iter().any(|fit| fit.layer.name == info.name)
        {
            return Ok(Box::new(seeds.source(info, dtype, (weights, task))?));
        }
        let view = checkpoint.tensor(name).map_err(read())?;
        Ok(match (view.dtype() == dtype, dtype) {
            (false, Dtype::F32 | Dtype::F64) if view.dtype().is_float() => Box::new(Cast { view, dtype }),
            _ => Box::new(view),
        })
    }
}

/// A floating-point tensor in another dtype, rounded to nearest.
struct Cast<'v> {
    view: TensorView<'v>,
    dtype: Dtype,
}

impl TensorSource for Cast<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        self.view.shape()
    }
    fn read_le_bytes(&self, start: usize, out: &mut [u8]) -> Result<(), SourceError> {
        let size = self.dtype.size();
        let mut values = vec![0.0; out.len() / size];
        self.view.read_f64(start, &mut values)?;
        for (value, bytes) in values.into_iter().zip(out.chunks_exact_mut(size)) {
            match self.dtype {
                Dtype::F32 => bytes.copy_from_slice(&(value as f32).to_le_bytes()),
                _ => bytes.copy_from_slice(&value.to_le_bytes()),
            }
        }
        Ok(())
    }
}
