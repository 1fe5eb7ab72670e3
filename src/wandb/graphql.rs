//! GraphQL over the transport: one typed operation in, its data out. Network I/O through the transport only.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::error::WandbError;
use super::operations::Operation;
use super::retry::{Budget, Traffic};
use super::transport::{Errand, Transport};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a, V> {
    query: &'a str,
    variables: &'a V,
    operation_name: &'a str,
}

#[derive(Deserialize)]
struct Answer<D> {
    data: Option<D>,
    #[serde(default)]
    errors: Option<Vec<Problem>>,
}

#[derive(Deserialize)]
struct Problem {
    message: String,
}

/// Runs an operation. `what` says in words what it is for.
pub(super) async fn execute<O: Operation>(
    transport: &Transport,
    budget: &Budget,
    what: &str,
    variables: &O,
) -> Result<O::Data, WandbError> {
    let document = variables.document();
    let request = Request { query: &document, variables, operation_name: O::NAME };
    let malformed = |reason: String| WandbError::Malformed { what: what.to_owned(), reason };
    let body = serde_json::to_vec(&request).map_err(|error| malformed(error.to_string()))?;
    let body = Bytes::from(body);
    let url = transport.route(&["graphql"])?;
    let errand = Errand { traffic: O::TRAFFIC, what };
    let answer = transport.persist(budget, errand, || transport.post_json(&url, body.clone())).await?;
    // Parsed as loose JSON first: a reply with errors often has data of another shape.
    let answer: Answer<serde_json::Value> =
        serde_json::from_slice(&answer).map_err(|error| malformed(format!("no JSON: {error}")))?;
    if let Some(errors) = answer.errors.filter(|errors| !errors.is_empty()) {
        let message = errors.into_iter().map(|problem| problem.message).collect::<Vec<_>>().join("; ");
        return Err(WandbError::Rejected { what: what.to_owned(), message });
    }
    let data = answer.data.unwrap_or_default();
    serde_json::from_value(data).map_err(|error| malformed(error.to_string()))
}

/// Posts to the file stream of a run.
pub(super) async fn post_stream(
    transport: &Transport,
    budget: &Budget,
    [entity, project, run]: [&str; 3],
    body: Bytes,
) -> Result<Bytes, WandbError> {
    let url = transport.route(&["files", entity, project, run, "file_stream"])?;
    let what = format!("the file stream of run {entity}/{project}/{run}");
    let errand = Errand { traffic: Traffic::Api, what: &what };
    transport.persist(budget, errand, || transport.post_json(&url, body.clone())).await
}
