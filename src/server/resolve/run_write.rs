//! Making and changing runs: upsert, files, stop, state, rewind, alerts, delete.

use apollo_compiler::resolvers::ResolvedValue;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::Deserialize;

use super::artifact_write::remove;
use super::plain::Payload;
use super::project::{entity_or_default, project_or_default};
use super::run::{RunNode, files_payload};
use super::{Ask, Fault};
use crate::server::auth::random;
use crate::server::clock::now;
use crate::server::rows::artifact::{Artifact, Direction};
use crate::server::rows::project::Project;
use crate::server::rows::run::{Line, Run, Stream};
use crate::server::rows::run_file::RunFile;
use crate::server::rows::sweep::Sweep;
use crate::server::{ids, row_json};

/// The states a run can be put into (`wandb/apis/public/runs.py` and the SDK's own derivations).
const STATES: &[&str] = &["pending", "running", "finished", "failed", "crashed", "killed", "preempting", "preempted"];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Upsert {
    id: Option<String>,
    name: Option<String>,
    model_name: Option<String>,
    entity_name: Option<String>,
    group_name: Option<String>,
    display_name: Option<String>,
    notes: Option<String>,
    description: Option<String>,
    commit: Option<String>,
    config: Option<String>,
    summary_metrics: Option<String>,
    host: Option<String>,
    job_program: Option<String>,
    job_repo: Option<String>,
    job_type: Option<String>,
    state: Option<String>,
    sweep: Option<String>,
    tags: Option<Vec<Option<String>>>,
}

impl Upsert {
    /// The config and the summary have to be objects, or no reader could use the run again.
    fn check(&self) -> Result<(), Fault> {
        for (what, text) in [("config", &self.config), ("summaryMetrics", &self.summary_metrics)] {
            if let Some(text) = text
                && !row_json::parse(text).is_ok_and(|value| value.is_object())
            {
                return Err(Fault::invalid(format!("`{what}` is not a JSON object")));
            }
        }
        check_state(self.state.as_deref().unwrap_or("running"))
    }

    /// The run to change, made when it is new, and whether it was.
    fn target(&self, db: &Connection, entity: &str) -> Result<(i64, bool), Fault> {
        if let Some(id) = self.id.as_deref().filter(|id| !id.is_empty()) {
            return Ok((Run::get(db, ids::decode("Run", id)?)?.id, false));
        }
        let project = Project::ensure(db, entity, project_or_default(self.model_name.as_deref()))?;
        let name = match self.name.as_deref().filter(|name| !name.is_empty()) {
            Some(name) => name.to_owned(),
            None => run_id()?,
        };
        if let Some(run) = Run::find(db, project.id, &name)? {
            return Ok((run.id, false));
        }
        let id = Run::insert(db, project.id, &name)?;
        let count: i64 = db.query_row("SELECT count(*) FROM run WHERE project_id = ?1", [project.id], |r| r.get(0))?;
        db.execute("UPDATE run SET display_name = ?2 WHERE id = ?1", params![id, invented_name(count)])?;
        Ok((id, true))
    }

    /// Writes what is given; what is null stays.
    fn apply(&self, db: &Connection, id: i64) -> Result<(), Fault> {
        let sql = "UPDATE run SET display_name = coalesce(?2, display_name), group_name = coalesce(?3, group_name),
                   job_type = coalesce(?4, job_type), notes = coalesce(?5, notes),
                   description = coalesce(?6, description), commit_hash = coalesce(?7, commit_hash),
                   config = coalesce(?8, config), summary = coalesce(?9, summary), host = coalesce(?10, host),
                   program = coalesce(?11, program), repo = coalesce(?12, repo), tags = coalesce(?13, tags),
                   updated_at = ?14 WHERE id = ?1";
        let display_name = self.display_name.as_deref().filter(|name| !name.is_empty());
        let tags =
            self.tags.as_ref().map(|tags| serde_json::json!(tags.iter().flatten().collect::<Vec<_>>()).to_string());
        db.execute(
            sql,
            params![
                id,
                display_name,
                self.group_name,
                self.job_type,
                self.notes,
                self.description,
                self.commit,
                self.config,
                self.summary_metrics,
                self.host,
                self.job_program,
                self.job_repo,
                tags,
                now()
            ],
        )?;
        if let Some(name) = self.sweep.as_deref().filter(|name| !name.is_empty()) {
            let project = Run::get(db, id)?.project_id;
            let sweep = Sweep::find(db, project, name)?.ok_or_else(|| Fault::not_found("sweep", name))?;
            db.execute("UPDATE run SET sweep_id = ?2 WHERE id = ?1", params![id, sweep.id])?;
        }
        // A client that logs names the run; one that only edits it, like the public API, gives its id alone.
        match &self.state {
            Some(state) => Run::set_state(db, id, state)?,
            None if self.name.is_some() => {
                if Run::get(db, id)?.state() != "running" {
                    // Who wanted it to stop did not mean what goes on with it.
                    db.execute("UPDATE run SET stop_requested = 0 WHERE id = ?1", [id])?;
                }
                Run::set_state(db, id, "running")?;
                Run::beat(db, id)?;
            }
            None => {}
        }
        Ok(())
    }
}

/// `Mutation.upsertBucket`.
pub(super) fn upsert(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    let input: Upsert = ask.input()?;
    input.check()?;
    let entity = entity_or_default(ask, input.entity_name.as_deref()).to_owned();
    let (run, inserted) = ask.services().db.write(|db| {
        let (id, inserted) = input.target(db, &entity)?;
        input.apply(db, id)?;
        Ok((Run::get(db, id)?, inserted))
    })?;
    let payload = Payload::new("UpsertBucketPayload").leaf("inserted", inserted).object("bucket", RunNode(run));
    Ok(ask.context.object(payload))
}

/// Eight characters, each of 36 alike.
pub(super) fn run_id() -> Result<String, Fault> {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut id = String::with_capacity(8);
    while id.len() < 8 {
        let bytes = random::<16>().map_err(|_| Fault::Lost)?;
        // 252 is the largest multiple of 36 in a byte: what is above would favour some characters.
        let fair = bytes.iter().filter(|byte| **byte < 252).filter_map(|byte| ALPHABET.get(usize::from(*byte) % 36));
        id.extend(fair.take(8 - id.len()).map(|byte| char::from(*byte)));
    }
    Ok(id)
}

/// A name for the `number`th run of a project whose client gave none.
fn invented_name(number: i64) -> String {
    const FIRST: [&str; 8] = ["amber", "brisk", "calm", "dusky", "eager", "fair", "gentle", "hardy"];
    const SECOND: [&str; 7] = ["birch", "cedar", "fern", "heron", "lark", "otter", "wren"];
    let pick = |words: &'static [&'static str]| {
        words.get(number.unsigned_abs() as usize % words.len()).copied().unwrap_or_default()
    };
    format!("{}-{}-{number}", pick(&FIRST), pick(&SECOND))
}

fn check_state(state: &str) -> Result<(), Fault> {
    if STATES.contains(&state) {
        Ok(())
    } else {
        Err(Fault::invalid(format!("`{state}` is not a state of a run; those are {}", STATES.join(", "))))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    id: String,
    state: Option<String>,
    delete_artifacts: Option<bool>,
}

/// `Mutation.deleteRun`.
pub(super) fn delete(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    let input: Target = ask.input()?;
    let id = ids::decode("Run", &input.id)?;
    ask.services().db.write(|db| {
        Run::get(db, id)?;
        if input.delete_artifacts.unwrap_or(false) {
            for artifact in Artifact::of_run(db, id, Direction::Output)? {
                if artifact.created_by_run == Some(id) {
                    remove(db, &artifact)?;
                }
            }
        }
        db.execute("DELETE FROM run WHERE id = ?1", [id])?;
        Ok(())
    })?;
    Ok(ask.context.object(Payload::new("DeleteRunPayload")))
}

/// `Mutation.stopRun`: the run learns it with its next heartbeat.
pub(super) fn stop(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    let input: Target = ask.input()?;
    let id = ids::decode("Run", &input.id)?;
    ask.services().db.write(|db| {
        Run::get(db, id)?;
        db.execute("UPDATE run SET stop_requested = 1, updated_at = ?2 WHERE id = ?1", params![id, now()])?;
        Ok(())
    })?;
    Ok(ask.context.object(Payload::success("StopRunPayload")))
}

/// `Mutation.updateRunState`.
pub(super) fn update_state(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    let input: Target = ask.input()?;
    let id = ids::decode("Run", &input.id)?;
    let state = input.state.as_deref().unwrap_or_default();
    check_state(state)?;
    ask.services().db.write(|db| {
        Run::get(db, id)?;
        Run::set_state(db, id, state)
    })?;
    Ok(ask.context.object(Payload::success("UpdateRunStatePayload")))
}

/// How mutations name a run.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RunPath {
    entity_name: Option<String>,
    project_name: Option<String>,
    run_name: Option<String>,
}

impl RunPath {
    fn find(&self, ask: Ask<'_>, db: &Connection) -> Result<Run, Fault> {
        let entity = entity_or_default(ask, self.entity_name.as_deref());
        let project = project_or_default(self.project_name.as_deref());
        Run::by_path(db, [entity, project, self.run_name.as_deref().unwrap_or_default()])
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rewind {
    #[serde(flatten)]
    run: RunPath,
    metric_name: String,
    metric_value: f64,
}

/// `Mutation.rewindRun`: forgets the history after a step.
pub(super) fn rewind(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    let input: Rewind = ask.input()?;
    if input.metric_name != "_step" {
        return Err(Fault::invalid("a run can be rewound to a `_step` only"));
    }
    let run = ask.services().db.write(|db| {
        let run = input.run.find(ask, db)?;
        let last = input.metric_value.floor() as i64;
        let kept = run.lines(db, Stream::History, i64::MIN..last.saturating_add(1))?;
        db.execute("DELETE FROM run_line WHERE run_id = ?1 AND stream = 'history'", [run.id])?;
        // The client goes on at the line after the last one that is kept.
        for (line, number) in kept.into_iter().zip(0..) {
            Run::put_line(db, run.id, Stream::History, &Line { number, ..line })?;
        }
        Run::set_state(db, run.id, "running")?;
        Run::beat(db, run.id)?;
        Run::get(db, run.id)
    })?;
    Ok(ask.context.object(Payload::new("RewindRunPayload").object("rewoundRun", RunNode(run))))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Alert {
    #[serde(flatten)]
    run: RunPath,
    title: String,
    text: String,
    severity: Option<String>,
    /// Milliseconds.
    wait_duration: Option<i64>,
}

/// `Mutation.notifyScriptableRunAlert`: kept, once for a title within the time it asks to wait.
pub(super) fn alert(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    let input: Alert = ask.input()?;
    ask.services().db.write(|db| {
        let run = input.run.find(ask, db)?;
        let since = now().saturating_sub(input.wait_duration.unwrap_or(0));
        let sql = "SELECT 1 FROM alert WHERE run_id = ?1 AND title = ?2 AND created_at > ?3";
        if db.query_row(sql, params![run.id, input.title, since], |_| Ok(())).optional()?.is_none() {
            let sql = "INSERT INTO alert (run_id, title, text, severity, created_at) VALUES (?1, ?2, ?3, ?4, ?5)";
            let severity = input.severity.as_deref().unwrap_or("INFO");
            db.execute(sql, params![run.id, input.title, input.text, severity, now()])?;
            tracing::info!(run = run.name, severity, title = input.title, "alert");
        }
        Ok(())
    })?;
    Ok(ask.context.object(Payload::success("NotifyScriptableRunAlertPayload")))
}

#[derive(Deserialize)]
struct Files {
    #[serde(flatten)]
    run: RunPath,
    files: Option<Vec<String>>,
}

/// `Mutation.createRunFiles`: where to send each file.
pub(super) fn create_files(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    let input: Files = ask.input()?;
    let (run, files) = ask.services().db.write(|db| {
        let run = input.run.find(ask, db)?;
        let names = input.files.iter().flatten();
        let files = names.map(|name| RunFile::ensure(db, run.id, name)).collect::<Result<Vec<_>, _>>()?;
        Ok((run, files))
    })?;
    Ok(ask.context.object(files_payload(&run, &files)))
}

/// `Mutation.markRunFilesUploaded`: nothing to do, an upload says so itself.
pub(super) fn mark_uploaded(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    let input: Files = ask.input()?;
    input.run.find(ask, ask.db())?;
    Ok(ask.context.object(Payload::success("MarkRunFilesUploadedPayload")))
}

#[derive(Deserialize)]
struct DeleteFiles {
    files: Vec<String>,
}

/// `Mutation.deleteFiles`.
pub(super) fn delete_files(ask: Ask<'_>) -> Result<ResolvedValue<'_>, Fault> {
    let input: DeleteFiles = ask.input()?;
    ask.services().db.write(|db| {
        for id in &input.files {
            db.execute("DELETE FROM run_file WHERE id = ?1", [ids::decode("RunFile", id)?])?;
        }
        Ok(())
    })?;
    Ok(ask.context.object(Payload::success("DeleteFilesPayload")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_ids_are_eight_of_36() {
        let id = run_id().unwrap();
        assert_eq!(id.len(), 8);
        assert!(id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()));
        assert_ne!(id, run_id().unwrap());
        assert_eq!(invented_name(9), "brisk-fern-9");
    }
}
