//! References to files of this machine: hashed while they are copied into the store. File I/O.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use crate::digest::{Algorithm, Digest};
use crate::store::{Reservation, Store, StoreError};

use super::super::super::error::WandbError;
use super::super::download::{Origin, blocking};
use super::{Fetched, Proof, Reference, ReferenceError};

/// What Python's `Path.as_uri` escapes.
const AS_URI: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'_').remove(b'.').remove(b'-').remove(b'~');

const BUFFER: usize = 1 << 20;

/// Brings the file into the store.
///
/// # Errors
/// [`WandbError::Reference`], or what the store met.
pub(super) async fn fetch(store: &Store, reference: &Reference, path: &[u8]) -> Result<Fetched, WandbError> {
    let (store, reference, path) = (store.clone(), reference.clone(), native(path));
    blocking(&reference.label(), move || take(&store, &reference, &path)).await?
}

#[cfg(unix)]
fn native(path: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    PathBuf::from(std::ffi::OsStr::from_bytes(path))
}

#[cfg(not(unix))]
fn native(path: &[u8]) -> PathBuf {
    // `/C:/x` names `C:/x`.
    let text = String::from_utf8_lossy(path).into_owned();
    PathBuf::from(text.strip_prefix('/').filter(|rest| rest.get(1..2) == Some(":")).unwrap_or(&text))
}

fn take(store: &Store, reference: &Reference, path: &Path) -> Result<Fetched, WandbError> {
    let refuse = |source| reference.refuse(source);
    let failed = |source: StoreError| WandbError::Store { what: reference.label(), source };
    let digest = Digest::from_base64(Algorithm::Md5, &reference.entry.digest).ok();
    let known = match (&digest, reference.size()) {
        (Some(digest), Some(size)) => store.find(digest, size).map_err(failed)?,
        _ => None,
    };
    if let Some(object) = known {
        return Ok(Fetched { object, origin: Origin::Store, proof: Proof::Digest });
    }
    let (mut file, size) = open(path).map_err(refuse)?;
    let changed = |expected: String, found: String| refuse(ReferenceError::Changed { expected, found });
    if let Some(expected) = reference.size().filter(|expected| *expected != size) {
        return Err(changed(format!("{expected} bytes"), format!("{size} bytes")));
    }
    if reference.is_unproven() || reference.entry.digest == digest_of_place(path) {
        return unproven(store, reference, &mut file);
    }
    let digest = digest.ok_or_else(|| changed(reference.entry.digest.clone(), "a file".to_owned()))?;
    let mut partial = match store.reserve(&digest, size).map_err(failed)? {
        Reservation::Present(object) => return Ok(Fetched { object, origin: Origin::Store, proof: Proof::Digest }),
        Reservation::Missing(partial) => partial,
    };
    partial.restart().map_err(failed)?;
    pour(&mut file, |bytes| partial.append(Bytes::copy_from_slice(bytes)).map_err(failed))
        .map_err(|error| error.or(reference))?;
    match partial.commit() {
        Ok(object) => Ok(Fetched { object, origin: Origin::Network, proof: Proof::Digest }),
        Err(StoreError::Corrupt { expected, found, .. }) => Err(changed(expected.to_base64(), found.to_base64())),
        Err(error) => Err(failed(error)),
    }
}

/// Opens what must be a regular file; links are followed, as the SDK does.
fn open(path: &Path) -> Result<(File, u64), ReferenceError> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            ReferenceError::Missing { reason: format!("no file at {}", path.display()) }
        }
        _ => ReferenceError::Unreadable(error),
    };
    // Looked at before it is opened: opening a pipe would wait for its other end.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(ReferenceError::NotAFile);
    }
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(ReferenceError::NotAFile);
    }
    Ok((file, metadata.len()))
}

/// Made with `checksum=False`: nothing says what the bytes should be.
fn unproven(store: &Store, reference: &Reference, file: &mut File) -> Result<Fetched, WandbError> {
    let failed = |source: StoreError| WandbError::Store { what: reference.label(), source };
    let key = reference.key();
    let mut partial = store.replace_etag(&key).map_err(failed)?;
    partial.restart().map_err(failed)?;
    pour(file, |bytes| partial.append(bytes).map_err(failed)).map_err(|error| error.or(reference))?;
    let object = partial.commit().map_err(failed)?;
    Ok(Fetched { object, origin: Origin::Network, proof: Proof::Unproven(key) })
}

/// The digest that the SDK gives a file without a checksum: of its resolved address.
fn digest_of_place(path: &Path) -> String {
    let Ok(path) = path.canonicalize() else { return String::new() };
    let uri = format!("file://{}", percent_encode(path.as_os_str().as_encoded_bytes(), AS_URI));
    Digest::of(Algorithm::Md5, uri.as_bytes()).to_base64()
}

enum Unpoured {
    Reading(io::Error),
    Storing(WandbError),
}

impl Unpoured {
    fn or(self, reference: &Reference) -> WandbError {
        match self {
            Self::Reading(error) => reference.refuse(ReferenceError::Unreadable(error)),
            Self::Storing(error) => error,
        }
    }
}

fn pour(file: &mut File, mut into: impl FnMut(&[u8]) -> Result<(), WandbError>) -> Result<(), Unpoured> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => into(buffer.get(..read).unwrap_or_default()).map_err(Unpoured::Storing)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Unpoured::Reading(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_a_place_is_the_sdks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a b é~.txt");
        fs::write(&path, "x").unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let uri = format!("file://{}/a%20b%20%C3%A9~.txt", folder.display());
        assert_eq!(digest_of_place(&path), Digest::of(Algorithm::Md5, uri.as_bytes()).to_base64());
    }
}
