//! Operations on sweeps and their agents.

use serde::{Deserialize, Serialize};

use super::{Connection, Identified, Named, Page, ProjectNode, operation};

#[derive(Debug, Serialize)]
pub(crate) struct UpsertSweep<'a> {
    pub(crate) input: UpsertSweepInput<'a>,
}
operation!(UpsertSweep<'_>, "UpsertSweep", "upsert_sweep.graphql", UpsertSweepData);

/// A new sweep: without an id.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UpsertSweepInput<'a> {
    /// YAML text.
    pub(crate) config: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) entity_name: Option<&'a str>,
    pub(crate) project_name: &'a str,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UpsertSweepData {
    pub(crate) upsert_sweep: Option<UpsertSweepPayload>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UpsertSweepPayload {
    pub(crate) sweep: Option<NewSweep>,
    #[serde(default)]
    pub(crate) config_validation_warnings: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct NewSweep {
    pub(crate) name: String,
    pub(crate) project: Option<ProjectNode>,
}

#[derive(Debug, Serialize)]
pub(crate) struct SweepWithRuns<'a> {
    pub(crate) entity: Option<&'a str>,
    pub(crate) project: &'a str,
    pub(crate) sweep: &'a str,
    #[serde(flatten)]
    pub(crate) page: Page,
}
operation!(SweepWithRuns<'_>, "SweepWithRuns", "sweep_with_runs.graphql", SweepWithRunsData);

#[derive(Debug, Deserialize)]
pub(crate) struct SweepWithRunsData {
    pub(crate) project: Option<SweepProject>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct SweepProject {
    pub(crate) name: String,
    pub(crate) entity: Named,
    pub(crate) sweep: Option<SweepNode>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct SweepNode {
    pub(crate) state: String,
    pub(crate) config: String,
    pub(crate) runs: Connection<SweepRunNode>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct SweepRunNode {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) state: Option<String>,
    /// JSON text: names with `{"value": …}`.
    pub(crate) config: Option<String>,
}

/// A change of a run that is named by its storage id alone: it neither starts nor goes on with that.
#[derive(Debug, Serialize)]
pub(crate) struct EditRun<'a> {
    pub(crate) input: EditRunInput<'a>,
}
operation!(EditRun<'_>, "UpsertBucket", "upsert_bucket.graphql", serde_json::Value);

#[derive(Debug, Serialize)]
pub(crate) struct EditRunInput<'a> {
    pub(crate) id: &'a str,
    /// JSON text, all of it.
    pub(crate) config: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct CreateAgent<'a> {
    pub(crate) input: CreateAgentInput<'a>,
}
operation!(CreateAgent<'_>, "CreateAgent", "create_agent.graphql", CreateAgentData);

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateAgentInput<'a> {
    pub(crate) host: &'a str,
    pub(crate) entity_name: &'a str,
    pub(crate) project_name: &'a str,
    pub(crate) sweep: &'a str,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateAgentData {
    pub(crate) create_agent: Option<CreateAgentPayload>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct CreateAgentPayload {
    pub(crate) agent: Option<Identified>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Heartbeat<'a> {
    pub(crate) input: HeartbeatInput<'a>,
}
operation!(Heartbeat<'_>, "Heartbeat", "heartbeat.graphql", HeartbeatData);

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HeartbeatInput<'a> {
    pub(crate) id: &'a str,
    /// JSON text of an object; the official agent sends an empty one.
    pub(crate) metrics: &'a str,
    /// JSON text: `{"<run>": true}` for the runs that are still going.
    pub(crate) run_state: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HeartbeatData {
    pub(crate) agent_heartbeat: Option<HeartbeatPayload>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct HeartbeatPayload {
    /// JSON text of a list.
    pub(crate) commands: Option<String>,
}
