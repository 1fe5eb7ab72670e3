//! What torch means by the values of its pickles: storages, tensors, state dicts, modules. Nothing is called.
//!
//! Works on a parsed [`Pickle`](super::pickle::Pickle) alone and knows no container: where a storage's bytes lie is
//! the business of `archive` (zip) and `legacy`. No I/O.

pub(super) mod archive;
pub(super) mod distributed;
mod globals;
pub(super) mod legacy;
mod state_dict;
mod tensor;

pub(super) use globals::{check_globals, printable};
pub(super) use state_dict::{BARE, Found, NAME_COPIES, Selection, TENSOR_BYTES, collect};
pub(super) use tensor::{Storages, TensorLayout};

/// Why the content of a torch file was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TorchError {
    /// The pickle names a function that no checkpoint needs and an attack does.
    #[error("the pickle names {global}, which runs commands or code when unpickled: the file is an attack or damaged")]
    Forbidden {
        /// Module and name.
        global: String,
    },
    /// A tensor whose description makes no sense.
    #[error("tensor {tensor:?} is malformed: {problem}")]
    Malformed {
        /// Name in the state dict.
        tensor: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A tensor that reaches beyond its storage.
    #[error("tensor {tensor:?} needs {needed} elements of storage {storage:?}, which holds {held}")]
    OutOfBounds {
        /// Name in the state dict.
        tensor: String,
        /// Key of the storage.
        storage: String,
        /// Elements from the storage's start to the tensor's last.
        needed: u64,
        /// Elements in the storage.
        held: u64,
    },
    /// A piece of a distributed tensor in a file that is not simply beside the others.
    #[error("a piece of tensor {tensor:?} lies in {name:?}, which is not a plain file name")]
    PieceName {
        /// Name of the tensor.
        tensor: String,
        /// What should be the file's name.
        name: String,
    },
    /// A piece of a distributed tensor behind the end of its file.
    #[error("a piece of tensor {tensor:?} ends at byte {end} of its file, which has {held}")]
    PieceBeyond {
        /// Name of the tensor.
        tensor: String,
        /// Where the piece ends.
        end: u64,
        /// Bytes of the file.
        held: u64,
    },
    /// The pieces of a distributed tensor overlap, leave a hole or reach beyond it.
    #[error("the {pieces} pieces of tensor {tensor:?} do not make up its shape {shape:?}")]
    PiecesMisfit {
        /// Name of the tensor.
        tensor: String,
        /// How many pieces it has.
        pieces: usize,
        /// The shape of the whole.
        shape: Vec<usize>,
    },
    /// Larger than the file could justify, by repeating elements.
    #[error("tensor {tensor:?} expands to {bytes} bytes, more than {limit} for a file of this size")]
    ExpandsTooMuch {
        /// Name in the state dict.
        tensor: String,
        /// Bytes of all its elements.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// One storage described in two ways.
    #[error("storage {storage:?} is described twice, differently")]
    StorageConflict {
        /// Key of the storage.
        storage: String,
    },
    /// A storage without bytes.
    #[error("storage {storage:?} is missing from the file")]
    StorageMissing {
        /// Key of the storage.
        storage: String,
    },
    /// A storage in the file that no tensor refers to, so that its length is unknown.
    #[error("the file lists storage {storage:?}, which nothing refers to")]
    StorageUnused {
        /// Key of the storage.
        storage: String,
    },
    /// The legacy list of storages is no list of texts.
    #[error("the list of storages is malformed")]
    BadKeyList,
    /// A storage whose length is not what the pickle says.
    #[error("storage {storage:?} takes {actual} bytes in the file; the pickle says {expected}")]
    StorageSize {
        /// Key of the storage.
        storage: String,
        /// Bytes by the pickle.
        expected: u64,
        /// Bytes in the file.
        actual: u64,
    },
    /// The key asked for is not there.
    #[error("there is no {key:?} in the checkpoint; its keys are {available}")]
    NoSuchKey {
        /// What was asked for.
        key: String,
        /// The first keys that are there.
        available: String,
    },
    /// Several places hold tensors.
    #[error("several parts of the checkpoint hold tensors ({candidates}); choose one by its key")]
    Ambiguous {
        /// Their keys.
        candidates: String,
    },
    /// Nothing in it is a tensor.
    #[error("the checkpoint holds no tensors: it is {root}")]
    NoTensors {
        /// What it is instead.
        root: String,
    },
    /// Modules nested, or linked in a circle, beyond any model.
    #[error("the model is nested deeper than {limit} levels, or contains itself")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// More tensors, or longer names, than any model has.
    #[error("the model lists more than {limit} {what}")]
    TooMany {
        /// The limit.
        limit: usize,
        /// Of what.
        what: &'static str,
    },
}
