//! Objects that no digest names, only an address and the version tag its server gave: what references bring. File I/O.
//!
//! The name is the official SDK's, `obj/etag/<hh>/<rest>` of SHA-256(SHA-256(address) ‖ SHA-256(tag)), so that both share
//! these objects too. Such a name proves nothing about the bytes; a record beside them (size, MD5, SHA-256) lets a later
//! change be seen. One that somebody else put there is taken when its size is the promised one, and never without a
//! promise.

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256 as Hasher};

use crate::digest::{Algorithm, Digest, DigestError, FileHasher, Sha256};

use super::durable::{DurableFile, write_durable};
use super::error::StoreError;
use super::etag_partial::EtagPartial;
use super::name::{ETAG, ObjectName};
use super::object::{Object, Store, Verdict, create_folder_of, delete, modified_ns};

/// Name of an object that an address and a version tag stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EtagKey(Sha256);

impl EtagKey {
    /// The name for what `url` gave under the version tag `etag`.
    pub fn of(url: &str, etag: &str) -> Self {
        let mut both = Hasher::digest(url).to_vec();
        both.extend(Hasher::digest(etag));
        Self(Sha256::of(&both))
    }

    /// Parses what [`fmt::Display`] writes.
    ///
    /// # Errors
    /// [`DigestError`] when the text is anything else.
    pub fn parse(text: &str) -> Result<Self, DigestError> {
        Sha256::from_hex(text.strip_prefix("etag:").unwrap_or_default()).map(Self)
    }

    pub(super) fn to_hex(self) -> String {
        self.0.to_hex()
    }
}

impl fmt::Display for EtagKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "etag:{}", self.0)
    }
}

/// What [`Store::reserve_etag`] found.
#[derive(Debug)]
pub enum EtagReservation {
    /// The object is here, as it was when it came.
    Present(Object),
    /// It is not; the caller alone may fill it.
    Missing(Box<EtagPartial>),
}

/// What we remember of such an object.
#[derive(Serialize, Deserialize)]
struct Known {
    size: u64,
    modified_ns: u128,
    md5: String,
    sha256: Sha256,
}

impl Known {
    fn is_of(&self, metadata: &Metadata) -> bool {
        (self.size, self.modified_ns) == (metadata.len(), modified_ns(metadata))
    }
}

impl Store {
    /// The object under this name, when its bytes are those that came. Its digest is the MD5 of what is there.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the file system refuses.
    pub fn find_etag(&self, key: &EtagKey, size: Option<u64>) -> Result<Option<Object>, StoreError> {
        let path = self.etag_path(key);
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("read", &path)(error)),
        };
        let known = self.known(key);
        if size.is_some_and(|size| size != metadata.len()) || (known.is_none() && size.is_none()) {
            return Ok(None);
        }
        if let Some(known) = &known
            && known.is_of(&metadata)
            && let Ok(digest) = Digest::parse(&known.md5)
        {
            self.note_use(*key);
            return Ok(Some(Object { path, digest, size: known.size }));
        }
        let file = File::open(&path).map_err(StoreError::io("open", &path))?;
        let hasher = hash_all(file).map_err(StoreError::io("read", &path))?;
        if known.is_some_and(|known| known.sha256 != hasher.sha256()) {
            self.note(&format!("{} was changed since it came; deleted", path.display()));
            delete(&path)?;
            return Ok(None);
        }
        let object = Object { path, digest: hasher.digest(), size: hasher.len() };
        self.remember_etag(key, (&object, hasher.sha256()), modified_ns(&metadata))?;
        Ok(Some(object))
    }

    /// The object, or the exclusive right to fill it. Waits while another process is filling it.
    ///
    /// # Errors
    /// [`StoreError`] when the file system refuses.
    pub fn reserve_etag(&self, key: &EtagKey, size: Option<u64>) -> Result<EtagReservation, StoreError> {
        if let Some(object) = self.find_etag(key, size)? {
            return Ok(EtagReservation::Present(object));
        }
        let partial = self.replace_etag(key)?;
        // Whoever held the lock before us may have finished the object.
        if let Some(object) = self.find_etag(key, size)? {
            return Ok(EtagReservation::Present(object));
        }
        Ok(EtagReservation::Missing(partial))
    }

    /// The exclusive right to fill the object anew, whatever is there.
    ///
    /// # Errors
    /// [`StoreError`] when the file system refuses.
    pub fn replace_etag(&self, key: &EtagKey) -> Result<Box<EtagPartial>, StoreError> {
        let lock = self.lock(*key)?;
        EtagPartial::open(self.clone(), *key, self.etag_partial(key), lock).map(Box::new)
    }

    /// Bytes of such an object that an earlier attempt left.
    pub fn received_etag(&self, key: &EtagKey) -> u64 {
        fs::metadata(self.etag_partial(key)).map_or(0, |metadata| metadata.len())
    }

    /// The object with this digest, whatever its size: for references, which do not always say theirs.
    ///
    /// # Errors
    /// As [`Store::find`].
    pub fn find_unsized(&self, digest: &Digest) -> Result<Option<Object>, StoreError> {
        match fs::metadata(self.object_path(digest)) {
            Ok(metadata) => self.find(digest, metadata.len()),
            Err(_) => Ok(None),
        }
    }

    /// Gives such an object the name of its digest as well, for whoever proved that the digest is the promised one.
    ///
    /// # Errors
    /// [`StoreError`] when the file system refuses.
    pub fn name_by_digest(&self, object: &Object) -> Result<Object, StoreError> {
        let path = self.object_path(&object.digest);
        if !path.exists() {
            create_folder_of(&path)?;
            let linked = fs::hard_link(&object.path, &path);
            if linked.is_err() && !path.exists() {
                let failed = || StoreError::io("write", &path);
                let mut from = File::open(&object.path).map_err(StoreError::io("open", &object.path))?;
                let mut copy = DurableFile::create(&path).map_err(failed())?;
                io::copy(&mut from, &mut copy).map_err(failed())?;
                copy.commit().map_err(failed())?;
            }
        }
        Ok(self.find(&object.digest, object.size)?.unwrap_or_else(|| object.clone()))
    }

    pub(super) fn etag_path(&self, key: &EtagKey) -> PathBuf {
        let hex = key.to_hex();
        let (head, rest) = hex.split_at(2);
        self.root().join("obj").join(ETAG).join(head).join(rest)
    }

    fn etag_partial(&self, key: &EtagKey) -> PathBuf {
        self.own("partial").join(ObjectName::from(*key).file_name())
    }

    fn known(&self, key: &EtagKey) -> Option<Known> {
        serde_json::from_slice(&fs::read(self.verified_path(*key)).ok()?).ok()
    }

    /// Whether a file is, as far as its size and time tell, what came.
    pub(super) fn is_as_it_came(&self, key: &EtagKey, metadata: &Metadata) -> bool {
        self.known(key).is_some_and(|known| known.is_of(metadata))
    }

    /// Hashes such an object again.
    pub(super) fn verify_etag(
        &self,
        path: &Path,
        key: &EtagKey,
        (file, metadata): (&File, &Metadata),
    ) -> Result<Verdict, StoreError> {
        let Some(known) = self.known(key) else { return Ok(Verdict::Unproven) };
        let hasher = hash_all(file).map_err(StoreError::io("read", path))?;
        if hasher.sha256() != known.sha256 {
            return Ok(Verdict::Corrupt);
        }
        let object = Object { path: path.to_owned(), digest: hasher.digest(), size: hasher.len() };
        self.remember_etag(key, (&object, known.sha256), modified_ns(metadata))?;
        Ok(Verdict::Ok)
    }

    pub(super) fn remember_etag(
        &self,
        key: &EtagKey,
        (object, sha256): (&Object, Sha256),
        modified_ns: u128,
    ) -> Result<(), StoreError> {
        // What is known already need not be computed when it is asked for.
        self.remember(object, modified_ns, Some(sha256))?;
        let path = self.verified_path(*key);
        let record = Known { size: object.size, modified_ns, md5: object.digest.to_string(), sha256 };
        let text = serde_json::to_vec(&record).map_err(io::Error::from).map_err(StoreError::io("describe", &path))?;
        write_durable(&path, &text).map_err(StoreError::io("write", &path))
    }
}

/// MD5 and SHA-256 of all that is left.
pub(super) fn hash_all(mut reader: impl Read) -> io::Result<FileHasher> {
    let mut hasher = FileHasher::new(Algorithm::Md5);
    let mut buffer = vec![0; 256 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(hasher),
            Ok(read) => hasher.update(buffer.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Progress;
    use crate::store::{PruneRules, State, plan_pruning};
    use std::time::SystemTime;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path(), Progress::silent());
        (folder, store)
    }

    fn missing(store: &Store, key: &EtagKey) -> Box<EtagPartial> {
        match store.reserve_etag(key, None).unwrap() {
            EtagReservation::Missing(partial) => partial,
            EtagReservation::Present(object) => panic!("{object:?}"),
        }
    }

    #[test]
    fn the_name_is_the_official_one() {
        // hashlib.sha256(hashlib.sha256(b"http://h/x").digest() + hashlib.sha256(b"abc").digest()).hexdigest()
        let key = EtagKey::of("http://h/x", "abc");
        assert_eq!(key.to_string(), "etag:1f06a5a8f2ec941bb97e228437af9163d51b60fd8e0dc9e01961a94180f9be64");
        assert_eq!(EtagKey::parse(&key.to_string()), Ok(key));
        assert!(EtagKey::parse(&key.to_hex()).is_err() && EtagKey::parse("etag:00").is_err());
    }

    #[test]
    fn what_came_is_found_until_it_changes() {
        let (_folder, store) = store();
        let key = EtagKey::of("http://h/x", "abc");
        let mut partial = missing(&store, &key);
        partial.append(b"hello").unwrap();
        let object = partial.commit().unwrap();
        assert_eq!(object.digest, Digest::of(Algorithm::Md5, b"hello"));
        assert_eq!(store.find_etag(&key, Some(5)).unwrap(), Some(object.clone()));
        assert_eq!(store.find_etag(&key, None).unwrap(), Some(object.clone()));
        assert_eq!(store.find_etag(&key, Some(6)).unwrap(), None);
        write_durable(&object.path, b"hello").unwrap();
        assert_eq!(store.find_etag(&key, None).unwrap(), Some(object.clone()), "another time, the same bytes");
        write_durable(&object.path, b"jello").unwrap();
        assert_eq!(store.find_etag(&key, None).unwrap(), None);
        assert!(!object.path.exists());
    }

    #[test]
    fn they_are_looked_after_like_others() {
        let (_folder, store) = store();
        let (ours, theirs) = (EtagKey::of("http://h/x", "abc"), EtagKey::of("http://h/y", "abc"));
        let mut partial = missing(&store, &ours);
        partial.append(b"hello").unwrap();
        let object = partial.commit().unwrap();
        write_durable(&store.etag_path(&theirs), b"jello").unwrap();
        missing(&store, &EtagKey::of("http://h/z", "abc")).append(b"half").unwrap();
        let inventory = store.inventory().unwrap();
        let of = |key: EtagKey| inventory.objects.iter().find(|object| object.name == key.into()).unwrap();
        assert_eq!((of(ours).state, of(theirs).state), (State::AsTheyCame, State::Unknown));
        assert_eq!((inventory.objects.len(), inventory.partials().bytes > 4), (2, true));
        assert_eq!(store.verify(of(ours)).unwrap(), Verdict::Ok);
        assert_eq!(store.verify(of(theirs)).unwrap(), Verdict::Unproven);
        write_durable(&object.path, b"jello").unwrap();
        assert_eq!(store.verify(of(ours)).unwrap(), Verdict::Corrupt);
        let all = PruneRules { max_size: Some(0), partials: true, ..PruneRules::default() };
        let plan = |pinned: EtagKey| {
            let inventory = store.inventory().unwrap();
            plan_pruning(&inventory, &all, move |name| *name == pinned.into(), SystemTime::now())
        };
        store.prune(&plan(theirs)).unwrap();
        let left = store.inventory().unwrap();
        assert_eq!(left.objects.iter().map(|object| object.name).collect::<Vec<_>>(), [theirs.into()]);
        assert_eq!(left.partials().files, 0);
        // What somebody is filling stays.
        let held = store.replace_etag(&theirs).unwrap();
        assert_eq!(store.prune(&plan(ours)).unwrap().in_use.len(), 2);
        drop(held);
        store.prune(&plan(ours)).unwrap();
        assert_eq!(store.inventory().unwrap().objects, []);
    }

    #[test]
    fn a_foreign_object_needs_the_promised_size() {
        let (_folder, store) = store();
        let key = EtagKey::of("http://h/x", "abc");
        write_durable(&store.etag_path(&key), b"hello").unwrap();
        assert_eq!(store.find_etag(&key, None).unwrap(), None);
        assert_eq!(store.find_etag(&key, Some(4)).unwrap(), None);
        let object = store.find_etag(&key, Some(5)).unwrap().unwrap();
        assert_eq!(store.sha256(&object).unwrap(), Sha256::of(b"hello"));
    }
}
