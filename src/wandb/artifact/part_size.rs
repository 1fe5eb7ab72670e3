//! How long the parts of a file are that is received in several at once: about a second's worth of one connection, within
//! bounds. No I/O; time is passed in.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// All parts that wait in memory for their turn, over all files of a client.
const MEMORY: u64 = 24 << 20;
/// Shorter parts are mostly waiting for the server's first byte.
const LEAST: u64 = 1 << 20;
/// What one part should take.
const AIM: f64 = 1.0;

/// The length of the next part, learned from those before it. Shared by all files of a download.
#[derive(Debug)]
pub(super) struct PartSize {
    now: AtomicU64,
    least: u64,
    most: u64,
}

impl PartSize {
    /// For up to `parts` parts at once, none longer than `most`.
    pub(super) fn new(parts: usize, most: u64) -> Self {
        let most = most.min(MEMORY / parts.max(1) as u64).max(1);
        let least = LEAST.min(most);
        Self { now: AtomicU64::new(least), least, most }
    }

    /// Length of the next part, in bytes.
    pub(super) fn length(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    /// A part of `bytes` bytes took so long: the next ones go halfway to what would have taken a second.
    pub(super) fn learn(&self, bytes: u64, took: Duration) {
        let ideal = bytes as f64 / took.as_secs_f64().max(1e-6) * AIM;
        let halfway = (self.length() as f64 + ideal) / 2.0;
        self.now.store((halfway as u64).clamp(self.least, self.most), Ordering::Relaxed);
    }

    /// A part failed: less will be lost next time.
    pub(super) fn shrink(&self) {
        self.now.store((self.length() / 2).max(self.least), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_grow_on_fast_lines_shrink_on_slow_ones_and_stay_within_memory() {
        let size = PartSize::new(4, 4 << 20);
        assert_eq!(size.length(), LEAST);
        size.learn(LEAST, Duration::from_millis(1));
        assert_eq!(size.length(), 4 << 20);
        size.learn(4 << 20, Duration::from_secs(2));
        assert_eq!(size.length(), 3 << 20);
        size.shrink();
        assert_eq!(size.length(), 3 << 19);
        for _ in 0..20 {
            size.learn(1000, Duration::from_secs(1));
            size.shrink();
        }
        assert_eq!(size.length(), LEAST);
        for parts in [1usize, 8, 64, 1000] {
            let size = PartSize::new(parts, 4 << 20);
            size.learn(u64::MAX, Duration::ZERO);
            assert!(size.length() * parts as u64 <= MEMORY.max(parts as u64), "{parts}");
        }
    }
}
