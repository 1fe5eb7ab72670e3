//! Content on disk, named by its SHA-256 and found by the digests that W&B uses.
//!
//! ```text
//! <data>/blobs/<hh>/<rest of sha256>   whole, verified content
//! <data>/incoming/                     uploads under way; emptied on start
//! <data>/parts/<upload>/<number>       parts of multipart uploads
//! ```
//!
//! Naming by SHA-256 keeps somebody who can make two files of one MD5 from exchanging them. Blocking I/O; content passes
//! in pieces and is never held whole.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use xxhash_rust::xxh3::Xxh3;

use crate::digest::{Algorithm, FileHasher, hex};
use crate::store::DurableFile;

use super::clock::now;
use super::db::Db;
use super::fault::Fault;

/// Content that is here: every digest of it, as lower-case hex, and its size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blob {
    pub(super) sha256: String,
    pub(super) md5: String,
    pub(super) xxh128: String,
    pub(super) size: u64,
}

impl Blob {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let size: i64 = row.get(3)?;
        Ok(Self { sha256: row.get(0)?, md5: row.get(1)?, xxh128: row.get(2)?, size: size.max(0).unsigned_abs() })
    }

    /// The blob of this SHA-256.
    pub(super) fn find(connection: &Connection, sha256: &str) -> Result<Option<Self>, Fault> {
        let sql = "SELECT sha256, md5, xxh128, size FROM blob WHERE sha256 = ?1";
        Ok(connection.prepare_cached(sql)?.query_row([sha256], Self::from_row).optional()?)
    }

    /// The blob of this W&B digest; the oldest, should there ever be two.
    pub(super) fn find_by_digest(
        connection: &Connection,
        algorithm: Algorithm,
        hex: &str,
    ) -> Result<Option<Self>, Fault> {
        let sql = match algorithm {
            Algorithm::Md5 => "SELECT sha256, md5, xxh128, size FROM blob WHERE md5 = ?1 ORDER BY created_at",
            Algorithm::Xxh128 => "SELECT sha256, md5, xxh128, size FROM blob WHERE xxh128 = ?1 ORDER BY created_at",
        };
        Ok(connection.prepare_cached(sql)?.query_row([hex], Self::from_row).optional()?)
    }
}

/// The folder of all content.
#[derive(Debug, Clone)]
pub(super) struct Blobs {
    root: PathBuf,
}

impl Blobs {
    /// The content under `data`. Uploads that a stopped server left half-way are cleared.
    pub(super) fn open(data: &Path) -> io::Result<Self> {
        let blobs = Self { root: data.to_owned() };
        match fs::remove_dir_all(blobs.incoming()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(blobs.incoming())?,
        }
        Ok(blobs)
    }

    fn incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }

    /// Where the content of this SHA-256 is.
    pub(super) fn path(&self, sha256: &str) -> PathBuf {
        let (head, rest) = sha256.split_at_checked(2).unwrap_or((sha256, ""));
        self.root.join("blobs").join(head).join(rest)
    }

    /// Where one part of a multipart upload is kept.
    pub(super) fn part_path(&self, upload: &str, number: u64) -> PathBuf {
        self.part_folder(upload).join(number.to_string())
    }

    fn part_folder(&self, upload: &str) -> PathBuf {
        self.root.join("parts").join(upload)
    }

    /// Starts receiving content.
    pub(super) fn receive(&self) -> Result<Incoming, Fault> {
        // Only the folder of this name matters: the content gets its own name when it is whole.
        let target = self.incoming().join("content");
        let file = DurableFile::create(&target).map_err(Fault::io("write", &target))?;
        Ok(Incoming { file, target, md5: FileHasher::new(Algorithm::Md5), xxh128: Box::new(Xxh3::new()) })
    }

    /// Joins the parts of an upload into one content.
    pub(super) fn join(&self, upload: &str, numbers: &[u64]) -> Result<Incoming, Fault> {
        let mut incoming = self.receive()?;
        let mut buffer = vec![0; 1 << 20];
        for number in numbers {
            let path = self.part_path(upload, *number);
            let mut part = File::open(&path).map_err(Fault::io("read", &path))?;
            loop {
                let count = part.read(&mut buffer).map_err(Fault::io("read", &path))?;
                let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else { break };
                incoming.write(piece)?;
            }
        }
        Ok(incoming)
    }

    /// Forgets the parts of an upload.
    pub(super) fn forget_parts(&self, upload: &str) -> Result<(), Fault> {
        let folder = self.part_folder(upload);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Fault::io("delete", &folder)(error)),
            _ => Ok(()),
        }
    }

    /// Gives received content its name and records it.
    pub(super) fn keep(&self, db: &Db, incoming: Incoming) -> Result<Blob, Fault> {
        let blob = incoming.blob();
        let size = i64::try_from(blob.size).map_err(|_| Fault::invalid("the content is too large"))?;
        let path = self.path(&blob.sha256);
        // The file first: a recorded blob always has its content, and a file without a record harms nobody.
        if fs::metadata(&path).is_ok_and(|found| found.len() == blob.size) {
            drop(incoming);
        } else {
            incoming.file.commit_as(&path).map_err(Fault::io("write", &path))?;
        }
        db.write(|transaction| {
            let sql = "INSERT INTO blob (sha256, md5, xxh128, size, created_at) VALUES (?1, ?2, ?3, ?4, ?5)
                       ON CONFLICT DO NOTHING";
            transaction.execute(sql, params![blob.sha256, blob.md5, blob.xxh128, size, now()])?;
            Ok(())
        })?;
        Ok(blob)
    }
}

/// Content on its way in; dropped, it leaves nothing.
pub(super) struct Incoming {
    file: DurableFile,
    target: PathBuf,
    md5: FileHasher,
    xxh128: Box<Xxh3>,
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming").field("size", &self.md5.len()).finish_non_exhaustive()
    }
}

impl Incoming {
    /// Appends a piece.
    pub(super) fn write(&mut self, piece: &[u8]) -> Result<(), Fault> {
        self.file.write_all(piece).map_err(Fault::io("write", &self.target))?;
        self.md5.update(piece);
        self.xxh128.update(piece);
        Ok(())
    }

    /// MD5 of everything so far, in lower-case hex.
    pub(super) fn md5(&self) -> String {
        self.md5.digest().to_hex()
    }

    /// Gives the content a name of its own, outside the blobs: a part of a bigger one.
    pub(super) fn keep_as_part(self, path: &Path) -> Result<(), Fault> {
        self.file.commit_as(path).map_err(Fault::io("write", path))
    }

    fn blob(&self) -> Blob {
        Blob {
            sha256: self.md5.sha256().to_hex(),
            md5: self.md5(),
            xxh128: hex(&self.xxh128.digest128().to_be_bytes()),
            size: self.md5.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_found_by_each_digest_and_kept_once() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(&folder.path().join("server.db")).unwrap();
        let blobs = Blobs::open(folder.path()).unwrap();
        let store = |pieces: &[&[u8]]| {
            let mut incoming = blobs.receive().unwrap();
            pieces.iter().for_each(|piece| incoming.write(piece).unwrap());
            blobs.keep(&db, incoming).unwrap()
        };
        let blob = store(&[b"hel", b"lo\n"]);
        assert_eq!(blob, store(&[b"hello\n"]));
        assert_eq!(blob.size, 6);
        assert_eq!(fs::read(blobs.path(&blob.sha256)).unwrap(), b"hello\n");
        for algorithm in [Algorithm::Md5, Algorithm::Xxh128] {
            let hex = crate::digest::Digest::of(algorithm, b"hello\n").to_hex();
            assert_eq!(db.read(|c| Blob::find_by_digest(c, algorithm, &hex)).unwrap().as_ref(), Some(&blob));
        }
        drop(blobs.receive().unwrap());
        assert_eq!(fs::read_dir(folder.path().join("incoming")).unwrap().count(), 0);
    }
}
