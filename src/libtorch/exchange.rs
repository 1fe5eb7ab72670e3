//! Tensors of this crate as tensors of libtorch and back: with a copy, and without one where the caller promises what
//! libtorch cannot know. No I/O.
//!
//! A `tch::Tensor` is a counted reference to memory that other tensors may share and write to, and it has no lifetime. So
//! handing over borrowed bytes can be safe only with a copy; without one it takes a promise, and the two functions that
//! take it are `unsafe`.

use std::borrow::Cow;

use tch::{Device, Kind, Tensor};

use super::error::LibtorchError;
use crate::tensor::{ByteOrder, Dtype, TensorView, row_major_strides};

/// The dtypes that both sides have. libtorch's crate has no wide unsigned integers and no exponent-only floats.
const KINDS: [(Dtype, Kind); 17] = [
    (Dtype::F64, Kind::Double),
    (Dtype::F32, Kind::Float),
    (Dtype::F16, Kind::Half),
    (Dtype::Bf16, Kind::BFloat16),
    (Dtype::F8E4m3, Kind::Float8e4m3fn),
    (Dtype::F8E5m2, Kind::Float8e5m2),
    (Dtype::F8E4m3Fnuz, Kind::Float8e4m3fnuz),
    (Dtype::F8E5m2Fnuz, Kind::Float8e5m2fnuz),
    (Dtype::I64, Kind::Int64),
    (Dtype::I32, Kind::Int),
    (Dtype::I16, Kind::Int16),
    (Dtype::I8, Kind::Int8),
    (Dtype::U8, Kind::Uint8),
    (Dtype::Bool, Kind::Bool),
    (Dtype::C32, Kind::ComplexHalf),
    (Dtype::C64, Kind::ComplexFloat),
    (Dtype::C128, Kind::ComplexDouble),
];

fn kind_of(dtype: Dtype) -> Result<Kind, LibtorchError> {
    let found = KINDS.iter().find(|(ours, _)| *ours == dtype);
    found.map(|(_, kind)| *kind).ok_or_else(|| LibtorchError::dtype(dtype))
}

fn dtype_of(kind: Kind) -> Result<Dtype, LibtorchError> {
    let found = KINDS.iter().find(|(_, theirs)| *theirs == kind);
    found.map(|(dtype, _)| *dtype).ok_or_else(|| LibtorchError::Dtype { dtype: format!("{kind:?}") })
}

fn size_of(shape: &[usize]) -> Vec<i64> {
    // No dimension of a tensor in memory is beyond i64.
    shape.iter().map(|&extent| i64::try_from(extent).unwrap_or(i64::MAX)).collect()
}

/// A copy in libtorch's memory on the CPU, contiguous, of the same shape and dtype, to the bit; booleans become 0 or 1.
///
/// # Errors
/// [`LibtorchError::Dtype`] for unsigned integers of more than 8 bits and F8_E8M0, which `tch` lacks.
pub fn to_torch(view: &TensorView<'_>) -> Result<Tensor, LibtorchError> {
    let kind = kind_of(view.dtype())?;
    let mut bytes = match view.as_le_bytes() {
        Some(bytes) => Cow::Borrowed(bytes),
        None => {
            let mut bytes = vec![0; view.len() * view.dtype().size()];
            view.read_le_bytes(0, &mut bytes)?;
            Cow::Owned(bytes)
        }
    };
    if kind == Kind::Bool {
        bytes.to_mut().iter_mut().for_each(|byte| *byte = u8::from(*byte != 0));
    }
    Ok(Tensor::f_from_data_size(&bytes, &size_of(view.shape()), kind)?)
}

/// A copy of a tensor on any device, contiguous, of the same shape and dtype, to the bit.
///
/// # Errors
/// [`LibtorchError::Dtype`] for quantised tensors, [`LibtorchError::Operation`] for what is not dense.
pub fn from_torch(tensor: &Tensor) -> Result<TensorView<'static>, LibtorchError> {
    let dtype = dtype_of(tensor.f_kind()?)?;
    let here = tensor.f_to_device(Device::Cpu)?.f_contiguous()?;
    let mut bytes = vec![0; here.numel() * dtype.size()];
    here.f_copy_data_u8(&mut bytes, here.numel())?;
    Ok(TensorView::contiguous(dtype, shape_of(tensor), bytes)?)
}

fn shape_of(tensor: &Tensor) -> Vec<usize> {
    tensor.size().into_iter().map(|extent| usize::try_from(extent).unwrap_or(0)).collect()
}

/// The same memory as a tensor of libtorch on the CPU, without a copy: for contiguous little-endian elements that are
/// aligned, and no booleans. `None` for all others, which [`to_torch`] copies.
///
/// # Errors
/// As [`to_torch`].
///
/// # Safety
/// The bytes behind `view` must stay where they are, unchanged, until the tensor and all that share its memory (views and
/// shallow clones, also those inside a module it was given to) are gone; and none of these may be written to, by an
/// operation in place or otherwise: a mapped file is mapped read-only.
#[expect(unsafe_code, reason = "libtorch knows no lifetimes; the caller promises them")]
pub unsafe fn share(view: &TensorView<'_>) -> Result<Option<Tensor>, LibtorchError> {
    let kind = kind_of(view.dtype())?;
    let bytes = view.as_le_bytes().filter(|_| cfg!(target_endian = "little") && kind != Kind::Bool && !view.is_empty());
    let aligned = |bytes: &&[u8]| bytes.as_ptr().align_offset(view.dtype().size()) == 0;
    let Some(bytes) = bytes.filter(aligned) else { return Ok(None) };
    // SAFETY: the pointer is to initialised bytes, as many as shape and kind say (the view was checked when it was made),
    // aligned for the kind, and every pattern of bits is a value of it; how long they last the caller has promised.
    let tensor = unsafe { Tensor::f_from_blob(bytes.as_ptr(), &size_of(view.shape()), &[], kind, Device::Cpu)? };
    Ok(Some(tensor))
}

/// The memory of a tensor on the CPU as one of ours, without a copy, whatever its strides. `None` for tensors on other
/// devices, which [`from_torch`] copies.
///
/// # Errors
/// As [`from_torch`].
///
/// # Safety
/// Nothing may write to the tensor's memory while the view lasts: no operation in place on it, or on any tensor that shares
/// its memory.
#[expect(unsafe_code, reason = "others may write to a tensor's memory; the caller promises that they do not")]
pub unsafe fn borrow(tensor: &Tensor) -> Result<Option<TensorView<'_>>, LibtorchError> {
    let (dtype, shape) = (dtype_of(tensor.f_kind()?)?, shape_of(tensor));
    if tensor.device() != Device::Cpu || tensor.is_sparse() || tensor.is_mkldnn() || cfg!(target_endian = "big") {
        return Ok(None);
    }
    if shape.contains(&0) {
        return Ok(Some(TensorView::contiguous(dtype, shape, Vec::new())?));
    }
    let strides = match tensor.is_contiguous() {
        true => row_major_strides(&shape),
        // libtorch has no negative strides.
        false => tensor.stride().into_iter().map(|stride| usize::try_from(stride).unwrap_or(0)).collect(),
    };
    let last: usize = shape.iter().zip(&strides).map(|(extent, stride)| (extent - 1) * stride).sum();
    let length = (last + 1) * dtype.size();
    // SAFETY: a dense tensor's memory holds every element that its shape and strides reach, from its data pointer on, and
    // the last one ends at `length`; `tensor` keeps it alive for the lifetime of the view, and that nobody writes the caller
    // has promised.
    let bytes = unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<u8>().cast_const(), length) };
    Ok(Some(TensorView::strided(dtype, shape, &strides, 0, bytes, ByteOrder::Little)?))
}
