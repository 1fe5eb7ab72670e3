//! The safetensors header: the reference crate's checks, and three it lacks (repeated names, unknown dtypes by name,
//! a header cap of our own). Pure over bytes.

use std::collections::HashSet;
use std::fmt;

use safetensors::tensor::{Metadata, TensorInfo};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use super::Format;
use super::parts::{Parsed, Place, Storage};
use super::torch::{Found, TensorLayout};
use crate::tensor::{ByteOrder, Dtype, row_major_strides};

/// Longest header that is read: about 400,000 tensors. The reference allows 100 MB.
pub(super) const MAX_HEADER_BYTES: u64 = 48 << 20;

/// Why a safetensors file was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SafetensorsError {
    /// Not even the length of the header.
    #[error("the file ends before its header does")]
    Truncated,
    /// A header beyond the limit.
    #[error("the header takes {bytes} bytes, more than {MAX_HEADER_BYTES}")]
    HeaderTooLong {
        /// Its declared length.
        bytes: u64,
    },
    /// The header is not the JSON that it should be, or repeats a name.
    #[error("the header is malformed")]
    Header {
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// Offsets, shapes and dtypes contradict each other.
    #[error("the header contradicts itself")]
    Inconsistent {
        /// What the reference implementation said.
        #[source]
        source: safetensors::SafeTensorError,
    },
    /// The data are longer or shorter than the header says.
    #[error("the header describes {described} bytes of data, the file holds {held}")]
    Length {
        /// Bytes that the header describes.
        described: u64,
        /// Bytes after the header.
        held: u64,
    },
}

/// Length of the header in bytes, from the first 8 bytes of a file.
pub(super) fn header_len(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|&length| u64::from_le_bytes(length))
}

/// Lists the tensors in the order of their data.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, SafetensorsError> {
    let length = header_len(bytes).ok_or(SafetensorsError::Truncated)?;
    if length > MAX_HEADER_BYTES {
        return Err(SafetensorsError::HeaderTooLong { bytes: length });
    }
    let header = bytes.get(8..).and_then(|rest| rest.get(..length as usize)).ok_or(SafetensorsError::Truncated)?;
    let header: Header = serde_json::from_slice(header).map_err(|source| SafetensorsError::Header { source })?;
    let mut tensors = header.tensors;
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    let layouts: Vec<_> =
        tensors.iter().map(|(name, info)| (name.clone(), info.dtype, info.shape.clone(), info.data_offsets)).collect();
    let metadata = Metadata::new(None, tensors).map_err(|source| SafetensorsError::Inconsistent { source })?;
    let start = 8 + length;
    let (described, held) = (metadata.data_len() as u64, bytes.len() as u64 - start);
    if described != held {
        return Err(SafetensorsError::Length { described, held });
    }
    let mut parsed = Parsed {
        format: Format::Safetensors,
        order: ByteOrder::Little,
        found: Vec::with_capacity(layouts.len()),
        storages: Vec::with_capacity(layouts.len()),
    };
    for (at, (name, dtype, shape, (from, to))) in layouts.into_iter().enumerate() {
        let tensor = match Dtype::from_name(&dtype.to_string()) {
            Some(dtype) => {
                let strides = row_major_strides(&shape);
                Ok(TensorLayout { dtype, shape, strides, offset: 0, storage: at })
            }
            None => Err(format!("a tensor of {dtype}")),
        };
        parsed.found.push(Found { name, tensor });
        let place = Place::Range(start + from as u64..start + to as u64);
        parsed.storages.push(Storage { place });
    }
    Ok(parsed)
}

/// The header as it stands, which a map type would lose: order and repeated names.
struct Header {
    tensors: Vec<(String, TensorInfo)>,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let mut tensors = Vec::new();
        let mut names = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if !names.insert(name.clone()) {
                return Err(serde::de::Error::custom(format_args!("the name {name:?} occurs twice")));
            }
            if name == "__metadata__" {
                map.next_value::<std::collections::HashMap<String, String>>()?;
            } else {
                tensors.push((name, map.next_value()?));
            }
        }
        Ok(Header { tensors })
    }
}
