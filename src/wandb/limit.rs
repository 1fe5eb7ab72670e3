//! Slowing down before the server says no: what `RateLimit-Remaining` and `RateLimit-Reset` leave is spread over the time
//! until the reset, and a 429 stops everybody, not only whom it met. Pure: time is passed in.
//!
//! The bounds are those of the official client's limiter (`core/internal/api/ratelimit.go`), which it uses for one route
//! only; we use it for all of the API.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Requests that may go at once before they are spread.
const BURST: f64 = 10.0;
/// Requests a second, at least and at most.
const RATES: (f64, f64) = (0.1, 65536.0);
/// A reset further away is a date or a mistake, and a longer silence would look like a hang.
const LONGEST_WINDOW: f64 = 600.0;

/// A limiter for all requests of one client to the API.
#[derive(Debug, Default)]
pub(super) struct Limiter(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    window: Option<Window>,
    /// Nothing is sent before.
    held: Option<Instant>,
}

/// A token bucket that lives until the server counts anew.
#[derive(Debug)]
struct Window {
    ends: Instant,
    per_second: f64,
    tokens: f64,
    at: Instant,
}

impl Limiter {
    /// What the server said with an answer: requests that remain, and seconds until it counts anew.
    pub(super) fn learn(&self, remaining: Option<&str>, reset: Option<&str>, now: Instant) {
        let number = |text: Option<&str>| text?.trim().parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
        let (Some(remaining), Some(reset)) = (number(remaining), number(reset)) else { return };
        if reset > LONGEST_WINDOW {
            return;
        }
        let ends = now + Duration::from_secs_f64(reset);
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if remaining < 1.0 {
            state.hold(ends);
            return;
        }
        let per_second = (remaining / reset.max(0.001)).clamp(RATES.0, RATES.1);
        // What is under way has been promised its turn already; an older answer must not give more than is left.
        let before = state.window.as_ref().filter(|window| window.ends > now).map(|window| window.tokens_at(now));
        let tokens = before.unwrap_or(BURST).min(BURST).min(remaining);
        state.window = Some(Window { ends, per_second, tokens, at: now });
    }

    /// The server wants silence for so long.
    pub(super) fn hold_for(&self, wait: Duration, now: Instant) {
        let wait = wait.min(Duration::from_secs_f64(LONGEST_WINDOW));
        self.0.lock().unwrap_or_else(PoisonError::into_inner).hold(now + wait);
    }

    /// Takes a turn: how long to wait before the request goes out.
    pub(super) fn take(&self, now: Instant) -> Duration {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = state.held.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        let Some(window) = state.window.as_mut().filter(|window| window.ends > now) else {
            state.window = None;
            return held;
        };
        window.tokens = window.tokens_at(now) - 1.0;
        window.at = now;
        let turn = Duration::from_secs_f64((-window.tokens).max(0.0) / window.per_second);
        // When the window is over, everybody may go.
        turn.min(window.ends.saturating_duration_since(now)).max(held)
    }
}

impl State {
    fn hold(&mut self, until: Instant) {
        self.held = Some(self.held.map_or(until, |held| held.max(until)));
    }
}

impl Window {
    fn tokens_at(&self, now: Instant) -> f64 {
        (self.tokens + now.saturating_duration_since(self.at).as_secs_f64() * self.per_second).min(BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn waits(limiter: &Limiter, now: Instant, count: usize) -> Vec<f64> {
        (0..count).map(|_| limiter.take(now).as_secs_f64()).collect()
    }

    #[test]
    fn without_a_word_from_the_server_nobody_waits() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        assert!(waits(&limiter, now, 1000).iter().all(|wait| *wait == 0.0));
        for (remaining, reset) in [(None, None), (Some("5"), None), (Some("x"), Some("1")), (Some("5"), Some("1e9"))] {
            limiter.learn(remaining, reset, now);
        }
        assert!(waits(&limiter, now, 1000).iter().all(|wait| *wait == 0.0));
    }

    #[test]
    fn what_remains_is_spread_until_the_reset() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        limiter.learn(Some("20"), Some("10"), now);
        let waits = waits(&limiter, now, 14);
        assert!(waits[..10].iter().all(|wait| *wait == 0.0), "a burst: {waits:?}");
        assert_eq!(waits[10..], [0.5, 1.0, 1.5, 2.0]);
        assert_eq!(limiter.take(now + Duration::from_secs(11)), Duration::ZERO, "a new window");
    }

    #[test]
    fn nothing_left_means_silence_until_the_reset() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        limiter.learn(Some("0"), Some("3"), now);
        assert_eq!(limiter.take(now), Duration::from_secs(3));
        assert_eq!(limiter.take(now + Duration::from_secs(3)), Duration::ZERO);
        limiter.hold_for(Duration::from_secs(2), now);
        assert_eq!(limiter.take(now), Duration::from_secs(3), "the longer wait stays");
    }

    proptest! {
        /// Within one window no more requests go out than the server has left.
        #[test]
        fn no_more_go_out_than_remain(remaining in 1u32..200, reset in 1u32..100, count in 1usize..400) {
            let (limiter, now) = (Limiter::default(), Instant::now());
            limiter.learn(Some(&remaining.to_string()), Some(&reset.to_string()), now);
            let window = f64::from(reset);
            let within = waits(&limiter, now, count).into_iter().filter(|wait| *wait < window * 0.999).count();
            prop_assert!(within as f64 <= f64::from(remaining) + BURST + 1.0);
        }

        #[test]
        fn no_header_panics(remaining: String, reset: String, number: f64) {
            let limiter = Limiter::default();
            limiter.learn(Some(&remaining), Some(&reset), Instant::now());
            limiter.learn(Some(&number.to_string()), Some(&number.to_string()), Instant::now());
            let _ = limiter.take(Instant::now());
        }
    }
}
