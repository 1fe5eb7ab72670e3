//! One look at every value of a row: how many values are beyond some bounds and how much they hold, which lie between
//! bounds, and which signs their columns have. Compiled for each instruction set as the loops of `kernel` are. No I/O.

use pulp::{Simd, WithSimd, bytemuck};

use crate::analysis::kernel::Kernel;

/// How many bounds are looked at in one go.
pub(super) const BOUNDS: usize = 3;

/// Two bounds on the size of a value. At `high` and beyond it is above; from `low` on and below `high` it is between.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bounds {
    pub(super) low: f64,
    /// At least `low`.
    pub(super) high: f64,
    /// Whether values between are shown one by one.
    pub(super) shown: bool,
}

/// How many values are above, their squares, and how many are above or between.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Above {
    pub(super) count: u64,
    pub(super) squares: f64,
    pub(super) from_low: u64,
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
    /// Looks at the values of a row: adds those above to `above`, shows all to their columns, and calls `between` with the
    /// places of those between bounds, and which bounds these are, a bit each.
    pub(super) fn count(
        self,
        row: &[f64],
        bounds: &[Bounds; BOUNDS],
        (above, columns): (&mut [Above; BOUNDS], &mut Columns),
        between: impl FnMut(usize, u64),
    ) {
        self.dispatch(Scan::<_, true> { row, bounds, keep: 0.0, above, columns, between });
    }

    /// The same without counting, and columns see only values of at least `keep` in size.
    pub(super) fn pick(
        self,
        row: &[f64],
        (bounds, keep): (&[Bounds; BOUNDS], f64),
        columns: &mut Columns,
        between: impl FnMut(usize, u64),
    ) {
        let above = &mut [Above::default(); BOUNDS];
        self.dispatch(Scan::<_, false> { row, bounds, keep, above, columns, between });
    }
}

struct Scan<'a, F, const COUNTS: bool> {
    row: &'a [f64],
    bounds: &'a [Bounds; BOUNDS],
    keep: f64,
    above: &'a mut [Above; BOUNDS],
    columns: &'a mut Columns,
    between: F,
}

impl<F: FnMut(usize, u64), const COUNTS: bool> WithSimd for Scan<'_, F, COUNTS> {
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
        // Nothing is between a bound and itself.
        let from = bounds.map(|bounds| simd.splat_f64s(if bounds.shown { bounds.low } else { bounds.high }));
        let (mut counts, mut from_low, mut squares) = ([zero; BOUNDS], [zero; BOUNDS], [zero; BOUNDS]);
        for (at, ((&x, low), high)) in row.iter().zip(low).zip(high).enumerate() {
            let size = simd.abs_f64s(x);
            let kept = match COUNTS {
                true => x,
                false => simd.select_f64s(simd.greater_than_or_equal_f64s(size, threshold), x, zero),
            };
            *low = simd.min_f64s(*low, kept);
            *high = simd.max_f64s(*high, kept);
            let beyond = highs.map(|high| simd.greater_than_or_equal_f64s(size, high));
            let mut inside = beyond;
            for k in 0..BOUNDS {
                inside[k] = simd.xor_m64s(simd.greater_than_or_equal_f64s(size, from[k]), beyond[k]);
                if COUNTS {
                    let least = simd.greater_than_or_equal_f64s(size, lows[k]);
                    counts[k] = simd.add_f64s(counts[k], simd.select_f64s(beyond[k], one, zero));
                    from_low[k] = simd.add_f64s(from_low[k], simd.select_f64s(least, one, zero));
                    squares[k] = simd.mul_add_e_f64s(simd.select_f64s(beyond[k], size, zero), size, squares[k]);
                }
            }
            let some = simd.or_m64s(simd.or_m64s(inside[0], inside[1]), inside[2]);
            if simd.first_true_m64s(some) < S::F64_LANES {
                let none = simd.splat_u64s(0);
                let mut which = none;
                for (k, inside) in inside.into_iter().enumerate() {
                    which = simd.or_u64s(which, simd.select_u64s(inside, simd.splat_u64s(1 << k), none));
                }
                let which: &[u64] = bytemuck::cast_slice(std::slice::from_ref(&which));
                for (lane, &which) in which.iter().enumerate().filter(|(_, which)| **which != 0) {
                    between(at * S::F64_LANES + lane, which);
                }
            }
        }
        if COUNTS {
            for (k, above) in above.iter_mut().enumerate() {
                above.count += simd.reduce_sum_f64s(counts[k]) as u64;
                above.from_low += simd.reduce_sum_f64s(from_low[k]) as u64;
                above.squares += simd.reduce_sum_f64s(squares[k]);
            }
        }
        let first = row.len() * S::F64_LANES;
        for (at, ((&x, low), high)) in tail.iter().zip(low_tail).zip(high_tail).enumerate() {
            let size = x.abs();
            let kept = if size >= keep { x } else { 0.0 };
            *low = low.min(kept);
            *high = high.max(kept);
            let mut which = 0;
            for (k, (bounds, above)) in bounds.iter().zip(above.iter_mut()).enumerate() {
                let beyond = size >= bounds.high;
                above.count += u64::from(beyond);
                above.from_low += u64::from(size >= bounds.low);
                above.squares += if beyond { size * size } else { 0.0 };
                which |= u64::from(bounds.shown && size >= bounds.low && !beyond) << k;
            }
            if which != 0 {
                between(first + at, which);
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
        let bounds = |low, high, shown| Bounds { low, high, shown };
        let bounds = [bounds(3.0, 5.0, true), bounds(0.0, 1.0, true), bounds(4.0, 5.0, false)];
        for kernel in kernels {
            for width in [0, 1, 7, 8, 9, 64, 67] {
                let row = |seed: usize| -> Vec<f64> {
                    (0..width).map(|at| ((at * 7 + seed * 5) % 13) as f64 - 6.0).collect()
                };
                let (mut all, mut columns) = (Columns::default(), Columns::default());
                all.clear(width);
                columns.clear(width);
                for seed in 0..3 {
                    let row = row(seed);
                    let (mut above, mut between, mut picked) = ([Above::default(); BOUNDS], Vec::new(), Vec::new());
                    kernel.count(&row, &bounds, (&mut above, &mut all), |at, which| between.push((at, which)));
                    kernel.pick(&row, (&bounds, 2.0), &mut columns, |at, which| picked.push((at, which)));
                    for (bounds, above) in bounds.iter().zip(above) {
                        let beyond = || row.iter().filter(|x| x.abs() >= bounds.high);
                        let squares = beyond().map(|x| x * x).sum::<f64>();
                        let from_low = row.iter().filter(|x| x.abs() >= bounds.low).count() as u64;
                        assert_eq!(above, Above { count: beyond().count() as u64, squares, from_low });
                    }
                    let which = |x: f64| match x.abs() {
                        3.0 | 4.0 => 1,
                        0.0 => 2,
                        _ => 0,
                    };
                    let expected: Vec<_> =
                        row.iter().map(|&x| which(x)).enumerate().filter(|pair| pair.1 > 0).collect();
                    assert_eq!((&between, &picked), (&expected, &expected));
                }
                let signs =
                    |at: usize| [(0..3).any(|seed| row(seed)[at] < 0.0), (0..3).any(|seed| row(seed)[at] > 0.0)];
                assert!((0..width).all(|at| all.signs(at) == signs(at)));
                let kept = |at: usize| (0..3).map(move |seed| row(seed)[at]).filter(|x| x.abs() >= 2.0);
                let signs = |at: usize| [kept(at).any(|x| x < 0.0), kept(at).any(|x| x > 0.0)];
                assert!((0..width).all(|at| columns.signs(at) == signs(at)));
                assert_eq!(columns.conflicts(), (0..width).filter(|&at| signs(at) == [true; 2]).count() as u64);
            }
        }
    }
}
