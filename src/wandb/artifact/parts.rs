//! Receiving one large object in several parts at once, appended in order. Network I/O.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use reqwest::StatusCode;
use tokio::time::Instant;

use crate::redact::SafeUrl;

use super::super::error::WandbError;
use super::super::retry::{Traffic, Verdict};
use super::super::transport::{Errand, Want};
use super::super::trouble::Trouble;
use super::answer::{judge_answer, strong_etag};
use super::receive::{Receiver, State};

/// Marks, within this file, an answer after which only a fresh start helps.
const CHANGED: u16 = 412;

impl Receiver<'_> {
    /// Asks for all that is missing in parts, several at once, and appends them in order.
    ///
    /// Parts that came early wait in memory: at most as many as there are under way, each at most as long as
    /// [`PartSize`](super::part_size::PartSize) says.
    pub(super) async fn attempt_parts(
        &self,
        state: State,
        url: &SafeUrl,
    ) -> Result<(State, Result<(), Trouble>), WandbError> {
        let (size, next) = (self.job.size, AtomicU64::new(state.partial.len()));
        let unranged = AtomicBool::new(false);
        let known = state.version.clone();
        let ranges = std::iter::from_fn(|| {
            let start = next.load(Ordering::Relaxed);
            let end = start.saturating_add(self.shared.part_size.length()).min(size);
            next.store(end, Ordering::Relaxed);
            (start < end).then_some(start..end)
        });
        let part = |range: Range<u64>| {
            let (known, unranged) = (known.clone(), &unranged);
            async move { self.part_persistently(url, range, (known.as_deref(), unranged)).await }.boxed()
        };
        let mut version = state.version.clone();
        let chunks = stream::iter(ranges.map(part)).buffered(self.window()).map(|part| {
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

    /// One part; trouble that passes is waited out here, so that its neighbours need not start anew.
    async fn part_persistently(
        &self,
        url: &SafeUrl,
        range: Range<u64>,
        proof: (Option<&str>, &AtomicBool),
    ) -> Result<(Bytes, Option<String>), Trouble> {
        let mut attempt = 0;
        loop {
            let begun = Instant::now();
            let trouble = match self.part(url, range.clone(), proof).await {
                Ok(part) => {
                    self.shared.part_size.learn(range.end - range.start, begun.elapsed());
                    return Ok(part);
                }
                Err(trouble) if trouble.verdict(Traffic::Object) == Verdict::Retry => trouble,
                Err(trouble) => return Err(trouble),
            };
            self.shared.part_size.shrink();
            let errand = Errand { traffic: Traffic::Object, what: &self.job.label };
            self.client.transport().pause(self.budget, errand, (trouble, attempt)).await?;
            attempt += 1;
        }
    }

    /// One part, whole, with the version tag it came with; one attempt.
    async fn part(
        &self,
        url: &SafeUrl,
        range: Range<u64>,
        (version, unranged): (Option<&str>, &AtomicBool),
    ) -> Result<(Bytes, Option<String>), Trouble> {
        let want = Want { from: range.start, until: Some(range.end), if_range: version, ..Want::default() };
        let transport = self.client.transport();
        let mut response = transport.get(url, want).await?;
        if response.status() != StatusCode::PARTIAL_CONTENT {
            unranged.store(true, Ordering::Relaxed);
            return Err(changed("the server ignores ranges"));
        }
        let take = judge_answer(response.status(), response.headers(), (range.start, self.job.size), version);
        take.map_err(changed)?;
        let tag = strong_etag(response.headers());
        let length = (range.end - range.start) as usize;
        let mut bytes = BytesMut::with_capacity(length);
        while let Some(chunk) = transport.chunk(&mut response).await? {
            if bytes.len() + chunk.len() > length {
                return Err(changed("a part is longer than asked for"));
            }
            bytes.extend_from_slice(&chunk);
        }
        if bytes.len() < length {
            let message = format!("a part of {} bytes where {length} were asked for", bytes.len());
            return Err(Trouble::Status { status: 503, retry_after: None, message });
        }
        Ok((bytes.freeze(), tag))
    }
}

fn changed(reason: &str) -> Trouble {
    Trouble::Status { status: CHANGED, retry_after: None, message: reason.to_owned() }
}
