//! The largest parameters of task vectors, exactly and without keeping or sorting all: which size the smallest of the
//! largest share has, and what these hold. No I/O of its own.
//!
//! A sample says between which two sizes the one that is sought lies most likely. A pass counts what is above and, in a few
//! bins, what is between; the bin that has the rank is the next guess. Where few values are left, a last pass collects them.
//! Where the sample was wrong, or where a bin keeps many values that differ, there is one more pass. Sizes are compared as
//! the bits of their `f64`, which have the same order.

use rayon::prelude::*;

use crate::analysis::kernel::{Kernel, Tile};
use crate::analysis::scan::{Above, BOUNDS, Bounds};
use crate::analysis::task_vector::Base;
use crate::analysis::{AnalysisError, TaskVectors};

/// Most columns of a sample, of which the sizes are kept one by one for a moment.
const SAMPLE: usize = 1 << 15;
/// Most values of a sample of all seeds: 8 MiB.
const SAMPLE_VALUES: usize = 1 << 20;
/// Neighbouring columns of a sample: a few cache lines of each checkpoint.
const BLOCK: usize = 64;
/// How many standard errors the guess reaches to both sides: one in ten thousand is wrong, and costs a pass.
const ERRORS: f64 = 4.0;
/// Bins between two bounds.
const BINS: u64 = 128;
/// As many values of one seed are collected one by one.
const FEW: u64 = 1 << 13;
/// The bits of infinity: beyond all sizes.
const BEYOND: u64 = 0x7ff0_0000_0000_0000;

/// ⌈share · parameters⌉.
pub(super) fn count_of(share: f64, parameters: u64) -> u64 {
    ((share * parameters as f64).ceil() as u64).min(parameters)
}

/// Where the smallest of the largest `rank` sizes of one task vector lies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cut {
    rank: u64,
    /// It has these bits or more,
    low: u64,
    /// and fewer than these.
    high: u64,
    above: Above,
    /// How many values lie between; unknown before the first pass.
    between: Option<u64>,
}

impl Cut {
    /// Whether it has only this one value, or few are left.
    pub(super) fn is_narrow(&self) -> bool {
        self.rank == 0 || self.between.is_some_and(|between| between <= FEW || self.high == self.low + 1)
    }

    /// What a pass looks for. Once it is known, nothing is left between.
    pub(super) fn bounds(&self) -> Bounds {
        let (low, high) = match (self.rank, self.value()) {
            (0, _) => (BEYOND, BEYOND),
            (_, Some(value)) => (value, value),
            (_, None) => (self.low, self.high),
        };
        // All values between are the same where there is room for one only: counting them is enough.
        Bounds { low: f64::from_bits(low), high: f64::from_bits(high), shown: high > low + 1 }
    }

    fn value(&self) -> Option<u64> {
        (self.between.is_some() && self.high == self.low + 1).then_some(self.low)
    }

    fn shift(&self) -> u32 {
        let span = self.high.saturating_sub(self.low).max(1) - 1;
        (u64::BITS - (span / BINS).leading_zeros()).min(u64::BITS - 1)
    }

    /// Narrows it down by what a pass counted.
    pub(super) fn narrow(&mut self, tally: &Tally) {
        let Tally { above, bins } = tally;
        let between = above.from_low - above.count;
        self.between = None;
        if self.rank <= above.count {
            (self.low, self.high) = (self.high, BEYOND);
            return;
        }
        if self.rank > above.count + between {
            (self.low, self.high) = (0, self.low);
            return;
        }
        self.above = *above;
        if self.high == self.low + 1 {
            self.between = Some(between);
            return;
        }
        for bin in bins.iter().rev() {
            if self.rank <= self.above.count + bin.count {
                (self.low, self.high, self.between) = (bin.least, bin.most + 1, Some(bin.count));
                return;
            }
            self.above.count += bin.count;
            self.above.squares += bin.squares;
        }
    }

    /// The smallest of the largest, and their squares; `collected` are the bits of all sizes between the bounds.
    pub(super) fn settle(&self, mut collected: Vec<u64>) -> Largest {
        let inside = self.rank.saturating_sub(self.above.count);
        if self.rank == 0 {
            return Largest { smallest: f64::INFINITY, squares: 0.0 };
        }
        let square = |bits: u64| f64::from_bits(bits).powi(2);
        if let Some(value) = self.value() {
            return Largest {
                smallest: f64::from_bits(value),
                squares: self.above.squares + inside as f64 * square(value),
            };
        }
        collected.sort_unstable_by(|a, b| b.cmp(a));
        collected.truncate(usize::try_from(inside).unwrap_or(usize::MAX));
        let smallest = collected.last().copied().unwrap_or(self.low);
        let squares = self.above.squares + collected.into_iter().map(square).sum::<f64>();
        Largest { smallest: f64::from_bits(smallest), squares }
    }
}

/// The largest parameters of a task vector.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Largest {
    /// Size of the smallest of them.
    pub(super) smallest: f64,
    /// Sum of their squares.
    pub(super) squares: f64,
}

#[derive(Debug, Clone, Copy)]
struct Bin {
    count: u64,
    squares: f64,
    least: u64,
    most: u64,
}

/// What one pass counts for one cut.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    above: Above,
    bins: Vec<Bin>,
}

impl Tally {
    pub(super) fn new() -> Self {
        let empty = Bin { count: 0, squares: 0.0, least: u64::MAX, most: 0 };
        Self { above: Above::default(), bins: vec![empty; BINS as usize] }
    }

    /// Counts values by their number.
    pub(super) fn count(&mut self, above: Above) {
        self.above.count += above.count;
        self.above.squares += above.squares;
        self.above.from_low += above.from_low;
    }

    /// Counts values that are all 0.
    pub(super) fn add_zeros(&mut self, cut: &Cut, count: usize) {
        if cut.bounds().low > 0.0 {
            return;
        }
        self.above.from_low += count as u64;
        if let Some(bin) = self.bins.first_mut().filter(|_| cut.low == 0) {
            bin.count += count as u64;
            bin.least = 0;
        }
    }

    /// Counts a value that is shown, where it lies between the cut's bounds.
    pub(super) fn add(&mut self, cut: &Cut, x: f64) {
        let bits = x.abs().to_bits();
        if bits < cut.low || bits >= cut.high {
            return;
        }
        if let Some(bin) = self.bins.get_mut(((bits - cut.low) >> cut.shift()) as usize) {
            bin.count += 1;
            bin.squares += x * x;
            bin.least = bin.least.min(bits);
            bin.most = bin.most.max(bits);
        }
    }

    /// Adds what was counted elsewhere.
    pub(super) fn merge(&mut self, other: &Self) {
        self.count(other.above);
        for (bin, other) in self.bins.iter_mut().zip(&other.bins) {
            bin.count += other.count;
            bin.squares += other.squares;
            bin.least = bin.least.min(other.least);
            bin.most = bin.most.max(other.most);
        }
    }
}

impl TaskVectors<'_> {
    /// First guesses for each task vector and each of `shares`, from a sample of the columns.
    pub(super) fn guess_cuts(
        &self,
        shares: [f64; BOUNDS],
        kernel: Kernel,
    ) -> Result<Vec<[Cut; BOUNDS]>, AnalysisError> {
        let d = self.parameters();
        let columns = (SAMPLE_VALUES / self.seeds().max(1)).clamp(BLOCK, SAMPLE) / BLOCK * BLOCK;
        let blocks = if d <= columns { d.div_ceil(BLOCK) } else { columns / BLOCK };
        let (mut base, mut tile) = ([0.0; BLOCK], Tile::new(self.seeds(), BLOCK));
        let mut sizes = vec![Vec::with_capacity(blocks * BLOCK); self.seeds()];
        for block in 0..blocks {
            let start = if d <= columns { block * BLOCK } else { place(block as u64, blocks as u64, d as u64) };
            let base = &mut base[..BLOCK.min(d - start)];
            self.fill(kernel, Base::Pretrained, (start, base, start), &mut tile)?;
            for (seed, sizes) in sizes.iter_mut().enumerate() {
                sizes.extend(tile.row(seed).iter().map(|x| x.abs().to_bits()));
            }
        }
        let guess = |mut sizes: Vec<u64>| shares.map(|share| guess(&mut sizes, share, d as u64));
        Ok(sizes.into_par_iter().map(guess).collect())
    }
}

/// Where block `block` of `blocks` starts: somewhere in its part of the columns, so that nothing that repeats along the rows
/// of a matrix falls into step with the sample.
fn place(block: u64, blocks: u64, columns: u64) -> usize {
    let (first, next) = (block * columns / blocks, (block + 1) * columns / blocks);
    let mut mixed = block.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^= mixed >> 31;
    (first + mixed % (next - first).saturating_sub(BLOCK as u64).max(1)) as usize
}

fn guess(sizes: &mut [u64], share: f64, parameters: u64) -> Cut {
    let (rank, m) = (count_of(share, parameters), sizes.len());
    let mut cut = Cut { rank, low: 0, high: BEYOND, above: Above::default(), between: None };
    let Some(last) = m.checked_sub(1).filter(|_| rank > 0) else { return cut };
    // The position among the falling sizes of the sample, and how far it may be off.
    let (at, error) = match m as u64 == parameters {
        true => ((rank - 1) as f64, 0.0),
        false => (share * m as f64, ERRORS * (share * (1.0 - share) * m as f64).sqrt() + 1.0),
    };
    let mut falling = |at: f64| {
        let (_, size, _) = sizes.select_nth_unstable(last - (at as usize).min(last));
        (*size).min(BEYOND - 1)
    };
    if at - error >= 0.0 {
        cut.high = falling(at - error) + 1;
    }
    if at + error <= last as f64 {
        cut.low = falling((at + error).ceil());
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(cut: &mut Cut, values: &[f64]) -> (usize, Largest) {
        let mut passes = 0;
        while !cut.is_narrow() {
            let (bounds, mut tally) = (cut.bounds(), Tally::new());
            for &x in values {
                let (beyond, from_low) = (x.abs() >= bounds.high, x.abs() >= bounds.low);
                let squares = if beyond { x * x } else { 0.0 };
                tally.count(Above { count: beyond.into(), squares, from_low: from_low.into() });
                if bounds.shown {
                    tally.add(cut, x);
                }
            }
            cut.narrow(&tally);
            passes += 1;
            assert!(passes < 20, "{cut:?}");
        }
        let bounds = cut.bounds();
        let between = values.iter().map(|x| x.abs()).filter(|&size| size >= bounds.low && size < bounds.high);
        (passes, cut.settle(between.map(f64::to_bits).collect()))
    }

    /// Numbers in -1..1, and some zeros.
    fn values(count: usize) -> Vec<f64> {
        let value = |at: usize| match at % 11 {
            0 => 0.0,
            _ => ((at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11) as f64 / (1u64 << 52) as f64 - 1.0,
        };
        (0..count).map(value).collect()
    }

    fn sorted(values: &[f64], share: f64) -> Largest {
        let mut sizes: Vec<f64> = values.iter().map(|x| x.abs()).collect();
        sizes.sort_by(|a, b| b.total_cmp(a));
        sizes.truncate(count_of(share, values.len() as u64) as usize);
        let squares = sizes.iter().map(|x| x * x).sum();
        Largest { smallest: sizes.last().copied().unwrap_or(f64::INFINITY), squares }
    }

    fn same(found: Largest, expected: Largest) -> bool {
        found.smallest == expected.smallest && (found.squares - expected.squares).abs() <= 1e-12 * expected.squares
    }

    #[test]
    fn a_wrong_guess_costs_passes_and_no_digit() {
        let all = values(10_000);
        for share in [1e-5, 0.01, 0.2, 0.95, 1.0] {
            let rank = count_of(share, all.len() as u64);
            let sizes = [0.0f64, 1e-9, 0.1, 0.799, 0.801, 0.99, 0.991, 1.5, f64::MAX].map(f64::to_bits);
            for (at, &low) in sizes.iter().enumerate() {
                for high in sizes[at + 1..].iter().copied().chain([low + 1, BEYOND]) {
                    let mut cut = Cut { rank, low, high, above: Above::default(), between: None };
                    let (_, found) = passes(&mut cut, &all);
                    assert!(same(found, sorted(&all, share)), "{share} {low:x} {high:x} {found:?}");
                }
            }
        }
    }

    #[test]
    fn a_guess_from_a_sample_takes_one_pass_and_from_everything_too() {
        let all = values(1 << 20);
        for sample in [all[..SAMPLE].to_vec(), all.clone()] {
            for share in [0.01, 0.1, 0.2] {
                let mut sizes: Vec<u64> = sample.iter().map(|x| x.abs().to_bits()).collect();
                let (took, found) = passes(&mut guess(&mut sizes, share, all.len() as u64), &all);
                assert!(took == 1 && same(found, sorted(&all, share)), "{share}: {took} passes, {found:?}");
            }
        }
        assert_eq!(passes(&mut guess(&mut [], 0.2, 0), &[]).1, Largest { smallest: f64::INFINITY, squares: 0.0 });
    }

    #[test]
    fn blocks_of_a_sample_lie_apart_and_within() {
        for (blocks, columns) in [(512, 32_769), (512, 2_359_296), (16, 25_296_896)] {
            let places: Vec<usize> = (0..blocks).map(|block| place(block, blocks, columns)).collect();
            assert!(places.windows(2).all(|pair| pair[0] + BLOCK <= pair[1]), "{columns}");
            assert!(places.last().unwrap() + BLOCK <= columns as usize);
            let rests: std::collections::HashSet<usize> = places.iter().map(|place| place % 64).collect();
            assert!(columns < 100_000 || rests.len() > 8, "nothing that repeats is met in step");
        }
    }
}
