//! Checkpoints in several files behind an index (`*.index.json`), and folders that hold one. Shards are mapped, not
//! read: only their headers are looked at until a tensor is asked for.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use super::budget::Budget;
use super::container::read_file;
use super::distributed::METADATA_FILE;
use super::error::CheckpointError;
use super::source::Bytes;
use super::torch::{Found, TENSOR_BYTES};
use super::{Checkpoint, Format, OpenOptions};

/// Longest index that is read.
const MAX_INDEX_BYTES: usize = 64 << 20;
/// Most tensors of one index, more than those of the largest published models; each takes some 250 bytes.
const MAX_INDEX_TENSORS: usize = 3 << 16;
/// Most shards of one checkpoint; the largest published models have a few hundred.
const MAX_SHARDS: usize = 4096;

/// Why the index of a sharded checkpoint was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// Beyond the limit.
    #[error("the index takes {bytes} bytes, more than {MAX_INDEX_BYTES}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not the JSON that it should be, or a name twice.
    #[error("the index is malformed")]
    Malformed {
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// No shards at all, or too many.
    #[error("the index names {count} shards; between 1 and {MAX_SHARDS} are read")]
    ShardCount {
        /// How many.
        count: usize,
    },
    /// A shard that is not simply a file beside the index.
    #[error("the index names a shard {shard:?}, which is not a plain file name")]
    ShardName {
        /// The name.
        shard: String,
    },
    /// Shards of different kinds.
    #[error("shard {shard:?} is {format}, the shards before it are not")]
    MixedFormats {
        /// The shard.
        shard: String,
        /// Its format.
        format: Format,
    },
    /// More tensors than files of this length can be about.
    #[error("the shards up to {shard:?} list {count} tensors, too many for files so short")]
    TooManyTensors {
        /// The shard.
        shard: String,
        /// How many.
        count: usize,
    },
    /// A tensor is not where the index says.
    #[error("the index says that tensor {tensor:?} is in shard {shard:?}, where it is not")]
    MissingTensor {
        /// The tensor.
        tensor: String,
        /// The shard.
        shard: String,
    },
}

/// Index and single files of a folder, the first that exists counts.
const ENTRY_POINTS: [&str; 4] =
    ["model.safetensors.index.json", "pytorch_model.bin.index.json", "model.safetensors", "pytorch_model.bin"];

pub(super) fn open_folder(folder: &Path, options: &OpenOptions) -> Result<Checkpoint, CheckpointError> {
    if let Some(entry) = entry_of(folder) {
        return Checkpoint::open(&entry, options);
    }
    if folder.join(METADATA_FILE).is_file() {
        return super::distributed::open(folder, options);
    }
    Err(no_entry(folder))
}

/// The index or single file that a folder stands for.
pub(super) fn entry_of(folder: &Path) -> Option<PathBuf> {
    let entry = ENTRY_POINTS.iter().map(|name| folder.join(name)).find(|path| path.is_file());
    entry.or_else(|| only_index(folder))
}

pub(super) fn no_entry(folder: &Path) -> CheckpointError {
    let what = "a folder without an index or a model file";
    CheckpointError::NotACheckpoint { file: folder.display().to_string(), what }
}

/// The one `*.index.json` of a folder.
fn only_index(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    let mut indices = entries.filter(|path| path.to_str().is_some_and(|path| path.ends_with(".index.json")));
    let first = indices.next()?;
    indices.next().is_none().then_some(first)
}

pub(super) fn open_index(path: &Path, bytes: &[u8], options: &OpenOptions) -> Result<Checkpoint, CheckpointError> {
    let file = path.display().to_string();
    let in_index = |source| CheckpointError::Index { file: file.clone(), source };
    let index = Index::parse(bytes).map_err(in_index)?;
    let shards = shard_names(&index).map_err(in_index)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut parts = Vec::with_capacity(shards.len());
    let mut all = Vec::new();
    let mut format = None;
    let mut expected = index.by_shard();
    let mut held = 0;
    for &shard in &shards {
        let shard_path = folder.join(shard);
        let name = shard_path.display().to_string();
        let bytes = File::open(&shard_path).and_then(|file| Bytes::map(&file));
        let bytes = bytes.map_err(|source| CheckpointError::Open { file: name.clone(), source })?;
        let (shard_format, part, found) = read_file(&name, bytes, options)?;
        if *format.get_or_insert(shard_format) != shard_format {
            return Err(in_index(IndexError::MixedFormats { shard: shard.to_owned(), format: shard_format }));
        }
        let wanted = expected.remove(shard).unwrap_or_default();
        held += part.held();
        if (all.len() + found.len()).saturating_mul(TENSOR_BYTES) > Budget::of(held).listing() {
            let (shard, count) = (shard.to_owned(), all.len() + found.len());
            return Err(in_index(IndexError::TooManyTensors { shard, count }));
        }
        all.extend(select(wanted, shard, found).map_err(in_index)?.into_iter().map(|found| (parts.len(), found)));
        parts.push(part);
    }
    let positions: HashMap<&str, usize> =
        index.weight_map.iter().enumerate().map(|(at, (name, _))| (name.as_str(), at)).collect();
    all.sort_by_key(|(_, found)| positions.get(found.name.as_str()).copied().unwrap_or(usize::MAX));
    Checkpoint::assemble((file, Format::Sharded), parts, all, options)
}

/// An index and its shards, in the order of the shards' names.
pub(super) fn files_of_index(path: &Path, bytes: &[u8]) -> Result<Vec<PathBuf>, CheckpointError> {
    let in_index = |source| CheckpointError::Index { file: path.display().to_string(), source };
    let index = Index::parse(bytes).map_err(in_index)?;
    let mut shards = shard_names(&index).map_err(in_index)?;
    shards.sort_unstable();
    let folder = path.parent().unwrap_or(Path::new(""));
    Ok(std::iter::once(path.to_owned()).chain(shards.iter().map(|shard| folder.join(shard))).collect())
}

/// The shards in order of first mention, each a plain file name.
fn shard_names(index: &Index) -> Result<Vec<&str>, IndexError> {
    let mut seen = HashSet::new();
    let shards: Vec<&str> =
        index.weight_map.iter().map(|(_, shard)| shard.as_str()).filter(|shard| seen.insert(*shard)).collect();
    if shards.is_empty() || shards.len() > MAX_SHARDS {
        return Err(IndexError::ShardCount { count: shards.len() });
    }
    for &shard in &shards {
        if !is_plain_name(shard) {
            return Err(IndexError::ShardName { shard: super::torch::printable(shard) });
        }
    }
    Ok(shards)
}

/// Whether the name is that of a file beside the one that names it, and no path elsewhere.
pub(super) fn is_plain_name(file: &str) -> bool {
    let mut components = Path::new(file).components();
    let normal =
        matches!((components.next(), components.next()), (Some(Component::Normal(name)), None) if name == file);
    normal && !file.contains(['\\', '\0'])
}

/// What the index takes from a shard: everything it names must be there, and what it does not name is only listed.
fn select(mut wanted: HashSet<&str>, shard: &str, mut found: Vec<Found>) -> Result<Vec<Found>, IndexError> {
    for found in &mut found {
        if !wanted.remove(found.name.as_str()) {
            found.name = format!("{}@{shard}", found.name);
            found.tensor = Err(format!("in shard {shard:?} and not in the index"));
        }
    }
    match wanted.into_iter().min() {
        Some(tensor) => {
            Err(IndexError::MissingTensor { tensor: super::torch::printable(tensor), shard: shard.to_owned() })
        }
        None => Ok(found),
    }
}

#[derive(Deserialize)]
struct Index {
    #[serde(deserialize_with = "unique_pairs")]
    weight_map: Vec<(String, String)>,
}

impl Index {
    fn parse(bytes: &[u8]) -> Result<Self, IndexError> {
        if bytes.len() > MAX_INDEX_BYTES {
            return Err(IndexError::TooLong { bytes: bytes.len() });
        }
        serde_json::from_slice(bytes).map_err(|source| IndexError::Malformed { source })
    }

    /// The tensors of each shard.
    fn by_shard(&self) -> HashMap<&str, HashSet<&str>> {
        let mut shards: HashMap<&str, HashSet<&str>> = HashMap::new();
        for (name, shard) in &self.weight_map {
            shards.entry(shard.as_str()).or_default().insert(name);
        }
        shards
    }
}

/// A JSON object as pairs in its order, refusing a name that occurs twice.
fn unique_pairs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, String)>, D::Error> {
    struct Pairs;
    impl<'de> Visitor<'de> for Pairs {
        type Value = Vec<(String, String)>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of shard names by tensor name")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut pairs: Vec<(String, String)> = Vec::new();
            while let Some(pair) = map.next_entry()? {
                if pairs.len() == MAX_INDEX_TENSORS {
                    return Err(A::Error::custom(format_args!("more than {MAX_INDEX_TENSORS} tensors")));
                }
                pairs.push(pair);
            }
            let mut seen = HashSet::new();
            match pairs.iter().find(|(name, _)| !seen.insert(name.as_str())) {
                Some((name, _)) => Err(A::Error::custom(format_args!("tensor {name:?} is named twice"))),
                None => Ok(pairs),
            }
        }
    }
    deserializer.deserialize_map(Pairs)
}
