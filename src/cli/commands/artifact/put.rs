//! `artifact put`.

use std::fmt::Write as _;

use anyhow::Context as _;
use serde_json::{Map, Value, json};
use wandb_pca::app::artifact::{self, Base, Put, PutOptions, PutPlan, Unchanged};
use wandb_pca::digest::Algorithm;
use wandb_pca::wandb::{Checksum, Filter, Ttl};

use crate::cli::args;
use crate::cli::context::Context;
use crate::cli::duration;
use crate::cli::exit::UsageError;
use crate::cli::render::{Output, bytes_text, counted, printable};

use super::{artifact_name, located, version_of};

pub(super) async fn run(context: &Context<'_>, args: &args::Put) -> anyhow::Result<Output> {
    let options = options(context, args).await?;
    if args.dry_run {
        return plan_output(&artifact::plan_put(&context.session, &options).await?);
    }
    put_output(&artifact::put(&context.session, &options).await?)
}

async fn options(context: &Context<'_>, args: &args::Put) -> anyhow::Result<PutOptions> {
    let usage = |error: wandb_pca::wandb::WandbError| UsageError(error.to_string());
    let name = located(context, &args.name).await?;
    let base = match &args.base {
        Some(text) => Some(version_of(context, &name, text).await?),
        None => None,
    };
    let mut options = PutOptions::new(name, &args.kind);
    options.paths = args.paths.clone();
    options.filter = Filter::new(&args.include, &args.exclude).map_err(usage)?;
    options.references = args.reference.iter().map(|text| reference(text)).collect();
    options.checksum = if args.no_checksum { Checksum::Skip } else { Checksum::Compute };
    options.most_objects = args.max_objects;
    (options.aliases, options.tags) = (args.alias.clone(), args.tag.clone());
    options.description = args.description.clone();
    options.metadata = args.metadata.as_deref().map(metadata).transpose()?.unwrap_or_default();
    options.ttl = args.ttl.as_deref().map(ttl).transpose()?.unwrap_or_default();
    options.algorithm = match args.digest {
        args::Digest::Md5 => Algorithm::Md5,
        args::Digest::Xxh128 => Algorithm::Xxh128,
    };
    options.base = match (base, args.incremental) {
        (alias, true) => Base::Increment { alias },
        (Some(alias), false) => Base::Version { alias, without: args.remove.clone() },
        (None, false) => Base::Nothing,
    };
    options.links = args.link_to.iter().map(|text| artifact_name(text)).collect::<anyhow::Result<_>>()?;
    options.unchanged = if args.if_changed { Unchanged::Leave } else { Unchanged::Log };
    Ok(options)
}

/// `[PATH=]URI`, as address and path. What stands before the first `=` is a path when it holds no address itself.
fn reference(text: &str) -> (String, String) {
    match text.split_once('=') {
        Some((path, uri)) if !path.contains("://") => (uri.to_owned(), path.to_owned()),
        _ => (text.to_owned(), String::new()),
    }
}

/// A JSON object, or `@` and the path of a file with one.
fn metadata(text: &str) -> anyhow::Result<Map<String, Value>> {
    let (what, json) = match text.strip_prefix('@') {
        Some(path) => {
            (path, std::fs::read_to_string(path).with_context(|| format!("cannot read the metadata in {path}"))?)
        }
        None => ("--metadata", text.to_owned()),
    };
    serde_json::from_str(&json).map_err(|error| UsageError(format!("{what} is not a JSON object: {error}")).into())
}

/// A number and its unit, or `never`.
pub(super) fn ttl(text: &str) -> Result<Ttl, UsageError> {
    if text == "never" {
        return Ok(Ttl::Never);
    }
    let refuse = || UsageError(format!("`{text}` is no time to keep a version: write 30d, 12h, 2w or never"));
    let seconds = duration::parse(text).map_err(|_| refuse())?.as_secs();
    if (1..=i64::MAX as u64).contains(&seconds) { Ok(Ttl::Seconds(seconds)) } else { Err(refuse()) }
}

fn plan_output(plan: &PutPlan) -> anyhow::Result<Output> {
    let PutPlan { prepared, latest, unchanged, .. } = plan;
    let manifest = prepared.manifest();
    let latest = latest.as_ref().map(|latest| latest.name().to_string());
    let size = |(_, size): (&str, u64)| size;
    let bytes: u64 = prepared.files().map(size).sum();
    let mut text = String::new();
    for (path, entry) in &manifest.entries {
        let target = entry.reference.as_ref().map(|uri| format!("  -> {uri}")).unwrap_or_default();
        writeln!(text, "{:>12}  {}{}", bytes_text(entry.size), printable(path), printable(&target))?;
    }
    let (entries, files, digest) = (manifest.entries.len(), prepared.files().count(), prepared.digest());
    writeln!(
        text,
        "  {}: {}, {} of {} to send where the server lacks them",
        prepared.collection(),
        counted(entries, "entry", "entries"),
        counted(files, "file", "files"),
        bytes_text(bytes)
    )?;
    match (&latest, unchanged) {
        (Some(latest), true) => writeln!(text, "  digest {digest}: the same as {latest}, so no new version")?,
        (Some(latest), false) => writeln!(text, "  digest {digest}: another than {latest}, so a new version")?,
        (None, _) => writeln!(text, "  digest {digest}: the first version")?,
    }
    let entry = |(path, entry): (&String, &wandb_pca::wandb::Entry)| json!({"path": path, "size": entry.size, "digest": entry.digest, "reference": entry.reference});
    let json = json!({
        "artifact": prepared.collection(),
        "digest": digest,
        "files": files,
        "bytes": bytes,
        "latest": latest,
        "unchanged": unchanged,
        "entries": manifest.entries.iter().map(entry).collect::<Vec<_>>(),
    });
    Ok(Output { schema: "artifact-put-plan/1", json, text })
}

fn put_output(put: &Put) -> anyhow::Result<Output> {
    let logged = &put.logged;
    let (artifact, name) = (&logged.artifact, logged.artifact.name());
    let holds = format!("{}, {}", counted(artifact.file_count, "file", "files"), bytes_text(artifact.size));
    let sent = format!("{}, {}", counted(logged.sent_files, "file", "files"), bytes_text(logged.sent_bytes));
    let mut text = match (logged.created, &put.run) {
        (true, _) => format!("{name} ({holds}; {sent} sent)\n"),
        (false, Some(_)) => format!("{name} has this content already ({holds}); nothing sent\n"),
        (false, None) => format!("{name} is unchanged ({holds}); nothing done\n"),
    };
    for link in &put.links {
        writeln!(text, "  linked as {link}")?;
    }
    let json = json!({
        "artifact": name.to_string(),
        "version": artifact.version,
        "digest": artifact.digest,
        "created": logged.created,
        "files": artifact.file_count,
        "bytes": artifact.size,
        "sent_files": logged.sent_files,
        "sent_bytes": logged.sent_bytes,
        "run": put.run,
        "links": put.links.iter().map(ToString::to_string).collect::<Vec<_>>(),
    });
    Ok(Output { schema: "artifact-put/1", json, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, seconds) in [("30d", 2_592_000), ("12h", 43_200), ("2w", 1_209_600), ("90s", 90), ("5m", 300)] {
            assert_eq!(ttl(text).unwrap(), Ttl::Seconds(seconds), "{text}");
        }
        assert_eq!(ttl("never").unwrap(), Ttl::Never);
        for text in ["", "d", "30", "0d", "-1d", "1.5h", "30 d", "1y", "99999999999999999999d", "9223372036854775807w"]
        {
            assert!(ttl(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_path_may_stand_before_an_address() {
        for (text, uri, path) in [
            ("https://h/x.ckpt", "https://h/x.ckpt", ""),
            ("deep/y.ckpt=https://h/x.ckpt?version=3", "https://h/x.ckpt?version=3", "deep/y.ckpt"),
            ("https://h/x?version=3", "https://h/x?version=3", ""),
            ("s3://b/a=1/x", "s3://b/a=1/x", ""),
            ("g=wandb-artifact://e/p/a:v0/f", "wandb-artifact://e/p/a:v0/f", "g"),
        ] {
            assert_eq!(reference(text), (uri.to_owned(), path.to_owned()), "{text}");
        }
    }

    #[test]
    fn metadata_is_an_object_here_or_in_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{\"a\": 1}").unwrap();
        assert_eq!(metadata(&format!("@{}", file.path().display())).unwrap()["a"], 1);
        assert_eq!(metadata("{\"b\": 2}").unwrap()["b"], 2);
        assert!(metadata("[1]").unwrap_err().is::<UsageError>() && metadata("@/no/such/file").is_err());
    }
}
