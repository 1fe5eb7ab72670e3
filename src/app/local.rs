//! Checkpoints on this machine that came from nowhere else: which file, how long, and what tells its content from every
//! other. Nobody states a digest for them, so what is recorded is a digest of our own.

use std::fs::{self, Metadata};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::checkpoint::{content_digest, files_of, joined_digest};
use crate::progress::{Progress, Stage};
use crate::report::input::Verified;
use crate::store::{RecordKind, Store};

use super::blocking::run_blocking;
use super::error::AppError;
use super::fit_record::InputRecord;
use super::input::Seeded;
use super::pull::Pulled;
use super::session::Session;

/// Version of the records; others are not read.
const VERSION: u32 = 1;
/// Digests that took less reading are made anew each time.
const WORTH_KEEPING: u64 = 1 << 20;
/// A file written to so shortly before it was hashed may be written to again without a later time: as long as the coarsest
/// file system counts in one step.
const SETTLED: Duration = Duration::from_secs(2);

/// A file on this machine as an input. What is in it is not looked at.
pub(super) fn local(session: &Session, seeded: &Seeded, path: &Path) -> Result<Pulled, AppError> {
    let path = path.canonicalize().map_err(AppError::file("find", path))?;
    let size = fs::metadata(&path).map_err(AppError::file("read", &path))?.len();
    let record = InputRecord {
        input: seeded.input.to_string(),
        seed: seeded.seed,
        resolved: None,
        artifact_digest: None,
        file: path.clone(),
        size,
        digest: None,
        sha256: None,
        verified: Verified::No,
    };
    let scratch = session.store.scratch();
    Ok(Pulled { record, path, artifact: None, downloaded: false, parts: None, scratch, locked: None })
}

/// Gives the local files among the inputs the digest of their content, on all cores. A file that was hashed before and was
/// not written to since is not hashed again.
///
/// # Errors
/// [`AppError::Checkpoint`] for a file that is none.
pub(super) async fn identify(session: &Session, mut pulled: Vec<Pulled>) -> Result<Vec<Pulled>, AppError> {
    let (store, progress) = (session.store.clone(), session.progress.clone());
    run_blocking("hashing the inputs", move || {
        let mut locals: Vec<&mut InputRecord> =
            pulled.iter_mut().map(|pulled| &mut pulled.record).filter(|record| record.resolved.is_none()).collect();
        locals.par_iter_mut().try_for_each(|record| {
            let failed = AppError::checkpoint("open", &record.input);
            let files = files_of(&record.file).map_err(failed)?;
            let known = files.into_iter().map(|file| {
                let (size, digest) = known_digest((&store, SystemTime::now()), (&record.input, &file), &progress)?;
                Ok((file, size, digest))
            });
            let known = known.collect::<Result<Vec<_>, AppError>>()?;
            record.size = known.iter().map(|(_, size, _)| size).sum();
            let digests: Vec<(&Path, String)> =
                known.iter().map(|(file, _, digest)| (file.as_path(), digest.clone())).collect();
            record.digest = Some(joined_digest(&digests));
            Ok::<_, AppError>(())
        })?;
        Ok(pulled)
    })
    .await
}

/// How a file was when it was hashed: another size, time or place on disk is another file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    size: u64,
    modified_ns: u128,
    /// When anything about the file changed last, and which file of the disk it is, where the system tells: nobody can
    /// set that time back.
    changed_ns: i128,
    inode: u64,
}

impl State {
    fn of(metadata: &Metadata) -> Self {
        let modified = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        #[cfg(unix)]
        let (changed_ns, inode) = {
            use std::os::unix::fs::MetadataExt as _;
            (i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec()), metadata.ino())
        };
        #[cfg(not(unix))]
        let (changed_ns, inode) = (0, 0);
        Self { size: metadata.len(), modified_ns: modified.unwrap_or_default().as_nanos(), changed_ns, inode }
    }

    /// Whether a write after `now` must show.
    fn is_settled(&self, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let last = self.modified_ns.max(u128::try_from(self.changed_ns).unwrap_or(0));
        last + SETTLED.as_nanos() < now.as_nanos()
    }
}

/// What is remembered of a file.
#[derive(Serialize, Deserialize)]
struct Known {
    version: u32,
    state: State,
    digest: String,
}

/// Size and digest of one file of an input, from memory where it is as it was.
fn known_digest(
    (store, now): (&Store, SystemTime),
    (input, file): (&str, &Path),
    progress: &Progress,
) -> Result<(u64, String), AppError> {
    let key = file.to_string_lossy().into_owned();
    let state = || fs::metadata(file).map(|metadata| State::of(&metadata)).map_err(AppError::file("read", file));
    let found = state()?;
    let record = store.record(RecordKind::Local, &key)?;
    let known = record.and_then(|record| serde_json::from_slice::<Known>(&record).ok());
    if let Some(known) = known.filter(|known| known.version == VERSION && known.state == found) {
        return Ok((found.size, known.digest));
    }
    let task = progress.begin(Stage::Verify, input, None);
    let mut read = 0;
    let digest = content_digest(file, |bytes| {
        read += bytes as u64;
        task.advance(bytes as u64);
    });
    let digest = digest.map_err(AppError::checkpoint("open", input))?;
    if read >= WORTH_KEEPING && found.is_settled(now) && state()? == found {
        let known = Known { version: VERSION, state: found, digest: digest.clone() };
        if let Ok(json) = serde_json::to_vec(&known)
            && let Err(error) = store.keep_records(RecordKind::Local, &[(key, json)])
        {
            progress.note(&format!("{error}; {} will be hashed again", file.display()));
        }
    }
    Ok((found.size, digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_file_is_hashed_once_until_it_is_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path().join("store"), Progress::silent());
        let file = folder.path().join("m.safetensors");
        let header = br#"{"a":{"dtype":"U8","shape":[2097152],"data_offsets":[0,2097152]}}"#;
        let write = |last: u8| {
            let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
            bytes.extend_from_slice(header);
            bytes.resize(bytes.len() + (2 << 20) - 1, 7);
            bytes.push(last);
            fs::write(&file, bytes).unwrap();
        };
        let known = |later: u64| {
            let now = SystemTime::now() + Duration::from_secs(later);
            known_digest((&store, now), ("m", &file), &Progress::silent()).unwrap()
        };
        let kept = || store.record(RecordKind::Local, &file.to_string_lossy()).unwrap();
        write(1);
        let first = known(0);
        assert_eq!(first.0, fs::metadata(&file).unwrap().len());
        assert!(kept().is_none(), "written just now: the next write may have the same time");
        assert_eq!(known(60), first);
        // Something that only memory can say.
        let mut told: Known = serde_json::from_slice(&kept().unwrap()).unwrap();
        told.digest = "told".to_owned();
        let told = serde_json::to_vec(&told).unwrap();
        store.keep_records(RecordKind::Local, &[(file.to_string_lossy().into_owned(), told)]).unwrap();
        assert_eq!(known(60).1, "told");
        write(2);
        let other = known(60);
        assert!(other.1 != "told" && other != first);
        let modified = fs::metadata(&file).unwrap().modified().unwrap();
        write(1);
        fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
        if cfg!(unix) {
            assert_eq!(known(60), first, "whoever sets the time back is found out");
        }
    }
}
