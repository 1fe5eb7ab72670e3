//! Weights as checkpoints hold them, in place, and the loops that widen them to `f64`. No I/O of its own: reading them may
//! touch mapped pages.

use half::{bf16, f16};
use pulp::{Simd, WithSimd};

use crate::analysis::kernel::Kernel;
use crate::tensor::TensorView;

/// A block of a tensor's elements in place, of a dtype that models are trained in.
#[derive(Debug, Clone, Copy)]
pub(super) enum Weights<'v> {
    F64(&'v [f64]),
    F32(&'v [f32]),
    F16(&'v [f16]),
    Bf16(&'v [bf16]),
}

impl<'v> Weights<'v> {
    /// `count` elements from `start` on; `None` for other dtypes, or where they do not lie so in the file.
    pub(super) fn of(view: &'v TensorView<'_>, start: usize, count: usize) -> Option<Self> {
        let block = start..start + count;
        None.or_else(|| Some(Self::F32(view.as_f32()?.get(block.clone())?)))
            .or_else(|| Some(Self::F64(view.as_f64()?.get(block.clone())?)))
            .or_else(|| Some(Self::F16(view.as_f16()?.get(block.clone())?)))
            .or_else(|| Some(Self::Bf16(view.as_bf16()?.get(block)?)))
    }
}

impl Kernel {
    /// `out = x`.
    pub(super) fn widen(self, x: Weights<'_>, out: &mut [f64]) {
        match x {
            Weights::F64(x) => out.copy_from_slice(x),
            Weights::F32(x) => self.0.dispatch(Widen { x, out }),
            Weights::F16(x) => self.0.dispatch(Widen { x, out }),
            Weights::Bf16(x) => self.0.dispatch(Widen { x, out }),
        }
    }

    /// `out = x − base`. Tells whether all of it is 0.
    pub(super) fn subtract(self, x: Weights<'_>, base: &[f64], out: &mut [f64]) -> bool {
        match x {
            Weights::F64(x) => self.0.dispatch(Subtract { x, base, out }),
            Weights::F32(x) => self.0.dispatch(Subtract { x, base, out }),
            Weights::F16(x) => self.0.dispatch(Subtract { x, base, out }),
            Weights::Bf16(x) => self.0.dispatch(Subtract { x, base, out }),
        }
    }
}

/// One weight. Widened without a branch, so that the loops become vector instructions of any set.
trait Weight: Copy {
    fn wide(self) -> f64;
}

impl Weight for f64 {
    #[inline(always)]
    fn wide(self) -> f64 {
        self
    }
}

impl Weight for f32 {
    #[inline(always)]
    fn wide(self) -> f64 {
        self.into()
    }
}

impl Weight for bf16 {
    #[inline(always)]
    fn wide(self) -> f64 {
        f32::from_bits(u32::from(self.to_bits()) << 16).into()
    }
}

impl Weight for f16 {
    /// Its fraction and exponent moved to those of an `f32` are 2¹¹² too small, subnormal numbers too; infinity and NaN
    /// then lack some bits of the exponent.
    #[inline(always)]
    fn wide(self) -> f64 {
        const REBIAS: f32 = f32::from_bits((127 + 112) << 23);
        let bits = u32::from(self.to_bits());
        let size = f32::from_bits((bits & 0x7fff) << 13) * REBIAS;
        let special = if bits & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
        f32::from_bits(size.to_bits() | special | (bits & 0x8000) << 16).into()
    }
}

struct Widen<'a, W> {
    x: &'a [W],
    out: &'a mut [f64],
}

impl<W: Weight> WithSimd for Widen<'_, W> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (out, &x) in self.out.iter_mut().zip(self.x) {
            *out = x.wide();
        }
    }
}

struct Subtract<'a, W> {
    x: &'a [W],
    base: &'a [f64],
    out: &'a mut [f64],
}

impl<W: Weight> WithSimd for Subtract<'_, W> {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> bool {
        let mut bits = 0;
        for ((out, &x), &base) in self.out.iter_mut().zip(self.x).zip(self.base) {
            let difference = x.wide() - base;
            bits |= difference.to_bits();
            *out = difference;
        }
        bits == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_is_widened_exactly() {
        for bits in 0..=u16::MAX {
            let (half, brain) = (f16::from_bits(bits), bf16::from_bits(bits));
            for (ours, theirs) in [(half.wide(), half.to_f64()), (brain.wide(), brain.to_f64())] {
                assert!(ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(), "{bits:04x}");
            }
        }
    }

    #[test]
    fn differences_are_made_in_f64_and_told_apart_from_none() {
        let (base, mut out) = ([0.1; 19], [7.0; 19]);
        let kernel = Kernel::detect();
        assert!(kernel.subtract(Weights::F64(&base), &base, &mut out));
        assert_eq!(out, [0.0; 19]);
        for at in 0..19 {
            let mut x = base;
            x[at] = 0.1 + 1e-16;
            assert!(!kernel.subtract(Weights::F64(&x), &base, &mut out));
            assert_eq!((out[at], out.iter().filter(|&&x| x != 0.0).count()), (x[at] - 0.1, 1));
            x[at] = f64::NAN;
            assert!(!kernel.subtract(Weights::F64(&x), &base, &mut out));
        }
        assert!(!kernel.subtract(Weights::F32(&[0.1f32; 19]), &base, &mut out));
        assert_eq!(out, [f64::from(0.1f32) - 0.1; 19]);
    }
}
