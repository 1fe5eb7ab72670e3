//! Uploads: hash the sources, create the version, send what the server lacks, write the manifest, commit.
//!
//! The sequence and its numbers are the official client's (`core/pkg/artifacts/{saver,multipart}.go`). Bytes stream from
//! the source; nothing is staged. Content that the server has is not sent. Network and file I/O.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::digest::{Algorithm, Digest};
use crate::progress::{Stage, Task};

use super::super::Client;
use super::super::error::WandbError;
use super::super::graphql::execute;
use super::super::operations::{
    AliasInput, CommitArtifact, CompleteMultipart, CompleteMultipartInput, CreateArtifact, CreateArtifactInput,
    CreateFiles, CreateFilesInput, CreateManifest, CreateManifestInput, CreatedFile, FileSpec, MultipartUrls,
    PartInput, TagInput,
};
use super::super::retry::Budget;
use super::Artifact;
use super::draft::ArtifactDraft;
use super::manifest::{Entry, Manifest};
use super::source::{Hashed, Piece, hash};

const MANIFEST: &str = "wandb_manifest.json";
const BATCH: usize = 200;

/// Who logs an artifact, and the ids that the client gives it.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Author<'a> {
    pub(in super::super) entity: &'a str,
    pub(in super::super) project: &'a str,
    pub(in super::super) run: &'a str,
    pub(in super::super) step: Option<u64>,
    /// 128 random characters each; references in tables name them.
    pub(in super::super) client_id: &'a str,
    pub(in super::super) sequence_client_id: &'a str,
}

/// One upload under way.
struct Upload<'a> {
    client: &'a Client,
    budget: &'a Budget,
    author: Author<'a>,
    draft: &'a ArtifactDraft,
    /// In words, for messages.
    what: String,
}

/// The version as the server created it, before it is committed.
struct Created {
    artifact: String,
    manifest: String,
    base: Option<String>,
}

/// What the server made of the wish for a version.
enum Creation {
    /// The collection has the same content already, in the version with this id.
    Existing(String),
    New(Created),
}

impl Client {
    /// Uploads a draft and returns the committed version, which is an older one when its content is the same.
    pub(in super::super) async fn upload(
        &self,
        author: Author<'_>,
        draft: &ArtifactDraft,
    ) -> Result<Artifact, WandbError> {
        let budget = self.budget();
        let what = format!("artifact {}/{}/{}", author.entity, author.project, draft.name);
        let upload = Upload { client: self, budget: &budget, author, draft, what: what.clone() };
        let id = self.transport().within(&budget, &what, upload.run()).await??;
        self.artifact_by_id(&id).await
    }
}

impl Upload<'_> {
    async fn run(&self) -> Result<String, WandbError> {
        let files = self.hash_all().await?;
        let entry = |(path, file): (&String, &Hashed)| (path.clone(), Entry::file(file.md5, file.size, None));
        let mut manifest = Manifest::of(files.iter().map(entry).collect());
        let created = match self.create(&manifest).await? {
            Creation::Existing(id) => return Ok(id),
            Creation::New(created) => created,
        };
        let births = self.send_all(&created, &files).await?;
        for (path, birth) in births {
            if let Some(entry) = manifest.entries.get_mut(&path) {
                entry.birth_artifact_id = birth;
            }
        }
        self.send_manifest(&created, &manifest).await?;
        let commit = CommitArtifact { artifact_id: &created.artifact };
        execute(self.client.transport(), self.budget, &format!("committing {}", self.what), &commit).await?;
        Ok(created.artifact)
    }

    async fn hash_all(&self) -> Result<BTreeMap<String, Hashed>, WandbError> {
        let threshold = self.client.multipart_threshold();
        let mut work: Vec<BoxFuture<'_, Result<_, WandbError>>> = Vec::with_capacity(self.draft.files.len());
        for (path, source) in &self.draft.files {
            let (label, source) = (path.clone(), source.clone());
            let progress = self.client.transport().progress.clone();
            let hash = move || hash(&source, threshold, |total| progress.begin(Stage::Verify, &label, Some(total)));
            work.push(Box::pin(async move { Ok((path.clone(), super::download::blocking(path, hash).await??)) }));
        }
        let parallel = std::thread::available_parallelism().map_or(2, usize::from);
        stream::iter(work).buffer_unordered(parallel).try_collect().await
    }

    /// Creates the version, or finds the one with the same content.
    async fn create(&self, manifest: &Manifest) -> Result<Creation, WandbError> {
        let variables = CreateArtifact { input: self.input(manifest)? };
        let what = format!("creating {}", self.what);
        let data = execute(self.client.transport(), self.budget, &what, &variables).await?;
        let empty = || WandbError::Malformed { what: what.clone(), reason: "it is empty".to_owned() };
        let artifact = data.create_artifact.ok_or_else(empty)?.artifact;
        if artifact.state == "COMMITTED" {
            return Ok(Creation::Existing(artifact.id));
        }
        let base = artifact.artifact_sequence.latest_artifact.map(|latest| latest.id);
        let created = self.create_manifest((&artifact.id, base.as_deref()), None).await?;
        Ok(Creation::New(Created { artifact: artifact.id, manifest: created.id, base }))
    }

    fn input(&self, manifest: &Manifest) -> Result<CreateArtifactInput<'_>, WandbError> {
        let (draft, author) = (self.draft, self.author);
        let name = draft.name.as_str();
        let unfit = |error: serde_json::Error| WandbError::Option { option: "metadata", reason: error.to_string() };
        let metadata = Some(&draft.metadata).filter(|metadata| !metadata.is_empty());
        Ok(CreateArtifactInput {
            entity_name: author.entity,
            project_name: author.project,
            artifact_type_name: &draft.artifact_type,
            artifact_collection_name: name,
            run_name: author.run,
            digest: manifest.digest(),
            digest_algorithm: "MANIFEST_MD5",
            description: draft.description.as_deref(),
            metadata: metadata.map(serde_json::to_string).transpose().map_err(unfit)?,
            aliases: draft.aliases.iter().map(|alias| AliasInput { artifact_collection_name: name, alias }).collect(),
            tags: draft.tags.iter().map(|tag| TagInput { tag_name: tag }).collect(),
            ttl_duration_seconds: draft.ttl_seconds.and_then(|seconds| i64::try_from(seconds).ok()),
            history_step: author.step.filter(|step| *step > 0),
            client_id: author.client_id,
            sequence_client_id: author.sequence_client_id,
            enable_digest_deduplication: true,
        })
    }

    async fn create_manifest(
        &self,
        (artifact, base): (&str, Option<&str>),
        digest: Option<&str>,
    ) -> Result<super::super::operations::CreatedManifest, WandbError> {
        let input = CreateManifestInput {
            artifact_id: artifact,
            base_artifact_id: base,
            name: MANIFEST,
            digest: digest.unwrap_or_default(),
            entity_name: self.author.entity,
            project_name: self.author.project,
            run_name: self.author.run,
            kind: "FULL",
        };
        let what = format!("the manifest of {}", self.what);
        let variables = CreateManifest { input, include_upload: digest.is_some() };
        let data = execute(self.client.transport(), self.budget, &what, &variables).await?;
        let empty = || WandbError::Malformed { what, reason: "it is empty".to_owned() };
        data.create_artifact_manifest.map(|payload| payload.artifact_manifest).ok_or_else(empty)
    }

    /// Sends every file that the server lacks; returns which artifact each one's bytes belong to.
    async fn send_all(
        &self,
        created: &Created,
        files: &BTreeMap<String, Hashed>,
    ) -> Result<BTreeMap<String, Option<String>>, WandbError> {
        let mut births = BTreeMap::new();
        let all: Vec<(&String, &Hashed)> = files.iter().collect();
        for batch in all.chunks(BATCH) {
            let answers = self.ask(created, batch).await?;
            let mut work: Vec<BoxFuture<'_, _>> = Vec::with_capacity(batch.len());
            for (&(path, file), answer) in batch.iter().zip(answers) {
                let send = self.send(created, (path, file), answer);
                work.push(Box::pin(async move { send.await.map(|birth| (path.clone(), birth)) }));
            }
            let sent: Vec<_> = stream::iter(work).buffer_unordered(self.client.concurrency()).try_collect().await?;
            births.extend(sent);
        }
        Ok(births)
    }

    /// Asks where to send files; the answers come in the order asked.
    async fn ask<'f>(
        &self,
        created: &'f Created,
        batch: &[(&'f String, &'f Hashed)],
    ) -> Result<Vec<CreatedFile>, WandbError> {
        let part = |piece: &Piece| PartInput { part_number: piece.number, hex_md5: piece.md5.to_hex() };
        let spec = |&(path, file): &(&'f String, &'f Hashed)| FileSpec {
            artifact_id: &created.artifact,
            artifact_manifest_id: &created.manifest,
            name: path.as_str(),
            md5: file.md5.to_base64(),
            upload_parts_input: (!file.pieces.is_empty()).then(|| file.pieces.iter().map(part).collect()),
        };
        let artifact_files: Vec<FileSpec<'_>> = batch.iter().map(spec).collect();
        let variables = CreateFiles { input: CreateFilesInput { artifact_files, storage_layout: "V2" } };
        let what = format!("the files of {}", self.what);
        let data = execute(self.client.transport(), self.budget, &what, &variables).await?;
        let malformed = |reason: String| WandbError::Malformed { what: what.clone(), reason };
        let payload = data.create_artifact_files.ok_or_else(|| malformed("it is empty".to_owned()))?;
        let answers: Vec<CreatedFile> = payload.files.edges.into_iter().filter_map(|edge| edge.node).collect();
        if answers.len() != batch.len() {
            return Err(malformed(format!("{} answers for {} files", answers.len(), batch.len())));
        }
        Ok(answers)
    }

    /// Sends one file; asks for a new address when the one at hand has expired.
    async fn send(
        &self,
        created: &Created,
        (path, file): (&String, &Hashed),
        mut answer: CreatedFile,
    ) -> Result<Option<String>, WandbError> {
        let what = format!("{}/{path}", self.what);
        let closed = |_| WandbError::Interrupted { what: what.clone() };
        let _permit = self.client.transport().transfers.acquire().await.map_err(closed)?;
        let task = self.client.transport().progress.begin(Stage::Upload, &what, Some(file.size));
        for fresh in [true, false] {
            let birth = answer.artifact.as_ref().map(|artifact| artifact.id.clone());
            let sent = match (&answer.upload_multipart_urls, &answer.upload_url) {
                (Some(urls), _) if !file.pieces.is_empty() => {
                    self.send_pieces((file, &task, &what), &answer, urls).await
                }
                (_, Some(url)) => {
                    let headers = answer.upload_headers.as_deref().unwrap_or_default();
                    let slot = super::send::Slot { url, headers, what: &what };
                    self.client.send_slice(self.budget, slot, (file, 0..file.size), &task).await.map(|_| ())
                }
                // Stored already, under whichever artifact brought it.
                (_, None) => Ok(()),
            };
            match sent {
                Ok(()) => return Ok(birth),
                Err(error) if fresh && (error.is_denied() || matches!(error, WandbError::Rejected { .. })) => {
                    let again = self.ask(created, &[(path, file)]).await?;
                    let nothing = || WandbError::Malformed { what: what.clone(), reason: "it is empty".to_owned() };
                    answer = again.into_iter().next().ok_or_else(nothing)?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(WandbError::Interrupted { what })
    }

    /// Sends a large file in parts and completes it.
    async fn send_pieces(
        &self,
        (file, task, what): (&Hashed, &Task, &str),
        answer: &CreatedFile,
        urls: &MultipartUrls,
    ) -> Result<(), WandbError> {
        let malformed = |reason: &str| WandbError::Malformed { what: what.to_owned(), reason: reason.to_owned() };
        if urls.upload_url_parts.len() != file.pieces.len() {
            return Err(malformed("another number of parts than asked for"));
        }
        let mut parts: Vec<_> = urls.upload_url_parts.iter().collect();
        parts.sort_by_key(|part| part.part_number);
        let items = answer.upload_headers.as_deref().unwrap_or_default();
        let kind = items.iter().find(|item| item.to_ascii_lowercase().starts_with("content-type:"));
        let mut completed = Vec::with_capacity(file.pieces.len());
        for (piece, part) in file.pieces.iter().zip(parts) {
            let mut headers = vec![format!("Content-MD5:{}", piece.md5.to_base64())];
            headers.extend(kind.cloned());
            let slot = super::send::Slot { url: &part.upload_url, headers: &headers, what };
            let answer = self.client.send_slice(self.budget, slot, (file, piece.range.clone()), task).await?;
            let etag = answer.get("etag").and_then(|value| value.to_str().ok());
            let hex_md5 = etag.ok_or_else(|| malformed("a part without an ETag"))?.to_owned();
            completed.push(PartInput { part_number: piece.number, hex_md5 });
        }
        let birth = answer.artifact.as_ref().ok_or_else(|| malformed("a file without an artifact"))?;
        let storage_path = answer.storage_path.as_deref().ok_or_else(|| malformed("a file without a storage path"))?;
        let input = CompleteMultipartInput {
            complete_multipart_action: "Complete",
            completed_parts: completed,
            artifact_id: &birth.id,
            storage_path,
            upload_id: &urls.upload_id,
        };
        execute(self.client.transport(), self.budget, what, &CompleteMultipart { input }).await.map(|_| ())
    }

    async fn send_manifest(&self, created: &Created, manifest: &Manifest) -> Result<(), WandbError> {
        let what = format!("the manifest of {}", self.what);
        let malformed = |reason: String| WandbError::Malformed { what: what.clone(), reason };
        let bytes = manifest.to_json().map_err(|error| malformed(error.to_string()))?;
        let digest = Digest::of(Algorithm::Md5, &bytes).to_base64();
        let made = self.create_manifest((&created.artifact, created.base.as_deref()), Some(&digest)).await?;
        let url = made.file.upload_url.ok_or_else(|| malformed("it has no address to upload to".to_owned()))?;
        let file = Hashed::of_bytes(bytes.into());
        let task = self.client.transport().progress.begin(Stage::Upload, MANIFEST, Some(file.size));
        let slot = super::send::Slot { url: &url, headers: &made.file.upload_headers, what: &what };
        self.client.send_slice(self.budget, slot, (&file, 0..file.size), &task).await.map(|_| ())
    }
}
