//! Why a checkpoint could not be opened, read or written. Every variant names the file. No I/O.

use std::io;

use super::pickle::PickleError;
use super::safetensors::SafetensorsError;
use super::shards::IndexError;
use super::torch::TorchError;
use super::zip::ZipError;
use crate::tensor::TensorError;

/// Why a checkpoint could not be opened or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file could not be opened, mapped or inflated to a scratch file.
    #[error("cannot open {file}")]
    Open {
        /// The file.
        file: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A known kind of file that holds no state dict, or nothing known at all.
    #[error("{file} is no checkpoint that can be read: it is {what}")]
    NotACheckpoint {
        /// The file.
        file: String,
        /// What it is instead, and what to do about it.
        what: &'static str,
    },
    /// The zip archive is damaged, hostile or of an unknown kind.
    #[error("{file} is no sound zip archive")]
    Zip {
        /// The file.
        file: String,
        /// What is wrong with it.
        #[source]
        source: ZipError,
    },
    /// The archive is sound, its content is not a torch archive's.
    #[error("{file} is no sound torch archive: {problem}")]
    Archive {
        /// The file.
        file: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The pickle is damaged or hostile.
    #[error("cannot read the pickle {record:?} of {file}")]
    Pickle {
        /// The file.
        file: String,
        /// Record of the archive, or part of the stream.
        record: String,
        /// What is wrong with it.
        #[source]
        source: PickleError,
    },
    /// The pickle is sound, what it describes is not a checkpoint's tensors.
    #[error("cannot find the tensors of {file}")]
    Torch {
        /// The file.
        file: String,
        /// What is wrong with them.
        #[source]
        source: TorchError,
    },
    /// The safetensors header is damaged or hostile.
    #[error("{file} is no sound safetensors file")]
    Safetensors {
        /// The file.
        file: String,
        /// What is wrong with it.
        #[source]
        source: SafetensorsError,
    },
    /// The index of a sharded checkpoint is damaged, hostile or does not fit its shards.
    #[error("{file} is no sound index of a sharded checkpoint")]
    Index {
        /// The index.
        file: String,
        /// What is wrong with it.
        #[source]
        source: IndexError,
    },
    /// Two tensors would get the same name.
    #[error("without the prefix {prefix:?}, two tensors of {file} would both be called {tensor:?}")]
    PrefixCollision {
        /// The file.
        file: String,
        /// What was to be removed.
        prefix: String,
        /// The name that both would get.
        tensor: String,
    },
    /// No tensor of that name.
    #[error("{file} holds no tensor called {tensor:?}")]
    NoSuchTensor {
        /// The file.
        file: String,
        /// The name asked for.
        tensor: String,
    },
    /// The tensor is there, of a kind that is not read.
    #[error("tensor {tensor:?} of {file} cannot be read: it is {reason}")]
    Unreadable {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// What it is.
        reason: String,
    },
    /// Not all of the file was fetched, and this is not in what was.
    #[error("{what} of {file} was not fetched")]
    NotFetched {
        /// The file.
        file: String,
        /// What was asked for.
        what: String,
    },
    /// The bytes of a tensor are damaged.
    #[error("cannot read tensor {tensor:?} of {file}")]
    Damaged {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// What is wrong with its record.
        #[source]
        source: ZipError,
    },
    /// The description of a tensor does not fit its bytes.
    #[error("tensor {tensor:?} of {file} does not fit its storage")]
    Layout {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// What does not fit.
        #[source]
        source: TensorError,
    },
}
