//! Why libtorch could not do something. No I/O.

use std::path::PathBuf;

use tch::TchError;

use crate::tensor::{Dtype, TensorError};

/// What libtorch said, or what it was not asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are named and shown by each message")]
pub enum LibtorchError {
    /// There is no such device.
    #[error("there is no {device}: {reason}")]
    NoDevice { device: String, reason: String },
    /// The file is no TorchScript module that libtorch reads.
    #[error("{} is no TorchScript module", path.display())]
    NotAModule { path: PathBuf, source: TchError },
    /// A dtype that the other side lacks.
    #[error("a tensor of dtype {dtype} cannot be handed over")]
    Dtype { dtype: String },
    /// One of our tensors could not be read.
    #[error("a tensor cannot be read")]
    Tensor(#[from] TensorError),
    /// A module was run on something else than a batch.
    #[error("{what} must be {expected}, and is {found}")]
    Batch { what: &'static str, expected: String, found: String },
    /// An operation failed: the first line of what libtorch says.
    #[error("libtorch: {}", first_line(source))]
    Operation {
        #[from]
        source: TchError,
    },
}

impl LibtorchError {
    pub(super) fn dtype(dtype: Dtype) -> Self {
        Self::Dtype { dtype: dtype.name().to_owned() }
    }
}

/// libtorch puts its call stack behind the message.
fn first_line(error: &TchError) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}
