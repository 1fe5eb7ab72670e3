//! A zip archive as torch's own writer lays it out: stored, streamed without seeking, every record's data aligned to 64
//! bytes by an extra field, sizes and CRC-32 in descriptors and directory, ZIP64 always at the end and in the records
//! that need it. The `zip` crate seeks back to patch headers and aligns with another field; hence this.

use std::io::{self, Write};

use super::WriteError;

const ALIGNMENT: u64 = 64;
const LOCAL_BYTES: u64 = 30;
/// Sizes follow the data; names are UTF-8.
const FLAGS: u16 = 0x0808;
/// 1980-01-01, the first day that the format knows: files are the same whenever they are written.
const DATE: u16 = 0x0021;
/// Version needed to extract: 4.5, which brought ZIP64.
const VERSION: u16 = 45;
/// Padding, as torch marks it.
const PADDING_ID: &[u8; 2] = b"FB";

struct Entry {
    name: String,
    crc: u32,
    bytes: u64,
    header: u64,
}

pub(super) struct Archive<W> {
    out: Counting<W>,
    entries: Vec<Entry>,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out: Counting { out, written: 0, crc: crc32fast::Hasher::new() }, entries: Vec::new() }
    }

    /// Names and checksums of the records so far.
    pub(super) fn fingerprint_input(&self) -> (String, Vec<u8>) {
        let names = self.entries.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>().join("\n");
        (names, self.entries.iter().flat_map(|entry| entry.crc.to_le_bytes()).collect())
    }

    pub(super) fn small(&mut self, name: &str, content: &[u8]) -> Result<(), WriteError> {
        self.record(name, content.len() as u64, |out| Ok(out.write_all(content)?))
    }

    /// Writes one record of exactly `bytes` bytes.
    pub(super) fn record(
        &mut self,
        name: &str,
        bytes: u64,
        write: impl FnOnce(&mut Counting<W>) -> Result<(), WriteError>,
    ) -> Result<(), WriteError> {
        let header = self.out.written;
        let unpadded = header + LOCAL_BYTES + name.len() as u64 + 4;
        let padding = (unpadded.next_multiple_of(ALIGNMENT) - unpadded) as u16;
        let mut local = Vec::with_capacity(128 + name.len());
        local.extend(b"PK\x03\x04");
        for field in [VERSION, FLAGS, 0, 0, DATE] {
            local.extend(field.to_le_bytes());
        }
        local.extend([0; 12]);
        local.extend((name.len() as u16).to_le_bytes());
        local.extend((4 + padding).to_le_bytes());
        local.extend(name.as_bytes());
        local.extend(PADDING_ID);
        local.extend(padding.to_le_bytes());
        local.resize(local.len() + usize::from(padding), b'Z');
        self.out.write_all(&local)?;

        self.out.crc = crc32fast::Hasher::new();
        let start = self.out.written;
        write(&mut self.out)?;
        if self.out.written - start != bytes {
            return Err(io::Error::other("a record came out at another length than announced").into());
        }
        let crc = self.out.crc.clone().finalize();
        let mut descriptor = b"PK\x07\x08".to_vec();
        descriptor.extend(crc.to_le_bytes());
        if bytes >= u64::from(u32::MAX) || header >= u64::from(u32::MAX) {
            descriptor.extend([bytes.to_le_bytes(), bytes.to_le_bytes()].concat());
        } else {
            descriptor.extend([(bytes as u32).to_le_bytes(), (bytes as u32).to_le_bytes()].concat());
        }
        self.out.write_all(&descriptor)?;
        self.entries.push(Entry { name: name.to_owned(), crc, bytes, header });
        Ok(())
    }

    /// Writes directory and end records.
    pub(super) fn finish(mut self) -> io::Result<()> {
        let start = self.out.written;
        for entry in &self.entries {
            self.out.write_all(&entry.directory_entry())?;
        }
        let end = self.out.written;
        let (count, bytes) = (self.entries.len() as u64, end - start);
        let mut tail = b"PK\x06\x06".to_vec();
        tail.extend(44u64.to_le_bytes());
        tail.extend([VERSION.to_le_bytes(), VERSION.to_le_bytes()].concat());
        tail.extend([0; 8]);
        for field in [count, count, bytes, start] {
            tail.extend(field.to_le_bytes());
        }
        tail.extend(b"PK\x06\x07\0\0\0\0");
        tail.extend(end.to_le_bytes());
        tail.extend(1u32.to_le_bytes());
        tail.extend(b"PK\x05\x06\0\0\0\0");
        let narrow_count = u16::try_from(count).unwrap_or(u16::MAX);
        tail.extend([narrow_count.to_le_bytes(), narrow_count.to_le_bytes()].concat());
        tail.extend(narrow(bytes).to_le_bytes());
        tail.extend(narrow(start).to_le_bytes());
        tail.extend([0; 2]);
        self.out.write_all(&tail)?;
        self.out.flush()
    }
}

impl Entry {
    fn directory_entry(&self) -> Vec<u8> {
        let wide = |number: u64| number >= u64::from(u32::MAX);
        let mut extra = Vec::new();
        if wide(self.bytes) {
            extra.extend([self.bytes.to_le_bytes(), self.bytes.to_le_bytes()].concat());
        }
        if wide(self.header) {
            extra.extend(self.header.to_le_bytes());
        }
        let mut out = b"PK\x01\x02".to_vec();
        for field in [VERSION, VERSION, FLAGS, 0, 0, DATE] {
            out.extend(field.to_le_bytes());
        }
        out.extend(self.crc.to_le_bytes());
        out.extend([narrow(self.bytes).to_le_bytes(), narrow(self.bytes).to_le_bytes()].concat());
        out.extend((self.name.len() as u16).to_le_bytes());
        out.extend((if extra.is_empty() { 0 } else { extra.len() as u16 + 4 }).to_le_bytes());
        // Comment, disk, and the two kinds of attributes.
        out.extend([0; 10]);
        out.extend(narrow(self.header).to_le_bytes());
        out.extend(self.name.as_bytes());
        if !extra.is_empty() {
            out.extend(1u16.to_le_bytes());
            out.extend((extra.len() as u16).to_le_bytes());
            out.extend(extra);
        }
        out
    }
}

/// The 32-bit field of a number, saturated when the ZIP64 field carries it.
fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Counts and checksums what passes.
pub(super) struct Counting<W> {
    out: W,
    written: u64,
    crc: crc32fast::Hasher,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.out.write(buffer)?;
        self.crc.update(buffer.get(..written).unwrap_or(buffer));
        self.written += written as u64;
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
