//! How much task vectors get into each other's way, parameter by parameter: how often their signs disagree, and how much
//! of them sits in few parameters. One pass, the one that makes the Gram, counts; a second one, over the largest parameters
//! alone, counts again. No I/O of its own.

use crate::analysis::gram::Pass;
use crate::analysis::kernel::{Block, Kernel, Tile};
use crate::analysis::task_vector::Base;
use crate::analysis::{AnalysisError, Gram, TaskVectors};
use crate::progress::{Progress, Stage, Task};

/// Share of the largest parameters that TIES keeps of each task vector (Yadav et al., NeurIPS 2023, section 3).
pub const KEPT: f64 = 0.2;
/// Shares of the parameters of which the mass is told.
pub const TOP: [f64; 2] = [0.01, 0.1];

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
    /// The Gram of this layer as [`Self::gram`] makes it, to the bit, and the interference between its task vectors.
    ///
    /// The largest parameters are exact up to 65,536 of them; beyond, magnitudes are counted in bins that are 2⁻⁷ of
    /// their size wide: shares of mass and of conflicts are within 1e-3 then.
    ///
    /// # Errors
    /// As [`Self::gram`].
    pub fn gram_and_interference(&self, progress: &Task) -> Result<(Gram, Interference), AnalysisError> {
        let n = self.seeds();
        let pass = self.pass_over_task_vectors();
        let zeros = || (vec![0.0; n * n], Counts::new(n, self.parameters()));
        let bytes_per_column = self.bytes().checked_div(self.parameters() as u64).unwrap_or(0);
        let partials = pass.map_pieces(zeros, |(sums, counts), tile| {
            pass.kernel.add_products(tile, &pass.blocks, sums);
            counts.add(pass.kernel, tile);
            progress.advance(tile.width() as u64 * bytes_per_column);
        })?;
        let (sums, counts): (Vec<_>, Vec<_>) = partials.into_iter().unzip();
        let gram = Gram::from_pass(pass.sum(&sums)?, (n, self.parameters() as u64));
        let mut whole = Counts::new(n, self.parameters());
        counts.into_iter().for_each(|counts| whole.merge(counts));
        whole.magnitudes.iter_mut().for_each(Magnitudes::sort);
        let d = self.parameters().max(1) as f64;
        let trimmed = self.trimmed_conflicts(&whole.magnitudes)?;
        let mass = |share: f64| {
            let masses: Vec<f64> = whole.magnitudes.iter().filter_map(|of_seed| of_seed.mass_of_top(share)).collect();
            (!masses.is_empty()).then(|| masses.iter().sum::<f64>() / masses.len() as f64)
        };
        let interference = Interference {
            sign_conflict: whole.conflicts as f64 / d,
            sign_conflict_trimmed: trimmed as f64 / d,
            mass_top: TOP.map(mass),
            singular: None,
        };
        Ok((gram, interference))
    }

    fn pass_over_task_vectors(&self) -> Pass<'_, '_> {
        let blocks = Block::all(self.seeds());
        Pass { vectors: self, kernel: Kernel::detect(), base: Base::Pretrained, rotation: None, blocks }
    }

    /// The second pass.
    fn trimmed_conflicts(&self, magnitudes: &[Magnitudes]) -> Result<u64, AnalysisError> {
        let thresholds: Vec<f64> = magnitudes.iter().map(|of_seed| of_seed.smallest_of_top(KEPT)).collect();
        let _task = Progress::silent().begin(Stage::Compute, "", None);
        let pass = self.pass_over_task_vectors();
        let counts = pass.map_pieces(
            || (0, Extremes::default()),
            |(conflicts, extremes), tile| *conflicts += extremes.conflicts(pass.kernel, tile, Some(&thresholds)),
        )?;
        Ok(counts.into_iter().map(|(conflicts, _)| conflicts).sum())
    }
}

/// What one pass counts.
#[derive(Debug)]
struct Counts {
    conflicts: u64,
    extremes: Extremes,
    /// One a seed.
    magnitudes: Vec<Magnitudes>,
}

impl Counts {
    fn new(seeds: usize, parameters: usize) -> Self {
        let magnitudes = (0..seeds).map(|_| Magnitudes::new(parameters)).collect();
        Self { conflicts: 0, extremes: Extremes::default(), magnitudes }
    }

    fn add(&mut self, kernel: Kernel, tile: &Tile) {
        self.conflicts += self.extremes.conflicts(kernel, tile, None);
        for (seed, magnitudes) in self.magnitudes.iter_mut().enumerate() {
            magnitudes.add(tile.row(seed));
        }
    }

    fn merge(&mut self, other: Self) {
        self.conflicts += other.conflicts;
        for (sum, other) in self.magnitudes.iter_mut().zip(other.magnitudes) {
            sum.merge(other);
        }
    }
}

/// The smallest and largest value of each column of a tile.
#[derive(Debug, Default)]
struct Extremes {
    low: Vec<f64>,
    high: Vec<f64>,
}

impl Extremes {
    /// How many columns have values of both signs, values below their row's threshold counting as 0.
    fn conflicts(&mut self, kernel: Kernel, tile: &Tile, thresholds: Option<&[f64]>) -> u64 {
        for side in [&mut self.low, &mut self.high] {
            side.clear();
            side.resize(tile.width(), 0.0);
        }
        for row in 0..tile.rows() {
            // A threshold of 0 keeps everything.
            let threshold = thresholds.and_then(|all| all.get(row).copied()).unwrap_or(0.0);
            kernel.widen_range(tile.row(row), threshold, (&mut self.low, &mut self.high));
        }
        self.low.iter().zip(&self.high).filter(|(low, high)| **low < 0.0 && **high > 0.0).count() as u64
    }
}

/// Most parameters whose magnitudes are kept one by one.
const KEPT_WHOLE: usize = 1 << 16;
/// Bits of the mantissa that bins tell apart.
const FINE: u32 = 7;
/// Powers of two that bins reach over, from the lowest on; what is beyond counts in the first and the last.
const POWERS: u64 = 128;
const LOWEST: u64 = 1023 - 96;

/// The magnitudes of one task vector: all of them, falling once sorted, or how many and how much of them is in each bin.
#[derive(Debug)]
enum Magnitudes {
    All(Vec<f64>),
    Binned { counts: Vec<u64>, squares: Vec<f64> },
}

impl Magnitudes {
    fn new(parameters: usize) -> Self {
        if parameters <= KEPT_WHOLE {
            return Self::All(Vec::new());
        }
        let bins = (POWERS << FINE) as usize;
        Self::Binned { counts: vec![0; bins], squares: vec![0.0; bins] }
    }

    fn add(&mut self, values: &[f64]) {
        match self {
            Self::All(all) => all.extend(values.iter().map(|x| x.abs())),
            Self::Binned { counts, squares } => {
                let last = counts.len() as u64 - 1;
                for x in values {
                    let bin = (x.abs().to_bits() >> (52 - FINE)).saturating_sub(LOWEST << FINE).min(last) as usize;
                    counts[bin] += 1;
                    squares[bin] += x * x;
                }
            }
        }
    }

    fn merge(&mut self, other: Self) {
        match (self, other) {
            (Self::All(all), Self::All(more)) => all.extend(more),
            (Self::Binned { counts, squares }, Self::Binned { counts: more, squares: more_squares }) => {
                counts.iter_mut().zip(more).for_each(|(sum, x)| *sum += x);
                squares.iter_mut().zip(more_squares).for_each(|(sum, x)| *sum += x);
            }
            // Which of the two it is follows from the number of parameters.
            _ => {}
        }
    }

    fn sort(&mut self) {
        if let Self::All(all) = self {
            all.sort_by(|a, b| b.total_cmp(a));
        }
    }

    /// Share of the squares in the largest ⌈share · d⌉ magnitudes; `None` when all are 0.
    fn mass_of_top(&self, share: f64) -> Option<f64> {
        let (top, whole) = match self {
            Self::All(all) => {
                let squares = |values: &[f64]| values.iter().map(|x| x * x).sum::<f64>();
                (squares(&all[..count_of(share, all.len() as u64) as usize]), squares(all))
            }
            Self::Binned { counts, squares } => {
                let (bin, inside) = self.place_of(share);
                let above: f64 = squares[bin + 1..].iter().sum();
                let part = if counts[bin] == 0 { 0.0 } else { inside as f64 / counts[bin] as f64 };
                (above + part * squares[bin], squares.iter().sum())
            }
        };
        (whole > 0.0).then(|| (top / whole).clamp(0.0, 1.0))
    }

    /// The smallest of the largest ⌈share · d⌉ magnitudes.
    fn smallest_of_top(&self, share: f64) -> f64 {
        match self {
            Self::All(all) => {
                let count = count_of(share, all.len() as u64) as usize;
                all.get(count.saturating_sub(1)).copied().unwrap_or(0.0)
            }
            Self::Binned { counts, .. } => {
                let (bin, inside) = self.place_of(share);
                let edge = |bin: usize| f64::from_bits(((LOWEST << FINE) + bin as u64) << (52 - FINE));
                // As if the magnitudes of a bin were spread evenly over it.
                let part = if counts[bin] == 0 { 1.0 } else { 1.0 - inside as f64 / counts[bin] as f64 };
                if bin == 0 { 0.0 } else { edge(bin) + part * (edge(bin + 1) - edge(bin)) }
            }
        }
    }

    /// The bin in which the largest ⌈share · d⌉ magnitudes end, and how many of them are in it.
    fn place_of(&self, share: f64) -> (usize, u64) {
        let Self::Binned { counts, .. } = self else { return (0, 0) };
        let mut left = count_of(share, counts.iter().sum());
        for (bin, &count) in counts.iter().enumerate().rev() {
            if left <= count {
                return (bin, left);
            }
            left -= count;
        }
        (0, 0)
    }
}

fn count_of(share: f64, parameters: u64) -> u64 {
    ((share * parameters as f64).ceil() as u64).min(parameters)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
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

    #[test]
    fn bins_are_close_to_sorting_and_threads_change_nothing() {
        let d = 200_003;
        let rows = many(4, d);
        let vectors = vectors(&rows);
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| vectors.gram_and_interference(&silent()).unwrap())
        };
        let (gram, found) = on(1);
        assert_eq!(on(3), (gram, found));
        let mut thresholds = Vec::new();
        let mut masses = [0.0; 2];
        for row in &rows {
            let mut sizes: Vec<f64> = row.iter().map(|x| x.abs()).collect();
            sizes.sort_by(|a, b| b.total_cmp(a));
            thresholds.push(sizes[count_of(KEPT, d as u64) as usize - 1]);
            let squares = |top: usize| sizes[..top].iter().map(|x| x * x).sum::<f64>();
            for (mass, share) in masses.iter_mut().zip(TOP) {
                *mass += squares(count_of(share, d as u64) as usize) / squares(d) / rows.len() as f64;
            }
        }
        let conflicts = |kept: &dyn Fn(usize, f64) -> bool| {
            let both = |j: &usize| {
                let signs = || rows.iter().enumerate().map(|(i, row)| (i, row[*j])).filter(|&(i, x)| kept(i, x));
                signs().any(|(_, x)| x > 0.0) && signs().any(|(_, x)| x < 0.0)
            };
            (0..d).filter(both).count() as f64 / d as f64
        };
        assert_eq!(found.sign_conflict, conflicts(&|_, _| true));
        assert!((found.sign_conflict_trimmed - conflicts(&|i, x| x.abs() >= thresholds[i])).abs() < 1e-3);
        for (found, expected) in found.mass_top.iter().zip(masses) {
            assert!((found.unwrap() - expected).abs() < 1e-3, "{found:?} {expected}");
        }
    }
}
