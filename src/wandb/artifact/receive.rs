//! Receiving one object: attempts, resumption under proof, and the thread that writes and hashes. Network and file I/O.

use std::io::Write as _;

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use reqwest::StatusCode;
use reqwest::header::{self, HeaderMap};
use tokio::sync::mpsc;

use crate::progress::{Stage, Task};
use crate::redact::SafeUrl;
use crate::store::{Object, Partial, Reservation, Store, StoreError};

use super::super::Client;
use super::super::error::WandbError;
use super::super::retry::{Budget, Traffic};
use super::super::transport::{Errand, Trouble, Want};
use super::download::{Job, Origin, blocking};
use super::urls::UrlBook;

/// Chunks between network and disk: enough to keep both busy, little enough to stay small.
const QUEUE: usize = 8;
/// Fresh addresses asked for in a row without a byte in between.
const REFRESHES: u32 = 2;

/// What it takes to receive one object.
pub(super) struct Receiver<'a> {
    pub(super) client: &'a Client,
    pub(super) budget: &'a Budget,
    pub(super) store: &'a Store,
    pub(super) book: &'a UrlBook<'a>,
    pub(super) job: &'a Job,
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
}

/// How an attempt's bytes are to be taken.
#[derive(Debug, PartialEq, Eq)]
struct Take {
    /// Forget what is here first.
    restart: bool,
    gzip: bool,
    wrong_length: bool,
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
        let mut state = State { partial, task, version: None, whole_only: false, wrong_length: false };
        let (mut attempt, mut refreshes) = (0, 0);
        let mut url: Option<SafeUrl> = None;
        while state.partial.len() < self.job.size && !state.wrong_length {
            let address = match url.take() {
                Some(url) => url,
                None => self.book.url(self.budget, &self.job.path, None).await?,
            };
            let before = state.partial.len();
            let (back, outcome) = self.attempt(state, &address).await?;
            state = back;
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
        state.version = strong_etag(response.headers());
        if take.restart || (take.gzip && from > 0) {
            state = self.restart(state).await?;
        }
        state.whole_only |= take.gzip;
        state.wrong_length = take.wrong_length;
        self.pour(state, response, take.gzip).await
    }

    /// Moves the body of an answer into the partial file.
    async fn pour(
        &self,
        state: State,
        mut response: reqwest::Response,
        gzip: bool,
    ) -> Result<(State, Result<(), Trouble>), WandbError> {
        let State { partial, task, version, whole_only, wrong_length } = state;
        let (sender, receiver) = mpsc::channel::<Bytes>(QUEUE);
        let limit = self.job.size;
        let writer = tokio::task::spawn_blocking(move || write(partial, receiver, (gzip, limit)));
        let outcome = loop {
            match self.client.transport().chunk(&mut response).await {
                Ok(Some(chunk)) => {
                    let len = chunk.len() as u64;
                    if sender.send(chunk).await.is_err() {
                        break Ok(());
                    }
                    task.advance(len);
                }
                Ok(None) => break Ok(()),
                Err(trouble) => break Err(trouble),
            }
        };
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
        let state = State { partial, task, version, whole_only, wrong_length };
        if outcome.is_ok() && state.partial.len() < self.job.size && !wrong_length {
            let message = format!("the body ended after {} of {} bytes", state.partial.len(), self.job.size);
            return Ok((state, Err(Trouble::Status { status: 503, retry_after: None, message })));
        }
        Ok((state, outcome))
    }

    async fn restart(&self, state: State) -> Result<State, WandbError> {
        let State { mut partial, task, version, whole_only, wrong_length } = state;
        if partial.is_empty() {
            return Ok(State { partial, task, version, whole_only, wrong_length });
        }
        drop(task);
        let (partial, result) = blocking(&self.job.label, move || {
            let result = partial.restart();
            (partial, result)
        })
        .await?;
        result.map_err(|source| self.store_error(source))?;
        Ok(State { partial, task: self.task(0), version: None, whole_only, wrong_length })
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
            None => partial.append(&chunk).map_err(Unwritten::Store),
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
            let result = partial.append(&rest).map_err(Unwritten::Store);
            return (partial, result);
        }
    }
    (partial, Ok(()))
}

fn decode(decoder: &mut MultiGzDecoder<Vec<u8>>, chunk: &[u8], partial: &mut Partial) -> Result<(), Unwritten> {
    // Small pieces bound how much a hostile body can inflate into memory.
    for piece in chunk.chunks(4 << 10) {
        decoder.write_all(piece).map_err(|_| Unwritten::Encoding)?;
        partial.append(decoder.get_ref()).map_err(Unwritten::Store)?;
        decoder.get_mut().clear();
    }
    Ok(())
}

/// Whether a fresh address may help.
fn is_expired(trouble: &Trouble) -> bool {
    matches!(trouble, Trouble::Status { status: 400 | 401 | 403 | 404 | 410, .. })
}

/// How to take an answer to a request for the bytes from `from` on, of `size` in all; or why not to take it.
fn judge_answer(
    status: StatusCode,
    headers: &HeaderMap,
    (from, size): (u64, u64),
    version: Option<&str>,
) -> Result<Take, &'static str> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let gzip = match text(header::CONTENT_ENCODING) {
        None | Some("identity") => false,
        Some("gzip" | "x-gzip") => true,
        Some(_) => return Err("the server compresses although asked not to"),
    };
    if status != StatusCode::PARTIAL_CONTENT {
        let length = text(header::CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
        let wrong_length = !gzip && length.is_some_and(|length| length != size);
        return Ok(Take { restart: from > 0, gzip, wrong_length });
    }
    let range = text(header::CONTENT_RANGE).and_then(parse_content_range);
    let Some((first, total)) = range else { return Err("a part without a readable Content-Range") };
    if first != from || total.is_some_and(|total| total != size) {
        return Err("another part than asked for");
    }
    if gzip {
        return Err("a part of a compressed body");
    }
    if version.is_some() && strong_etag(headers).is_some_and(|now| Some(now.as_str()) != version) {
        return Err("the object changed between two parts");
    }
    Ok(Take { restart: false, gzip: false, wrong_length: false })
}

/// First byte and total length of `bytes 5-9/10`.
fn parse_content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    (first <= last && total.is_none_or(|total| last < total)).then_some((first, total))
}

/// The ETag, unless it is a weak one, which proves nothing about bytes.
fn strong_etag(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(header::ETAG)?.to_str().ok()?;
    (text.starts_with('"') && text.len() > 2).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(
        status: u16,
        from: u64,
        version: Option<&str>,
        headers: &[(&'static str, &str)],
    ) -> Result<Take, &'static str> {
        let headers = headers.iter().map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap())).collect();
        judge_answer(StatusCode::from_u16(status).unwrap(), &headers, (from, 10), version)
    }

    #[test]
    fn the_table_of_answers() {
        let plain = Take { restart: false, gzip: false, wrong_length: false };
        assert_eq!(answer(200, 0, None, &[("content-length", "10")]), Ok(plain));
        assert!(answer(200, 4, None, &[]).unwrap().restart);
        assert!(answer(200, 0, None, &[("content-length", "9")]).unwrap().wrong_length);
        assert!(answer(200, 0, None, &[("content-encoding", "gzip"), ("content-length", "9")]).unwrap().gzip);
        let part = |from, range, etag, known| answer(206, from, known, &[("content-range", range), ("etag", etag)]);
        assert_eq!(part(4, "bytes 4-9/10", "\"a\"", Some("\"a\"")).map(|take| take.restart), Ok(false));
        assert_eq!(part(4, "bytes 4-9/*", "\"a\"", None).map(|take| take.restart), Ok(false));
        assert!(part(4, "bytes 4-9/10", "\"b\"", Some("\"a\"")).is_err());
        assert!(part(4, "bytes 3-9/10", "\"a\"", None).is_err());
        assert!(part(4, "bytes 4-10/11", "\"a\"", None).is_err());
        assert!(answer(206, 4, None, &[]).is_err());
        assert!(answer(200, 0, None, &[("content-encoding", "br")]).is_err());
    }

    proptest! {
        #[test]
        fn content_ranges_never_panic(text in "(bytes )?[0-9*/-]{0,12}") {
            let _ = parse_content_range(&text);
        }
    }
}
