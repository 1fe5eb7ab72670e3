//! Sending a range of a source to a signed address, with retries. Network and file I/O.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::stream;
use reqwest::header::HeaderMap;
use tokio::sync::mpsc;

use crate::digest::Algorithm;
use crate::progress::Task;

use super::super::Client;
use super::super::error::WandbError;
use super::super::retry::{Budget, Traffic};
use super::super::transport::{Errand, Put, upload_headers};
use super::super::trouble::Trouble;
use super::draft::Source;
use super::source::{Hashed, Hashing, file_error, hash, read_range};

/// Where to send bytes.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Slot<'a> {
    pub(in super::super) url: &'a str,
    /// `Name:Value` each.
    pub(in super::super) headers: &'a [String],
    /// In words, for messages.
    pub(in super::super) what: &'a str,
}

impl Client {
    /// Sends a range of a source; the headers of the answer.
    pub(super) async fn send_slice(
        &self,
        budget: &Budget,
        slot: Slot<'_>,
        (file, range): (&Hashed, Range<u64>),
        task: &Arc<Task>,
    ) -> Result<HeaderMap, WandbError> {
        let url = self.transport().resolve(slot.url, slot.what)?;
        // An address relative to the server is a route of the API, which wants the key.
        let with_key = slot.url.starts_with('/');
        let headers = upload_headers(slot.headers, slot.what)?;
        let length = range.end - range.start;
        let reported = Arc::new(AtomicU64::new(0));
        let once = || async {
            let watched = Watched { task: Arc::clone(task), reported: Arc::clone(&reported) };
            let (body, moved, failure) = body(&file.source, range.clone(), watched);
            let put = Put { url: &url, headers: &headers, body, length, moved, with_key };
            let answer = self.transport().put(put).await;
            match failure.lock().map(|mut failure| failure.take()) {
                Ok(Some(error)) => Err(Trouble::Final(read_error(&file.source, error))),
                _ => answer,
            }
        };
        let errand = Errand { traffic: Traffic::Object, what: slot.what };
        let answer = self.transport().persist(budget, errand, once).await?;
        file.check_unchanged()?;
        Ok(answer)
    }

    /// Sends a whole source; for files of a run.
    pub(in super::super) async fn send_source(
        &self,
        budget: &Budget,
        slot: Slot<'_>,
        source: Source,
    ) -> Result<(), WandbError> {
        let progress = self.transport().progress.clone();
        let label = slot.what.to_owned();
        let begin = move |total| progress.begin(crate::progress::Stage::Verify, &label, Some(total));
        let hashing = Hashing { threshold: u64::MAX, part: u64::MAX, algorithm: Algorithm::Md5 };
        let hash = move || hash(&source, hashing, begin);
        let file = super::download::blocking(slot.what, hash).await??;
        let task = self.transport().progress.begin(crate::progress::Stage::Upload, slot.what, Some(file.size));
        self.send_slice(budget, slot, (&file, 0..file.size), &task.into()).await.map(|_| ())
    }
}

/// Whoever is told how far a transfer is. What is sent again after a failure is not told again.
struct Watched {
    task: Arc<Task>,
    /// Most bytes of the range that any attempt took.
    reported: Arc<AtomicU64>,
}

impl Watched {
    fn reached(&self, moved: u64) {
        let before = self.reported.fetch_max(moved, Ordering::Relaxed);
        if moved > before {
            self.task.advance(moved - before);
        }
    }
}

type Failure = Arc<std::sync::Mutex<Option<io::Error>>>;

/// A request body read on a blocking thread, how much of it was taken, and where a read error is left.
fn body(source: &Source, range: Range<u64>, watched: Watched) -> (reqwest::Body, Arc<AtomicU64>, Failure) {
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(4);
    let source = source.clone();
    tokio::task::spawn_blocking(move || read_range(&source, range, &sender));
    let moved = Arc::new(AtomicU64::new(0));
    let failure = Failure::default();
    let (counter, slot) = (Arc::clone(&moved), Arc::clone(&failure));
    let watched = Arc::new(watched);
    let stream = stream::unfold(receiver, move |mut receiver| {
        let (counter, slot, watched) = (Arc::clone(&counter), Arc::clone(&slot), Arc::clone(&watched));
        async move {
            let next = match receiver.recv().await? {
                Ok(chunk) => {
                    let taken = chunk.len() as u64;
                    watched.reached(counter.fetch_add(taken, Ordering::Relaxed) + taken);
                    Ok(chunk)
                }
                Err(error) => {
                    let kind = error.kind();
                    if let Ok(mut slot) = slot.lock() {
                        *slot = Some(error);
                    }
                    Err(io::Error::from(kind))
                }
            };
            Some((next, receiver))
        }
    });
    (reqwest::Body::wrap_stream(stream), moved, failure)
}

fn read_error(source: &Source, error: io::Error) -> WandbError {
    match source {
        // Shorter than when it was hashed.
        Source::File(path) if error.kind() == io::ErrorKind::UnexpectedEof => {
            WandbError::Changed { path: path.clone() }
        }
        Source::File(path) => file_error("read", path, error),
        Source::Bytes(_) => WandbError::Interrupted { what: "reading memory".to_owned() },
    }
}
