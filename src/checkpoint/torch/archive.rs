//! Torch's zip archive: one pickle and one record per storage, under a common prefix. Reads through the mapped bytes.

use std::borrow::Cow;

use super::super::budget::Budget;
use super::super::error::CheckpointError;
use super::super::parts::{Parsed, Place, Storage};
use super::super::pickle::{MAX_PICKLE_BYTES, Pickle};
use super::super::zip::{Directory, Record, ZipError};
use super::super::{Format, OpenOptions};
use super::globals::printable;
use super::tensor::StorageRef;
use super::{Selection, Storages, TorchError, check_globals, collect};
use crate::tensor::ByteOrder;

/// Longest of the small text records (`version`, `byteorder`).
const MAX_NOTE_BYTES: u64 = 64;
/// Archive format versions that torch has written so far.
const VERSIONS: std::ops::RangeInclusive<u32> = 1..=10;

/// An archive whose directory was read.
pub(in super::super) struct Archive<'a> {
    pub(in super::super) file: &'a str,
    pub(in super::super) bytes: &'a [u8],
    pub(in super::super) directory: &'a Directory,
}

impl<'a> Archive<'a> {
    /// The prefix of every record, with its slash: whatever stands before the one `data.pkl`.
    pub(in super::super) fn prefix(&self) -> Result<Option<&'a str>, CheckpointError> {
        let pickles = self.directory.records().filter_map(|(name, _)| name.strip_suffix("data.pkl"));
        let mut prefixes =
            pickles.filter(|prefix| (prefix.is_empty() || prefix.ends_with('/')) && !prefix.starts_with("__MACOSX/"));
        let first = prefixes.next();
        if prefixes.next().is_some() {
            return Err(self.problem("more than one data.pkl"));
        }
        Ok(first)
    }

    /// Lists the tensors of the archive under `prefix`.
    pub(in super::super) fn parse(&self, prefix: &str, options: &OpenOptions) -> Result<Parsed, CheckpointError> {
        self.check_version(prefix)?;
        let order = match self.note(prefix, "byteorder")?.as_deref() {
            None | Some("little") => ByteOrder::Little,
            Some("big") => ByteOrder::Big,
            Some(_) => return Err(self.problem("its byteorder is neither little nor big")),
        };
        let name = format!("{prefix}data.pkl");
        let content = match self.directory.get(&name) {
            Some(record) => self.content(record)?,
            None => return Err(self.problem("no data.pkl")),
        };
        let in_pickle = |source| CheckpointError::Pickle { file: self.file.to_owned(), record: name.clone(), source };
        let budget = self.budget();
        let pickle = Pickle::parse_within(&content, budget.values()).map_err(in_pickle)?;
        check_globals(&pickle).map_err(|source| self.torch(source))?;
        let scripted = self.directory.get(&format!("{prefix}constants.pkl")).is_some();
        let attributes = scripted && options.key.is_none();
        let selection = Selection { key: options.key.as_deref(), attributes, listing: budget.listing() };
        let mut storages = Storages::default();
        let found = match collect(&pickle, selection, &mut storages) {
            Err(TorchError::NoTensors { .. }) if scripted => {
                return Err(
                    self.problem("its data.pkl holds no tensors: a frozen module keeps them as constants of its code")
                );
            }
            found => found.map_err(|source| self.torch(source))?,
        };
        let storages =
            storages.into_list().iter().map(|storage| self.storage(prefix, storage)).collect::<Result<_, _>>();
        let format = if scripted { Format::TorchScript } else { Format::Torch };
        Ok(Parsed { format, order, found, storages: storages.map_err(|source| self.torch(source))? })
    }

    /// Finds the record of a storage; its bytes are looked at when they are needed.
    fn storage(&self, prefix: &str, storage: &StorageRef) -> Result<Storage, TorchError> {
        let key = || printable(&storage.key);
        let record = self.directory.get(&format!("{prefix}data/{}", storage.key));
        let record = record.ok_or_else(|| TorchError::StorageMissing { storage: key() })?;
        if record.size() != storage.bytes {
            return Err(TorchError::StorageSize { storage: key(), expected: storage.bytes, actual: record.size() });
        }
        Ok(Storage { place: Place::Record(record.clone()) })
    }

    fn check_version(&self, prefix: &str) -> Result<(), CheckpointError> {
        let Some(version) = self.note(prefix, "version")? else { return Ok(()) };
        if version.trim().parse().is_ok_and(|version: u32| VERSIONS.contains(&version)) {
            return Ok(());
        }
        Err(self.problem("its version is none that torch has written"))
    }

    /// A short text record.
    fn note(&self, prefix: &str, name: &str) -> Result<Option<String>, CheckpointError> {
        let Some(record) = self.directory.get(&format!("{prefix}{name}")) else { return Ok(None) };
        if record.size() > MAX_NOTE_BYTES {
            return Err(self.problem("its version or byteorder record is too long"));
        }
        Ok(Some(String::from_utf8_lossy(&self.content(record)?).into_owned()))
    }

    /// The verified content of a small record.
    fn content(&self, record: &Record) -> Result<Cow<'a, [u8]>, CheckpointError> {
        let in_zip = |source| CheckpointError::Zip { file: self.file.to_owned(), source };
        let in_place = if record.is_stored() { usize::MAX } else { self.budget().inflated_pickle() };
        let limit = in_place.min(MAX_PICKLE_BYTES) as u64;
        if record.size() > limit {
            let (name, bytes) = (self.directory.name(record).to_owned(), record.size());
            return Err(in_zip(ZipError::InflatesTooMuch { name, bytes, limit }));
        }
        let content = record_content(self.directory, record, self.bytes).map_err(in_zip)?;
        self.directory.verify(record, &content).map_err(in_zip)?;
        Ok(content)
    }

    /// What the archive may take beside its directory.
    fn budget(&self) -> Budget {
        Budget::of((self.bytes.len() as u64).saturating_sub(self.directory.held()))
    }

    fn problem(&self, problem: &'static str) -> CheckpointError {
        CheckpointError::Archive { file: self.file.to_owned(), problem }
    }

    fn torch(&self, source: TorchError) -> CheckpointError {
        CheckpointError::Torch { file: self.file.to_owned(), source }
    }
}

/// The content of a record: in place when stored, inflated when deflated. Its CRC-32 is not compared.
pub(in super::super) fn record_content<'a>(
    directory: &Directory,
    record: &Record,
    archive: &'a [u8],
) -> Result<Cow<'a, [u8]>, ZipError> {
    let bytes = raw_content(directory, record, archive)?;
    if record.is_stored() {
        return Ok(Cow::Borrowed(bytes));
    }
    Ok(Cow::Owned(directory.inflate_to_memory(record, bytes)?))
}

/// The content of a record as it lies in the archive, stored or deflated.
pub(in super::super) fn raw_content<'a>(
    directory: &Directory,
    record: &Record,
    archive: &'a [u8],
) -> Result<&'a [u8], ZipError> {
    let range = directory.locate(archive, record)?;
    let bytes = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
    // `locate` has checked the range against the directory, which lies inside the archive.
    Ok(bytes.and_then(|(start, end)| archive.get(start..end)).unwrap_or_default())
}
