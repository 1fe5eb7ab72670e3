//! Bytes to upload: hashed in one pass, then read again while they are sent, with proof that they did not change between.
//! File I/O.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::digest::{Algorithm, Digest, DigestHasher};
use crate::progress::Task;

use super::super::error::WandbError;
use super::draft::Source;

const PARTS: u64 = 10_000;
/// The largest file that W&B takes: 5 TiB.
const LARGEST: u64 = 5 << 40;
const BUFFER: usize = 256 << 10;

/// A source and what its bytes hash to.
#[derive(Debug, Clone)]
pub(super) struct Hashed {
    pub(super) source: Source,
    pub(super) md5: Digest,
    /// Where the manifest is to have it.
    pub(super) xxh128: Option<Digest>,
    pub(super) size: u64,
    /// Parts of a large file; none for others.
    pub(super) pieces: Vec<Piece>,
    /// When the file was last written to, as of hashing.
    modified: Option<SystemTime>,
}

/// How to hash a source.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Hashing {
    /// Bytes from which on a file has parts.
    pub(in super::super) threshold: u64,
    /// Bytes of a part, as long as they are not too many.
    pub(in super::super) part: u64,
    /// What goes into the manifest. MD5 is always taken, since the server is told it for every upload.
    pub(in super::super) algorithm: Algorithm,
}

/// One part of a large file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// From 1.
    pub(super) number: u64,
    pub(super) range: Range<u64>,
    pub(super) md5: Digest,
}

impl Hashed {
    pub(super) fn of_bytes(bytes: Bytes) -> Self {
        let (md5, size) = (Digest::of(Algorithm::Md5, &bytes), bytes.len() as u64);
        Self { source: Source::Bytes(bytes), md5, xxh128: None, size, pieces: Vec::new(), modified: None }
    }

    /// The digest by which a manifest of `algorithm` knows the bytes.
    pub(super) fn digest(&self, algorithm: Algorithm) -> Digest {
        self.xxh128.filter(|_| algorithm == Algorithm::Xxh128).unwrap_or(self.md5)
    }

    /// Whether the file is still the one that was hashed, as far as size and time tell.
    pub(super) fn check_unchanged(&self) -> Result<(), WandbError> {
        let Source::File(path) = &self.source else { return Ok(()) };
        let metadata = fs::metadata(path).map_err(|source| file_error("read", path, source))?;
        if metadata.len() != self.size || metadata.modified().ok() != self.modified {
            return Err(WandbError::Changed { path: path.clone() });
        }
        Ok(())
    }
}

/// Length of the parts of a file of `size` bytes: the official client's rule (`core/pkg/artifacts/multipart.go`).
fn part_size(size: u64, part: u64) -> u64 {
    if size < part.saturating_mul(PARTS) { part } else { size.div_ceil(PARTS).next_multiple_of(4096) }
}

/// Hashes a source in one pass over its bytes.
pub(super) fn hash(source: &Source, hashing: Hashing, begin: impl FnOnce(u64) -> Task) -> Result<Hashed, WandbError> {
    let wants_xxh128 = hashing.algorithm == Algorithm::Xxh128;
    let path = match source {
        Source::Bytes(bytes) => {
            let xxh128 = wants_xxh128.then(|| Digest::of(Algorithm::Xxh128, bytes));
            return Ok(Hashed { xxh128, ..Hashed::of_bytes(bytes.clone()) });
        }
        Source::File(path) => path,
    };
    let failed = |action| move |source| file_error(action, path, source);
    let mut file = File::open(path).map_err(failed("open"))?;
    let metadata = file.metadata().map_err(failed("read"))?;
    if !metadata.is_file() {
        return Err(failed("upload")(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")));
    }
    let size = metadata.len();
    let task = begin(size);
    if size > LARGEST {
        let reason = format!("it has {size} bytes, and W&B takes {LARGEST}");
        return Err(failed("upload")(io::Error::new(io::ErrorKind::FileTooLarge, reason)));
    }
    let part = if size >= hashing.threshold && size > 0 { Some(part_size(size, hashing.part)) } else { None };
    let mut other = wants_xxh128.then(|| DigestHasher::new(Algorithm::Xxh128));
    let (mut whole, mut pieces) = (DigestHasher::new(Algorithm::Md5), Vec::new());
    let (mut piece, mut start, mut at) = (DigestHasher::new(Algorithm::Md5), 0, 0u64);
    let mut buffer = vec![0; BUFFER];
    loop {
        let room = part.map_or(BUFFER as u64, |part| (start + part - at).min(BUFFER as u64));
        let read = read_some(&mut file, buffer.get_mut(..room as usize).unwrap_or_default()).map_err(failed("read"))?;
        let bytes = buffer.get(..read).unwrap_or_default();
        at += read as u64;
        whole.update(bytes);
        if let Some(other) = &mut other {
            other.update(bytes);
        }
        task.advance(read as u64);
        if let Some(part) = part {
            piece.update(bytes);
            if at > start && (at - start == part || read == 0) {
                pieces.push(Piece { number: pieces.len() as u64 + 1, range: start..at, md5: piece.digest() });
                (piece, start) = (DigestHasher::new(Algorithm::Md5), at);
            }
        }
        if read == 0 {
            break;
        }
    }
    if at != size {
        return Err(WandbError::Changed { path: path.clone() });
    }
    let (md5, xxh128) = (whole.digest(), other.map(|other| other.digest()));
    Ok(Hashed { source: source.clone(), md5, xxh128, size, pieces, modified: metadata.modified().ok() })
}

/// Reads a range and hands it on in chunks; ends early when nobody listens any more.
pub(super) fn read_range(source: &Source, range: Range<u64>, chunks: &mpsc::Sender<io::Result<Bytes>>) {
    if let Err(error) = try_read_range(source, range, chunks) {
        // When nobody listens any more, nobody needs the error either.
        let _ = chunks.blocking_send(Err(error));
    }
}

fn try_read_range(source: &Source, range: Range<u64>, chunks: &mpsc::Sender<io::Result<Bytes>>) -> io::Result<()> {
    let mut left = range.end.saturating_sub(range.start);
    match source {
        Source::Bytes(bytes) => {
            let part = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
            let part = part.filter(|(start, end)| start <= end && *end <= bytes.len());
            let Some((start, end)) = part else { return Err(io::ErrorKind::UnexpectedEof.into()) };
            let mut rest = bytes.slice(start..end);
            while !rest.is_empty() {
                let chunk = rest.split_to(rest.len().min(BUFFER));
                if chunks.blocking_send(Ok(chunk)).is_err() {
                    break;
                }
            }
        }
        Source::File(path) => {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(range.start))?;
            while left > 0 {
                let mut buffer = vec![0; (BUFFER as u64).min(left) as usize];
                let read = read_some(&mut file, &mut buffer)?;
                if read == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                buffer.truncate(read);
                left -= read as u64;
                if chunks.blocking_send(Ok(buffer.into())).is_err() {
                    break;
                }
            }
        }
    }
    Ok(())
}

fn read_some(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

pub(super) fn file_error(action: &'static str, path: &Path, source: io::Error) -> WandbError {
    WandbError::File { action, path: PathBuf::from(path), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Progress;

    const PART: u64 = 104_857_600;

    fn hashed(data: &[u8], threshold: u64, part: u64) -> (tempfile::TempDir, Hashed) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        fs::write(&path, data).unwrap();
        let begin = |total| Progress::silent().begin(crate::progress::Stage::Verify, "f", Some(total));
        let hashing = Hashing { threshold, part, algorithm: Algorithm::Xxh128 };
        let hashed = hash(&Source::File(path), hashing, begin).unwrap();
        (folder, hashed)
    }

    #[test]
    fn parts_follow_the_official_rule() {
        let of = |size| part_size(size, PART);
        assert_eq!(of(2_147_495_993), PART);
        assert_eq!(2_147_495_993u64.div_ceil(PART), 21);
        assert_eq!(2_147_495_993 - 20 * PART, 50_343_993);
        assert_eq!(of(PART * PARTS) % 4096, 0);
        assert!((5u64 << 40).div_ceil(of(5 << 40)) <= PARTS);
    }

    #[test]
    fn a_file_hashes_like_its_bytes_and_parts_cover_it() {
        let data: Vec<u8> = (0..600_000u32).map(|i| (i / 7) as u8).collect();
        let (_folder, whole) = hashed(&data, u64::MAX, PART);
        assert_eq!((whole.md5, whole.size, whole.pieces.len()), (Digest::of(Algorithm::Md5, &data), 600_000, 0));
        assert_eq!(whole.digest(Algorithm::Xxh128), Digest::of(Algorithm::Xxh128, &data));
        assert_eq!(whole.digest(Algorithm::Md5), whole.md5);
        let (_folder, parts) = hashed(&data, 1, PART);
        assert_eq!(parts.pieces, [Piece { number: 1, range: 0..600_000, md5: whole.md5 }]);
        let (_folder, parts) = hashed(&data, 1, 250_000);
        let ranges: Vec<_> = parts.pieces.iter().map(|piece| (piece.number, piece.range.clone())).collect();
        assert_eq!(ranges, [(1, 0..250_000), (2, 250_000..500_000), (3, 500_000..600_000)]);
        assert_eq!(parts.pieces[2].md5, Digest::of(Algorithm::Md5, &data[500_000..]));
        let (_folder, empty) = hashed(b"", 0, PART);
        assert_eq!((empty.size, empty.pieces.len()), (0, 0));
    }

    #[test]
    fn a_change_after_hashing_is_seen() {
        let (folder, file) = hashed(b"hello", u64::MAX, PART);
        file.check_unchanged().unwrap();
        fs::write(folder.path().join("f"), b"hello!").unwrap();
        assert!(matches!(file.check_unchanged(), Err(WandbError::Changed { .. })));
    }
}
