//! Executes GraphQL documents against `schema.graphql`: parsing, validation, variables, and the shape of the answer.
//!
//! The semantics are apollo-compiler's (aliases, fragments, `@include`, defaults, list coercion, introspection); what the
//! fields mean is in `resolve`. Blocking: a query reads one snapshot, each root field of a mutation is one transaction.

use apollo_compiler::executable::OperationType;
use apollo_compiler::resolvers::Execution;
use apollo_compiler::response::{ExecutionResponse, JsonMap};
use apollo_compiler::validation::Valid;
use apollo_compiler::{ExecutableDocument, Schema};
use serde::Deserialize;
use serde_json::json;

use super::fault::Fault;
use super::resolve::{Context, Root, Services};

const SCHEMA: &str = include_str!("schema.graphql");

/// What a client posts to `/graphql`.
#[derive(Debug, Deserialize)]
pub(super) struct Request {
    query: String,
    #[serde(default)]
    variables: Option<JsonMap>,
    #[serde(default, rename = "operationName")]
    operation_name: Option<String>,
}

/// An answer: HTTP status and JSON text.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// The schema, checked once.
#[derive(Debug)]
pub(super) struct Executor {
    schema: Valid<Schema>,
}

impl Executor {
    /// Checks the schema. Its error text says where the file is wrong.
    pub(super) fn new() -> Result<Self, String> {
        let schema = Schema::parse_and_validate(SCHEMA, "schema.graphql").map_err(|error| error.to_string())?;
        Ok(Self { schema })
    }

    /// Answers one request. `base` is what URLs in the answer start with.
    pub(super) fn execute(&self, services: &Services, base: &str, request: &Request) -> Answer {
        let document = match ExecutableDocument::parse_and_validate(&self.schema, &request.query, "request") {
            Ok(document) => document,
            // Clients look for sentences like `Cannot query field "x" on type "Y"` at status 400.
            Err(invalid) => {
                return refusal(400, invalid.errors.iter().map(|error| error.unstable_to_json_compat().message));
            }
        };
        let name = request.operation_name.as_deref().filter(|name| !name.is_empty());
        let operation = match document.operations.get(name) {
            Ok(operation) => operation,
            Err(error) => return refusal(400, [error.message().to_string()]),
        };
        let empty = JsonMap::new();
        let variables = request.variables.as_ref().unwrap_or(&empty);
        let mutation = operation.operation_type == OperationType::Mutation;
        let outcome = services.db.read(|connection| {
            if !mutation {
                connection.execute_batch("BEGIN")?;
            }
            let context = Context::new(services, connection, base);
            let root = Root::new(&context, mutation);
            let outcome = Execution::new(&self.schema, &document)
                .operation(operation)
                .raw_variable_values(variables)
                .enable_schema_introspection(true)
                .execute_sync(&root);
            if !mutation {
                connection.execute_batch("ROLLBACK")?;
            }
            Ok(match outcome {
                Ok(response) => respond(context.status(), &response),
                Err(error) => refusal(400, [error.message().to_string()]),
            })
        });
        outcome.unwrap_or_else(|fault| refuse(&fault))
    }
}

/// The answer to a request that failed before it had data.
pub(super) fn refuse(fault: &Fault) -> Answer {
    tracing::debug!(error = fault as &dyn std::error::Error, "refused");
    refusal(fault.status(), [fault.public_message()])
}

fn refusal(status: u16, messages: impl IntoIterator<Item = String>) -> Answer {
    let errors: Vec<_> = messages.into_iter().map(|message| json!({ "message": message })).collect();
    Answer { status, body: json!({ "data": null, "errors": errors }).to_string().into_bytes() }
}

/// Any error makes the whole answer one, with the status of its first fault: the official clients take status 200 with
/// errors as final whatever the cause, so only a status can ask for a retry.
fn respond(status: Option<u16>, response: &ExecutionResponse) -> Answer {
    let status = if response.errors.is_empty() { 200 } else { status.unwrap_or(400) };
    match serde_json::to_vec(response) {
        Ok(body) => Answer { status, body },
        Err(error) => refusal(500, [error.to_string()]),
    }
}
