//! `artifact get`.

use std::fmt::Write as _;

use serde_json::json;
use wandb_pca::app::artifact::GotFile;
use wandb_pca::app::{self, LockMode};
use wandb_pca::wandb::{DownloadOptions, Filter, LinkMode, Placed, Proof};

use crate::cli::args;
use crate::cli::context::Context;
use crate::cli::exit::UsageError;
use crate::cli::render::{Output, bytes_text, counted, printable};

use super::located;

pub(super) async fn run(context: &Context<'_>, args: &args::Get) -> anyhow::Result<Output> {
    let mut names = Vec::with_capacity(args.artifacts.len());
    for text in &args.artifacts {
        names.push(located(context, text).await?);
    }
    let destination = match (&args.root, args.store_only) {
        (Some(_), _) if names.len() > 1 => {
            return Err(UsageError("--root takes one artifact; several would mix their files".to_owned()).into());
        }
        (Some(root), _) => app::artifact::Destination::Folder(root.clone()),
        (None, true) => app::artifact::Destination::Store,
        (None, false) => app::artifact::Destination::Default,
    };
    let mut options = app::artifact::GetOptions::new(destination);
    options.link = match args.link {
        args::Link::Auto => LinkMode::Auto,
        args::Link::Reflink => LinkMode::Reflink,
        args::Link::Hardlink => LinkMode::Hardlink,
        args::Link::Copy => LinkMode::Copy,
    };
    options.download = DownloadOptions::default().with_missing_references_allowed(args.allow_missing_references);
    options.lock = match (&args.lock, args.locking.mode()) {
        (Some(path), mode) => Some((path.clone(), mode)),
        (None, LockMode::Keep) => None,
        (None, _) => return Err(UsageError("--locked and --update need --lock FILE".to_owned()).into()),
    };
    options.filter = Filter::new(&args.include, &args.exclude).map_err(|error| UsageError(error.to_string()))?;
    let got = app::artifact::get(&context.session, &names, &options).await?;
    let filtered = !(args.include.is_empty() && args.exclude.is_empty());
    if filtered && got.iter().all(|got| got.files.is_empty()) {
        return Err(UsageError("no file matches --include and --exclude".to_owned()).into());
    }
    let mut text = String::new();
    let mut list = Vec::new();
    for got in &got {
        let fetched: u64 = got.files.iter().filter(|file| file.downloaded).map(|file| file.size).sum();
        let verified: u64 = got.files.iter().filter(|file| file.proof.is_verified()).map(|file| file.size).sum();
        for file in &got.files {
            writeln!(text, "{}", printable(&file.place.display().to_string()))?;
        }
        let (files, name) = (got.files.len(), got.artifact.name());
        writeln!(
            text,
            "  {name}: {}, {} verified, {} downloaded",
            counted(files, "file", "files"),
            bytes_text(verified),
            bytes_text(fetched)
        )?;
        for file in got.files.iter().filter(|file| !file.proof.is_verified()) {
            writeln!(text, "  {}: {}", printable(&file.path), proof_text(file.proof))?;
        }
        for (path, reason) in &got.missing {
            writeln!(text, "  {}: left out, {}", printable(path), printable(reason))?;
        }
        let shared = got.files.iter().filter(|file| file.placed == Some(Placed::Hardlinked)).count();
        if shared > 0 {
            writeln!(text, "  {shared} are hard links to the store: whoever writes to one alters the store's object")?;
        }
        let file = |file: &GotFile| {
            json!({
                "path": file.path,
                "place": file.place,
                "size": file.size,
                "downloaded": file.downloaded,
                "placed": file.placed.map(Placed::name),
                "verified": file.proof.is_verified(),
                "proof": file.proof.name(),
            })
        };
        list.push(json!({
            "artifact": name.to_string(),
            "version": got.artifact.version,
            "digest": got.artifact.digest,
            "folder": got.folder,
            "verified": got.files.iter().all(|file| file.proof.is_verified()),
            "missing": got.missing.iter().map(|(path, reason)| json!({"path": path, "reason": reason})).collect::<Vec<_>>(),
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
