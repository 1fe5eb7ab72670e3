//! What of a checkpoint file must be here before its tensors can be listed, for whoever holds only some of its bytes: the
//! head that tells its kind, then the directory and the pickle of an archive, or the header of a safetensors file. Maps
//! the file; no other I/O.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use super::CheckpointError;
use super::container::{NN_TEMPLATE_RECORD, foreign_zip};
use super::pickle::MAX_PICKLE_BYTES;
use super::safetensors::{MAX_HEADER_BYTES, SafetensorsError, header_len};
use super::sniff::{Kind, sniff};
use super::source::{Bytes, ReadAt};
use super::torch::archive::Archive;
use super::zip::{Directory, ZipError};
use crate::ranges::RangeSet;

/// How many of the first and last bytes are asked for before anything is known: the kind, and as a rule the pickle or
/// header of a few hundred tensors; the end record, and as a rule the directory of as many.
const ENDS: (u64, u64) = (24 << 10, 16 << 10);
/// How many of them opening looks at in any case: magic numbers, and the shortest end record.
pub(super) const LEAST_ENDS: (u64, u64) = (512, 22);

/// What is still needed to list a checkpoint's tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexNeed {
    /// Nothing: it can be opened.
    Nothing,
    /// These bytes; then ask again.
    Ranges(Vec<Range<u64>>),
    /// All of it, for this reason.
    Whole(&'static str),
}

/// What is still needed of the file at `path`, of which the bytes in `present` are here and the others read as zeros.
///
/// # Errors
/// [`CheckpointError`] when what is here already shows that it is no sound checkpoint.
pub fn index_need(path: &Path, present: &RangeSet) -> Result<IndexNeed, CheckpointError> {
    let file = path.display().to_string();
    let bytes = File::open(path).and_then(|file| Bytes::map(&file));
    let bytes = bytes.map_err(|source| CheckpointError::Open { file: file.clone(), source })?;
    need(&file, bytes.as_slice(), present, ENDS)
}

/// The same for bytes that are mapped already.
pub(super) fn need(
    file: &str,
    bytes: &[u8],
    present: &RangeSet,
    (head, tail): (u64, u64),
) -> Result<IndexNeed, CheckpointError> {
    let len = bytes.len() as u64;
    let ends = [0..head.min(len), len.saturating_sub(tail)..len];
    if !ends.iter().all(|end| present.contains(end)) {
        return Ok(IndexNeed::Ranges(ends.into()));
    }
    match sniff(bytes) {
        Kind::Zip => zip_need(file, bytes, present),
        Kind::Safetensors => safetensors_need(file, bytes, present),
        Kind::Pickle => Ok(IndexNeed::Whole("torch files from before 1.6 have no directory")),
        Kind::Json => Ok(IndexNeed::Whole("it is JSON")),
        Kind::Other(what) => Err(CheckpointError::NotACheckpoint { file: file.to_owned(), what }),
    }
}

fn zip_need(file: &str, bytes: &[u8], present: &RangeSet) -> Result<IndexNeed, CheckpointError> {
    let in_zip = |source| CheckpointError::Zip { file: file.to_owned(), source };
    let partly = Partly { bytes, present, missed: RefCell::default() };
    let directory = match Directory::read(&partly) {
        Ok(directory) => directory,
        Err(error) => {
            let missed = partly.missed.into_inner();
            return missed.map(|range| IndexNeed::Ranges(vec![range])).ok_or_else(|| in_zip(error));
        }
    };
    let Some(prefix) = (Archive { file, bytes, directory: &directory }).prefix()? else {
        return match directory.get(NN_TEMPLATE_RECORD) {
            Some(_) => Ok(IndexNeed::Whole("an nn-template archive wraps another file")),
            None => Err(CheckpointError::NotACheckpoint { file: file.to_owned(), what: foreign_zip(&directory) }),
        };
    };
    let mut ranges = Vec::new();
    for name in ["data.pkl", "version", "byteorder"] {
        let Some(record) = directory.get(&format!("{prefix}{name}")) else { continue };
        let limit = MAX_PICKLE_BYTES as u64;
        if record.size() > limit {
            let (name, bytes) = (format!("{prefix}{name}"), record.size());
            return Err(in_zip(ZipError::InflatesTooMuch { name, bytes, limit }));
        }
        if !present.contains(&record.span()) {
            ranges.push(record.span());
        }
    }
    Ok(if ranges.is_empty() { IndexNeed::Nothing } else { IndexNeed::Ranges(ranges) })
}

fn safetensors_need(file: &str, bytes: &[u8], present: &RangeSet) -> Result<IndexNeed, CheckpointError> {
    let refuse = |source| CheckpointError::Safetensors { file: file.to_owned(), source };
    let length = header_len(bytes).ok_or_else(|| refuse(SafetensorsError::Truncated))?;
    if length > MAX_HEADER_BYTES {
        return Err(refuse(SafetensorsError::HeaderTooLong { bytes: length }));
    }
    if 8 + length > bytes.len() as u64 {
        return Err(refuse(SafetensorsError::Truncated));
    }
    let header = 0..8 + length;
    Ok(if present.contains(&header) { IndexNeed::Nothing } else { IndexNeed::Ranges(vec![header]) })
}

/// Bytes of which only some are here. Reading others fails and is remembered.
struct Partly<'a> {
    bytes: &'a [u8],
    present: &'a RangeSet,
    missed: RefCell<Option<Range<u64>>>,
}

impl ReadAt for Partly<'_> {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, range: Range<u64>) -> io::Result<Cow<'_, [u8]>> {
        let bytes = self.bytes.read_at(range.clone())?;
        if !self.present.contains(&range) {
            self.missed.replace(Some(range));
            return Err(io::Error::other("these bytes were not fetched"));
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Checkpoint, Format, NamedTensor, OpenOptions, write_safetensors, write_torch};
    use super::*;
    use crate::tensor::{Dtype, TensorView};

    const LAYERS: usize = 40;

    /// A checkpoint of layers of 8,000 bytes each: as a whole, and as an equally long file of zeros.
    fn checkpoint(safetensors: bool) -> (Vec<u8>, tempfile::NamedTempFile) {
        let layer = |at: usize| {
            let bytes: Vec<u8> = (0..2000).flat_map(|i| ((at * 7 + i) as f32).to_le_bytes()).collect();
            (format!("block.{at}.weight"), TensorView::contiguous(Dtype::F32, vec![20, 100], bytes).unwrap())
        };
        let layers: Vec<_> = (0..LAYERS).map(layer).collect();
        let named: Vec<_> = layers.iter().map(|(name, view)| NamedTensor::new(name, view)).collect();
        let mut whole = io::Cursor::new(Vec::new());
        match safetensors {
            true => write_safetensors(&mut whole, &named).unwrap(),
            false => write_torch(&mut whole, &named).unwrap(),
        }
        let whole = whole.into_inner();
        let sparse = tempfile::NamedTempFile::new().unwrap();
        sparse.as_file().set_len(whole.len() as u64).unwrap();
        (whole, sparse)
    }

    fn fill(whole: &[u8], sparse: &tempfile::NamedTempFile, present: &mut RangeSet, ranges: &[Range<u64>]) {
        use std::os::unix::fs::FileExt as _;
        for range in ranges {
            sparse.as_file().write_all_at(&whole[range.start as usize..range.end as usize], range.start).unwrap();
            present.insert(range.clone());
        }
    }

    /// Fetches what is needed until nothing is; returns how often.
    fn index(whole: &[u8], sparse: &tempfile::NamedTempFile, present: &mut RangeSet) -> usize {
        let mut rounds = 0;
        loop {
            match index_need(sparse.path(), present).unwrap() {
                IndexNeed::Nothing => return rounds,
                IndexNeed::Ranges(ranges) => fill(whole, sparse, present, &ranges),
                IndexNeed::Whole(reason) => panic!("{reason}"),
            }
            rounds += 1;
        }
    }

    #[test]
    fn a_layer_is_read_from_its_bytes_alone_and_others_are_refused() {
        for safetensors in [false, true] {
            let (whole, sparse) = checkpoint(safetensors);
            let mut present = RangeSet::default();
            let closed = OpenOptions { present: Some(present.clone()), ..OpenOptions::default() };
            let error = Checkpoint::open(sparse.path(), &closed).unwrap_err();
            assert!(matches!(error, CheckpointError::NotFetched { .. }), "{error:?}");
            assert!(index(&whole, &sparse, &mut present) <= 2);
            let open = |present: &RangeSet| {
                let options = OpenOptions { present: Some(present.clone()), ..OpenOptions::default() };
                Checkpoint::open(sparse.path(), &options).unwrap()
            };
            let listed = open(&present);
            assert_eq!(listed.tensors().len(), LAYERS);
            let error = listed.tensor("block.20.weight").unwrap_err();
            assert!(matches!(error, CheckpointError::NotFetched { .. }) && error.to_string().contains("block.20"));
            let ranges = listed.ranges_of(["block.20.weight"]).unwrap();
            let cost: u64 = ranges.iter().map(|range| range.end - range.start).sum();
            assert!((8000..9000).contains(&cost), "{cost}");
            fill(&whole, &sparse, &mut present, &ranges);
            let here = open(&present);
            let known = Checkpoint::from_bytes("whole", whole, &OpenOptions::default()).unwrap();
            let values = |checkpoint: &Checkpoint| {
                let mut values = vec![0.0; 2000];
                checkpoint.tensor("block.20.weight").unwrap().read_f64(0, &mut values).unwrap();
                values
            };
            assert_eq!(values(&here), values(&known));
            let error = here.tensor("block.25.weight").unwrap_err();
            assert!(matches!(error, CheckpointError::NotFetched { .. }), "{error:?}");
        }
    }

    /// Every value of a tensor, and whether its bytes could be had at all.
    fn values(checkpoint: &Checkpoint, name: &str) -> Result<Vec<u64>, String> {
        let view = checkpoint.tensor(name).map_err(|error| error.to_string())?;
        let mut values = vec![0.0; view.len()];
        view.read_f64(0, &mut values).map_err(|error| error.to_string())?;
        Ok(values.into_iter().map(f64::to_bits).collect())
    }

    #[test]
    fn every_fixture_reads_in_parts_as_it_does_whole() {
        use std::os::unix::fs::FileExt as _;
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/checkpoint");
        let files = ["torch-1.13", "torch-2.13"].map(|version| std::fs::read_dir(root.join(version)).unwrap());
        let mut read = 0;
        for path in files.into_iter().flatten().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
            let name = path.display().to_string();
            let whole = std::fs::read(&path).unwrap();
            let sparse = tempfile::NamedTempFile::new().unwrap();
            sparse.as_file().set_len(whole.len() as u64).unwrap();
            let mut present = RangeSet::default();
            let fetch = |ranges: Vec<Range<u64>>, present: &mut RangeSet| {
                for range in ranges {
                    let bytes = &whole[range.start as usize..range.end as usize];
                    sparse.as_file().write_all_at(bytes, range.start).unwrap();
                    present.insert(range);
                }
            };
            let listed = loop {
                let bytes = std::fs::read(sparse.path()).unwrap();
                match need(&name, &bytes, &present, LEAST_ENDS) {
                    Ok(IndexNeed::Nothing) => break true,
                    Ok(IndexNeed::Ranges(ranges)) => fetch(ranges, &mut present),
                    Ok(IndexNeed::Whole(_)) | Err(CheckpointError::NotACheckpoint { .. }) => break false,
                    Err(error) => panic!("{name}: {error:?}"),
                }
            };
            let Ok(known) = Checkpoint::open(&path, &OpenOptions::default()) else { continue };
            if !listed {
                let reason = [Format::TorchLegacy, Format::NnTemplate].contains(&known.format());
                assert!(reason, "{name} is {}", known.format());
                continue;
            }
            let open = |present: &RangeSet| {
                let options = OpenOptions { present: Some(present.clone()), ..OpenOptions::default() };
                Checkpoint::open(sparse.path(), &options).unwrap()
            };
            // The last one alone, then all of them.
            let names: Vec<&str> = known.tensors().iter().map(|info| info.name.as_str()).collect();
            for names in [&names[names.len().saturating_sub(1)..], &names] {
                let ranges = open(&present).ranges_of(names.iter().copied()).unwrap();
                fetch(ranges, &mut present);
                let parts = open(&present);
                assert_eq!(parts.tensors(), known.tensors(), "{name}");
                for tensor in names {
                    assert_eq!(values(&parts, tensor), values(&known, tensor), "{name}: {tensor}");
                }
                read += names.len();
            }
        }
        assert!(read > 100, "{read} tensors were read in parts");
    }

    #[test]
    fn what_lies_behind_a_record_is_not_fetched_with_it() {
        let mut writer = ::zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        let stored = ::zip::write::SimpleFileOptions::default().compression_method(::zip::CompressionMethod::Stored);
        writer.start_file("a/data/0", stored).unwrap();
        io::Write::write_all(&mut writer, b"weights").unwrap();
        let mut archive = writer.finish().unwrap().into_inner();
        // Nothing of use between the record and the directory.
        let place = archive.len() - 6;
        let start = u32::from_le_bytes(archive[place..place + 4].try_into().unwrap());
        archive[place..place + 4].copy_from_slice(&(start + (1 << 20)).to_le_bytes());
        archive.splice(start as usize..start as usize, vec![0; 1 << 20]);
        let directory = Directory::read(&archive[..]).unwrap();
        let record = directory.get("a/data/0").unwrap();
        let (place, span) = (directory.locate(&archive[..], record).unwrap(), record.span());
        assert!(span.start <= place.start && place.end <= span.end && span.end < 70_000, "{place:?} in {span:?}");
    }
}
