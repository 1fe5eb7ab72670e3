//! Objects of the store: finding them, trusting them, and reserving those that are missing.

use std::fs::{self, File, FileTimes};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Md5Pool, PooledHasher, Sha256, Sha256Hasher};
use crate::progress::{Progress, Stage};

use super::durable::write_durable;
use super::error::StoreError;
use super::inventory::StoredObject;
use super::name::ObjectName;
use super::partial::Partial;

/// A verified object: these bytes hash to this digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Where it is.
    pub path: PathBuf,
    /// The W&B digest that names it; of an object that an address and a version tag name, the MD5 of what is there.
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

/// What the bytes of an object are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// What its name says.
    Ok,
    /// Something else.
    Corrupt,
    /// Nothing to hold them to: somebody else put there what no digest names.
    Unproven,
    /// Gone since it was looked at.
    Gone,
}

/// Our own folder in the store; the number is the layout's version.
pub(super) const OWN_FOLDER: &str = "wandb-pca-1";
/// How often the use of an object is noted.
const USE_NOTED: Duration = Duration::from_secs(24 * 3600);

/// What we remember of an object that we hashed.
#[derive(Serialize, Deserialize)]
pub(super) struct Verified {
    size: u64,
    modified_ns: u128,
    /// Only what somebody asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<Sha256>,
}

impl Verified {
    /// Whether the object is as it was when it was hashed.
    pub(super) fn is_of(&self, size: u64, modified_ns: u128) -> bool {
        (self.size, self.modified_ns) == (size, modified_ns)
    }
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

    /// The folder for what is kept only while it is used, in files without a name.
    pub fn scratch(&self) -> PathBuf {
        self.root.join(OWN_FOLDER)
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
            && known.is_of(size, modified_ns)
        {
            self.note_use(*digest);
            return Ok(Some(Object { path, digest: *digest, size }));
        }
        let task = self.progress.begin(Stage::Verify, &digest.to_hex(), Some(size));
        let file = match File::open(&path) {
            Ok(file) => file,
            // Somebody made room meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("open", &path)(error)),
        };
        let mut hasher = PooledHasher::new(&self.hashing, digest.algorithm());
        hash_reader(&mut hasher, file, |n| task.advance(n)).map_err(StoreError::io("read", &path))?;
        if hasher.digest() != *digest {
            // Another process may have put the right bytes there while these were hashed.
            let same = |now: fs::Metadata| (now.len(), self::modified_ns(&now)) == (size, modified_ns);
            if fs::metadata(&path).is_ok_and(same) {
                self.progress.note(&format!("{} does not hash to its name; deleted", path.display()));
                delete(&path)?;
            }
            return Ok(None);
        }
        let object = Object { path, digest: *digest, size };
        if let Err(error) = self.remember(&object, modified_ns, None) {
            // The object is right; it will only be hashed again.
            self.progress.note(&format!("{error}; {} will be hashed again", object.path.display()));
        }
        Ok(Some(object))
    }

    /// Hashes an object again, whatever we knew of it, and remembers what it found: one whose bytes are wrong is not used
    /// any more. One that no digest names is held to what came. Its time of last use stays.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the file system refuses.
    pub fn verify(&self, object: &StoredObject) -> Result<Verdict, StoreError> {
        let path = &object.path;
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Verdict::Gone),
            Err(error) => return Err(StoreError::io("open", path)(error)),
        };
        let metadata = file.metadata().map_err(StoreError::io("read", path))?;
        let verdict = match object.name {
            ObjectName::Digest(digest) => self.verify_digest(path, digest, (&file, &metadata))?,
            ObjectName::Etag(key) => self.verify_etag(path, &key, (&file, &metadata))?,
        };
        if verdict != Verdict::Ok {
            return Ok(verdict);
        }
        // Looking after an object is no use of it. Where the times cannot be set, it only stays longer.
        if let Ok(accessed) = metadata.accessed() {
            let _ = file.set_times(FileTimes::new().set_accessed(accessed));
        }
        if let Ok(record) = File::options().write(true).open(self.verified_path(object.name)) {
            let _ = record.set_modified(object.last_used);
        }
        Ok(Verdict::Ok)
    }

    fn verify_digest(
        &self,
        path: &Path,
        digest: Digest,
        (file, metadata): (&File, &fs::Metadata),
    ) -> Result<Verdict, StoreError> {
        let task = self.progress.begin(Stage::Verify, &digest.to_hex(), Some(metadata.len()));
        let mut hasher = PooledHasher::new(&self.hashing, digest.algorithm());
        hash_reader(&mut hasher, file, |n| task.advance(n)).map_err(StoreError::io("read", path))?;
        if hasher.digest() != digest {
            delete(&self.verified_path(digest))?;
            return Ok(Verdict::Corrupt);
        }
        let modified_ns = modified_ns(metadata);
        let sha256 = self.recall(&digest).filter(|known| known.is_of(metadata.len(), modified_ns));
        let verified = Object { path: path.to_owned(), digest, size: metadata.len() };
        self.remember(&verified, modified_ns, sha256.and_then(|known| known.sha256))?;
        Ok(Verdict::Ok)
    }

    /// Notes that an object was used, for whoever makes room. A store that cannot be written to is used all the same.
    pub(super) fn note_use(&self, name: impl Into<ObjectName>) {
        let path = self.verified_path(name);
        let noted = fs::metadata(&path).and_then(|record| record.modified()).ok();
        let recent = noted.and_then(|noted| noted.elapsed().ok()).is_some_and(|age| age < USE_NOTED);
        if !recent && let Ok(record) = File::options().write(true).open(&path) {
            let _ = record.set_modified(SystemTime::now());
        }
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
            && known.is_of(object.size, modified_ns)
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
        let lock = self.lock(*digest)?;
        // Whoever held the lock before us may have finished the object.
        if let Some(object) = self.find(digest, size)? {
            return Ok(Reservation::Present(object));
        }
        Partial::open(self.clone(), *digest, size, self.partial_path(digest), lock)
            .map(|partial| Reservation::Missing(Box::new(partial)))
    }

    pub(super) fn own(&self, folder: &str) -> PathBuf {
        self.root.join(OWN_FOLDER).join(folder)
    }

    fn partial_path(&self, digest: &Digest) -> PathBuf {
        self.own("partial").join(ObjectName::from(*digest).file_name())
    }

    pub(super) fn note(&self, text: &str) {
        self.progress.note(text);
    }

    pub(super) fn verified_path(&self, name: impl Into<ObjectName>) -> PathBuf {
        self.own("verified").join(name.into().file_name() + ".json")
    }

    /// A missing or unreadable record only means that the object is hashed again.
    pub(super) fn recall(&self, digest: &Digest) -> Option<Verified> {
        serde_json::from_slice(&fs::read(self.verified_path(*digest)).ok()?).ok()
    }

    pub(super) fn remember(
        &self,
        object: &Object,
        modified_ns: u128,
        sha256: Option<Sha256>,
    ) -> Result<(), StoreError> {
        let path = self.verified_path(object.digest);
        let record = Verified { size: object.size, modified_ns, sha256 };
        let text = serde_json::to_vec(&record).map_err(io::Error::from).map_err(StoreError::io("describe", &path))?;
        write_durable(&path, &text).map_err(StoreError::io("write", &path))
    }
}

/// Deletes a file; what is gone already is deleted.
pub(super) fn delete(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("delete", path)(error)),
        _ => Ok(()),
    }
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
    use crate::store::{PruneRules, State, plan_pruning};

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

    #[test]
    fn what_is_being_filled_is_not_pruned_and_the_rest_is() {
        let (_folder, store) = store();
        let (one, two) = (fill(&store, b"one"), fill(&store, b"two"));
        let digest = Digest::of(Algorithm::Md5, b"half");
        let Reservation::Missing(mut filling) = store.reserve(&digest, 4).unwrap() else { panic!("not here yet") };
        filling.append(Bytes::from_static(b"ha")).unwrap();
        let all = PruneRules { max_size: Some(0), ..PruneRules::default() };
        let plan = |store: &Store| {
            let pinned = |name: &ObjectName| *name == two.digest.into();
            plan_pruning(&store.inventory().unwrap(), &all, pinned, SystemTime::now())
        };
        let pruned = store.prune(&plan(&store)).unwrap();
        assert_eq!(pruned.removed.iter().map(|gone| &gone.path).collect::<Vec<_>>(), [&one.path]);
        assert_eq!(pruned.in_use.len(), 1);
        assert!(two.path.exists() && !store.verified_path(one.digest).exists());
        filling.append(Bytes::from_static(b"lf")).unwrap();
        filling.commit().unwrap();
        assert_eq!(store.prune(&plan(&store)).unwrap().removed.len(), 1);
        assert_eq!(store.inventory().unwrap().objects.len(), 1);
    }

    #[test]
    fn an_object_that_was_used_since_the_plan_was_made_stays() {
        let (_folder, store) = store();
        let object = fill(&store, b"hello");
        let old = SystemTime::now() - 100 * USE_NOTED;
        let age = || {
            for path in [store.verified_path(object.digest), object.path.clone()] {
                let file = File::options().write(true).open(path).unwrap();
                file.set_times(FileTimes::new().set_accessed(old)).unwrap();
            }
            let record = File::options().write(true).open(store.verified_path(object.digest)).unwrap();
            record.set_modified(old).unwrap();
        };
        // The object's own time of writing counts too, so that it is made old, and hashed again.
        File::options().write(true).open(&object.path).unwrap().set_modified(old).unwrap();
        store.find(&object.digest, 5).unwrap().unwrap();
        age();
        let rules = PruneRules { older_than: Some(USE_NOTED), ..PruneRules::default() };
        let plan = || plan_pruning(&store.inventory().unwrap(), &rules, |_| false, SystemTime::now());
        let planned = plan();
        assert_eq!(planned.removals.len(), 1);
        // Looking after it is no use of it.
        let stored = store.inventory().unwrap().objects.remove(0);
        assert_eq!(store.verify(&stored).unwrap(), Verdict::Ok);
        assert_eq!(plan().removals.len(), 1);
        store.find(&object.digest, 5).unwrap().unwrap();
        assert_eq!(plan().removals.len(), 0, "its use was noted");
        let pruned = store.prune(&planned).unwrap();
        assert_eq!((pruned.removed.len(), pruned.in_use.len()), (0, 1));
        assert!(object.path.exists());
    }

    #[test]
    fn wrong_bytes_under_a_right_time_are_found_by_hashing() {
        let (_folder, store) = store();
        let object = fill(&store, b"hello");
        let written = fs::metadata(&object.path).unwrap().modified().unwrap();
        fs::write(&object.path, b"jello").unwrap();
        File::options().write(true).open(&object.path).unwrap().set_modified(written).unwrap();
        let stored = store.inventory().unwrap().objects.remove(0);
        assert_eq!(stored.state, State::Verified, "size and time are the same");
        assert_eq!(store.verify(&stored).unwrap(), Verdict::Corrupt);
        // From now on it is not taken for right any more.
        assert_eq!(store.find(&object.digest, 5).unwrap(), None);
        assert_eq!(store.verify(&stored).unwrap(), Verdict::Gone);
    }

    #[test]
    fn filling_and_pruning_at_the_same_time_end_well() {
        let (_folder, store) = store();
        let all = PruneRules { max_size: Some(0), partials: true, ..PruneRules::default() };
        let done = std::sync::atomic::AtomicBool::new(false);
        let done = &done;
        std::thread::scope(|scope| {
            let fillers: Vec<_> = (0..3u8)
                .map(|_| {
                    let store = &store;
                    scope.spawn(move || (0..20u8).map(|at| fill(store, &[at; 1000])).collect::<Vec<_>>())
                })
                .collect();
            let pruner = scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let plan = plan_pruning(&store.inventory().unwrap(), &all, |_| false, SystemTime::now());
                    store.prune(&plan).unwrap();
                }
            });
            for filler in fillers {
                assert_eq!(filler.join().unwrap().len(), 20);
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            pruner.join().unwrap();
        });
        for object in store.inventory().unwrap().objects {
            assert_eq!(store.verify(&object).unwrap(), Verdict::Ok);
        }
    }
}
