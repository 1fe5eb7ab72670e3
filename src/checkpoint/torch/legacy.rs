//! The stream that `torch.save` wrote before 1.6: five pickles back to back, then every storage after its length.
//!
//! Always little-endian, whatever its header says, as torch reads it. Offsets follow from the pickles, so nothing else
//! is read. The format has no checksums. Pure over bytes.

use std::collections::{HashMap, HashSet};

use super::super::budget::Budget;
use super::super::error::CheckpointError;
use super::super::parts::{Parsed, Place, Storage};
use super::super::pickle::{Pickle, Value};
use super::super::{Format, OpenOptions};
use super::globals::printable;
use super::tensor::StorageRef;
use super::{Selection, Storages, TorchError, check_globals, collect};
use crate::tensor::ByteOrder;

/// `0x1950a86a20f9469cfc6c`, little-endian.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const PROTOCOL: i64 = 1001;
/// Before each storage's data: its number of elements.
const COUNT_BYTES: u64 = 8;

/// Lists the tensors of a legacy file.
pub(in super::super) fn parse(file: &str, bytes: &[u8], options: &OpenOptions) -> Result<Parsed, CheckpointError> {
    let torch = |source| CheckpointError::Torch { file: file.to_owned(), source };
    let mut stream = Stream { file, bytes, at: 0 };
    let magic = stream.pickle("magic number")?;
    if !matches!(magic.root(), Value::WideInt(span) if magic.bytes(span) == MAGIC) {
        // Whoever unpickles it would run what it names.
        check_globals(&magic).map_err(torch)?;
        let what = "a pickle that torch did not write";
        return Err(CheckpointError::NotACheckpoint { file: file.to_owned(), what });
    }
    let protocol = stream.pickle("protocol")?.root();
    if protocol != Value::Int(PROTOCOL) {
        let problem = "its protocol is not 1001, the only one that torch has written";
        return Err(CheckpointError::Archive { file: file.to_owned(), problem });
    }
    stream.pickle("system information")?;
    let object = stream.pickle("object")?;
    check_globals(&object).map_err(torch)?;
    let mut storages = Storages::of_pickle(&object).map_err(torch)?;
    let listing = Budget::of(bytes.len() as u64).listing();
    let selection = Selection { key: options.key.as_deref(), attributes: false, listing };
    let found = collect(&object, selection, &mut storages).map_err(torch)?;
    let keys = stream.pickle("storage keys")?;
    let places = place_storages(&keys, storages.into_list(), &bytes[stream.at..], stream.at as u64).map_err(torch)?;
    Ok(Parsed { format: Format::TorchLegacy, order: ByteOrder::Little, found, storages: places })
}

struct Stream<'a> {
    file: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Stream<'a> {
    /// The next pickle; `record` is what it holds, for messages.
    fn pickle(&mut self, record: &str) -> Result<Pickle<'a>, CheckpointError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let values = Budget::of(self.bytes.len() as u64).values();
        let pickle = Pickle::parse_within(rest, values).map_err(|source| CheckpointError::Pickle {
            file: self.file.to_owned(),
            record: record.to_owned(),
            source,
        })?;
        self.at += pickle.consumed();
        Ok(pickle)
    }
}

/// Walks the data in the order of the key list, which must name every storage of the object exactly once. `offset` is
/// where `data` starts in the file.
fn place_storages(
    keys: &Pickle<'_>,
    storages: Vec<StorageRef>,
    data: &[u8],
    offset: u64,
) -> Result<Vec<Storage>, TorchError> {
    let by_key: HashMap<&str, &StorageRef> = storages.iter().map(|storage| (storage.key.as_str(), storage)).collect();
    let mut places = HashMap::new();
    let mut seen = HashSet::new();
    let mut at = 0u64;
    for &key in keys.as_sequence(keys.root()).ok_or(TorchError::BadKeyList)? {
        let key = keys.as_text(key).ok_or(TorchError::BadKeyList)?;
        let name = || printable(key);
        if !seen.insert(key) {
            return Err(TorchError::StorageConflict { storage: name() });
        }
        let storage = *by_key.get(key).ok_or_else(|| TorchError::StorageUnused { storage: name() })?;
        let (expected, actual) = (storage.bytes, 0);
        let missing = || TorchError::StorageSize { storage: name(), expected, actual };
        let start = at + COUNT_BYTES;
        let header = usize::try_from(at).ok().and_then(|at| data.get(at..)?.first_chunk()).ok_or_else(missing)?;
        let bytes = u64::from_le_bytes(*header).checked_mul(storage.element_bytes);
        if bytes != Some(storage.bytes) {
            let (expected, actual) = (storage.bytes, bytes.unwrap_or(u64::MAX));
            return Err(TorchError::StorageSize { storage: name(), expected, actual });
        }
        let end = start.checked_add(storage.bytes).filter(|&end| end <= data.len() as u64);
        let end = end.ok_or_else(|| TorchError::StorageSize {
            storage: name(),
            expected: storage.bytes,
            actual: (data.len() as u64).saturating_sub(start),
        })?;
        places.insert(key, offset + start..offset + end);
        at = end;
    }
    let place = |storage: &StorageRef| {
        let range = places.get(storage.key.as_str()).cloned();
        let range = range.ok_or_else(|| TorchError::StorageMissing { storage: printable(&storage.key) })?;
        Ok(Storage { place: Place::Range(range) })
    };
    storages.iter().map(place).collect()
}
