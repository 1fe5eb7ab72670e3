//! TorchScript modules: loaded by libtorch and run on batches; and how their outputs compare with labels. Reads the module's
//! bytes from whoever has them.
//!
//! A TorchScript file is a program. Loading and running one executes what whoever made it wrote.

use std::io::Read;
use std::path::Path;

use tch::{CModule, Device, Kind, Tensor, no_grad};

use super::device::available;
use super::error::LibtorchError;

/// A module on a device, in evaluation mode.
#[derive(Debug)]
pub struct ScriptModule {
    module: CModule,
    device: Device,
}

impl ScriptModule {
    /// Loads a module from an archive; `path` is where errors say that it is.
    ///
    /// # Errors
    /// [`LibtorchError::NoDevice`], [`LibtorchError::NotAModule`].
    pub fn load(archive: &mut impl Read, path: &Path, device: Device) -> Result<Self, LibtorchError> {
        available(device)?;
        let wrong = |source| LibtorchError::NotAModule { path: path.to_owned(), source };
        let mut module = CModule::load_data_on_device(archive, device).map_err(wrong)?;
        module.f_set_eval()?;
        Ok(Self { module, device })
    }

    /// What the module answers to `inputs`, samples first, of which it gets `batch` at a time; on the CPU.
    ///
    /// # Errors
    /// [`LibtorchError::Operation`]: the module does not take such inputs, or answers with something else than one tensor;
    /// [`LibtorchError::Batch`] when there is no sample.
    pub fn outputs(&self, inputs: &Tensor, batch: usize) -> Result<Tensor, LibtorchError> {
        let samples = inputs.size().first().copied().unwrap_or(0);
        if samples == 0 {
            let found = format!("of shape {:?}", inputs.size());
            return Err(LibtorchError::Batch {
                what: "the inputs",
                expected: "samples, one at least".to_owned(),
                found,
            });
        }
        let batch = i64::try_from(batch.max(1)).unwrap_or(i64::MAX);
        let step = usize::try_from(batch).unwrap_or(usize::MAX);
        let parts = (0..samples).step_by(step).map(|start| {
            let part = inputs.f_narrow(0, start, batch.min(samples - start))?.f_to_device(self.device)?;
            no_grad(|| self.module.forward_ts(&[part]))?.f_to_device(Device::Cpu)
        });
        let parts = parts.collect::<Result<Vec<Tensor>, _>>()?;
        Ok(Tensor::f_cat(&parts, 0)?)
    }
}

/// How outputs compare with labels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// How many samples there were.
    pub samples: usize,
    /// Mean cross entropy of the labels under the softmax of the outputs, in nats; not finite where an output is not.
    pub loss: f64,
    /// How many samples had their largest output at their label; none of those with an output that is not finite.
    pub correct: usize,
}

impl Score {
    /// Share of the samples that were right.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.samples.max(1) as f64
    }

    /// The score of `outputs`, samples × classes, against `labels`: for each sample one class, from 0 on.
    ///
    /// # Errors
    /// [`LibtorchError::Batch`] when they do not belong together.
    pub fn of(outputs: &Tensor, labels: &Tensor) -> Result<Self, LibtorchError> {
        let &[samples, classes] = outputs.size().as_slice() else {
            let found = format!("of shape {:?}", outputs.size());
            return Err(LibtorchError::Batch { what: "the outputs", expected: "samples × classes".to_owned(), found });
        };
        if labels.size() != [samples] {
            let found = format!("of shape {:?}", labels.size());
            return Err(LibtorchError::Batch { what: "the labels", expected: format!("{samples} numbers"), found });
        }
        let labels = labels.f_to_device(Device::Cpu)?.f_to_kind(Kind::Int64)?;
        let [least, most] = [labels.f_min()?, labels.f_max()?].map(|label| label.f_int64_value(&[]));
        let (least, most) = (least?, most?);
        if least < 0 || most >= classes {
            let expected = format!("classes from 0 to {}", classes - 1);
            return Err(LibtorchError::Batch { what: "the labels", expected, found: format!("{least} to {most}") });
        }
        let outputs = outputs.f_to_kind(Kind::Double)?;
        let chosen = outputs.f_log_softmax(-1, Kind::Double)?.f_gather(1, &labels.f_unsqueeze(1)?, false)?;
        let loss = -chosen.f_mean(Kind::Double)?.f_double_value(&[])?;
        // An output that is not a number is the largest to libtorch, and is no answer.
        let answered = outputs.f_isfinite()?.f_all_dim(1, false)?;
        let right = outputs.f_argmax(1, false)?.f_eq_tensor(&labels)?.f_logical_and(&answered)?;
        let correct = right.f_sum(Kind::Int64)?.f_int64_value(&[])?;
        let count = |number| usize::try_from(number).unwrap_or(0);
        Ok(Self { samples: count(samples), loss, correct: count(correct) })
    }
}
