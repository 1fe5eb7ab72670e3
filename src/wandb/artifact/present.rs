//! What the store alone can give of the wanted files. File I/O only, no network.

use crate::store::{Store, StoreError};

use super::super::error::WandbError;
use super::download::{DownloadedArtifact, DownloadedFile, Origin, Wanted};
use super::reference::{Fetched, Proof, in_store};

/// The wanted files of one artifact that are in the store, and the paths of those that are not.
///
/// # Errors
/// [`WandbError::Unverifiable`] or [`WandbError::Store`].
pub fn present(store: &Store, wanted: &Wanted) -> Result<(DownloadedArtifact, Vec<String>), WandbError> {
    let artifact = wanted.artifact.name().to_string();
    let mut here = DownloadedArtifact { artifact: wanted.artifact.clone(), files: Vec::new(), missing: Vec::new() };
    let mut absent = Vec::new();
    for (path, entry) in wanted.manifest.entries.iter().filter(|(path, _)| wanted.filter.wants(path)) {
        let failed = |source: StoreError| WandbError::Store { what: format!("{artifact}/{path}"), source };
        if let Some(uri) = &entry.reference {
            match in_store(store, uri, entry).map_err(failed)? {
                Some(Fetched { object, origin, proof }) => {
                    here.files.push(DownloadedFile { path: path.clone(), object, origin, proof });
                }
                None => absent.push(path.clone()),
            }
            continue;
        }
        let unverifiable = |reason| WandbError::Unverifiable { artifact: artifact.clone(), path: path.clone(), reason };
        let digest = entry.file_digest().map_err(unverifiable)?;
        match store.find(&digest, entry.size).map_err(failed)? {
            Some(object) => {
                let (origin, proof) = (Origin::Store, Proof::Digest);
                here.files.push(DownloadedFile { path: path.clone(), object, origin, proof });
            }
            None => absent.push(path.clone()),
        }
    }
    Ok((here, absent))
}
