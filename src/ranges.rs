//! Sets of byte ranges: which parts of a file are here, which are missing, and what to ask for in one request. Pure.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Bytes of a file, as ranges in order that neither overlap nor touch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub struct RangeSet(Vec<Range<u64>>);

impl RangeSet {
    /// Adds the bytes of `range`; an empty one adds nothing.
    pub fn insert(&mut self, range: Range<u64>) {
        if range.start >= range.end {
            return;
        }
        let first = self.0.partition_point(|held| held.end < range.start);
        let behind = self.0.partition_point(|held| held.start <= range.end);
        let touched = self.0.get(first..behind).unwrap_or_default();
        let start = touched.first().map_or(range.start, |held| held.start.min(range.start));
        let end = touched.last().map_or(range.end, |held| held.end.max(range.end));
        self.0.splice(first..behind, std::iter::once(start..end));
    }

    /// Whether every byte of `range` is in the set; an empty one always is.
    pub fn contains(&self, range: &Range<u64>) -> bool {
        let behind = self.0.partition_point(|held| held.start <= range.start);
        let held = behind.checked_sub(1).and_then(|at| self.0.get(at));
        range.start >= range.end || held.is_some_and(|held| range.end <= held.end)
    }

    /// The bytes of `range` that are not in the set.
    pub fn missing(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let first = self.0.partition_point(|held| held.end <= range.start);
        let mut missing = Vec::new();
        let mut at = range.start;
        for held in self.0.get(first..).unwrap_or_default().iter().take_while(|held| held.start < range.end) {
            if at < held.start {
                missing.push(at..held.start);
            }
            at = held.end;
        }
        if at < range.end {
            missing.push(at..range.end);
        }
        missing
    }

    /// How many bytes there are.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|held| held.end - held.start).sum()
    }

    /// The byte behind the last; 0 when there is none.
    pub fn end(&self) -> u64 {
        self.0.last().map_or(0, |held| held.end)
    }

    /// The ranges in order.
    pub fn iter(&self) -> impl Iterator<Item = &Range<u64>> {
        self.0.iter()
    }
}

impl FromIterator<Range<u64>> for RangeSet {
    fn from_iter<I: IntoIterator<Item = Range<u64>>>(ranges: I) -> Self {
        let mut set = Self::default();
        ranges.into_iter().for_each(|range| set.insert(range));
        set
    }
}

impl From<Vec<(u64, u64)>> for RangeSet {
    fn from(pairs: Vec<(u64, u64)>) -> Self {
        pairs.into_iter().map(|(start, end)| start..end).collect()
    }
}

impl From<RangeSet> for Vec<(u64, u64)> {
    fn from(set: RangeSet) -> Self {
        set.0.into_iter().map(|range| (range.start, range.end)).collect()
    }
}

/// What to ask for so that every byte of `wanted` is here: ranges with at most `gap` bytes between them become one, and
/// none is longer than `most`. Bytes in the gaps are asked for although nobody wants them: a request costs more.
pub fn requests(present: &RangeSet, wanted: &[Range<u64>], (gap, most): (u64, u64)) -> Vec<Range<u64>> {
    let missing: RangeSet = wanted.iter().flat_map(|range| present.missing(range)).collect();
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in missing.0 {
        match joined.last_mut() {
            Some(last) if range.start - last.end <= gap => last.end = range.end,
            _ => joined.push(range),
        }
    }
    let most = most.max(1);
    let split = |range: Range<u64>| {
        let end = range.end;
        (range.start..end)
            .step_by(usize::try_from(most).unwrap_or(usize::MAX))
            .map(move |start| start..end.min(start.saturating_add(most)))
    };
    joined.into_iter().flat_map(split).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::single_range_in_vec_init, reason = "a list of one range is meant")]

    use super::*;
    use proptest::prelude::*;

    const LEN: u64 = 64;

    fn some_ranges() -> impl Strategy<Value = Vec<Range<u64>>> {
        proptest::collection::vec((0..LEN, 0..LEN).prop_map(|(a, b)| a.min(b)..a.max(b)), 0..12)
    }

    /// The same set, byte by byte.
    fn bytes(ranges: &[Range<u64>]) -> Vec<bool> {
        (0..LEN).map(|byte| ranges.iter().any(|range| range.contains(&byte))).collect()
    }

    #[test]
    fn ranges_that_touch_become_one() {
        let set: RangeSet = [4..6, 0..2, 2..4, 9..9, 10..12].into_iter().collect();
        assert_eq!(set.iter().cloned().collect::<Vec<_>>(), [0..6, 10..12]);
        assert_eq!((set.bytes(), set.end()), (8, 12));
        assert_eq!(set.missing(&(1..20)), [6..10, 12..20]);
        let text = serde_json::to_string(&set).unwrap();
        assert_eq!(text, "[[0,6],[10,12]]");
        assert_eq!(serde_json::from_str::<RangeSet>("[[10,12],[5,6],[7,3],[0,5]]").unwrap(), set);
    }

    #[test]
    fn near_ranges_are_one_request_and_long_ones_are_several() {
        let present: RangeSet = std::iter::once(0..10).collect();
        assert_eq!(requests(&present, &[0..12, 15..18, 30..31], (3, 100)), [10..18, 30..31]);
        assert_eq!(requests(&present, &[8..25], (0, 7)), [10..17, 17..24, 24..25]);
        assert_eq!(requests(&present, &[2..9], (3, 7)), []);
    }

    proptest! {
        #[test]
        fn a_set_is_what_was_put_into_it(ranges in some_ranges(), probe in (0..LEN, 0..LEN)) {
            let set: RangeSet = ranges.iter().cloned().collect();
            let held = bytes(&ranges);
            prop_assert_eq!(bytes(&set.0), held.clone());
            prop_assert!(set.0.windows(2).all(|pair| pair[0].end < pair[1].start));
            let probe = probe.0.min(probe.1)..probe.0.max(probe.1);
            let inside = |byte: &u64| held[*byte as usize];
            prop_assert_eq!(set.contains(&probe), probe.clone().all(|byte| inside(&byte)));
            let missing = bytes(&set.missing(&probe));
            let expected: Vec<bool> = (0..LEN).map(|byte| probe.contains(&byte) && !inside(&byte)).collect();
            prop_assert_eq!(missing, expected);
        }

        #[test]
        fn requests_bring_all_that_is_missing_and_little_else(
            present in some_ranges(), wanted in some_ranges(), gap in 0u64..9, most in 1u64..30,
        ) {
            let present: RangeSet = present.into_iter().collect();
            let asked = requests(&present, &wanted, (gap, most));
            prop_assert!(asked.iter().all(|range| range.start < range.end && range.end - range.start <= most));
            prop_assert!(asked.windows(2).all(|pair| pair[0].end <= pair[1].start));
            let mut then = present.clone();
            asked.iter().cloned().for_each(|range| then.insert(range));
            prop_assert!(wanted.iter().all(|range| then.contains(range)));
            let missing: RangeSet = wanted.iter().flat_map(|range| present.missing(range)).collect();
            // Each range that is missing adds at most one gap.
            let extra = asked.iter().map(|range| range.end - range.start).sum::<u64>() - missing.bytes();
            prop_assert!(extra <= gap * missing.iter().count().saturating_sub(1) as u64);
        }
    }
}
