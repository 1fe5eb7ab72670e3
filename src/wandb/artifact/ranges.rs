//! Parts of one file of an artifact, by range requests, into the store: nothing is fetched but what is asked for.
//!
//! The parts are all of one version of the object: the first answer's ETag goes with every later request, and when it
//! changes everything starts anew. What arrives was not checked against the file's digest, which speaks of all bytes
//! only. Network and file I/O.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use reqwest::StatusCode;
use tokio::sync::OwnedSemaphorePermit;

use crate::progress::Stage;
use crate::ranges::{RangeSet, requests};
use crate::redact::SafeUrl;
use crate::store::{Holding, Object, Sparse, Store, StoreError};

use super::super::Client;
use super::super::error::WandbError;
use super::super::retry::{Budget, Traffic};
use super::super::transport::{Errand, Want};
use super::super::trouble::Trouble;
use super::Artifact;
use super::answer::{judge_answer, strong_etag};
use super::download::blocking;
use super::manifest::Entry;
use super::receive::is_expired;
use super::urls::UrlBook;

/// Ranges with at most this many bytes between them become one request: about what a round trip costs.
const GAP: u64 = 64 << 10;
/// Longest request. Each one under way waits in memory until it is whole.
const PIECE: u64 = 4 << 20;
/// Fresh addresses asked for in a row without an answer in between.
const REFRESHES: u32 = 2;

/// What arrived is made to survive a crash each time so many bytes came.
const KEPT: u64 = 32 << 20;

/// A file whose parts can be fetched, or the whole of it when the store has that.
#[derive(Debug)]
pub enum RemoteParts<'a> {
    /// It is in the store, every byte verified.
    Whole(Object),
    /// It is not.
    Parts(Box<RemoteFile<'a>>),
}

/// What became of a request for parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetched {
    /// They are here.
    All,
    /// The object is another version than before: what was here is forgotten, nothing is here now.
    StartedAnew,
    /// The server does not serve parts of this file.
    NoRanges,
}

/// One file of an artifact, of which parts are in the store. Others who want the same object wait while it exists.
pub struct RemoteFile<'a> {
    client: &'a Client,
    book: UrlBook<'a>,
    budget: Budget,
    path: String,
    /// Artifact and path, for messages.
    label: String,
    /// Absent only while a thread writes to it.
    sparse: Option<Box<Sparse>>,
    place: PathBuf,
    /// Requests that may be under way at once.
    window: usize,
    fetched: u64,
    requests: usize,
    /// Taken before the store's lock, as every transfer does, so that nobody waits for us with what we wait for.
    _permit: OwnedSemaphorePermit,
}

impl fmt::Debug for RemoteFile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteFile").field("label", &self.label).field("sparse", &self.sparse).finish_non_exhaustive()
    }
}

/// One request's outcome.
enum Piece {
    Here(u64, Bytes, Option<String>),
    Changed,
    Ignored,
}

impl Client {
    /// Prepares to read parts of the file at `path` of an artifact, of which `files` are read at the same time. Nothing is
    /// asked of the server yet.
    ///
    /// # Errors
    /// [`WandbError::Unverifiable`] for a digest of an unknown kind, [`WandbError::Store`].
    pub async fn remote_parts<'a>(
        &'a self,
        store: &Store,
        (artifact, path, entry): (&'a Artifact, &str, &Entry),
        files: usize,
    ) -> Result<RemoteParts<'a>, WandbError> {
        let name = artifact.name().to_string();
        let label = format!("{name}/{path}");
        let unverifiable = |reason| WandbError::Unverifiable { artifact: name, path: path.to_owned(), reason };
        let digest = entry.file_digest().map_err(unverifiable)?;
        let closed = |_| WandbError::Interrupted { what: label.clone() };
        let permit = Arc::clone(&self.transport().transfers).acquire_owned().await.map_err(closed)?;
        let (store, size) = (store.clone(), entry.size);
        let holding = blocking(&label, move || store.sparse(&digest, size)).await?;
        let sparse = match holding.map_err(|source| WandbError::Store { what: label.clone(), source })? {
            Holding::Whole(object) => return Ok(RemoteParts::Whole(object)),
            Holding::Parts(sparse) => sparse,
        };
        Ok(RemoteParts::Parts(Box::new(RemoteFile {
            client: self,
            book: UrlBook::new(self, artifact, vec![path.to_owned()]),
            budget: self.budget(),
            path: path.to_owned(),
            place: sparse.path().to_owned(),
            sparse: Some(sparse),
            window: (self.concurrency() / files.clamp(1, self.concurrency())).max(1),
            fetched: 0,
            requests: 0,
            label,
            _permit: permit,
        })))
    }
}

impl RemoteFile<'_> {
    /// Where the parts are: a file of the whole's size that reads as zeros everywhere else.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// Which bytes are here.
    pub fn present(&self) -> RangeSet {
        self.sparse.as_ref().map(|sparse| sparse.present().clone()).unwrap_or_default()
    }

    /// Bytes that came over the network, and in how many requests.
    pub fn traffic(&self) -> (u64, usize) {
        (self.fetched, self.requests)
    }

    /// Brings all bytes of `wanted` here; those that are here already are not asked for. `what` names them to whoever
    /// watches.
    ///
    /// # Errors
    /// The first range that could not be had; what came before stays.
    pub async fn fetch(&mut self, wanted: &[Range<u64>], what: &str) -> Result<Fetched, WandbError> {
        let Some(sparse) = self.sparse.take() else { return Err(self.interrupted()) };
        let ranges = requests(sparse.present(), wanted, (GAP, PIECE));
        if ranges.is_empty() {
            self.sparse = Some(sparse);
            return Ok(Fetched::All);
        }
        let (sparse, outcome) = self.transfer(sparse, ranges, what).await?;
        let changed = matches!(outcome, Ok(Fetched::StartedAnew));
        let settle = move |mut sparse: Box<Sparse>| {
            let settled = if changed { sparse.restart() } else { sparse.keep() };
            (sparse, settled)
        };
        let (sparse, settled) = blocking(&self.label, move || settle(sparse)).await?;
        self.place = sparse.path().to_owned();
        self.sparse = Some(sparse);
        settled.map_err(|source| self.store_error(source))?;
        outcome
    }

    /// Forgets the parts: they are damaged. Nothing is here then.
    ///
    /// # Errors
    /// [`WandbError::Store`].
    pub async fn start_anew(&mut self) -> Result<(), WandbError> {
        let Some(mut sparse) = self.sparse.take() else { return Err(self.interrupted()) };
        let work = move || sparse.restart().map(|()| sparse);
        let sparse = blocking(&self.label, work).await?.map_err(|source| self.store_error(source))?;
        self.place = sparse.path().to_owned();
        self.sparse = Some(sparse);
        Ok(())
    }

    /// Forgets the parts, because all of the file is wanted.
    ///
    /// # Errors
    /// [`WandbError::Store`].
    pub async fn discard(self) -> Result<(), WandbError> {
        let Some(sparse) = self.sparse else { return Ok(()) };
        let discarded = blocking(&self.label, move || sparse.discard()).await?;
        discarded.map_err(|source| WandbError::Store { what: self.label, source })
    }

    /// Asks for the ranges, several at once, and writes each to its place as it comes.
    async fn transfer(
        &mut self,
        mut sparse: Box<Sparse>,
        ranges: Vec<Range<u64>>,
        what: &str,
    ) -> Result<(Box<Sparse>, Result<Fetched, WandbError>), WandbError> {
        let bytes = ranges.iter().map(|range| range.end - range.start).sum();
        let label = format!("{}: {what}", self.label);
        let task = self.client.transport().progress.begin(Stage::Download, &label, Some(bytes));
        let (mut version, size) = (sparse.version().map(str::to_owned), sparse.size());
        let (mut fetched, mut asked) = (0, 0);
        let this = &*self;
        let known = version.as_deref();
        let pieces: Vec<BoxFuture<'_, _>> =
            ranges.into_iter().map(|range| this.piece(range, size, known.map(str::to_owned)).boxed()).collect();
        let work = async {
            let mut pieces = stream::iter(pieces).buffer_unordered(this.window);
            while let Some(piece) = pieces.next().await {
                asked += 1;
                let (at, bytes, tag) = match piece {
                    Ok(Piece::Here(at, bytes, tag)) => (at, bytes, tag),
                    Ok(Piece::Changed) => return Ok((sparse, Ok(Fetched::StartedAnew))),
                    Ok(Piece::Ignored) => return Ok((sparse, Ok(Fetched::NoRanges))),
                    Err(error) => return Ok((sparse, Err(error))),
                };
                if tag.is_some() && version.is_some() && tag != version {
                    return Ok((sparse, Ok(Fetched::StartedAnew)));
                }
                version = tag.or(version.take());
                let (tag, length) = (version.clone(), bytes.len() as u64);
                let keep = (fetched + length) / KEPT > fetched / KEPT;
                let write = move || {
                    sparse.set_version(tag);
                    let written = sparse.write(at, &bytes);
                    let written = written.and_then(|()| if keep { sparse.keep() } else { Ok(()) });
                    (sparse, written)
                };
                let (back, written) = blocking(&this.label, write).await?;
                sparse = back;
                written.map_err(|source| this.store_error(source))?;
                fetched += length;
                task.advance(length);
            }
            Ok((sparse, Ok(Fetched::All)))
        };
        let outcome = this.client.transport().within(&this.budget, &this.label, work).await?;
        self.fetched += fetched;
        self.requests += asked;
        outcome
    }

    /// One range, tried until it is here or it is clear why not.
    async fn piece(&self, range: Range<u64>, size: u64, version: Option<String>) -> Result<Piece, WandbError> {
        let (mut attempt, mut refreshes) = (0, 0);
        let mut stale: Option<SafeUrl> = None;
        loop {
            let url = self.book.url(&self.budget, &self.path, stale.take().as_ref()).await?;
            match self.once(&url, (&range, size), version.as_deref()).await {
                Ok(piece) => {
                    self.budget.earn();
                    return Ok(piece);
                }
                Err(Trouble::Status { status: 416, .. }) => return Ok(Piece::Ignored),
                Err(trouble) if is_expired(&trouble) && refreshes < REFRESHES => {
                    refreshes += 1;
                    stale = Some(url);
                }
                Err(trouble) => {
                    let errand = Errand { traffic: Traffic::Object, what: &self.label };
                    self.client.transport().pause(&self.budget, errand, (trouble, attempt)).await?;
                    attempt += 1;
                }
            }
        }
    }

    async fn once(
        &self,
        url: &SafeUrl,
        (range, size): (&Range<u64>, u64),
        version: Option<&str>,
    ) -> Result<Piece, Trouble> {
        let want = Want { from: range.start, until: Some(range.end), if_range: version, ..Want::default() };
        let response = self.client.transport().get(url, want).await?;
        let tag = strong_etag(response.headers());
        if version.is_some() && tag.is_some() && tag.as_deref() != version {
            return Ok(Piece::Changed);
        }
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return Ok(Piece::Ignored);
        }
        let again = |message: String| Trouble::Status { status: 503, retry_after: None, message };
        judge_answer(response.status(), response.headers(), (range.start, size), version)
            .map_err(|reason| again(reason.to_owned()))?;
        let length = (range.end - range.start) as usize;
        let bytes = self.client.transport().read_all(response, length).await?;
        if bytes.len() < length {
            return Err(again(format!("a part of {} bytes where {length} were asked for", bytes.len())));
        }
        Ok(Piece::Here(range.start, bytes, tag))
    }

    fn interrupted(&self) -> WandbError {
        WandbError::Interrupted { what: self.label.clone() }
    }

    fn store_error(&self, source: StoreError) -> WandbError {
        WandbError::Store { what: self.label.clone(), source }
    }
}
