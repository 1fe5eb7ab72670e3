//! Where the bytes of a checkpoint come from: a file mapped read-only, or memory. The only `unsafe` of the crate
//! but for what is shared with libtorch (feature `tch`).
//!
//! [`ReadAt`] is the seam for bytes that are not all here: the directory of a zip archive is read through it by range.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use memmap2::Mmap;

/// Random access to bytes that may be far away.
pub trait ReadAt {
    /// Length in bytes.
    fn len(&self) -> u64;

    /// Whether there are no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Exactly the bytes of `range`.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when the range ends beyond [`ReadAt::len`], or whatever the origin says.
    fn read_at(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>>;
}

impl ReadAt for [u8] {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn read_at(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>> {
        let start = usize::try_from(range.start).ok();
        let end = usize::try_from(range.end).ok();
        let bytes = start.zip(end).and_then(|(start, end)| self.get(start..end));
        bytes.map(Cow::Borrowed).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

/// Bytes that stay where they are: a mapped file, shared memory, or a part of either.
#[derive(Debug, Clone)]
pub(super) struct Bytes {
    origin: Origin,
    range: Range<usize>,
}

#[derive(Debug, Clone)]
enum Origin {
    Map(Arc<Mmap>),
    Memory(Arc<[u8]>),
    /// The same without the copy that making the other from a vector takes.
    Vector(Arc<Vec<u8>>),
}

impl Bytes {
    /// Maps a file read-only. Nothing is read until it is looked at.
    #[expect(unsafe_code, reason = "mapping a file is the one thing that reads tensors in place")]
    pub(super) fn map(file: &File) -> io::Result<Self> {
        if file.metadata()?.len() == 0 {
            return Ok(Self::from(Vec::new()));
        }
        // SAFETY: the map is private to this value, read-only and never handed out mutably. The bytes may still change
        // or vanish when another process writes to or truncates the file meanwhile: the same contract as every reader
        // that maps (torch, safetensors). Inputs that came through the store are never rewritten in place, and every
        // length and offset taken from the map is checked after it was copied out.
        let map = unsafe { Mmap::map(file)? };
        let range = 0..map.len();
        Ok(Self { origin: Origin::Map(Arc::new(map)), range })
    }

    /// The part of these bytes at `range`, sharing the origin.
    pub(super) fn slice(&self, range: Range<u64>) -> Option<Self> {
        let start = self.range.start.checked_add(usize::try_from(range.start).ok()?)?;
        let end = self.range.start.checked_add(usize::try_from(range.end).ok()?)?;
        (start <= end && end <= self.range.end).then(|| Self { origin: self.origin.clone(), range: start..end })
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        let all: &[u8] = match &self.origin {
            Origin::Map(map) => map,
            Origin::Memory(memory) => memory,
            Origin::Vector(memory) => memory,
        };
        all.get(self.range.clone()).unwrap_or_default()
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        Self { origin: Origin::Vector(Arc::new(bytes)), range }
    }
}

impl From<Arc<[u8]>> for Bytes {
    fn from(bytes: Arc<[u8]>) -> Self {
        let range = 0..bytes.len();
        Self { origin: Origin::Memory(bytes), range }
    }
}
