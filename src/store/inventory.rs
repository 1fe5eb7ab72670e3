//! What is in the store: its objects with when they were last used, and what is left of unfinished work. Reads names and
//! times, no contents.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::error::StoreError;
use super::name::ObjectName;
use super::object::{OWN_FOLDER, Store, modified_ns};

/// How temporary files begin; see [`DurableFile`](super::DurableFile).
pub(super) const TEMPORARY: &str = ".partial-";

/// Everything in a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inventory {
    /// Objects, by name.
    pub objects: Vec<StoredObject>,
    /// What is left of unfinished or deleted objects.
    pub leftovers: Vec<Leftover>,
    /// Files and bytes of each folder below the store's, by its path from there.
    pub folders: BTreeMap<PathBuf, Usage>,
}

/// How much there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Files.
    pub files: u64,
    /// Bytes of all of them, as their sizes say; of sparse files, what they take.
    pub bytes: u64,
}

/// An object, as its name and its file say.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredObject {
    /// What it is called.
    pub name: ObjectName,
    /// Where it is.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// When it was last read, written, or found by us; the day counts, not the second.
    pub last_used: SystemTime,
    /// What is known of its bytes.
    pub state: State,
}

/// What is known of an object's bytes, without reading them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// We hashed them to the object's name, and they were not written to since.
    Verified,
    /// They are those that came from a reference's address, and no digest says whether these were right.
    AsTheyCame,
    /// Somebody else put them there, or they were written to since.
    Unknown,
}

impl State {
    /// Its name in output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::AsTheyCame => "as it came",
            Self::Unknown => "unverified",
        }
    }
}

/// A file that is no object.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leftover {
    /// What it is.
    pub kind: LeftoverKind,
    /// Where it is.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// When it was last written.
    pub modified: SystemTime,
}

/// What a file that is no object is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeftoverKind {
    /// Bytes of an object that is not whole; the next download of it goes on there.
    Partial(ObjectName),
    /// Written for a moment; left by a process that was killed.
    Temporary,
    /// What we know of an object that is gone.
    Orphan(ObjectName),
    /// The lock of an object that is gone.
    Lock(ObjectName),
}

impl Inventory {
    /// Bytes of all objects.
    pub fn object_bytes(&self) -> u64 {
        self.objects.iter().map(|object| object.size).sum()
    }

    /// Bytes of all partial objects.
    pub fn partials(&self) -> Usage {
        let partials = self.leftovers.iter().filter(|left| matches!(left.kind, LeftoverKind::Partial(_)));
        partials.fold(Usage::default(), |sum, left| Usage { files: sum.files + 1, bytes: sum.bytes + left.size })
    }
}

impl Store {
    /// What is in the store. Files that vanish meanwhile are left out.
    ///
    /// # Errors
    /// [`StoreError::Io`] when a folder cannot be read.
    pub fn inventory(&self) -> Result<Inventory, StoreError> {
        let mut inventory = Inventory::default();
        let mut others = Vec::new();
        walk(self.root(), &mut |path, metadata| {
            let below = path.strip_prefix(self.root()).unwrap_or(path);
            let usage = inventory.folders.entry(folder_of(below)).or_default();
            usage.files += 1;
            usage.bytes += bytes_of(below, metadata);
            match object_name(below) {
                Some(name) => inventory.objects.push(self.stored(name, path, metadata)),
                None => others.push((path.to_owned(), below.to_owned(), metadata.clone())),
            }
        })?;
        inventory.objects.sort_by_key(|object| object.name);
        let here = |name: &ObjectName| inventory.objects.binary_search_by_key(name, |object| object.name).is_ok();
        for (path, below, metadata) in others {
            let Some(kind) = leftover(&below, here) else { continue };
            let modified = metadata.modified().unwrap_or(UNIX_EPOCH);
            let size = bytes_of(&below, &metadata);
            inventory.leftovers.push(Leftover { kind, path, size, modified });
        }
        inventory.leftovers.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(inventory)
    }

    /// An object as it is now.
    pub(super) fn stored(&self, name: ObjectName, path: &Path, metadata: &Metadata) -> StoredObject {
        let record = self.verified_path(name);
        let (known, state) = match name {
            ObjectName::Digest(digest) => {
                let of = self.recall(&digest);
                (of.is_some_and(|known| known.is_of(metadata.len(), modified_ns(metadata))), State::Verified)
            }
            ObjectName::Etag(key) => (self.is_as_it_came(&key, metadata), State::AsTheyCame),
        };
        let state = if known { state } else { State::Unknown };
        let used = [
            metadata.accessed().ok(),
            metadata.modified().ok(),
            fs::metadata(record).and_then(|record| record.modified()).ok(),
        ];
        let last_used = used.into_iter().flatten().max().unwrap_or(UNIX_EPOCH);
        StoredObject { name, path: path.to_owned(), size: metadata.len(), last_used, state }
    }
}

/// Calls `each` for every plain file below a folder. Links are not followed.
fn walk(folder: &Path, each: &mut impl FnMut(&Path, &Metadata)) -> Result<(), StoreError> {
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if gone(&error) => return Ok(()),
        Err(error) => return Err(StoreError::io("list", folder)(error)),
    };
    for entry in entries {
        let path = entry.map_err(StoreError::io("list", folder))?.path();
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => walk(&path, each)?,
            Ok(metadata) if metadata.is_file() => each(&path, &metadata),
            Err(error) if !gone(&error) => return Err(StoreError::io("read", &path)(error)),
            _ => {}
        }
    }
    Ok(())
}

/// The bytes of a file. Those of which only parts were fetched are sparse, and count with what is there of them.
fn bytes_of(below: &Path, metadata: &Metadata) -> u64 {
    #[cfg(unix)]
    if below.parent().is_some_and(|folder| folder.ends_with("ranges")) {
        use std::os::unix::fs::MetadataExt as _;
        return metadata.len().min(metadata.blocks() * 512);
    }
    #[cfg(not(unix))]
    let _ = below;
    metadata.len()
}

/// The first two folders of a path: enough to tell what is what.
fn folder_of(below: &Path) -> PathBuf {
    let depth = below.components().count().saturating_sub(1).min(2);
    below.components().take(depth).collect()
}

fn parts(below: &Path) -> Option<Vec<&str>> {
    below.iter().map(|part| part.to_str()).collect()
}

/// The name of the object in `obj/<kind>/<hh>/<rest of hex>`.
fn object_name(below: &Path) -> Option<ObjectName> {
    match parts(below)?.as_slice() {
        ["obj", kind, head, rest] if head.len() == 2 => ObjectName::of_file(&format!("{kind}-{head}{rest}")),
        _ => None,
    }
}

/// What a file that is no object is, where it is ours and may be in the way.
fn leftover(below: &Path, here: impl Fn(&ObjectName) -> bool) -> Option<LeftoverKind> {
    let parts = parts(below)?;
    let (name, folders) = parts.split_last()?;
    if folders.first() != Some(&OWN_FOLDER) {
        return None;
    }
    // Temporary files, and files in temporary folders.
    if parts.iter().any(|part| part.starts_with(TEMPORARY)) {
        return Some(LeftoverKind::Temporary);
    }
    let object = ObjectName::of_file(name.split('.').next()?)?;
    match folders {
        [_, "partial" | "ranges"] => Some(LeftoverKind::Partial(object)),
        [_, "verified"] if !here(&object) => Some(LeftoverKind::Orphan(object)),
        [_, "locks"] if !here(&object) => Some(LeftoverKind::Lock(object)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_and_leftovers_are_told_apart_by_their_names() {
        let hex = "5d41402abc4b2a76b9719d911017c592";
        let digest = ObjectName::parse(&format!("md5:{hex}")).unwrap();
        assert_eq!(object_name(Path::new("obj/md5/5d/41402abc4b2a76b9719d911017c592")), Some(digest));
        let long = format!("{hex}{hex}");
        let etag = ObjectName::parse(&format!("etag:{long}")).unwrap();
        assert_eq!(object_name(Path::new(&format!("obj/etag/5d/{}", &long[2..]))), Some(etag));
        for foreign in [
            "obj/etag/5d/41402abc4b2a76b9719d911017c592",
            "obj/md5/5d/41402abc4b2a76b9719d911017c59",
            "obj/md5/5D/41402ABC4B2A76B9719D911017C592",
            "obj/md5/5d/.partial-x",
            "tmp/x",
        ] {
            assert_eq!(object_name(Path::new(foreign)), None, "{foreign}");
            assert_eq!(leftover(Path::new(foreign), |_| false), None, "{foreign}");
        }
        let kind = |path: &str| leftover(&Path::new(OWN_FOLDER).join(path), |_| false);
        assert_eq!(kind(&format!("partial/md5-{hex}")), Some(LeftoverKind::Partial(digest)));
        assert_eq!(kind(&format!("partial/md5-{hex}.etag")), Some(LeftoverKind::Partial(digest)));
        assert_eq!(kind(&format!("ranges/md5-{hex}.json")), Some(LeftoverKind::Partial(digest)));
        assert_eq!(kind(&format!("partial/etag-{long}")), Some(LeftoverKind::Partial(etag)));
        assert_eq!(kind(&format!("partial/etag-{long}.json")), Some(LeftoverKind::Partial(etag)));
        assert_eq!(kind(&format!("locks/etag-{long}")), Some(LeftoverKind::Lock(etag)));
        assert_eq!(kind(&format!("verified/md5-{hex}.json")), Some(LeftoverKind::Orphan(digest)));
        assert_eq!(kind(&format!("locks/md5-{hex}")), Some(LeftoverKind::Lock(digest)));
        assert_eq!(kind("verified/.partial-abc"), Some(LeftoverKind::Temporary));
        assert_eq!(kind("manifests/abc.json"), None);
        let known = |path: &str| leftover(&Path::new(OWN_FOLDER).join(path), |_| true);
        assert_eq!(known(&format!("locks/md5-{hex}")), None);
    }
}
