//! Operations on runs.

use serde::{Deserialize, Serialize};

use crate::wandb::retry::Traffic;

use super::{ProjectNode, operation};

#[derive(Debug, Serialize)]
pub(crate) struct UpsertBucket {
    pub(crate) input: UpsertBucketInput,
}
operation!(UpsertBucket, "UpsertBucket", "upsert_bucket.graphql", UpsertBucketData, Traffic::Upsert);

/// What is not set stays as it is on the server.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UpsertBucketInput {
    pub(crate) name: String,
    pub(crate) model_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) entity_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) group_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) notes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) commit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) config: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) job_program: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) job_repo: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) job_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sweep: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tags: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UpsertBucketData {
    pub(crate) upsert_bucket: Option<UpsertBucketPayload>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct UpsertBucketPayload {
    pub(crate) bucket: Option<Bucket>,
    pub(crate) inserted: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Bucket {
    pub(crate) name: String,
    pub(crate) display_name: Option<String>,
    pub(crate) project: Option<ProjectNode>,
    pub(crate) history_line_count: Option<u64>,
}

/// What a run of this id has, for a client that goes on with it.
#[derive(Debug, Serialize)]
pub(crate) struct RunResumeStatus<'a> {
    pub(crate) project: &'a str,
    pub(crate) entity: Option<&'a str>,
    pub(crate) name: &'a str,
}
operation!(RunResumeStatus<'_>, "RunResumeStatus", "run_resume_status.graphql", ResumeData);

#[derive(Debug, Deserialize)]
pub(crate) struct ResumeData {
    pub(crate) model: Option<ResumeProject>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ResumeProject {
    pub(crate) bucket: Option<ResumeBucket>,
}

/// Texts are JSON.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ResumeBucket {
    pub(crate) summary_metrics: Option<String>,
    pub(crate) config: Option<String>,
    pub(crate) wandb_config: Option<String>,
    /// A list of lines, the last last.
    pub(crate) history_tail: Option<String>,
    pub(crate) events_tail: Option<String>,
    pub(crate) history_line_count: Option<u64>,
    pub(crate) events_line_count: Option<u64>,
    pub(crate) log_line_count: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct CreateRunFiles<'a> {
    pub(crate) entity: &'a str,
    pub(crate) project: &'a str,
    pub(crate) run: &'a str,
    pub(crate) files: Vec<&'a str>,
}
operation!(CreateRunFiles<'_>, "CreateRunFiles", "create_run_files.graphql", CreateRunFilesData);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateRunFilesData {
    pub(crate) create_run_files: Option<CreateRunFilesPayload>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateRunFilesPayload {
    #[serde(default)]
    pub(crate) upload_headers: Vec<String>,
    pub(crate) files: Vec<RunFileNode>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunFileNode {
    pub(crate) name: String,
    pub(crate) upload_url: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct NotifyAlert<'a> {
    pub(crate) input: NotifyAlertInput<'a>,
}
operation!(NotifyAlert<'_>, "NotifyScriptableRunAlert", "notify_scriptable_run_alert.graphql", serde_json::Value);

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NotifyAlertInput<'a> {
    pub(crate) entity_name: &'a str,
    pub(crate) project_name: &'a str,
    pub(crate) run_name: &'a str,
    pub(crate) title: &'a str,
    pub(crate) text: &'a str,
    /// `INFO`, `WARN` or `ERROR`.
    pub(crate) severity: &'a str,
    /// Milliseconds in which the same title is not told again.
    pub(crate) wait_duration: i64,
}

#[derive(Debug, Serialize)]
pub(crate) struct CreateChart<'a> {
    pub(crate) input: CreateChartInput<'a>,
}
operation!(CreateChart<'_>, "CreateCustomChart", "create_custom_chart.graphql", serde_json::Value);

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateChartInput<'a> {
    pub(crate) entity: &'a str,
    pub(crate) name: &'a str,
    pub(crate) display_name: &'a str,
    /// `vega2`.
    #[serde(rename = "type")]
    pub(crate) kind: &'a str,
    /// `PRIVATE` or `PUBLIC`.
    pub(crate) access: &'a str,
    /// JSON text of a Vega-Lite specification.
    pub(crate) spec: &'a str,
}

/// Rows whose `_step` is in a range, the end left out.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HistoryPage<'a> {
    pub(crate) entity: &'a str,
    pub(crate) project: &'a str,
    pub(crate) run: &'a str,
    pub(crate) min_step: u64,
    pub(crate) max_step: u64,
    /// The most rows to answer.
    pub(crate) samples: u64,
}
operation!(HistoryPage<'_>, "HistoryPage", "history_page.graphql", HistoryPageData);

#[derive(Debug, Deserialize)]
pub(crate) struct HistoryPageData {
    pub(crate) project: Option<HistoryPageProject>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct HistoryPageProject {
    pub(crate) run: Option<HistoryPageRun>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct HistoryPageRun {
    /// JSON text of a row each.
    pub(crate) history: Vec<String>,
}
