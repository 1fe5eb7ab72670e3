//! When to try again: a pure verdict over what happened, and a budget shared by all requests of one operation.
//!
//! The statuses follow the official client (`core/internal/clients/retry_policy.go`): for GraphQL and the file stream
//! every status from 400 on is retried except a fixed list; for objects only 408, 429 and 5xx. `Retry-After` replaces
//! the computed wait. No I/O: time is passed in, randomness is seeded.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tokio::time::Instant;

/// What kind of request it was: the same status means different things to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Traffic {
    /// GraphQL and the file stream.
    Api,
    /// `upsertBucket`, where a conflict passes.
    Upsert,
    /// Bytes of files, both ways.
    Object,
    /// Exchange of tokens, where a refusal is final.
    Exchange,
}

/// What to do about a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// 2xx: take it.
    Accept,
    /// Passing trouble.
    Retry,
    /// It will not get better.
    Fail,
}

/// The verdict on a status.
pub(super) fn judge(traffic: Traffic, status: u16) -> Verdict {
    match (traffic, status) {
        (_, 200..=299) => Verdict::Accept,
        (_, 501) => Verdict::Fail,
        (Traffic::Exchange, 408 | 425) => Verdict::Fail,
        (_, 408 | 425 | 429 | 500..) => Verdict::Retry,
        (Traffic::Object | Traffic::Exchange, _) => Verdict::Fail,
        (Traffic::Upsert, 409) => Verdict::Retry,
        (_, ..=399 | 400 | 401 | 403 | 404 | 409 | 410 | 413 | 422) => Verdict::Fail,
        (_, _) => Verdict::Retry,
    }
}

/// Reads `Retry-After`: decimal seconds or an HTTP date. Anything else is as if it were not there.
pub(super) fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()?;
    Some(SystemTime::from(date).duration_since(now).unwrap_or_default())
}

/// How long to wait, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    /// Retries that one operation may spend; work that gets through earns them back.
    pub(super) retries: u32,
    /// First wait.
    pub(super) shortest: Duration,
    /// Longest wait that we compute ourselves.
    pub(super) longest: Duration,
    /// Longest `Retry-After` that we obey; a longer one ends the operation.
    pub(super) patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            retries: 20,
            shortest: Duration::from_millis(500),
            longest: Duration::from_secs(30),
            patience: Duration::from_secs(300),
        }
    }
}

/// The retries left to one operation, shared by everything it does at the same time: some for questions to the API, some
/// for bytes of files.
#[derive(Debug)]
pub(super) struct Budget {
    api: Purse,
    objects: Purse,
    random: Mutex<ChaCha8Rng>,
    /// When the whole operation must be over, and the seconds it was given.
    pub(super) deadline: Option<(Instant, u64)>,
}

#[derive(Debug)]
struct Purse {
    pace: Pace,
    left: AtomicU32,
}

impl Purse {
    fn new(pace: Pace) -> Self {
        Self { pace, left: AtomicU32::new(pace.retries) }
    }

    fn earn(&self) {
        let more = |left: u32| (left < self.pace.retries).then_some(left + 1);
        // An update that finds the purse full changes nothing, which is what is wanted.
        let _ = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }
}

impl Budget {
    /// A fresh budget with the pace of the API and that of transfers; `seed` decides the jitter.
    pub(super) fn new((api, objects): (Pace, Pace), total: Option<Duration>, seed: u64) -> Self {
        let deadline = total.map(|total| (Instant::now() + total, total.as_secs_f64().ceil() as u64));
        let random = Mutex::new(ChaCha8Rng::seed_from_u64(seed));
        Self { api: Purse::new(api), objects: Purse::new(objects), random, deadline }
    }

    /// Pays for one retry, the `attempt`-th in a row (from 0): how long to wait, or `None` when there is nothing left.
    pub(super) fn spend(&self, traffic: Traffic, attempt: u32, asked: Option<Duration>) -> Option<Duration> {
        let purse = match traffic {
            Traffic::Object => &self.objects,
            Traffic::Api | Traffic::Upsert | Traffic::Exchange => &self.api,
        };
        let wait = match asked {
            Some(asked) if asked > purse.pace.patience => return None,
            Some(asked) => asked,
            None => self.backoff(purse.pace, attempt),
        };
        if self.deadline.is_some_and(|(deadline, _)| Instant::now() + wait >= deadline) {
            return None;
        }
        purse.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).ok().map(|_| wait)
    }

    /// Something got through: one retry of each kind is earned back.
    pub(super) fn earn(&self) {
        self.api.earn();
        self.objects.earn();
    }

    /// min(longest, shortest * 2^attempt * (1 + U(0, 1/4))).
    fn backoff(&self, pace: Pace, attempt: u32) -> Duration {
        let jitter: f64 = self.random.lock().unwrap_or_else(PoisonError::into_inner).random_range(0.0..0.25);
        let doubled = pace.shortest.as_secs_f64() * 2f64.powi(attempt.min(30) as i32) * (1.0 + jitter);
        pace.longest.min(Duration::try_from_secs_f64(doubled).unwrap_or(pace.longest))
    }
}

/// A seed from the operating system, for jitter and names.
pub(super) fn system_seed() -> u64 {
    ChaCha8Rng::try_from_rng(&mut rand::rngs::SysRng).map_or(0, |mut random| random.next_u64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_table_of_statuses() {
        use Verdict::{Accept, Fail, Retry};
        for (status, api, upsert, object) in [
            (200, Accept, Accept, Accept),
            (204, Accept, Accept, Accept),
            (206, Accept, Accept, Accept),
            (302, Fail, Fail, Fail),
            (400, Fail, Fail, Fail),
            (401, Fail, Fail, Fail),
            (403, Fail, Fail, Fail),
            (404, Fail, Fail, Fail),
            (408, Retry, Retry, Retry),
            (409, Fail, Retry, Fail),
            (410, Fail, Fail, Fail),
            (413, Fail, Fail, Fail),
            (418, Retry, Retry, Fail),
            (422, Fail, Fail, Fail),
            (425, Retry, Retry, Retry),
            (429, Retry, Retry, Retry),
            (500, Retry, Retry, Retry),
            (501, Fail, Fail, Fail),
            (503, Retry, Retry, Retry),
            (599, Retry, Retry, Retry),
        ] {
            let exchange = if matches!(status, 408 | 425) { Fail } else { object };
            assert_eq!(judge(Traffic::Exchange, status), exchange, "{status}");
            assert_eq!(judge(Traffic::Api, status), api, "{status}");
            assert_eq!(judge(Traffic::Upsert, status), upsert, "{status}");
            assert_eq!(judge(Traffic::Object, status), object, "{status}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_767);
        assert_eq!(retry_after(" 1.5 ", now), Some(Duration::from_millis(1500)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(10)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:17 GMT", now), Some(Duration::ZERO));
        for nonsense in ["", "soon", "-1", "NaN", "inf"] {
            assert_eq!(retry_after(nonsense, now), None, "{nonsense}");
        }
    }

    fn fresh(pace: Pace, total: Option<Duration>, seed: u64) -> Budget {
        Budget::new((pace, Pace { retries: 1, ..pace }), total, seed)
    }

    #[test]
    fn a_budget_ends_and_can_be_earned_back() {
        let budget = fresh(Pace { retries: 2, ..Pace::default() }, None, 1);
        assert!(budget.spend(Traffic::Api, 0, None).is_some() && budget.spend(Traffic::Api, 1, None).is_some());
        assert_eq!(budget.spend(Traffic::Api, 2, None), None);
        budget.earn();
        assert!(budget.spend(Traffic::Api, 2, None).is_some());
        assert_eq!(budget.spend(Traffic::Upsert, 2, None), None);
        assert!(budget.spend(Traffic::Object, 0, None).is_some(), "files have retries of their own");
        assert_eq!(budget.spend(Traffic::Object, 1, None), None);
    }

    #[test]
    fn a_wait_longer_than_our_patience_or_the_deadline_is_refused() {
        let budget = fresh(Pace::default(), None, 1);
        assert_eq!(budget.spend(Traffic::Api, 0, Some(Duration::from_secs(301))), None);
        assert_eq!(budget.spend(Traffic::Api, 0, Some(Duration::from_secs(7))), Some(Duration::from_secs(7)));
        let budget = fresh(Pace::default(), Some(Duration::from_secs(5)), 1);
        assert_eq!(budget.spend(Traffic::Api, 0, Some(Duration::from_secs(7))), None);
    }

    proptest! {
        #[test]
        fn waits_double_and_stay_within_bounds(attempt in 0u32..200, seed: u64) {
            let pace = Pace::default();
            let wait = fresh(pace, None, seed).spend(Traffic::Api, attempt, None).unwrap();
            let floor = pace.shortest.as_secs_f64() * 2f64.powi(attempt.min(30) as i32);
            prop_assert!(wait <= pace.longest);
            prop_assert!(wait.as_secs_f64() >= floor.min(pace.longest.as_secs_f64()) - 1e-9);
            prop_assert!(wait.as_secs_f64() <= floor * 1.25 + 1e-9);
        }
    }
}
