//! The steps of an upload: announcing manifests, asking where files go, closing multipart uploads.

use apollo_compiler::resolvers::ResolvedValue;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};

use super::artifact::ManifestNode;
use super::artifact_write::birth;
use super::file::FileNode;
use super::plain::{Item, Page, Payload};
use super::{Ask, Fault};
use crate::digest::{Algorithm, Digest, hex};
use crate::server::auth::random;
use crate::server::blob::Blob;
use crate::server::clock::now;
use crate::server::ids;
use crate::server::rows::artifact::{Artifact, Manifest};

#[derive(Deserialize)]
struct AnnounceManifest {
    #[serde(rename = "artifactID")]
    artifact: String,
    #[serde(rename = "baseArtifactID")]
    base: Option<String>,
    name: String,
    digest: String,
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// `Mutation.createArtifactManifest`. The first call of an upload gives no digest and only wants an id.
pub(super) fn create_manifest(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    let input: AnnounceManifest = ask.input()?;
    let base = input.base.as_deref().map(|id| ids::decode("Artifact", id)).transpose()?;
    let manifest = ask.services().db.write(|db| {
        let artifact = pending(db, &input.artifact)?;
        let sql = "INSERT INTO manifest (artifact_id, name, kind, digest, base_artifact, created_at)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let kind = input.kind.as_deref().unwrap_or("FULL");
        db.execute(sql, params![artifact.id, input.name, kind, input.digest, base, now()])?;
        Manifest::get(db, db.last_insert_rowid())
    })?;
    Ok(manifest_payload(ask, "CreateArtifactManifestPayload", manifest))
}

#[derive(Deserialize)]
struct UpdateManifest {
    #[serde(rename = "artifactManifestID")]
    manifest: String,
    digest: Option<String>,
    #[serde(rename = "baseArtifactID")]
    base: Option<String>,
}

/// `Mutation.updateArtifactManifest`: now its digest is known.
pub(super) fn update_manifest(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    let input: UpdateManifest = ask.input()?;
    let id = ids::decode("ArtifactManifest", &input.manifest)?;
    let base = input.base.as_deref().map(|id| ids::decode("Artifact", id)).transpose()?;
    let manifest = ask.services().db.write(|db| {
        let sql = "UPDATE manifest SET digest = coalesce(?2, digest), base_artifact = coalesce(?3, base_artifact)
                   WHERE id = ?1";
        db.execute(sql, params![id, input.digest, base])?;
        Manifest::get(db, id)
    })?;
    Ok(manifest_payload(ask, "UpdateArtifactManifestPayload", manifest))
}

fn manifest_payload<'a>(ask: Ask<'a>, type_name: &'static str, manifest: Manifest) -> ResolvedValue<'a> {
    ask.context.object(Payload::new(type_name).object("artifactManifest", ManifestNode::Announced(manifest)))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreateFiles {
    artifact_files: Vec<FileSpec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileSpec {
    #[serde(rename = "artifactID")]
    artifact: String,
    name: String,
    md5: String,
    upload_parts_input: Option<Vec<PartSpec>>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct PartSpec {
    part_number: i64,
    #[serde(rename = "hexMD5")]
    hex_md5: String,
}

/// `Mutation.createArtifactFiles`: for each file, in the order asked, where to send it; or nothing when it is here.
pub(super) fn create_files(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    let input: CreateFiles = ask.input()?;
    let nodes = ask
        .services()
        .db
        .write(|db| input.artifact_files.iter().map(|spec| file_answer(db, spec)).collect::<Result<Vec<_>, Fault>>())?;
    let total = nodes.len() as i64;
    let items = nodes
        .into_iter()
        .enumerate()
        .map(|(index, value)| Item { cursor: (index + 1).to_string(), version: None, value })
        .collect();
    let page = Page::new("FileConnection", items, false, total);
    Ok(ask.context.object(Payload::new("CreateArtifactFilesPayload").object("files", page)))
}

fn file_answer(db: &Connection, spec: &FileSpec) -> Result<FileNode, Fault> {
    let artifact = pending(db, &spec.artifact)?;
    let md5 = Digest::from_base64(Algorithm::Md5, &spec.md5)
        .map_err(|error| Fault::invalid(format!("md5 of `{}`: {error}", spec.name)))?;
    if let Some(blob) = Blob::find_by_digest(db, Algorithm::Md5, &md5.to_hex())? {
        let birth = birth(db, &blob.sha256)?.unwrap_or(artifact.id);
        return Ok(FileNode::present(birth, &spec.name, &blob));
    }
    match spec.upload_parts_input.as_deref() {
        None | Some([]) => Ok(FileNode::wanted(artifact.id, &spec.name, &md5)),
        Some(parts) => {
            let upload = start_multipart(db, &artifact, &md5, parts)?;
            let numbers = parts.iter().map(|part| part.part_number).collect();
            Ok(FileNode::wanted(artifact.id, &spec.name, &md5).in_parts(upload, numbers))
        }
    }
}

fn start_multipart(db: &Connection, artifact: &Artifact, md5: &Digest, parts: &[PartSpec]) -> Result<String, Fault> {
    if parts.iter().zip(1..).any(|(part, number)| part.part_number != number) {
        return Err(Fault::invalid("the parts of an upload are numbered 1, 2, 3 and so on"));
    }
    let id = hex(&random::<16>().map_err(|_| Fault::Lost)?);
    let text = serde_json::to_string(parts).map_err(|error| Fault::invalid(error.to_string()))?;
    let sql = "INSERT INTO multipart (id, artifact_id, md5, parts, created_at) VALUES (?1, ?2, ?3, ?4, ?5)";
    db.execute(sql, params![id, artifact.id, md5.to_hex(), text, now()])?;
    Ok(id)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Complete {
    #[serde(rename = "uploadID")]
    upload: String,
    completed_parts: Vec<PartSpec>,
}

/// `Mutation.completeMultipartUploadArtifact`: the parts become one content, when they are what was announced.
///
/// Clients repeat the call when the joining takes longer than they wait: an upload that is complete stays so.
pub(super) fn complete_multipart(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    let input: Complete = ask.input()?;
    let services = ask.services();
    let sql = "SELECT md5, parts FROM multipart WHERE id = ?1";
    let found: Option<(String, String)> =
        ask.db().query_row(sql, [&input.upload], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let (md5, parts) = found.ok_or_else(|| Fault::not_found("multipart upload", input.upload.as_str()))?;
    let parts: Vec<PartSpec> = serde_json::from_str(&parts).map_err(|_| Fault::Lost)?;
    let blob = match Blob::find_by_digest(ask.db(), Algorithm::Md5, &md5)? {
        Some(blob) => blob,
        None => {
            check_parts(&parts, &input.completed_parts)?;
            let numbers: Vec<u64> = parts.iter().filter_map(|part| u64::try_from(part.part_number).ok()).collect();
            let whole = services.blobs.join(&input.upload, &numbers)?;
            if whole.md5() != md5 {
                return Err(Fault::invalid(format!("the parts join to MD5 {}, not to {md5}", whole.md5())));
            }
            services.blobs.keep(&services.db, whole)?
        }
    };
    services.blobs.forget_parts(&input.upload)?;
    Ok(ask.context.object(Payload::new("CompleteMultipartUploadArtifactPayload").leaf("digest", blob.md5)))
}

/// What clients report as a part's MD5 is the `ETag` they got for it, with its quotes.
fn check_parts(announced: &[PartSpec], completed: &[PartSpec]) -> Result<(), Fault> {
    let plain = |part: &PartSpec| (part.part_number, part.hex_md5.trim_matches('"').to_ascii_lowercase());
    let mut completed: Vec<_> = completed.iter().map(plain).collect();
    completed.sort();
    if completed != announced.iter().map(plain).collect::<Vec<_>>() {
        return Err(Fault::invalid("the completed parts are not the announced ones"));
    }
    Ok(())
}

/// The artifact of this id, which may still be changed.
fn pending(db: &Connection, id: &str) -> Result<Artifact, Fault> {
    let artifact = Artifact::get(db, ids::decode("Artifact", id)?)?;
    match artifact.state.as_str() {
        "PENDING" => Ok(artifact),
        state => Err(Fault::conflict(format!("the artifact is {}: its content is final", state.to_lowercase()))),
    }
}
