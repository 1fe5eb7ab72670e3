//! Grams of which part is known: the pass makes only the products that are missing. No I/O of its own.

use rayon::prelude::*;

use crate::analysis::pca::is_accurate_for;
use crate::analysis::{AnalysisError, Backend, BuiltIn, Gram, Layer, LayerFit, Pca, TaskVectors};
use crate::progress::Task;

/// A Gram of some of the seeds, made before.
#[derive(Debug, Clone, Copy)]
pub struct Known<'k> {
    /// The Gram, of whatever seeds it was.
    pub gram: &'k Gram,
    /// For each seed that is wanted, in order, its row in [`Self::gram`]; nothing for a seed that is new.
    pub rows: &'k [Option<usize>],
}

impl Known<'_> {
    /// The Gram of the wanted seeds, when all of them are known.
    fn whole(&self) -> Option<Result<Gram, AnalysisError>> {
        let rows: Option<Vec<usize>> = self.rows.iter().copied().collect();
        rows.map(|rows| self.gram.select(&rows))
    }
}

impl TaskVectors<'_> {
    /// The Gram of these seeds where some of them are `known`, in whatever order: entries between two known seeds are
    /// taken as they are, the others made in one pass over all checkpoints, as [`Self::extend_gram`] does. Entries that are
    /// made may differ in the last places from those of [`Self::gram`] (see the module's notes on the order of sums).
    ///
    /// # Errors
    /// As [`Self::gram`]; [`AnalysisError::SizeMismatch`] when the rows are not one a seed, or beyond what is known.
    pub fn complete_gram(&self, known: Known<'_>, progress: &Task) -> Result<Gram, AnalysisError> {
        self.complete_gram_by(&BuiltIn, known, progress)
    }

    /// The same by a backend of the caller's choice.
    ///
    /// # Errors
    /// As [`Self::complete_gram`], and [`AnalysisError::Backend`].
    pub fn complete_gram_by(
        &self,
        backend: &dyn Backend,
        known: Known<'_>,
        progress: &Task,
    ) -> Result<Gram, AnalysisError> {
        let n = self.seeds();
        if known.rows.len() != n {
            return Err(AnalysisError::SizeMismatch { what: "seeds", expected: n, found: known.rows.len() });
        }
        if let Some(gram) = known.whole() {
            return gram;
        }
        // The pass wants the known seeds first.
        let (mut order, new): (Vec<usize>, Vec<usize>) = (0..n).partition(|&seed| known.rows[seed].is_some());
        let part = known.gram.select(&known.rows.iter().copied().flatten().collect::<Vec<_>>())?;
        order.extend(new);
        if order.iter().copied().eq(0..n) {
            return self.extend_gram_by(backend, &[&part], progress);
        }
        let gram = self.in_order(&order).extend_gram_by(backend, &[&part], progress)?;
        let mut place = vec![0; n];
        for (at, &seed) in order.iter().enumerate() {
            place[seed] = at;
        }
        gram.select(&place)
    }
}

/// [`fit_layers`](super::fit_layers) where part of each Gram may be known, as `known` says of a layer: only what is missing
/// is made. A layer of which everything is known is not opened, unless its spectrum asks for more accuracy than a Gram has.
///
/// # Errors
/// As [`fit_layers`](super::fit_layers); [`AnalysisError::SizeMismatch`] when what is known is not of such seeds.
pub fn complete_layers<'a, 'k, E>(
    layers: &[Layer],
    known: impl Fn(&Layer) -> Option<Known<'k>> + Sync,
    open: impl Fn(&Layer) -> Result<TaskVectors<'a>, E> + Sync,
    (backend, progress): (&dyn Backend, &Task),
) -> Result<Vec<LayerFit>, E>
where
    E: From<AnalysisError> + Send,
{
    let fit = |layer: &Layer| {
        let known = known(layer);
        let done = |(gram, pca)| LayerFit { layer: layer.clone(), gram, pca, interference: None };
        if let Some(gram) = known.and_then(|known| known.whole()) {
            let gram = gram?;
            let pca = Pca::from_gram(&gram).map_err(|error| error.in_layer(&layer.name))?;
            if is_accurate_for(&pca, &gram) {
                return Ok(done((gram, pca)));
            }
            let vectors = open(layer)?;
            // No pass of the Gram's does it.
            vectors.compare_crc32()?;
            let pca = vectors.pca(&gram).map_err(|error| error.in_layer(&layer.name))?;
            return Ok(done((gram, pca)));
        }
        let vectors = open(layer)?;
        let gram = match known {
            Some(known) => vectors.complete_gram_by(backend, known, progress)?,
            None => vectors.gram_by(backend, progress)?,
        };
        let pca = vectors.pca(&gram).map_err(|error| error.in_layer(&layer.name))?;
        Ok(done((gram, pca)))
    };
    let fits: Vec<Result<LayerFit, E>> = layers.par_iter().map(fit).collect();
    fits.into_iter().collect()
}
