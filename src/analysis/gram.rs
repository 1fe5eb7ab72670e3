//! The Gram matrix of a layer, and the one streaming pass that makes it. Refuses values that are not finite. No I/O of
//! its own.
//!
//! The order of every sum is fixed by n and d alone, so the result does not depend on the number of threads. A layer is
//! cut into at most 16 pieces of columns, a piece into tiles that stay in cache; within a tile each SIMD lane sums its
//! own columns and the lanes are added in the order of the instruction set; tiles are added in order, and then pieces in
//! order. Between instruction sets (other lane counts) and between other splits of d, results differ only by the
//! rounding of `f64` sums: entry (i, j) by a few ε · √(Gᵢᵢ Gⱼⱼ), ε = 2⁻⁵².

use std::ops::Range;

use rayon::prelude::*;

use crate::analysis::checksum::Checksums;
use crate::analysis::kernel::{Block, Kernel, Tile};
use crate::analysis::task_vector::Base;
use crate::analysis::{AnalysisError, Backend, BuiltIn, TaskVectors};
use crate::progress::Task;

/// Fewest columns of a piece: enough work to be worth a thread's while.
const PIECE: usize = 1 << 16;
/// Most pieces of one layer, each with an n × n partial sum.
const MAX_PIECES: usize = 16;
/// Entries that all partial sums of a layer may hold: 32 MiB of `f64`.
const MAX_PARTIALS: usize = 1 << 22;
/// Bytes of a tile. Measured: a tile that leaves some of the first-level cache to what is read is read back fastest.
const TILE_BYTES: usize = 32 << 10;
/// Bytes of all checkpoints that are brought into the second-level cache in one go, to make their CRC-32, before tiles are
/// made of them; the next ones are asked for meanwhile. Measured.
const STRETCH_BYTES: usize = 96 << 10;

/// G = X Xᵀ, n × n: the inner products of n task vectors of d parameters each.
#[derive(Debug, Clone, PartialEq)]
pub struct Gram {
    seeds: usize,
    parameters: u64,
    /// Row-major, symmetric to the bit.
    values: Vec<f64>,
}

impl Gram {
    /// A Gram from stored values: `seeds`² numbers, row-major.
    ///
    /// # Errors
    /// [`AnalysisError::NotAGram`] when they are of another number, not symmetric, not finite, or negative on the
    /// diagonal.
    pub fn from_values(seeds: usize, parameters: u64, values: Vec<f64>) -> Result<Self, AnalysisError> {
        let gram = Self { seeds, parameters, values };
        let refuse = |reason| Err(AnalysisError::NotAGram { rows: seeds, reason });
        if seeds.checked_mul(seeds) != Some(gram.values.len()) {
            return refuse("it is not square");
        }
        if gram.values.iter().any(|x| !x.is_finite()) {
            return refuse("a value is not finite");
        }
        for i in 0..seeds {
            if gram.get(i, i) < 0.0 {
                return refuse("its diagonal has a negative value");
            }
            if (0..i).any(|j| gram.get(i, j) != gram.get(j, i)) {
                return refuse("it is not symmetric");
            }
        }
        Ok(gram)
    }

    pub(super) fn from_pass(values: Vec<f64>, (seeds, parameters): (usize, u64)) -> Self {
        Self { seeds, parameters, values }
    }

    /// Number of seeds n.
    pub fn seeds(&self) -> usize {
        self.seeds
    }

    /// Number of parameters d that were summed over.
    pub fn parameters(&self) -> u64 {
        self.parameters
    }

    /// All n² entries, row-major.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Inner product of task vectors `i` and `j`.
    pub(super) fn get(&self, i: usize, j: usize) -> f64 {
        self.values[i * self.seeds + j]
    }

    /// The largest squared norm of a task vector.
    pub(super) fn largest_square(&self) -> f64 {
        (0..self.seeds).map(|i| self.get(i, i)).fold(0.0, f64::max)
    }

    /// Adds the Gram of a disjoint set of parameters of the same seeds: other layers, or another piece of this one.
    ///
    /// # Errors
    /// [`AnalysisError::SizeMismatch`] when the numbers of seeds differ.
    pub fn merge(&mut self, other: &Self) -> Result<(), AnalysisError> {
        if self.seeds != other.seeds {
            return Err(AnalysisError::SizeMismatch { what: "seeds", expected: self.seeds, found: other.seeds });
        }
        self.parameters += other.parameters;
        for (sum, x) in self.values.iter_mut().zip(&other.values) {
            *sum += x;
        }
        Ok(())
    }

    /// The Gram of these seeds, in this order; a seed may be named more than once.
    ///
    /// # Errors
    /// [`AnalysisError::SizeMismatch`] when an index is beyond the last seed.
    pub fn select(&self, seeds: &[usize]) -> Result<Self, AnalysisError> {
        if let Some(&beyond) = seeds.iter().find(|&&i| i >= self.seeds) {
            return Err(AnalysisError::SizeMismatch { what: "seeds", expected: beyond + 1, found: self.seeds });
        }
        let values = seeds.iter().flat_map(|&i| seeds.iter().map(move |&j| self.get(i, j))).collect();
        Ok(Self { seeds: seeds.len(), parameters: self.parameters, values })
    }
}

impl TaskVectors<'_> {
    /// The Gram of this layer: one pass over all checkpoints, on the threads of the current rayon pool. `progress`
    /// advances by the bytes read.
    ///
    /// # Errors
    /// [`AnalysisError::NonFinite`] naming checkpoint and element, `Overflow` or `Read`.
    pub fn gram(&self, progress: &Task) -> Result<Gram, AnalysisError> {
        self.gram_by(&BuiltIn, progress)
    }

    /// The same by a backend of the caller's choice.
    ///
    /// # Errors
    /// As [`Self::gram`], and [`AnalysisError::Backend`].
    pub fn gram_by(&self, backend: &dyn Backend, progress: &Task) -> Result<Gram, AnalysisError> {
        self.gram_of(backend, &Block::all(self.seeds()), progress)
    }

    /// The Gram of all these seeds from the Grams that are `known` of consecutive groups of them, from the first seed on:
    /// of the seeds that were there before, or of several datasets. Only the products between groups and those with seeds
    /// of no group are made, though every checkpoint is read.
    ///
    /// # Errors
    /// As [`Self::gram`]; [`AnalysisError::SizeMismatch`] when `known` have more seeds or other parameters.
    pub fn extend_gram(&self, known: &[&Gram], progress: &Task) -> Result<Gram, AnalysisError> {
        self.extend_gram_by(&BuiltIn, known, progress)
    }

    /// The same by a backend of the caller's choice.
    ///
    /// # Errors
    /// As [`Self::extend_gram`], and [`AnalysisError::Backend`].
    pub fn extend_gram_by(
        &self,
        backend: &dyn Backend,
        known: &[&Gram],
        progress: &Task,
    ) -> Result<Gram, AnalysisError> {
        let mismatch = |what, expected, found| Err(AnalysisError::SizeMismatch { what, expected, found });
        if let Some(other) = known.iter().find(|gram| gram.parameters != self.parameters() as u64) {
            return mismatch("parameters", other.parameters as usize, self.parameters());
        }
        let mut blocks = Vec::with_capacity(known.len());
        let mut start = 0;
        for gram in known {
            blocks.push(Block { rows: start..start + gram.seeds, columns: start });
            start += gram.seeds;
        }
        if start > self.seeds() {
            return mismatch("seeds", start, self.seeds());
        }
        blocks.push(Block { rows: start..self.seeds(), columns: self.seeds() });
        let mut gram = self.gram_of(backend, &blocks, progress)?;
        let n = gram.seeds;
        let mut start = 0;
        for known in known {
            for (i, row) in known.values.chunks_exact(known.seeds.max(1)).enumerate() {
                gram.values[(start + i) * n + start..][..known.seeds].copy_from_slice(row);
            }
            start += known.seeds;
        }
        Ok(gram)
    }

    fn gram_of(&self, backend: &dyn Backend, blocks: &[Block], progress: &Task) -> Result<Gram, AnalysisError> {
        let n = self.seeds();
        let mut values = backend.products(self, blocks, progress)?;
        let made = |i: usize, j: usize| blocks.iter().any(|block| block.rows.contains(&i) && j < block.columns);
        for (i, j) in (0..n).flat_map(|i| (0..=i).map(move |j| (i, j))) {
            let product = if made(i, j) { values[i * n + j] } else { 0.0 };
            if !product.is_finite() {
                return Err(self.blame(Kernel::detect()));
            }
            (values[i * n + j], values[j * n + i]) = (product, product);
        }
        Ok(Gram { seeds: n, parameters: self.parameters() as u64, values })
    }
}

/// Rows to be made out of the task vectors before their products are taken: `rows` × n, row-major.
#[derive(Debug)]
pub(super) struct Rotation {
    pub(super) rows: usize,
    pub(super) weights: Vec<f64>,
}

/// One streaming pass over a layer.
#[derive(Debug)]
pub(super) struct Pass<'p, 'a> {
    pub(super) vectors: &'p TaskVectors<'a>,
    pub(super) kernel: Kernel,
    pub(super) base: Base,
    pub(super) rotation: Option<&'p Rotation>,
    /// Which products are made.
    pub(super) blocks: Vec<Block>,
    /// Whether nobody passed over the layer before, so that CRC-32 is left to compare.
    pub(super) first: bool,
}

impl Pass<'_, '_> {
    fn rows(&self) -> usize {
        self.rotation.map_or(self.vectors.seeds(), |rotation| rotation.rows)
    }

    /// The products of all pairs of rows: rows × rows, row-major, symmetric.
    pub(super) fn products(&self, progress: &Task) -> Result<Vec<f64>, AnalysisError> {
        let rows = self.rows();
        let bytes_per_column = self.vectors.bytes().checked_div(self.vectors.parameters() as u64).unwrap_or(0);
        let zeros = || vec![0.0; rows * rows];
        let partials = self.map_pieces(zeros, |sums, tile| {
            self.kernel.add_products(tile, &self.blocks, sums);
            progress.advance(tile.width() as u64 * bytes_per_column);
        })?;
        self.sum(&partials)
    }

    /// The products from those of the pieces, in their order.
    pub(super) fn sum(&self, partials: &[Vec<f64>]) -> Result<Vec<f64>, AnalysisError> {
        let rows = self.rows();
        let mut products = vec![0.0; rows * rows];
        for partial in partials {
            for (sum, x) in products.iter_mut().zip(partial) {
                *sum += x;
            }
        }
        for i in 0..rows {
            for j in 0..i {
                products[j * rows + i] = products[i * rows + j];
            }
        }
        if products.iter().any(|x| !x.is_finite()) {
            return Err(self.vectors.blame(self.kernel));
        }
        Ok(products)
    }

    /// Runs `each` over the tiles of every piece in order, pieces in parallel, each with a state of its own; the states
    /// come back in the order of the pieces.
    pub(super) fn map_pieces<T: Send>(
        &self,
        state: impl Fn() -> T + Sync,
        each: impl Fn(&mut T, &Tile) + Sync,
    ) -> Result<Vec<T>, AnalysisError> {
        let (seeds, rows) = (self.vectors.seeds(), self.rows());
        let work = |columns: Range<usize>| {
            let width = tile_width(seeds.max(rows)).min(columns.len());
            let (mut base, mut tile) = (vec![0.0; width], Tile::new(seeds, width));
            let mut rotated = self.rotation.map(|rotation| (rotation, Tile::new(rows, width)));
            let (mut state, mut checksums) = (state(), self.first.then(|| Checksums::new(self.vectors)));
            let stretch = self.vectors.columns_in(STRETCH_BYTES).next_multiple_of(width.max(1));
            for (at, start) in columns.clone().step_by(width.max(1)).enumerate() {
                let end = columns.end.min(start + width);
                if let Some(checksums) = checksums.as_mut().filter(|_| (at * width).is_multiple_of(stretch)) {
                    checksums.add(self.vectors, start..columns.end.min(start + stretch));
                }
                let columns = (start, &mut base[..end - start], start + stretch);
                self.vectors.fill(self.kernel, self.base, columns, &mut tile)?;
                match &mut rotated {
                    None => each(&mut state, &tile),
                    Some((rotation, target)) => {
                        rotate(self.kernel, rotation, &tile, target);
                        each(&mut state, target);
                    }
                }
            }
            Ok((state, checksums))
        };
        let done: Vec<_> =
            pieces(rows, self.vectors.parameters()).into_par_iter().map(work).collect::<Result<_, _>>()?;
        if self.first {
            Checksums::compare(self.vectors, done.iter().filter_map(|(_, checksums)| checksums.as_ref()))?;
        }
        Ok(done.into_iter().map(|(state, _)| state).collect())
    }
}

fn rotate(kernel: Kernel, rotation: &Rotation, tile: &Tile, target: &mut Tile) {
    target.set_width(tile.width());
    for (row, weights) in rotation.weights.chunks_exact(tile.rows().max(1)).enumerate() {
        let out = target.row_mut(row);
        out.fill(0.0);
        for (seed, &weight) in weights.iter().enumerate() {
            kernel.add_scaled(tile.row(seed), weight, out);
        }
    }
}

/// Cuts d columns into pieces, by `rows` and d alone.
fn pieces(rows: usize, columns: usize) -> Vec<Range<usize>> {
    let most = (MAX_PARTIALS / (rows * rows).max(1)).clamp(4, MAX_PIECES);
    let length = columns.div_ceil(most).next_multiple_of(PIECE);
    (0..columns).step_by(length.max(1)).map(|start| start..columns.min(start + length)).collect()
}

fn tile_width(rows: usize) -> usize {
    (TILE_BYTES / size_of::<f64>() / rows.max(1)).clamp(256, 4096) / 64 * 64
}
