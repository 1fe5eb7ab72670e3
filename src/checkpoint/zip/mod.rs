//! The directory of a zip archive, read strictly: every record has one place, and no two share a byte.
//!
//! Reads the end records, the central directory, and per record its local header; never scans the archive. Written
//! because opening a 426 MB checkpoint in place needs byte offsets and bounds that general zip readers do not promise:
//! `zip` is the witness for it in tests. Names are keys, never paths. Reads through [`ReadAt`]; no other I/O.

mod error;
mod place;

use std::cmp::Ordering;
use std::io::Read;
use std::ops::Range;

pub use error::ZipError;
use place::Place;

use super::source::ReadAt;

/// Largest central directory that is read: about 600,000 records.
pub const MAX_DIRECTORY_BYTES: u64 = 48 << 20;

/// What a record may inflate to beyond the length of its archive, in bytes: with what is kept of the tensors, 64 MiB.
pub const MAX_INFLATED_EXCESS: u64 = 48 << 20;

const CENTRAL: &[u8; 4] = b"PK\x01\x02";
const LOCAL: &[u8; 4] = b"PK\x03\x04";
const CENTRAL_BYTES: u64 = 46;
const LOCAL_BYTES: u64 = 30;
const ZIP64_EXTRA: u16 = 1;
/// Data descriptor (3), UTF-8 names (11) and the two deflate hints (1, 2): harmless. Everything else changes the bytes.
const HARMLESS_FLAGS: u16 = 0x080e;

/// One record as the directory describes it.
#[derive(Debug, Clone)]
pub struct Record {
    name: Range<u32>,
    method: u16,
    crc: u32,
    compressed: u64,
    size: u64,
    header: u64,
    /// Where the next record or the directory starts: nothing of this record may lie at or beyond.
    next: u64,
}

impl Record {
    /// Bytes of the content.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// CRC-32 of the content as the directory states it; 0 also when the writer computed none.
    pub fn crc(&self) -> u32 {
        self.crc
    }

    /// Whether the content lies in the archive as it is.
    pub fn is_stored(&self) -> bool {
        self.method == 0
    }

    /// The bytes of the archive from this record's header to the end of its content at the latest: what to fetch to
    /// read it. How long the header is stands only in the header, so room is left for the longest, or up to whatever
    /// follows the record.
    pub fn span(&self) -> Range<u64> {
        let longest = LOCAL_BYTES + u64::from(self.name.end - self.name.start) + u64::from(u16::MAX);
        self.header..self.next.min(self.header.saturating_add(longest).saturating_add(self.compressed))
    }
}

/// A checked directory.
#[derive(Debug)]
pub struct Directory {
    /// The central directory's bytes, which hold the names.
    bytes: Vec<u8>,
    records: Vec<Record>,
    /// Positions in `records`, sorted by name.
    by_name: Vec<u32>,
    archive_len: u64,
}

impl Directory {
    /// Reads and checks the directory of the archive in `source`.
    ///
    /// # Errors
    /// [`ZipError`] when anything about it does not fit.
    pub fn read(source: &(impl ReadAt + ?Sized)) -> Result<Self, ZipError> {
        let place = Place::find(source)?;
        let bytes = read(source, place.start..place.end)?;
        let mut directory = Self { bytes, records: Vec::new(), by_name: Vec::new(), archive_len: source.len() };
        directory.parse(&place)?;
        directory.check_overlap(place.start)?;
        directory.index()?;
        Ok(directory)
    }

    /// Bytes that the directory takes in memory.
    pub(super) fn held(&self) -> u64 {
        (self.bytes.len() + self.records.len() * (size_of::<Record>() + size_of::<u32>())) as u64
    }

    /// The records in directory order with their names.
    pub fn records(&self) -> impl Iterator<Item = (&str, &Record)> {
        self.records.iter().map(|record| (self.name(record), record))
    }

    /// The record of this name.
    pub fn get(&self, name: &str) -> Option<&Record> {
        let at = self.by_name.binary_search_by(|&at| {
            self.records.get(at as usize).map_or(Ordering::Less, |record| self.name(record).cmp(name))
        });
        self.records.get(*self.by_name.get(at.ok()?)? as usize)
    }

    /// A record's name.
    pub fn name(&self, record: &Record) -> &str {
        let bytes = self.bytes.get(record.name.start as usize..record.name.end as usize);
        std::str::from_utf8(bytes.unwrap_or_default()).unwrap_or_default()
    }

    /// Where in the archive the bytes of a record lie, stored or deflated, after checking its local header.
    ///
    /// # Errors
    /// [`ZipError::HeaderMismatch`], [`ZipError::Overlap`].
    pub fn locate(&self, source: &(impl ReadAt + ?Sized), record: &Record) -> Result<Range<u64>, ZipError> {
        let mismatch =
            |problem| ZipError::HeaderMismatch { name: self.name(record).to_owned(), offset: record.header, problem };
        let header = read(source, record.header..record.header + LOCAL_BYTES)?;
        if header.get(..4) != Some(LOCAL) {
            return Err(mismatch("no local header there"));
        }
        if u16_at(&header, 8) != record.method {
            return Err(mismatch("another method"));
        }
        if u16_at(&header, 6) & !HARMLESS_FLAGS != 0 {
            return Err(mismatch("other flags"));
        }
        let name_len = u64::from(u16_at(&header, 26));
        let extra_len = u64::from(u16_at(&header, 28));
        let name_start = record.header + LOCAL_BYTES;
        if name_len != self.name(record).len() as u64 {
            return Err(mismatch("another name"));
        }
        if read(source, name_start..name_start + name_len)? != self.name(record).as_bytes() {
            return Err(mismatch("another name"));
        }
        let start = name_start + name_len + extra_len;
        let end = start.checked_add(record.compressed).filter(|&end| end <= record.next);
        let end = end.ok_or_else(|| self.overlap(record))?;
        Ok(start..end)
    }

    /// Inflates the `deflated` bytes of a record to `out`, exactly to the declared size.
    ///
    /// # Errors
    /// [`ZipError::BadDeflate`]; [`ZipError::Read`] when `out` fails.
    pub fn inflate(&self, record: &Record, deflated: &[u8], out: &mut impl std::io::Write) -> Result<(), ZipError> {
        let bad = || ZipError::BadDeflate { name: self.name(record).to_owned(), bytes: record.size };
        let mut inflater = flate2::bufread::DeflateDecoder::new(deflated);
        let mut block = vec![0; 64 << 10];
        let mut written = 0u64;
        loop {
            let got = inflater.read(&mut block).map_err(|_| bad())?;
            let Some(content) = block.get(..got).filter(|content| !content.is_empty()) else { break };
            written += content.len() as u64;
            if written > record.size {
                return Err(bad());
            }
            out.write_all(content).map_err(|source| ZipError::Read { offset: record.header, source })?;
        }
        if written != record.size || inflater.total_in() != deflated.len() as u64 {
            return Err(bad());
        }
        Ok(())
    }

    /// Inflates a record to memory, when what it declares is at most the archive's length plus
    /// [`MAX_INFLATED_EXCESS`].
    ///
    /// # Errors
    /// [`ZipError::InflatesTooMuch`], [`ZipError::BadDeflate`].
    pub fn inflate_to_memory(&self, record: &Record, deflated: &[u8]) -> Result<Vec<u8>, ZipError> {
        let limit = self.archive_len.saturating_add(MAX_INFLATED_EXCESS);
        if record.size > limit {
            let name = self.name(record).to_owned();
            return Err(ZipError::InflatesTooMuch { name, bytes: record.size, limit });
        }
        // Reserve only what the input can possibly fill: deflate expands at most 1032 times.
        let possible = (deflated.len() as u64).saturating_mul(1032).min(record.size);
        let mut out = Vec::with_capacity(usize::try_from(possible).unwrap_or(0));
        self.inflate(record, deflated, &mut out)?;
        Ok(out)
    }

    /// Compares the CRC-32 of a record's content with the directory. `false` when the writer stated none: torch writes
    /// 0 when told not to compute it.
    ///
    /// # Errors
    /// [`ZipError::Crc`] when they differ.
    pub fn verify(&self, record: &Record, content: &[u8]) -> Result<bool, ZipError> {
        if record.crc == 0 && !content.is_empty() {
            return Ok(false);
        }
        let actual = crc32fast::hash(content);
        if actual == record.crc {
            return Ok(true);
        }
        Err(ZipError::Crc { name: self.name(record).to_owned(), expected: record.crc, actual })
    }

    fn parse(&mut self, place: &Place) -> Result<(), ZipError> {
        let mut at = 0usize;
        // The count was checked against the directory's length, so this reserves at most as much as was read.
        self.records.reserve_exact(usize::try_from(place.count).unwrap_or(0));
        for _ in 0..place.count {
            let (record, next) = entry(&self.bytes, at, place)?;
            self.records.push(record);
            at = next;
        }
        if at != self.bytes.len() {
            let offset = place.start + at as u64;
            return Err(ZipError::BadEntry { offset, problem: "bytes are left over after the last entry" });
        }
        Ok(())
    }

    /// Sets each record's `next` and refuses records that cannot fit before it.
    fn check_overlap(&mut self, directory_start: u64) -> Result<(), ZipError> {
        let mut order: Vec<u32> = (0..self.records.len() as u32).collect();
        order.sort_unstable_by_key(|&at| self.records.get(at as usize).map(|record| record.header));
        let mut next = directory_start;
        for at in order.into_iter().rev() {
            let Some(record) = self.records.get_mut(at as usize) else { continue };
            record.next = next;
            let least =
                (LOCAL_BYTES + u64::from(record.name.end - record.name.start)).saturating_add(record.compressed);
            let fits = record.header.checked_add(least).is_some_and(|end| end <= next);
            next = record.header;
            if !fits {
                let record = record.clone();
                return Err(self.overlap(&record));
            }
        }
        Ok(())
    }

    fn overlap(&self, record: &Record) -> ZipError {
        ZipError::Overlap { name: self.name(record).to_owned(), offset: record.header, next: record.next }
    }

    fn index(&mut self) -> Result<(), ZipError> {
        let mut by_name: Vec<u32> = (0..self.records.len() as u32).collect();
        let name_at = |at: u32| self.records.get(at as usize).map(|record| self.name(record));
        by_name.sort_unstable_by(|&a, &b| name_at(a).cmp(&name_at(b)));
        for pair in by_name.windows(2) {
            if let &[a, b] = pair
                && name_at(a) == name_at(b)
            {
                return Err(ZipError::DuplicateName { name: name_at(a).unwrap_or_default().to_owned() });
            }
        }
        self.by_name = by_name;
        Ok(())
    }
}

/// Parses the directory entry at `at`; returns it with the position of the next one.
fn entry(bytes: &[u8], at: usize, place: &Place) -> Result<(Record, usize), ZipError> {
    let offset = place.start + at as u64;
    let bad = |problem| ZipError::BadEntry { offset, problem };
    let fixed = bytes.get(at..).and_then(|rest| rest.get(..CENTRAL_BYTES as usize));
    let fixed = fixed.filter(|fixed| fixed.starts_with(CENTRAL)).ok_or(bad("no entry there"))?;
    let name_start = at + CENTRAL_BYTES as usize;
    let name_end = name_start + usize::from(u16_at(fixed, 28));
    let extra_end = name_end + usize::from(u16_at(fixed, 30));
    let next = extra_end + usize::from(u16_at(fixed, 32));
    if next > bytes.len() {
        return Err(bad("it runs past the directory"));
    }
    let name = bytes.get(name_start..name_end).and_then(|name| std::str::from_utf8(name).ok());
    let name = name.ok_or(bad("its name is not UTF-8"))?;
    let (flags, method) = (u16_at(fixed, 8), u16_at(fixed, 10));
    check_kind(name, flags, method, u32_at(fixed, 38), u16_at(fixed, 4))?;
    let mut record = Record {
        name: name_start as u32..name_end as u32,
        method,
        crc: u32_at(fixed, 16),
        compressed: u32_at(fixed, 20).into(),
        size: u32_at(fixed, 24).into(),
        header: u32_at(fixed, 42).into(),
        next: place.start,
    };
    let extra = bytes.get(name_end..extra_end).unwrap_or_default();
    widen_entry(&mut record, extra).ok_or(bad("its ZIP64 sizes are missing"))?;
    if !matches!(u16_at(fixed, 34), 0 | 0xffff) {
        return Err(bad("it lies on another disk"));
    }
    if method == 0 && record.compressed != record.size {
        return Err(bad("it is stored, yet its two sizes differ"));
    }
    if record.header >= place.start {
        return Err(bad("it lies beyond the directory"));
    }
    Ok((record, next))
}

/// Replaces saturated fields by those of the ZIP64 extra field.
fn widen_entry(record: &mut Record, mut extra: &[u8]) -> Option<()> {
    let saturated = u64::from(u32::MAX);
    if ![record.size, record.compressed, record.header].contains(&saturated) {
        return Some(());
    }
    loop {
        let (head, rest) = extra.split_at_checked(4)?;
        let (field, rest) = rest.split_at_checked(u16_at(head, 2).into())?;
        extra = rest;
        if u16_at(head, 0) != ZIP64_EXTRA {
            continue;
        }
        let mut values = field.chunks_exact(8).map(|value| u64_at(value, 0));
        for slot in [&mut record.size, &mut record.compressed, &mut record.header] {
            if *slot == saturated {
                *slot = values.next()?;
            }
        }
        return Some(());
    }
}

fn check_kind(name: &str, flags: u16, method: u16, attributes: u32, made_by: u16) -> Result<(), ZipError> {
    let name = || name.to_owned();
    if flags & !HARMLESS_FLAGS != 0 {
        return Err(ZipError::Flags { name: name(), flags });
    }
    if !matches!(method, 0 | 8) {
        return Err(ZipError::Method { name: name(), method });
    }
    let unix = made_by >> 8 == 3;
    if unix && (attributes >> 16) & 0o170_000 == 0o120_000 {
        return Err(ZipError::Unsafe { name: name(), what: "a symbolic link" });
    }
    let text = name();
    let escapes = text.starts_with('/') || text.split(['/', '\\']).any(|part| part == "..");
    if escapes || text.contains('\0') || text.is_empty() {
        return Err(ZipError::Unsafe { name: text, what: "not a plain relative name" });
    }
    Ok(())
}

fn read(source: &(impl ReadAt + ?Sized), range: Range<u64>) -> Result<Vec<u8>, ZipError> {
    let offset = range.start;
    let bytes = source.read_at(range).map_err(|source| ZipError::Read { offset, source })?;
    Ok(bytes.into_owned())
}

/// Little-endian numbers at fixed places of buffers whose length was checked; 0 beyond them.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |&number| u16::from_le_bytes(number))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |&number| u32::from_le_bytes(number))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |&number| u64::from_le_bytes(number))
}

#[cfg(test)]
mod tests;
