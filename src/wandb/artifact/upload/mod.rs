//! Uploads: create the version, send what the server lacks, write the manifest, commit.
//!
//! The sequence and its numbers are the official client's (`core/pkg/artifacts/{saver,multipart}.go`). Bytes stream from
//! the source; nothing is staged. Content that the server has is not sent, so an upload that was killed goes on where it
//! stopped when the same draft is logged again: what it left behind was never committed, and nobody sees it. Network and
//! file I/O.

mod batch;
mod files;
mod parts;

use crate::digest::{Algorithm, Digest};
use crate::progress::Stage;
use crate::wandb::Client;
use crate::wandb::error::WandbError;
use crate::wandb::graphql::execute;
use crate::wandb::operations::{
    AliasInput, CommitArtifact, CreateArtifact, CreateArtifactInput, CreateManifest, CreateManifestInput,
    CreatedManifest, TagInput, UpdateManifest, UpdateManifestInput,
};
use crate::wandb::retry::Budget;

use super::Artifact;
use super::draft::{ArtifactDraft, Basis};
use super::manifest::Manifest;
use super::prepare::PreparedArtifact;
use super::send::Slot;
use super::source::Hashed;

/// Who logs an artifact, and the ids that the client gives it.
#[derive(Debug, Clone, Copy)]
pub(in crate::wandb) struct Author<'a> {
    pub(in crate::wandb) entity: &'a str,
    pub(in crate::wandb) project: &'a str,
    pub(in crate::wandb) run: &'a str,
    pub(in crate::wandb) step: Option<u64>,
    /// 128 random characters each; references in tables name them.
    pub(in crate::wandb) client_id: &'a str,
    pub(in crate::wandb) sequence_client_id: &'a str,
}

/// What became of a draft.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct LoggedArtifact {
    /// The version.
    pub artifact: Artifact,
    /// Whether it is a new one; an older version is answered when its content is the same.
    pub created: bool,
    /// Files whose bytes were sent: those that the server did not have.
    pub sent_files: u64,
    /// Bytes of those.
    pub sent_bytes: u64,
}

impl LoggedArtifact {
    /// A version that was there before, for which nothing was sent.
    pub fn existing(artifact: Artifact) -> Self {
        Self { artifact, created: false, sent_files: 0, sent_bytes: 0 }
    }
}

/// One upload under way.
struct Upload<'a> {
    client: &'a Client,
    budget: &'a Budget,
    author: Author<'a>,
    prepared: &'a PreparedArtifact,
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
    /// Uploads a prepared draft.
    pub(in crate::wandb) async fn upload(
        &self,
        author: Author<'_>,
        prepared: &PreparedArtifact,
    ) -> Result<LoggedArtifact, WandbError> {
        let budget = self.budget();
        let what = format!("artifact {}/{}/{}", author.entity, author.project, prepared.draft.name);
        let upload = Upload { client: self, budget: &budget, author, prepared, what: what.clone() };
        let (id, sent) = self.transport().within(&budget, &what, upload.run()).await??;
        let artifact = self.artifact_by_id(&id).await?;
        Ok(match sent {
            None => LoggedArtifact::existing(artifact),
            Some((sent_files, sent_bytes)) => LoggedArtifact { artifact, created: true, sent_files, sent_bytes },
        })
    }
}

impl Upload<'_> {
    fn draft(&self) -> &ArtifactDraft {
        &self.prepared.draft
    }

    /// The version's id, and how many files and bytes were sent when it is a new one.
    async fn run(&self) -> Result<(String, Option<(u64, u64)>), WandbError> {
        let created = match self.create().await? {
            Creation::Existing(id) => return Ok((id, None)),
            Creation::New(created) => created,
        };
        let mut manifest = self.prepared.manifest.clone();
        let (mut files, mut bytes) = (0, 0);
        for done in self.send_all(&created, &self.prepared.files).await? {
            (files, bytes) = (files + u64::from(done.sent), bytes + if done.sent { done.size } else { 0 });
            if let Some(entry) = manifest.entries.get_mut(&done.path) {
                entry.birth_artifact_id = done.birth;
            }
        }
        self.send_manifest(&created, &manifest).await?;
        let commit = CommitArtifact { artifact_id: &created.artifact };
        execute(self.client.transport(), self.budget, &format!("committing {}", self.what), &commit).await?;
        Ok((created.artifact, Some((files, bytes))))
    }

    /// Creates the version, or finds the one with the same content.
    async fn create(&self) -> Result<Creation, WandbError> {
        let variables = CreateArtifact { input: self.input()? };
        let what = format!("creating {}", self.what);
        let data = execute(self.client.transport(), self.budget, &what, &variables).await?;
        let empty = || WandbError::Malformed { what: what.clone(), reason: "it is empty".to_owned() };
        let artifact = data.create_artifact.ok_or_else(empty)?.artifact;
        match artifact.state.as_str() {
            "COMMITTED" => return Ok(Creation::Existing(artifact.id)),
            // Old servers answer DELETED for content that was deleted, and go on as with a new version.
            "PENDING" | "DELETED" => {}
            other => {
                return Err(WandbError::Malformed {
                    what,
                    reason: format!("the new version is {}", other.to_lowercase()),
                });
            }
        }
        let latest = artifact.artifact_sequence.latest_artifact.map(|latest| latest.id);
        let base = match &self.draft().basis {
            Basis::Version(id) | Basis::Increment(Some(id)) => Some(id.clone()),
            Basis::Nothing | Basis::Increment(None) => latest,
        };
        let created = self.create_manifest((&artifact.id, base.as_deref()), None).await?;
        Ok(Creation::New(Created { artifact: artifact.id, manifest: created.id, base }))
    }

    fn input(&self) -> Result<CreateArtifactInput<'_>, WandbError> {
        let (draft, author, manifest) = (self.draft(), self.author, &self.prepared.manifest);
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
            digest_algorithm: algorithm_name(manifest.algorithm),
            description: draft.description.as_deref(),
            metadata: metadata.map(serde_json::to_string).transpose().map_err(unfit)?,
            aliases: draft.aliases.iter().map(|alias| AliasInput { artifact_collection_name: name, alias }).collect(),
            tags: draft.tags.iter().map(|tag| TagInput { tag_name: tag }).collect(),
            ttl_duration_seconds: draft.ttl.wire(),
            history_step: author.step.filter(|step| *step > 0),
            client_id: author.client_id,
            sequence_client_id: author.sequence_client_id,
            enable_digest_deduplication: true,
            storage_region: manifest.region.as_deref(),
        })
    }

    fn is_increment(&self) -> bool {
        matches!(self.draft().basis, Basis::Increment(_))
    }

    async fn create_manifest(
        &self,
        (artifact, base): (&str, Option<&str>),
        digest: Option<&str>,
    ) -> Result<CreatedManifest, WandbError> {
        let (name, kind) = match self.is_increment() {
            true => ("wandb_manifest.incremental.json", "INCREMENTAL"),
            false => ("wandb_manifest.json", "FULL"),
        };
        let input = CreateManifestInput {
            artifact_id: artifact,
            base_artifact_id: base,
            name,
            digest: digest.unwrap_or_default(),
            entity_name: self.author.entity,
            project_name: self.author.project,
            run_name: self.author.run,
            kind,
        };
        let what = format!("the manifest of {}", self.what);
        let variables = CreateManifest { input, include_upload: digest.is_some() };
        let data = execute(self.client.transport(), self.budget, &what, &variables).await?;
        let empty = || WandbError::Malformed { what, reason: "it is empty".to_owned() };
        data.create_artifact_manifest.map(|payload| payload.artifact_manifest).ok_or_else(empty)
    }

    /// Tells the digest of the manifest: for a whole one by announcing it anew, for an increment by completing the one
    /// that was announced first, as the official client does.
    async fn announce(&self, created: &Created, digest: &str) -> Result<CreatedManifest, WandbError> {
        if !self.is_increment() {
            return self.create_manifest((&created.artifact, created.base.as_deref()), Some(digest)).await;
        }
        let what = format!("the manifest of {}", self.what);
        let input = UpdateManifestInput {
            artifact_manifest_id: &created.manifest,
            digest,
            base_artifact_id: created.base.as_deref(),
        };
        let variables = UpdateManifest { input, include_upload: true };
        let data = execute(self.client.transport(), self.budget, &what, &variables).await?;
        let empty = || WandbError::Malformed { what, reason: "it is empty".to_owned() };
        data.update_artifact_manifest.map(|payload| payload.artifact_manifest).ok_or_else(empty)
    }

    async fn send_manifest(&self, created: &Created, manifest: &Manifest) -> Result<(), WandbError> {
        let what = format!("the manifest of {}", self.what);
        let malformed = |reason: String| WandbError::Malformed { what: what.clone(), reason };
        let bytes = manifest.to_json().map_err(|error| malformed(error.to_string()))?;
        let digest = Digest::of(Algorithm::Md5, &bytes).to_base64();
        let made = self.announce(created, &digest).await?;
        let url = made.file.upload_url.ok_or_else(|| malformed("it has no address to upload to".to_owned()))?;
        let file = Hashed::of_bytes(bytes.into());
        let task = self.client.transport().progress.begin(Stage::Upload, &what, Some(file.size));
        let slot = Slot { url: &url, headers: &made.file.upload_headers, what: &what };
        self.client.send_slice(self.budget, slot, (&file, 0..file.size), &task.into()).await.map(|_| ())
    }
}

/// The server's word for an algorithm.
pub(super) fn algorithm_name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Md5 => "MANIFEST_MD5",
        Algorithm::Xxh128 => "MANIFEST_XXH128",
    }
}
