//! The `wandb-pca` command.

fn main() {}
