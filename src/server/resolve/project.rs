//! Projects and artifact types.

use apollo_compiler::resolvers::ResolvedValue;
use rusqlite::params;
use serde::Deserialize;

use super::plain::{Page, Payload};
use super::viewer::{Entity, User};
use super::{Ask, Fault, Resolve, artifact, collection, run, sweep};
use crate::server::clock::{iso, now};
use crate::server::ids;
use crate::server::rows::artifact::Artifact;
use crate::server::rows::collection::{Collection, Membership};
use crate::server::rows::project::{ArtifactType, Project};
use crate::server::rows::run::Run;
use crate::server::rows::sweep::Sweep;

/// A project.
pub(super) struct ProjectNode(pub(super) Project);

impl Resolve for ProjectNode {
    fn type_name(&self) -> &str {
        "Project"
    }

    fn field<'a>(&'a self, ask: Ask<'a>) -> Result<ResolvedValue<'a>, Fault> {
        let Project { id, entity, name, .. } = &self.0;
        let id = *id;
        Ok(match ask.name() {
            "id" => ResolvedValue::leaf(ids::encode("Project", id)),
            "internalId" => ResolvedValue::leaf(ids::encode("ProjectInternalId", id)),
            "name" => ResolvedValue::leaf(name.as_str()),
            "entityName" => ResolvedValue::leaf(entity.as_str()),
            "entity" => ask.context.object(Entity(entity.clone())),
            "user" => ask.context.object(User),
            "description" => ResolvedValue::leaf(self.0.description.clone()),
            "access" => ResolvedValue::leaf(self.0.access.clone()),
            "views" => ResolvedValue::leaf(self.0.views.clone()),
            "createdAt" => ResolvedValue::leaf(iso(self.0.created_at)),
            "updatedAt" => ResolvedValue::leaf(iso(self.0.updated_at)),
            "readOnly" | "isBenchmark" => ResolvedValue::leaf(false),
            "run" | "bucket" => self.run(ask)?,
            "runs" => ask.context.object(run::page(ask, id)?),
            "runCount" => ResolvedValue::leaf(run::matching(ask, id)?.len() as i64),
            "artifactType" => {
                let found = ArtifactType::find(ask.db(), id, ask.required("name")?)?;
                ask.context.nullable(found.map(ArtifactTypeNode))
            }
            "artifactTypes" => {
                let types = ArtifactType::list(ask.db(), id)?.into_iter().map(ArtifactTypeNode).collect();
                ask.context.object(Page::cut("ArtifactTypeConnection", ask, types)?)
            }
            "artifact" => match Membership::by_path(ask.db(), id, ask.required("name")?)? {
                Some(member) => {
                    ask.context.object(artifact::ArtifactNode(Artifact::get(ask.db(), member.artifact_id)?))
                }
                None => ResolvedValue::null(),
            },
            "artifactCollectionMembership" => {
                let found = Membership::by_path(ask.db(), id, ask.text("name").unwrap_or_default())?;
                ask.context.nullable(found.map(collection::MembershipNode))
            }
            "artifactCollection" => {
                let found = Collection::find(ask.db(), id, ask.required("name")?)?;
                ask.context.nullable(found.map(collection::CollectionNode))
            }
            "artifactCollections" => collection::page(ask, id, None)?,
            "sweep" => {
                let found = Sweep::find(ask.db(), id, ask.required("sweepName")?)?;
                ask.context.nullable(found.map(sweep::SweepNode))
            }
            "sweeps" => ask.context.object(sweep::page(ask, id)?),
            "totalSweeps" => ResolvedValue::leaf(Sweep::list(ask.db(), id)?.len() as i64),
            _ => return ask.unresolved("Project"),
        })
    }
}

impl ProjectNode {
    fn run<'a>(&'a self, ask: Ask<'a>) -> Result<ResolvedValue<'a>, Fault> {
        let name = ask.required("name")?;
        let found = Run::find(ask.db(), self.0.id, name)?;
        let demanded = ask.name() == "bucket"
            && !ask.arguments().get("missingOk").and_then(|value| value.as_bool()).unwrap_or(false);
        if found.is_none() && demanded {
            return Err(Fault::not_found("run", name));
        }
        Ok(ask.context.nullable(found.map(run::RunNode)))
    }
}

/// A type of artifacts.
pub(super) struct ArtifactTypeNode(pub(super) ArtifactType);

impl Resolve for ArtifactTypeNode {
    fn type_name(&self) -> &str {
        "ArtifactType"
    }

    fn field<'a>(&'a self, ask: Ask<'a>) -> Result<ResolvedValue<'a>, Fault> {
        let this = &self.0;
        Ok(match ask.name() {
            "id" => ResolvedValue::leaf(ids::encode("ArtifactType", this.id)),
            "name" => ResolvedValue::leaf(this.name.as_str()),
            "description" => ResolvedValue::leaf(this.description.clone()),
            "createdAt" => ResolvedValue::leaf(iso(this.created_at)),
            "artifactCollection" => {
                let found = Collection::find(ask.db(), this.project_id, ask.required("name")?)?;
                let of_type = found.filter(|collection| collection.type_id == this.id);
                ask.context.nullable(of_type.map(collection::CollectionNode))
            }
            "artifactCollections" => collection::page(ask, this.project_id, Some(this.id))?,
            _ => return ask.unresolved("ArtifactType"),
        })
    }
}

/// `Query.project` and `Query.model`.
pub(super) fn project(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    let entity = entity_or_default(ask, ask.text("entityName"));
    let found = Project::find(ask.db(), entity, ask.text("name").unwrap_or_default())?;
    Ok(ask.context.nullable(found.map(ProjectNode)))
}

/// `Query.models`.
pub(super) fn projects(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    let entity = entity_or_default(ask, ask.text("entityName"));
    let all = Project::list(ask.db(), entity)?.into_iter().map(ProjectNode).collect();
    Ok(ask.context.object(Page::cut("ProjectConnection", ask, all)?))
}

/// The entity that a client named, or the user's own.
pub(super) fn entity_or_default<'a>(ask: Ask<'a>, entity: Option<&'a str>) -> &'a str {
    entity.filter(|entity| !entity.is_empty()).unwrap_or(&ask.services().entity)
}

/// The project that a client named, or the one of whoever names none.
pub(super) fn project_or_default(project: Option<&str>) -> &str {
    project.filter(|project| !project.is_empty()).unwrap_or("uncategorized")
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UpsertModel {
    id: Option<String>,
    name: Option<String>,
    entity_name: Option<String>,
    description: Option<String>,
    access: Option<String>,
    views: Option<String>,
}

/// `Mutation.upsertModel`.
pub(super) fn upsert(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    let input: UpsertModel = ask.input()?;
    let entity = entity_or_default(ask, input.entity_name.as_deref()).to_owned();
    let (project, inserted) = ask.services().db.write(|db| {
        let (project, inserted) = match (&input.id, &input.name) {
            (Some(id), _) => (Project::get(db, ids::decode("Project", id)?)?, false),
            (None, Some(name)) => {
                let known = Project::find(db, &entity, name)?.is_some();
                (Project::ensure(db, &entity, name)?, !known)
            }
            (None, None) => return Err(Fault::invalid("a project needs a name")),
        };
        let sql = "UPDATE project SET description = coalesce(?2, description), access = coalesce(?3, access),
                   views = coalesce(?4, views), updated_at = ?5 WHERE id = ?1";
        db.execute(sql, params![project.id, input.description, input.access, input.views, now()])?;
        Ok((Project::get(db, project.id)?, inserted))
    })?;
    let payload = Payload::new("UpsertModelPayload")
        .leaf("inserted", inserted)
        .object("project", ProjectNode(project.clone()))
        .object("model", ProjectNode(project));
    Ok(ask.context.object(payload))
}

#[derive(Deserialize)]
struct DeleteModel {
    id: String,
}

/// `Mutation.deleteModel`: the project with everything in it.
pub(super) fn delete(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    let input: DeleteModel = ask.input()?;
    let id = ids::decode("Project", &input.id)?;
    ask.services().db.write(|db| {
        // Types are held by collections, so those go first.
        db.execute("DELETE FROM collection WHERE project_id = ?1", [id])?;
        db.execute("DELETE FROM project WHERE id = ?1", [id])?;
        Ok(())
    })?;
    Ok(ask.context.object(Payload::success("DeleteModelPayload")))
}
