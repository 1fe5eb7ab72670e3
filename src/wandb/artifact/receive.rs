//! Receiving one object: attempts, and resumption under proof. Network and file I/O.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{StreamExt as _, stream};

use crate::progress::{Stage, Task};
use crate::redact::SafeUrl;
use crate::store::{Object, Partial, Reservation, Store, StoreError};

use super::super::Client;
use super::super::error::WandbError;
use super::super::retry::{Budget, Traffic};
use super::super::transport::{Errand, Want};
use super::super::trouble::Trouble;
use super::answer::{judge_answer, strong_etag};
use super::download::{Job, Origin, blocking};
use super::part_size::PartSize;
use super::urls::UrlBook;

/// Fresh addresses asked for in a row without a byte in between.
const REFRESHES: u32 = 2;
/// Progress that earns a retry back.
const EARNING: u64 = 8 << 20;

/// What it takes to receive one object.
pub(super) struct Receiver<'a> {
    pub(super) client: &'a Client,
    pub(super) budget: &'a Budget,
    pub(super) store: &'a Store,
    pub(super) book: &'a UrlBook<'a>,
    pub(super) job: &'a Job,
    pub(super) shared: &'a Shared,
}

/// What the transfers of one download share.
pub(super) struct Shared {
    /// Objects that are not here yet.
    pub(super) remaining: AtomicUsize,
    pub(super) part_size: PartSize,
}

/// What a transfer knows between its attempts.
pub(super) struct State {
    pub(super) partial: Box<Partial>,
    pub(super) task: Task,
    /// Strong version tag of the first answer.
    pub(super) version: Option<String>,
    /// The server compresses although asked not to: its ranges are of no use.
    pub(super) whole_only: bool,
    /// A whole answer had another length than promised: trying again from where it ended is no use.
    pub(super) wrong_length: bool,
    /// The server ignores ranges: one stream for all.
    pub(super) unranged: bool,
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
                Reservation::Present(object) => {
                    // Somebody else received it, as far as whoever watches is concerned.
                    self.task(self.job.size);
                    return Ok((object, Origin::Store));
                }
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

    /// Parts of this file that may be under way at once: with few files left, each gets more of the connections.
    pub(super) fn window(&self) -> usize {
        let most = self.client.concurrency();
        most / self.shared.remaining.load(Ordering::Relaxed).clamp(1, most)
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
            let large = self.job.size - before >= self.client.ranged_threshold();
            let ranged = large && self.window() > 1 && !state.unranged && !state.whole_only;
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

    pub(super) async fn restart(&self, state: State) -> Result<State, WandbError> {
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

    pub(super) fn store_error(&self, source: StoreError) -> WandbError {
        WandbError::Store { what: self.job.label.clone(), source }
    }
}

/// Whether a fresh address may help.
pub(super) fn is_expired(trouble: &Trouble) -> bool {
    matches!(trouble, Trouble::Status { status: 400 | 401 | 403 | 404 | 410, .. })
}
