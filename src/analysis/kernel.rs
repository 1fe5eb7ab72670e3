//! The inner loops, compiled once for each instruction set and chosen for the CPU found at run time. No I/O.
//!
//! All loops work on a [`Tile`]: a block of columns of the n × d task vectors in `f64`, sized to stay in cache while
//! each value of it is used n times. Products of rows are summed in registers, a block of rows against another,
//! so that each loaded value serves three or four products; where the rows are many, a panel of them stays in the first-level
//! cache meanwhile.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

/// Tile rows are padded with zeros to whole cache lines of eight `f64`.
const LINE: usize = 8;

/// A block of columns of several rows in `f64`, each row starting on a cache line.
#[derive(Debug)]
pub(super) struct Tile {
    buffer: Vec<f64>,
    start: usize,
    rows: usize,
    stride: usize,
    width: usize,
    /// Which rows are known to hold nothing but zeros in the columns in use.
    zero: Vec<bool>,
}

impl Tile {
    /// Room for `rows` rows of up to `columns` columns, all zero.
    pub(super) fn new(rows: usize, columns: usize) -> Self {
        let stride = columns.next_multiple_of(LINE);
        let buffer = vec![0.0; rows * stride + LINE];
        let start = buffer.as_ptr().align_offset(LINE * size_of::<f64>()).min(LINE);
        Self { buffer, start, rows, stride, width: 0, zero: vec![false; rows] }
    }

    /// Sets the number of columns in use and clears the padding after them.
    pub(super) fn set_width(&mut self, width: usize) {
        debug_assert!(width <= self.stride);
        self.width = width;
        self.zero.fill(false);
        let padded = width.next_multiple_of(LINE);
        for row in 0..self.rows {
            let at = self.start + row * self.stride;
            self.buffer[at + width..at + padded].fill(0.0);
        }
    }

    /// Says whether a row holds nothing but zeros in the columns in use, so that no product with it need be made.
    pub(super) fn set_zero(&mut self, row: usize, zero: bool) {
        self.zero[row] = zero;
    }

    /// Whether a row was said to hold nothing but zeros.
    pub(super) fn is_zero(&self, row: usize) -> bool {
        self.zero[row]
    }

    fn all_zero(&self, rows: Range<usize>) -> bool {
        self.zero[rows].iter().all(|&zero| zero)
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Columns in use.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// The columns in use of one row.
    pub(super) fn row(&self, row: usize) -> &[f64] {
        let at = self.start + row * self.stride;
        &self.buffer[at..at + self.width]
    }

    /// The columns in use of one row, to be written.
    pub(super) fn row_mut(&mut self, row: usize) -> &mut [f64] {
        let at = self.start + row * self.stride;
        &mut self.buffer[at..at + self.width]
    }

    fn padded(&self, row: usize) -> &[f64] {
        let at = self.start + row * self.stride;
        &self.buffer[at..at + self.width.next_multiple_of(LINE)]
    }
}

/// The loops for the CPU found at run time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kernel(pub(super) Arch);

impl Kernel {
    pub(super) fn detect() -> Self {
        // To measure what CPUs without AVX-512 get: `RUSTFLAGS="--cfg avx2_only" cargo bench --bench fit`.
        #[cfg(all(avx2_only, target_arch = "x86_64"))]
        if let Some(v3) = pulp::x86::V3::try_new() {
            return Self(Arch::V3(v3));
        }
        Self(Arch::new())
    }

    /// `out += weight · x`.
    pub(super) fn add_scaled(self, x: &[f64], weight: f64, out: &mut [f64]) {
        self.0.dispatch(AddScaled { x, weight, out });
    }

    /// Runs another loop for this CPU.
    pub(super) fn dispatch<Op: WithSimd>(self, op: Op) -> Op::Output {
        self.0.dispatch(op)
    }

    /// The loops for a given instruction set.
    #[cfg(test)]
    pub(super) fn of(arch: Arch) -> Self {
        Self(arch)
    }

    /// Adds the products that `blocks` name to the lower triangle of `gram` (rows × rows, row-major); entries above the
    /// diagonal are left in an unspecified state.
    pub(super) fn add_products(self, tile: &Tile, blocks: &[Block], gram: &mut [f64]) {
        self.0.dispatch(AddProducts { tile, blocks, gram });
    }
}

/// Asks for the cache lines of `bytes` to be brought into the second-level cache, without waiting for them.
#[cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "the instruction takes a bare address"))]
pub(super) fn prefetch(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in bytes.chunks(64) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a hint that reads nothing and never faults, and its address lies in a slice.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}

/// Products to be made: those of `rows` with rows `0..columns`, as far as the diagonal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The rows.
    pub rows: Range<usize>,
    /// How many rows, from the first, each is multiplied with.
    pub columns: usize,
}

impl Block {
    /// All products among the first `rows` rows.
    pub(super) fn all(rows: usize) -> Vec<Self> {
        vec![Self { rows: 0..rows, columns: rows }]
    }
}

struct AddScaled<'a> {
    x: &'a [f64],
    weight: f64,
    out: &'a mut [f64],
}

impl WithSimd for AddScaled<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (x, x_tail) = S::as_simd_f64s(self.x);
        let (out, out_tail) = S::as_mut_simd_f64s(self.out);
        let weight = simd.splat_f64s(self.weight);
        for (out, &x) in out.iter_mut().zip(x) {
            *out = simd.mul_add_e_f64s(weight, x, *out);
        }
        let sum = simd.mul_add_e_f64s(weight, simd.partial_load_f64s(x_tail), simd.partial_load_f64s(out_tail));
        simd.partial_store_f64s(out_tail, sum);
    }
}

struct AddProducts<'a> {
    tile: &'a Tile,
    blocks: &'a [Block],
    gram: &'a mut [f64],
}

/// Rows of a register block. With as many columns it fills 16 of the 32 AVX-512 registers; AVX2 has half as many
/// registers and takes one column less.
const BLOCK: usize = 4;
/// Rows of a panel come in multiples of this, so that register blocks of three and of four columns fill it.
const PANEL: usize = 12;
/// Bytes of a tile that is multiplied in one go, and of the panels that a larger one is cut into: they stay in the
/// first-level cache while all rows pass by, so that the second-level cache is read once a panel, not once a register block.
const PANEL_BYTES: [usize; 2] = [48 << 10, 24 << 10];

/// Rows that stay in the first-level cache.
fn panel_rows(tile: &Tile) -> usize {
    let row = tile.width().next_multiple_of(LINE).max(LINE) * size_of::<f64>();
    let [whole, panel] = PANEL_BYTES;
    if tile.rows * row <= whole { tile.rows.max(1) } else { (panel / row / PANEL).max(1) * PANEL }
}

impl WithSimd for AddProducts<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { tile, blocks, gram } = self;
        let columns = if S::F64_LANES >= LINE { BLOCK } else { BLOCK - 1 };
        let panel = panel_rows(tile);
        for block in blocks {
            for first in (0..block.columns).step_by(panel) {
                let last = (first + panel).min(block.columns);
                for i in block.rows.clone().step_by(BLOCK) {
                    let i_end = (i + BLOCK).min(block.rows.end);
                    for j in (first..last.min(i_end)).step_by(columns) {
                        let j_end = (j + columns).min(last).min(i_end);
                        if tile.all_zero(i..i_end) || tile.all_zero(j..j_end) {
                            continue;
                        }
                        match i_end - i {
                            1 => by_columns::<S, 1>(simd, tile, (i, j, j_end), gram),
                            2 => by_columns::<S, 2>(simd, tile, (i, j, j_end), gram),
                            3 => by_columns::<S, 3>(simd, tile, (i, j, j_end), gram),
                            _ => by_columns::<S, 4>(simd, tile, (i, j, j_end), gram),
                        }
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn by_columns<S: Simd, const R: usize>(simd: S, tile: &Tile, block: (usize, usize, usize), gram: &mut [f64]) {
    let (i, j, j_end) = block;
    match j_end - j {
        1 => add_block::<S, R, 1, false>(simd, tile, (i, j), gram),
        2 => add_block::<S, R, 2, false>(simd, tile, (i, j), gram),
        3 => add_block::<S, R, 3, false>(simd, tile, (i, j), gram),
        4 if i == j => add_block::<S, R, 4, true>(simd, tile, (i, j), gram),
        _ => add_block::<S, R, 4, false>(simd, tile, (i, j), gram),
    }
}

/// Adds the R × C products of rows `i..i + R` with rows `j..j + C`; of a block on the diagonal only its lower triangle.
#[inline(always)]
fn add_block<S: Simd, const R: usize, const C: usize, const DIAGONAL: bool>(
    simd: S,
    tile: &Tile,
    (i, j): (usize, usize),
    gram: &mut [f64],
) {
    let mut left: [&[S::f64s]; R] = [&[]; R];
    for (r, row) in left.iter_mut().enumerate() {
        *row = S::as_simd_f64s(tile.padded(i + r)).0;
    }
    let mut right: [&[S::f64s]; C] = [&[]; C];
    for (c, row) in right.iter_mut().enumerate() {
        *row = S::as_simd_f64s(tile.padded(j + c)).0;
    }
    let steps = left[0].len();
    // Equal lengths, said so that the compiler drops the bounds checks of the loop.
    for row in &mut left {
        *row = &row[..steps];
    }
    for row in &mut right {
        *row = &row[..steps];
    }
    let mut sums = [[simd.splat_f64s(0.0); C]; R];
    for step in 0..steps {
        let mut b = [simd.splat_f64s(0.0); C];
        for c in 0..C {
            b[c] = right[c][step];
        }
        for r in 0..R {
            let a = left[r][step];
            for c in 0..if DIAGONAL { r + 1 } else { C } {
                sums[r][c] = simd.mul_add_e_f64s(a, b[c], sums[r][c]);
            }
        }
    }
    for r in 0..R {
        for c in 0..if DIAGONAL { r + 1 } else { C } {
            gram[(i + r) * tile.rows + j + c] += simd.reduce_sum_f64s(sums[r][c]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(row: usize, column: usize) -> f64 {
        ((row * 31 + column * 17) % 23) as f64 - 11.0
    }

    fn filled(rows: usize, width: usize) -> Tile {
        let mut tile = Tile::new(rows, width + 5);
        tile.set_width(width + 5);
        for row in 0..rows {
            tile.row_mut(row).fill(f64::NAN);
        }
        tile.set_width(width);
        for row in 0..rows {
            for (column, x) in tile.row_mut(row).iter_mut().enumerate() {
                *x = value(row, column);
            }
        }
        tile
    }

    #[test]
    fn products_are_exact_on_small_integers_for_every_shape_and_instruction_set() {
        let mut archs = vec![Arch::Scalar, Arch::new()];
        #[cfg(target_arch = "x86_64")]
        if let Some(v3) = pulp::x86::V3::try_new() {
            archs.push(Arch::V3(v3));
        }
        for arch in archs {
            // 40 rows of 300 columns are more than one panel.
            for rows in (1..=13).chain([40]) {
                for width in [1, 7, 8, 9, 64, 65, 300] {
                    let tile = filled(rows, width);
                    let half = rows / 2;
                    let all = Block::all(rows);
                    let new = vec![Block { rows: half..rows, columns: rows }];
                    let between = vec![Block { rows: half..rows, columns: half }];
                    for blocks in [all, new, between] {
                        let mut gram = vec![0.0; rows * rows];
                        Kernel(arch).add_products(&tile, &blocks, &mut gram);
                        let Block { rows: wanted, columns } = &blocks[0];
                        for (i, j) in wanted.clone().flat_map(|i| (0..=i.min(rows - 1)).map(move |j| (i, j))) {
                            let product: f64 = (0..width).map(|c| value(i, c) * value(j, c)).sum();
                            if j < *columns {
                                assert_eq!(gram[i * rows + j], product, "{rows} {width} {i} {j}");
                            } else {
                                assert_eq!(gram[i * rows + j], 0.0, "{rows} {width} {i} {j} was not asked for");
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn rows_said_to_be_zero_change_no_bit_and_hide_no_value_that_is_not_finite() {
        let mut tile = filled(10, 65);
        for row in [1, 4, 5, 6, 7] {
            tile.row_mut(row).fill(0.0);
        }
        tile.row_mut(9)[3] = f64::INFINITY;
        let made = |tile: &Tile| {
            let mut gram = vec![0.0; 100];
            Kernel::detect().add_products(tile, &Block::all(10), &mut gram);
            gram
        };
        let whole = made(&tile);
        [1, 4, 5, 6, 7].into_iter().for_each(|row| tile.set_zero(row, true));
        let skipped = made(&tile);
        assert!(skipped[99].is_infinite());
        for (i, j) in (0..9).flat_map(|i| (0..=i).map(move |j| (i, j))) {
            assert_eq!(skipped[i * 10 + j].to_bits(), whole[i * 10 + j].to_bits(), "{i} {j}");
        }
        tile.set_width(65);
        assert!(!tile.all_zero(4..8), "what is known of one block is not of the next");
    }

    #[test]
    fn the_cut_into_blocks_changes_no_bit() {
        let mut tile = Tile::new(40, 301);
        tile.set_width(301);
        for row in 0..40 {
            for (column, x) in tile.row_mut(row).iter_mut().enumerate() {
                *x = ((row * 131 + column * 7919) % 1009) as f64 / 1009.0 - 0.5;
            }
        }
        let made = |blocks: &[Block]| {
            let mut gram = vec![0.0; 1600];
            Kernel::detect().add_products(&tile, blocks, &mut gram);
            (0..40).flat_map(|i| gram[i * 40..=i * 41].to_vec()).collect::<Vec<f64>>()
        };
        let whole = made(&Block::all(40));
        for cut in [1, 3, 5, 17, 39] {
            let apart = [Block { rows: 0..cut, columns: cut }, Block { rows: cut..40, columns: cut }];
            let rows = [apart[0].clone(), Block { rows: cut..40, columns: 40 }];
            assert_eq!(made(&rows), whole, "{cut}");
            let lower =
                |values: &[f64]| (cut..40).flat_map(|i| values[i * (i + 1) / 2..][..cut].to_vec()).collect::<Vec<_>>();
            assert_eq!(lower(&made(&apart)), lower(&whole), "{cut}");
        }
    }

    #[test]
    fn rows_start_on_a_cache_line() {
        let mut tile = Tile::new(3, 13);
        tile.set_width(13);
        for row in 0..3 {
            assert_eq!(tile.row(row).as_ptr() as usize % 64, 0);
        }
    }

    #[test]
    fn elementwise_loops() {
        let kernel = Kernel::detect();
        let mut out: Vec<f64> = (0..19u8).map(|x| f64::from(x) - 0.5).collect();
        kernel.add_scaled(&[0.5; 19], 2.0, &mut out);
        assert_eq!((out[0], out[18]), (0.5, 18.5));
    }
}
