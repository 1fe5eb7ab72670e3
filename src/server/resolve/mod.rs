//! What the fields of the schema mean. One file a noun: its queries and its mutations beside each other.
//!
//! A resolver runs on a blocking thread with one reading connection; mutations write through [`Db::write`], one
//! transaction each, and answer from what they committed.

mod artifact;
mod artifact_write;
mod chart;
mod collection;
mod file;
mod links;
mod plain;
mod project;
mod run;
mod run_write;
mod sweep;
mod upload;
mod viewer;

use std::cell::Cell;

use apollo_compiler::resolvers::{FieldError, ObjectValue, ResolveInfo, ResolvedValue};
use apollo_compiler::response::serde_json_bytes;
use apollo_compiler::response::{JsonMap, JsonValue};
use rusqlite::Connection as Database;
use serde::de::DeserializeOwned;

use super::auth::Gate;
use super::blob::Blobs;
use super::db::Db;
use super::fault::Fault;

/// What every request may use, for the life of the server.
#[derive(Debug)]
pub(super) struct Services {
    pub(super) db: Db,
    pub(super) blobs: Blobs,
    pub(super) gate: Gate,
    /// The entity of the one user.
    pub(super) entity: String,
}

/// What one request may use.
pub(super) struct Context<'s> {
    services: &'s Services,
    reader: &'s Database,
    base: &'s str,
    status: Cell<Option<u16>>,
}

impl<'s> Context<'s> {
    pub(super) fn new(services: &'s Services, reader: &'s Database, base: &'s str) -> Self {
        Self { services, reader, base, status: Cell::new(None) }
    }

    /// The status of the first fault, if there was one.
    pub(super) fn status(&self) -> Option<u16> {
        self.status.get()
    }

    fn object<'a>(&'a self, value: impl Resolve + 'a) -> ResolvedValue<'a> {
        ResolvedValue::object(Node { context: self, value })
    }

    fn nullable<'a>(&'a self, value: Option<impl Resolve + 'a>) -> ResolvedValue<'a> {
        value.map_or_else(ResolvedValue::null, |value| self.object(value))
    }

    fn list<'a, T: Resolve + 'a>(&'a self, values: impl IntoIterator<Item = T>) -> ResolvedValue<'a> {
        let nodes: Vec<_> = values.into_iter().map(|value| self.object(value)).collect();
        ResolvedValue::list(nodes)
    }

    /// A URL of this server that needs no other permission.
    fn signed(&self, method: &str, path: &str) -> String {
        format!("{}{}", self.base, self.services.gate.sign(method, path))
    }

    fn fail(&self, fault: &Fault) -> FieldError {
        if self.status.get().is_none() {
            self.status.set(Some(fault.status()));
        }
        if fault.status() >= 500 {
            tracing::error!(error = fault as &dyn std::error::Error, "a resolver failed");
        }
        FieldError { message: fault.public_message() }
    }
}

/// An object of the schema.
trait Resolve {
    /// Its concrete type.
    fn type_name(&self) -> &str;

    /// The value of one field.
    fn field<'a>(&'a self, ask: Ask<'a>) -> Result<ResolvedValue<'a>, Fault>;
}

impl<T: Resolve + ?Sized> Resolve for &T {
    fn type_name(&self) -> &str {
        (**self).type_name()
    }
    fn field<'a>(&'a self, ask: Ask<'a>) -> Result<ResolvedValue<'a>, Fault> {
        (**self).field(ask)
    }
}

impl<T: Resolve + ?Sized> Resolve for Box<T> {
    fn type_name(&self) -> &str {
        (**self).type_name()
    }
    fn field<'a>(&'a self, ask: Ask<'a>) -> Result<ResolvedValue<'a>, Fault> {
        (**self).field(ask)
    }
}

/// A field being asked for: its name, its arguments, and what may be used to answer.
#[derive(Clone, Copy)]
struct Ask<'a> {
    context: &'a Context<'a>,
    info: &'a ResolveInfo<'a>,
}

impl<'a> Ask<'a> {
    fn name(&self) -> &'a str {
        self.info.field_name()
    }

    fn arguments(&self) -> &'a JsonMap {
        self.info.arguments()
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        self.arguments().get(name).and_then(JsonValue::as_str)
    }

    /// An argument that the schema demands.
    fn required(&self, name: &str) -> Result<&'a str, Fault> {
        self.text(name).ok_or_else(|| Fault::invalid(format!("argument `{name}` is missing")))
    }

    fn integer(&self, name: &str) -> Option<i64> {
        self.arguments().get(name).and_then(JsonValue::as_i64)
    }

    fn texts(&self, name: &str) -> Option<Vec<&'a str>> {
        let list = self.arguments().get(name)?.as_array()?;
        Some(list.iter().filter_map(JsonValue::as_str).collect())
    }

    /// The `input` object of a mutation.
    fn input<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        let input = self.arguments().get("input").cloned().unwrap_or(JsonValue::Null);
        serde_json_bytes::from_value(input).map_err(|error| Fault::invalid(format!("input: {error}")))
    }

    fn db(&self) -> &'a Database {
        self.context.reader
    }

    fn services(&self) -> &'a Services {
        self.context.services
    }

    /// For a field that this type does not answer.
    fn unresolved<T>(&self, type_name: &str) -> Result<T, Fault> {
        Err(Fault::Unresolved { type_name: type_name.to_owned(), field: self.name().to_owned() })
    }
}

/// What lets apollo-compiler ask a [`Resolve`].
struct Node<'c, T> {
    context: &'c Context<'c>,
    value: T,
}

impl<T: Resolve> ObjectValue for Node<'_, T> {
    fn type_name(&self) -> &str {
        self.value.type_name()
    }

    fn resolve_field<'a>(&'a self, info: &'a ResolveInfo<'a>) -> Result<ResolvedValue<'a>, FieldError> {
        self.value.field(Ask { context: self.context, info }).map_err(|fault| self.context.fail(&fault))
    }
}

/// The operation's root.
pub(super) struct Root<'c> {
    context: &'c Context<'c>,
    mutation: bool,
}

impl<'c> Root<'c> {
    pub(super) fn new(context: &'c Context<'c>, mutation: bool) -> Self {
        Self { context, mutation }
    }
}

impl ObjectValue for Root<'_> {
    fn type_name(&self) -> &str {
        if self.mutation { "Mutation" } else { "Query" }
    }

    fn resolve_field<'a>(&'a self, info: &'a ResolveInfo<'a>) -> Result<ResolvedValue<'a>, FieldError> {
        let ask = Ask { context: self.context, info };
        let outcome = if self.mutation { mutate(ask) } else { query(ask) };
        outcome.map_err(|fault| self.context.fail(&fault))
    }
}

fn query(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    match ask.name() {
        "viewer" => Ok(ask.context.object(viewer::User)),
        "serverInfo" => Ok(ask.context.object(viewer::ServerInfo)),
        "entity" => viewer::entity(ask),
        "project" | "model" => project::project(ask),
        "models" => project::projects(ask),
        "artifact" => artifact::by_id(ask),
        "artifactCollection" => collection::by_id(ask),
        "clientIDMapping" => artifact::client_id_mapping(ask),
        _ => ask.unresolved("Query"),
    }
}

fn mutate(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    match ask.name() {
        "upsertModel" => project::upsert(ask),
        "deleteModel" => project::delete(ask),
        "upsertBucket" => run_write::upsert(ask),
        "deleteRun" => run_write::delete(ask),
        "stopRun" => run_write::stop(ask),
        "updateRunState" => run_write::update_state(ask),
        "rewindRun" => run_write::rewind(ask),
        "createCustomChart" => chart::create(ask),
        "notifyScriptableRunAlert" => run_write::alert(ask),
        "createRunFiles" => run_write::create_files(ask),
        "markRunFilesUploaded" => run_write::mark_uploaded(ask),
        "deleteFiles" => run_write::delete_files(ask),
        "upsertSweep" => sweep::upsert(ask),
        "createAgent" => sweep::create_agent(ask),
        "agentHeartbeat" => sweep::heartbeat(ask),
        "createArtifact" => artifact_write::create(ask),
        "createArtifactManifest" => upload::create_manifest(ask),
        "updateArtifactManifest" => upload::update_manifest(ask),
        "createArtifactFiles" => upload::create_files(ask),
        "completeMultipartUploadArtifact" => upload::complete_multipart(ask),
        "commitArtifact" => artifact_write::commit(ask),
        "useArtifact" => artifact_write::consume(ask),
        "updateArtifact" => artifact_write::update(ask),
        "deleteArtifact" => artifact_write::delete(ask),
        "addAliases" => links::add_aliases(ask),
        "deleteAliases" => links::delete_aliases(ask),
        "linkArtifact" => links::link(ask),
        "unlinkArtifact" => links::unlink(ask),
        "updateArtifactSequence" | "updateArtifactPortfolio" => collection::update(ask),
        "moveArtifactSequence" => collection::change_type(ask),
        "deleteArtifactSequence" | "deleteArtifactPortfolio" => collection::delete(ask),
        "createArtifactCollectionTagAssignments" => collection::add_tags(ask),
        "deleteArtifactCollectionTagAssignments" => collection::delete_tags(ask),
        _ => ask.unresolved("Mutation"),
    }
}
