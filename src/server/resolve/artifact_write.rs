//! Making, committing, using, changing and deleting versions.

use apollo_compiler::resolvers::ResolvedValue;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::Deserialize;

use super::artifact::{AliasInput, ArtifactNode, TagInput};
use super::plain::Payload;
use super::project::entity_or_default;
use super::{Ask, Fault};
use crate::server::clock::now;
use crate::server::ids;
use crate::server::rows::alias;
use crate::server::rows::artifact::{Artifact, Direction};
use crate::server::rows::collection::{Collection, Kind, Membership};
use crate::server::rows::commit::commit as commit_version;
use crate::server::rows::project::Project;
use crate::server::rows::run::Run;

/// The one place content is stored.
const REGION: &str = "default";

/// `ttlDurationSeconds` that means "as the team says": nothing is set.
const TTL_INHERITED: i64 = -1;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Create {
    entity_name: String,
    project_name: String,
    artifact_type_name: String,
    artifact_collection_name: Option<String>,
    artifact_collection_names: Option<Vec<String>>,
    run_name: Option<String>,
    digest: String,
    digest_algorithm: String,
    description: Option<String>,
    metadata: Option<String>,
    aliases: Option<Vec<AliasInput>>,
    tags: Option<Vec<TagInput>>,
    ttl_duration_seconds: Option<i64>,
    history_step: Option<i64>,
    #[serde(default)]
    enable_digest_deduplication: Option<bool>,
    #[serde(rename = "distributedID")]
    distributed_id: Option<String>,
    #[serde(rename = "clientID")]
    client_id: Option<String>,
    #[serde(rename = "sequenceClientID")]
    sequence_client_id: Option<String>,
    storage_region: Option<String>,
}

impl Create {
    fn collection_name(&self) -> Result<&str, Fault> {
        let named = self.artifact_collection_names.as_ref().and_then(|names| names.first()).map(String::as_str);
        let name = self.artifact_collection_name.as_deref().or(named);
        name.filter(|name| !name.is_empty()).ok_or_else(|| Fault::invalid("the artifact's collection has no name"))
    }

    fn aliases(&self) -> Vec<&str> {
        self.aliases.iter().flatten().map(|alias| alias.alias.as_str()).collect()
    }

    fn tags(&self) -> impl Iterator<Item = &str> {
        self.tags.iter().flatten().map(|tag| tag.tag_name.as_str())
    }

    fn check(&self) -> Result<(), Fault> {
        let bytes = self.digest.len() / 2;
        if bytes != 16 || !self.digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Fault::invalid(format!("`{}` is not the hex digest of an artifact", self.digest)));
        }
        check_metadata(self.metadata.as_deref())?;
        match self.storage_region.as_deref().filter(|region| !region.is_empty()) {
            Some(region) if region != REGION => {
                Err(Fault::invalid(format!("storage region `{region}` is not known; there is only `{REGION}`")))
            }
            _ => Ok(()),
        }
    }
}

fn check_metadata(metadata: Option<&str>) -> Result<(), Fault> {
    match metadata.map(serde_json::from_str::<serde_json::Map<String, serde_json::Value>>) {
        Some(Err(error)) => Err(Fault::invalid(format!("metadata is not a JSON object: {error}"))),
        _ => Ok(()),
    }
}

/// `Mutation.createArtifact`: a pending version, or the one that is here already.
pub(super) fn create(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    let input: Create = ask.input()?;
    input.check()?;
    let name = input.collection_name()?;
    let artifact = ask.services().db.write(|db| {
        // A log written offline may name no entity, and the SDK then sends an empty one.
        let entity = entity_or_default(ask, Some(&input.entity_name));
        let project = Project::ensure(db, entity, &input.project_name)?;
        let sequence = Collection::ensure(db, &project, (name, Kind::Sequence), &input.artifact_type_name)?;
        let run = match &input.run_name {
            Some(run) => Run::find(db, project.id, run)?.map(|run| run.id),
            None => None,
        };
        let artifact = match known(db, &sequence, &input)? {
            Some(artifact) => artifact,
            None => Artifact::get(db, insert(db, &sequence, &input, run)?)?,
        };
        artifact.add_tags(db, input.tags())?;
        if let Some(run) = run {
            Direction::Output.record(db, (run, artifact.id), None)?;
        }
        if artifact.is_committed()
            && let Some(member) = Membership::of(db, sequence.id, artifact.id)?
        {
            for alias in input.aliases() {
                alias::point(db, &member, alias)?;
            }
        }
        Ok(artifact)
    })?;
    Ok(artifact_payload(ask, "CreateArtifactPayload", artifact))
}

/// The version that this request means without making one: the same client's, the same content's, or the one that the
/// workers of a distributed run share.
fn known(db: &Connection, sequence: &Collection, input: &Create) -> Result<Option<Artifact>, Fault> {
    if let Some(client_id) = &input.client_id
        && let Some(found) = Artifact::by_client_id(db, client_id)?
    {
        if found.requested_digest != input.digest || found.sequence_id != sequence.id {
            return Err(Fault::conflict("invalid client ID digest: this client ID belongs to another artifact"));
        }
        return Ok(Some(found));
    }
    if let Some(key) = &input.distributed_id {
        return Artifact::distributed(db, sequence.id, key);
    }
    if input.enable_digest_deduplication.unwrap_or(false) {
        return Artifact::by_digest(db, sequence.id, &input.digest);
    }
    Ok(None)
}

fn insert(db: &Connection, sequence: &Collection, input: &Create, run: Option<i64>) -> Result<i64, Fault> {
    let sql = "INSERT INTO artifact (sequence_id, state, digest, requested_digest, digest_algorithm, description, metadata,
               ttl_seconds, history_step, created_by_run, client_id, sequence_client_id, distributed_id, pending_aliases,
               created_at, updated_at)
               VALUES (?1, 'PENDING', ?2, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?13)";
    let ttl = input.ttl_duration_seconds.filter(|seconds| *seconds != TTL_INHERITED);
    let aliases = serde_json::json!(input.aliases()).to_string();
    db.execute(
        sql,
        params![
            sequence.id,
            input.digest,
            input.digest_algorithm,
            input.description,
            input.metadata,
            ttl,
            input.history_step,
            run,
            input.client_id,
            input.sequence_client_id,
            input.distributed_id,
            aliases,
            now()
        ],
    )?;
    Ok(db.last_insert_rowid())
}

#[derive(Deserialize)]
struct ById {
    #[serde(rename = "artifactID")]
    artifact: String,
}

/// `Mutation.commitArtifact`.
pub(super) fn commit(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    let input: ById = ask.input()?;
    let id = ids::decode("Artifact", &input.artifact)?;
    let services = ask.services();
    commit_version(&services.db, &services.blobs, id)?;
    Ok(artifact_payload(ask, "CommitArtifactPayload", Artifact::get(ask.db(), id)?))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Use {
    entity_name: String,
    project_name: String,
    run_name: String,
    #[serde(rename = "artifactID")]
    artifact: String,
    used_as: Option<String>,
}

/// `Mutation.useArtifact`: a run read this version.
pub(super) fn consume(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    let input: Use = ask.input()?;
    let id = ids::decode("Artifact", &input.artifact)?;
    let artifact = ask.services().db.write(|db| {
        let entity = entity_or_default(ask, Some(&input.entity_name));
        let run = Run::by_path(db, [entity, &input.project_name, &input.run_name])?;
        let artifact = Artifact::get(db, id)?;
        if artifact.state == "DELETED" {
            return Err(Fault::not_found("artifact", input.artifact.as_str()));
        }
        Direction::Input.record(db, (run.id, id), input.used_as.as_deref())?;
        Ok(artifact)
    })?;
    Ok(artifact_payload(ask, "UseArtifactPayload", artifact))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Update {
    #[serde(rename = "artifactID")]
    artifact: String,
    description: Option<String>,
    metadata: Option<String>,
    ttl_duration_seconds: Option<i64>,
    tags_to_add: Option<Vec<TagInput>>,
    tags_to_delete: Option<Vec<TagInput>>,
    aliases: Option<Vec<AliasInput>>,
}

/// `Mutation.updateArtifact`: what is absent stays.
pub(super) fn update(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    let input: Update = ask.input()?;
    check_metadata(input.metadata.as_deref())?;
    let id = ids::decode("Artifact", &input.artifact)?;
    let artifact = ask.services().db.write(|db| {
        let artifact = Artifact::get(db, id)?;
        let sql = "UPDATE artifact SET description = coalesce(?2, description), metadata = coalesce(?3, metadata),
                   updated_at = ?4 WHERE id = ?1";
        db.execute(sql, params![id, input.description, input.metadata, now()])?;
        if let Some(ttl) = input.ttl_duration_seconds {
            let ttl = Some(ttl).filter(|seconds| *seconds != TTL_INHERITED);
            db.execute("UPDATE artifact SET ttl_seconds = ?2 WHERE id = ?1", params![id, ttl])?;
        }
        artifact.add_tags(db, input.tags_to_add.iter().flatten().map(|tag| tag.tag_name.as_str()))?;
        for tag in input.tags_to_delete.iter().flatten() {
            let sql = "DELETE FROM artifact_tag WHERE artifact_id = ?1 AND name = ?2";
            db.execute(sql, params![id, tag.tag_name])?;
        }
        if let Some(member) = Membership::of(db, artifact.sequence_id, id)? {
            for alias in input.aliases.iter().flatten() {
                alias::point(db, &member, &alias.alias)?;
            }
        }
        Artifact::get(db, id)
    })?;
    Ok(artifact_payload(ask, "UpdateArtifactPayload", artifact))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Delete {
    #[serde(rename = "artifactID")]
    artifact: String,
    #[serde(default)]
    delete_aliases: Option<bool>,
}

/// `Mutation.deleteArtifact`. A version with aliases goes only when they may go too.
pub(super) fn delete(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    let input: Delete = ask.input()?;
    let id = ids::decode("Artifact", &input.artifact)?;
    let artifact = ask.services().db.write(|db| {
        let artifact = Artifact::get(db, id)?;
        let aliases = alias::of_artifact(db, id)?;
        if !aliases.is_empty() && !input.delete_aliases.unwrap_or(false) {
            let names: Vec<_> = aliases.iter().map(|alias| alias.name.as_str()).collect();
            return Err(Fault::conflict(format!(
                "the artifact has aliases ({}); delete them with it or first",
                names.join(", ")
            )));
        }
        remove(db, &artifact)?;
        Artifact::get(db, id)
    })?;
    Ok(artifact_payload(ask, "DeleteArtifactPayload", artifact))
}

/// Takes a version out of every collection. Its row stays, for lineage and for whoever asks by id.
pub(super) fn remove(db: &Connection, artifact: &Artifact) -> Result<(), Fault> {
    for member in Membership::of_artifact(db, artifact.id)? {
        alias::expel(db, &member)?;
    }
    let sql = "UPDATE artifact SET state = 'DELETED', updated_at = ?2 WHERE id = ?1";
    db.execute(sql, params![artifact.id, now()])?;
    Ok(())
}

/// The artifact in which a content was first uploaded, so that later ones can point at it.
pub(super) fn birth(db: &Connection, sha256: &str) -> Result<Option<i64>, Fault> {
    let sql = "SELECT min(artifact_id) FROM entry WHERE sha256 = ?1";
    Ok(db.prepare_cached(sql)?.query_row([sha256], |row| row.get(0)).optional()?.flatten())
}

pub(super) fn artifact_payload<'a>(ask: Ask<'a>, type_name: &'static str, artifact: Artifact) -> ResolvedValue<'a> {
    ask.context.object(Payload::new(type_name).object("artifact", ArtifactNode(artifact)))
}
