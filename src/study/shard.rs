//! Shards of a cell: which layers go where, and the Grams of all shards put together again. Refuses shards of different
//! inputs, gaps and overlaps. Plain data, no I/O; the caller converts to and from its own Gram.
//!
//! Whole layers go to a shard, so that each layer's Gram is the same to the bit however many shards there are. Pieces of
//! one layer can be merged too; they are added in the order of their first element, whatever order they arrive in.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One shard of a task: `index` of `of`, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ShardId {
    /// Which, from 0.
    pub index: u32,
    /// Of how many, at least 1.
    pub of: u32,
}

/// A text that is not a shard.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is not a shard: write i/N with i from 1 to N, such as 3/16")]
pub struct ShardIdError {
    text: String,
}

impl FromStr for ShardId {
    type Err = ShardIdError;

    /// Parses what people write: `3/16`, the third of sixteen.
    fn from_str(text: &str) -> Result<Self, ShardIdError> {
        let parsed = text.split_once('/').and_then(|(index, of)| Some((index.parse().ok()?, of.parse().ok()?)));
        match parsed {
            Some((number, of)) if (1..=of).contains(&number) => Ok(Self { index: number - 1, of }),
            _ => Err(ShardIdError { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index + 1, self.of)
    }
}

/// The Gram of a layer, or of a piece of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerGram {
    /// Name in the state dict.
    pub layer: String,
    /// Position among the layers that take part, which fixes the order of the merged result.
    pub position: usize,
    /// Parameters of the whole layer.
    pub parameters: u64,
    /// The elements of the layer that were summed over: first, and one past the last.
    pub elements: (u64, u64),
    /// n × n inner products, row-major.
    pub values: Vec<f64>,
}

/// What one shard computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShardResult {
    /// The task, as in the plan.
    pub task: String,
    /// The task's hash of inputs.
    pub inputs: String,
    /// Which shard.
    pub shard: ShardId,
    /// Task vectors n.
    pub seeds: usize,
    /// What it computed; may be nothing.
    pub layers: Vec<LayerGram>,
}

/// Shards that do not fit together.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum MergeError {
    /// No shards at all.
    #[error("there are no shards to merge")]
    Nothing,
    /// A shard of another task, of other inputs, or of another split.
    #[error("shard {shard} of `{task}` belongs to another {what}")]
    Foreign {
        /// The shard.
        shard: ShardId,
        /// Its task.
        task: String,
        /// What differs.
        what: &'static str,
    },
    /// Not every shard is here exactly once.
    #[error("shard {shard} of `{task}` is {}", if *twice { "here twice" } else { "missing" })]
    Incomplete {
        /// The shard.
        shard: ShardId,
        /// Its task.
        task: String,
        /// Whether it is here twice rather than missing.
        twice: bool,
    },
    /// The pieces of a layer do not cover it exactly once.
    #[error("the pieces of layer `{layer}` of `{task}` do not cover it exactly once")]
    Pieces {
        /// The layer.
        layer: String,
        /// The task.
        task: String,
    },
    /// A Gram of another size than n × n.
    #[error("layer `{layer}` of `{task}` has {found} values where {expected} belong")]
    WrongSize {
        /// The layer.
        layer: String,
        /// The task.
        task: String,
        /// n × n.
        expected: usize,
        /// What came.
        found: usize,
    },
}

/// Splits layers of these sizes, in their order, into `shards` runs of neighbours so that the largest run is as small as
/// it can be. Neighbours, because they lie next to each other in the file: a shard's bytes are few ranges. Exactly
/// `shards` ranges come back, later ones possibly empty; the same sizes always give the same split.
pub fn split(bytes: &[u64], shards: u32) -> Vec<Range<usize>> {
    // Wide sums: two sizes can exceed 64 bits.
    let (mut least, mut most) = (u128::from(bytes.iter().copied().max().unwrap_or(0)), total(bytes));
    while least < most {
        let middle = least + (most - least) / 2;
        if runs(bytes, middle).len() <= shards as usize {
            most = middle;
        } else {
            least = middle + 1;
        }
    }
    let mut ranges = runs(bytes, least);
    let end = bytes.len();
    ranges.resize(shards as usize, end..end);
    ranges
}

fn total(bytes: &[u64]) -> u128 {
    bytes.iter().map(|&size| u128::from(size)).sum()
}

/// Neighbours gathered greedily up to `capacity`, which no single size exceeds.
fn runs(bytes: &[u64], capacity: u128) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let (mut start, mut sum) = (0, 0u128);
    for (at, &size) in bytes.iter().enumerate() {
        if at > start && sum + u128::from(size) > capacity {
            ranges.push(start..at);
            (start, sum) = (at, 0);
        }
        sum += u128::from(size);
    }
    if start < bytes.len() {
        ranges.push(start..bytes.len());
    }
    ranges
}

/// Puts the shards of one task together: whole layers in the order of the model.
///
/// # Errors
/// [`MergeError`] when a shard is missing, twice, or of something else, or a layer is not covered exactly once.
pub fn merge(mut results: Vec<ShardResult>) -> Result<Vec<LayerGram>, MergeError> {
    results.sort_by_key(|result| result.shard);
    let Some(first) = results.first() else { return Err(MergeError::Nothing) };
    let (task, inputs, of, seeds) = (first.task.clone(), first.inputs.clone(), first.shard.of, first.seeds);
    let mut expected = (0..of).map(|index| ShardId { index, of });
    for result in &results {
        let differs = [
            ("task", result.task != task),
            ("set of inputs", result.inputs != inputs),
            ("split", result.shard.of != of),
            ("number of seeds", result.seeds != seeds),
        ];
        if let Some((what, _)) = differs.into_iter().find(|(_, differs)| *differs) {
            return Err(MergeError::Foreign { shard: result.shard, task: result.task.clone(), what });
        }
        match expected.next() {
            Some(shard) if shard == result.shard => {}
            Some(shard) if shard < result.shard => return Err(MergeError::Incomplete { shard, task, twice: false }),
            _ => return Err(MergeError::Incomplete { shard: result.shard, task, twice: true }),
        }
    }
    if let Some(shard) = expected.next() {
        return Err(MergeError::Incomplete { shard, task, twice: false });
    }
    let mut pieces: Vec<LayerGram> = results.into_iter().flat_map(|result| result.layers).collect();
    let size = seeds.saturating_mul(seeds);
    if let Some(wrong) = pieces.iter().find(|piece| piece.values.len() != size) {
        let (layer, found) = (wrong.layer.clone(), wrong.values.len());
        return Err(MergeError::WrongSize { layer, task, expected: size, found });
    }
    pieces.sort_by_key(|piece| (piece.position, piece.elements));
    gather(pieces).map_err(|layer| MergeError::Pieces { layer, task })
}

/// Adds up the pieces of each layer, which come sorted; names the layer that is not covered exactly once.
fn gather(pieces: Vec<LayerGram>) -> Result<Vec<LayerGram>, String> {
    let mut layers: Vec<LayerGram> = Vec::new();
    let whole = |layer: &LayerGram| layer.elements == (0, layer.parameters);
    for piece in pieces {
        match layers.last_mut() {
            Some(layer) if layer.position == piece.position => {
                let continues = piece.elements.0 == layer.elements.1 && piece.elements.0 < piece.elements.1;
                if !continues || layer.layer != piece.layer || layer.parameters != piece.parameters {
                    return Err(piece.layer);
                }
                layer.elements.1 = piece.elements.1;
                for (sum, value) in layer.values.iter_mut().zip(&piece.values) {
                    *sum += value;
                }
            }
            Some(layer) if !whole(layer) => return Err(layer.layer.clone()),
            _ => layers.push(piece),
        }
    }
    match layers.iter().find(|layer| !whole(layer)) {
        Some(layer) => Err(layer.layer.clone()),
        None => Ok(layers),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn layer(position: usize, parameters: u64, elements: (u64, u64), value: f64) -> LayerGram {
        LayerGram { layer: format!("layer{position}"), position, parameters, elements, values: vec![value; 4] }
    }

    fn result(index: u32, of: u32, layers: Vec<LayerGram>) -> ShardResult {
        ShardResult { task: "m@d".to_owned(), inputs: "i".to_owned(), shard: ShardId { index, of }, seeds: 2, layers }
    }

    #[test]
    fn shards_are_written_from_one() {
        assert_eq!("3/16".parse(), Ok(ShardId { index: 2, of: 16 }));
        assert_eq!(ShardId { index: 2, of: 16 }.to_string(), "3/16");
        for text in ["0/4", "5/4", "1", "a/b", "1/0", "-1/3", ""] {
            assert!(text.parse::<ShardId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_split_is_as_even_as_neighbours_allow() {
        assert_eq!(split(&[1, 1, 1, 1], 2), [0..2, 2..4]);
        assert_eq!(split(&[100, 1, 1, 1], 2), [0..1, 1..4]);
        assert_eq!(split(&[5], 3), [0..1, 1..1, 1..1]);
        assert_eq!(split(&[], 2), [0..0, 0..0]);
        assert_eq!(split(&[0, 0], 1), std::slice::from_ref(&(0..2)));
        assert_eq!(split(&[u64::MAX, u64::MAX], 2), [0..1, 1..2]);
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let a = || result(0, 2, vec![layer(0, 3, (0, 3), 1.0)]);
        let b = || result(1, 2, vec![layer(1, 3, (0, 3), 1.0)]);
        assert_eq!(merge(vec![b(), a()]).unwrap().len(), 2);
        assert_eq!(merge(vec![]), Err(MergeError::Nothing));
        assert!(matches!(merge(vec![a()]), Err(MergeError::Incomplete { twice: false, .. })));
        assert!(matches!(merge(vec![b()]), Err(MergeError::Incomplete { twice: false, .. })));
        assert!(matches!(merge(vec![a(), a(), b()]), Err(MergeError::Incomplete { twice: true, .. })));
        let other = ShardResult { inputs: "j".to_owned(), ..b() };
        assert!(matches!(merge(vec![a(), other]), Err(MergeError::Foreign { what: "set of inputs", .. })));
        let gap = result(1, 2, vec![layer(1, 3, (1, 3), 1.0)]);
        assert!(matches!(merge(vec![a(), gap]), Err(MergeError::Pieces { .. })));
        let overlap = result(1, 2, vec![layer(0, 3, (0, 3), 1.0)]);
        assert!(matches!(merge(vec![a(), overlap]), Err(MergeError::Pieces { .. })));
        let mut short = b();
        short.layers[0].values.pop();
        assert!(matches!(merge(vec![a(), short]), Err(MergeError::WrongSize { expected: 4, found: 3, .. })));
        let overflow = ShardResult { seeds: usize::MAX, ..result(0, 1, vec![layer(0, 3, (0, 3), 1.0)]) };
        assert!(matches!(merge(vec![overflow]), Err(MergeError::WrongSize { .. })));
    }

    proptest! {
        #[test]
        fn a_split_covers_everything_once(bytes in proptest::collection::vec(0u64..1000, 0..40), shards in 1u32..12) {
            let ranges = split(&bytes, shards);
            prop_assert_eq!(ranges.len(), shards as usize);
            let mut next = 0;
            for range in &ranges {
                prop_assert_eq!(range.start, next);
                next = range.end;
            }
            prop_assert_eq!(next, bytes.len());
            // No larger than the classic bound: an even share plus one layer.
            let largest = ranges.iter().map(|range| bytes[range.clone()].iter().sum::<u64>()).max().unwrap_or(0);
            let bound = bytes.iter().sum::<u64>() / u64::from(shards) + bytes.iter().max().unwrap_or(&0);
            prop_assert!(largest <= bound);
        }

        #[test]
        fn a_merge_does_not_depend_on_arrival(
            values in proptest::collection::vec(-1e6f64..1e6, 12),
            order in Just((0..12usize).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            // Three layers in four pieces each, one piece a shard.
            let shard = |at: usize| {
                let first = (at % 4) as u64;
                result(at as u32, 12, vec![layer(at / 4, 4, (first, first + 1), values[at])])
            };
            let sorted = merge((0..12).map(shard).collect()).unwrap();
            let shuffled = merge(order.into_iter().map(shard).collect()).unwrap();
            prop_assert_eq!(&sorted, &shuffled);
            let sum = values[0] + values[1] + values[2] + values[3];
            prop_assert_eq!(sorted[0].values[0].to_bits(), sum.to_bits());
        }
    }
}
