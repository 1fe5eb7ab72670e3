//! safetensors, in the reference writer's order: widest dtype first, then by name, so that data are aligned.

use std::io::Write;

use serde_json::{Map, Value, json};

use super::{NamedTensor, WriteError, check, copy_tensor};
use crate::tensor::Dtype;

/// Alignment of the first tensor, by padding the header with spaces.
const ALIGNMENT: usize = 8;
/// The one name that no tensor can have.
const RESERVED: &str = "__metadata__";

/// Writes a safetensors file. Tied tensors are written in full each: the format knows no sharing.
///
/// # Errors
/// [`WriteError`]; what was written so far must then be thrown away.
pub fn write_safetensors(out: &mut impl Write, tensors: &[NamedTensor<'_>]) -> Result<(), WriteError> {
    let sizes = check(tensors)?;
    let mut order: Vec<(&NamedTensor<'_>, u64)> = tensors.iter().zip(sizes).collect();
    order.sort_by(|(a, _), (b, _)| (b.source.dtype().size(), a.name).cmp(&(a.source.dtype().size(), b.name)));
    let mut header = Map::new();
    header.insert(RESERVED.to_owned(), json!({ "format": "pt" }));
    let mut end = 0u64;
    for (tensor, bytes) in &order {
        let unsupported = |problem| WriteError::Unsupported { tensor: tensor.name.to_owned(), problem };
        let dtype = tensor.source.dtype();
        if matches!(dtype, Dtype::C32 | Dtype::C128) {
            return Err(unsupported("safetensors knows only complex numbers of two 32-bit floats"));
        }
        if tensor.name == RESERVED {
            return Err(unsupported("safetensors reserves the name for itself"));
        }
        let start = end;
        end = end.checked_add(*bytes).ok_or(unsupported("the file would be too large"))?;
        let shape: Vec<Value> = tensor.source.shape().iter().map(|&extent| extent.into()).collect();
        let entry = json!({ "dtype": dtype.name(), "shape": shape, "data_offsets": [start, end] });
        header.insert(tensor.name.to_owned(), entry);
    }
    let mut header = serde_json::to_vec(&header).map_err(std::io::Error::from)?;
    header.resize(header.len().next_multiple_of(ALIGNMENT), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    for (tensor, bytes) in order {
        copy_tensor(tensor, bytes, out)?;
    }
    Ok(())
}
