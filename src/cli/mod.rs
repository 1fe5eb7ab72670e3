//! The command line: what is typed and set, turned into calls of [`wandb_pca::app`], and what comes back, shown.

pub(crate) mod args;
pub(crate) mod bars;
pub(crate) mod commands;
mod context;
mod duration;
pub(crate) mod env;
pub(crate) mod exit;
mod interrupt;
pub(crate) mod log;
mod netrc;
mod render;
mod settings;
mod sources;
mod totals;
