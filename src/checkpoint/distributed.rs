//! Folders of `torch.distributed.checkpoint`: a `.metadata` pickle, and files in which every piece of a tensor is a small
//! torch archive of its own. The files are mapped; only the directory and the pickle of each piece are read.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::fs::File;
use std::path::Path;

use super::budget::Budget;
use super::error::CheckpointError;
use super::parts::Part;
use super::pickle::Pickle;
use super::pieces::{Piece, Pieces, is_grid};
use super::source::Bytes;
use super::torch::archive::Archive;
use super::torch::distributed::{self as metadata, Entry};
use super::torch::{BARE, Found, TensorLayout, TorchError, check_globals, printable};
use super::zip::Directory;
use super::{Checkpoint, Format, OpenOptions};
use crate::tensor::{Dtype, element_count};

/// The pickle that makes a folder one of these.
pub(super) const METADATA_FILE: &str = ".metadata";
/// What the files with the pieces end in.
pub(super) const PIECES_ENDING: &str = ".distcp";

/// Opens the folder in which a [`METADATA_FILE`] lies.
pub(super) fn open(folder: &Path, options: &OpenOptions) -> Result<Checkpoint, CheckpointError> {
    let path = folder.join(METADATA_FILE);
    let file = path.display().to_string();
    let bytes = File::open(&path).and_then(|file| Bytes::map(&file));
    let bytes = bytes.map_err(|source| CheckpointError::Open { file: file.clone(), source })?;
    let values = Budget::of(bytes_in(folder)).values();
    let pickle = Pickle::parse_within(bytes.as_slice(), values).map_err(|source| CheckpointError::Pickle {
        file: file.clone(),
        record: "metadata".to_owned(),
        source,
    })?;
    let refuse = |source| CheckpointError::Torch { file: file.clone(), source };
    check_globals(&pickle).map_err(refuse)?;
    if !metadata::is_metadata(&pickle) {
        let what = "a pickle that torch.distributed.checkpoint did not write";
        return Err(CheckpointError::NotACheckpoint { file, what });
    }
    let entries = metadata::parse(&pickle, options.key.as_deref()).map_err(refuse)?;
    drop(pickle);
    let mut folder = Folder { folder, files: HashMap::new(), options };
    folder.check_apart(&entries).map_err(refuse)?;
    let (mut parts, mut found) = (Vec::new(), Vec::new());
    for entry in entries {
        let name = entry.name.clone();
        let tensor = match folder.tensor(entry, &file)? {
            Ok((part, layout)) => {
                parts.push(part);
                Ok(layout)
            }
            Err(reason) => Err(reason),
        };
        found.push((parts.len().saturating_sub(1), Found { name, tensor }));
    }
    let folder = folder.folder.display().to_string();
    Checkpoint::assemble((folder, Format::Distributed), parts, found, options)
}

/// Bytes of all files of a folder.
fn bytes_in(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    // Not the entry's own metadata: a link counts as what it leads to.
    let files = files.filter_map(|file| std::fs::metadata(file.path()).ok());
    files.filter(|metadata| metadata.is_file()).map(|metadata| metadata.len()).sum()
}

/// One tensor or piece, or the reason why it is not read.
type Read = Result<(Part, TensorLayout), String>;

struct Folder<'a> {
    folder: &'a Path,
    /// The files opened so far.
    files: HashMap<String, Bytes>,
    options: &'a OpenOptions,
}

impl Folder<'_> {
    /// Refuses pieces that share bytes: honest ones never do, and what is kept of a piece is then bounded by the files.
    fn check_apart(&self, entries: &[Entry]) -> Result<(), TorchError> {
        let all = entries.iter().flat_map(|entry| entry.pieces.iter().map(move |piece| (entry, piece)));
        let mut places: Vec<_> =
            all.map(|(entry, piece)| (&piece.file, piece.range.start, piece.range.end, entry)).collect();
        places.sort_unstable_by_key(|&(file, start, end, _)| (file, start, end));
        for pair in places.windows(2) {
            if let &[(file, _, end, _), (next_file, next, _, entry)] = pair
                && file == next_file
                && next < end
            {
                let problem = "a piece of it shares bytes with another";
                return Err(TorchError::Malformed { tensor: printable(&entry.name), problem });
            }
        }
        Ok(())
    }

    fn tensor(&mut self, entry: Entry, metadata: &str) -> Result<Read, CheckpointError> {
        let malformed = |problem| {
            let source = TorchError::Malformed { tensor: printable(&entry.name), problem };
            CheckpointError::Torch { file: metadata.to_owned(), source }
        };
        let empty = element_count(&entry.shape) == Some(0);
        let boxes = entry.pieces.iter().map(|piece| (&piece.at[..], &piece.shape[..]));
        if (empty && !entry.pieces.is_empty()) || (!empty && !is_grid(&entry.shape, boxes)) {
            let (tensor, pieces, shape) = (printable(&entry.name), entry.pieces.len(), entry.shape);
            let source = TorchError::PiecesMisfit { tensor, pieces, shape };
            return Err(CheckpointError::Torch { file: metadata.to_owned(), source });
        }
        let mut dtype = entry.dtype;
        let mut pieces = Vec::with_capacity(entry.pieces.len());
        for piece in entry.pieces {
            let (part, layout) = match self.piece(&piece, &entry.name)? {
                Ok(read) => read,
                Err(reason) => return Ok(Err(reason)),
            };
            if *dtype.get_or_insert(layout.dtype) != layout.dtype {
                return Err(malformed("its pieces are of different dtypes, or of another than the metadata say"));
            }
            if layout.shape != piece.shape {
                return Err(malformed("a piece of it has another shape than the metadata say"));
            }
            pieces.push(Piece { part, layout, at: piece.at });
        }
        let Some(dtype) = dtype else { return Err(malformed("its dtype is unknown")) };
        Ok(Ok(self.join(dtype, entry.shape, pieces)))
    }

    /// A tensor in one piece is read where it lies.
    fn join(&self, dtype: Dtype, shape: Vec<usize>, mut pieces: Vec<Piece>) -> (Part, TensorLayout) {
        if pieces.len() == 1
            && let Some(only) = pieces.pop()
        {
            return (only.part, only.layout);
        }
        let file = self.folder.display().to_string();
        Part::of_pieces(file, Pieces { dtype, shape, pieces })
    }

    /// Reads the directory and the pickle of one piece.
    fn piece(&mut self, piece: &metadata::Piece, name: &str) -> Result<Read, CheckpointError> {
        let bytes = self.file(&piece.file, name)?;
        let file = self.folder.join(&piece.file).display().to_string();
        let Some(bytes) = bytes.slice(piece.range.clone()) else {
            let (end, held) = (piece.range.end, bytes.as_slice().len() as u64);
            let source = TorchError::PieceBeyond { tensor: printable(name), end, held };
            return Err(CheckpointError::Torch { file, source });
        };
        let file = format!("{file}[{}..{}]", piece.range.start, piece.range.end);
        let directory =
            Directory::read(bytes.as_slice()).map_err(|source| CheckpointError::Zip { file: file.clone(), source })?;
        let archive = Archive { file: &file, bytes: bytes.as_slice(), directory: &directory };
        let no_tensor = || CheckpointError::Archive { file: file.clone(), problem: "it holds no single tensor" };
        let prefix = archive.prefix()?.ok_or_else(no_tensor)?;
        let options = OpenOptions { verify_crc: self.options.verify_crc, ..OpenOptions::default() };
        let mut parsed = archive.parse(prefix, &options)?;
        let found = parsed.found.pop().filter(|found| found.name == BARE && parsed.found.is_empty());
        let found = found.ok_or_else(no_tensor)?;
        let part = Part::new(file.clone(), bytes, Some(directory), parsed.order, parsed.storages);
        Ok(found.tensor.map(|layout| (part, layout)))
    }

    /// Maps a file of the folder, once.
    fn file(&mut self, name: &str, tensor: &str) -> Result<Bytes, CheckpointError> {
        let path = self.folder.join(name);
        if !super::shards::is_plain_name(name) {
            let source = TorchError::PieceName { tensor: printable(tensor), name: printable(name) };
            return Err(CheckpointError::Torch { file: self.folder.display().to_string(), source });
        }
        match self.files.entry(name.to_owned()) {
            Slot::Occupied(known) => Ok(known.get().clone()),
            Slot::Vacant(slot) => {
                let bytes = File::open(&path).and_then(|file| Bytes::map(&file));
                let open = |source| CheckpointError::Open { file: path.display().to_string(), source };
                Ok(slot.insert(bytes.map_err(open)?).clone())
            }
        }
    }
}
