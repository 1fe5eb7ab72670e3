//! What a run sends while it lives: lines of its streams, its summary, its end. Blocking.
//!
//! Lines are written at their numbers, over what was there, because a client repeats a request whose answer it did not
//! see. The summary is one line, and the last one counts.

use std::io::Read as _;

use flate2::read::GzDecoder;
use rusqlite::{Connection, params};
use serde::Deserialize;
use serde_json::{Value, json};

use super::clock::now;
use super::db::Db;
use super::fault::Fault;
use super::row_json;
use super::rows::run::{Line, Run, Stream};

/// The largest body after decompression.
const MAX_INFLATED: u64 = 256 << 20;

/// The body of a file-stream request; an empty one is a heartbeat.
#[derive(Debug, Default, Deserialize)]
struct Post {
    #[serde(default)]
    files: Option<serde_json::Map<String, Value>>,
    #[serde(default)]
    complete: Option<bool>,
    #[serde(default)]
    exitcode: Option<i64>,
    #[serde(default)]
    preempting: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct Chunk {
    #[serde(default)]
    offset: i64,
    #[serde(default)]
    content: Vec<String>,
}

/// Takes one request of a run in and answers it.
pub(super) fn receive(db: &Db, path: &[String; 3], body: &[u8], gzip: bool) -> Result<Value, Fault> {
    let inflated;
    let body = if gzip {
        inflated = inflate(body)?;
        &inflated
    } else {
        body
    };
    let post: Post = if body.trim_ascii().is_empty() {
        Post::default()
    } else {
        serde_json::from_slice(body).map_err(|error| Fault::invalid(format!("the body is not JSON: {error}")))?
    };
    let [entity, project, name] = path;
    let run = db.write(|transaction| {
        let run = Run::by_path(transaction, [entity, project, name])?;
        for (file, chunk) in post.files.iter().flatten() {
            let chunk: Chunk = serde_json::from_value(chunk.clone())
                .map_err(|error| Fault::invalid(format!("lines of `{file}`: {error}")))?;
            write_lines(transaction, run.id, file, chunk)?;
        }
        Run::beat(transaction, run.id)?;
        apply_state(transaction, &run, &post)?;
        Run::get(transaction, run.id)
    })?;
    Ok(json!({ "stopped": run.stop_requested, "exitcode": run.exit_code, "limits": {} }))
}

fn inflate(body: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut inflated = Vec::new();
    let read = GzDecoder::new(body).take(MAX_INFLATED + 1).read_to_end(&mut inflated);
    match read {
        Ok(size) if size as u64 <= MAX_INFLATED => Ok(inflated),
        Ok(_) => Err(Fault::invalid("the body is too large once decompressed")),
        Err(error) => Err(Fault::invalid(format!("the body is not gzip: {error}"))),
    }
}

fn write_lines(db: &Connection, run: i64, file: &str, chunk: Chunk) -> Result<(), Fault> {
    if chunk.offset < 0 {
        return Err(Fault::invalid(format!("the offset of `{file}` is negative")));
    }
    let stream = match file {
        "wandb-history.jsonl" => Stream::History,
        "wandb-events.jsonl" => Stream::Events,
        "output.log" => Stream::Output,
        "wandb-summary.json" => return write_summary(db, run, chunk),
        // A file of a newer client: what is not understood is not kept, and not a reason to end the run's stream.
        other => {
            tracing::warn!(file = other, "lines of an unknown file were dropped");
            return Ok(());
        }
    };
    for (number, content) in (chunk.offset..).zip(chunk.content) {
        let step = match stream {
            Stream::Output => number,
            Stream::History | Stream::Events => step_of(file, &content)?.unwrap_or(number),
        };
        Run::put_line(db, run, stream, &Line { number, step, content })?;
    }
    Ok(())
}

/// `_step` of a row, when it has one.
fn step_of(file: &str, content: &str) -> Result<Option<i64>, Fault> {
    match row_json::parse(content) {
        Ok(Value::Object(row)) => {
            Ok(row.get("_step").and_then(|step| step.as_i64().or(step.as_f64().map(|f| f as i64))))
        }
        Ok(_) => Err(Fault::invalid(format!("a line of `{file}` is not an object"))),
        Err(error) => Err(Fault::invalid(format!("a line of `{file}` is not JSON: {error}"))),
    }
}

fn write_summary(db: &Connection, run: i64, chunk: Chunk) -> Result<(), Fault> {
    let Some(line) = chunk.content.into_iter().next_back() else { return Ok(()) };
    if !row_json::parse(&line).is_ok_and(|value| value.is_object()) {
        return Err(Fault::invalid("the summary is not a JSON object"));
    }
    db.execute("UPDATE run SET summary = ?2, updated_at = ?3 WHERE id = ?1", params![run, line, now()])?;
    Ok(())
}

/// An end sets the state by the exit code; lines bring a run back to life; a late word about uploads does not.
fn apply_state(db: &Connection, run: &Run, post: &Post) -> Result<(), Fault> {
    if post.complete == Some(true) {
        let code = post.exitcode.unwrap_or(0);
        let state = match code {
            0 => "finished",
            _ if run.stop_requested => "killed",
            _ => "failed",
        };
        db.execute("UPDATE run SET exit_code = ?2 WHERE id = ?1", params![run.id, code])?;
        Run::set_state(db, run.id, state)
    } else if post.preempting == Some(true) {
        Run::set_state(db, run.id, "preempting")
    } else if post.files.as_ref().is_some_and(|files| !files.is_empty()) && run.state() != "preempting" {
        Run::set_state(db, run.id, "running")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::rows::project::Project;

    fn server() -> (tempfile::TempDir, Db, [String; 3]) {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(&folder.path().join("server.db")).unwrap();
        db.write(|t| Run::insert(t, Project::ensure(t, "e", "p")?.id, "r")).unwrap();
        (folder, db, ["e", "p", "r"].map(str::to_owned))
    }

    fn history(db: &Db) -> Vec<String> {
        db.read(|c| {
            let run = Run::by_path(c, ["e", "p", "r"])?;
            Ok(run.lines(c, Stream::History, i64::MIN..i64::MAX)?.into_iter().map(|line| line.content).collect())
        })
        .unwrap()
    }

    #[test]
    fn repeated_lines_overwrite_and_bare_nan_is_kept() {
        let (_folder, db, path) = server();
        let body =
            br#"{"files":{"wandb-history.jsonl":{"offset":0,"content":["{\"_step\":0,\"a\":NaN}","{\"_step\":1}"]}}}"#;
        receive(&db, &path, body, false).unwrap();
        receive(&db, &path, body, false).unwrap();
        assert_eq!(history(&db), ["{\"_step\":0,\"a\":NaN}", "{\"_step\":1}"]);
        let body = br#"{"files":{"wandb-history.jsonl":{"offset":1,"content":["{\"_step\":7}"]}}}"#;
        receive(&db, &path, body, false).unwrap();
        assert_eq!(history(&db), ["{\"_step\":0,\"a\":NaN}", "{\"_step\":7}"]);
    }

    #[test]
    fn nonsense_changes_nothing() {
        let (_folder, db, path) = server();
        for body in [
            &b"{"[..],
            br#"{"files":{"wandb-history.jsonl":{"offset":0,"content":["{\"_step\":0}","nonsense"]}}}"#,
            br#"{"files":{"wandb-history.jsonl":{"offset":-1,"content":["{}"]}}}"#,
            br#"{"files":{"wandb-summary.json":{"offset":0,"content":["1"]}}}"#,
        ] {
            assert!(matches!(receive(&db, &path, body, false), Err(Fault::Invalid(_))));
        }
        assert!(matches!(receive(&db, &path, b"\x1f\x8b", true), Err(Fault::Invalid(_))));
        let absent = ["e", "p", "q"].map(str::to_owned);
        assert!(matches!(receive(&db, &absent, b"{}", false), Err(Fault::NotFound { .. })));
        assert!(history(&db).is_empty());
    }

    #[test]
    fn states_follow_the_end_of_the_run() {
        let (_folder, db, path) = server();
        let state = || db.read(|c| Ok(Run::by_path(c, ["e", "p", "r"])?.state().to_owned())).unwrap();
        receive(&db, &path, b"{}", false).unwrap();
        assert_eq!(state(), "running");
        receive(&db, &path, br#"{"complete":true,"exitcode":0}"#, false).unwrap();
        assert_eq!(state(), "finished");
        receive(&db, &path, br#"{"uploaded":["config.yaml"]}"#, false).unwrap();
        assert_eq!(state(), "finished");
        receive(&db, &path, br#"{"files":{"output.log":{"offset":0,"content":["x"]}}}"#, false).unwrap();
        assert_eq!(state(), "running");
        receive(&db, &path, br#"{"complete":true,"exitcode":1}"#, false).unwrap();
        assert_eq!(state(), "failed");
        db.write(|t| Ok(t.execute("UPDATE run SET stop_requested = 1", [])?)).unwrap();
        let answer = receive(&db, &path, br#"{"complete":true,"exitcode":255}"#, false).unwrap();
        assert_eq!((state().as_str(), answer["stopped"].as_bool()), ("killed", Some(true)));
    }
}
