//! What tells a checkpoint on this machine from every other: a digest of its content. Reads what it hashes, and no more.
//!
//! A torch file states a CRC-32 for each of its records, and these are compared with the bytes that are read from it. So
//! its directory says what is in it, and reading that alone takes no time. Other files say nothing about their content:
//! of those every byte is hashed. Either is proof against mistakes, not against forgery.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::distributed::{METADATA_FILE, PIECES_ENDING};
use super::error::CheckpointError;
use super::shards;
use super::sniff::{Kind, sniff};
use super::source::Bytes;
use super::torch::archive::raw_content;
use super::zip::Directory;
use crate::digest::{Algorithm, Digest, DigestHasher};

/// Bytes that are hashed in one go.
const STEP: usize = 1 << 20;

/// The files of a checkpoint: itself, or what a folder or an index stands for, in the order of their names.
///
/// # Errors
/// [`CheckpointError`]: unreadable, or a folder without a checkpoint.
pub fn files_of(path: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let open = |source| CheckpointError::Open { file: path.display().to_string(), source };
    if !path.is_dir() && path.file_name() != Some(OsStr::new(METADATA_FILE)) {
        let bytes = File::open(path).and_then(|file| Bytes::map(&file)).map_err(open)?;
        return match sniff(bytes.as_slice()) {
            Kind::Json => shards::files_of_index(path, bytes.as_slice()),
            _ => Ok(vec![path.to_owned()]),
        };
    }
    if path.is_dir()
        && let Some(entry) = shards::entry_of(path)
    {
        return files_of(&entry);
    }
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
    if !folder.join(METADATA_FILE).is_file() {
        return Err(shards::no_entry(folder));
    }
    let listed = std::fs::read_dir(folder).map_err(open)?.map(|file| file.map(|file| file.path()));
    let mut files = listed.collect::<Result<Vec<_>, _>>().map_err(open)?;
    let is_part = |file: &PathBuf| {
        let name = file.file_name().and_then(OsStr::to_str);
        name.is_some_and(|name| name == METADATA_FILE || name.ends_with(PIECES_ENDING))
    };
    files.retain(is_part);
    files.sort();
    Ok(files)
}

/// The digest of one file with the name of what was hashed: `zip-crc32:` for an archive, whose digest is the XXH128 of the
/// name, size and CRC-32 of every record (and of the bytes of those for which its writer computed none), `xxh128:` for all
/// bytes of any other file. `hashed` is told of every byte that was read for it.
///
/// # Errors
/// [`CheckpointError`]: unreadable, or an archive whose directory is damaged.
pub fn content_digest(path: &Path, mut hashed: impl FnMut(usize)) -> Result<String, CheckpointError> {
    let file = path.display().to_string();
    let open = |source| CheckpointError::Open { file: file.clone(), source };
    let bytes = File::open(path).and_then(|file| Bytes::map(&file)).map_err(open)?;
    let bytes = bytes.as_slice();
    let mut hasher = DigestHasher::new(Algorithm::Xxh128);
    let mut hash = |hasher: &mut DigestHasher, bytes: &[u8]| {
        for step in bytes.chunks(STEP) {
            hasher.update(step);
            hashed(step.len());
        }
    };
    match sniff(bytes) {
        // A file of pieces is many archives behind one another.
        Kind::Zip if !path.as_os_str().as_encoded_bytes().ends_with(PIECES_ENDING.as_bytes()) => {
            let in_zip = |source| CheckpointError::Zip { file: file.clone(), source };
            let directory = Directory::read(bytes).map_err(in_zip)?;
            for (name, record) in directory.records() {
                hasher.update(&(name.len() as u64).to_le_bytes());
                hasher.update(name.as_bytes());
                hasher.update(&record.size().to_le_bytes());
                hasher.update(&record.crc().to_le_bytes());
                if record.crc() == 0 && record.size() > 0 {
                    hash(&mut hasher, raw_content(&directory, record, bytes).map_err(in_zip)?);
                }
            }
            Ok(format!("zip-crc32:{}", hasher.digest().to_hex()))
        }
        Kind::Other(what) => Err(CheckpointError::NotACheckpoint { file, what }),
        Kind::Zip | Kind::Safetensors | Kind::Pickle | Kind::Json => {
            hash(&mut hasher, bytes);
            Ok(hasher.digest().to_string())
        }
    }
}

/// The digest of several files that make up one checkpoint, from their names and digests: `files:`. That of a single file
/// is its own.
pub fn joined_digest(files: &[(&Path, String)]) -> String {
    if let [(_, only)] = files {
        return only.clone();
    }
    let name = |file: &Path| file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let lines: String = files.iter().map(|(file, digest)| format!("{digest} {}\n", name(file))).collect();
    format!("files:{}", Digest::of(Algorithm::Xxh128, lines.as_bytes()).to_hex())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::*;
    use crate::checkpoint::{Checkpoint, NamedTensor, OpenOptions, write_safetensors, write_torch};
    use crate::tensor::{Dtype, TensorView};

    fn digest(path: &Path) -> String {
        let files = files_of(path).unwrap();
        let digests: Vec<(&Path, String)> =
            files.iter().map(|file| (file.as_path(), content_digest(file, |_| ()).unwrap())).collect();
        joined_digest(&digests)
    }

    fn view(values: &[f64]) -> TensorView<'static> {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        TensorView::contiguous(Dtype::F64, vec![values.len()], bytes).unwrap()
    }

    fn torch(path: &Path, values: &[f64]) {
        let (a, b) = (view(values), view(&[1.0]));
        let tensors = [NamedTensor::new("a", &a), NamedTensor::new("b", &b)];
        write_torch(&mut File::create(path).unwrap(), &tensors).unwrap();
    }

    fn safetensors(path: &Path, values: &[f64]) {
        let a = view(values);
        write_safetensors(&mut File::create(path).unwrap(), &[NamedTensor::new("a", &a)]).unwrap();
    }

    #[test]
    fn an_archive_is_known_by_what_its_directory_says_and_nothing_of_it_is_hashed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        torch(&at("one"), &[1.0, 2.0]);
        torch(&at("same"), &[1.0, 2.0]);
        torch(&at("other"), &[1.0, 2.5]);
        let mut hashed = 0;
        let one = content_digest(&at("one"), |bytes| hashed += bytes).unwrap();
        assert!(one.starts_with("zip-crc32:") && hashed == 0, "{one}, {hashed} bytes hashed");
        assert_eq!(one, digest(&at("same")));
        assert_ne!(one, digest(&at("other")));
        // Damage behind the directory's back is not seen here, but when the tensor is read.
        let mut bytes = fs::read(at("one")).unwrap();
        let content = 2.0f64.to_le_bytes();
        let place = bytes.windows(8).position(|window| window == content).unwrap();
        bytes[place] ^= 1;
        fs::write(at("damaged"), bytes).unwrap();
        assert_eq!(digest(&at("damaged")), one);
        let damaged = Checkpoint::open(&at("damaged"), &OpenOptions::default()).unwrap();
        assert!(matches!(damaged.tensor("a"), Err(CheckpointError::Damaged { .. })));
    }

    #[test]
    fn what_has_no_checksum_in_an_archive_is_hashed() {
        let folder = tempfile::tempdir().unwrap();
        let bare = |name: &str, content: u8| {
            let path = folder.path().join(name);
            let mut zip = zip::ZipWriter::new(File::create(&path).unwrap());
            let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
            zip.start_file("m/data/0", options).unwrap();
            zip.write_all(&[content; 100]).unwrap();
            zip.finish().unwrap();
            // As torch writes it when told not to compute checksums: 0 in the local header and in the directory.
            let mut bytes = fs::read(&path).unwrap();
            let central = bytes.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
            bytes[14..18].fill(0);
            bytes[central + 16..central + 20].fill(0);
            fs::write(&path, bytes).unwrap();
            let mut hashed = 0;
            let digest = content_digest(&path, |bytes| hashed += bytes).unwrap();
            assert_eq!(hashed, 100);
            digest
        };
        assert_ne!(bare("one", 1), bare("other", 2));
        assert_eq!(bare("one", 1), bare("again", 1));
    }

    #[test]
    fn other_files_are_hashed_and_those_of_one_checkpoint_count_together() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        safetensors(&at("s1.safetensors"), &[1.0, 2.0]);
        safetensors(&at("s2.safetensors"), &[3.0]);
        let single = digest(&at("s1.safetensors"));
        let bytes = fs::read(at("s1.safetensors")).unwrap();
        assert_eq!(single, Digest::of(Algorithm::Xxh128, &bytes).to_string());
        fs::write(at("m.index.json"), r#"{"weight_map": {"a": "s2.safetensors", "b": "s1.safetensors"}}"#).unwrap();
        let whole = digest(folder.path());
        assert!(whole.starts_with("files:"));
        assert_eq!(digest(&at("m.index.json")), whole, "the folder and its index are the same checkpoint");
        fs::write(at("README.md"), "not of the checkpoint").unwrap();
        assert_eq!(digest(folder.path()), whole);
        safetensors(&at("s2.safetensors"), &[3.5]);
        assert_ne!(digest(folder.path()), whole);
        assert!(matches!(content_digest(&at("README.md"), |_| ()), Err(CheckpointError::NotACheckpoint { .. })));
        let none = at("none");
        fs::create_dir(&none).unwrap();
        assert!(matches!(files_of(&none), Err(CheckpointError::NotACheckpoint { .. })));
    }

    #[test]
    fn folders_of_torch_distributed_checkpoint_are_known_by_all_their_files() {
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/checkpoint/frameworks");
        let folders = fs::read_dir(kept).unwrap().map(|entry| entry.unwrap().path());
        let folders: Vec<PathBuf> = folders.filter(|path| path.join(METADATA_FILE).is_file()).collect();
        assert!(!folders.is_empty(), "a fixture was written by torch.distributed.checkpoint");
        for folder in folders {
            let copy = tempfile::tempdir().unwrap();
            let files = files_of(&folder).unwrap();
            assert!(files.len() >= 2, "{}", folder.display());
            for file in &files {
                fs::copy(file, copy.path().join(file.file_name().unwrap())).unwrap();
            }
            let first = digest(copy.path());
            assert_eq!(
                (first.as_str(), digest(&copy.path().join(METADATA_FILE))),
                (digest(&folder).as_str(), first.clone())
            );
            let last = copy.path().join(files.last().unwrap().file_name().unwrap());
            let mut bytes = fs::read(&last).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(&last, bytes).unwrap();
            assert_ne!(digest(copy.path()), first);
        }
    }
}
