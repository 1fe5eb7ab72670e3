//! One file of a checkpoint after parsing: its tensors' layouts, where each storage lies, what was verified. No I/O of
//! its own; storages are read from the mapped bytes on demand.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};

use super::Format;
use super::source::Bytes;
use super::torch::archive::record_content;
use super::torch::{Found, TensorLayout};
use super::zip::{Directory, Record, ZipError};
use crate::ranges::RangeSet;
use crate::tensor::ByteOrder;

/// Where the bytes of a storage lie.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// At this range of the file, as they are.
    Range(Range<u64>),
    /// In this record of the archive.
    Record(Record),
}

#[derive(Debug, Clone)]
pub(super) struct Storage {
    pub(super) place: Place,
}

/// What the parser of one container gives.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) format: Format,
    pub(super) order: ByteOrder,
    pub(super) found: Vec<Found>,
    pub(super) storages: Vec<Storage>,
}

const UNCHECKED: u8 = 0;
const VERIFIED: u8 = 1;

/// One file: the bytes and where the storages are in them.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) file: String,
    pub(super) bytes: Bytes,
    pub(super) directory: Option<Directory>,
    pub(super) order: ByteOrder,
    /// The bytes that are here, when not all are.
    pub(super) present: Option<RangeSet>,
    storages: Vec<Storage>,
    /// Per storage, whether its checksum was compared.
    checked: Vec<AtomicU8>,
}

impl Part {
    pub(super) fn new(
        file: String,
        bytes: Bytes,
        directory: Option<Directory>,
        order: ByteOrder,
        storages: Vec<Storage>,
    ) -> Self {
        let checked = storages.iter().map(|_| AtomicU8::new(UNCHECKED)).collect();
        Self { file, bytes, directory, order, present: None, storages, checked }
    }

    pub(super) fn storage_count(&self) -> usize {
        self.storages.len()
    }

    /// Whether the file states a checksum for the storage.
    pub(super) fn has_checksum(&self, storage: usize) -> bool {
        matches!(self.storages.get(storage).map(|storage| &storage.place), Some(Place::Record(record)) if record.crc() != 0)
    }

    /// The bytes of the file that reading this storage looks at.
    pub(super) fn span(&self, storage: usize) -> Range<u64> {
        match self.storages.get(storage).map(|storage| &storage.place) {
            Some(Place::Record(record)) => record.span(),
            Some(Place::Range(range)) => range.clone(),
            None => 0..0,
        }
    }

    /// Whether all of a storage is here.
    pub(super) fn is_here(&self, storage: usize) -> bool {
        self.present.as_ref().is_none_or(|present| present.contains(&self.span(storage)))
    }

    /// The bytes of the storage under a layout; its CRC-32 is compared on first use when `verify` is set.
    pub(super) fn storage(&self, layout: &TensorLayout, verify: bool) -> Result<Cow<'_, [u8]>, ZipError> {
        let all = self.bytes.as_slice();
        let (Some(storage), Some(checked)) = (self.storages.get(layout.storage), self.checked.get(layout.storage))
        else {
            return Ok(Cow::Borrowed(&[]));
        };
        match (&storage.place, &self.directory) {
            (Place::Record(record), Some(directory)) => {
                let content = record_content(directory, record, all)?;
                if verify && checked.load(Ordering::Relaxed) == UNCHECKED {
                    directory.verify(record, &content)?;
                    // Two threads may both verify; the answer is the same.
                    checked.store(VERIFIED, Ordering::Relaxed);
                }
                Ok(content)
            }
            (Place::Range(range), _) => {
                let range = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
                let bytes = range.and_then(|(start, end)| all.get(start..end));
                Ok(Cow::Borrowed(bytes.unwrap_or_default()))
            }
            (Place::Record(_), None) => Ok(Cow::Borrowed(&[])),
        }
    }
}
