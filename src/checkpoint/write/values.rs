//! A torch archive again with other values in its tensors: the same records, code and names, other numbers. What a
//! TorchScript module is run with. All values are held in memory until they are written.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write;

use super::zip::Archive;
use super::{NamedTensor, WriteError};
use crate::checkpoint::Checkpoint;
use crate::tensor::{element_count, row_major_strides};

impl Checkpoint {
    /// Writes the archive that this checkpoint was read from, a torch or TorchScript file, with `tensors` in place of those
    /// of the same name; what is not named stays as it is. Every record is written whole, so that checksums are right.
    ///
    /// # Errors
    /// [`WriteError::Unsupported`] for another kind of file, a tensor that is not there in this dtype and shape, or two that
    /// share their elements and are to differ; what was written so far must then be thrown away.
    pub fn write_with(&self, out: &mut impl Write, tensors: &[NamedTensor<'_>]) -> Result<(), WriteError> {
        let damaged = |source| WriteError::Source { tensor: self.file().to_owned(), source };
        let Some(archive) = self.archive() else {
            return Err(WriteError::Unsupported {
                tensor: tensors.first().map(|tensor| tensor.name.to_owned()).unwrap_or_default(),
                problem: "only one torch archive, and of little byte order, can be written again with other values",
            });
        };
        let mut sharing: HashMap<usize, usize> = HashMap::new();
        self.tensors().iter().for_each(|info| *sharing.entry(info.storage).or_default() += 1);
        let mut changed: HashMap<&str, Content> = HashMap::new();
        for tensor in tensors {
            let refuse = |problem| WriteError::Unsupported { tensor: tensor.name.to_owned(), problem };
            let (info, layout) = self.layout(tensor.name).ok_or_else(|| refuse("the archive has none of this name"))?;
            if (info.dtype, info.shape.as_slice()) != (tensor.source.dtype(), tensor.source.shape()) {
                return Err(refuse("the archive has it in another dtype or shape"));
            }
            let (record, bytes) = archive.record(layout.storage).ok_or_else(|| refuse("it is in no record"))?;
            let bytes = bytes.map_err(|error| damaged(error.into()))?;
            let shared = sharing.get(&info.storage).is_some_and(|&tensors| tensors > 1);
            let content = changed.entry(record).or_insert_with(|| Content::of(bytes.into_owned(), shared));
            let size = info.dtype.size();
            let mut values = vec![0; element_count(&info.shape).unwrap_or(0) * size];
            let source = |source| WriteError::Source { tensor: tensor.name.to_owned(), source };
            tensor.source.read_le_bytes(0, &mut values).map_err(source)?;
            let put = match layout.strides == row_major_strides(&info.shape) {
                true => content.put(layout.offset * size, &values),
                false => {
                    let mut places = places(&info.shape, &layout.strides, layout.offset).zip(values.chunks_exact(size));
                    places.try_for_each(|(at, value)| content.put(at * size, value))
                }
            };
            put.ok_or_else(|| refuse("it shares elements with a tensor of other values"))?;
        }
        let mut written = Archive::new(out);
        for (name, content) in archive.records() {
            let content = match changed.get(name) {
                Some(content) => Cow::Borrowed(content.bytes.as_slice()),
                None => content.map_err(|error| damaged(error.into()))?,
            };
            written.small(name, &content)?;
        }
        Ok(written.finish()?)
    }
}

/// A storage with new values; where several tensors share it, also which of its bytes are new.
struct Content {
    bytes: Vec<u8>,
    new: Option<Vec<bool>>,
}

impl Content {
    fn of(bytes: Vec<u8>, shared: bool) -> Self {
        Self { new: shared.then(|| vec![false; bytes.len()]), bytes }
    }

    /// Nothing, when other values were put there before, or there is no such place.
    fn put(&mut self, start: usize, values: &[u8]) -> Option<()> {
        let range = start..start.checked_add(values.len())?;
        let bytes = self.bytes.get_mut(range.clone())?;
        if let Some(new) = &mut self.new {
            let new = new.get_mut(range)?;
            if new.iter().zip(bytes.iter().zip(values)).any(|(&new, (there, value))| new && there != value) {
                return None;
            }
            new.fill(true);
        }
        bytes.copy_from_slice(values);
        Some(())
    }
}

/// Where the elements of a tensor lie in its storage, in row-major order.
fn places(shape: &[usize], strides: &[usize], offset: usize) -> impl Iterator<Item = usize> {
    let mut index = vec![0; shape.len()];
    let (shape, strides) = (shape.to_vec(), strides.to_vec());
    (0..element_count(&shape).unwrap_or(0)).map(move |_| {
        let at = offset + index.iter().zip(&strides).map(|(i, stride)| i * stride).sum::<usize>();
        for (i, extent) in index.iter_mut().zip(&shape).rev() {
            *i += 1;
            if *i < *extent {
                break;
            }
            *i = 0;
        }
        at
    })
}
