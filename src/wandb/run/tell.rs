//! What a run says besides its rows, lines of the console and alerts, and what it is told, to stop. File I/O; what is said
//! goes with the log.

use std::time::Duration;

use super::super::error::WandbError;
use super::super::offline::{AlertRecord, Content, OutputRawRecord};
use super::Run;
use super::record::now;

/// The same title is not told again for so long.
const ALERT_PAUSE: Duration = Duration::from_secs(60);

/// Where a line was printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is its own name")]
pub enum ConsoleStream {
    Output,
    Error,
}

/// How much an alert matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "each variant is its own name")]
pub enum AlertLevel {
    #[default]
    Info,
    Warning,
    Error,
}

impl Run {
    /// Exit code of a run that ends because somebody asked W&B to stop it, as the official client has it.
    pub const STOPPED: i32 = 255;

    /// Adds a line to the run's console, which W&B shows under its logs and keeps as the file `output.log`.
    ///
    /// # Errors
    /// [`WandbError::File`] when the disk refuses.
    pub fn console(&self, stream: ConsoleStream, line: &str) -> Result<(), WandbError> {
        let output_type = match stream {
            ConsoleStream::Error => 0,
            ConsoleStream::Output => 1,
        };
        let record = OutputRawRecord { output_type, timestamp: Some(now()), line: format!("{line}\n") };
        self.append(vec![Content::OutputRaw(record)])
    }

    /// Tells the people who asked W&B to be told: by mail or in Slack, as they set it there. A run without a server tells
    /// them when it is synced.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn alert(&self, title: &str, text: &str, level: AlertLevel) -> Result<(), WandbError> {
        let level = match level {
            AlertLevel::Info => "INFO",
            AlertLevel::Warning => "WARN",
            AlertLevel::Error => "ERROR",
        };
        let record = AlertRecord {
            title: title.to_owned(),
            text: text.to_owned(),
            level: level.to_owned(),
            wait_duration: ALERT_PAUSE.as_millis() as i64,
        };
        self.errand(Content::Alert(record), None).await.map(|_| ())
    }

    /// Whether somebody asked W&B to stop this run, as of the last answer of the server, which is asked every half minute
    /// also while nothing is logged. Who runs the work is to end it and to finish with the exit code
    /// [`Run::STOPPED`].
    pub fn stop_requested(&self) -> bool {
        self.spool.stop_requested()
    }

    /// Does work while it listens: the work's outcome, or [`WandbError::Stopped`] as soon as somebody asked W&B to stop this
    /// run. The work is dropped then.
    ///
    /// # Errors
    /// [`WandbError::Stopped`].
    pub async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, WandbError> {
        tokio::select! {
            outcome = work => Ok(outcome),
            () = self.spool.stopped() => Err(WandbError::Stopped { run: self.path() }),
        }
    }

    /// Nothing, unless somebody asked W&B to stop this run.
    ///
    /// # Errors
    /// [`WandbError::Stopped`].
    pub fn check_stop(&self) -> Result<(), WandbError> {
        if self.stop_requested() { Err(WandbError::Stopped { run: self.path() }) } else { Ok(()) }
    }
}
