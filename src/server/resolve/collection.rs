//! Collections and memberships.

use apollo_compiler::resolvers::ResolvedValue;
use apollo_compiler::response::JsonValue;
use rusqlite::{Connection, params};
use serde::Deserialize;

use super::artifact::{AliasNode, ArtifactNode, TagInput, tag};
use super::plain::{Listing, Page, Payload};
use super::project::{ArtifactTypeNode, ProjectNode, entity_or_default};
use super::{Ask, Fault, Resolve, file};
use crate::server::clock::{iso, now};
use crate::server::filter::{self, Filter, Order};
use crate::server::ids;
use crate::server::rows::alias;
use crate::server::rows::artifact::Artifact;
use crate::server::rows::collection::{Collection, Kind, Membership, check_name};
use crate::server::rows::project::{ArtifactType, Project};

/// A sequence or a portfolio.
pub(super) struct CollectionNode(pub(super) Collection);

impl Resolve for CollectionNode {
    fn type_name(&self) -> &str {
        match self.0.kind {
            Kind::Sequence => "ArtifactSequence",
            Kind::Portfolio => "ArtifactPortfolio",
        }
    }

    fn field<'a>(&'a self, ask: Ask<'a>) -> Result<ResolvedValue<'a>, Fault> {
        let this = &self.0;
        let db = ask.db();
        Ok(match ask.name() {
            "id" => ResolvedValue::leaf(collection_id(this)),
            "name" => ResolvedValue::leaf(this.name.as_str()),
            "description" => ResolvedValue::leaf(this.description.clone()),
            "state" => ResolvedValue::leaf(this.state.as_str()),
            "createdAt" => ResolvedValue::leaf(iso(this.created_at)),
            "updatedAt" => ResolvedValue::leaf(iso(this.updated_at)),
            "digestAlgorithm" => ResolvedValue::leaf(this.digest_algorithm.clone()),
            "project" => ask.context.object(ProjectNode(Project::get(db, this.project_id)?)),
            "defaultArtifactType" => ask.context.object(ArtifactTypeNode(ArtifactType::get(db, this.type_id)?)),
            "latestArtifact" => ask.context.nullable(Artifact::latest(db, this.id)?.map(ArtifactNode)),
            "tags" => {
                let tags = this.tags(db)?.into_iter().map(tag).collect();
                ask.context.object(Page::cut("TagConnection", ask, tags)?)
            }
            "aliases" => {
                let aliases = alias::of_collection(db, this.id)?.into_iter().map(AliasNode).collect();
                ask.context.object(Page::cut("ArtifactAliasConnection", ask, aliases)?)
            }
            "artifactMembership" => {
                let found = Membership::by_alias(db, this.id, ask.required("aliasName")?)?;
                ask.context.nullable(found.map(MembershipNode))
            }
            "artifacts" => ask.context.object(self.versions(ask)?),
            _ => return ask.unresolved(self.type_name()),
        })
    }
}

impl CollectionNode {
    /// The versions, newest first unless an order is asked for.
    fn versions<'a>(&self, ask: Ask<'a>) -> Result<Page<Version>, Fault> {
        let db = ask.db();
        let filter = Filter::parse(ask.text("filters"))?;
        let order = Order::parse(ask.text("order"))?;
        let mut versions = Vec::new();
        for member in Membership::of_collection(db, self.0.id)?.into_iter().rev() {
            let artifact = Artifact::get(db, member.artifact_id)?;
            let version = Version { index: member.version_index, artifact: ArtifactNode(artifact) };
            if filter.matches(&|field| version.value(field)) {
                versions.push(version);
            }
        }
        order.sort(&mut versions, |version, field| version.value(field));
        Ok(Page::cut("VersionedArtifactConnection", ask, versions)?.versioned(|version| Some(version.index)))
    }
}

/// A version as a member of one collection.
struct Version {
    index: i64,
    artifact: ArtifactNode,
}

impl Version {
    fn value(&self, field: &str) -> Option<serde_json::Value> {
        let artifact = &self.artifact.0;
        Some(match field {
            "state" => artifact.state.clone().into(),
            "createdAt" | "created_at" => iso(artifact.created_at).into(),
            "updatedAt" | "updated_at" => iso(artifact.updated_at).into(),
            "digest" => artifact.digest.clone().into(),
            "size" => artifact.size.into(),
            "versionIndex" | "version_index" => self.index.into(),
            "description" => artifact.description.clone().into(),
            _ => {
                let key = field.strip_prefix("metadata.")?;
                let metadata: serde_json::Value = serde_json::from_str(artifact.metadata.as_deref()?).ok()?;
                return filter::lookup(&metadata, key).cloned();
            }
        })
    }
}

impl Resolve for Version {
    fn type_name(&self) -> &str {
        self.artifact.type_name()
    }
    fn field<'a>(&'a self, ask: Ask<'a>) -> Result<ResolvedValue<'a>, Fault> {
        self.artifact.field(ask)
    }
}

/// One artifact's place in one collection.
pub(super) struct MembershipNode(pub(super) Membership);

impl Resolve for MembershipNode {
    fn type_name(&self) -> &str {
        "ArtifactCollectionMembership"
    }

    fn field<'a>(&'a self, ask: Ask<'a>) -> Result<ResolvedValue<'a>, Fault> {
        let this = &self.0;
        let db = ask.db();
        Ok(match ask.name() {
            "id" => ResolvedValue::leaf(ids::encode("ArtifactCollectionMembership", this.id)),
            "versionIndex" => ResolvedValue::leaf(this.version_index),
            "createdAt" => ResolvedValue::leaf(iso(this.created_at)),
            "aliases" => ask.context.list(alias::of_membership(db, this.id)?.into_iter().map(AliasNode)),
            "artifactCollection" => ask.context.object(CollectionNode(Collection::get(db, this.collection_id)?)),
            "artifact" => ask.context.object(ArtifactNode(Artifact::get(db, this.artifact_id)?)),
            "files" => ask.context.object(file::of_artifact(ask, this.artifact_id)?),
            _ => return ask.unresolved("ArtifactCollectionMembership"),
        })
    }
}

fn collection_id(collection: &Collection) -> String {
    let kind = match collection.kind {
        Kind::Sequence => "ArtifactSequence",
        Kind::Portfolio => "ArtifactPortfolio",
    };
    ids::encode(kind, collection.id)
}

/// The row behind the id of a sequence or a portfolio.
pub(super) fn collection_row(id: &str) -> Result<i64, Fault> {
    ids::decode("ArtifactSequence", id)
        .or_else(|_| ids::decode("ArtifactPortfolio", id))
        .map_err(|_| Fault::not_found("artifact collection", id))
}

/// The collections of a project or of one of its types, filtered and ordered.
pub(super) fn page<'a>(ask: Ask<'a>, project: i64, of_type: Option<i64>) -> Result<ResolvedValue<'a>, Fault> {
    let filter = Filter::parse(ask.text("filters"))?;
    let order = Order::parse(ask.text("order"))?;
    let mut all = Collection::list(ask.db(), project, of_type)?;
    all.retain(|collection| filter.matches(&|field| value(ask.db(), collection, field)));
    order.sort(&mut all, |collection, field| value(ask.db(), collection, field));
    let nodes = all.into_iter().map(CollectionNode).collect();
    Ok(ask.context.object(Page::cut("ArtifactCollectionConnection", ask, nodes)?))
}

fn value(db: &Connection, collection: &Collection, field: &str) -> Option<serde_json::Value> {
    Some(match field {
        "name" => collection.name.clone().into(),
        "description" => collection.description.clone().into(),
        "createdAt" | "created_at" => iso(collection.created_at).into(),
        "updatedAt" | "updated_at" => iso(collection.updated_at).into(),
        "type" => ArtifactType::get(db, collection.type_id).ok()?.name.into(),
        "tag" | "tags" => collection.tags(db).ok()?.into_iter().map(|(_, name)| name).collect::<Vec<_>>().into(),
        _ => return None,
    })
}

/// `Query.artifactCollection`.
pub(super) fn by_id(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    let Ok(id) = collection_row(ask.required("id")?) else { return Ok(ResolvedValue::null()) };
    match Collection::get(ask.db(), id) {
        Ok(collection) => Ok(ask.context.object(CollectionNode(collection))),
        Err(Fault::NotFound { .. }) => Ok(ResolvedValue::null()),
        Err(fault) => Err(fault),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    #[serde(alias = "artifactSequenceID", alias = "artifactPortfolioID")]
    id: String,
    name: Option<String>,
    description: Option<String>,
    destination_artifact_type_name: Option<String>,
}

impl Change {
    fn target(&self, db: &Connection) -> Result<Collection, Fault> {
        let collection = Collection::get(db, collection_row(&self.id)?)?;
        if collection.state == "DELETED" {
            return Err(Fault::not_found("artifact collection", self.id.as_str()));
        }
        Ok(collection)
    }
}

/// `Mutation.updateArtifactSequence` and `updateArtifactPortfolio`: name and description.
pub(super) fn update(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    let change: Change = ask.input()?;
    let changed = ask.services().db.write(|db| {
        let collection = change.target(db)?;
        if let Some(name) = change.name.as_deref().filter(|name| *name != collection.name) {
            check_name(name)?;
            if Collection::find(db, collection.project_id, name)?.is_some() {
                return Err(Fault::conflict(format!("an artifact collection `{name}` exists already")));
            }
        }
        let sql = "UPDATE collection SET name = coalesce(?2, name), description = coalesce(?3, description),
                   updated_at = ?4 WHERE id = ?1";
        db.execute(sql, params![collection.id, change.name, change.description, now()])?;
        Collection::get(db, collection.id)
    })?;
    Ok(changed_payload(ask, "UpdateArtifactCollectionPayload", changed))
}

/// `Mutation.moveArtifactSequence`: another type.
pub(super) fn change_type(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    let change: Change = ask.input()?;
    let name = change.destination_artifact_type_name.as_deref().unwrap_or_default();
    let changed = ask.services().db.write(|db| {
        let collection = change.target(db)?;
        let destination = ArtifactType::ensure(db, collection.project_id, name)?;
        let sql = "UPDATE collection SET type_id = ?2, updated_at = ?3 WHERE id = ?1";
        db.execute(sql, params![collection.id, destination.id, now()])?;
        Collection::get(db, collection.id)
    })?;
    Ok(changed_payload(ask, "MoveArtifactCollectionPayload", changed))
}

/// `Mutation.deleteArtifactSequence` and `deleteArtifactPortfolio`: a sequence goes with its versions, a portfolio only
/// with its links.
pub(super) fn delete(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    let change: Change = ask.input()?;
    let changed = ask.services().db.write(|db| {
        let collection = change.target(db)?;
        if collection.kind == Kind::Sequence {
            let versions = "(SELECT id FROM artifact WHERE sequence_id = ?1)";
            db.execute(&format!("DELETE FROM membership WHERE artifact_id IN {versions}"), [collection.id])?;
            db.execute("UPDATE artifact SET state = 'DELETED' WHERE sequence_id = ?1", [collection.id])?;
        }
        db.execute("DELETE FROM membership WHERE collection_id = ?1", [collection.id])?;
        let sql = "UPDATE collection SET state = 'DELETED', updated_at = ?2 WHERE id = ?1";
        db.execute(sql, params![collection.id, now()])?;
        Collection::get(db, collection.id)
    })?;
    Ok(changed_payload(ask, "DeleteArtifactCollectionPayload", changed))
}

fn changed_payload<'a>(ask: Ask<'a>, type_name: &'static str, collection: Collection) -> ResolvedValue<'a> {
    ask.context.object(Payload::new(type_name).object("artifactCollection", CollectionNode(collection)))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TagAssignment {
    entity_name: String,
    project_name: String,
    artifact_collection_name: String,
    tags: Vec<TagInput>,
}

impl TagAssignment {
    fn target(&self, ask: Ask<'_>, db: &Connection) -> Result<Collection, Fault> {
        let Self { entity_name, project_name, artifact_collection_name: name, .. } = self;
        let entity = entity_or_default(ask, Some(entity_name));
        let project = Project::find(db, entity, project_name)?;
        let found = project.map(|project| Collection::find(db, project.id, name)).transpose()?;
        let missing = || Fault::not_found("artifact collection", format!("{entity}/{project_name}/{name}"));
        found.flatten().ok_or_else(missing)
    }
}

/// `Mutation.createArtifactCollectionTagAssignments`.
pub(super) fn add_tags(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    let input: TagAssignment = ask.input()?;
    let tags = ask.services().db.write(|db| {
        let collection = input.target(ask, db)?;
        for tag in &input.tags {
            let sql = "INSERT INTO collection_tag (collection_id, name) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
            db.execute(sql, params![collection.id, tag.tag_name])?;
        }
        collection.tags(db)
    })?;
    let payload = Listing::new("CreateTagsPayload", "tags", tags.into_iter().map(tag).collect());
    Ok(ask.context.object(payload.leaf("clientMutationId", JsonValue::Null)))
}

/// `Mutation.deleteArtifactCollectionTagAssignments`.
pub(super) fn delete_tags(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    let input: TagAssignment = ask.input()?;
    ask.services().db.write(|db| {
        let collection = input.target(ask, db)?;
        for tag in &input.tags {
            let sql = "DELETE FROM collection_tag WHERE collection_id = ?1 AND name = ?2";
            db.execute(sql, params![collection.id, tag.tag_name])?;
        }
        Ok(())
    })?;
    Ok(ask.context.object(Payload::success("DeleteTagAssignmentPayload")))
}
