//! Objects of the store: finding them, trusting them, and reserving those that are missing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Md5Pool, PooledHasher, Sha256, Sha256Hasher};
use crate::progress::{Progress, Stage};

use super::durable::write_durable;
use super::error::StoreError;
use super::partial::Partial;

/// A verified object: these bytes hash to this digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Where it is.
    pub path: PathBuf,
    /// The W&B digest that names it.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
}

/// What [`Store::reserve`] found.
#[derive(Debug)]
pub enum Reservation {
    /// The object is here and verified.
    Present(Object),
    /// It is not; the caller alone may fill it.
    Missing(Box<Partial>),
}

/// The content-addressed store under one folder.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    progress: Progress,
    /// Hashes all objects that arrive or are checked at the same time.
    pub(super) hashing: Md5Pool,
}

/// What we remember of an object that we hashed.
#[derive(Serialize, Deserialize)]
struct Verified {
    size: u64,
    modified_ns: u128,
    /// Only what somebody asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<Sha256>,
}

impl Store {
    /// The store in `root`, which is the `artifacts` folder of the W&B cache. Nothing is created until needed.
    pub fn new(root: impl Into<PathBuf>, progress: Progress) -> Self {
        Self { root: root.into(), progress, hashing: Md5Pool::default() }
    }

    /// The folder of the store.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the object with this digest is or would be.
    pub fn object_path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.to_hex();
        let (head, rest) = hex.split_at(2);
        self.root.join("obj").join(digest.algorithm().folder()).join(head).join(rest)
    }

    /// The object, when it is here and its bytes were verified, now or before.
    ///
    /// An object of another size is not a hit. One that we have not hashed yet is hashed now; when its bytes are wrong it
    /// is deleted, so that a fresh copy can take its place.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the file system refuses.
    pub fn find(&self, digest: &Digest, size: u64) -> Result<Option<Object>, StoreError> {
        let path = self.object_path(digest);
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("read", &path)(error)),
        };
        if metadata.len() != size {
            return Ok(None);
        }
        let modified_ns = modified_ns(&metadata);
        if let Some(known) = self.recall(digest)
            && known.size == size
            && known.modified_ns == modified_ns
        {
            return Ok(Some(Object { path, digest: *digest, size }));
        }
        let task = self.progress.begin(Stage::Verify, &digest.to_hex(), Some(size));
        let file = File::open(&path).map_err(StoreError::io("open", &path))?;
        let mut hasher = PooledHasher::new(&self.hashing, digest.algorithm());
        hash_reader(&mut hasher, file, |n| task.advance(n)).map_err(StoreError::io("read", &path))?;
        if hasher.digest() != *digest {
            self.progress.note(&format!("{} does not hash to its name; deleted", path.display()));
            fs::remove_file(&path).map_err(StoreError::io("delete", &path))?;
            return Ok(None);
        }
        let object = Object { path, digest: *digest, size };
        self.remember(&object, modified_ns, None)?;
        Ok(Some(object))
    }

    /// The SHA-256 of an object: computed when first asked for, since it costs as much as a download from nearby, and
    /// remembered.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the object cannot be read.
    pub fn sha256(&self, object: &Object) -> Result<Sha256, StoreError> {
        let failed = || StoreError::io("read", &object.path);
        let mut file = File::open(&object.path).map_err(failed())?;
        let modified_ns = modified_ns(&file.metadata().map_err(failed())?);
        if let Some(known) = self.recall(&object.digest)
            && (known.size, known.modified_ns) == (object.size, modified_ns)
            && let Some(sha256) = known.sha256
        {
            return Ok(sha256);
        }
        let task = self.progress.begin(Stage::Verify, &object.digest.to_hex(), Some(object.size));
        let mut hasher = Sha256Hasher::default();
        read_pieces(&mut file, |piece| {
            task.advance(piece.len() as u64);
            hasher.update(&piece);
        })
        .map_err(failed())?;
        let sha256 = hasher.finish();
        self.remember(object, modified_ns, Some(sha256))?;
        Ok(sha256)
    }

    /// Bytes of a missing object that an earlier attempt left.
    pub fn received(&self, digest: &Digest) -> u64 {
        fs::metadata(self.partial_path(digest)).map_or(0, |metadata| metadata.len())
    }

    /// The object, or the exclusive right to fill it. Waits while another process is filling it.
    ///
    /// # Errors
    /// [`StoreError`] when the file system refuses.
    pub fn reserve(&self, digest: &Digest, size: u64) -> Result<Reservation, StoreError> {
        if let Some(object) = self.find(digest, size)? {
            return Ok(Reservation::Present(object));
        }
        let lock = self.lock(&own_name(digest))?;
        // Whoever held the lock before us may have finished the object.
        if let Some(object) = self.find(digest, size)? {
            return Ok(Reservation::Present(object));
        }
        Partial::open(self.clone(), *digest, size, self.partial_path(digest), lock)
            .map(|partial| Reservation::Missing(Box::new(partial)))
    }

    fn own(&self, folder: &str) -> PathBuf {
        self.root.join("wandb-pca-1").join(folder)
    }

    fn partial_path(&self, digest: &Digest) -> PathBuf {
        self.own("partial").join(own_name(digest))
    }

    fn lock(&self, name: &str) -> Result<File, StoreError> {
        let path = self.own("locks").join(name);
        create_folder_of(&path)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(StoreError::io("open", &path))?;
        lock.lock().map_err(StoreError::io("lock", &path))?;
        Ok(lock)
    }

    fn verified_path(&self, digest: &Digest) -> PathBuf {
        self.own("verified").join(own_name(digest) + ".json")
    }

    /// A missing or unreadable record only means that the object is hashed again.
    fn recall(&self, digest: &Digest) -> Option<Verified> {
        serde_json::from_slice(&fs::read(self.verified_path(digest)).ok()?).ok()
    }

    pub(super) fn remember(
        &self,
        object: &Object,
        modified_ns: u128,
        sha256: Option<Sha256>,
    ) -> Result<(), StoreError> {
        let path = self.verified_path(&object.digest);
        let record = Verified { size: object.size, modified_ns, sha256 };
        let text = serde_json::to_vec(&record).map_err(io::Error::from).map_err(StoreError::io("describe", &path))?;
        write_durable(&path, &text).map_err(StoreError::io("write", &path))
    }
}

/// What our own files about an object are called.
fn own_name(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm().folder(), digest.to_hex())
}

/// Hashes everything that `reader` holds, telling `advanced` how far it got.
pub(super) fn hash_reader(hasher: &mut PooledHasher, reader: impl Read, advanced: impl Fn(u64)) -> io::Result<()> {
    read_pieces(reader, |piece| {
        advanced(piece.len() as u64);
        hasher.update(piece);
    })
}

/// Reads to the end, in pieces that are large enough to be hashed side by side.
fn read_pieces(mut reader: impl Read, mut each: impl FnMut(Bytes)) -> io::Result<()> {
    const PIECE: usize = 256 << 10;
    let mut buffer = BytesMut::new();
    loop {
        buffer.resize(PIECE, 0);
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => each(buffer.split_to(read).freeze()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

pub(super) fn modified_ns(metadata: &fs::Metadata) -> u128 {
    metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |since| since.as_nanos())
}

pub(super) fn create_folder_of(path: &Path) -> Result<(), StoreError> {
    match path.parent() {
        Some(folder) => fs::create_dir_all(folder).map_err(StoreError::io("create", folder)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Algorithm;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path(), Progress::silent());
        (folder, store)
    }

    fn fill(store: &Store, data: &[u8]) -> Object {
        let digest = Digest::of(Algorithm::Md5, data);
        match store.reserve(&digest, data.len() as u64).unwrap() {
            Reservation::Missing(mut partial) => {
                partial.append(Bytes::copy_from_slice(data)).unwrap();
                partial.commit().unwrap()
            }
            Reservation::Present(object) => object,
        }
    }

    #[test]
    fn an_object_is_filled_once_and_found_by_name_and_size() {
        let (_folder, store) = store();
        let object = fill(&store, b"hello");
        assert!(object.path.ends_with("obj/md5/5d/41402abc4b2a76b9719d911017c592"));
        assert_eq!(store.sha256(&object).unwrap(), Sha256::of(b"hello"));
        assert_eq!(store.find(&object.digest, 5).unwrap(), Some(object.clone()));
        assert_eq!(store.find(&object.digest, 6).unwrap(), None);
        assert!(matches!(store.reserve(&object.digest, 5).unwrap(), Reservation::Present(_)));
    }

    #[test]
    fn wrong_bytes_never_get_the_name() {
        let (_folder, store) = store();
        let digest = Digest::of(Algorithm::Md5, b"hello");
        let Reservation::Missing(mut partial) = store.reserve(&digest, 5).unwrap() else { panic!("not here yet") };
        partial.append(Bytes::from_static(b"jello")).unwrap();
        assert!(matches!(partial.commit(), Err(StoreError::Corrupt { found_size: 5, .. })));
        assert!(!store.object_path(&digest).exists());
        let Reservation::Missing(partial) = store.reserve(&digest, 5).unwrap() else { panic!("still missing") };
        assert!(partial.is_empty());
    }

    #[test]
    fn an_interrupted_object_goes_on_where_it_stopped() {
        let (_folder, store) = store();
        let digest = Digest::of(Algorithm::Md5, b"hello");
        let Reservation::Missing(mut partial) = store.reserve(&digest, 5).unwrap() else { panic!("not here yet") };
        partial.append(Bytes::from_static(b"hel")).unwrap();
        drop(partial);
        let Reservation::Missing(mut partial) = store.reserve(&digest, 5).unwrap() else { panic!("not whole yet") };
        assert_eq!(partial.len(), 3);
        partial.append(Bytes::from_static(b"lo")).unwrap();
        partial.commit().unwrap();
    }

    #[test]
    fn a_foreign_object_is_hashed_before_use_and_dropped_when_wrong() {
        let (_folder, store) = store();
        let digest = Digest::of(Algorithm::Md5, b"hello");
        let path = store.object_path(&digest);
        write_durable(&path, b"jello").unwrap();
        assert_eq!(store.find(&digest, 5).unwrap(), None);
        assert!(!path.exists());
        write_durable(&path, b"hello").unwrap();
        let object = store.find(&digest, 5).unwrap().unwrap();
        assert_eq!(store.sha256(&object).unwrap(), Sha256::of(b"hello"));
        assert_eq!(store.recall(&digest).unwrap().sha256, Some(Sha256::of(b"hello")));
    }

    #[test]
    fn two_fillers_of_one_object_share_the_work() {
        let (_folder, store) = store();
        let data = vec![7u8; 100_000];
        let filled = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| fill(&store, &data))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(filled.windows(2).all(|pair| pair[0] == pair[1]));
    }
}
