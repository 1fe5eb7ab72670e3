//! Sends a log to a server: lines in order on the file stream, errands one after another, the end of the run. The same for a
//! run that is still writing ([`Sender::follow`]) and for one that is over ([`Sender::drain`]). Network and file I/O.
//!
//! At most one request of the stream is in flight. What an answer confirmed is in the cursor; everything else can be
//! read from the log again, so a sender may be stopped anywhere and another one goes on (facts: `core/internal/filestream`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::Client;
use super::super::artifact::draft::Source;
use super::super::artifact::prepare::PreparedArtifact;
use super::super::artifact::upload::LoggedArtifact;
use super::super::error::WandbError;
use super::super::graphql::post_stream;
use super::assembly::{Assembly, Errand, Step};
use super::cursor::Cursor;
use super::errand::{Context, Outcome};
use super::folder::RunFolder;
use super::framing::Damage;
use super::home::{Home, Renamed};
use super::lines::Waiting;
use super::log::{Entry, LogReader};
use super::spool::{Spool, Written};
use super::yaml::config_yaml;

/// Least time between two requests with lines, and longest silence before a heartbeat.
const SPACING: Duration = Duration::from_secs(15);
const HEARTBEAT: Duration = Duration::from_secs(30);
/// The first lines should show up soon, and so should a wish that the run stop, which somebody has while it starts.
const FIRST: Duration = Duration::from_secs(1);
/// How long a run that was dropped may try to say that it failed.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Exit code of a log that does not say how its run ended, as the official client has it.
const NO_EXIT: i32 = 1;

/// Sends one log.
#[derive(Debug)]
pub(crate) struct Sender {
    client: Client,
    home: Arc<Home>,
    renamed: Renamed,
    folder: RunFolder,
    reader: LogReader,
    cursor: Cursor,
    assembly: Assembly,
    waiting: Waiting,
    errands: VecDeque<(i64, Errand)>,
    exit: Option<i32>,
    /// The server was asked to stop the run.
    stopped: bool,
    /// Errands that the server refused: trying again now does not help.
    refused: Vec<WandbError>,
    pub(crate) report: Report,
}

/// What sending came to.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Rows in the log.
    pub(crate) rows: u64,
    /// Errands done now.
    pub(crate) errands: u64,
    /// Places of the log that are not sound.
    pub(crate) damages: Vec<Damage>,
    /// The log ends in the middle of a record.
    pub(crate) torn: bool,
    /// Lines too long for any server.
    pub(crate) too_long: u64,
}

impl Sender {
    /// A sender of the log that `reader` is at the beginning of, to what `assembly` knows of the run.
    pub(crate) fn new(
        context: Context,
        renamed: Renamed,
        (reader, assembly): (LogReader, Assembly),
        cursor: Cursor,
    ) -> Self {
        let Context { client, home, folder } = context;
        Self {
            client,
            home,
            renamed,
            folder,
            reader,
            cursor,
            assembly,
            waiting: Waiting::default(),
            errands: VecDeque::new(),
            exit: None,
            stopped: false,
            refused: Vec::new(),
            report: Report::default(),
        }
    }

    /// Sends a log while its run writes it, until the run is over, and removes its folder then. The error says why something
    /// is left to be sent.
    pub(crate) async fn follow(
        mut self,
        mut written: watch::Receiver<Written>,
        spool: &Spool,
    ) -> Result<(), WandbError> {
        let mut pace = Pace::new();
        loop {
            self.read()?;
            match *written.borrow_and_update() {
                Written::Finished => break,
                Written::More(_) => {}
            }
            if pace.is_up()
                && let Some((number, errand)) = self.errands.pop_front()
            {
                let outcome = self.beside_stream(&mut pace, (number, errand), spool.prepared(number)).await;
                if outcome.as_ref().is_err_and(WandbError::is_network) {
                    pace.failed();
                }
                self.refused.extend(spool.answer(number, outcome));
                continue;
            }
            spool.set_up(pace.is_up());
            if self.stopped {
                spool.request_stop();
            }
            let full = self.waiting.is_full() && pace.is_up();
            tokio::select! {
                changed = written.changed(), if !full => {
                    if changed.is_err() {
                        // Dropped without an end: say so, briefly.
                        let what = format!("finishing run {}", self.home.path());
                        let late = |_| WandbError::Timeout { what, seconds: LAST_WORDS.as_secs() };
                        return tokio::time::timeout(LAST_WORDS, self.finish(spool)).await.map_err(late)?;
                    }
                }
                () = tokio::time::sleep_until(if full { Instant::now() } else { pace.due(self.waiting.is_empty()) }) => {
                    match self.post(None).await {
                        Ok(()) => pace.posted(),
                        Err(error) => {
                            if pace.is_up() {
                                let (run, folder) = (self.home.path(), self.folder.path().display());
                                self.note(&format!("run {run}: {error}; what it logs is kept in {folder}"));
                            }
                            pace.failed();
                        }
                    }
                }
            }
        }
        self.finish(spool).await
    }

    async fn finish(mut self, spool: &Spool) -> Result<(), WandbError> {
        let outcome = self.drain_answering(Some(spool)).await;
        spool.set_up(false);
        outcome?;
        self.folder.remove()
    }

    /// Sends everything in a log that nobody writes to any more.
    pub(crate) async fn drain(&mut self) -> Result<(), WandbError> {
        self.drain_answering(None).await
    }

    async fn drain_answering(&mut self, spool: Option<&Spool>) -> Result<(), WandbError> {
        loop {
            let more = self.read()?;
            while let Some((number, errand)) = self.errands.pop_front() {
                let prepared = spool.and_then(|spool| spool.prepared(number));
                let outcome = self.beside_stream(&mut Pace::new(), (number, errand), prepared).await;
                match (spool, outcome) {
                    (_, Err(error)) if error.is_network() => return Err(error),
                    (Some(spool), outcome) => self.refused.extend(spool.answer(number, outcome)),
                    (None, outcome) => self.refused.extend(outcome.err()),
                }
            }
            if !more {
                break;
            }
            self.post(None).await?;
        }
        self.report.torn = self.reader.tail().is_some();
        self.conclude().await?;
        match self.refused.pop() {
            Some(error) => Err(error),
            None => self.cursor.complete(),
        }
    }

    /// Reads what there is, up to a full request; whether there may be more.
    fn read(&mut self) -> Result<bool, WandbError> {
        while !self.waiting.is_full() {
            let record = match self.reader.next()? {
                None => return Ok(false),
                Some(Entry::Damage(damage)) => {
                    self.report.damages.push(damage);
                    continue;
                }
                Some(Entry::Record(record)) => record,
            };
            for step in self.assembly.take(record) {
                match step {
                    Step::Line(stream, line) => {
                        self.report.rows += u64::from(stream == super::assembly::Stream::History);
                        if !self.waiting.push(stream, line, &self.cursor) {
                            self.report.too_long += 1;
                        }
                    }
                    Step::Errand(number, errand) if !self.cursor.is_done(number) => {
                        self.errands.push_back((number, errand));
                    }
                    Step::Errand(..) => {}
                    // The first end counts; the official client heeds nothing after it.
                    Step::Exit(code) => self.exit = self.exit.or(Some(code)),
                }
            }
        }
        Ok(true)
    }

    /// Runs an errand while the stream stays alive. One that failed for the network is put back.
    async fn beside_stream(
        &mut self,
        pace: &mut Pace,
        (number, errand): (i64, Errand),
        prepared: Option<PreparedArtifact>,
    ) -> Result<Option<LoggedArtifact>, WandbError> {
        let context =
            Context { client: self.client.clone(), home: Arc::clone(&self.home), folder: self.folder.clone() };
        let work = context.perform(errand.clone(), prepared);
        tokio::pin!(work);
        let outcome = loop {
            tokio::select! {
                outcome = &mut work => break outcome,
                () = tokio::time::sleep_until(pace.due(self.waiting.is_empty())) => {
                    self.read()?;
                    // What does not get through here is tried again when the errand is over.
                    if let Err(error) = self.post(None).await {
                        self.note(&format!("run {}: {error}", self.home.path()));
                    }
                    pace.posted = Some(Instant::now());
                }
            }
        };
        match outcome {
            Ok(Outcome { artifact, uploaded }) => {
                self.waiting.add_uploaded(uploaded);
                self.cursor.done(number)?;
                self.report.errands += 1;
                Ok(artifact)
            }
            Err(error) if error.is_network() => {
                self.errands.push_front((number, errand));
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Sends what changed, what waits up to a full request, or a heartbeat.
    async fn post(&mut self, end: Option<i32>) -> Result<(), WandbError> {
        if self.assembly.take_changed() {
            let upserted = self.client.upsert(&self.assembly, &self.renamed).await;
            if let Err(error) = upserted {
                self.assembly.set_changed();
                return Err(error);
            }
        }
        if let Some(summary) = self.assembly.take_summary() {
            self.waiting.set_summary(summary);
        }
        let request = self.waiting.request(&self.cursor, end);
        let Home { entity, project, run } = self.home.as_ref();
        let body = Bytes::from(request.body.clone());
        let budget = self.client.budget();
        let answer = post_stream(self.client.transport(), &budget, [entity, project, run], body).await?;
        self.stopped |= says_stop(&answer);
        self.waiting.confirm(&request, &mut self.cursor);
        self.cursor.save()
    }

    /// The run's own files, what still waits, and the end.
    async fn conclude(&mut self) -> Result<(), WandbError> {
        let config = config_yaml(&self.assembly.config_values());
        let mut files = vec![("config.yaml", config), ("wandb-summary.json", self.assembly.summary())];
        if let Some(environment) = self.assembly.environment() {
            let text = serde_json::to_string_pretty(&environment).unwrap_or_default();
            files.push(("wandb-metadata.json", text));
        }
        if let Some(text) = self.assembly.console_text() {
            files.push(("output.log", text.to_owned()));
        }
        let context =
            Context { client: self.client.clone(), home: Arc::clone(&self.home), folder: self.folder.clone() };
        let files = files.into_iter().map(|(path, text)| (path.to_owned(), Source::Bytes(text.into())));
        let uploaded = context.upload(files.collect()).await?;
        self.waiting.add_uploaded(uploaded);
        while !self.waiting.is_empty() || self.assembly.has_changes() {
            self.post(None).await?;
        }
        self.post(Some(self.exit.unwrap_or(NO_EXIT))).await
    }

    fn note(&self, text: &str) {
        self.client.transport().progress.note(text);
    }
}

/// Whether the answer of the file stream asks the run to stop; anything else in it is passed over.
fn says_stop(answer: &[u8]) -> bool {
    let answer: serde_json::Value = serde_json::from_slice(answer).unwrap_or_default();
    answer.get("stopped") == Some(&serde_json::Value::Bool(true))
}

/// When to send next: soon at first, then every quarter of a minute where there is something, else a heartbeat every half.
/// After the network failed, nothing but the heartbeat is tried until that gets through.
#[derive(Debug)]
struct Pace {
    started: Instant,
    posted: Option<Instant>,
    up: bool,
}

impl Pace {
    fn new() -> Self {
        Self { started: Instant::now(), posted: None, up: true }
    }

    fn due(&self, nothing_waits: bool) -> Instant {
        match (self.posted, nothing_waits || !self.up) {
            (None, _) => self.started + FIRST,
            (Some(posted), true) => posted + HEARTBEAT,
            (Some(posted), false) => posted + SPACING,
        }
    }

    /// A request got through.
    fn posted(&mut self) {
        (self.posted, self.up) = (Some(Instant::now()), true);
    }

    /// Something did not get through.
    fn failed(&mut self) {
        (self.posted, self.up) = (Some(Instant::now()), false);
    }

    fn is_up(&self) -> bool {
        self.up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_server_hears_of_us_also_when_there_is_nothing_to_say() {
        let mut pace = Pace::new();
        let begun = pace.started;
        assert_eq!((pace.due(true), pace.due(false)), (begun + FIRST, begun + FIRST));
        pace.posted();
        let posted = pace.posted.unwrap();
        assert_eq!((pace.due(true), pace.due(false)), (posted + HEARTBEAT, posted + SPACING));
        // While the network is away, lines wait for the heartbeat to get through.
        pace.failed();
        assert_eq!(pace.due(false), pace.posted.unwrap() + HEARTBEAT);
    }

    #[test]
    fn only_true_asks_to_stop() {
        for (answer, stop) in
            [(r#"{"stopped":true}"#, true), (r#"{"stopped":"true"}"#, false), ("{}", false), ("<", false)]
        {
            assert_eq!(says_stop(answer.as_bytes()), stop, "{answer}");
        }
    }
}
