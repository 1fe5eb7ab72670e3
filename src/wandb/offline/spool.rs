//! The log of a run under way: every record is in it before the call that made it returns. Blocking file I/O.
//!
//! A record outlives the process from that moment on. It outlives the machine [`SYNC`] later at the latest, and at once
//! when the run is finished.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::super::artifact::prepare::PreparedArtifact;
use super::super::artifact::upload::LoggedArtifact;
use super::super::error::WandbError;
use super::folder::{RunFolder, failed};
use super::log::LogWriter;
use super::record::{Content, HeaderRecord, VersionInfo};

/// How long a record may be with the operating system only.
const SYNC: Duration = Duration::from_secs(5);

/// How much of the log there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// So many bytes, and more may come.
    More(u64),
    /// All of it.
    Finished,
}

/// An errand's end, as who asked for it is told: the artifact where it made one; nothing when it is left for later.
pub(crate) type Answer = Result<Option<LoggedArtifact>, WandbError>;

/// The log of a run, shared by the handle and the sender.
#[derive(Debug)]
pub(crate) struct Spool {
    folder: RunFolder,
    inner: Mutex<Inner>,
    /// Somebody wants the run to stop.
    stop: watch::Sender<bool>,
}

#[derive(Debug)]
struct Inner {
    writer: Option<LogWriter>,
    /// Who waits for the errand of which record.
    waiting: HashMap<i64, Waiting>,
    /// Whether errands are being run.
    up: bool,
}

/// Who waits for an errand.
#[derive(Debug)]
struct Waiting {
    answer: oneshot::Sender<Answer>,
    prepared: Option<PreparedArtifact>,
}

impl Spool {
    /// Starts a log in the folder with these records. `up` says whether somebody is going to send it.
    pub(crate) fn create(folder: RunFolder, first: Vec<Content>, up: bool) -> Result<Arc<Self>, WandbError> {
        let mut writer = LogWriter::create(folder.log())?;
        let producer = super::assembly::sender().to_owned();
        // The oldest official client that can read what we write.
        let version_info = Some(VersionInfo { producer, min_consumer: "0.70.0".to_owned() });
        writer.append([Content::Header(HeaderRecord { version_info })].into_iter().chain(first).collect())?;
        let inner = Inner { writer: Some(writer), waiting: HashMap::new(), up };
        let spool = Arc::new(Self { folder, inner: Mutex::new(inner), stop: watch::Sender::new(false) });
        tokio::spawn(keep_synced(Arc::downgrade(&spool)));
        Ok(spool)
    }

    pub(crate) fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// Appends records together; how long the log is now.
    pub(crate) fn append(&self, contents: Vec<Content>) -> Result<u64, WandbError> {
        self.append_to(&mut self.inner(), contents)
    }

    /// Appends a record whose errand somebody waits for; `prepared` spares the sender to read an artifact's files again.
    pub(crate) fn append_waiting(
        &self,
        content: Content,
        prepared: Option<PreparedArtifact>,
    ) -> Result<(u64, oneshot::Receiver<Answer>), WandbError> {
        let mut inner = self.inner();
        let (sender, receiver) = oneshot::channel();
        // Before the sender can see the record. Where nobody runs errands, the dropped sender is the answer.
        if inner.up
            && let Some(writer) = &inner.writer
        {
            let number = writer.next_number();
            inner.waiting.insert(number, Waiting { answer: sender, prepared });
        }
        Ok((self.append_to(&mut inner, vec![content])?, receiver))
    }

    fn append_to(&self, inner: &mut Inner, contents: Vec<Content>) -> Result<u64, WandbError> {
        let over = || WandbError::RunFinished { run: self.folder.path().display().to_string() };
        let writer = inner.writer.as_mut().ok_or_else(over)?;
        writer.append(contents)?;
        Ok(writer.position())
    }

    /// Says how an errand went; one that failed for the network is left for later. Nobody waits for some: their refusal comes
    /// back.
    pub(crate) fn answer(&self, number: i64, answer: Answer) -> Option<WandbError> {
        let answer = match answer {
            Err(error) if error.is_network() => Ok(None),
            answer => answer,
        };
        match self.inner().waiting.remove(&number) {
            // Who stopped waiting does not want the answer.
            Some(waiting) => waiting.answer.send(answer).err().and_then(Result::err),
            None => answer.err(),
        }
    }

    /// What the errand's artifact was prepared to, where somebody waits for it.
    pub(crate) fn prepared(&self, number: i64) -> Option<PreparedArtifact> {
        self.inner().waiting.get_mut(&number).and_then(|waiting| waiting.prepared.take())
    }

    /// Says whether errands are being run; when not, nobody is kept waiting for one.
    pub(crate) fn set_up(&self, up: bool) {
        let mut inner = self.inner();
        inner.up = up;
        if !up {
            inner.waiting.clear();
        }
    }

    /// Notes that the server was asked to stop the run; for good.
    pub(crate) fn request_stop(&self) {
        self.stop.send_replace(true);
    }

    /// Whether the server was asked to stop the run.
    pub(crate) fn stop_requested(&self) -> bool {
        *self.stop.borrow()
    }

    /// Ends when the server was asked to stop the run.
    pub(crate) async fn stopped(&self) {
        // The sender is ours, so that waiting cannot fail.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }

    /// Ends the log; it is on disk when this returns.
    pub(crate) fn close(&self, contents: Vec<Content>) -> Result<(), WandbError> {
        let mut inner = self.inner();
        self.append_to(&mut inner, contents)?;
        let file = inner.writer.as_mut().map(LogWriter::begin_sync).transpose()?.flatten();
        inner.writer = None;
        drop(inner);
        file.map_or(Ok(()), |file| self.sync(&file))
    }

    fn sync(&self, file: &File) -> Result<(), WandbError> {
        file.sync_data().map_err(|source| failed("write", self.folder.log(), source))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes what was written outlive the machine, again and again while the spool lives.
async fn keep_synced(spool: Weak<Spool>) {
    loop {
        tokio::time::sleep(SYNC).await;
        let Some(spool) = spool.upgrade() else { return };
        let sync = move || {
            let file = match spool.inner().writer.as_mut() {
                Some(writer) => writer.begin_sync()?,
                None => return Ok(false),
            };
            file.map_or(Ok(()), |file| spool.sync(&file)).map(|()| true)
        };
        match tokio::task::spawn_blocking(sync).await {
            Ok(Ok(true)) => {}
            // Over; or a disk that fails, which the next append or the end will meet and report.
            _ => return,
        }
    }
}

/// A channel on which the handle says how much there is, and whose end says that the handle is gone.
pub(crate) fn channel() -> (watch::Sender<Written>, watch::Receiver<Written>) {
    watch::channel(Written::More(0))
}
