//! libtorch, through the crate `tch`: the feature `tch`. Runs on the CPU or on a GPU with CUDA; no I/O but for loading modules.
//!
//! - [`Torch`] is a [`Backend`](crate::analysis::Backend): it makes the products of task vectors
//! - [`to_torch`] and [`from_torch`] convert tensors; [`share`] and [`borrow`] do so without a copy
//! - [`ScriptModule`] runs a TorchScript module and scores what it answers
//!
//! libtorch sees tensors that our own reader has checked, and TorchScript modules that the user trusts: these are programs,
//! and libtorch executes them. It never opens a checkpoint.

mod backend;
mod device;
mod error;
mod exchange;
mod script;

pub use backend::Torch;
pub use device::{VERSION, available};
pub use error::LibtorchError;
pub use exchange::{borrow, from_torch, share, to_torch};
pub use script::{Score, ScriptModule};
/// Where libtorch keeps and multiplies tensors.
pub use tch::Device;
