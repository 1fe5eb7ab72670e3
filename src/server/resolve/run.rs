//! Reading runs: fields, listings, history, console lines, files, lineage.

use std::collections::HashMap;

use apollo_compiler::resolvers::ResolvedValue;
use apollo_compiler::response::JsonValue;
use rusqlite::Connection;
use serde_json::{Map, Value, json};

use super::artifact::ArtifactNode;
use super::file::FileNode;
use super::plain::{Listing, Page, Payload};
use super::project::ProjectNode;
use super::sweep::SweepNode;
use super::viewer::User;
use super::{Ask, Fault, Resolve};
use crate::server::clock::iso;
use crate::server::filter::{Filter, Order, lookup};
use crate::server::history::{self, Console, Spec};
use crate::server::rows::artifact::{Artifact, Direction};
use crate::server::rows::project::Project;
use crate::server::rows::run::{Run, Stream};
use crate::server::rows::run_file::RunFile;
use crate::server::rows::sweep::Sweep;
use crate::server::{ids, row_json};

/// One run.
pub(super) struct RunNode(pub(super) Run);

impl Resolve for RunNode {
    fn type_name(&self) -> &str {
        "Run"
    }

    fn field<'a>(&'a self, ask: Ask<'a>) -> Result<ResolvedValue<'a>, Fault> {
        let this = &self.0;
        Ok(match ask.name() {
            "id" => ResolvedValue::leaf(ids::encode("Run", this.id)),
            "name" => ResolvedValue::leaf(this.name.as_str()),
            "projectId" => ResolvedValue::leaf(this.project_id.to_string()),
            "displayName" => ResolvedValue::leaf(this.display_name.as_str()),
            "group" => ResolvedValue::leaf(this.group_name.clone()),
            "jobType" => ResolvedValue::leaf(this.job_type.clone()),
            "notes" => ResolvedValue::leaf(this.notes.clone()),
            "description" => ResolvedValue::leaf(this.description.clone()),
            "commit" => ResolvedValue::leaf(this.commit_hash.clone()),
            "host" => ResolvedValue::leaf(this.host.clone()),
            "state" => ResolvedValue::leaf(this.state()),
            "exitcode" => ResolvedValue::leaf(this.exit_code.map(|code| code as f64)),
            "tags" => ResolvedValue::list(self.tags().into_iter().map(ResolvedValue::leaf).collect::<Vec<_>>()),
            "createdAt" => ResolvedValue::leaf(iso(this.created_at)),
            "updatedAt" => ResolvedValue::leaf(iso(this.updated_at)),
            "heartbeatAt" => ResolvedValue::leaf(iso(this.heartbeat_at)),
            "config" => ResolvedValue::leaf(only_keys(&this.config, ask.texts("keys"))),
            "summaryMetrics" => ResolvedValue::leaf(only_keys(&this.summary, ask.texts("keys"))),
            "wandbConfig" => ResolvedValue::leaf(self.wandb_config(ask.texts("keys"))),
            "readOnly" => ResolvedValue::leaf(false),
            "stopped" | "shouldStop" => ResolvedValue::leaf(this.stop_requested),
            "failed" => ResolvedValue::leaf(matches!(this.state(), "failed" | "crashed")),
            "running" => ResolvedValue::leaf(this.state() == "running"),
            "user" => ask.context.object(User),
            "project" => ask.context.object(ProjectNode(Project::get(ask.db(), this.project_id)?)),
            "sweep" | "sweepName" => self.sweep(ask)?,
            "files" => ask.context.object(self.files(ask)?),
            "fileCount" => ResolvedValue::leaf(RunFile::list(ask.db(), this.id)?.len() as i64),
            "outputArtifacts" => self.artifacts(ask, Direction::Output)?,
            "inputArtifacts" => self.artifacts(ask, Direction::Input)?,
            _ => return self.stream_field(ask),
        })
    }
}

impl RunNode {
    /// Fields that come from the lines of the run.
    fn stream_field<'a>(&'a self, ask: Ask<'a>) -> Result<ResolvedValue<'a>, Fault> {
        let this = &self.0;
        let db = ask.db();
        Ok(match ask.name() {
            "historyLineCount" => ResolvedValue::leaf(this.line_count(db, Stream::History)?),
            "eventsLineCount" => ResolvedValue::leaf(this.line_count(db, Stream::Events)?),
            "logLineCount" => ResolvedValue::leaf(this.line_count(db, Stream::Output)?),
            "historyTail" => ResolvedValue::leaf(tail(this.last_line(db, Stream::History)?)),
            "eventsTail" => ResolvedValue::leaf(tail(this.last_line(db, Stream::Events)?)),
            "historyKeys" => {
                let lines = this.lines(db, Stream::History, i64::MIN..i64::MAX)?;
                ResolvedValue::leaf(JsonValue::from(history::keys(&lines)))
            }
            "history" => {
                let first = ask.integer("minStep").unwrap_or(i64::MIN);
                let end = ask.integer("maxStep").unwrap_or(i64::MAX);
                self.sampled(ask, Stream::History, first..end)?
            }
            "events" => self.sampled(ask, Stream::Events, i64::MIN..i64::MAX)?,
            "sampledHistory" => self.specs(ask)?,
            // Everything is live: there are no exports, and clients then page through `history`.
            "parquetHistory" => ask.context.object(
                Payload::new("ParquetHistory")
                    .leaf("parquetUrls", Vec::<JsonValue>::new())
                    .leaf("liveData", Vec::<JsonValue>::new()),
            ),
            "systemMetrics" => ResolvedValue::leaf(self.system_metrics(db)?),
            "logLines" => ask.context.object(self.log_lines(ask)?),
            _ => return ask.unresolved("Run"),
        })
    }

    fn tags(&self) -> Vec<String> {
        serde_json::from_str(&self.0.tags).unwrap_or_default()
    }

    fn sweep<'a>(&'a self, ask: Ask<'a>) -> Result<ResolvedValue<'a>, Fault> {
        match self.0.sweep_id {
            None => Ok(ResolvedValue::null()),
            Some(id) => {
                let sweep = Sweep::get(ask.db(), id)?;
                Ok(match ask.name() {
                    "sweepName" => ResolvedValue::leaf(sweep.name),
                    _ => ask.context.object(SweepNode(sweep)),
                })
            }
        }
    }

    /// The members of `config._wandb.value` that are asked for.
    fn wandb_config(&self, keys: Option<Vec<&str>>) -> String {
        let config: Value = row_json::parse(&self.0.config).unwrap_or_default();
        let inner = lookup(&config, "_wandb.value").cloned().unwrap_or_else(|| json!({}));
        only_keys(&inner.to_string(), keys)
    }

    /// The last value of every system metric.
    fn system_metrics(&self, db: &Connection) -> Result<String, Fault> {
        let last = self.0.last_line(db, Stream::Events)?.unwrap_or_default();
        let row = row_json::parse(&last).unwrap_or_default();
        let metrics: Map<String, Value> = row
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, _)| key.starts_with("system."))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        Ok(Value::Object(metrics).to_string())
    }

    fn sampled<'a>(
        &self,
        ask: Ask<'a>,
        stream: Stream,
        steps: std::ops::Range<i64>,
    ) -> Result<ResolvedValue<'a>, Fault> {
        let lines = self.0.lines(ask.db(), stream, steps)?;
        let lines = history::sample(lines, ask.integer("samples"));
        Ok(ResolvedValue::list(lines.into_iter().map(|line| ResolvedValue::leaf(line.content)).collect::<Vec<_>>()))
    }

    fn specs<'a>(&self, ask: Ask<'a>) -> Result<ResolvedValue<'a>, Fault> {
        let mut answers = Vec::new();
        for text in ask.texts("specs").unwrap_or_default() {
            let spec = Spec::parse(text)?;
            let lines = self.0.lines(ask.db(), Stream::History, spec.steps())?;
            answers.push(ResolvedValue::leaf(JsonValue::from(Value::Array(spec.rows(&lines)))));
        }
        Ok(ResolvedValue::list(answers))
    }

    fn files(&self, ask: Ask<'_>) -> Result<Page<FileNode>, Fault> {
        let names = ask.texts("names").filter(|names| !names.is_empty());
        let pattern = ask.text("pattern").filter(|pattern| !pattern.is_empty());
        let mut files = RunFile::list(ask.db(), self.0.id)?;
        files.retain(|file| {
            names.as_ref().is_none_or(|names| names.contains(&file.name.as_str()))
                && pattern.is_none_or(|pattern| like(pattern, &file.name))
        });
        Page::cut("FileConnection", ask, files.iter().map(FileNode::of_run).collect())
    }

    fn artifacts<'a>(&self, ask: Ask<'a>, direction: Direction) -> Result<ResolvedValue<'a>, Fault> {
        let all = Artifact::of_run(ask.db(), self.0.id, direction)?.into_iter().map(ArtifactNode).collect();
        let connection = match direction {
            Direction::Input => "InputArtifactConnection",
            Direction::Output => "ArtifactConnection",
        };
        Ok(ask.context.object(Page::cut(connection, ask, all)?))
    }

    fn log_lines<'a>(&self, ask: Ask<'a>) -> Result<Page<Payload<'a>>, Fault> {
        let lines = self.0.lines(ask.db(), Stream::Output, i64::MIN..i64::MAX)?;
        let skipped = match ask.integer("last") {
            Some(last) => lines.len().saturating_sub(usize::try_from(last).unwrap_or(0)),
            None => 0,
        };
        let nodes = lines.into_iter().skip(skipped).map(|line| {
            let console = Console::parse(&line.content);
            Payload::new("LogLine")
                .leaf("number", line.number)
                .leaf("timestamp", console.timestamp)
                .leaf("level", console.level)
                .leaf("label", console.label)
                .leaf("line", console.text)
        });
        Page::cut("LogLineConnection", ask, nodes.collect())
    }
}

/// JSON text of a list with the last line, as clients that resume expect it.
fn tail(last: Option<String>) -> String {
    json!(last.into_iter().collect::<Vec<_>>()).to_string()
}

/// A JSON object reduced to some of its keys; the text itself when all are wanted.
fn only_keys(text: &str, keys: Option<Vec<&str>>) -> String {
    let Some(keys) = keys else { return text.to_owned() };
    let object = row_json::parse(text).unwrap_or_default();
    let kept: Map<String, Value> = object
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| keys.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    Value::Object(kept).to_string()
}

/// SQL's `LIKE` with `%` for any text and `_` for one character; `\` takes the next character as it is.
fn like(pattern: &str, text: &str) -> bool {
    let mut regex = String::from("(?s)^");
    let mut characters = pattern.chars();
    while let Some(c) = characters.next() {
        match c {
            '%' => regex.push_str(".*"),
            '_' => regex.push('.'),
            '\\' => regex.push_str(&regex::escape(&characters.next().map(String::from).unwrap_or_default())),
            c => regex.push_str(&regex::escape(&c.to_string())),
        }
    }
    regex.push('$');
    regex::Regex::new(&regex).is_ok_and(|regex| regex.is_match(text))
}

/// The runs of a project that pass the filters, in the order asked for.
pub(super) fn matching(ask: Ask<'_>, project: i64) -> Result<Vec<Run>, Fault> {
    let filter = Filter::parse(ask.text("filters"))?;
    let order = Order::parse(ask.text("order"))?;
    let project = Project::get(ask.db(), project)?;
    let sweeps: HashMap<i64, String> =
        Sweep::list(ask.db(), project.id)?.into_iter().map(|sweep| (sweep.id, sweep.name)).collect();
    let facts = |run: Run| {
        let sweep = run.sweep_id.and_then(|id| sweeps.get(&id).cloned());
        Facts::new(run, (&project.entity, sweep))
    };
    let mut runs: Vec<Facts> = Run::list(ask.db(), project.id)?.into_iter().map(facts).collect();
    runs.retain(|run| filter.matches(&|field| run.value(field)));
    order.sort(&mut runs, Facts::value);
    Ok(runs.into_iter().map(|facts| facts.run).collect())
}

/// A page of them.
pub(super) fn page(ask: Ask<'_>, project: i64) -> Result<Page<RunNode>, Fault> {
    Page::cut("RunConnection", ask, matching(ask, project)?.into_iter().map(RunNode).collect())
}

/// A run as filters and orders see it.
struct Facts {
    run: Run,
    entity: String,
    sweep: Option<String>,
    config: Value,
    summary: Value,
}

impl Facts {
    fn new(run: Run, (entity, sweep): (&str, Option<String>)) -> Self {
        let config = row_json::parse(&run.config).unwrap_or_default();
        let summary = row_json::parse(&run.summary).unwrap_or_default();
        Self { run, entity: entity.to_owned(), sweep, config, summary }
    }

    fn value(&self, field: &str) -> Option<Value> {
        let run = &self.run;
        if let Some(key) = field.strip_prefix("config.") {
            // `config.lr` means its value; orders name `config.lr.value` themselves.
            let plain = lookup(&self.config, key);
            let wrapped = plain.and_then(|entry| entry.get("value"));
            let inside =
                key.split_once('.').and_then(|(head, rest)| lookup(self.config.get(head)?.get("value")?, rest));
            return wrapped.or(plain).or(inside).cloned();
        }
        for prefix in ["summary_metrics.", "summaryMetrics.", "summary."] {
            if let Some(key) = field.strip_prefix(prefix) {
                return lookup(&self.summary, key).cloned();
            }
        }
        Some(match field {
            "name" => run.name.clone().into(),
            "displayName" | "display_name" => run.display_name.clone().into(),
            "state" => run.state().into(),
            "sweep" => self.sweep.clone().into(),
            "group" => run.group_name.clone().into(),
            "jobType" | "job_type" => run.job_type.clone().into(),
            "host" => run.host.clone().into(),
            "notes" => run.notes.clone().into(),
            "tags" => row_json::parse(&run.tags).ok()?,
            "createdAt" | "created_at" => iso(run.created_at).into(),
            "updatedAt" | "updated_at" => iso(run.updated_at).into(),
            "heartbeatAt" | "heartbeat_at" => iso(run.heartbeat_at).into(),
            "duration" => (run.heartbeat_at.saturating_sub(run.created_at) / 1000).into(),
            // There is one user, named like the default entity; whose project it is makes no difference to runs.
            "username" | "entity" => self.entity.clone().into(),
            _ => return None,
        })
    }
}

/// `Payload` with the files that clients may now send.
pub(super) fn files_payload<'a>(run: &Run, files: &[RunFile]) -> Listing<'a> {
    Listing::new("CreateRunFilesPayload", "files", files.iter().map(FileNode::of_run).collect())
        .leaf("runID", ids::encode("Run", run.id))
        .leaf("uploadHeaders", Vec::<JsonValue>::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_is_sql_like() {
        assert!(like("%.json", "wandb-summary.json"));
        assert!(!like("%.json", "config.yaml"));
        assert!(like("a_c", "abc"));
        assert!(!like("a\\_c", "abc"));
        assert!(like("media/%", "media/table/x.json"));
        assert!(!like("a.c", "abc"));
    }

    #[test]
    fn keys_reduce_objects_and_tails_are_lists_of_lines() {
        assert_eq!(only_keys(r#"{"a":{"value":1},"b":2}"#, Some(vec!["a"])), r#"{"a":{"value":1}}"#);
        assert_eq!(only_keys("{\"a\":NaN}", None), "{\"a\":NaN}");
        assert_eq!(tail(Some("{\"_step\":9}".to_owned())), r#"["{\"_step\":9}"]"#);
        assert_eq!(tail(None), "[]");
    }
}
