//! What a run on the server had when a log goes on with it, and where the log continues. Asking is network I/O through the
//! client; what the answer means is pure.
//!
//! Facts from `core/internal/runbranch/resume.go`: a run is there when its configuration has `_wandb.t`; the next step is
//! one more than that of its last row; its time goes on; its configuration and summary stay where the new ones say nothing.

use serde_json::{Map, Value};

use super::super::Client;
use super::super::error::WandbError;
use super::super::graphql::execute;
use super::super::operations::{ResumeBucket, RunResumeStatus};
use super::home::Home;
use super::record::Item;
use super::tree::plain_json;

/// What a run had.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Past {
    /// Values by key, W&B's own aside.
    pub(crate) config: Map<String, Value>,
    /// Panels of charts, which are in W&B's own part of the configuration.
    pub(crate) panels: Vec<Item>,
    pub(crate) summary: Map<String, Value>,
    /// Step of the next row.
    pub(crate) step: u64,
    /// Seconds that it ran.
    pub(crate) runtime: u64,
    /// Lines of history, events and console.
    pub(crate) lines: [u64; 3],
}

impl Past {
    /// The configuration as items, panels among it.
    pub(crate) fn config_items(&self) -> Vec<Item> {
        self.panels.iter().cloned().chain(items(&self.config)).collect()
    }

    /// The summary as items; nulls have no place in it.
    pub(crate) fn summary_items(&self) -> Vec<Item> {
        items(&self.summary).filter(|item| item.value_json != "null").collect()
    }
}

fn items(values: &Map<String, Value>) -> impl Iterator<Item = Item> {
    values.iter().map(|(key, value)| Item::new(key.as_str(), value.to_string()))
}

impl Client {
    /// What the run at `home` had; nothing when no client ran it yet. An empty entity is the key's default one.
    pub(crate) async fn past(&self, home: &Home) -> Result<Option<Past>, WandbError> {
        let Home { entity, project, run } = home;
        let entity = Some(entity.as_str()).filter(|entity| !entity.is_empty());
        let variables = RunResumeStatus { project, entity, name: run };
        let what = format!("run {}", home.path());
        let data = execute(self.transport(), &self.budget(), &what, &variables).await?;
        let bucket = data.model.and_then(|project| project.bucket).filter(exists);
        Ok(bucket.as_ref().map(past))
    }
}

/// Whether a client ran it: an agent's run is known to the server before.
fn exists(bucket: &ResumeBucket) -> bool {
    object(bucket.wandb_config.as_deref()).contains_key("t")
}

fn past(bucket: &ResumeBucket) -> Past {
    let mut config = object(bucket.config.as_deref());
    let own = config.remove("_wandb");
    let panels = ["visualize", "viz"].into_iter().filter_map(|name| {
        let nested_key = vec!["_wandb".to_owned(), name.to_owned()];
        let value_json = own.as_ref()?.get("value")?.get(name)?.to_string();
        Some(Item { nested_key, value_json, ..Item::default() })
    });
    let panels = panels.collect();
    let value = |(key, entry): (String, Value)| Some((key, entry.get("value")?.clone()));
    let config = config.into_iter().filter_map(value).collect();
    let summary = object(bucket.summary_metrics.as_deref());
    let (row, event) = (last(bucket.history_tail.as_deref()), last(bucket.events_tail.as_deref()));
    let rows = bucket.history_line_count.unwrap_or(0);
    let whole = |values: &Map<String, Value>, key: &str| values.get(key).and_then(Value::as_u64);
    let step = whole(&row, "_step").or(whole(&summary, "_step")).unwrap_or(0) + u64::from(rows > 0);
    let seconds = |value: Option<&Value>| value.and_then(Value::as_f64).unwrap_or(0.0);
    let summed = match summary.get("_wandb") {
        Some(Value::Object(own)) => seconds(own.get("runtime")),
        _ => seconds(summary.get("_runtime")),
    };
    let runtime = summed.max(seconds(row.get("_runtime"))).max(seconds(event.get("_runtime"))).max(0.0) as u64;
    let lines = [rows, bucket.events_line_count.unwrap_or(0), bucket.log_line_count.unwrap_or(0)];
    Past { config, panels, summary, step, runtime, lines }
}

/// An object from its text, with null where a number is not finite; a text that is none is empty.
fn object(text: Option<&str>) -> Map<String, Value> {
    text.and_then(|text| serde_json::from_str(&plain_json(text)).ok()).unwrap_or_default()
}

/// The last of the lines in the text of a list.
fn last(tail: Option<&str>) -> Map<String, Value> {
    let lines: Vec<String> = tail.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    object(lines.last().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn bucket(value: Value) -> ResumeBucket {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_past_goes_on_where_it_ended() {
        let bucket = bucket(json!({
            "summaryMetrics": r#"{"loss":NaN,"x":1,"_step":3,"_wandb":{"runtime":7}}"#,
            "config": r#"{"lr":{"value":0.5},"odd":{},"_wandb":{"value":{"t":{},"visualize":{"k":1}}}}"#,
            "wandbConfig": r#"{"t":{}}"#,
            "historyTail": r#"["{\"_step\":8,\"a\":NaN}","{\"_step\":9,\"_runtime\":8.9}"]"#,
            "eventsTail": "[]",
            "historyLineCount": 5,
            "eventsLineCount": 2,
            "logLineCount": 1,
        }));
        assert!(exists(&bucket));
        let past = past(&bucket);
        assert_eq!((past.step, past.runtime, past.lines), (10, 8, [5, 2, 1]));
        assert_eq!(Value::from(past.config), json!({ "lr": 0.5 }));
        assert_eq!((past.summary.get("x"), past.summary.get("loss")), (Some(&json!(1)), Some(&Value::Null)));
        assert_eq!(past.panels.len(), 1);
        assert_eq!(past.panels[0].value_json, r#"{"k":1}"#);
    }

    #[test]
    fn a_run_that_nobody_ran_yet_is_not_there() {
        assert!(!exists(&bucket(json!({ "wandbConfig": "{}" }))));
        assert!(!exists(&bucket(json!({}))));
        let empty = past(&bucket(json!({ "config": "no object", "historyTail": "x" })));
        assert_eq!(empty, Past::default());
    }
}
