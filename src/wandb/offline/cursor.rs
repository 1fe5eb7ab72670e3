//! What servers confirmed of a log, kept beside it: `run-<id>.wandb.sent`, one JSON object. File I/O.
//!
//! What is confirmed need not be sent again, and what was sent without an answer is sent again under the same numbers; so a
//! cursor that is behind costs time and never a row. The one thing that must be on disk before the first line is sent is
//! `base` and `step`, where the log's first lines go on the server: everything else follows from the log.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::store::write_durable;

use super::super::Client;
use super::super::error::WandbError;
use super::assembly::Stream;
use super::folder::{RunFolder, failed};
use super::home::Home;

/// A run on a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Destination {
    /// Its host.
    pub(crate) server: String,
    pub(crate) entity: String,
    pub(crate) project: String,
    pub(crate) run: String,
}

impl Destination {
    /// The run at `home` on the client's server.
    pub(crate) fn of(client: &Client, home: &Home) -> Self {
        let Home { entity, project, run } = home.clone();
        Self { server: client.transport().host(), entity, project, run }
    }
}

/// What a server has of a log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Confirmed {
    #[serde(flatten)]
    destination: Destination,
    /// Numbers of the log's first lines on the server.
    base: Counts,
    /// Step of the log's step 0.
    #[serde(default)]
    step: u64,
    /// Lines confirmed.
    lines: Counts,
    /// Numbers of the records whose errand is done.
    done: Vec<i64>,
    /// The end of the run was confirmed.
    complete: bool,
}

/// Where the first lines of a log go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct First {
    /// Numbers of the first lines of history, events and console on the server.
    pub(crate) lines: [u64; 3],
    /// Step of the log's step 0: a log that was written without a server counts from there.
    pub(crate) step: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counts {
    history: u64,
    events: u64,
    console: u64,
}

impl Counts {
    fn of(&mut self, stream: Stream) -> &mut u64 {
        match stream {
            Stream::History => &mut self.history,
            Stream::Events => &mut self.events,
            Stream::Console => &mut self.console,
        }
    }
}

/// The file: one entry for each run that the log was sent to.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Sent {
    version: u32,
    sent: Vec<Confirmed>,
}

const VERSION: u32 = 1;

/// Where sending stands.
#[derive(Debug)]
pub(crate) struct Cursor {
    path: PathBuf,
    /// Entries of other runs.
    others: Vec<Confirmed>,
    own: Confirmed,
}

impl Cursor {
    /// The entry for a destination, if the log was sent there before.
    ///
    /// # Errors
    /// [`WandbError::File`]. A file that makes no sense is as if it were not there: the lines on the server say the same.
    pub(crate) fn find(folder: &RunFolder, destination: &Destination) -> Result<Option<Self>, WandbError> {
        let mut others = read(folder)?;
        let at = others.iter().position(|entry| entry.destination == *destination);
        Ok(at.map(|at| Self { path: folder.sent(), own: others.swap_remove(at), others }))
    }

    /// A new entry whose first lines of history, events and console have these numbers on the server, on disk when this
    /// returns.
    pub(crate) fn begin(
        folder: &RunFolder,
        destination: Destination,
        First { lines: [history, events, console], step }: First,
    ) -> Result<Self, WandbError> {
        let others = read(folder)?.into_iter().filter(|entry| entry.destination != destination).collect();
        let base = Counts { history, events, console };
        let own = Confirmed { destination, base, step, lines: Counts::default(), done: Vec::new(), complete: false };
        let cursor = Self { path: folder.sent(), others, own };
        cursor.save()?;
        Ok(cursor)
    }

    /// Number of the log's first line of a stream on the server.
    pub(crate) fn base(&self, stream: Stream) -> u64 {
        let mut base = self.own.base;
        *base.of(stream)
    }

    /// Step of the log's step 0.
    pub(crate) fn step(&self) -> u64 {
        self.own.step
    }

    /// Whether a run with so many rows can be the one whose rows were confirmed.
    pub(crate) fn fits(&self, rows: u64) -> bool {
        self.own.lines.history == 0 || self.own.base.history + self.own.lines.history <= rows
    }

    /// Lines of a stream that are confirmed.
    pub(crate) fn lines(&self, stream: Stream) -> u64 {
        let mut lines = self.own.lines;
        *lines.of(stream)
    }

    /// So many lines of a stream are confirmed.
    pub(crate) fn confirm_lines(&mut self, stream: Stream, count: u64) {
        *self.own.lines.of(stream) = count;
    }

    pub(crate) fn is_done(&self, record: i64) -> bool {
        self.own.done.contains(&record)
    }

    pub(crate) fn done(&mut self, record: i64) -> Result<(), WandbError> {
        self.own.done.push(record);
        self.save()
    }

    pub(crate) fn complete(&mut self) -> Result<(), WandbError> {
        self.own.complete = true;
        self.save()
    }

    /// Forgets everything but the numbers of the first lines: all is sent again, over what is there.
    pub(crate) fn rewind(&mut self) {
        (self.own.lines, self.own.complete) = (Counts::default(), false);
        self.own.done.clear();
    }

    pub(crate) fn save(&self) -> Result<(), WandbError> {
        let sent: Vec<&Confirmed> = self.others.iter().chain([&self.own]).collect();
        let text = serde_json::json!({ "version": VERSION, "sent": sent }).to_string();
        write_durable(&self.path, text.as_bytes()).map_err(|source| failed("write", &self.path, source))
    }
}

fn read(folder: &RunFolder) -> Result<Vec<Confirmed>, WandbError> {
    let path = folder.sent();
    match std::fs::read(&path) {
        Ok(bytes) => {
            let sent: Sent = serde_json::from_slice(&bytes).unwrap_or_default();
            Ok(if sent.version == VERSION { sent.sent } else { Vec::new() })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(failed("read", &path, source)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::folder::Start;
    use super::*;

    #[test]
    fn each_destination_has_its_own_entry() {
        let root = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(root.path(), Start::Offline, "r").unwrap();
        let at = |project: &str| Destination {
            server: "https://api.example.org".to_owned(),
            entity: "e".to_owned(),
            project: project.to_owned(),
            run: "r".to_owned(),
        };
        assert!(Cursor::find(&folder, &at("p")).unwrap().is_none());
        let mut cursor = Cursor::begin(&folder, at("p"), First { lines: [7, 5, 3], step: 2 }).unwrap();
        cursor.confirm_lines(Stream::History, 3);
        cursor.done(12).unwrap();
        Cursor::begin(&folder, at("q"), First::default()).unwrap().complete().unwrap();
        let mut found = Cursor::find(&folder, &at("p")).unwrap().unwrap();
        assert_eq!((found.base(Stream::History), found.lines(Stream::History)), (7, 3));
        assert_eq!((found.base(Stream::Events), found.base(Stream::Console), found.step()), (5, 3, 2));
        assert_eq!((found.is_done(12), found.is_done(11), found.own.complete), (true, false, false));
        assert!(Cursor::find(&folder, &at("q")).unwrap().unwrap().own.complete);
        found.rewind();
        assert_eq!((found.base(Stream::History), found.lines(Stream::History), found.is_done(12)), (7, 0, false));
        // Nonsense is as if it were not there.
        std::fs::write(folder.sent(), "{").unwrap();
        assert!(Cursor::find(&folder, &at("p")).unwrap().is_none());
    }
}
