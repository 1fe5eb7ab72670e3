//! `artifact ls`.

use serde_json::json;
use wandb_pca::app;

use crate::cli::args;
use crate::cli::context::Context;
use crate::cli::render::{Output, columns, objects};

use super::artifact_name;

pub(super) async fn run(context: &Context<'_>, args: &args::Ls) -> anyhow::Result<Output> {
    let table = match args.path.split('/').count() {
        3 => app::artifact::versions(&context.session, &artifact_name(&args.path)?).await?,
        _ => app::artifact::collections(&context.session, &args.path, args.kind.as_deref()).await?,
    };
    Ok(Output { schema: "artifact-ls/1", json: json!({"artifacts": objects(&table)}), text: columns(&table) })
}
