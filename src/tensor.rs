//! Tensors as typed views over bytes: the one language that `checkpoint` and `analysis` share.
//!
//! A [`TensorView`] never copies the bytes it is made from. It knows where its elements lie (dtype, shape, strides,
//! byte order), has been bounds-checked when it exists, and hands elements out block by block in logical row-major
//! order, converted to `f32` or `f64`. No I/O, no numerics.

use std::borrow::Cow;
use std::fmt;

use half::{bf16, f16};

/// Element type of a tensor, named as safetensors names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant is its own name")]
pub enum Dtype {
    F64,
    F32,
    F16,
    Bf16,
    F8E4m3,
    F8E5m2,
    F8E4m3Fnuz,
    F8E5m2Fnuz,
    F8E8m0,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
    C32,
    C64,
    C128,
}

impl Dtype {
    /// Every dtype, for tables and tests.
    pub const ALL: [Self; 21] = [
        Self::F64,
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::F8E4m3,
        Self::F8E5m2,
        Self::F8E4m3Fnuz,
        Self::F8E5m2Fnuz,
        Self::F8E8m0,
        Self::I64,
        Self::I32,
        Self::I16,
        Self::I8,
        Self::U64,
        Self::U32,
        Self::U16,
        Self::U8,
        Self::Bool,
        Self::C32,
        Self::C64,
        Self::C128,
    ];

    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::C128 => 16,
            Self::F64 | Self::I64 | Self::U64 | Self::C64 => 8,
            Self::F32 | Self::I32 | Self::U32 | Self::C32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 | Self::U16 => 2,
            Self::F8E4m3
            | Self::F8E5m2
            | Self::F8E4m3Fnuz
            | Self::F8E5m2Fnuz
            | Self::F8E8m0
            | Self::I8
            | Self::U8
            | Self::Bool => 1,
        }
    }

    /// Real floating point: the dtypes that take part in a task vector.
    pub fn is_float(self) -> bool {
        matches!(
            self,
            Self::F64
                | Self::F32
                | Self::F16
                | Self::Bf16
                | Self::F8E4m3
                | Self::F8E5m2
                | Self::F8E4m3Fnuz
                | Self::F8E5m2Fnuz
                | Self::F8E8m0
        )
    }

    /// Complex: listed, never converted to a real number.
    pub fn is_complex(self) -> bool {
        matches!(self, Self::C32 | Self::C64 | Self::C128)
    }

    /// Bytes of one independently byte-swapped unit: half an element for complex numbers.
    fn swap_unit(self) -> usize {
        if self.is_complex() { self.size() / 2 } else { self.size() }
    }

    /// The safetensors name, such as `BF16`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "F64",
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::F8E4m3 => "F8_E4M3",
            Self::F8E5m2 => "F8_E5M2",
            Self::F8E4m3Fnuz => "F8_E4M3FNUZ",
            Self::F8E5m2Fnuz => "F8_E5M2FNUZ",
            Self::F8E8m0 => "F8_E8M0",
            Self::I64 => "I64",
            Self::I32 => "I32",
            Self::I16 => "I16",
            Self::I8 => "I8",
            Self::U64 => "U64",
            Self::U32 => "U32",
            Self::U16 => "U16",
            Self::U8 => "U8",
            Self::Bool => "BOOL",
            Self::C32 => "C32",
            Self::C64 => "C64",
            Self::C128 => "C128",
        }
    }

    /// The dtype with this safetensors name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == name)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Order of the bytes of one element in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "each variant is its own name")]
pub enum ByteOrder {
    #[default]
    Little,
    Big,
}

/// Why a view could not be made or read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TensorError {
    /// Some element lies outside the storage, or a size does not fit the address space.
    #[error(
        "shape {shape:?} with strides {strides:?} at offset {offset} does not fit a storage of {storage_bytes} bytes of {dtype}"
    )]
    OutOfBounds {
        /// Element type.
        dtype: Dtype,
        /// Logical shape.
        shape: Vec<usize>,
        /// Strides in elements.
        strides: Vec<usize>,
        /// First element, in elements.
        offset: usize,
        /// Bytes that the storage holds.
        storage_bytes: usize,
    },
    /// Complex elements have no real value.
    #[error("{dtype} elements cannot be read as real numbers")]
    NotReal {
        /// Element type.
        dtype: Dtype,
    },
    /// A block beyond the last element was asked for.
    #[error("elements {start}..{end} were asked of a tensor of {len}")]
    BlockOutOfRange {
        /// First element asked for.
        start: usize,
        /// One past the last element asked for.
        end: usize,
        /// Elements in the tensor.
        len: usize,
    },
}

/// A bounds-checked, typed view of one tensor's elements. Borrowing where the file allows it, owning where bytes had to
/// be inflated.
#[derive(Debug, Clone)]
pub struct TensorView<'a> {
    dtype: Dtype,
    shape: Vec<usize>,
    /// Strides in elements; `None` when the elements lie in row-major order without gaps.
    strides: Option<Vec<usize>>,
    /// Storage, cut to start at the first element when contiguous.
    storage: Cow<'a, [u8]>,
    offset: usize,
    order: ByteOrder,
    len: usize,
    crc32: Option<u32>,
}

impl<'a> TensorView<'a> {
    /// A little-endian tensor whose elements fill `bytes` in row-major order.
    ///
    /// # Errors
    /// [`TensorError::OutOfBounds`] when `bytes` is not exactly as long as the shape asks.
    pub fn contiguous(dtype: Dtype, shape: Vec<usize>, bytes: impl Into<Cow<'a, [u8]>>) -> Result<Self, TensorError> {
        let bytes = bytes.into();
        let exact = element_count(&shape).and_then(|n| n.checked_mul(dtype.size()));
        if exact != Some(bytes.len()) {
            return Err(TensorError::OutOfBounds {
                dtype,
                shape,
                strides: Vec::new(),
                offset: 0,
                storage_bytes: bytes.len(),
            });
        }
        let len = bytes.len() / dtype.size();
        Ok(Self { dtype, shape, strides: None, storage: bytes, offset: 0, order: ByteOrder::Little, len, crc32: None })
    }

    /// A tensor of any layout over `storage`: `offset` and `strides` count elements of `dtype`.
    ///
    /// Strides of dimensions of size 1 are ignored; a stride of 0 repeats elements (torch's `expand`).
    ///
    /// # Errors
    /// [`TensorError::OutOfBounds`] when any element would lie outside `storage`, or shape and strides differ in length.
    pub fn strided(
        dtype: Dtype,
        shape: Vec<usize>,
        strides: &[usize],
        offset: usize,
        storage: impl Into<Cow<'a, [u8]>>,
        order: ByteOrder,
    ) -> Result<Self, TensorError> {
        let storage = storage.into();
        let out_of_bounds = |shape: Vec<usize>| TensorError::OutOfBounds {
            dtype,
            shape,
            strides: strides.to_vec(),
            offset,
            storage_bytes: storage.len(),
        };
        let Some(len) = element_count(&shape).filter(|_| shape.len() == strides.len()) else {
            return Err(out_of_bounds(shape));
        };
        if len == 0 {
            return Ok(Self {
                dtype,
                shape,
                strides: None,
                storage: Cow::Borrowed(&[]),
                offset: 0,
                order,
                len: 0,
                crc32: None,
            });
        }
        let end = last_element(&shape, strides, offset).and_then(|last| last.checked_add(1));
        if end.and_then(|end| end.checked_mul(dtype.size())).is_none_or(|end| end > storage.len()) {
            return Err(out_of_bounds(shape));
        }
        if !is_row_major(&shape, strides) {
            let strides = Some(strides.to_vec());
            return Ok(Self { dtype, shape, strides, storage, offset, order, len, crc32: None });
        }
        let range = offset * dtype.size()..(offset + len) * dtype.size();
        let storage = match storage {
            Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[range]),
            Cow::Owned(mut bytes) => {
                bytes.truncate(range.end);
                bytes.drain(..range.start);
                Cow::Owned(bytes)
            }
        };
        Ok(Self { dtype, shape, strides: None, storage, offset: 0, order, len, crc32: None })
    }

    /// The same elements, of which the file says that their bytes have this CRC-32, which nobody has compared yet: for
    /// readers that pass over all of them anyway. Without effect where [`Self::as_le_bytes`] has nothing.
    #[must_use]
    pub fn with_crc32_to_compare(mut self, crc32: u32) -> Self {
        self.crc32 = self.as_le_bytes().is_some().then_some(crc32);
        self
    }

    /// The CRC-32 that all of [`Self::as_le_bytes`] should have, when it is left to the reader to compare it.
    pub fn crc32_to_compare(&self) -> Option<u32> {
        self.crc32
    }

    /// Element type.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Logical shape; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements: the product of the shape, 1 for a scalar.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether some dimension is 0.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All elements as little-endian bytes in row-major order, when they lie so in the file.
    pub fn as_le_bytes(&self) -> Option<&[u8]> {
        (self.strides.is_none() && (self.order == ByteOrder::Little || self.dtype.size() == 1))
            .then_some(self.storage.as_ref())
    }

    /// All elements in place, without a copy: `f32`, contiguous, in native byte order and aligned.
    pub fn as_f32(&self) -> Option<&[f32]> {
        self.as_native(Dtype::F32)
    }

    /// All elements in place, without a copy: `f64`, contiguous, in native byte order and aligned.
    pub fn as_f64(&self) -> Option<&[f64]> {
        self.as_native(Dtype::F64)
    }

    /// All elements in place, without a copy: `f16`, contiguous, in native byte order and aligned.
    pub fn as_f16(&self) -> Option<&[f16]> {
        self.as_native(Dtype::F16)
    }

    /// All elements in place, without a copy: `bf16`, contiguous, in native byte order and aligned.
    pub fn as_bf16(&self) -> Option<&[bf16]> {
        self.as_native(Dtype::Bf16)
    }

    fn as_native<T: bytemuck::AnyBitPattern>(&self, dtype: Dtype) -> Option<&[T]> {
        if self.dtype != dtype || cfg!(target_endian = "big") {
            return None;
        }
        bytemuck::try_cast_slice(self.as_le_bytes()?).ok()
    }

    /// Copies elements `start..start + out.len() / dtype.size()` to `out` as little-endian bytes in row-major order.
    ///
    /// # Errors
    /// [`TensorError::BlockOutOfRange`] when the block ends beyond the last element.
    pub fn read_le_bytes(&self, start: usize, out: &mut [u8]) -> Result<(), TensorError> {
        let size = self.dtype.size();
        let count = out.len() / size;
        self.check_block(start, count)?;
        if self.strides.is_none() {
            out.copy_from_slice(&self.storage[start * size..(start + count) * size]);
        } else {
            let mut chunks = out.chunks_exact_mut(size);
            self.for_each_element(start, count, |element| {
                if let Some(chunk) = chunks.next() {
                    chunk.copy_from_slice(element);
                }
            });
        }
        if self.order == ByteOrder::Big {
            for unit in out.chunks_exact_mut(self.dtype.swap_unit()) {
                unit.reverse();
            }
        }
        Ok(())
    }

    /// Converts elements `start..start + out.len()` (row-major order) to `f64`. Exact for every dtype but 64-bit
    /// integers beyond 2⁵³; booleans are 0 or 1, any non-zero byte counting as 1.
    ///
    /// # Errors
    /// [`TensorError::BlockOutOfRange`], or [`TensorError::NotReal`] for complex dtypes.
    pub fn read_f64(&self, start: usize, out: &mut [f64]) -> Result<(), TensorError> {
        self.read_with(start, out, |x| x, f64::from)
    }

    /// Converts elements `start..start + out.len()` (row-major order) to `f32`, rounding `f64` and wide integers to
    /// nearest.
    ///
    /// # Errors
    /// [`TensorError::BlockOutOfRange`], or [`TensorError::NotReal`] for complex dtypes.
    pub fn read_f32(&self, start: usize, out: &mut [f32]) -> Result<(), TensorError> {
        self.read_with(start, out, |x| x as f32, |x| x)
    }

    fn read_with<T: Copy>(
        &self,
        start: usize,
        out: &mut [T],
        from_f64: impl Fn(f64) -> T + Copy,
        from_f32: impl Fn(f32) -> T + Copy,
    ) -> Result<(), TensorError> {
        self.check_block(start, out.len())?;
        match self.dtype {
            Dtype::F32 => self.convert(start, out, |b| from_f32(f32::from_le_bytes(b))),
            Dtype::F64 => self.convert(start, out, |b| from_f64(f64::from_le_bytes(b))),
            Dtype::F16 => self.convert(start, out, |b| from_f32(f16::from_le_bytes(b).to_f32())),
            Dtype::Bf16 => self.convert(start, out, |b| from_f32(bf16::from_le_bytes(b).to_f32())),
            Dtype::F8E4m3 => self.convert(start, out, |[b]| from_f32(float8::e4m3(b))),
            Dtype::F8E5m2 => self.convert(start, out, |[b]| from_f32(float8::e5m2(b))),
            Dtype::F8E4m3Fnuz => self.convert(start, out, |[b]| from_f32(float8::e4m3fnuz(b))),
            Dtype::F8E5m2Fnuz => self.convert(start, out, |[b]| from_f32(float8::e5m2fnuz(b))),
            Dtype::F8E8m0 => self.convert(start, out, |[b]| from_f32(float8::e8m0(b))),
            Dtype::I64 => self.convert(start, out, |b| from_f64(i64::from_le_bytes(b) as f64)),
            Dtype::I32 => self.convert(start, out, |b| from_f64(f64::from(i32::from_le_bytes(b)))),
            Dtype::I16 => self.convert(start, out, |b| from_f32(f32::from(i16::from_le_bytes(b)))),
            Dtype::I8 => self.convert(start, out, |b| from_f32(f32::from(i8::from_le_bytes(b)))),
            Dtype::U64 => self.convert(start, out, |b| from_f64(u64::from_le_bytes(b) as f64)),
            Dtype::U32 => self.convert(start, out, |b| from_f64(f64::from(u32::from_le_bytes(b)))),
            Dtype::U16 => self.convert(start, out, |b| from_f32(f32::from(u16::from_le_bytes(b)))),
            Dtype::U8 => self.convert(start, out, |[b]| from_f32(f32::from(b))),
            Dtype::Bool => self.convert(start, out, |[b]| from_f32(f32::from(u8::from(b != 0)))),
            Dtype::C32 | Dtype::C64 | Dtype::C128 => return Err(TensorError::NotReal { dtype: self.dtype }),
        }
        Ok(())
    }

    /// Converts a checked block of real elements of `N` bytes each.
    fn convert<T, const N: usize>(&self, start: usize, out: &mut [T], value: impl Fn([u8; N]) -> T) {
        let big = self.order == ByteOrder::Big;
        let decode = |element: &[u8]| {
            let mut bytes = [0; N];
            bytes.copy_from_slice(element);
            if big {
                bytes.reverse();
            }
            value(bytes)
        };
        if self.strides.is_none() {
            let block = &self.storage[start * N..(start + out.len()) * N];
            for (slot, element) in out.iter_mut().zip(block.chunks_exact(N)) {
                *slot = decode(element);
            }
        } else {
            let count = out.len();
            let mut slots = out.iter_mut();
            self.for_each_element(start, count, |element| {
                if let Some(slot) = slots.next() {
                    *slot = decode(element);
                }
            });
        }
    }

    /// Visits the bytes of elements `start..start + count` of a strided tensor in row-major order.
    fn for_each_element(&self, start: usize, count: usize, mut visit: impl FnMut(&[u8])) {
        let Some(strides) = &self.strides else { return };
        let size = self.dtype.size();
        let mut index = vec![0usize; self.shape.len()];
        let mut rest = start;
        for (slot, &extent) in index.iter_mut().zip(&self.shape).rev() {
            *slot = rest % extent;
            rest /= extent;
        }
        let mut at = self.offset + index.iter().zip(strides).map(|(i, stride)| i * stride).sum::<usize>();
        for _ in 0..count {
            visit(&self.storage[at * size..(at + 1) * size]);
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                at += strides[axis];
                if index[axis] < self.shape[axis] {
                    break;
                }
                at -= strides[axis] * self.shape[axis];
                index[axis] = 0;
            }
        }
    }

    fn check_block(&self, start: usize, count: usize) -> Result<(), TensorError> {
        let end = start.saturating_add(count);
        if end > self.len {
            return Err(TensorError::BlockOutOfRange { start, end, len: self.len });
        }
        Ok(())
    }
}

/// Product of the shape, or `None` on overflow.
pub fn element_count(shape: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent))
}

/// Strides in elements of a row-major tensor of this shape; wrapping, so meant for shapes already checked.
pub fn row_major_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].wrapping_mul(shape[axis]);
    }
    strides
}

fn last_element(shape: &[usize], strides: &[usize], offset: usize) -> Option<usize> {
    shape
        .iter()
        .zip(strides)
        .filter(|&(&extent, _)| extent > 1)
        .try_fold(offset, |at, (&extent, &stride)| at.checked_add((extent - 1).checked_mul(stride)?))
}

fn is_row_major(shape: &[usize], strides: &[usize]) -> bool {
    row_major_strides(shape)
        .iter()
        .zip(strides)
        .zip(shape)
        .all(|((expected, actual), &extent)| extent <= 1 || expected == actual)
}

/// The 8-bit floats of the OCP specification and of `ml_dtypes` (the `fnuz` kinds).
mod float8 {
    /// Sign, exponent and mantissa of a byte with `mantissa_bits` of mantissa, as a number with the given bias.
    fn decode(byte: u8, mantissa_bits: u32, bias: i32) -> f32 {
        let sign = if byte & 0x80 == 0 { 1.0 } else { -1.0 };
        let exponent = i32::from((byte & 0x7f) >> mantissa_bits);
        let mantissa = f32::from(byte & ((1 << mantissa_bits) - 1)) / (1u32 << mantissa_bits) as f32;
        let magnitude =
            if exponent == 0 { mantissa * 2f32.powi(1 - bias) } else { (1.0 + mantissa) * 2f32.powi(exponent - bias) };
        sign * magnitude
    }

    pub(super) fn e4m3(byte: u8) -> f32 {
        if byte & 0x7f == 0x7f { f32::NAN } else { decode(byte, 3, 7) }
    }

    pub(super) fn e5m2(byte: u8) -> f32 {
        match byte & 0x7f {
            0x7c => f32::INFINITY.copysign(if byte & 0x80 == 0 { 1.0 } else { -1.0 }),
            0x7d..=0x7f => f32::NAN,
            _ => decode(byte, 2, 15),
        }
    }

    pub(super) fn e4m3fnuz(byte: u8) -> f32 {
        if byte == 0x80 { f32::NAN } else { decode(byte, 3, 8) }
    }

    pub(super) fn e5m2fnuz(byte: u8) -> f32 {
        if byte == 0x80 { f32::NAN } else { decode(byte, 2, 16) }
    }

    pub(super) fn e8m0(byte: u8) -> f32 {
        if byte == 0xff { f32::NAN } else { 2f64.powi(i32::from(byte) - 127) as f32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    #[test]
    fn contiguous_f32_is_read_in_place() {
        let storage: Vec<f32> = vec![1.0, 2.0, 3.0, 4.0];
        let view = TensorView::contiguous(Dtype::F32, vec![2, 2], bytemuck::cast_slice::<f32, u8>(&storage)).unwrap();
        assert_eq!(view.as_f32(), Some(&storage[..]));
        let mut block = [0.0f64; 2];
        view.read_f64(1, &mut block).unwrap();
        assert_eq!(block, [2.0, 3.0]);
    }

    #[test]
    fn a_transpose_reads_in_logical_order() {
        let storage = bytes(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let view = TensorView::strided(Dtype::F32, vec![3, 2], &[1, 3], 0, &storage[..], ByteOrder::Little).unwrap();
        let mut all = [0.0f32; 6];
        view.read_f32(0, &mut all).unwrap();
        assert_eq!(all, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        let mut tail = [0.0f32; 3];
        view.read_f32(3, &mut tail).unwrap();
        assert_eq!(tail, [4.0, 2.0, 5.0]);
        let mut raw = vec![0; 24];
        view.read_le_bytes(0, &mut raw).unwrap();
        assert_eq!(raw, bytes(&[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]));
    }

    #[test]
    fn expand_repeats_and_scalars_have_one_element() {
        let storage = bytes(&[7.0, 8.0]);
        let expanded =
            TensorView::strided(Dtype::F32, vec![2, 3], &[1, 0], 0, &storage[..], ByteOrder::Little).unwrap();
        let mut all = [0.0f32; 6];
        expanded.read_f32(0, &mut all).unwrap();
        assert_eq!(all, [7.0, 7.0, 7.0, 8.0, 8.0, 8.0]);
        let scalar = TensorView::strided(Dtype::F32, vec![], &[], 1, &storage[..], ByteOrder::Little).unwrap();
        assert_eq!((scalar.len(), scalar.as_le_bytes()), (1, Some(&storage[4..])));
    }

    #[test]
    fn big_endian_is_swapped() {
        let storage: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|v| v.to_be_bytes()).collect();
        let view = TensorView::strided(Dtype::F32, vec![2], &[1], 0, &storage[..], ByteOrder::Big).unwrap();
        let mut out = [0.0f32; 2];
        view.read_f32(0, &mut out).unwrap();
        assert_eq!(out, [1.5, -2.0]);
        assert!(view.as_f32().is_none());
    }

    #[test]
    fn out_of_bounds_and_overflow_are_refused() {
        let storage = bytes(&[0.0; 4]);
        for (shape, strides, offset) in [
            (vec![2, 3], vec![3, 1], 0),
            (vec![4], vec![1], 1),
            (vec![2], vec![usize::MAX], 0),
            (vec![usize::MAX, 2], vec![0, 0], 0),
            (vec![2], vec![1, 1], 0),
        ] {
            let made =
                TensorView::strided(Dtype::F32, shape.clone(), &strides, offset, &storage[..], ByteOrder::Little);
            assert!(matches!(made, Err(TensorError::OutOfBounds { .. })), "{shape:?} {strides:?} {offset}");
        }
        assert!(TensorView::contiguous(Dtype::F32, vec![3], &storage[..]).is_err());
    }

    #[test]
    fn blocks_beyond_the_end_are_refused() {
        let storage = bytes(&[0.0; 2]);
        let view = TensorView::contiguous(Dtype::F32, vec![2], &storage[..]).unwrap();
        assert!(matches!(view.read_f64(1, &mut [0.0; 2]), Err(TensorError::BlockOutOfRange { .. })));
        assert!(view.read_f64(usize::MAX, &mut [0.0; 2]).is_err());
    }

    #[test]
    fn float8_extremes() {
        assert_eq!(float8::e4m3(0x7e), 448.0);
        assert_eq!(float8::e4m3(0x01), 2f32.powi(-9));
        assert!(float8::e4m3(0xff).is_nan());
        assert_eq!(float8::e5m2(0x7b), 57344.0);
        assert_eq!(float8::e5m2(0xfc), f32::NEG_INFINITY);
        assert_eq!(float8::e4m3fnuz(0x7f), 240.0);
        assert_eq!(float8::e5m2fnuz(0x7f), 57344.0);
        assert_eq!(float8::e8m0(127), 1.0);
    }
}
