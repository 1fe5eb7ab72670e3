//! From the bytes of one file to its tensors' layouts: which container it is, and the one that is wrapped in another.
//! Writes at most one unnamed scratch file, when asked to.

use std::io::{self, Write};

use super::error::CheckpointError;
use super::parts::{Parsed, Part};
use super::sniff::{Kind, sniff};
use super::source::Bytes;
use super::torch::archive::Archive;
use super::torch::{Found, legacy};
use super::zip::{Directory, Record, ZipError};
use super::{Format, OpenOptions};

/// How much a deflated checkpoint may inflate to on disk, relative to its archive: weights barely compress.
const MAX_SCRATCH_RATIO: u64 = 64;
/// The record that an nn-template `.ckpt.zip` wraps.
pub(super) const NN_TEMPLATE_RECORD: &str = "checkpoint.ckpt";

type Read = (Format, Part, Vec<Found>);

/// Parses one file of whatever kind, except an index of several.
pub(super) fn read_file(file: &str, bytes: Bytes, options: &OpenOptions) -> Result<Read, CheckpointError> {
    let not_a_checkpoint = |what| CheckpointError::NotACheckpoint { file: file.to_owned(), what };
    match sniff(bytes.as_slice()) {
        Kind::Zip => read_zip(file, bytes, options),
        Kind::Safetensors => {
            let parsed = super::safetensors::parse(bytes.as_slice());
            let parsed = parsed.map_err(|source| CheckpointError::Safetensors { file: file.to_owned(), source })?;
            Ok(part(file, bytes, None, parsed))
        }
        Kind::Pickle => read_legacy(file, bytes, options),
        Kind::Json => Err(not_a_checkpoint("JSON; the index of a sharded checkpoint is opened where its shards are")),
        Kind::Other(what) => Err(not_a_checkpoint(what)),
    }
}

fn part(file: &str, bytes: Bytes, directory: Option<Directory>, parsed: Parsed) -> Read {
    let part = Part::new(file.to_owned(), bytes, directory, parsed.order, parsed.storages);
    (parsed.format, part, parsed.found)
}

fn read_legacy(file: &str, bytes: Bytes, options: &OpenOptions) -> Result<Read, CheckpointError> {
    let parsed = legacy::parse(file, bytes.as_slice(), options)?;
    Ok(part(file, bytes, None, parsed))
}

fn read_zip(file: &str, bytes: Bytes, options: &OpenOptions) -> Result<Read, CheckpointError> {
    let in_zip = |source| CheckpointError::Zip { file: file.to_owned(), source };
    let directory = Directory::read(bytes.as_slice()).map_err(in_zip)?;
    let archive = Archive { file, bytes: bytes.as_slice(), directory: &directory };
    if let Some(prefix) = archive.prefix()? {
        let parsed = archive.parse(prefix, options)?;
        return Ok(part(file, bytes, Some(directory), parsed));
    }
    let Some(record) = directory.get(NN_TEMPLATE_RECORD) else {
        return Err(CheckpointError::NotACheckpoint { file: file.to_owned(), what: foreign_zip(&directory) });
    };
    let inner = unwrap(file, &bytes, &directory, record, options)?;
    let (_, part, found) = read_wrapped(&format!("{file}!{NN_TEMPLATE_RECORD}"), inner, options)?;
    Ok((Format::NnTemplate, part, found))
}

/// What nn-template wraps: a torch checkpoint, and never another wrapper.
fn read_wrapped(file: &str, bytes: Bytes, options: &OpenOptions) -> Result<Read, CheckpointError> {
    let not_a_checkpoint = |what| CheckpointError::NotACheckpoint { file: file.to_owned(), what };
    match sniff(bytes.as_slice()) {
        Kind::Zip => {
            let directory = Directory::read(bytes.as_slice())
                .map_err(|source| CheckpointError::Zip { file: file.to_owned(), source })?;
            let archive = Archive { file, bytes: bytes.as_slice(), directory: &directory };
            let prefix = archive.prefix()?;
            let prefix = prefix.ok_or_else(|| not_a_checkpoint("a zip archive without a torch checkpoint"))?;
            let parsed = archive.parse(prefix, options)?;
            Ok(part(file, bytes, Some(directory), parsed))
        }
        Kind::Pickle => read_legacy(file, bytes, options),
        Kind::Safetensors | Kind::Json => Err(not_a_checkpoint("no torch checkpoint, which nn-template would wrap")),
        Kind::Other(what) => Err(not_a_checkpoint(what)),
    }
}

/// The wrapped checkpoint: in place when stored, else inflated to a scratch file or memory.
fn unwrap(
    file: &str,
    bytes: &Bytes,
    directory: &Directory,
    record: &Record,
    options: &OpenOptions,
) -> Result<Bytes, CheckpointError> {
    let in_zip = |source| CheckpointError::Zip { file: file.to_owned(), source };
    let archive = bytes.as_slice();
    let range = directory.locate(archive, record).map_err(in_zip)?;
    let stored = bytes.slice(range).ok_or_else(|| in_zip(ZipError::NoEnd))?;
    if record.is_stored() {
        if options.verify_crc {
            directory.verify(record, stored.as_slice()).map_err(in_zip)?;
        }
        return Ok(stored);
    }
    let Some(scratch) = &options.scratch else {
        let inflated = directory.inflate_to_memory(record, stored.as_slice()).map_err(in_zip)?;
        directory.verify(record, &inflated).map_err(in_zip)?;
        return Ok(Bytes::from(inflated));
    };
    let limit = (archive.len() as u64).saturating_mul(MAX_SCRATCH_RATIO);
    if record.size() > limit {
        let name = NN_TEMPLATE_RECORD.to_owned();
        return Err(in_zip(ZipError::InflatesTooMuch { name, bytes: record.size(), limit }));
    }
    let open = |source| CheckpointError::Open { file: file.to_owned(), source };
    std::fs::create_dir_all(scratch).map_err(open)?;
    let mut unnamed = tempfile::tempfile_in(scratch).map_err(open)?;
    let mut out = io::BufWriter::with_capacity(1 << 20, &mut unnamed);
    directory.inflate(record, stored.as_slice(), &mut out).map_err(in_zip)?;
    out.flush().map_err(open)?;
    drop(out);
    let inflated = Bytes::map(&unnamed).map_err(open)?;
    directory.verify(record, inflated.as_slice()).map_err(in_zip)?;
    Ok(inflated)
}

/// What a zip archive is that is no torch archive.
pub(super) fn foreign_zip(directory: &Directory) -> &'static str {
    let has = |test: fn(&str) -> bool| directory.records().any(|(name, _)| test(name));
    match () {
        () if has(|name| name.ends_with("archive_format")) => "a torch.export program; save its state dict instead",
        () if has(|name| name.ends_with(".npy")) => "a NumPy .npz archive",
        () => "a zip archive without a data.pkl",
    }
}
