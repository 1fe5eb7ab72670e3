//! Products of task vectors by libtorch, on the CPU or a GPU: X goes to the device a block of columns at a time, where it is
//! widened, subtracted, multiplied and summed in `f64`. No I/O of its own.

use std::sync::{Mutex, PoisonError};

use tch::{Device, Kind, Tensor};

use super::device::{self, VERSION, available};
use super::error::LibtorchError;
use super::exchange::share;
use crate::analysis::{AnalysisError, Backend, Block, Checkpoint, TaskVectors};
use crate::progress::Task;
use crate::tensor::{Dtype, TensorView};

/// Bytes of a block of X on the CPU: it is gone through three times, and stays in the caches meanwhile.
const CPU_BLOCK: usize = 4 << 20;
/// Bytes of a block of X on a GPU: with its products it fits the memory of any, and is enough work for each.
const CUDA_BLOCK: usize = 256 << 20;
/// Fewest columns of a block.
const LEAST_WIDTH: usize = 256;

/// libtorch on one device.
///
/// Layers take turns on the device, each with all of it; meanwhile the other threads of the pool read and check the next
/// ones. Only `f64` is multiplied, so that no setting of reduced precision (TF32) has a say. The order of sums is
/// libtorch's: entry (i, j) differs from that of [`BuiltIn`](crate::analysis::BuiltIn) by a few ε √(Gᵢᵢ Gⱼⱼ).
#[derive(Debug)]
pub struct Torch {
    device: Device,
    block_bytes: usize,
    turn: Mutex<()>,
}

impl Torch {
    /// libtorch on this device.
    ///
    /// # Errors
    /// [`LibtorchError::NoDevice`].
    pub fn on(device: Device) -> Result<Self, LibtorchError> {
        available(device)?;
        let block_bytes = if device.is_cuda() { CUDA_BLOCK } else { CPU_BLOCK };
        Ok(Self { device, block_bytes, turn: Mutex::new(()) })
    }

    /// The same with blocks of another size, in bytes of `f64` on the device.
    pub fn with_block_bytes(self, block_bytes: usize) -> Self {
        Self { block_bytes, ..self }
    }

    fn multiply(&self, vectors: &TaskVectors<'_>, blocks: &[Block], progress: &Task) -> Result<Vec<f64>, Trouble> {
        let (n, d) = (vectors.seeds(), vectors.parameters());
        let columns = self.block_bytes / size_of::<f64>() / (n + 1);
        let width = columns.max(LEAST_WIDTH).min(d.max(1));
        let bytes_per_column = vectors.bytes().checked_div(d as u64).unwrap_or(0);
        let zeros = |shape: [usize; 2]| Tensor::f_zeros(shape.map(int), (Kind::Double, self.device));
        let (mut gram, base, x) = (zeros([n, n])?, zeros([1, width])?, zeros([n, width])?);
        for start in (0..d).step_by(width) {
            let count = width.min(d - start);
            let mut base = base.f_narrow(1, 0, int(count))?;
            let mut x = x.f_narrow(1, 0, int(count))?;
            copy((Checkpoint::Pretrained, vectors.pretrained()), (start, count), &mut base)?;
            for (seed, view) in vectors.fine_tuned().iter().enumerate() {
                let mut row = x.f_narrow(0, int(seed), 1)?;
                copy((Checkpoint::FineTuned(seed), view), (start, count), &mut row)?;
            }
            // In place, so on the memory of the block: what it returns is only another reference to it.
            let _ = x.f_sub_(&base)?;
            for block in blocks.iter().filter(|block| !block.rows.is_empty()) {
                let rows = |of: &Tensor| of.f_narrow(0, int(block.rows.start), int(block.rows.len()));
                let partners = x.f_narrow(0, 0, int(block.columns))?;
                let mut sums = rows(&gram)?.f_narrow(1, 0, int(block.columns))?;
                let _ = sums.f_addmm_(&rows(&x)?, &partners.f_tr()?)?;
            }
            progress.advance(count as u64 * bytes_per_column);
        }
        gram = gram.f_to_device(Device::Cpu)?;
        let mut values = vec![0.0; n * n];
        gram.f_copy_data(&mut values, n * n)?;
        Ok(values)
    }
}

impl Backend for Torch {
    fn name(&self) -> String {
        format!("libtorch {VERSION} on {}", device::name(self.device))
    }

    fn products(
        &self,
        vectors: &TaskVectors<'_>,
        blocks: &[Block],
        progress: &Task,
    ) -> Result<Vec<f64>, AnalysisError> {
        // Before its turn, while another layer has the device.
        vectors.compare_crc32()?;
        // One that panicked left nothing behind that the next would see.
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let layer = || vectors.layer().to_owned();
        self.multiply(vectors, blocks, progress).map_err(|trouble| match trouble {
            Trouble::Torch(error) => {
                AnalysisError::Backend { layer: layer(), backend: self.name(), source: Box::new(error) }
            }
            Trouble::Read(checkpoint, source) => AnalysisError::Read { layer: layer(), checkpoint, source },
        })
    }
}

/// What can happen to one layer.
enum Trouble {
    Torch(LibtorchError),
    Read(Checkpoint, crate::tensor::TensorError),
}

impl<E: Into<LibtorchError>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self::Torch(error.into())
    }
}

/// Copies elements `start..start + count` to `out` (1 × count, `f64`, on the device): the dtypes of training as they are, to
/// be widened there; others widened here.
#[expect(unsafe_code, reason = "a copy in between costs a fifth and more: docs/performance.md")]
fn copy(
    (checkpoint, view): (Checkpoint, &TensorView<'_>),
    (start, count): (usize, usize),
    out: &mut Tensor,
) -> Result<(), Trouble> {
    let read = |source| Trouble::Read(checkpoint, source);
    let dtype = view.dtype();
    let widened_there = matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::Bf16);
    let bytes = view.as_le_bytes().filter(|_| widened_there);
    let bytes = bytes.and_then(|bytes| bytes.get(start * dtype.size()..(start + count) * dtype.size()));
    if let Some(bytes) = bytes {
        let part = TensorView::contiguous(dtype, vec![1, count], bytes).map_err(read)?;
        // SAFETY: `part` is borrowed from `view`, which outlives this block, and nothing writes to the bytes of a view. The
        // tensor is dropped at the end of the block; the copies from it have been made by then.
        if let Some(part) = unsafe { share(&part)? } {
            // Widened after the copy: a GPU is sent the bytes of the file, not twice as many.
            out.f_copy_(&part.f_to_device(out.device())?)?;
            return Ok(());
        }
    }
    let mut values = vec![0.0; count];
    view.read_f64(start, &mut values).map_err(read)?;
    out.f_copy_(&Tensor::f_from_slice(&values)?.f_view([1, int(count)])?)?;
    Ok(())
}

fn int(size: usize) -> i64 {
    // No tensor in memory has a dimension beyond i64.
    i64::try_from(size).unwrap_or(i64::MAX)
}
