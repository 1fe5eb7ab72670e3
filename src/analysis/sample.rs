//! New models as affine combinations of the seeds: weights from a recipe, distances from the Gram, bytes in one streaming
//! pass. Refuses output that would not be finite. No I/O: bytes go to the caller's slice.

use half::{bf16, f16};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::analysis::kernel::{Kernel, Tile};
use crate::analysis::pca::check_size;
use crate::analysis::task_vector::Base;
use crate::analysis::{AnalysisError, Gram, Pca, TaskVectors};
use crate::tensor::Dtype;

/// Name of the generator behind random recipes, to be stored with what it made. ChaCha20, keyed with the SHA-256 of this
/// name, the seed and the number of the sample (8 bytes each, little-endian) and the layer's name; 53-bit uniforms from
/// the high bits of each `u64`; normals by Box and Muller, the cosine first. The bits drawn are the same everywhere; the
/// normals as far as `ln` and `cos` are.
pub const GENERATOR: &str = "wandb-pca/chacha20-sha256-boxmuller/1";

/// Size of the coefficients of a Gaussian sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Scale {
    /// mean + Σ z_k √λ_k v_k with z ~ N(0, 1): the fitted Gaussian.
    #[default]
    Variance,
    /// mean + Σ z_k v_k: what `pca.inverse_transform(randn)` gives, as in the notebook. Unlike there, components without
    /// variance take no part, since they are not determined by the data.
    Unit,
}

/// How to weigh the seeds of a layer. Random recipes depend on `seed`, `number` and the layer's name only, so that a
/// sample does not change with the layers selected or their order.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum SampleRecipe {
    /// A draw from the Gaussian of the PCA.
    Gaussian {
        /// Size of the coefficients.
        scale: Scale,
        /// Seed of the generator.
        seed: u64,
        /// Which sample of that seed, from 0.
        number: u64,
    },
    /// A draw from the simplex spanned by the seeds, uniform in its weights.
    Convex {
        /// Seed of the generator.
        seed: u64,
        /// Which sample of that seed, from 0.
        number: u64,
    },
    /// The mean of all seeds: a uniform soup.
    Mean,
    /// (1 − t) · one seed + t · another; beyond 0..=1 it extrapolates.
    Interpolation {
        /// Index of the seed at t = 0.
        from: usize,
        /// Index of the seed at t = 1.
        to: usize,
        /// Position.
        t: f64,
    },
    /// mean + Σ z_k v_k, or mean + Σ z_k √λ_k v_k when `whiten`, with these z_k.
    Coefficients {
        /// z_k of the first components; those beyond the rank of a layer are left out.
        scores: Vec<f64>,
        /// Whether they are counted in standard deviations.
        whiten: bool,
    },
    /// These weights.
    Weights(Vec<f64>),
}

impl SampleRecipe {
    /// The weights over the seeds for one layer, by name. They sum to 1, but for [`Self::Weights`].
    ///
    /// # Errors
    /// [`AnalysisError::SizeMismatch`] for a seed or a number of weights that the fit does not have, `OutOfRange` for
    /// numbers that are not finite.
    pub fn weights(&self, layer: &str, pca: &Pca) -> Result<Vec<f64>, AnalysisError> {
        let seeds = pca.seeds();
        let weights = match self {
            Self::Gaussian { scale, seed, number } => {
                let scores = Generator::new(*seed, *number, layer).normals(pca.rank());
                pca.inverse_transform(&scores, *scale == Scale::Variance)?
            }
            Self::Convex { seed, number } => {
                let mut generator = Generator::new(*seed, *number, layer);
                let shares: Vec<f64> = (0..seeds).map(|_| -generator.uniform().ln()).collect();
                let total: f64 = shares.iter().sum();
                shares.iter().map(|share| share / total).collect()
            }
            Self::Mean => vec![1.0 / seeds as f64; seeds],
            Self::Interpolation { from, to, t } => interpolation(seeds, (*from, *to), *t)?,
            Self::Coefficients { scores, whiten } => {
                pca.inverse_transform(&scores[..scores.len().min(pca.rank())], *whiten)?
            }
            Self::Weights(weights) => weights.clone(),
        };
        check_weights(&weights, seeds)?;
        Ok(weights)
    }
}

fn interpolation(seeds: usize, (from, to): (usize, usize), t: f64) -> Result<Vec<f64>, AnalysisError> {
    let mut weights = vec![0.0; seeds];
    for (seed, weight) in [(from, 1.0 - t), (to, t)] {
        match weights.get_mut(seed) {
            Some(sum) => *sum += weight,
            None => return Err(AnalysisError::SizeMismatch { what: "seeds", expected: seed + 1, found: seeds }),
        }
    }
    Ok(weights)
}

fn check_weights(weights: &[f64], seeds: usize) -> Result<(), AnalysisError> {
    check_size("weights", seeds, weights.len())?;
    match weights.iter().find(|weight| !weight.is_finite()) {
        Some(&found) => Err(AnalysisError::OutOfRange { what: "a weight", expected: "finite", found }),
        None => Ok(()),
    }
}

/// See [`GENERATOR`].
pub(super) struct Generator(ChaCha20Rng);

impl Generator {
    pub(super) fn new(seed: u64, number: u64, layer: &str) -> Self {
        let mut key = Sha256::new();
        key.update(GENERATOR);
        key.update(seed.to_le_bytes());
        key.update(number.to_le_bytes());
        key.update(layer);
        Self(ChaCha20Rng::from_seed(key.finalize().into()))
    }

    /// In (0, 1].
    fn uniform(&mut self) -> f64 {
        ((self.0.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// √χ² with this many degrees of freedom: by definition where they are few; by Wilson and Hilferty's cube of a normal
    /// beyond, where it is closer than any use here can tell.
    pub(super) fn chi(&mut self, degrees: u64) -> f64 {
        if degrees <= 64 {
            return self.normals(degrees as usize).iter().map(|x| x * x).sum::<f64>().sqrt();
        }
        let (k, z) = (degrees as f64, self.normals(1).first().copied().unwrap_or(0.0));
        let spread = 2.0 / (9.0 * k);
        (k * (1.0 - spread + z * spread.sqrt()).max(0.0).powi(3)).sqrt()
    }

    pub(super) fn normals(&mut self, count: usize) -> Vec<f64> {
        let mut normals = Vec::with_capacity(count + 1);
        while normals.len() < count {
            let radius = (-2.0 * self.uniform().ln()).sqrt();
            let (sin, cos) = (std::f64::consts::TAU * self.uniform()).sin_cos();
            normals.extend([radius * cos, radius * sin]);
        }
        normals.truncate(count);
        normals
    }
}

/// How far a sample lies from the seeds and from their mean, in squares, so that layers add up.
#[derive(Debug, Clone, PartialEq)]
pub struct Distances {
    /// ‖sample − seed i‖², n of them.
    pub squared_to_seeds: Vec<f64>,
    /// ‖sample − mean of the seeds‖².
    pub squared_to_mean: f64,
}

impl Distances {
    /// Of the combination with these weights, from the Gram alone.
    ///
    /// # Errors
    /// [`AnalysisError::SizeMismatch`] when the weights are not as many as the seeds.
    pub fn of(gram: &Gram, weights: &[f64]) -> Result<Self, AnalysisError> {
        let n = gram.seeds();
        check_weights(weights, n)?;
        let square = |minus: &dyn Fn(usize) -> f64| {
            let offset: Vec<f64> = weights.iter().enumerate().map(|(i, weight)| weight - minus(i)).collect();
            let rows = gram.values().chunks_exact(n).zip(&offset);
            let form = rows.map(|(row, x)| x * row.iter().zip(&offset).map(|(g, y)| g * y).sum::<f64>()).sum::<f64>();
            form.max(0.0)
        };
        Ok(Self {
            squared_to_seeds: (0..n).map(|seed| square(&|i| if i == seed { 1.0 } else { 0.0 })).collect(),
            squared_to_mean: square(&|_| 1.0 / n as f64),
        })
    }

    /// Adds those of another layer of the same sample.
    ///
    /// # Errors
    /// [`AnalysisError::SizeMismatch`] when the numbers of seeds differ.
    pub fn merge(&mut self, other: &Self) -> Result<(), AnalysisError> {
        check_size("seeds", self.squared_to_seeds.len(), other.squared_to_seeds.len())?;
        for (sum, x) in self.squared_to_seeds.iter_mut().zip(&other.squared_to_seeds) {
            *sum += x;
        }
        self.squared_to_mean += other.squared_to_mean;
        Ok(())
    }

    /// Index of the nearest seed and the distance to it; the first of equals.
    pub fn nearest(&self) -> Option<(usize, f64)> {
        let nearest = self.squared_to_seeds.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1));
        nearest.map(|(seed, square)| (seed, square.sqrt()))
    }

    /// Distance to the mean of the seeds.
    pub fn to_mean(&self) -> f64 {
        self.squared_to_mean.sqrt()
    }
}

/// Elements that one thread combines at a time.
const CHUNK: usize = 1 << 14;

/// One layer of a new model: pretrained + Σ w_i · task vector i, made block by block. With weights that sum to 1 this is
/// Σ w_i · fine-tuned i. Or Σ w_i · task vector i alone.
#[derive(Debug)]
pub struct Combination<'v, 'a> {
    vectors: &'v TaskVectors<'a>,
    weights: Vec<f64>,
    origin: Origin,
    /// The share of the pretrained model less the first seed: 1 − Σ w_i of a model, −Σ w_i of a direction.
    remainder: f64,
    dtype: Dtype,
}

/// What a combination starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The pretrained model.
    Pretrained,
    /// Nothing.
    Zero,
}

impl<'v, 'a> Combination<'v, 'a> {
    /// Weighs the seeds of `vectors`; the result is rounded to `dtype`: f64, f32, f16 or bf16.
    ///
    /// # Errors
    /// [`AnalysisError::SizeMismatch`], `OutOfRange` for weights, [`AnalysisError::UnwritableDtype`].
    pub fn new(vectors: &'v TaskVectors<'a>, weights: Vec<f64>, dtype: Dtype) -> Result<Self, AnalysisError> {
        Self::from(Origin::Pretrained, vectors, (weights, dtype))
    }

    /// Σ w_i · task vector i without the pretrained model: a component, from its dual coefficients, or the mean.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn direction(vectors: &'v TaskVectors<'a>, weights: Vec<f64>, dtype: Dtype) -> Result<Self, AnalysisError> {
        Self::from(Origin::Zero, vectors, (weights, dtype))
    }

    fn from(
        origin: Origin,
        vectors: &'v TaskVectors<'a>,
        (weights, dtype): (Vec<f64>, Dtype),
    ) -> Result<Self, AnalysisError> {
        check_weights(&weights, vectors.seeds())?;
        if !matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::Bf16) {
            return Err(AnalysisError::UnwritableDtype { layer: vectors.layer().to_owned(), dtype });
        }
        let whole = if origin == Origin::Pretrained { 1.0 } else { 0.0 };
        let rest = whole - weights.iter().sum::<f64>();
        // Weights that sum to 1, or to 0 for a component, do so up to rounding; the pretrained model has no share then.
        let size = weights.iter().map(|weight| weight.abs()).fold(1.0, f64::max);
        let remainder = if rest.abs() <= 1e-12 * size * weights.len() as f64 { 0.0 } else { rest };
        Ok(Self { vectors, weights, origin, remainder, dtype })
    }

    /// Bytes of the whole layer.
    pub fn len(&self) -> usize {
        self.vectors.parameters() * self.dtype.size()
    }

    /// Whether the layer has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `out` with the little-endian bytes of elements `start..start + out.len() / size` in row-major order, in
    /// parallel on the current rayon pool.
    ///
    /// # Errors
    /// [`AnalysisError::SizeMismatch`] when `out` does not hold whole elements of this layer, `NonFinite` for a weight of
    /// a seed, `Unrepresentable` when a value is beyond the range of the dtype, and errors of reading.
    pub fn fill(&self, start: usize, out: &mut [u8]) -> Result<(), AnalysisError> {
        let size = self.dtype.size();
        let count = out.len() / size;
        check_size("bytes", count * size, out.len())?;
        let end = start.saturating_add(count);
        if end > self.vectors.parameters() {
            let (expected, found) = (self.vectors.parameters(), end);
            return Err(AnalysisError::SizeMismatch { what: "parameters", expected, found });
        }
        out.par_chunks_mut(CHUNK * size)
            .enumerate()
            .map(|(chunk, bytes)| self.fill_chunk(start + chunk * CHUNK, bytes))
            .collect()
    }

    /// The first seed plus weighted differences to it: identical seeds come out to the bit, and small differences are not
    /// rounded to the size of the weights.
    fn fill_chunk(&self, start: usize, bytes: &mut [u8]) -> Result<(), AnalysisError> {
        const WIDTH: usize = 1024;
        let (kernel, size) = (Kernel::detect(), self.dtype.size());
        let mut base = vec![0.0; WIDTH];
        let mut tile = Tile::new(self.weights.len(), WIDTH);
        let mut sum = vec![0.0; WIDTH];
        let mut pretrained = vec![0.0; WIDTH];
        for (block, bytes) in bytes.chunks_mut(WIDTH * size).enumerate() {
            let (at, count) = (start + block * WIDTH, bytes.len() / size);
            let (base, sum, pretrained) = (&mut base[..count], &mut sum[..count], &mut pretrained[..count]);
            self.vectors.fill(kernel, Base::FirstSeed, (at, base, at + WIDTH), &mut tile)?;
            sum.fill(0.0);
            for (row, &weight) in self.weights.iter().enumerate() {
                kernel.add_scaled(tile.row(row), weight, sum);
            }
            if self.remainder != 0.0 {
                self.vectors.fill_pretrained(kernel, at, pretrained)?;
                kernel.add_scaled(base, -1.0, pretrained);
                kernel.add_scaled(pretrained, self.remainder, sum);
            }
            if self.origin == Origin::Pretrained {
                kernel.add_scaled(base, 1.0, sum);
            }
            self.encode(sum, bytes).map_err(|(offset, value)| self.blame(at + offset, value))?;
        }
        Ok(())
    }

    /// Rounds to the dtype; gives back the first value that has no finite image.
    fn encode(&self, values: &[f64], bytes: &mut [u8]) -> Result<(), (usize, f64)> {
        let finite = match self.dtype {
            Dtype::F64 => put(values, bytes, |x| (x.to_le_bytes(), x.is_finite())),
            Dtype::F32 => put(values, bytes, |x| ((x as f32).to_le_bytes(), (x as f32).is_finite())),
            Dtype::F16 => put(values, bytes, |x| {
                let rounded = f16::from_f64(x);
                (rounded.to_le_bytes(), rounded.is_finite())
            }),
            _ => put(values, bytes, |x| {
                let rounded = bf16::from_f64(x);
                (rounded.to_le_bytes(), rounded.is_finite())
            }),
        };
        finite.map_or(Ok(()), Err)
    }

    fn blame(&self, element: usize, value: f64) -> AnalysisError {
        if value.is_finite() {
            let layer = self.vectors.layer().to_owned();
            return AnalysisError::Unrepresentable { layer, element, value, dtype: self.dtype };
        }
        self.vectors.blame(Kernel::detect())
    }
}

fn put<const N: usize>(
    values: &[f64],
    bytes: &mut [u8],
    encode: impl Fn(f64) -> ([u8; N], bool),
) -> Option<(usize, f64)> {
    let mut all_finite = true;
    for (&value, out) in values.iter().zip(bytes.as_chunks_mut::<N>().0) {
        let (encoded, finite) = encode(value);
        *out = encoded;
        all_finite &= finite;
    }
    if all_finite {
        return None;
    }
    values.iter().copied().enumerate().find(|&(_, value)| !encode(value).1)
}
