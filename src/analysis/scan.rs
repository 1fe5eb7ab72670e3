//! One look at every value of a row: how many values are beyond some bounds and how much they hold, which lie between
//! bounds, and which signs their columns have. Compiled for each instruction set as the loops of `kernel` are. No I/O.

use pulp::{Simd, WithSimd};

use crate::analysis::kernel::Kernel;

/// How many bounds are looked at in one go.
pub(super) const BOUNDS: usize = 3;

/// Two bounds on the size of a value. At `high` and beyond it is above; from `low` on and below `high` it is between.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bounds {
    pub(super) low: f64,
    /// At least `low`.
    pub(super) high: f64,
}

/// How many values are above, and their squares.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Above {
    pub(super) count: u64,
    pub(super) squares: f64,
}

/// The smallest and the largest value of each column so far, and 0.
#[derive(Debug, Default)]
pub(super) struct Columns {
    low: Vec<f64>,
    high: Vec<f64>,
}

impl Columns {
    /// So many columns of which nothing was seen.
    pub(super) fn clear(&mut self, width: usize) {
        for side in [&mut self.low, &mut self.high] {
            side.clear();
            side.resize(width, 0.0);
        }
    }

    /// Whether the column has a negative value, and whether it has a positive one.
    pub(super) fn signs(&self, column: usize) -> [bool; 2] {
        [self.low[column] < 0.0, self.high[column] > 0.0]
    }

    /// How many columns have both.
    pub(super) fn conflicts(&self) -> u64 {
        self.low.iter().zip(&self.high).filter(|(low, high)| **low < 0.0 && **high > 0.0).count() as u64
    }
}

impl Kernel {
    /// Looks at the values of a row: adds those above to `above`, shows their columns those that are at least `keep` in
    /// size, and calls `between` with the places of those between any of the bounds, and perhaps of some more.
    pub(super) fn scan(
        self,
        row: &[f64],
        (bounds, keep): (&[Bounds; BOUNDS], f64),
        (above, columns): (&mut [Above; BOUNDS], &mut Columns),
        between: impl FnMut(usize),
    ) {
        self.dispatch(Scan { row, bounds, keep, above, columns, between });
    }
}

struct Scan<'a, F> {
    row: &'a [f64],
    bounds: &'a [Bounds; BOUNDS],
    keep: f64,
    above: &'a mut [Above; BOUNDS],
    columns: &'a mut Columns,
    between: F,
}

impl<F: FnMut(usize)> WithSimd for Scan<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { row, bounds, keep, above, columns, mut between } = self;
        let (row, tail) = S::as_simd_f64s(row);
        let (low, low_tail) = S::as_mut_simd_f64s(&mut columns.low);
        let (high, high_tail) = S::as_mut_simd_f64s(&mut columns.high);
        let [zero, one, threshold] = [0.0, 1.0, keep].map(|x| simd.splat_f64s(x));
        let lows = bounds.map(|bounds| simd.splat_f64s(bounds.low));
        let highs = bounds.map(|bounds| simd.splat_f64s(bounds.high));
        let (mut counts, mut squares) = ([zero; BOUNDS], [zero; BOUNDS]);
        for (at, ((&x, low), high)) in row.iter().zip(low).zip(high).enumerate() {
            let size = simd.abs_f64s(x);
            let mut some = simd.greater_than_f64s(zero, zero);
            for k in 0..BOUNDS {
                let beyond = simd.greater_than_or_equal_f64s(size, highs[k]);
                counts[k] = simd.add_f64s(counts[k], simd.select_f64s(beyond, one, zero));
                squares[k] = simd.mul_add_e_f64s(simd.select_f64s(beyond, size, zero), size, squares[k]);
                let from_low = simd.greater_than_or_equal_f64s(size, lows[k]);
                some = simd.or_m64s(some, simd.xor_m64s(from_low, beyond));
            }
            let kept = simd.select_f64s(simd.greater_than_or_equal_f64s(size, threshold), x, zero);
            *low = simd.min_f64s(*low, kept);
            *high = simd.max_f64s(*high, kept);
            if simd.first_true_m64s(some) < S::F64_LANES {
                (at * S::F64_LANES..(at + 1) * S::F64_LANES).for_each(&mut between);
            }
        }
        for (k, above) in above.iter_mut().enumerate() {
            above.count += simd.reduce_sum_f64s(counts[k]) as u64;
            above.squares += simd.reduce_sum_f64s(squares[k]);
        }
        let first = row.len() * S::F64_LANES;
        for (at, ((&x, low), high)) in tail.iter().zip(low_tail).zip(high_tail).enumerate() {
            let size = x.abs();
            for (bounds, above) in bounds.iter().zip(above.iter_mut()) {
                if size >= bounds.high {
                    above.count += 1;
                    above.squares += size * size;
                }
            }
            let kept = if size >= keep { x } else { 0.0 };
            *low = low.min(kept);
            *high = high.max(kept);
            if bounds.iter().any(|bounds| size >= bounds.low && size < bounds.high) {
                between(first + at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pulp::Arch;

    use super::*;

    #[test]
    fn every_instruction_set_sees_what_a_plain_loop_sees() {
        let mut kernels = vec![Kernel::of(Arch::Scalar), Kernel::of(Arch::new())];
        #[cfg(target_arch = "x86_64")]
        if let Some(v3) = pulp::x86::V3::try_new() {
            kernels.push(Kernel::of(Arch::V3(v3)));
        }
        let bounds = |low, high| Bounds { low, high };
        let bounds = [bounds(3.0, 4.0), bounds(0.0, 1.0), bounds(5.0, 5.0)];
        for kernel in kernels {
            for width in [0, 1, 7, 8, 9, 64, 67] {
                let row = |seed: usize| -> Vec<f64> {
                    (0..width).map(|at| ((at * 7 + seed * 5) % 13) as f64 - 6.0).collect()
                };
                let mut columns = Columns::default();
                columns.clear(width);
                for seed in 0..3 {
                    let row = row(seed);
                    let (mut above, mut between) = ([Above::default(); BOUNDS], Vec::new());
                    kernel.scan(&row, (&bounds, 2.0), (&mut above, &mut columns), |at| between.push(at));
                    for (bounds, above) in bounds.iter().zip(above) {
                        let beyond = || row.iter().filter(|x| x.abs() >= bounds.high);
                        let squares = beyond().map(|x| x * x).sum::<f64>();
                        assert_eq!(above, Above { count: beyond().count() as u64, squares });
                    }
                    between.retain(|&at| bounds.iter().any(|b| row[at].abs() >= b.low && row[at].abs() < b.high));
                    let expected = (0..width).filter(|&at| row[at] == 0.0 || row[at].abs() == 3.0).collect::<Vec<_>>();
                    assert_eq!(between, expected);
                }
                let kept = |at: usize| (0..3).map(move |seed| row(seed)[at]).filter(|x| x.abs() >= 2.0);
                let signs = |at: usize| [kept(at).any(|x| x < 0.0), kept(at).any(|x| x > 0.0)];
                assert!((0..width).all(|at| columns.signs(at) == signs(at)));
                assert_eq!(columns.conflicts(), (0..width).filter(|&at| signs(at) == [true; 2]).count() as u64);
            }
        }
    }
}
