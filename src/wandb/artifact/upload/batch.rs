//! How many files one request for addresses names: few at first, then as many as go through in a minute. The official
//! client's numbers (`core/pkg/artifacts/saver.go`). No I/O.

use std::time::Duration;

/// Requests at the same time, with the transfers that follow from them.
pub(super) const BATCHES: usize = 5;
const SMALLEST: usize = 25;
const LARGEST: usize = 2000;
/// So much must have happened before the rate means anything.
const WARM_FILES: usize = 128;
const WARM_TIME: Duration = Duration::from_secs(1);

/// Size of the next batch, when `done` files went through in `elapsed`.
pub(super) fn size(done: usize, elapsed: Duration) -> usize {
    if done < WARM_FILES || elapsed < WARM_TIME {
        return SMALLEST;
    }
    let per_minute = done as f64 * 60.0 / elapsed.as_secs_f64();
    (per_minute as usize).clamp(SMALLEST, LARGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_grow_with_the_rate() {
        for (done, millis, expected) in [
            (0, 0, 25),
            (127, 60_000, 25),
            (1000, 999, 25),
            (128, 1000, 2000),
            (128, 60_000, 128),
            (200, 120_000, 100),
            (130, 3_600_000, 25),
            (1_000_000, 60_000, 2000),
        ] {
            assert_eq!(size(done, Duration::from_millis(millis)), expected, "{done} in {millis} ms");
        }
    }
}
