//! The opened checkpoint: which container it is, its tensors, and views of them. Opens local files read-only.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::container::read_file;
use super::distributed;
use super::error::CheckpointError;
use super::index::{self, IndexNeed};
use super::names::{self, Prefixes};
use super::parts::{Crc32, Part};
use super::shards;
use super::sniff::{Kind, sniff};
use super::source::Bytes;
use super::torch::{Found, TensorLayout};
use crate::ranges::RangeSet;
use crate::tensor::{ByteOrder, Dtype, TensorView, element_count};

/// A repeated (expanded) tensor may come to this many bytes beyond the size of its file.
const MAX_EXPANDED_EXCESS: u64 = 64 << 20;

/// What kind of file a checkpoint came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// The zip archive that `torch.save` writes since 1.6.
    Torch,
    /// The stream of pickles that `torch.save` wrote before.
    TorchLegacy,
    /// `torch.jit.save`.
    TorchScript,
    /// safetensors.
    Safetensors,
    /// nn-template's `.ckpt.zip`: a zip archive around a torch checkpoint.
    NnTemplate,
    /// Several files behind an index.
    Sharded,
    /// A folder that `torch.distributed.checkpoint` wrote.
    Distributed,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Torch => "torch",
            Self::TorchLegacy => "torch (legacy)",
            Self::TorchScript => "torchscript",
            Self::Safetensors => "safetensors",
            Self::NnTemplate => "nn-template",
            Self::Sharded => "sharded",
            Self::Distributed => "torch distributed",
        })
    }
}

/// How to open a checkpoint.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OpenOptions {
    /// The key of the dict or module to read, its parts joined by dots; `""` is the top level. Found automatically when
    /// absent and only one part holds tensors.
    pub key: Option<String>,
    /// What to do with the prefixes of training wrappers.
    pub prefixes: Prefixes,
    /// Compare each record's CRC-32 on its first use. Leave it on unless every byte was verified by digest already.
    pub verify_crc: bool,
    /// Folder for the inflated copy of a deflated nn-template checkpoint: an unnamed file, gone when the checkpoint is
    /// dropped. Without it the copy is kept in memory.
    pub scratch: Option<PathBuf>,
    /// The bytes that are here, of a single file that was not fetched whole. Others are never looked at: a tensor whose
    /// bytes are missing is [`CheckpointError::NotFetched`].
    pub present: Option<RangeSet>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self { key: None, prefixes: Prefixes::default(), verify_crc: true, scratch: None, present: None }
    }
}

/// One tensor of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TensorInfo {
    /// Name in the state dict, after [`OpenOptions::prefixes`].
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Shape; empty for a scalar.
    pub shape: Vec<usize>,
    /// Bytes of all elements.
    pub bytes: u64,
    /// Number of the storage in which the elements lie: tensors with the same number may share elements.
    pub storage: usize,
    /// Position among [`Checkpoint::tensors`] of the first tensor with exactly these elements, when this is a later
    /// one: tied weights.
    pub tied_to: Option<usize>,
    /// Whether the file states a checksum for these bytes.
    pub has_checksum: bool,
}

impl TensorInfo {
    /// Number of elements.
    pub fn len(&self) -> usize {
        // Cannot overflow: checked when the checkpoint was opened.
        element_count(&self.shape).unwrap_or(0)
    }

    /// Whether some dimension is 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A tensor that is listed and not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Name in the state dict.
    pub name: String,
    /// What it is instead of a readable tensor.
    pub reason: String,
}

/// An opened checkpoint. Cheap to make: only the directory and the pickle or header were read.
#[derive(Debug)]
pub struct Checkpoint {
    file: String,
    format: Format,
    parts: Vec<Part>,
    tensors: Vec<TensorInfo>,
    /// Part and layout of each tensor.
    layouts: Vec<(usize, TensorLayout)>,
    by_name: HashMap<String, usize>,
    skipped: Vec<Skipped>,
    verify_crc: bool,
}

impl Checkpoint {
    /// Opens a checkpoint file of any kind, the index of a sharded checkpoint, or a folder with either or with what
    /// `torch.distributed.checkpoint` writes; the kind is recognised by content.
    ///
    /// # Errors
    /// [`CheckpointError`]: unreadable, no checkpoint, damaged, hostile, or ambiguous.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Self, CheckpointError> {
        let name = path.display().to_string();
        if path.is_dir() {
            return shards::open_folder(path, options);
        }
        if path.file_name().is_some_and(|name| name == distributed::METADATA_FILE) {
            return distributed::open(path.parent().unwrap_or(Path::new("")), options);
        }
        if name.ends_with(distributed::PIECES_ENDING) {
            let what = "one file of a torch.distributed.checkpoint folder; open the folder";
            return Err(CheckpointError::NotACheckpoint { file: name, what });
        }
        let open = |source| CheckpointError::Open { file: name.clone(), source };
        let bytes = File::open(path).and_then(|file| Bytes::map(&file)).map_err(open)?;
        if options.present.is_none() && sniff(bytes.as_slice()) == Kind::Json {
            return shards::open_index(path, bytes.as_slice(), options);
        }
        Self::read(name, bytes, options)
    }

    /// Opens a checkpoint that lies in memory; `name` stands for the file in messages.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn from_bytes(name: &str, bytes: impl Into<Arc<[u8]>>, options: &OpenOptions) -> Result<Self, CheckpointError> {
        Self::read(name.to_owned(), Bytes::from(bytes.into()), options)
    }

    /// What kind of file it is.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The file's name, as messages show it.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The readable tensors in the order of the state dict.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// What is in the state dict and not read, each with the reason.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// The tensor of this name.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(*self.by_name.get(name)?)
    }

    /// A view of a tensor's elements: in place when the file stores them as they are.
    ///
    /// # Errors
    /// [`CheckpointError::NoSuchTensor`], [`CheckpointError::Unreadable`], or [`CheckpointError::Damaged`] when the
    /// bytes do not match their checksum.
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>, CheckpointError> {
        self.view(name, Crc32::Compared)
    }

    /// As [`Self::tensor`], but without a pass over the elements to compare their CRC-32: where the view is all of what it
    /// was stated of, that is left to the reader ([`TensorView::crc32_to_compare`]), who passes over them anyway.
    ///
    /// # Errors
    /// As [`Self::tensor`].
    pub fn tensor_to_compare(&self, name: &str) -> Result<TensorView<'_>, CheckpointError> {
        self.view(name, Crc32::Left)
    }

    fn view(&self, name: &str, crc32: Crc32) -> Result<TensorView<'_>, CheckpointError> {
        let Some((part, layout)) = self.by_name.get(name).and_then(|&at| self.layouts.get(at)) else {
            return Err(self.missing(name));
        };
        let part = self.parts.get(*part).ok_or_else(|| self.missing(name))?;
        if !part.is_here(layout.storage) {
            return Err(CheckpointError::NotFetched { file: part.file.clone(), what: format!("tensor {name:?}") });
        }
        part.view(name, layout, if self.verify_crc { crc32 } else { Crc32::Ignored })
    }

    /// The bytes of the file that reading these tensors looks at: what to fetch when not all of the file is here. Only
    /// for checkpoints of one file.
    ///
    /// # Errors
    /// [`CheckpointError::NoSuchTensor`], [`CheckpointError::Unreadable`].
    pub fn ranges_of<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Result<Vec<Range<u64>>, CheckpointError> {
        let range = |name: &'n str| {
            let place = self.by_name.get(name).and_then(|&at| self.layouts.get(at));
            let (part, layout) = place.ok_or_else(|| self.missing(name))?;
            Ok(self.parts.get(*part).map_or(0..0, |part| part.span(layout.storage)))
        };
        names.into_iter().map(range).collect()
    }

    /// The torch archive that all tensors are in, when they are in one, of little byte order.
    pub(super) fn archive(&self) -> Option<&Part> {
        let torch = matches!(self.format, Format::Torch | Format::TorchScript);
        self.parts.first().filter(|part| torch && self.parts.len() == 1 && part.order == ByteOrder::Little)
    }

    /// A tensor, and where it lies in its storage.
    pub(super) fn layout(&self, name: &str) -> Option<(&TensorInfo, &TensorLayout)> {
        let at = *self.by_name.get(name)?;
        Some((self.tensors.get(at)?, &self.layouts.get(at)?.1))
    }

    fn missing(&self, name: &str) -> CheckpointError {
        let (file, tensor) = (self.file.clone(), name.to_owned());
        match self.skipped.iter().find(|skipped| skipped.name == name) {
            Some(skipped) => CheckpointError::Unreadable { file, tensor, reason: skipped.reason.clone() },
            None => CheckpointError::NoSuchTensor { file, tensor },
        }
    }

    fn read(file: String, bytes: Bytes, options: &OpenOptions) -> Result<Self, CheckpointError> {
        if let Some(present) = &options.present
            && index::need(&file, bytes.as_slice(), present, index::LEAST_ENDS)? != IndexNeed::Nothing
        {
            return Err(CheckpointError::NotFetched { file, what: "its directory or header".to_owned() });
        }
        let (format, mut part, found) = read_file(&file, bytes, options)?;
        part.present.clone_from(&options.present);
        let found = found.into_iter().map(|found| (0, found)).collect();
        Self::assemble((file, format), vec![part], found, options)
    }

    /// Gives the tensors of all parts, each with its part's position, their final names.
    pub(super) fn assemble(
        (file, format): (String, Format),
        parts: Vec<Part>,
        found: Vec<(usize, Found)>,
        options: &OpenOptions,
    ) -> Result<Self, CheckpointError> {
        let names: Vec<String> = found.iter().map(|(_, found)| found.name.clone()).collect();
        let names = names::apply(&options.prefixes, &names)
            .map_err(|(prefix, tensor)| CheckpointError::PrefixCollision { file: file.clone(), prefix, tensor })?;
        let mut checkpoint = Self {
            file,
            format,
            parts,
            tensors: Vec::new(),
            layouts: Vec::new(),
            by_name: HashMap::new(),
            skipped: Vec::new(),
            verify_crc: options.verify_crc,
        };
        let first_storage = checkpoint.parts.iter().scan(0, |storages, part| {
            let first = *storages;
            *storages += part.storage_count();
            Some(first)
        });
        let first_storage: Vec<usize> = first_storage.collect();
        let mut seen = HashMap::new();
        for ((part, found), name) in found.into_iter().zip(names) {
            match found.tensor {
                Ok(layout) => checkpoint.add(name, (part, &first_storage), layout, &mut seen)?,
                Err(reason) => checkpoint.skipped.push(Skipped { name, reason }),
            }
        }
        Ok(checkpoint)
    }

    fn add(
        &mut self,
        name: String,
        (part_at, first_storage): (usize, &[usize]),
        layout: TensorLayout,
        seen: &mut HashMap<(usize, TensorLayout), usize>,
    ) -> Result<(), CheckpointError> {
        let Some(part) = self.parts.get(part_at) else { return Ok(()) };
        let bytes = element_count(&layout.shape).unwrap_or(usize::MAX).saturating_mul(layout.dtype.size()) as u64;
        let limit = part.held().saturating_add(MAX_EXPANDED_EXCESS);
        if bytes > limit {
            let source = super::TorchError::ExpandsTooMuch { tensor: name, bytes, limit };
            return Err(CheckpointError::Torch { file: part.file.clone(), source });
        }
        let at = self.tensors.len();
        let first = *seen.entry((part_at, layout.clone())).or_insert(at);
        let earlier = first_storage.get(part_at).copied().unwrap_or(0);
        self.tensors.push(TensorInfo {
            name: name.clone(),
            dtype: layout.dtype,
            shape: layout.shape.clone(),
            bytes,
            storage: earlier + layout.storage,
            tied_to: (bytes > 0 && first != at).then_some(first),
            has_checksum: part.has_checksum(layout.storage),
        });
        self.layouts.push((part_at, layout));
        self.by_name.insert(name, at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_can_be_shared_between_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<Checkpoint>();
    }
}
