//! The file stream: one background task a run, which sends rows, summary and console in order, with exact offsets, and
//! the end of the run. Network I/O through the client.
//!
//! At most one request is in flight and it is repeated until it is through, so a line is written once or twice under the
//! same offset, never lost or moved (facts: `core/internal/filestream` of the official client).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::super::Client;
use super::super::error::WandbError;
use super::super::graphql::post_stream;

/// Least time between two requests with data, and longest silence before a heartbeat.
const SPACING: Duration = Duration::from_secs(15);
const HEARTBEAT: Duration = Duration::from_secs(30);
/// The first rows should show up soon.
const FIRST: Duration = Duration::from_secs(1);
/// What one request carries, and the longest line that W&B takes.
const REQUEST_BYTES: usize = 10 << 20;
/// A little less than that, for what is added to a row.
pub(super) const LINE_BYTES: usize = (10 << 20) - (101 << 10);
/// How long a run that was dropped may try to say that it failed.
const LAST_WORDS: Duration = Duration::from_secs(5);
const QUEUE: usize = 1024;

/// Where a run lives.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) entity: String,
    pub(super) project: String,
    pub(super) run: String,
}

impl Home {
    pub(super) fn path(&self) -> String {
        format!("{}/{}/{}", self.entity, self.project, self.run)
    }
}

/// What the handle tells the background task.
#[derive(Debug)]
pub(super) enum Command {
    Row { row: String, summary: String },
    Summary(String),
    Uploaded(String),
    Finish { exit_code: i32, reply: oneshot::Sender<Result<(), WandbError>> },
}

/// What waits to be sent.
#[derive(Debug, Default)]
struct Pending {
    rows: Vec<String>,
    summary: Option<String>,
    uploaded: Vec<String>,
    bytes: usize,
}

/// The background task.
pub(super) struct Stream {
    client: Client,
    home: Arc<Home>,
    /// Number of the next row.
    offset: u64,
    pending: Pending,
    sent: Option<Instant>,
    /// Why nothing can be sent any more.
    dead: Option<WandbError>,
}

impl Stream {
    pub(super) fn spawn(client: Client, home: Arc<Home>, offset: u64) -> mpsc::Sender<Command> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let stream = Self { client, home, offset, pending: Pending::default(), sent: None, dead: None };
        tokio::spawn(stream.serve(receiver));
        sender
    }

    async fn serve(mut self, mut commands: mpsc::Receiver<Command>) {
        let started = Instant::now();
        loop {
            let due = match (self.sent, self.pending.is_empty()) {
                (None, true) => started + HEARTBEAT,
                (None, false) => started + FIRST,
                (Some(sent), true) => sent + HEARTBEAT,
                (Some(sent), false) => sent + SPACING,
            };
            let command = tokio::select! {
                command = commands.recv() => command,
                () = tokio::time::sleep_until(due) => {
                    self.flush().await;
                    continue;
                }
            };
            match command {
                Some(Command::Finish { exit_code, reply }) => {
                    let result = self.finish(exit_code).await;
                    // A caller that stopped waiting does not want the answer.
                    let _ = reply.send(result);
                    return;
                }
                Some(command) => self.pending.take(command),
                None => {
                    // Dropped without an end: say so, briefly.
                    let _ = tokio::time::timeout(LAST_WORDS, self.finish(1)).await;
                    return;
                }
            }
            if self.pending.bytes >= REQUEST_BYTES {
                self.flush().await;
            }
        }
    }

    /// Sends what waits, or a heartbeat. After an error that will not pass, rows are only counted.
    async fn flush(&mut self) {
        while self.dead.is_none() {
            let body = self.pending.next(&mut self.offset);
            if let Err(error) = self.post(body).await {
                self.client.transport().progress.note(&format!("run {}: {error}", self.home.path()));
                self.dead = Some(error);
            }
            if self.pending.is_empty() {
                break;
            }
        }
        self.sent = Some(Instant::now());
    }

    async fn finish(&mut self, exit_code: i32) -> Result<(), WandbError> {
        if !self.pending.is_empty() {
            self.flush().await;
        }
        if let Some(error) = self.dead.take() {
            return Err(error);
        }
        let body = Map::from_iter([("complete".to_owned(), json!(true)), ("exitcode".to_owned(), json!(exit_code))]);
        self.post(body).await
    }

    async fn post(&self, body: Map<String, Value>) -> Result<(), WandbError> {
        let Home { entity, project, run } = self.home.as_ref();
        let body = Bytes::from(Value::Object(body).to_string());
        let budget = self.client.budget();
        post_stream(self.client.transport(), &budget, [entity, project, run], body).await.map(|_| ())
    }
}

impl Pending {
    fn take(&mut self, command: Command) {
        match command {
            Command::Row { row, summary } => {
                self.bytes += row.len();
                self.rows.push(row);
                self.summary = Some(summary);
            }
            Command::Summary(summary) => self.summary = Some(summary),
            Command::Uploaded(path) => self.uploaded.push(path),
            Command::Finish { .. } => {}
        }
    }

    fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.summary.is_none() && self.uploaded.is_empty()
    }

    /// The body of the next request: as many rows as fit, the newest summary, files that were uploaded.
    fn next(&mut self, offset: &mut u64) -> Map<String, Value> {
        let mut bytes = 0;
        let fits = |row: &String| {
            bytes += row.len();
            bytes <= REQUEST_BYTES
        };
        // One row alone always goes, however long.
        let count = self
            .rows
            .iter()
            .take_while({
                let mut fits = fits;
                move |row| fits(row)
            })
            .count()
            .max(1);
        let rows: Vec<String> = self.rows.drain(..count.min(self.rows.len())).collect();
        self.bytes = self.rows.iter().map(String::len).sum();
        let (mut body, mut files) = (Map::new(), Map::new());
        if !rows.is_empty() {
            files.insert("wandb-history.jsonl".to_owned(), json!({ "offset": *offset, "content": rows }));
            *offset += rows.len() as u64;
        }
        if let Some(summary) = self.summary.take() {
            files.insert("wandb-summary.json".to_owned(), json!({ "offset": 0, "content": [summary] }));
        }
        if !files.is_empty() {
            body.insert("files".to_owned(), Value::Object(files));
        }
        if !self.uploaded.is_empty() {
            body.insert("uploaded".to_owned(), json!(std::mem::take(&mut self.uploaded)));
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(text: &str) -> Command {
        Command::Row { row: text.to_owned(), summary: format!("s{text}") }
    }

    #[test]
    fn requests_carry_rows_in_order_at_exact_offsets() {
        let (mut pending, mut offset) = (Pending::default(), 7);
        pending.take(row("a"));
        pending.take(row("b"));
        pending.take(Command::Uploaded("f".to_owned()));
        let body = Value::Object(pending.next(&mut offset));
        assert_eq!(body["files"]["wandb-history.jsonl"], json!({ "offset": 7, "content": ["a", "b"] }));
        assert_eq!(body["files"]["wandb-summary.json"], json!({ "offset": 0, "content": ["sb"] }));
        assert_eq!((&body["uploaded"], offset, pending.is_empty()), (&json!(["f"]), 9, true));
        assert_eq!(pending.next(&mut offset), Map::new());
    }

    #[test]
    fn a_full_request_leaves_the_rest_for_the_next() {
        let (mut pending, mut offset) = (Pending::default(), 0);
        let long = "x".repeat(REQUEST_BYTES / 2);
        (0..3).for_each(|_| pending.take(row(&long)));
        assert!(pending.bytes >= REQUEST_BYTES);
        let lengths: Vec<usize> = std::iter::from_fn(|| (!pending.is_empty()).then(|| pending.next(&mut offset)))
            .map(|body| body["files"]["wandb-history.jsonl"]["content"].as_array().unwrap().len())
            .collect();
        assert_eq!((lengths, offset), (vec![2, 1], 3));
    }
}
