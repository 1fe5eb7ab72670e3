//! `artifact get`.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::json;
use wandb_pca::app;
use wandb_pca::wandb::Proof;

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
        for (_, place, ..) in &got.files {
            writeln!(text, "{}", printable(&place.display().to_string()))?;
        }
        let (files, name) = (got.files.len(), got.artifact.name());
        let unverified = |path: &str| got.unverified.iter().find(|(found, _)| found == path).map(|(_, proof)| *proof);
        let verified: u64 = got.files.iter().filter(|file| unverified(&file.0).is_none()).map(|file| file.2).sum();
        writeln!(
            text,
            "  {name}: {files} files, {} verified, {} downloaded",
            bytes_text(verified),
            bytes_text(fetched)
        )?;
        for (path, proof) in &got.unverified {
            writeln!(text, "  {}: {}", printable(path), proof_text(*proof))?;
        }
        let file = |(path, place, size, downloaded): &(String, PathBuf, u64, bool)| {
            let proof = unverified(path).unwrap_or(Proof::Digest);
            json!({
                "path": path,
                "place": place,
                "size": size,
                "downloaded": downloaded,
                "verified": proof.is_verified(),
                "proof": proof.name(),
            })
        };
        list.push(json!({
            "artifact": name.to_string(),
            "version": got.artifact.version,
            "digest": got.artifact.digest,
            "folder": got.folder,
            "verified": got.unverified.is_empty(),
            "files": got.files.iter().map(file).collect::<Vec<_>>(),
        }));
    }
    Ok(Output { schema: "artifact-get/1", json: json!({"artifacts": list}), text })
}

/// What a file that no digest proves was checked against.
fn proof_text(proof: Proof) -> &'static str {
    match proof {
        Proof::Digest => "verified",
        Proof::Etag(_) => "not verified: only the version tag of its server says that it is the right one",
        _ => "not verified: the reference was made without a checksum",
    }
}
