//! Writing checkpoints as streams: names, dtypes and shapes first, then each tensor's bytes block by block, so that
//! memory stays bounded whatever the size. Knows the two formats, not where the bytes go: hand in a durable file.

mod pickle;
mod safetensors;
mod torch;
mod values;
mod zip;

use std::error::Error;
use std::io::{self, Write};

pub use self::safetensors::write_safetensors;
pub use self::torch::write_torch;
use crate::tensor::{Dtype, TensorError, TensorView, element_count};

/// Bytes that are asked of a [`TensorSource`] at a time.
const BLOCK_BYTES: usize = 1 << 20;

/// The error of a [`TensorSource`], whatever it computes from.
pub type SourceError = Box<dyn Error + Send + Sync>;

/// One tensor to be written: what it is, and its bytes on demand.
pub trait TensorSource {
    /// Element type.
    fn dtype(&self) -> Dtype;

    /// Shape; empty for a scalar.
    fn shape(&self) -> &[usize];

    /// Fills `out` with elements `start..start + out.len() / dtype.size()` in row-major order, little-endian. Called
    /// once for each block, in order.
    ///
    /// # Errors
    /// Anything; the file is then incomplete and must be thrown away.
    fn read_le_bytes(&self, start: usize, out: &mut [u8]) -> Result<(), SourceError>;
}

impl TensorSource for TensorView<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype()
    }
    fn shape(&self) -> &[usize] {
        self.shape()
    }
    fn read_le_bytes(&self, start: usize, out: &mut [u8]) -> Result<(), SourceError> {
        self.read_le_bytes(start, out).map_err(|error: TensorError| error.into())
    }
}

/// A tensor and its name in the new checkpoint.
#[derive(Clone, Copy)]
pub struct NamedTensor<'a> {
    /// Name in the state dict.
    pub name: &'a str,
    /// Its bytes.
    pub source: &'a dyn TensorSource,
    /// Position of an earlier tensor with the same dtype and number of elements whose storage this one shares; its own
    /// source is then not read. safetensors knows no sharing and gets a copy.
    pub tied_to: Option<usize>,
}

impl std::fmt::Debug for NamedTensor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NamedTensor").field("name", &self.name).field("tied_to", &self.tied_to).finish_non_exhaustive()
    }
}

impl<'a> NamedTensor<'a> {
    /// A tensor with a storage of its own.
    pub fn new(name: &'a str, source: &'a dyn TensorSource) -> Self {
        Self { name, source, tied_to: None }
    }
}

/// Why a checkpoint could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The file could not be written.
    #[error("cannot write the checkpoint")]
    Write {
        /// What the system said.
        #[from]
        source: io::Error,
    },
    /// The bytes of a tensor could not be had.
    #[error("cannot produce tensor {tensor:?}")]
    Source {
        /// The tensor.
        tensor: String,
        /// What its source said.
        #[source]
        source: SourceError,
    },
    /// Two tensors of one name.
    #[error("two tensors are called {tensor:?}")]
    DuplicateName {
        /// The name.
        tensor: String,
    },
    /// A name, shape or dtype that the format cannot hold.
    #[error("tensor {tensor:?} cannot be written: {problem}")]
    Unsupported {
        /// The tensor.
        tensor: String,
        /// Why.
        problem: &'static str,
    },
}

/// Bytes of every tensor, after checking names, shapes and ties.
fn check(tensors: &[NamedTensor<'_>]) -> Result<Vec<u64>, WriteError> {
    let mut names = std::collections::HashSet::new();
    let mut sizes = Vec::with_capacity(tensors.len());
    for (at, tensor) in tensors.iter().enumerate() {
        let name = || tensor.name.to_owned();
        if !names.insert(tensor.name) {
            return Err(WriteError::DuplicateName { tensor: name() });
        }
        let dtype = tensor.source.dtype();
        let bytes = element_count(tensor.source.shape()).and_then(|elements| elements.checked_mul(dtype.size()));
        let Some(bytes) = bytes else {
            return Err(WriteError::Unsupported { tensor: name(), problem: "its shape does not fit any memory" });
        };
        if let Some(first) = tensor.tied_to {
            let first = tensors.get(first).filter(|first_tensor| first < at && first_tensor.tied_to.is_none());
            let same = first.is_some_and(|first| {
                first.source.dtype() == dtype
                    && element_count(first.source.shape()) == element_count(tensor.source.shape())
            });
            if !same {
                let problem = "it is tied to no earlier tensor of the same dtype and number of elements";
                return Err(WriteError::Unsupported { tensor: name(), problem });
            }
        }
        sizes.push(bytes as u64);
    }
    Ok(sizes)
}

/// Writes all elements of a tensor, a block at a time.
fn copy_tensor(tensor: &NamedTensor<'_>, bytes: u64, out: &mut impl Write) -> Result<(), WriteError> {
    let size = tensor.source.dtype().size();
    let mut block = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX).min(BLOCK_BYTES)];
    let mut done = 0u64;
    while done < bytes {
        let length = usize::try_from(bytes - done).unwrap_or(usize::MAX).min(block.len());
        let Some(part) = block.get_mut(..length) else { break };
        let source = |source| WriteError::Source { tensor: tensor.name.to_owned(), source };
        tensor.source.read_le_bytes((done / size as u64) as usize, part).map_err(source)?;
        out.write_all(part)?;
        done += length as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
