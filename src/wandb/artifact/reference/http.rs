//! References to addresses that anybody may ask: the version tag decides whether it is still what was referred to, and
//! whether an interrupted transfer may go on. Network and file I/O.
//!
//! As in the SDK (`http_handler.py`) the digest of such an entry is the ETag without its quotes, or the address where
//! there is none. The key is never sent, and extra headers only to W&B's own server: the address is an author's word.

use std::io::Write as _;

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use reqwest::header::{self, HeaderMap};
use reqwest::{Response, StatusCode};
use tokio::sync::mpsc;

use crate::progress::{Stage, Task};
use crate::redact::SafeUrl;
use crate::store::{EtagPartial, EtagReservation, Store, StoreError};

use super::super::super::Client;
use super::super::super::error::WandbError;
use super::super::super::retry::{Budget, Traffic};
use super::super::super::transport::{Encoding, Errand, Trust, Want};
use super::super::super::trouble::Trouble;
use super::super::answer::parse_content_range;
use super::super::download::{Origin, blocking};
use super::{Fetched, Proof, Reference, ReferenceError, reserve};

/// Chunks between network and disk.
const QUEUE: usize = 8;

/// Fetches one address.
pub(super) struct Getter<'a> {
    pub(super) client: &'a Client,
    pub(super) budget: &'a Budget,
    pub(super) store: &'a Store,
    pub(super) reference: &'a Reference,
    pub(super) url: &'a SafeUrl,
}

/// What a transfer knows between its attempts.
struct State {
    partial: Box<EtagPartial>,
    task: Task,
    encoding: Encoding,
}

/// How the body of an answer is to be taken.
struct Take {
    /// Whether the bytes that are here stay.
    goes_on: bool,
    gzip: bool,
    /// Bytes of the whole, where it is not compressed.
    total: Option<u64>,
    /// Bytes of a compressed body.
    compressed: Option<u64>,
    tagged: bool,
}

/// What an attempt ended with.
enum Outcome {
    /// All is here; whether under the expected version tag.
    Whole { tagged: bool },
    /// Another attempt may do better.
    Trouble(Trouble),
    /// The plain form is another version; the compressed one may be the right one.
    AskCompressed,
}

impl Getter<'_> {
    /// Brings what is there into the store, once it is known to be what was referred to.
    pub(super) async fn fetch(&self) -> Result<Fetched, WandbError> {
        let key = self.reference.key();
        let partial = match reserve(self.store, self.reference).await? {
            EtagReservation::Present(object) => {
                return Ok(Fetched { object, origin: Origin::Store, proof: Proof::Etag(key) });
            }
            EtagReservation::Missing(partial) => partial,
        };
        let (partial, tagged) = self.receive(partial).await?;
        let object = blocking(&self.reference.label(), move || partial.commit()).await?;
        let object = object.map_err(|source| self.store_error(source))?;
        let proof = if tagged { Proof::Etag(key) } else { Proof::Unproven(key) };
        Ok(Fetched { object, origin: Origin::Network, proof })
    }

    /// Receives until all bytes are here.
    async fn receive(&self, partial: Box<EtagPartial>) -> Result<(Box<EtagPartial>, bool), WandbError> {
        let progress = &self.client.transport().progress;
        let task = progress.begin(Stage::Download, &self.reference.label(), self.reference.size());
        task.advance(partial.len());
        let mut state = State { partial, task, encoding: Encoding::Identity };
        let mut attempt = 0;
        loop {
            let before = state.partial.len();
            let (back, outcome) = self.attempt(state).await?;
            state = back;
            let trouble = match outcome {
                Outcome::Whole { tagged } => {
                    self.budget.earn();
                    return Ok((state.partial, tagged));
                }
                Outcome::AskCompressed => {
                    state.encoding = Encoding::Gzip;
                    continue;
                }
                Outcome::Trouble(trouble) => trouble,
            };
            if state.partial.len() > before {
                attempt = 0;
            }
            self.refuse_final(&trouble)?;
            let label = self.reference.label();
            let errand = Errand { traffic: Traffic::Object, what: &label };
            self.client.transport().pause_at(self.budget, errand, (&self.host(), trouble, attempt)).await?;
            attempt += 1;
        }
    }

    /// One request and what became of it.
    async fn attempt(&self, mut state: State) -> Result<(State, Outcome), WandbError> {
        let tag = self.strong_tag().filter(|_| matches!(state.encoding, Encoding::Identity));
        let from = if tag.is_some() { state.partial.len() } else { 0 };
        let want = Want {
            from,
            if_range: tag.as_deref().filter(|_| from > 0),
            trust: Trust::Stranger,
            encoding: state.encoding,
            ..Want::default()
        };
        let response = match self.client.transport().get(self.url, want).await {
            Ok(response) => response,
            // It has fewer bytes than we: only a fresh start can tell who is right.
            Err(Trouble::Status { status: 416, message, .. }) if from > 0 => {
                let state = self.restart(state).await?;
                return Ok((state, Outcome::Trouble(passing(&message))));
            }
            Err(trouble) => return Ok((state, Outcome::Trouble(trouble))),
        };
        let take = match self.judge(&response, from)? {
            Judged::Take(take) => take,
            Judged::Otherwise if matches!(state.encoding, Encoding::Identity) => {
                return Ok((self.restart(state).await?, Outcome::AskCompressed));
            }
            Judged::Otherwise => return Err(self.other_version(&response)),
            Judged::Nonsense(reason) => {
                return Ok((self.restart(state).await?, Outcome::Trouble(passing(reason))));
            }
        };
        if !take.goes_on && !state.partial.is_empty() {
            state = self.restart(state).await?;
        }
        self.pour(state, response, take).await
    }

    /// Whether this is what was referred to, and how to take it.
    fn judge(&self, response: &Response, from: u64) -> Result<Judged, WandbError> {
        let headers = response.headers();
        let tagged = match tag(headers) {
            Some(found) if found == self.reference.entry.digest => true,
            // Made without a checksum, whatever tag there is now.
            _ if self.reference.entry.digest == self.reference.uri => false,
            None if response.url().as_str() == self.reference.entry.digest => false,
            _ => return Ok(Judged::Otherwise),
        };
        let gzip = match text(headers, header::CONTENT_ENCODING) {
            None | Some("identity") => false,
            Some("gzip" | "x-gzip") => true,
            Some(_) => return Ok(Judged::Nonsense("the server compresses although asked not to")),
        };
        let length = text(headers, header::CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
        if response.status() == StatusCode::PARTIAL_CONTENT {
            let range = text(headers, header::CONTENT_RANGE).and_then(parse_content_range);
            let Some((first, total)) = range.filter(|(first, _)| *first == from && from > 0 && !gzip && tagged) else {
                return Ok(Judged::Nonsense("another part than asked for"));
            };
            let total = total.or_else(|| Some(first + length?));
            self.check_size(total)?;
            return Ok(Judged::Take(Take { goes_on: true, gzip, total, compressed: None, tagged }));
        }
        if gzip {
            return Ok(Judged::Take(Take { goes_on: false, gzip, total: None, compressed: length, tagged }));
        }
        self.check_size(length)?;
        let total = length.or(self.reference.size());
        Ok(Judged::Take(Take { goes_on: false, gzip, total, compressed: None, tagged }))
    }

    fn check_size(&self, found: Option<u64>) -> Result<(), WandbError> {
        match (self.reference.size(), found) {
            (Some(expected), Some(found)) if expected != found => Err(self.changed_size(expected, found)),
            _ => Ok(()),
        }
    }

    fn changed_size(&self, expected: u64, found: u64) -> WandbError {
        let (expected, found) = (format!("{expected} bytes"), format!("{found} bytes"));
        self.reference.refuse(ReferenceError::Changed { expected, found })
    }

    fn other_version(&self, response: &Response) -> WandbError {
        let found = tag(response.headers()).map_or("no version tag".to_owned(), |tag| format!("version {tag}"));
        let expected = format!("version {}", self.reference.entry.digest);
        self.reference.refuse(ReferenceError::Changed { expected, found })
    }

    /// Moves the body of an answer into the partial file.
    async fn pour(&self, state: State, mut response: Response, take: Take) -> Result<(State, Outcome), WandbError> {
        let State { partial, task, encoding } = state;
        let (sender, receiver) = mpsc::channel::<Bytes>(QUEUE);
        let gzip = take.gzip;
        let writer = tokio::task::spawn_blocking(move || write(partial, receiver, gzip));
        let trouble = loop {
            match self.client.transport().chunk(&mut response).await {
                Ok(Some(chunk)) => {
                    let len = chunk.len() as u64;
                    if sender.send(chunk).await.is_err() {
                        break None;
                    }
                    task.advance(len);
                }
                Ok(None) => break None,
                Err(trouble) => break Some(trouble),
            }
        };
        drop(sender);
        let interrupted = |_| WandbError::Interrupted { what: self.reference.label() };
        let (partial, written) = writer.await.map_err(interrupted)?;
        let state = State { partial, task, encoding };
        match written {
            Ok(()) => {}
            Err(Unwritten::Store(source)) => return Err(self.store_error(source)),
            Err(Unwritten::Encoding) => {
                return Ok((self.restart(state).await?, Outcome::Trouble(passing("a broken gzip body"))));
            }
        }
        let len = state.partial.len();
        let outcome = match (trouble, take.total) {
            (Some(trouble), _) => Outcome::Trouble(trouble),
            (None, Some(total)) if len < total => {
                Outcome::Trouble(passing(&format!("the body ended after {len} of {total} bytes")))
            }
            (None, Some(total)) if len > total => return Err(self.changed_size(total, len)),
            // The SDK states the length on the wire, which may be that of the compressed body.
            (None, None) if gzip && take.compressed != self.reference.size() => {
                self.check_size(Some(len))?;
                Outcome::Whole { tagged: take.tagged }
            }
            (None, _) => Outcome::Whole { tagged: take.tagged },
        };
        // What has no version tag, or is compressed, cannot be gone on with.
        if matches!(outcome, Outcome::Trouble(_)) && (gzip || !take.tagged) {
            return Ok((self.restart(state).await?, outcome));
        }
        Ok((state, outcome))
    }

    async fn restart(&self, state: State) -> Result<State, WandbError> {
        let State { mut partial, task, encoding } = state;
        drop(task);
        let (partial, result) = blocking(&self.reference.label(), move || {
            let result = partial.restart();
            (partial, result)
        })
        .await?;
        result.map_err(|source| self.store_error(source))?;
        let progress = &self.client.transport().progress;
        let task = progress.begin(Stage::Download, &self.reference.label(), self.reference.size());
        Ok(State { partial, task, encoding })
    }

    /// Answers that say something about the reference rather than about the moment.
    fn refuse_final(&self, trouble: &Trouble) -> Result<(), WandbError> {
        let Trouble::Status { status, message, .. } = trouble else { return Ok(()) };
        let (status, host, message) = (*status, self.host(), message.clone());
        match status {
            404 | 410 => {
                let reason = format!("{host} answers with status {status}");
                Err(self.reference.refuse(ReferenceError::Missing { reason }))
            }
            401 | 403 | 407 => Err(self.reference.refuse(ReferenceError::Refused { host, status, message })),
            _ => Ok(()),
        }
    }

    /// The version tag in the form that `If-Range` takes; a weak one proves nothing about bytes.
    fn strong_tag(&self) -> Option<String> {
        let digest = &self.reference.entry.digest;
        (!digest.starts_with("W/") && !self.reference.is_unproven()).then(|| format!("\"{digest}\""))
    }

    fn host(&self) -> String {
        self.url.expose().host_str().unwrap_or_default().to_owned()
    }

    fn store_error(&self, source: StoreError) -> WandbError {
        WandbError::Store { what: self.reference.label(), source }
    }
}

enum Judged {
    Take(Take),
    /// Another version than referred to.
    Otherwise,
    /// An answer that a fresh start may mend.
    Nonsense(&'static str),
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The ETag as the SDK keeps it in digests.
fn tag(headers: &HeaderMap) -> Option<&str> {
    text(headers, header::ETAG).map(|tag| tag.trim_matches('"')).filter(|tag| !tag.is_empty())
}

fn passing(message: &str) -> Trouble {
    Trouble::Status { status: 503, retry_after: None, message: message.to_owned() }
}

/// Why bytes did not get into the partial file.
enum Unwritten {
    Store(StoreError),
    Encoding,
}

/// Takes chunks until there are no more.
fn write(
    mut partial: Box<EtagPartial>,
    mut chunks: mpsc::Receiver<Bytes>,
    gzip: bool,
) -> (Box<EtagPartial>, Result<(), Unwritten>) {
    let mut decoder = gzip.then(|| MultiGzDecoder::new(Vec::new()));
    while let Some(chunk) = chunks.blocking_recv() {
        let result = match &mut decoder {
            None => partial.append(&chunk).map_err(Unwritten::Store),
            Some(decoder) => decode(decoder, &chunk, &mut partial),
        };
        if let Err(error) = result {
            return (partial, Err(error));
        }
    }
    let Some(mut decoder) = decoder else { return (partial, Ok(())) };
    let ended = decoder.try_finish().map_err(|_| Unwritten::Encoding);
    let rest = std::mem::take(decoder.get_mut());
    let result = ended.and_then(|()| partial.append(&rest).map_err(Unwritten::Store));
    (partial, result)
}

fn decode(decoder: &mut MultiGzDecoder<Vec<u8>>, chunk: &[u8], partial: &mut EtagPartial) -> Result<(), Unwritten> {
    // Small pieces bound how much a hostile body can inflate into memory.
    for piece in chunk.chunks(4 << 10) {
        decoder.write_all(piece).map_err(|_| Unwritten::Encoding)?;
        partial.append(decoder.get_ref()).map_err(Unwritten::Store)?;
        decoder.get_mut().clear();
    }
    Ok(())
}
