//! The end records of a zip archive: where its directory lies. Classic and ZIP64, which must agree. Reads through
//! `ReadAt`; no other I/O.

use super::super::source::ReadAt;
use super::{CENTRAL_BYTES, MAX_DIRECTORY_BYTES, ZipError, read, u16_at, u32_at, u64_at};

const END: &[u8; 4] = b"PK\x05\x06";
const END64: &[u8; 4] = b"PK\x06\x06";
const LOCATOR64: &[u8; 4] = b"PK\x06\x07";
const END_BYTES: u64 = 22;
const LOCATOR64_BYTES: u64 = 20;
const END64_BYTES: u64 = 56;

/// Where the central directory lies and how many entries it has.
pub(super) struct Place {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) count: u64,
}

impl Place {
    pub(super) fn find(source: &(impl ReadAt + ?Sized)) -> Result<Self, ZipError> {
        let (end_at, end) = find_end(source)?;
        let bad = |problem| ZipError::BadEnd { offset: end_at, problem };
        if u16_at(&end, 4) != u16_at(&end, 6) || !matches!(u16_at(&end, 4), 0 | 0xffff) {
            return Err(bad("archives in several parts are refused"));
        }
        if u16_at(&end, 8) != u16_at(&end, 10) {
            return Err(bad("archives in several parts are refused"));
        }
        let mut place = Self { start: u32_at(&end, 16).into(), end: end_at, count: u16_at(&end, 10).into() };
        let mut bytes = u64::from(u32_at(&end, 12));
        if let Some(locator_at) = end_at.checked_sub(LOCATOR64_BYTES) {
            let locator = read(source, locator_at..end_at)?;
            if locator.get(..4) == Some(LOCATOR64) {
                bytes = place.widen(source, locator_at, &locator, bytes)?;
            }
        }
        if place.start.checked_add(bytes) != Some(place.end) {
            return Err(bad("the directory does not end where the end record starts"));
        }
        if bytes > MAX_DIRECTORY_BYTES {
            return Err(ZipError::DirectoryTooLarge { bytes });
        }
        if place.count.checked_mul(CENTRAL_BYTES).is_none_or(|least| least > bytes) {
            return Err(bad("more entries than the directory has room for"));
        }
        Ok(place)
    }

    /// Takes the fields of the ZIP64 end record, which must agree with every field of the classic one that is not
    /// saturated. Returns the directory's length.
    fn widen(
        &mut self,
        source: &(impl ReadAt + ?Sized),
        locator_at: u64,
        locator: &[u8],
        bytes: u64,
    ) -> Result<u64, ZipError> {
        let at = u64_at(locator, 8);
        let bad = |problem| ZipError::BadEnd { offset: locator_at, problem };
        if at.checked_add(END64_BYTES) != Some(locator_at) {
            return Err(bad("the ZIP64 end record does not end where its locator starts"));
        }
        let end64 = read(source, at..locator_at)?;
        if end64.get(..4) != Some(END64) || u64_at(&end64, 4) != END64_BYTES - 12 {
            return Err(bad("no ZIP64 end record where its locator points"));
        }
        if u32_at(&end64, 16) != 0 || u32_at(&end64, 20) != 0 || u64_at(&end64, 24) != u64_at(&end64, 32) {
            return Err(bad("archives in several parts are refused"));
        }
        let wide = (u64_at(&end64, 32), u64_at(&end64, 40), u64_at(&end64, 48));
        let agrees = |narrow: u64, saturated: u64, wide: u64| narrow == saturated || narrow == wide;
        if !agrees(self.count, 0xffff, wide.0)
            || !agrees(bytes, 0xffff_ffff, wide.1)
            || !agrees(self.start, 0xffff_ffff, wide.2)
        {
            return Err(bad("the two end records disagree"));
        }
        *self = Self { start: wide.2, end: at, count: wide.0 };
        Ok(wide.1)
    }
}

/// The end record nearest to the end whose comment reaches exactly to the end of the archive.
fn find_end(source: &(impl ReadAt + ?Sized)) -> Result<(u64, Vec<u8>), ZipError> {
    let len = source.len();
    // Nearly every archive has no comment; then its last bytes are enough.
    if let Some(at) = len.checked_sub(END_BYTES) {
        let window = read(source, at..len)?;
        if window.starts_with(END) && u16_at(&window, 20) == 0 {
            return Ok((at, window));
        }
    }
    let first = len.saturating_sub(END_BYTES + 0xffff);
    let tail = read(source, first..len)?;
    let mut windows = tail.windows(END_BYTES as usize).enumerate().rev();
    let found = windows.find(|(at, window)| {
        window.starts_with(END) && at + END_BYTES as usize + usize::from(u16_at(window, 20)) == tail.len()
    });
    if let Some((at, window)) = found {
        return Ok((first + at as u64, window.to_vec()));
    }
    let early = tail.windows(END.len()).rposition(|window| window == END);
    Err(early.map_or(ZipError::NoEnd, |at| ZipError::BadEnd {
        offset: first + at as u64,
        problem: "other bytes follow it, or not all of it is there",
    }))
}
