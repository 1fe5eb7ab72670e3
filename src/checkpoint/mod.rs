//! Safe reader and writer of PyTorch and safetensors files: bytes to named tensors, nothing executed.
//!
//! [`Checkpoint::open`] maps a file read-only, recognises its kind by content and lists its tensors in the order of the
//! state dict; [`Checkpoint::tensor`] is a view of the bytes where they lie. No pickle is ever executed: a pickle is
//! parsed into plain data ([`pickle`]), and what it describes is checked against the container before a tensor exists.
//! Memory is bounded by the length of the file and 64 MiB, whatever the file says; each cap is a named constant beside the
//! parser that it protects. Only an nn-template archive opened without [`OpenOptions::scratch`] may take more: its wrapped
//! checkpoint counts as another file.
//!
//! Refuses to guess: a kind of tensor that is not read is listed in [`Checkpoint::skipped`] with the reason, a damaged
//! or hostile file is a [`CheckpointError`] that names file, tensor and offset. Reads local files only, but not all of
//! one has to be here: [`index_need`] and [`Checkpoint::ranges_of`] say which bytes are, and the rest is never looked at.

mod budget;
mod container;
mod content;
mod distributed;
mod error;
mod index;
mod names;
mod open;
mod parts;
pub mod pickle;
mod pieces;
mod safetensors;
mod shards;
mod sniff;
mod source;
mod torch;
mod write;
pub mod zip;

pub use content::{content_digest, files_of, joined_digest};
pub use error::CheckpointError;
pub use index::{IndexNeed, index_need};
pub use names::{Prefixes, prefixes_to_drop};
pub use open::{Checkpoint, Format, OpenOptions, Skipped, TensorInfo};
pub use safetensors::SafetensorsError;
pub use shards::IndexError;
pub use source::ReadAt;
pub use torch::TorchError;
pub use write::{NamedTensor, SourceError, TensorSource, WriteError, write_safetensors, write_torch};
