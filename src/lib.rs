//! wandb-pca: task-vector PCA over Weights & Biases artifacts.
//!
//! Fine-tune one pretrained model under many seeds, and this crate tells how the weights vary: it pulls and verifies the
//! checkpoints from W&B, reads them without Python, computes one Gram matrix a layer in a single streaming pass, and
//! answers everything from that: explained variance, components, similarities, samples. Results go back to W&B as runs
//! and artifacts with lineage.
//!
//! The rooms, from the bottom up; arrows point downwards only (`docs/architecture.md`, kept by `tests/architecture.rs`):
//!
//! - primitives: [`digest`], [`tensor`], [`progress`], [`ranges`], [`redact`], [`store`], [`table`]
//! - [`checkpoint`]: PyTorch and safetensors files as tensors; [`analysis`]: the numbers; [`report`]: rows as files;
//!   [`study`]: the grid models × datasets × seeds; [`wandb`]: the client of the W&B protocol
//! - `libtorch` (feature `tch`): products on a GPU, TorchScript modules, conversions to and from `tch::Tensor`
//! - [`app`]: one file per verb, joining the rooms
//! - [`server`]: an embedded W&B-compatible server, which shares nothing with the client it is a witness for

pub mod analysis;
pub mod app;
pub mod checkpoint;
pub mod digest;
#[cfg(feature = "tch")]
pub mod libtorch;
pub mod progress;
pub mod ranges;
pub mod redact;
pub mod report;
#[cfg(feature = "server")]
pub mod server;
pub mod store;
pub mod study;
pub mod table;
pub mod tensor;
pub mod wandb;

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
