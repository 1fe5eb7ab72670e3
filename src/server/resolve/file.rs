//! Files: of artifacts, of runs, manifests, and the answers to upload requests.

use apollo_compiler::resolvers::ResolvedValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::artifact::ArtifactNode;
use super::plain::{Item, Page, Payload, page_size};
use super::{Ask, Fault, Resolve};
use crate::digest::{Algorithm, Digest};
use crate::server::blob::Blob;
use crate::server::clock::{Millis, iso};
use crate::server::ids;
use crate::server::rows::artifact::{Artifact, Entry, Manifest};
use crate::server::rows::commit::algorithm_of;
use crate::server::rows::run_file::RunFile;

/// What stays as it is in the last segment of a URL.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Where a file's content can be had.
enum Content {
    /// Here, under this SHA-256.
    Stored(String),
    /// Somewhere else: what the reference says.
    Reference(String),
    /// Not yet here.
    Missing,
}

/// Where a client shall send a file.
enum Upload {
    /// Nowhere: there is nothing to send, or it is here already.
    None,
    /// To this path, with these headers.
    Whole { path: String, headers: Vec<String> },
    /// In parts. The path is given beside them, as W&B does: the official client takes a file without one for stored.
    Parts { path: String, upload: String, numbers: Vec<i64>, headers: Vec<String> },
}

/// A file as the schema shows it.
pub(super) struct FileNode {
    id: String,
    name: String,
    size: i64,
    updated_at: Option<Millis>,
    /// As in the manifest.
    digest: Option<String>,
    /// Base64.
    md5: Option<String>,
    content: Content,
    storage_path: Option<String>,
    upload: Upload,
    /// The artifact whose upload brought the content, for answers to upload requests.
    birth: Option<i64>,
}

impl FileNode {
    fn new(id: String, name: &str) -> Self {
        Self {
            id,
            name: name.to_owned(),
            size: 0,
            updated_at: None,
            digest: None,
            md5: None,
            content: Content::Missing,
            storage_path: None,
            upload: Upload::None,
            birth: None,
        }
    }

    /// An entry of a committed artifact.
    pub(super) fn entry(artifact: &Artifact, entry: &Entry) -> Self {
        let md5 = (algorithm_of(entry.extra.as_deref()) == Algorithm::Md5 && entry.sha256.is_some())
            .then(|| entry.digest.clone());
        let content = match (&entry.sha256, &entry.reference) {
            (Some(sha256), _) => Content::Stored(sha256.clone()),
            (None, Some(reference)) => Content::Reference(reference.clone()),
            (None, None) => Content::Missing,
        };
        Self {
            size: entry.size,
            updated_at: Some(artifact.updated_at),
            digest: Some(entry.digest.clone()),
            md5,
            storage_path: entry.sha256.as_ref().map(|sha256| format!("wandb_artifacts/{sha256}")),
            content,
            ..Self::new(ids::encode(&format!("ArtifactFile:{}", entry.path), artifact.id), &entry.path)
        }
    }

    /// The manifest of a committed artifact.
    pub(super) fn stored_manifest(artifact: i64, sha256: &str) -> Self {
        let content = Content::Stored(sha256.to_owned());
        Self { content, ..Self::new(ids::encode("ArtifactManifestFile", artifact), "wandb_manifest.json") }
    }

    /// A manifest that is about to be uploaded, once its digest is known.
    pub(super) fn announced_manifest(manifest: &Manifest) -> Result<Self, Fault> {
        let mut file = Self::new(ids::encode("ArtifactManifestFile", manifest.id), &manifest.name);
        if !manifest.digest.is_empty() {
            let digest = Digest::from_base64(Algorithm::Md5, &manifest.digest)
                .map_err(|error| Fault::invalid(format!("manifest digest: {error}")))?;
            file = file.awaiting(&digest, Some("application/json"));
        }
        Ok(file)
    }

    /// The answer for a file of an artifact being uploaded: in one request.
    pub(super) fn wanted(artifact: i64, name: &str, md5: &Digest) -> Self {
        let file = Self::new(ids::encode("ArtifactUpload", artifact), name);
        Self { birth: Some(artifact), ..file.awaiting(md5, None) }
    }

    /// The same, in parts.
    pub(super) fn in_parts(self, upload: String, numbers: Vec<i64>) -> Self {
        let path = match self.upload {
            Upload::Whole { path, .. } | Upload::Parts { path, .. } => path,
            Upload::None => String::new(),
        };
        let headers = vec!["Content-Type:application/octet-stream".to_owned()];
        Self {
            storage_path: Some(format!("wandb_artifacts/parts/{upload}")),
            upload: Upload::Parts { path, upload, numbers, headers },
            ..self
        }
    }

    /// The answer for a file whose content is here: it was born in that artifact.
    pub(super) fn present(birth: i64, name: &str, blob: &Blob) -> Self {
        Self {
            birth: Some(birth),
            content: Content::Stored(blob.sha256.clone()),
            storage_path: Some(format!("wandb_artifacts/{}", blob.sha256)),
            ..Self::new(ids::encode("ArtifactUpload", birth), name)
        }
    }

    /// A file of a run.
    pub(super) fn of_run(file: &RunFile) -> Self {
        let md5 = file.md5.as_deref().map(base64_of_hex);
        Self {
            size: file.size.unwrap_or(0),
            updated_at: Some(file.updated_at),
            digest: md5.clone(),
            md5,
            content: file.sha256.clone().map_or(Content::Missing, Content::Stored),
            upload: Upload::Whole { path: format!("/storage/run-file/{}", file.id), headers: Vec::new() },
            ..Self::new(ids::encode("RunFile", file.id), &file.name)
        }
    }

    fn awaiting(self, md5: &Digest, content_type: Option<&str>) -> Self {
        let headers = vec![
            format!("Content-MD5:{}", md5.to_base64()),
            format!("Content-Type:{}", content_type.unwrap_or("application/octet-stream")),
        ];
        let path = format!("/storage/upload/{}", md5.to_hex());
        let storage_path = Some(format!("wandb_artifacts/md5/{}", md5.to_hex()));
        Self { md5: Some(md5.to_base64()), storage_path, upload: Upload::Whole { path, headers }, ..self }
    }

    fn url(&self, ask: Ask<'_>) -> Option<String> {
        match &self.content {
            Content::Stored(sha256) => {
                let name = self.name.rsplit('/').next().unwrap_or_default();
                let segment = utf8_percent_encode(name, SEGMENT);
                Some(ask.context.signed("GET", &format!("/storage/blob/{sha256}/{segment}")))
            }
            Content::Reference(reference) => Some(reference.clone()),
            Content::Missing => None,
        }
    }
}

impl Resolve for FileNode {
    fn type_name(&self) -> &str {
        "File"
    }

    fn field<'a>(&'a self, ask: Ask<'a>) -> Result<ResolvedValue<'a>, Fault> {
        Ok(match ask.name() {
            "id" => ResolvedValue::leaf(self.id.as_str()),
            "name" | "displayName" => ResolvedValue::leaf(self.name.as_str()),
            "sizeBytes" => ResolvedValue::leaf(self.size),
            "updatedAt" => ResolvedValue::leaf(self.updated_at.map(iso)),
            "digest" => ResolvedValue::leaf(self.digest.clone()),
            "md5" => ResolvedValue::leaf(self.md5.clone()),
            "mimetype" => ResolvedValue::null(),
            "storagePath" => ResolvedValue::leaf(self.storage_path.clone()),
            "url" => ResolvedValue::leaf(self.url(ask)),
            // Demanded by the schema also where there is nothing to fetch.
            "directUrl" => ResolvedValue::leaf(self.url(ask).unwrap_or_default()),
            "uploadUrl" => match &self.upload {
                Upload::Whole { path, .. } | Upload::Parts { path, .. } => {
                    ResolvedValue::leaf(ask.context.signed("PUT", path))
                }
                Upload::None => ResolvedValue::null(),
            },
            "uploadHeaders" => match &self.upload {
                Upload::Whole { headers, .. } | Upload::Parts { headers, .. } => {
                    ResolvedValue::list(headers.iter().map(|header| ResolvedValue::leaf(header.as_str())))
                }
                Upload::None => ResolvedValue::list([]),
            },
            "uploadMultipartUrls" => match &self.upload {
                Upload::Parts { upload, numbers, .. } => ask.context.object(PartUrls { upload, numbers }),
                Upload::None | Upload::Whole { .. } => ResolvedValue::null(),
            },
            "artifact" => match self.birth {
                Some(birth) => ask.context.object(ArtifactNode(Artifact::get(ask.db(), birth)?)),
                None => ResolvedValue::null(),
            },
            _ => return ask.unresolved("File"),
        })
    }
}

struct PartUrls<'n> {
    upload: &'n str,
    numbers: &'n [i64],
}

impl Resolve for PartUrls<'_> {
    fn type_name(&self) -> &str {
        "UploadMultipartUrls"
    }

    fn field<'a>(&'a self, ask: Ask<'a>) -> Result<ResolvedValue<'a>, Fault> {
        Ok(match ask.name() {
            "uploadID" => ResolvedValue::leaf(self.upload),
            "uploadUrlParts" => ask.context.list(self.numbers.iter().map(|number| {
                let url = ask.context.signed("PUT", &format!("/storage/part/{}/{number}", self.upload));
                Payload::new("UploadUrlPart").leaf("partNumber", *number).leaf("uploadUrl", url)
            })),
            _ => return ask.unresolved("UploadMultipartUrls"),
        })
    }
}

/// The files of an artifact: all entries, references too, by path; or those named.
pub(super) fn of_artifact(ask: Ask<'_>, artifact: i64) -> Result<Page<FileNode>, Fault> {
    let db = ask.db();
    let artifact = Artifact::get(db, artifact)?;
    let node =
        |entry: &Entry| Item { cursor: entry.path.clone(), version: None, value: FileNode::entry(&artifact, entry) };
    if let Some(names) = ask.texts("names").filter(|names| !names.is_empty()) {
        let mut items = Vec::new();
        for name in names {
            items.extend(Entry::find(db, artifact.id, name)?.as_ref().map(node));
        }
        let total = items.len() as i64;
        return Ok(Page::new("FileConnection", items, false, total));
    }
    let count = page_size(ask)?;
    // One more than asked for tells whether there is another page.
    let entries = Entry::page(db, artifact.id, (ask.text("after").unwrap_or_default(), count.saturating_add(1)))?;
    let has_next = entries.len() > count;
    let items = entries.iter().take(count).map(node).collect();
    Ok(Page::new("FileConnection", items, has_next, artifact.file_count))
}

#[derive(Deserialize)]
struct EntryInput {
    name: String,
    digest: String,
    #[serde(rename = "ref")]
    reference: Option<String>,
}

/// `Artifact.filesByManifestEntries`: the client names digests, in its own order.
pub(super) fn by_manifest_entries(ask: Ask<'_>) -> Result<Page<FileNode>, Fault> {
    let entries = ask.arguments().get("entries").cloned().unwrap_or_default();
    let entries: Vec<EntryInput> = apollo_compiler::response::serde_json_bytes::from_value(entries)
        .map_err(|error| Fault::invalid(format!("entries: {error}")))?;
    let mut items = Vec::new();
    for (index, entry) in entries.into_iter().enumerate() {
        let mut node = FileNode::new(ids::encode("ManifestEntry", index as i64), &entry.name);
        if let Some(reference) = entry.reference {
            node.content = Content::Reference(reference);
        } else if let Ok(digest) = Digest::from_base64(Algorithm::Md5, &entry.digest) {
            // The client does not say how it hashed, and 16 bytes cannot tell.
            let hex = digest.to_hex();
            let found = match Blob::find_by_digest(ask.db(), Algorithm::Md5, &hex)? {
                Some(blob) => Some(blob),
                None => Blob::find_by_digest(ask.db(), Algorithm::Xxh128, &hex)?,
            };
            if let Some(blob) = found {
                node.size = i64::try_from(blob.size).unwrap_or(i64::MAX);
                node.content = Content::Stored(blob.sha256);
            }
        }
        node.digest = Some(entry.digest);
        items.push(Item { cursor: (index + 1).to_string(), version: None, value: node });
    }
    let total = items.len() as i64;
    Ok(Page::new("FileConnection", items, false, total))
}

fn base64_of_hex(hex: &str) -> String {
    use base64::Engine as _;
    let bytes: Vec<u8> = hex
        .as_bytes()
        .chunks(2)
        .filter_map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
