//! Aliases of members, and links of versions into portfolios.

use apollo_compiler::resolvers::ResolvedValue;
use rusqlite::{Connection, params};
use serde::Deserialize;

use super::artifact::AliasInput;
use super::collection::{MembershipNode, collection_row};
use super::plain::Payload;
use super::project::{entity_or_default, project_or_default};
use super::{Ask, Fault};
use crate::server::clock::now;
use crate::server::ids;
use crate::server::rows::alias;
use crate::server::rows::artifact::Artifact;
use crate::server::rows::collection::{Collection, Kind, Membership};
use crate::server::rows::project::{ArtifactType, Project};

#[derive(Deserialize)]
struct Aliases {
    #[serde(rename = "artifactID")]
    artifact: String,
    aliases: Vec<PlacedAlias>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PlacedAlias {
    entity_name: String,
    project_name: String,
    artifact_collection_name: String,
    alias: String,
}

impl PlacedAlias {
    fn member(&self, ask: Ask<'_>, db: &Connection, artifact: i64) -> Result<Membership, Fault> {
        let Self { entity_name, project_name, artifact_collection_name: name, .. } = self;
        let entity = entity_or_default(ask, Some(entity_name));
        let project = Project::find(db, entity, project_name)?
            .ok_or_else(|| Fault::not_found("project", format!("{entity}/{project_name}")))?;
        let collection = Collection::find(db, project.id, name)?
            .ok_or_else(|| Fault::not_found("artifact collection", name.as_str()))?;
        Membership::of(db, collection.id, artifact)?
            .ok_or_else(|| Fault::not_found("member of artifact collection", name.as_str()))
    }
}

/// `Mutation.addAliases`.
pub(super) fn add_aliases(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    each_alias(ask, alias::point)?;
    Ok(ask.context.object(Payload::success("AddAliasesPayload")))
}

/// `Mutation.deleteAliases`.
pub(super) fn delete_aliases(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    each_alias(ask, alias::remove)?;
    Ok(ask.context.object(Payload::success("DeleteAliasesPayload")))
}

fn each_alias(ask: Ask<'_>, change: impl Fn(&Connection, &Membership, &str) -> Result<(), Fault>) -> Result<(), Fault> {
    let input: Aliases = ask.input()?;
    let artifact = ids::decode("Artifact", &input.artifact)?;
    ask.services().db.write(|db| {
        for placed in &input.aliases {
            change(db, &placed.member(ask, db, artifact)?, &placed.alias)?;
        }
        Ok(())
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Link {
    #[serde(rename = "artifactID")]
    artifact: Option<String>,
    #[serde(rename = "clientID")]
    client_id: Option<String>,
    #[serde(rename = "artifactPortfolioID")]
    portfolio: Option<String>,
    artifact_portfolio_name: Option<String>,
    entity_name: Option<String>,
    project_name: Option<String>,
    aliases: Option<Vec<AliasInput>>,
}

impl Link {
    fn source(&self, db: &Connection) -> Result<Artifact, Fault> {
        let artifact = match (&self.artifact, &self.client_id) {
            (Some(id), _) => Artifact::get(db, ids::decode("Artifact", id)?)?,
            (None, Some(client_id)) => Artifact::by_client_id(db, client_id)?
                .ok_or_else(|| Fault::not_found("artifact of client", client_id.as_str()))?,
            (None, None) => return Err(Fault::invalid("a link needs an artifactID or a clientID")),
        };
        if artifact.is_committed() {
            Ok(artifact)
        } else {
            Err(Fault::conflict("only a committed artifact can be linked"))
        }
    }

    /// The portfolio to link into; linking makes it.
    fn target(&self, ask: Ask<'_>, db: &Connection, artifact: &Artifact) -> Result<Collection, Fault> {
        if let Some(id) = &self.portfolio {
            return Collection::get(db, collection_row(id)?);
        }
        let name = self.artifact_portfolio_name.as_deref().unwrap_or_default();
        let entity = entity_or_default(ask, self.entity_name.as_deref());
        let project = Project::ensure(db, entity, project_or_default(self.project_name.as_deref()))?;
        let type_name = ArtifactType::get(db, artifact.sequence(db)?.type_id)?.name;
        Collection::ensure(db, &project, (name, Kind::Portfolio), &type_name)
    }
}

/// `Mutation.linkArtifact`. Linking what is linked moves aliases only.
pub(super) fn link(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    let input: Link = ask.input()?;
    let member = ask.services().db.write(|db| {
        let artifact = input.source(db)?;
        let portfolio = input.target(ask, db, &artifact)?;
        let member = match Membership::of(db, portfolio.id, artifact.id)? {
            Some(member) => member,
            None => join(db, &portfolio, &artifact)?,
        };
        for alias in input.aliases.iter().flatten() {
            alias::point(db, &member, &alias.alias)?;
        }
        Ok(member)
    })?;
    let payload = Payload::new("LinkArtifactPayload")
        .leaf("versionIndex", member.version_index)
        .object("artifactMembership", MembershipNode(member));
    Ok(ask.context.object(payload))
}

fn join(db: &Connection, portfolio: &Collection, artifact: &Artifact) -> Result<Membership, Fault> {
    let index = portfolio.next_version(db)?;
    let sql = "INSERT INTO membership (collection_id, artifact_id, version_index, created_at) VALUES (?1, ?2, ?3, ?4)";
    db.execute(sql, params![portfolio.id, artifact.id, index, now()])?;
    let member = Membership::of(db, portfolio.id, artifact.id)?.ok_or(Fault::Lost)?;
    alias::point(db, &member, alias::LATEST)?;
    Ok(member)
}

#[derive(Deserialize)]
struct Unlink {
    #[serde(rename = "artifactID")]
    artifact: String,
    #[serde(rename = "artifactPortfolioID")]
    portfolio: String,
}

/// `Mutation.unlinkArtifact`.
pub(super) fn unlink(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    let input: Unlink = ask.input()?;
    let artifact = ids::decode("Artifact", &input.artifact)?;
    ask.services().db.write(|db| {
        let portfolio = Collection::get(db, collection_row(&input.portfolio)?)?;
        if portfolio.kind != Kind::Portfolio {
            return Err(Fault::conflict("a version cannot be unlinked from the sequence it was logged to"));
        }
        match Membership::of(db, portfolio.id, artifact)? {
            Some(member) => alias::expel(db, &member),
            None => Err(Fault::not_found("link in portfolio", portfolio.name)),
        }
    })?;
    Ok(ask.context.object(Payload::success("UnlinkArtifactPayload")))
}
