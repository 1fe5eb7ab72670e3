//! Receiving one object: attempts, resumption under proof, and the thread that writes and hashes. Network and file I/O.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use reqwest::StatusCode;
use tokio::sync::mpsc;

use crate::progress::{Stage, Task};
use crate::redact::SafeUrl;
use crate::store::{Object, Partial, Reservation, Store, StoreError};

use super::super::Client;
use super::super::error::WandbError;
use super::super::retry::{Budget, Traffic};
use super::super::transport::{Errand, Trouble, Want};
use super::answer::{judge_answer, strong_etag};
use super::download::{Job, Origin, blocking};
use super::urls::UrlBook;

/// Chunks between network and disk: enough to keep both busy, little enough to stay small.
const QUEUE: usize = 8;
/// Fresh addresses asked for in a row without a byte in between.
const REFRESHES: u32 = 2;
/// From this size on a file is received in several parts at once, when transfers are free for that.
const RANGED: u64 = 16 << 20;
/// Size of such a part. Parts are appended in order, so up to one part a transfer waits in memory.
const PART: u64 = 4 << 20;
/// Progress that earns a retry back.
const EARNING: u64 = 8 << 20;

/// What it takes to receive one object.
pub(super) struct Receiver<'a> {
    pub(super) client: &'a Client,
    pub(super) budget: &'a Budget,
    pub(super) store: &'a Store,
    pub(super) book: &'a UrlBook<'a>,
    pub(super) job: &'a Job,
    /// Parts of this file that may be under way at once.
    pub(super) window: usize,
}

/// What a transfer knows between its attempts.
struct State {
    partial: Box<Partial>,
    task: Task,
    /// Strong version tag of the first answer.
    version: Option<String>,
    /// The server compresses although asked not to: its ranges are of no use.
    whole_only: bool,
    /// A whole answer had another length than promised: trying again from where it ended is no use.
    wrong_length: bool,
    /// The server ignores ranges: one stream for all.
    unranged: bool,
}

impl Receiver<'_> {
    /// The object, from the store when somebody else brought it meanwhile.
    pub(super) async fn fetch(&self) -> Result<(Object, Origin), WandbError> {
        let closed = |_| WandbError::Interrupted { what: self.job.label.clone() };
        let _permit = self.client.transport().transfers.acquire().await.map_err(closed)?;
        let mut again = false;
        loop {
            let (store, job) = (self.store.clone(), self.job.clone());
            let reserved = blocking(&self.job.label, move || store.reserve(&job.digest, job.size)).await?;
            let partial = match reserved.map_err(|source| self.store_error(source))? {
                Reservation::Present(object) => return Ok((object, Origin::Store)),
                Reservation::Missing(partial) => partial,
            };
            let partial = self.receive(partial).await?;
            match blocking(&self.job.label, move || partial.commit()).await? {
                Ok(object) => return Ok((object, Origin::Network)),
                Err(error @ StoreError::Corrupt { .. }) if !again => {
                    again = true;
                    let note = format!("{}: {error}; downloading it once more", self.job.label);
                    self.client.transport().progress.note(&note);
                }
                Err(source @ StoreError::Corrupt { .. }) => {
                    return Err(WandbError::Corrupt { what: self.job.label.clone(), source });
                }
                Err(source) => return Err(self.store_error(source)),
            }
        }
    }

    /// Receives until all bytes are here.
    async fn receive(&self, partial: Box<Partial>) -> Result<Box<Partial>, WandbError> {
        let task = self.task(partial.len());
        let mut state = State { partial, task, version: None, whole_only: false, wrong_length: false, unranged: false };
        let (mut attempt, mut refreshes) = (0, 0);
        let mut url: Option<SafeUrl> = None;
        while state.partial.len() < self.job.size && !state.wrong_length {
            let address = match url.take() {
                Some(url) => url,
                None => self.book.url(self.budget, &self.job.path, None).await?,
            };
            let before = state.partial.len();
            let ranged = self.window > 1 && !state.unranged && !state.whole_only && self.job.size - before >= RANGED;
            let (back, outcome) =
                if ranged { self.attempt_parts(state, &address).await? } else { self.attempt(state, &address).await? };
            state = back;
            if state.partial.len().saturating_sub(before) >= EARNING {
                self.budget.earn();
            }
            let Err(trouble) = outcome else { continue };
            if state.partial.len() > before {
                (attempt, refreshes) = (0, 0);
            }
            if is_expired(&trouble) && refreshes < REFRESHES {
                refreshes += 1;
                url = Some(self.book.url(self.budget, &self.job.path, Some(&address)).await?);
                continue;
            }
            let errand = Errand { traffic: Traffic::Object, what: &self.job.label };
            self.client.transport().pause(self.budget, errand, (trouble, attempt)).await?;
            attempt += 1;
        }
        self.budget.earn();
        Ok(state.partial)
    }

    /// One request and what became of it.
    async fn attempt(&self, mut state: State, url: &SafeUrl) -> Result<(State, Result<(), Trouble>), WandbError> {
        if state.whole_only {
            state = self.restart(state).await?;
        }
        let from = state.partial.len();
        let want = Want { from, if_range: state.version.as_deref().filter(|_| from > 0), ..Want::default() };
        let response = match self.client.transport().get(url, want).await {
            Ok(response) => response,
            Err(Trouble::Status { status: 416, message, .. }) => {
                // The server has fewer bytes than we: only a fresh start can tell who is right.
                let state = self.restart(state).await?;
                return Ok((state, Err(Trouble::Status { status: 503, retry_after: None, message })));
            }
            Err(trouble) => return Ok((state, Err(trouble))),
        };
        let take = match judge_answer(
            response.status(),
            response.headers(),
            (from, self.job.size),
            state.version.as_deref(),
        ) {
            Ok(take) => take,
            Err(reason) => {
                let state = self.restart(state).await?;
                return Ok((
                    state,
                    Err(Trouble::Status { status: 503, retry_after: None, message: reason.to_owned() }),
                ));
            }
        };
        let version = strong_etag(response.headers());
        if take.restart || (take.gzip && from > 0) {
            state = self.restart(state).await?;
        }
        state.version = version;
        state.whole_only |= take.gzip;
        state.wrong_length = take.wrong_length;
        let chunks = stream::unfold(Some(response), |response| async move {
            let mut response = response?;
            match self.client.transport().chunk(&mut response).await {
                Ok(chunk) => chunk.map(|chunk| (Ok(chunk), Some(response))),
                Err(trouble) => Some((Err(trouble), None)),
            }
        });
        self.pour(state, chunks.boxed(), take.gzip).await
    }

    /// Asks for all that is missing in parts, several at once, and appends them in order.
    async fn attempt_parts(&self, state: State, url: &SafeUrl) -> Result<(State, Result<(), Trouble>), WandbError> {
        let (from, size) = (state.partial.len(), self.job.size);
        let unranged = AtomicBool::new(false);
        let starts = (from..size).step_by(PART as usize);
        let known = state.version.clone();
        let part = |start: u64| {
            let (known, unranged) = (known.clone(), &unranged);
            async move { self.part(url, start..(start + PART).min(size), (known.as_deref(), unranged)).await }
        };
        let parts: Vec<_> = starts.map(|start| part(start).boxed()).collect();
        let mut version = state.version.clone();
        let chunks = stream::iter(parts).buffered(self.window).map(|part| {
            let (bytes, tag) = part?;
            if version.is_some() && tag.is_some() && tag != version {
                return Err(changed("the object changed between two parts"));
            }
            version = tag.or_else(|| version.take());
            Ok(bytes)
        });
        let (mut state, outcome) = self.pour(state, chunks.boxed(), false).await?;
        state.version = version;
        if unranged.load(Ordering::Relaxed) {
            state.unranged = true;
            return Ok((state, Ok(())));
        }
        if let Err(Trouble::Status { status: CHANGED, retry_after, message }) = outcome {
            let state = self.restart(state).await?;
            return Ok((state, Err(Trouble::Status { status: 503, retry_after, message })));
        }
        Ok((state, outcome))
    }

    /// One part, whole, with the version tag it came with.
    async fn part(
        &self,
        url: &SafeUrl,
        range: std::ops::Range<u64>,
        (version, unranged): (Option<&str>, &AtomicBool),
    ) -> Result<(Bytes, Option<String>), Trouble> {
        let want = Want { from: range.start, until: Some(range.end), if_range: version, ..Want::default() };
        let response = self.client.transport().get(url, want).await?;
        if response.status() != StatusCode::PARTIAL_CONTENT {
            unranged.store(true, Ordering::Relaxed);
            return Err(changed("the server ignores ranges"));
        }
        let take = judge_answer(response.status(), response.headers(), (range.start, self.job.size), version);
        take.map_err(changed)?;
        let tag = strong_etag(response.headers());
        let length = (range.end - range.start) as usize;
        let bytes = self.client.transport().read_all(response, length).await?;
        if bytes.len() < length {
            let message = format!("a part of {} bytes where {length} were asked for", bytes.len());
            return Err(Trouble::Status { status: 503, retry_after: None, message });
        }
        Ok((bytes, tag))
    }

    /// Moves the body of an answer into the partial file.
    async fn pour(
        &self,
        state: State,
        mut chunks: BoxStream<'_, Result<Bytes, Trouble>>,
        gzip: bool,
    ) -> Result<(State, Result<(), Trouble>), WandbError> {
        let State { partial, task, version, whole_only, wrong_length, unranged } = state;
        let (sender, receiver) = mpsc::channel::<Bytes>(QUEUE);
        let limit = self.job.size;
        let writer = tokio::task::spawn_blocking(move || write(partial, receiver, (gzip, limit)));
        let outcome = loop {
            match chunks.next().await {
                Some(Ok(chunk)) => {
                    let len = chunk.len() as u64;
                    if sender.send(chunk).await.is_err() {
                        break Ok(());
                    }
                    task.advance(len);
                }
                None => break Ok(()),
                Some(Err(trouble)) => break Err(trouble),
            }
        };
        drop(chunks);
        drop(sender);
        let interrupted = |_| WandbError::Interrupted { what: self.job.label.clone() };
        let (partial, written) = writer.await.map_err(interrupted)?;
        let outcome = match written {
            Ok(()) => outcome,
            Err(Unwritten::Store(source)) => return Err(self.store_error(source)),
            Err(Unwritten::Encoding) => {
                Err(Trouble::Status { status: 503, retry_after: None, message: "a broken gzip body".to_owned() })
            }
        };
        let state = State { partial, task, version, whole_only, wrong_length, unranged };
        if outcome.is_ok() && state.partial.len() < self.job.size && !wrong_length {
            let message = format!("the body ended after {} of {} bytes", state.partial.len(), self.job.size);
            return Ok((state, Err(Trouble::Status { status: 503, retry_after: None, message })));
        }
        Ok((state, outcome))
    }

    async fn restart(&self, state: State) -> Result<State, WandbError> {
        let State { mut partial, task, version: _, whole_only, wrong_length, unranged } = state;
        if partial.is_empty() {
            return Ok(State { partial, task, version: None, whole_only, wrong_length, unranged });
        }
        drop(task);
        let (partial, result) = blocking(&self.job.label, move || {
            let result = partial.restart();
            (partial, result)
        })
        .await?;
        result.map_err(|source| self.store_error(source))?;
        Ok(State { partial, task: self.task(0), version: None, whole_only, wrong_length, unranged })
    }

    fn task(&self, done: u64) -> Task {
        let task = self.client.transport().progress.begin(Stage::Download, &self.job.label, Some(self.job.size));
        task.advance(done);
        task
    }

    fn store_error(&self, source: StoreError) -> WandbError {
        WandbError::Store { what: self.job.label.clone(), source }
    }
}

/// Marks, within this file, an answer after which only a fresh start helps.
const CHANGED: u16 = 412;

fn changed(reason: &str) -> Trouble {
    Trouble::Status { status: CHANGED, retry_after: None, message: reason.to_owned() }
}

/// Why bytes did not get into the partial file.
enum Unwritten {
    Store(StoreError),
    Encoding,
}

/// Takes chunks until there are no more, or more than were promised.
fn write(
    mut partial: Box<Partial>,
    mut chunks: mpsc::Receiver<Bytes>,
    (gzip, limit): (bool, u64),
) -> (Box<Partial>, Result<(), Unwritten>) {
    let mut decoder = gzip.then(|| MultiGzDecoder::new(Vec::new()));
    while let Some(chunk) = chunks.blocking_recv() {
        let result = match &mut decoder {
            None => partial.append(chunk).map_err(Unwritten::Store),
            Some(decoder) => decode(decoder, &chunk, &mut partial),
        };
        if let Err(error) = result {
            return (partial, Err(error));
        }
        if partial.len() > limit {
            return (partial, Ok(()));
        }
    }
    if let Some(mut decoder) = decoder {
        // An end that does not come shows as bytes that are missing.
        if decoder.try_finish().is_ok() {
            let rest = std::mem::take(decoder.get_mut());
            let result = partial.append(rest.into()).map_err(Unwritten::Store);
            return (partial, result);
        }
    }
    (partial, Ok(()))
}

fn decode(decoder: &mut MultiGzDecoder<Vec<u8>>, chunk: &[u8], partial: &mut Partial) -> Result<(), Unwritten> {
    // Small pieces bound how much a hostile body can inflate into memory.
    for piece in chunk.chunks(4 << 10) {
        decoder.write_all(piece).map_err(|_| Unwritten::Encoding)?;
        let plain = std::mem::take(decoder.get_mut());
        partial.append(plain.into()).map_err(Unwritten::Store)?;
    }
    Ok(())
}

/// Whether a fresh address may help.
pub(super) fn is_expired(trouble: &Trouble) -> bool {
    matches!(trouble, Trouble::Status { status: 400 | 401 | 403 | 404 | 410, .. })
}
