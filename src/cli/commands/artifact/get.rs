//! `artifact get`.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::json;
use wandb_pca::app;

use crate::cli::args;
use crate::cli::context::Context;
use crate::cli::exit::UsageError;
use crate::cli::render::{Output, bytes_text, printable};

use super::artifact_name;

pub(super) async fn run(context: &Context<'_>, args: &args::Get) -> anyhow::Result<Output> {
    let names = args.artifacts.iter().map(|text| artifact_name(text)).collect::<anyhow::Result<Vec<_>>>()?;
    let destination = match (&args.root, args.store_only) {
        (Some(_), _) if names.len() > 1 => {
            return Err(UsageError("--root takes one artifact; several would mix their files".to_owned()).into());
        }
        (Some(root), _) => app::artifact::Destination::Folder(root.clone()),
        (None, true) => app::artifact::Destination::Store,
        (None, false) => app::artifact::Destination::Default,
    };
    let got = app::artifact::get(&context.session, &names, &destination).await?;
    let mut text = String::new();
    let mut list = Vec::new();
    for got in &got {
        let fetched: u64 = got.files.iter().filter(|file| file.3).map(|file| file.2).sum();
        let total: u64 = got.files.iter().map(|file| file.2).sum();
        for (_, place, ..) in &got.files {
            writeln!(text, "{}", printable(&place.display().to_string()))?;
        }
        let (files, name) = (got.files.len(), got.artifact.name());
        writeln!(text, "  {name}: {files} files, {} verified, {} downloaded", bytes_text(total), bytes_text(fetched))?;
        let file = |(path, place, size, downloaded): &(String, PathBuf, u64, bool)| json!({"path": path, "place": place, "size": size, "downloaded": downloaded});
        list.push(json!({
            "artifact": name.to_string(),
            "version": got.artifact.version,
            "digest": got.artifact.digest,
            "folder": got.folder,
            "verified": true,
            "files": got.files.iter().map(file).collect::<Vec<_>>(),
        }));
    }
    Ok(Output { schema: "artifact-get/1", json: json!({"artifacts": list}), text })
}
