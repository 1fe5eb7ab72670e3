//! The one user of this server, its entities, and what the server can do.

use apollo_compiler::resolvers::ResolvedValue;

use super::plain::{Page, Payload};
use super::project;
use super::{Ask, Fault, Resolve};
use crate::server::rows::project::Project;

/// Features that clients ask for before they use newer fields (`wandb/proto/wandb_internal.proto`).
const FEATURES: &[&str] = &[
    "ARTIFACT_COLLECTIONS_FILTERING_SORTING",
    "ARTIFACT_COLLECTION_MEMBERSHIP_FILES",
    "ARTIFACT_COLLECTION_MEMBERSHIP_FILE_DOWNLOAD_HANDLER",
    "ARTIFACT_DIGEST_ALGORITHM",
    "ARTIFACT_MEMBERSHIP_IN_LINK_ARTIFACT_RESPONSE",
    "ARTIFACT_TAGS",
    "ARTIFACT_V2_DOWNLOAD_HANDLER_SUPPORTS_ARTIFACT_ID",
    "CLIENT_IDS",
    "FILESTREAM_GZIP",
    "LARGE_FILENAMES",
    "MARK_RUN_FILES_UPLOADED",
    "PROJECT_ARTIFACT_COLLECTION_MEMBERSHIP",
    "TOTAL_COUNT_IN_FILE_CONNECTION",
    "USE_ARTIFACT_WITH_ENTITY_AND_PROJECT_INFORMATION",
];

/// Whoever holds the API key.
pub(super) struct User;

impl Resolve for User {
    fn type_name(&self) -> &str {
        "User"
    }

    fn field<'a>(&'a self, ask: Ask<'a>) -> Result<ResolvedValue<'a>, Fault> {
        let entity = ask.services().entity.as_str();
        Ok(match ask.name() {
            "id" => ResolvedValue::leaf(super::super::ids::encode("User", 1)),
            "name" | "username" | "entity" => ResolvedValue::leaf(entity),
            "admin" => ResolvedValue::leaf(true),
            "email" | "deletedAt" => ResolvedValue::null(),
            "flags" => ResolvedValue::leaf("{\"code_saving_enabled\":true}"),
            "apiKeys" => ask.context.object(Page::cut("ApiKeyConnection", ask, Vec::<Entity>::new())?),
            "teams" => ask.context.object(Page::cut("EntityConnection", ask, vec![Entity(entity.to_owned())])?),
            "organizations" => ResolvedValue::list([]),
            _ => return ask.unresolved("User"),
        })
    }
}

/// A name under which projects live.
pub(super) struct Entity(pub(super) String);

impl Resolve for Entity {
    fn type_name(&self) -> &str {
        "Entity"
    }

    fn field<'a>(&'a self, ask: Ask<'a>) -> Result<ResolvedValue<'a>, Fault> {
        Ok(match ask.name() {
            // Entities have no rows: the name is the identity.
            "id" => ResolvedValue::leaf(entity_id(&self.0)),
            "name" => ResolvedValue::leaf(self.0.as_str()),
            "user" if self.0 == ask.services().entity => ask.context.object(User),
            "user" | "organization" => ResolvedValue::null(),
            "xxhashDigestsEnabled" => ResolvedValue::leaf(true),
            "project" => {
                let found = Project::find(ask.db(), &self.0, ask.text("name").unwrap_or_default())?;
                ask.context.nullable(found.map(project::ProjectNode))
            }
            _ => return ask.unresolved("Entity"),
        })
    }
}

fn entity_id(name: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(format!("Entity:{name}"))
}

/// `Query.entity`: any name may be used, so any name is there.
pub(super) fn entity(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    let name = ask.text("name").filter(|name| !name.is_empty()).unwrap_or(&ask.services().entity);
    Ok(ask.context.object(Entity(name.to_owned())))
}

/// What this server is.
pub(super) struct ServerInfo;

impl Resolve for ServerInfo {
    fn type_name(&self) -> &str {
        "ServerInfo"
    }

    fn field<'a>(&'a self, ask: Ask<'a>) -> Result<ResolvedValue<'a>, Fault> {
        Ok(match ask.name() {
            // Newer than any client asks for: nothing is to be held back.
            "cliVersionInfo" => ResolvedValue::leaf(
                [("max_cli_version", "99.0.0")].into_iter().collect::<apollo_compiler::response::JsonValue>(),
            ),
            "features" => ask.context.list(
                FEATURES.iter().map(|name| Payload::new("ServerFeature").leaf("name", *name).leaf("isEnabled", true)),
            ),
            _ => return ask.unresolved("ServerInfo"),
        })
    }
}
