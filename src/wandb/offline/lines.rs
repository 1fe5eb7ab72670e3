//! Lines, a summary and words about uploads that wait to be sent on the file stream, and the bodies of its requests. No I/O.
//!
//! Lines keep the numbers that they have in the log, so a request that is repeated, in this process or in a later one,
//! writes the same lines at the same places.

use std::collections::VecDeque;

use serde_json::{Map, Value, json};

use super::assembly::Stream;
use super::cursor::Cursor;

/// What one request carries (`core/internal/filestream` of the official client).
pub(crate) const REQUEST_BYTES: usize = 10 << 20;
/// The longest line that W&B takes.
pub(crate) const LINE_BYTES: usize = (10 << 20) - (100 << 10);

/// What waits.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    queues: [Queue; 3],
    summary: Option<String>,
    uploaded: Vec<String>,
    bytes: usize,
}

/// Lines of one stream.
#[derive(Debug, Default)]
struct Queue {
    /// Lines of the log that came before the first one here.
    before: u64,
    lines: VecDeque<String>,
}

/// A request, and what its answer confirms.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) body: String,
    counts: [usize; 3],
    uploaded: usize,
    with_summary: bool,
}

impl Waiting {
    /// Adds the next line of a stream; one that is confirmed is only counted. Whether W&B takes it.
    pub(crate) fn push(&mut self, stream: Stream, line: String, cursor: &Cursor) -> bool {
        if line.len() > LINE_BYTES {
            return false;
        }
        let queue = self.queue(stream);
        if queue.lines.is_empty() && queue.before < cursor.lines(stream) {
            queue.before += 1;
            return true;
        }
        let length = line.len();
        queue.lines.push_back(line);
        self.bytes += length;
        true
    }

    /// Replaces the summary.
    pub(crate) fn set_summary(&mut self, summary: String) {
        self.summary = Some(summary);
    }

    /// Adds files that were uploaded.
    pub(crate) fn add_uploaded(&mut self, paths: impl IntoIterator<Item = String>) {
        self.uploaded.extend(paths);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queues.iter().all(|queue| queue.lines.is_empty()) && self.summary.is_none() && self.uploaded.is_empty()
    }

    /// Whether a request is full.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= REQUEST_BYTES
    }

    /// The next request: as many lines as fit, one at least where there are any, the newest summary, files. Nothing is taken
    /// away before the answer is there.
    pub(crate) fn request(&self, cursor: &Cursor, end: Option<i32>) -> Request {
        let (mut body, mut files, mut counts, mut bytes) = (Map::new(), Map::new(), [0; 3], 0);
        for ((stream, queue), count) in Stream::ALL.into_iter().zip(&self.queues).zip(&mut counts) {
            let fits = |line: &&String| {
                let room = bytes == 0 || bytes + line.len() <= REQUEST_BYTES;
                bytes += if room { line.len() } else { 0 };
                room
            };
            let lines: Vec<&String> = queue.lines.iter().take_while(fits).collect();
            *count = lines.len();
            if !lines.is_empty() {
                let offset = cursor.base(stream) + queue.before;
                files.insert(stream.file().to_owned(), json!({ "offset": offset, "content": lines }));
            }
        }
        if let Some(summary) = &self.summary {
            files.insert("wandb-summary.json".to_owned(), json!({ "offset": 0, "content": [summary] }));
        }
        if !files.is_empty() {
            body.insert("files".to_owned(), Value::Object(files));
        }
        if !self.uploaded.is_empty() {
            body.insert("uploaded".to_owned(), json!(self.uploaded));
        }
        if let Some(code) = end {
            body.extend([("complete".to_owned(), json!(true)), ("exitcode".to_owned(), json!(code))]);
        }
        let with_summary = self.summary.is_some();
        Request { body: Value::Object(body).to_string(), counts, uploaded: self.uploaded.len(), with_summary }
    }

    /// Takes away what an answered request carried, and notes it.
    pub(crate) fn confirm(&mut self, request: &Request, cursor: &mut Cursor) {
        for ((stream, queue), count) in Stream::ALL.into_iter().zip(&mut self.queues).zip(request.counts) {
            self.bytes -= queue.lines.drain(..count).map(|line| line.len()).sum::<usize>();
            queue.before += count as u64;
            if count > 0 {
                cursor.confirm_lines(stream, queue.before);
            }
        }
        self.uploaded.drain(..request.uploaded);
        if request.with_summary {
            self.summary = None;
        }
    }

    fn queue(&mut self, stream: Stream) -> &mut Queue {
        let [history, events, console] = &mut self.queues;
        match stream {
            Stream::History => history,
            Stream::Events => events,
            Stream::Console => console,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::cursor::{Destination, First};
    use super::super::folder::{RunFolder, Start};
    use super::*;

    fn cursor(first_row: u64) -> (tempfile::TempDir, Cursor) {
        let root = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(root.path(), Start::Offline, "r").unwrap();
        let text = || "x".to_owned();
        let destination = Destination { server: text(), entity: text(), project: text(), run: text() };
        let cursor = Cursor::begin(&folder, destination, First { lines: [first_row, 20, 30], step: 0 }).unwrap();
        (root, cursor)
    }

    fn body(request: &Request) -> Value {
        serde_json::from_str(&request.body).unwrap()
    }

    #[test]
    fn requests_carry_lines_at_exact_numbers_until_they_are_answered() {
        let (_root, mut cursor) = cursor(7);
        cursor.confirm_lines(Stream::History, 1);
        let mut waiting = Waiting::default();
        for line in ["sent before", "a", "b"] {
            waiting.push(Stream::History, line.to_owned(), &cursor);
        }
        waiting.push(Stream::Console, "c".to_owned(), &cursor);
        waiting.set_summary("s".to_owned());
        waiting.add_uploaded(["f".to_owned()]);
        let request = waiting.request(&cursor, None);
        let expected = json!({
            "files": {
                "wandb-history.jsonl": { "offset": 8, "content": ["a", "b"] },
                "output.log": { "offset": 30, "content": ["c"] },
                "wandb-summary.json": { "offset": 0, "content": ["s"] },
            },
            "uploaded": ["f"],
        });
        assert_eq!(body(&request), expected);
        // No answer came; more did.
        waiting.push(Stream::History, "d".to_owned(), &cursor);
        assert_eq!(body(&waiting.request(&cursor, None))["files"]["wandb-history.jsonl"]["offset"], 8);
        waiting.confirm(&request, &mut cursor);
        assert_eq!((cursor.lines(Stream::History), cursor.lines(Stream::Console)), (3, 1));
        let request = waiting.request(&cursor, Some(3));
        let files = json!({ "wandb-history.jsonl": { "offset": 10, "content": ["d"] } });
        assert_eq!(body(&request), json!({ "files": files, "complete": true, "exitcode": 3 }));
        waiting.confirm(&request, &mut cursor);
        assert!(waiting.is_empty() && !waiting.is_full());
    }

    #[test]
    fn a_full_request_leaves_the_rest_for_the_next() {
        let (_root, mut cursor) = cursor(0);
        let mut waiting = Waiting::default();
        (0..3).for_each(|_| assert!(waiting.push(Stream::History, "x".repeat(REQUEST_BYTES / 2), &cursor)));
        assert!(waiting.push(Stream::Events, "y".to_owned(), &cursor) && waiting.is_full());
        assert!(!waiting.push(Stream::Events, "y".repeat(LINE_BYTES + 1), &cursor), "no server takes it");
        let mut lengths = Vec::new();
        while !waiting.is_empty() {
            let request = waiting.request(&cursor, None);
            lengths.push(
                body(&request)["files"]
                    .as_object()
                    .unwrap()
                    .values()
                    .map(|lines| lines["content"].as_array().unwrap().len())
                    .collect::<Vec<_>>(),
            );
            waiting.confirm(&request, &mut cursor);
        }
        assert_eq!(lengths, [vec![2], vec![1, 1]]);
        assert_eq!((waiting.bytes, cursor.lines(Stream::Events)), (0, 1));
    }
}
