//! One file of a checkpoint after parsing: its tensors' layouts, where each storage lies, what was verified. No I/O of
//! its own; storages are read from the mapped bytes on demand.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};

use super::Format;
use super::error::CheckpointError;
use super::pieces::Pieces;
use super::source::Bytes;
use super::torch::archive::record_content;
use super::torch::{Found, TensorLayout};
use super::zip::{Directory, Record, ZipError};
use crate::ranges::RangeSet;
use crate::tensor::{ByteOrder, TensorView, row_major_strides};

/// Where the bytes of a storage lie.
#[derive(Debug)]
pub(super) enum Place {
    /// At this range of the file, as they are.
    Range(Range<u64>),
    /// In this record of the archive.
    Record(Record),
    /// In several places: a tensor that was cut up.
    Pieces(Pieces),
}

#[derive(Debug)]
pub(super) struct Storage {
    pub(super) place: Place,
}

/// The bytes of a record, in place or inflated.
pub(super) type Content<'a> = Result<Cow<'a, [u8]>, ZipError>;

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

/// What is done about the CRC-32 that an archive states of a storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Crc32 {
    /// Nothing: something stronger was verified.
    Ignored,
    /// It is compared before anything is handed out.
    Compared,
    /// It is left to the reader where a view is all of what it was stated of, and compared elsewhere.
    Left,
}

/// A record whose CRC-32 was not compared yet.
struct Unchecked<'a> {
    record: &'a Record,
    directory: &'a Directory,
    state: &'a AtomicU8,
}

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

    /// A part that holds one tensor in pieces of other files, and its layout once they are joined.
    pub(super) fn of_pieces(file: String, pieces: Pieces) -> (Self, TensorLayout) {
        let (dtype, shape) = (pieces.dtype, pieces.shape.clone());
        let strides = row_major_strides(&shape);
        let layout = TensorLayout { dtype, shape, strides, offset: 0, storage: 0 };
        let storages = vec![Storage { place: Place::Pieces(pieces) }];
        (Self::new(file, Bytes::from(Vec::new()), None, ByteOrder::Little, storages), layout)
    }

    /// Bytes of the file, or of the parts of files, that it is read from.
    pub(super) fn held(&self) -> u64 {
        match self.storages.as_slice() {
            [Storage { place: Place::Pieces(pieces) }] => pieces.held(),
            _ => self.bytes.as_slice().len() as u64,
        }
    }

    pub(super) fn storage_count(&self) -> usize {
        self.storages.len()
    }

    /// Whether the file states a checksum for the storage.
    pub(super) fn has_checksum(&self, storage: usize) -> bool {
        match self.place(storage) {
            Some(Place::Record(record)) => record.crc() != 0,
            Some(Place::Pieces(pieces)) => pieces.has_checksum(),
            Some(Place::Range(_)) | None => false,
        }
    }

    /// The bytes of the file that reading this storage looks at.
    pub(super) fn span(&self, storage: usize) -> Range<u64> {
        match self.place(storage) {
            Some(Place::Record(record)) => record.span(),
            Some(Place::Range(range)) => range.clone(),
            Some(Place::Pieces(_)) | None => 0..0,
        }
    }

    /// Name and content of the record that is a storage; nothing in a file without records.
    pub(super) fn record(&self, storage: usize) -> Option<(&str, Content<'_>)> {
        let (Some(Place::Record(record)), Some(directory)) = (self.place(storage), &self.directory) else {
            return None;
        };
        Some((directory.name(record), self.content(directory, record)))
    }

    /// Every record in the order of the archive.
    pub(super) fn records(&self) -> impl Iterator<Item = (&str, Content<'_>)> {
        let directory = self.directory.iter();
        let records = directory.flat_map(|directory| directory.records().map(move |named| (directory, named)));
        records.map(|(directory, (name, record))| (name, self.content(directory, record)))
    }

    /// The content of a record, which was compared with its checksum.
    fn content(&self, directory: &Directory, record: &Record) -> Content<'_> {
        let content = record_content(directory, record, self.bytes.as_slice())?;
        directory.verify(record, &content)?;
        Ok(content)
    }

    fn place(&self, storage: usize) -> Option<&Place> {
        self.storages.get(storage).map(|storage| &storage.place)
    }

    /// Whether all of a storage is here.
    pub(super) fn is_here(&self, storage: usize) -> bool {
        self.present.as_ref().is_none_or(|present| present.contains(&self.span(storage)))
    }

    /// The elements of the tensor `name` of this layout; their CRC-32 is compared on first use, as `crc32` says.
    pub(super) fn view(
        &self,
        name: &str,
        layout: &TensorLayout,
        crc32: Crc32,
    ) -> Result<TensorView<'_>, CheckpointError> {
        if let Some(Place::Pieces(pieces)) = self.place(layout.storage) {
            return pieces.view(name, crc32);
        }
        let (file, tensor) = (|| self.file.clone(), || name.to_owned());
        let damaged = |source| CheckpointError::Damaged { file: file(), tensor: tensor(), source };
        let storage = self.storage(layout.storage).map_err(damaged)?;
        let bytes = storage.len();
        let whole = |view: &TensorView<'_>| view.as_le_bytes().is_some_and(|all| all.len() == bytes);
        let view = |storage| {
            TensorView::strided(layout.dtype, layout.shape.clone(), &layout.strides, layout.offset, storage, self.order)
                .map_err(|source| CheckpointError::Layout { file: file(), tensor: tensor(), source })
        };
        let Some(unchecked) = self.unchecked(layout.storage).filter(|_| crc32 != Crc32::Ignored) else {
            return view(storage);
        };
        if let (Crc32::Left, Cow::Borrowed(_)) = (crc32, &storage) {
            let view = view(storage.clone())?;
            if whole(&view) {
                return Ok(view.with_crc32_to_compare(unchecked.record.crc()));
            }
        }
        unchecked.directory.verify(unchecked.record, &storage).map_err(damaged)?;
        // Two threads may both verify; the answer is the same.
        unchecked.state.store(VERIFIED, Ordering::Relaxed);
        view(storage)
    }

    /// The record of a storage whose CRC-32 is stated and was not compared yet.
    fn unchecked(&self, storage: usize) -> Option<Unchecked<'_>> {
        let (Some(Place::Record(record)), Some(directory)) = (self.place(storage), &self.directory) else {
            return None;
        };
        let state = self.checked.get(storage)?;
        let open = record.crc() != 0 && state.load(Ordering::Relaxed) == UNCHECKED;
        open.then_some(Unchecked { record, directory, state })
    }

    fn storage(&self, storage: usize) -> Result<Cow<'_, [u8]>, ZipError> {
        let all = self.bytes.as_slice();
        match (self.place(storage), &self.directory) {
            (Some(Place::Record(record)), Some(directory)) => record_content(directory, record, all),
            (Some(Place::Range(range)), _) => {
                let range = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
                let bytes = range.and_then(|(start, end)| all.get(start..end));
                Ok(Cow::Borrowed(bytes.unwrap_or_default()))
            }
            // None of these happens: a layout has a storage, a record its directory, and pieces are joined before.
            (Some(Place::Record(_)), None) | (Some(Place::Pieces(_)) | None, _) => Ok(Cow::Borrowed(&[])),
        }
    }
}
