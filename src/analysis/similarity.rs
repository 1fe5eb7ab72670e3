//! How alike task vectors are, read off a Gram: norms, cosines, distances, angles. No I/O.

use crate::analysis::Gram;

/// Similarities between the task vectors of a Gram. The Gram of a whole model is the sum of its layers' Grams
/// ([`Gram::merge`]): the similarity of the flattened task vectors, not the mean over layers.
#[derive(Debug, Clone, Copy)]
pub struct Similarity<'g>(&'g Gram);

impl<'g> Similarity<'g> {
    /// Of the task vectors of this Gram.
    pub fn of(gram: &'g Gram) -> Self {
        Self(gram)
    }

    /// ‖x_i‖₂ = √Gᵢᵢ, n of them.
    pub fn norms(&self) -> Vec<f64> {
        (0..self.0.seeds()).map(|i| self.0.get(i, i).sqrt()).collect()
    }

    /// x_i · x_j, n × n, row-major: the Gram itself.
    pub fn dots(&self) -> &'g [f64] {
        self.0.values()
    }

    /// x_i · x_j / (‖x_i‖ ‖x_j‖), n × n, row-major, within [−1, 1]; `None` where a vector is zero.
    pub fn cosines(&self) -> Vec<Option<f64>> {
        let norms = self.norms();
        self.pairs(|i, j| match norms[i] * norms[j] {
            0.0 => None,
            _ if i == j => Some(1.0),
            // One norm at a time: their product may underflow or overflow where the quotient does not.
            _ => Some((self.0.get(i, j) / norms[i] / norms[j]).clamp(-1.0, 1.0)),
        })
    }

    /// arccos of the cosine, in radians from 0 to π, n × n, row-major; `None` where a vector is zero.
    pub fn angles(&self) -> Vec<Option<f64>> {
        self.cosines().into_iter().map(|cosine| cosine.map(f64::acos)).collect()
    }

    /// ‖x_i − x_j‖₂ = √(Gᵢᵢ + Gⱼⱼ − 2 Gᵢⱼ), n × n, row-major. Also the distance between the checkpoints themselves.
    /// Vectors closer than about 1e-8 of their norm come out with a relative error, or as 0.
    pub fn distances(&self) -> Vec<f64> {
        self.pairs(|i, j| match i == j {
            true => 0.0,
            false => (self.0.get(i, i) + self.0.get(j, j) - 2.0 * self.0.get(i, j)).max(0.0).sqrt(),
        })
    }

    /// min(‖x_i‖, ‖x_j‖) / max(‖x_i‖, ‖x_j‖), n × n, row-major; `None` where both are zero.
    pub fn magnitude_ratios(&self) -> Vec<Option<f64>> {
        let norms = self.norms();
        self.pairs(|i, j| {
            let (small, large) = (norms[i].min(norms[j]), norms[i].max(norms[j]));
            (large > 0.0).then(|| small / large)
        })
    }

    fn pairs<T>(&self, entry: impl Fn(usize, usize) -> T) -> Vec<T> {
        let n = self.0.seeds();
        (0..n * n).map(|at| entry(at / n, at % n)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_vectors_in_the_plane() {
        // (3, 0), (0, 4), (0, 0)
        let gram = Gram::from_values(3, 2, vec![9.0, 0.0, 0.0, 0.0, 16.0, 0.0, 0.0, 0.0, 0.0]).unwrap();
        let similarity = Similarity::of(&gram);
        assert_eq!(similarity.norms(), [3.0, 4.0, 0.0]);
        assert_eq!(similarity.distances(), [0.0, 5.0, 3.0, 5.0, 0.0, 4.0, 3.0, 4.0, 0.0]);
        assert_eq!(similarity.cosines()[..4], [Some(1.0), Some(0.0), None, Some(0.0)]);
        assert_eq!(similarity.angles()[1], Some(std::f64::consts::FRAC_PI_2));
        assert_eq!(similarity.magnitude_ratios()[1], Some(0.75));
        assert_eq!(similarity.magnitude_ratios()[8], None);
    }
}
