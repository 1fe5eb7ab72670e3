//! The safetensors header: the reference crate's checks, and three it lacks (repeated names, unknown dtypes by name,
//! a header cap of our own). Pure over bytes.

use std::collections::HashSet;
use std::fmt;

use safetensors::tensor::{Metadata, TensorInfo};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::Format;
use super::budget::Budget;
use super::parts::{Parsed, Place, Storage};
use super::torch::{Found, NAME_COPIES, TENSOR_BYTES, TensorLayout};
use crate::tensor::{ByteOrder, Dtype, row_major_strides};

/// Longest header that is read: about 400,000 tensors. The reference allows 100 MB.
pub(super) const MAX_HEADER_BYTES: u64 = 48 << 20;

/// Most dimensions of one tensor: torch can have no more.
const MAX_DIMENSIONS: usize = 64;

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
    let mut json = serde_json::Deserializer::from_slice(header);
    let header = Header { room: Budget::of(bytes.len() as u64).listing() };
    let tensors = header.deserialize(&mut json).and_then(|tensors| json.end().map(|()| tensors));
    let mut tensors = tensors.map_err(|source| SafetensorsError::Header { source })?;
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

/// The header as it stands, order and repeated names included, which a map type would lose; its list may take so many
/// bytes.
struct Header {
    room: usize,
}

type Tensors = Vec<(String, TensorInfo)>;

impl<'de> DeserializeSeed<'de> for Header {
    type Value = Tensors;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tensors, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Header {
    type Value = Tensors;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors by name")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Tensors, A::Error> {
        let mut tensors = Vec::new();
        let mut names = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            let left = self.room.checked_sub(TENSOR_BYTES + NAME_COPIES * name.len());
            let count = tensors.len();
            self.room =
                left.ok_or_else(|| A::Error::custom(format_args!("more than {count} tensors in so short a file")))?;
            if !names.insert(name.clone()) {
                return Err(A::Error::custom(format_args!("the name {name:?} occurs twice")));
            }
            if name == "__metadata__" {
                map.next_value::<Notes>()?;
            } else {
                let Entry { dtype, shape: Shape(shape), data_offsets } = map.next_value()?;
                tensors.push((name, TensorInfo { dtype, shape, data_offsets }));
            }
        }
        Ok(tensors)
    }
}

/// One tensor of the header.
#[derive(Deserialize)]
struct Entry {
    dtype: safetensors::Dtype,
    shape: Shape,
    data_offsets: (usize, usize),
}

/// At most [`MAX_DIMENSIONS`] numbers.
struct Shape(Vec<usize>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Extents;
        impl<'de> Visitor<'de> for Extents {
            type Value = Shape;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a shape")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
                let mut extents = Vec::new();
                while let Some(extent) = seq.next_element()? {
                    if extents.len() == MAX_DIMENSIONS {
                        return Err(A::Error::custom(format_args!("more than {MAX_DIMENSIONS} dimensions")));
                    }
                    extents.push(extent);
                }
                Ok(Shape(extents))
            }
        }
        deserializer.deserialize_seq(Extents)
    }
}

/// `__metadata__`: texts by text, which nobody here needs.
struct Notes;

impl<'de> Deserialize<'de> for Notes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = Notes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("texts by text")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Notes, A::Error> {
                while map.next_entry::<String, String>()?.is_some() {}
                Ok(Notes)
            }
        }
        deserializer.deserialize_map(Texts)
    }
}
