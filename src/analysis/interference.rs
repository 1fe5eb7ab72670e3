//! How much task vectors get into each other's way, parameter by parameter: how often their signs disagree, and how much
//! of them sits in few parameters. One pass, the one that makes the Gram, counts; a second one, over the largest parameters
//! alone, counts again. No I/O of its own.

use crate::analysis::gram::Pass;
use crate::analysis::kernel::{Block, Kernel, Tile};
use crate::analysis::largest::{Cut, Largest, Tally};
use crate::analysis::scan::{Above, BOUNDS, Columns};
use crate::analysis::task_vector::Base;
use crate::analysis::{AnalysisError, Gram, TaskVectors};
use crate::progress::Task;

/// Share of the largest parameters that TIES keeps of each task vector (Yadav et al., NeurIPS 2023, section 3).
pub const KEPT: f64 = 0.2;
/// Shares of the parameters of which the mass is told.
pub const TOP: [f64; 2] = [0.01, 0.1];
/// The shares that passes look for, the kept one last.
const SHARES: [f64; BOUNDS] = [TOP[0], TOP[1], KEPT];

/// Interference between the task vectors of one layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interference {
    /// Share of the parameters for which one task vector is positive and another negative.
    pub sign_conflict: f64,
    /// The same once every task vector keeps only the largest [`KEPT`] of its parameters, the others counting as 0, as TIES
    /// trims before it elects signs; of all parameters of the layer.
    pub sign_conflict_trimmed: f64,
    /// Share of the squared norm that the largest 1 % and 10 % of the parameters hold ([`TOP`]), mean over the task vectors
    /// that are not 0; `None` when all are.
    pub mass_top: [Option<f64>; 2],
    /// Singular task interference of the layer's matrix ([`TaskVectors::singular_interference`]); `None` where it was not
    /// asked for, and for layers that are no matrix.
    pub singular: Option<f64>,
}

impl Interference {
    /// As five numbers, NaN for none, for storing.
    pub fn to_values(self) -> [f64; 5] {
        let [first, second] = self.mass_top.map(|mass| mass.unwrap_or(f64::NAN));
        [self.sign_conflict, self.sign_conflict_trimmed, first, second, self.singular.unwrap_or(f64::NAN)]
    }

    /// From [`Self::to_values`]; `None` when these are not they.
    pub fn from_values(values: &[f64]) -> Option<Self> {
        let &[sign_conflict, sign_conflict_trimmed, first, second, singular] = values else { return None };
        let share = |x: f64| (0.0..=1.0).contains(&x);
        let mass = |x: f64| share(x).then_some(x);
        let fine = share(sign_conflict) && share(sign_conflict_trimmed);
        let singular = (singular.is_finite() && singular >= 0.0).then_some(singular);
        fine.then(|| Self { sign_conflict, sign_conflict_trimmed, mass_top: [mass(first), mass(second)], singular })
    }
}

impl TaskVectors<'_> {
    /// The Gram of this layer as [`Self::gram`] makes it, to the bit, and the interference between its task vectors, which
    /// is exact: two passes, and a further one where a sample of the parameters misled.
    ///
    /// # Errors
    /// As [`Self::gram`].
    pub fn gram_and_interference(&self, progress: &Task) -> Result<(Gram, Interference), AnalysisError> {
        let (n, d) = (self.seeds(), self.parameters());
        let blocks = Block::all(n);
        let (kernel, base) = (Kernel::detect(), Base::Pretrained);
        let mut pass = Pass { vectors: self, kernel, base, rotation: None, blocks, first: true };
        let mut cuts = self.guess_cuts(SHARES, pass.kernel)?;
        let bytes_per_column = self.bytes().checked_div(d as u64).unwrap_or(0);
        let partials = pass.map_pieces(
            || (vec![0.0; n * n], Counts::new(n)),
            |(sums, counts), tile| {
                pass.kernel.add_products(tile, &pass.blocks, sums);
                counts.add(pass.kernel, &cuts, tile);
                progress.advance(tile.width() as u64 * bytes_per_column);
            },
        )?;
        let (sums, counts): (Vec<_>, Vec<_>) = partials.into_iter().unzip();
        let gram = Gram::from_pass(pass.sum(&sums)?, (n, d as u64));
        pass.first = false;
        let conflicts = narrow(&mut cuts, counts);
        while !cuts.iter().flatten().all(Cut::is_narrow) {
            let again = pass.map_pieces(|| Counts::new(n), |counts, tile| counts.add(pass.kernel, &cuts, tile))?;
            narrow(&mut cuts, again);
        }
        let (largest, trimmed) = last_pass(&pass, &cuts)?;
        let mass = |share: usize| {
            let of_seed = |(seed, largest): (usize, &[Largest; BOUNDS])| {
                let whole = gram.get(seed, seed);
                (whole > 0.0).then(|| (largest[share].squares / whole).clamp(0.0, 1.0))
            };
            let masses: Vec<f64> = largest.iter().enumerate().filter_map(of_seed).collect();
            (!masses.is_empty()).then(|| masses.iter().sum::<f64>() / masses.len() as f64)
        };
        let share = |count: u64| count as f64 / d.max(1) as f64;
        let interference = Interference {
            sign_conflict: share(conflicts),
            sign_conflict_trimmed: share(trimmed),
            mass_top: [mass(0), mass(1)],
            singular: None,
        };
        Ok((gram, interference))
    }
}

/// What a pass counts.
struct Counts {
    conflicts: u64,
    columns: Columns,
    /// For each task vector and share.
    tallies: Vec<[Tally; BOUNDS]>,
}

impl Counts {
    fn new(seeds: usize) -> Self {
        let tallies = (0..seeds).map(|_| std::array::from_fn(|_| Tally::new())).collect();
        Self { conflicts: 0, columns: Columns::default(), tallies }
    }

    fn add(&mut self, kernel: Kernel, cuts: &[[Cut; BOUNDS]], tile: &Tile) {
        self.columns.clear(tile.width());
        for (seed, (cuts, tallies)) in cuts.iter().zip(&mut self.tallies).enumerate() {
            let (row, bounds) = (tile.row(seed), cuts.map(|cut| cut.bounds()));
            if tile.is_zero(seed) {
                cuts.iter().zip(tallies).for_each(|(cut, tally)| tally.add_zeros(cut, row.len()));
                continue;
            }
            let mut above = [Above::default(); BOUNDS];
            kernel.count(row, &bounds, (&mut above, &mut self.columns), |at, which| {
                for (k, (cut, tally)) in cuts.iter().zip(tallies.iter_mut()).enumerate() {
                    if which >> k & 1 == 1 {
                        tally.add(cut, row[at]);
                    }
                }
            });
            tallies.iter_mut().zip(above).for_each(|(tally, above)| tally.count(above));
        }
        self.conflicts += self.columns.conflicts();
    }
}

/// Narrows the cuts that are not narrow yet by what the pieces of a pass counted, in their order; how many columns have
/// values of both signs.
fn narrow(cuts: &mut [[Cut; BOUNDS]], pieces: Vec<Counts>) -> u64 {
    let mut pieces = pieces.into_iter();
    let Some(mut whole) = pieces.next() else { return 0 };
    for piece in pieces {
        whole.conflicts += piece.conflicts;
        for (sum, other) in whole.tallies.iter_mut().flatten().zip(piece.tallies.iter().flatten()) {
            sum.merge(other);
        }
    }
    for (cut, tally) in cuts.iter_mut().flatten().zip(whole.tallies.iter().flatten()) {
        if !cut.is_narrow() {
            cut.narrow(tally);
        }
    }
    whole.conflicts
}

/// A column whose conflict hangs on values that lie between bounds: the signs of those above, and the values with their
/// task vectors.
struct Doubt {
    signs: [bool; 2],
    values: Vec<(usize, f64)>,
}

/// What the last pass finds.
#[derive(Default)]
struct Found {
    conflicts: u64,
    doubts: Vec<Doubt>,
    /// The sizes between the bounds, for each task vector and share.
    collected: Vec<[Vec<u64>; BOUNDS]>,
    columns: Columns,
    /// Column and task vector of values of this tile between the bounds of the kept share.
    doubtful: Vec<(usize, usize)>,
}

impl Found {
    fn add(&mut self, kernel: Kernel, cuts: &[[Cut; BOUNDS]], tile: &Tile) {
        let Self { conflicts, doubts, collected, columns, doubtful } = self;
        columns.clear(tile.width());
        doubtful.clear();
        for (seed, (cuts, collected)) in cuts.iter().zip(collected).enumerate() {
            let (row, bounds) = (tile.row(seed), cuts.map(|cut| cut.bounds()));
            let [.., kept] = bounds;
            if tile.is_zero(seed) && bounds.iter().all(|bounds| bounds.low > 0.0 || !bounds.shown) {
                continue;
            }
            kernel.pick(row, (&bounds, kept.high), columns, |at, which| {
                for (k, collected) in collected.iter_mut().enumerate() {
                    if which >> k & 1 == 1 {
                        collected.push(row[at].abs().to_bits());
                    }
                }
                if which >> (BOUNDS - 1) == 1 {
                    doubtful.push((at, seed));
                }
            });
        }
        *conflicts += columns.conflicts();
        doubtful.sort_unstable();
        for column in doubtful.chunk_by(|a, b| a.0 == b.0) {
            let values: Vec<_> = column.iter().map(|&(at, seed)| (seed, tile.row(seed)[at])).collect();
            let signs = columns.signs(column[0].0);
            let could = |sign: usize| signs[sign] || values.iter().any(|&(_, x)| (x > 0.0) == (sign == 1));
            if signs != [true; 2] && could(0) && could(1) {
                doubts.push(Doubt { signs, values });
            }
        }
    }
}

/// The largest parameters of each task vector, and how many columns have values of both signs among those that are kept.
fn last_pass(pass: &Pass<'_, '_>, cuts: &[[Cut; BOUNDS]]) -> Result<(Vec<[Largest; BOUNDS]>, u64), AnalysisError> {
    let none = || Found { collected: vec![Default::default(); cuts.len()], ..Found::default() };
    let pieces = pass.map_pieces(none, |found, tile| found.add(pass.kernel, cuts, tile))?;
    let mut collected: Vec<[Vec<u64>; BOUNDS]> = vec![Default::default(); cuts.len()];
    let (mut conflicts, mut doubts) = (0, Vec::new());
    for piece in pieces {
        conflicts += piece.conflicts;
        doubts.extend(piece.doubts);
        for (all, more) in collected.iter_mut().flatten().zip(piece.collected.into_iter().flatten()) {
            all.extend(more);
        }
    }
    let settle = |(cuts, collected): (&[Cut; BOUNDS], [Vec<u64>; BOUNDS])| {
        let mut collected = collected.into_iter();
        cuts.map(|cut| cut.settle(collected.next().unwrap_or_default()))
    };
    let largest: Vec<[Largest; BOUNDS]> = cuts.iter().zip(collected).map(settle).collect();
    let is_conflict = |doubt: &&Doubt| {
        let kept = |&&(seed, x): &&(usize, f64)| x.abs() >= largest[seed][BOUNDS - 1].smallest;
        let mut signs = doubt.signs;
        doubt.values.iter().filter(kept).for_each(|&(_, x)| signs[usize::from(x > 0.0)] |= x != 0.0);
        signs == [true; 2]
    };
    let further = doubts.iter().filter(is_conflict).count() as u64;
    Ok((largest, conflicts + further))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::analysis::largest::count_of;
    use crate::progress::{Progress, Stage};
    use crate::tensor::{Dtype, TensorView};

    fn silent() -> Task {
        Progress::silent().begin(Stage::Compute, "test", None)
    }

    fn vectors(rows: &[Vec<f64>]) -> TaskVectors<'static> {
        let view = |values: &[f64]| {
            let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
            TensorView::contiguous(Dtype::F64, vec![values.len()], bytes).unwrap()
        };
        TaskVectors::new("w", view(&vec![0.0; rows[0].len()]), rows.iter().map(|row| view(row)).collect()).unwrap()
    }

    #[derive(Deserialize)]
    struct Golden {
        name: String,
        x: Vec<Vec<f64>>,
        sign_conflict: f64,
        sign_conflict_trimmed: f64,
        mass_top_1: Option<f64>,
        mass_top_10: Option<f64>,
    }

    #[test]
    fn conflicts_and_mass_are_those_of_numpy() {
        let cases: Vec<Golden> = serde_json::from_str(include_str!("../../fixtures/golden/interference.json")).unwrap();
        assert!(cases.len() >= 6);
        for case in cases {
            let vectors = vectors(&case.x);
            let (gram, found) = vectors.gram_and_interference(&silent()).unwrap();
            assert_eq!(gram, vectors.gram(&silent()).unwrap(), "{}", case.name);
            assert_eq!(found.sign_conflict, case.sign_conflict, "{}", case.name);
            assert_eq!(found.sign_conflict_trimmed, case.sign_conflict_trimmed, "{}", case.name);
            for (found, expected) in found.mass_top.iter().zip([case.mass_top_1, case.mass_top_10]) {
                assert_eq!(found.is_some(), expected.is_some(), "{}", case.name);
                assert!((found.unwrap_or(0.0) - expected.unwrap_or(0.0)).abs() < 1e-12, "{}", case.name);
            }
            assert_eq!(Interference::from_values(&found.to_values()), Some(found));
        }
    }

    /// Sums of three uniforms, scaled so that magnitudes span orders.
    fn many(n: usize, d: usize) -> Vec<Vec<f64>> {
        let mut state = 7u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64 - 0.5
        };
        (0..n)
            .map(|_| (0..d).map(|_| (uniform() + uniform() + uniform()) * (8.0 * uniform()).exp() * 1e-3).collect())
            .collect()
    }

    /// Layers of more parameters than a sample has, each of them hard in its way.
    fn hard(n: usize, d: usize) -> Vec<(&'static str, Vec<Vec<f64>>)> {
        let of = |rows: &[Vec<f64>], change: &dyn Fn(usize, usize, f64) -> f64| -> Vec<Vec<f64>> {
            let row = |(i, row): (usize, &Vec<f64>)| row.iter().enumerate().map(|(j, &x)| change(i, j, x)).collect();
            rows.iter().enumerate().map(row).collect()
        };
        let rows = many(n, d);
        vec![
            ("few values, many of each", of(&rows, &|_, _, x| f64::from(half::bf16::from_f64(x * 8.0)).round() / 8.0)),
            ("as differences of bf16", of(&rows, &|_, _, x| f64::from(half::bf16::from_f64(0.1 + x)) - 0.1)),
            ("nearly alike", of(&rows, &|_, _, x| x.signum() * (1e-3 + 1e-12 * x))),
            (
                "alike but for the last bits",
                of(&rows, &|_, j, x| {
                    x.signum() * f64::from_bits(1f64.to_bits() + (j as u64).wrapping_mul(0x9e37_79b9) % 100_000)
                }),
            ),
            ("all the same size", of(&rows, &|_, _, x| x.signum() * 0.25)),
            ("mostly zero", of(&rows, &|_, j, x| if j % 20 == 0 { x } else { 0.0 })),
            ("a task vector of zeros", of(&rows, &|i, _, x| if i == 1 { 0.0 } else { x })),
            ("large at the end", of(&rows, &|_, j, x| if j > d - d / 50 { x * 1e6 } else { x })),
            ("periodic", of(&rows, &|_, j, x| if j % 64 == 3 { x * 1e3 } else { x })),
            ("tiny and huge", of(&rows, &|i, _, x| x * [1e-140, 1e140, 1.0][i % 3])),
            ("random", rows),
        ]
    }

    #[test]
    fn passes_find_what_sorting_finds_and_threads_change_nothing() {
        let d = 70_003;
        for (about, rows) in hard(3, d) {
            let vectors = vectors(&rows);
            let on = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| vectors.gram_and_interference(&silent()).unwrap())
            };
            let (gram, found) = on(1);
            assert_eq!(on(3), (gram.clone(), found), "{about}");
            assert_eq!(gram, vectors.gram(&silent()).unwrap(), "{about}");
            let mut thresholds = Vec::new();
            let (mut masses, mut moving) = ([0.0; 2], 0.0);
            for row in &rows {
                let mut sizes: Vec<f64> = row.iter().map(|x| x.abs()).collect();
                sizes.sort_by(|a, b| b.total_cmp(a));
                thresholds.push(sizes[count_of(KEPT, d as u64) as usize - 1]);
                let squares = |top: usize| sizes[..top].iter().map(|x| x * x).sum::<f64>();
                if squares(d) > 0.0 {
                    moving += 1.0;
                    for (mass, share) in masses.iter_mut().zip(TOP) {
                        *mass += squares(count_of(share, d as u64) as usize) / squares(d);
                    }
                }
            }
            let conflicts = |kept: &dyn Fn(usize, f64) -> bool| {
                let both = |j: &usize| {
                    let signs = || rows.iter().enumerate().map(|(i, row)| (i, row[*j])).filter(|&(i, x)| kept(i, x));
                    signs().any(|(_, x)| x > 0.0) && signs().any(|(_, x)| x < 0.0)
                };
                (0..d).filter(both).count() as f64 / d as f64
            };
            assert_eq!(found.sign_conflict, conflicts(&|_, _| true), "{about}");
            assert_eq!(found.sign_conflict_trimmed, conflicts(&|i, x| x.abs() >= thresholds[i]), "{about}");
            for (found, expected) in found.mass_top.iter().zip(masses) {
                assert!((found.unwrap() - expected / moving).abs() < 1e-11, "{about}: {found:?} {expected}");
            }
        }
    }
}
