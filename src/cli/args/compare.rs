//! What was typed after `compare`, and how layers are put together.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use wandb_pca::analysis::Grouping;
use wandb_pca::app::Device;

/// `compare`
#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// Two or more fits of one pretrained model: folders, or artifacts of type `pca` (entity/project/name:alias)
    #[arg(required = true, num_args = 2..)]
    pub(crate) fits: Vec<String>,
    /// Compare this many components of each fit [default: all with variance]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) components: Option<u32>,
    /// Compare only the layers whose name matches this glob; repeatable
    #[arg(long, value_name = "GLOB")]
    pub(crate) layers: Vec<String>,
    /// Which rows to print: of layers put together, or of single layers. The files have all of them
    #[arg(long, value_enum, default_value_t = GroupArg::Model)]
    pub(crate) group: GroupArg,
    /// Multiply by libtorch on `cpu` or `cuda:N`, or on the first GPU where that is expected to be faster (`auto`)
    /// [default: built-in]
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<Device>,
    /// Folder for the comparison [default: compare-<names>]. Products that one there has are not made again
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Write the tables as CSV too
    #[arg(long)]
    pub(crate) csv: bool,
    /// Log the comparison as a W&B run (the default when fits are artifacts)
    #[arg(long, overrides_with = "no_log")]
    pub(crate) log: bool,
    /// Log nothing
    #[arg(long, overrides_with = "log")]
    pub(crate) no_log: bool,
}

/// How layers are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GroupArg {
    /// Each by itself
    Layer,
    /// By block: names up to their first number
    Block,
    /// By kind of module: names but for their numbers
    Module,
    /// The whole model
    Model,
}

impl GroupArg {
    /// As the library has it.
    pub(crate) fn grouping(self) -> Grouping {
        match self {
            Self::Layer => Grouping::Layer,
            Self::Block => Grouping::Block,
            Self::Module => Grouping::Module,
            Self::Model => Grouping::Model,
        }
    }
}
