//! Checks of the whole room against scikit-learn's values and against the laws that Gram and PCA obey.

use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::progress::{Progress, Stage, Task};
use crate::tensor::{Dtype, TensorView};

fn silent() -> Task {
    Progress::silent().begin(Stage::Compute, "test", None)
}

fn f64s(values: &[f64]) -> TensorView<'static> {
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    TensorView::contiguous(Dtype::F64, vec![values.len()], bytes).unwrap()
}

fn f32s(values: &[f32]) -> TensorView<'static> {
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    TensorView::contiguous(Dtype::F32, vec![values.len()], bytes).unwrap()
}

/// Task vectors that are these rows: the pretrained model is 0.
fn rows(x: &[f64], d: usize) -> TaskVectors<'static> {
    TaskVectors::new("w", f64s(&vec![0.0; d]), x.chunks_exact(d).map(f64s).collect()).unwrap()
}

fn assert_near(name: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{name}");
    let scale = expected.iter().fold(0.0f64, |max, x| max.max(x.abs()));
    for (at, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance * scale, "{name} at {at}: {a} is not {b}");
    }
}

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    shape: (usize, usize),
    x: Vec<f64>,
    degenerate: bool,
    rank: usize,
    explained_variance: Vec<f64>,
    singular_values: Vec<f64>,
    explained_variance_ratio: Option<Vec<f64>>,
    kept: Option<usize>,
    noise_variance_of_kept: Option<f64>,
    components: Option<Vec<f64>>,
    scores: Option<Vec<f64>>,
    whitened_scores: Option<Vec<f64>>,
    coefficients: Option<Vec<f64>>,
    inverse_transform: Option<Vec<f64>>,
    whitened_inverse_transform: Option<Vec<f64>>,
}

fn golden() -> Vec<Case> {
    let text = include_str!("../../fixtures/golden/pca.json");
    serde_json::from_str::<Golden>(text).unwrap().cases
}

#[test]
fn explained_variance_is_that_of_scikit_learn() {
    for case in golden() {
        let vectors = rows(&case.x, case.shape.1);
        let pca = vectors.pca(&vectors.gram(&silent()).unwrap()).unwrap();
        let name = &case.name;
        assert_eq!(pca.explained_variance().len(), case.explained_variance.len(), "{name}");
        assert_eq!(pca.is_degenerate(), case.degenerate, "{name}");
        if case.degenerate {
            assert!(pca.explained_variance().iter().all(|&x| x == 0.0), "{name}");
            assert_eq!(pca.explained_variance_ratio(), None, "{name}");
            continue;
        }
        let total: f64 = case.explained_variance.iter().sum();
        let sigmas = pca.singular_values();
        for (k, (&found, &expected)) in pca.explained_variance().iter().zip(&case.explained_variance).enumerate() {
            if expected > 1e-12 * total {
                let error = (found / expected - 1.0).abs();
                assert!(error <= 1e-9, "{name} component {k}: {found} is not {expected}, off by {error:e}");
                assert!((sigmas[k] / case.singular_values[k] - 1.0).abs() <= 1e-9, "{name}");
            } else {
                assert!(found <= 2e-12 * total, "{name} component {k}: {found}");
            }
        }
        assert_near(name, &pca.explained_variance_ratio().unwrap(), &case.explained_variance_ratio.unwrap(), 1e-12);
        let noise = pca.noise_variance(case.kept.unwrap());
        assert!((noise - case.noise_variance_of_kept.unwrap()).abs() <= 1e-9 * total, "{name}");
        assert_eq!(pca.noise_variance(case.explained_variance.len()), 0.0);
        assert!(pca.explained_variance()[pca.rank()..].iter().all(|&x| x == 0.0), "{name}");
        assert!(pca.rank() >= case.rank && pca.rank() < case.shape.0, "{name}");
    }
}

#[test]
fn vectors_scores_and_their_inverse_are_those_of_scikit_learn() {
    let mut checked = 0;
    for case in golden() {
        let (n, d) = case.shape;
        let (Some(components), Some(scores), Some(coefficients)) = (case.components, case.scores, case.coefficients)
        else {
            continue;
        };
        let (name, rank) = (&case.name, case.rank);
        let vectors = rows(&case.x, d);
        let gram = vectors.gram(&silent()).unwrap();
        let mut pca = vectors.pca(&gram).unwrap();
        vectors.orient(&mut pca, SignRule::Parameters).unwrap();
        assert_eq!(pca.rank(), rank, "{name}");
        let duals = pca.duals();
        let mut found = vec![0.0; rank * d];
        for k in 0..rank {
            for i in 0..n {
                for j in 0..d {
                    // Duals sum to 0, so any base does; the first row keeps a large mean out of the sum.
                    found[k * d + j] += duals[i * rank + k] * (case.x[i * d + j] - case.x[j]);
                }
            }
        }
        assert_near(name, &found, &components, 1e-7);
        assert_near(name, &pca.scores(false), &scores, 1e-8);
        assert_near(name, &pca.scores(true), &case.whitened_scores.unwrap(), 1e-6);
        let large_mean = gram.values()[0] > 1e6 * pca.total_variance();
        if !large_mean {
            assert_near(name, &pca.transform(&gram, gram.values(), false).unwrap(), &scores, 1e-7);
        }
        for (whiten, expected) in [(false, case.inverse_transform), (true, case.whitened_inverse_transform)] {
            let weights = pca.inverse_transform(&coefficients, whiten).unwrap();
            assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{name}");
            let combination = Combination::new(&vectors, weights, Dtype::F64).unwrap();
            let mut bytes = vec![0; combination.len()];
            combination.fill(0, &mut bytes).unwrap();
            let made: Vec<f64> = bytes.as_chunks::<8>().0.iter().map(|&b| f64::from_le_bytes(b)).collect();
            assert_near(name, &made, &expected.unwrap(), 1e-7);
        }
        checked += 1;
    }
    assert!(checked >= 8, "only {checked} cases carried vectors");
}

fn model(n: usize, d: usize, seed: u64) -> (Vec<f32>, Vec<Vec<f32>>) {
    use rand::{RngExt, SeedableRng};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let pretrained: Vec<f32> = (0..d).map(|_| rng.random_range(-1.0..1.0)).collect();
    let seeds = (0..n).map(|_| pretrained.iter().map(|p| p + rng.random_range(-0.01..0.01)).collect()).collect();
    (pretrained, seeds)
}

fn vectors(pretrained: &[f32], seeds: &[Vec<f32>]) -> TaskVectors<'static> {
    TaskVectors::new("w", f32s(pretrained), seeds.iter().map(|seed| f32s(seed)).collect()).unwrap()
}

/// The rounding that the documentation of the Gram allows.
fn assert_same_gram(a: &Gram, b: &Gram) {
    assert_eq!((a.seeds(), a.parameters()), (b.seeds(), b.parameters()));
    for i in 0..a.seeds() {
        for j in 0..a.seeds() {
            let scale = (a.get(i, i) * a.get(j, j)).sqrt();
            let (x, y) = (a.get(i, j), b.get(i, j));
            assert!((x - y).abs() <= 64.0 * f64::EPSILON * scale, "{i} {j}: {x} {y}");
        }
    }
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let (pretrained, seeds) = model(5, 300_007, 1);
    let vectors = vectors(&pretrained, &seeds);
    let fit = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let gram = vectors.gram(&silent()).unwrap();
            let mut pca = vectors.pca(&gram).unwrap();
            vectors.orient(&mut pca, SignRule::Parameters).unwrap();
            let combination = Combination::new(&vectors, vec![0.3, 0.3, 0.2, 0.1, 0.1], Dtype::F32).unwrap();
            let mut bytes = vec![0; combination.len()];
            combination.fill(0, &mut bytes).unwrap();
            (gram, pca, bytes)
        })
    };
    assert_eq!(fit(1), fit(4));
}

#[test]
fn pieces_and_shards_of_a_layer_add_up() {
    let (pretrained, seeds) = model(6, 200_003, 2);
    let whole = vectors(&pretrained, &seeds).gram(&silent()).unwrap();
    let shard = |range: std::ops::Range<usize>| {
        let cut: Vec<Vec<f32>> = seeds.iter().map(|seed| seed[range.clone()].to_vec()).collect();
        vectors(&pretrained[range.clone()], &cut).gram(&silent()).unwrap()
    };
    let mut sum = shard(0..77_777);
    sum.merge(&shard(77_777..77_778)).unwrap();
    sum.merge(&shard(77_778..200_003)).unwrap();
    assert_same_gram(&whole, &sum);
    assert!(matches!(sum.merge(&whole.select(&[0, 1]).unwrap()), Err(AnalysisError::SizeMismatch { .. })));
}

#[test]
fn adding_seeds_to_a_stored_gram_makes_the_whole_one() {
    let (pretrained, seeds) = model(9, 70_001, 3);
    let all = vectors(&pretrained, &seeds);
    let whole = all.gram(&silent()).unwrap();
    for stored in [0, 1, 3, 4, 8, 9] {
        let part = vectors(&pretrained, &seeds[..stored]).gram(&silent()).unwrap();
        let extended = all.extend_gram(&[&part], &silent()).unwrap();
        assert_same_gram(&whole, &extended);
        let values: Vec<f64> = extended.values().to_vec();
        Gram::from_values(9, extended.parameters(), values).unwrap();
    }
    let other = vectors(&pretrained[1..], &[seeds[0][1..].to_vec()]).gram(&silent()).unwrap();
    assert!(matches!(all.extend_gram(&[&other], &silent()), Err(AnalysisError::SizeMismatch { .. })));
}

#[test]
fn a_gram_is_completed_from_any_seeds_of_another() {
    let (pretrained, seeds) = model(6, 70_001, 30);
    let pick = |wanted: &[usize]| vectors(&pretrained, &wanted.iter().map(|&s| seeds[s].clone()).collect::<Vec<_>>());
    // What each stored Gram is of, and what is wanted: behind, before, between, removed, turned round, twice, all at once.
    let cases: [(&[usize], &[usize]); 7] = [
        (&[0, 1, 2], &[0, 1, 2, 3]),
        (&[2, 3], &[0, 1, 2, 3]),
        (&[0, 2, 5], &[0, 1, 2, 3, 5]),
        (&[0, 1, 2, 3], &[0, 3]),
        (&[0, 1, 2, 3], &[3, 2, 1, 0]),
        (&[1, 4], &[4, 1, 4, 0]),
        (&[5, 0, 3, 1], &[3, 4, 2, 5, 0]),
    ];
    for (stored, wanted) in cases {
        let part = pick(stored).gram(&silent()).unwrap();
        let marked = Gram::from_values(stored.len(), 70_001, part.values().iter().map(|x| x * 1.5).collect()).unwrap();
        let rows: Vec<Option<usize>> = wanted.iter().map(|seed| stored.iter().position(|s| s == seed)).collect();
        let (vectors, whole) = (pick(wanted), pick(wanted).gram(&silent()).unwrap());
        let completed = vectors.complete_gram(Known { gram: &part, rows: &rows }, &silent()).unwrap();
        assert_same_gram(&whole, &completed);
        let shown = vectors.complete_gram(Known { gram: &marked, rows: &rows }, &silent()).unwrap();
        for (i, row) in rows.iter().enumerate() {
            for (j, column) in rows.iter().enumerate() {
                // What is known is taken to the bit; what is not comes from the checkpoints alone.
                let expected = match (*row, *column) {
                    (Some(row), Some(column)) => marked.get(row, column),
                    _ => completed.get(i, j),
                };
                assert_eq!(shown.get(i, j), expected, "{stored:?} {wanted:?} {i} {j}");
            }
        }
        Gram::from_values(wanted.len(), 70_001, completed.values().to_vec()).unwrap();
    }
    let part = pick(&[0]).gram(&silent()).unwrap();
    let complete = |rows: &[Option<usize>]| pick(&[0, 1]).complete_gram(Known { gram: &part, rows }, &silent());
    assert!(matches!(complete(&[Some(0)]), Err(AnalysisError::SizeMismatch { what: "seeds", expected: 2, found: 1 })));
    assert!(matches!(complete(&[Some(1), None]), Err(AnalysisError::SizeMismatch { .. })));
}

#[test]
fn layers_that_are_known_are_not_opened_unless_their_spectrum_asks_for_it() {
    let (pretrained, seeds) = model(4, 3_001, 30);
    let all = vectors(&pretrained, &seeds);
    let gram = all.gram(&silent()).unwrap();
    let layer = Layer { name: "w".to_owned(), dtype: Dtype::F32, shape: vec![3_001], parameters: 3_001 };
    let rows = [Some(2), Some(0), Some(3)];
    let closed = |_: &Layer| -> Result<TaskVectors<'_>, AnalysisError> { panic!("it was opened") };
    let layers = std::slice::from_ref(&layer);
    let fits =
        complete_layers(layers, |_| Some(Known { gram: &gram, rows: &rows }), closed, (&BuiltIn, &silent())).unwrap();
    assert_eq!(fits[0].gram, gram.select(&[2, 0, 3]).unwrap());
    assert_eq!(fits[0].pca, Pca::from_gram(&fits[0].gram).unwrap());
    // A mean that dwarfs the differences: the Gram alone is not enough, and the layer is read.
    let far: Vec<f32> = seeds[0].iter().map(|x| x + 1000.0).collect();
    let near: Vec<Vec<f32>> = (0..3)
        .map(|k| far.iter().enumerate().map(|(i, x)| x + if i % 3 == k { 1e-3 } else { 0.0 }).collect())
        .collect();
    let close = vectors(&pretrained, &near);
    let gram = close.gram(&silent()).unwrap();
    let opened = std::sync::atomic::AtomicUsize::new(0);
    let open = |_: &Layer| {
        opened.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok::<_, AnalysisError>(vectors(&pretrained, &near))
    };
    let rows = [Some(0), Some(1), Some(2)];
    let fits =
        complete_layers(layers, |_| Some(Known { gram: &gram, rows: &rows }), open, (&BuiltIn, &silent())).unwrap();
    assert_eq!((opened.into_inner(), &fits[0].pca), (1, &close.pca(&gram).unwrap()));
}

#[test]
fn grams_of_datasets_are_joined_by_their_products_alone() {
    let (pretrained, seeds) = model(9, 70_001, 30);
    let all = vectors(&pretrained, &seeds);
    let whole = all.gram(&silent()).unwrap();
    let part = |range: std::ops::Range<usize>| vectors(&pretrained, &seeds[range]).gram(&silent()).unwrap();
    let (a, b, c) = (part(0..4), part(4..6), part(6..9));
    let joined = all.extend_gram(&[&a, &b, &c], &silent()).unwrap();
    assert_same_gram(&whole, &joined);
    // What was known is kept to the bit, so it was not made again.
    let marked = Gram::from_values(2, 70_001, vec![7.0, 0.0, 0.0, 7.0]).unwrap();
    let joined = all.extend_gram(&[&a, &marked, &c], &silent()).unwrap();
    assert_eq!(joined.select(&[4, 5]).unwrap(), marked);
    assert_eq!(joined.select(&[0, 1, 2, 3]).unwrap(), a);
    assert_eq!(joined.get(4, 0), joined.get(0, 4));
    let too_many = all.extend_gram(&[&whole, &a], &silent());
    assert!(matches!(too_many, Err(AnalysisError::SizeMismatch { what: "seeds", .. })));
}

#[test]
fn hundreds_of_seeds_give_the_gram_of_pairs() {
    let (pretrained, seeds) = model(130, 2_111, 31);
    let whole = vectors(&pretrained, &seeds).gram(&silent()).unwrap();
    for pair in [[0, 129], [7, 12], [63, 64], [100, 100]] {
        let of_pair = vectors(&pretrained, &pair.map(|seed| seeds[seed].clone())).gram(&silent()).unwrap();
        assert_same_gram(&whole.select(&pair).unwrap(), &of_pair);
    }
}

#[test]
fn the_gram_of_any_mix_of_dtypes_is_that_of_the_values() {
    let dtypes = [Dtype::F16, Dtype::Bf16, Dtype::F32, Dtype::F64];
    // Multiples of 1/8 below 16: the same number in every dtype.
    let value = |row: usize, at: usize| ((row * 31 + at * 17) % 255) as f64 / 8.0 - 16.0;
    let view = |row: usize, dtype: Dtype| {
        let of = |x: f64| match dtype {
            Dtype::F16 => half::f16::from_f64(x).to_le_bytes().to_vec(),
            Dtype::Bf16 => half::bf16::from_f64(x).to_le_bytes().to_vec(),
            Dtype::F32 => (x as f32).to_le_bytes().to_vec(),
            _ => x.to_le_bytes().to_vec(),
        };
        let bytes: Vec<u8> = (0..1003).flat_map(|at| of(value(row, at))).collect();
        TensorView::contiguous(dtype, vec![1003], bytes).unwrap()
    };
    for pretrained in dtypes {
        let mixed = TaskVectors::new("w", view(9, pretrained), (0..8).map(|row| view(row, dtypes[row % 4])).collect());
        let widened = TaskVectors::new("w", view(9, Dtype::F64), (0..8).map(|row| view(row, Dtype::F64)).collect());
        assert_eq!(mixed.unwrap().gram(&silent()).unwrap(), widened.unwrap().gram(&silent()).unwrap());
    }
}

#[test]
fn a_weight_that_is_not_finite_is_named() {
    let (pretrained, mut seeds) = model(3, 100_000, 4);
    seeds[2][99_999] = f32::NEG_INFINITY;
    let error = vectors(&pretrained, &seeds).gram(&silent()).unwrap_err();
    let AnalysisError::NonFinite { checkpoint: Checkpoint::FineTuned(2), element: 99_999, .. } = error else {
        panic!("{error}");
    };
    let huge = rows(&[1e200, 0.0, 0.0, 1.0], 2);
    assert!(matches!(huge.gram(&silent()), Err(AnalysisError::Overflow { .. })));
}

#[test]
fn a_frozen_layer_is_degenerate_and_its_samples_are_exact() {
    let (pretrained, _) = model(1, 1000, 5);
    let vectors = vectors(&pretrained, &vec![pretrained.clone(); 7]);
    let gram = vectors.gram(&silent()).unwrap();
    let pca = vectors.pca(&gram).unwrap();
    assert!(pca.is_degenerate() && pca.explained_variance() == [0.0; 7]);
    let recipe = SampleRecipe::Gaussian { scale: Scale::Variance, seed: 1, number: 0 };
    let combination = Combination::new(&vectors, recipe.weights("w", &pca).unwrap(), Dtype::F32).unwrap();
    let mut bytes = vec![0; combination.len()];
    combination.fill(0, &mut bytes).unwrap();
    let expected: Vec<u8> = pretrained.iter().flat_map(|x| x.to_le_bytes()).collect();
    assert_eq!(bytes, expected);
}

#[test]
fn one_seed_has_no_pca() {
    let vectors = rows(&[1.0, 2.0], 2);
    let gram = vectors.gram(&silent()).unwrap();
    assert!(matches!(vectors.pca(&gram), Err(AnalysisError::TooFewSeeds { found: 1 })));
    assert!(matches!(Pca::from_gram(&gram), Err(AnalysisError::TooFewSeeds { found: 1 })));
}

#[test]
fn layers_are_fitted_in_order_and_the_first_failure_wins() {
    let (pretrained, mut seeds) = model(3, 64, 6);
    let info = [("a", 64), ("b", 64)].map(|(name, parameters)| Layer {
        name: name.into(),
        dtype: Dtype::F32,
        shape: vec![parameters],
        parameters,
    });
    let fits =
        fit_layers::<AnalysisError>(&info, |_| Ok(vectors(&pretrained, &seeds)), (&BuiltIn, Measure::Gram, &silent()))
            .unwrap();
    assert_eq!(fits.iter().map(|fit| fit.layer.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(fits[0].gram, fits[1].gram);
    seeds[1][0] = f32::NAN;
    let error =
        fit_layers::<AnalysisError>(&info, |_| Ok(vectors(&pretrained, &seeds)), (&BuiltIn, Measure::Gram, &silent()))
            .unwrap_err();
    assert!(matches!(error, AnalysisError::NonFinite { checkpoint: Checkpoint::FineTuned(1), element: 0, .. }));
}

fn fitted(x: &[f64], d: usize) -> Pca {
    let vectors = rows(x, d);
    vectors.pca(&vectors.gram(&silent()).unwrap()).unwrap()
}

proptest! {
    #[test]
    fn the_spectrum_does_not_change_with_the_order_of_seeds_a_translation_or_a_rotation(
        n in 2usize..8,
        d in 1usize..12,
        values in proptest::collection::vec(-1_000_000i32..1_000_000, 96),
        shift in proptest::collection::vec(-1000i32..1000, 12),
        angle in 0.0..std::f64::consts::TAU,
    ) {
        // On a grid of 2⁻²⁰, so that moving the values rounds none of them.
        let values: Vec<f64> = values.into_iter().map(|x| f64::from(x) / 1_048_576.0).collect();
        let shift: Vec<f64> = shift.into_iter().map(f64::from).collect();
        let x = &values[..n * d];
        let pca = fitted(x, d);
        let total = pca.total_variance();
        let reversed: Vec<f64> = x.chunks_exact(d).rev().flatten().copied().collect();
        let moved: Vec<f64> = x.chunks_exact(d).flat_map(|row| row.iter().zip(&shift).map(|(a, b)| a + b)).collect();
        let mut turned = x.to_vec();
        for row in turned.chunks_exact_mut(d) {
            let (a, b) = (row[0], row[d - 1]);
            if d > 1 {
                (row[0], row[d - 1]) = (angle.cos() * a - angle.sin() * b, angle.sin() * a + angle.cos() * b);
            }
        }
        for other in [reversed, moved, turned] {
            for (a, b) in pca.explained_variance().iter().zip(fitted(&other, d).explained_variance()) {
                prop_assert!((a - b).abs() <= 1e-10 * total, "{} {}", a, b);
            }
        }
    }

    #[test]
    fn interference_does_not_change_with_the_order_of_seeds_the_scale_or_the_sign_and_conflicts_add_up(
        n in 2usize..7,
        d in 1usize..40,
        cut in 0usize..40,
        values in proptest::collection::vec(-8i32..9, 280),
    ) {
        let x: Vec<f64> = values[..n * d].iter().map(|&x| f64::from(x)).collect();
        let of = |x: &[f64], d: usize| rows(x, d).gram_and_interference(&silent()).unwrap().1;
        let found = of(&x, d);
        let reversed: Vec<f64> = x.chunks_exact(d).rev().flatten().copied().collect();
        for other in [of(&reversed, d), of(&x.iter().map(|x| -0.25 * x).collect::<Vec<_>>(), d)] {
            prop_assert_eq!(found.sign_conflict, other.sign_conflict);
            prop_assert_eq!(found.sign_conflict_trimmed, other.sign_conflict_trimmed);
            for (a, b) in found.mass_top.iter().zip(other.mass_top) {
                prop_assert!(a.is_some() == b.is_some() && (a.unwrap_or(0.0) - b.unwrap_or(0.0)).abs() < 1e-12);
            }
        }
        prop_assert!(found.sign_conflict_trimmed <= found.sign_conflict);
        let cut = cut.min(d);
        let part = |range: std::ops::Range<usize>| -> f64 {
            let width = range.len();
            let part: Vec<f64> = x.chunks_exact(d).flat_map(|row| row[range.clone()].to_vec()).collect();
            if width == 0 { 0.0 } else { of(&part, width).sign_conflict * width as f64 }
        };
        prop_assert!((part(0..cut) + part(cut..d) - found.sign_conflict * d as f64).abs() < 1e-9);
    }

    #[test]
    fn components_are_orthonormal_and_rebuild_the_covariance(
        n in 2usize..8,
        d in 1usize..12,
        values in proptest::collection::vec(-1.0..1.0f64, 96),
    ) {
        let x = &values[..n * d];
        let pca = fitted(x, d);
        let gram = rows(x, d).gram(&silent()).unwrap();
        let (rank, duals) = (pca.rank(), pca.duals());
        let smallest = pca.explained_variance()[rank - 1] / pca.explained_variance()[0];
        prop_assume!(smallest > 1e-8);
        for a in 0..rank {
            for b in 0..rank {
                let mut dot = 0.0;
                for i in 0..n {
                    for j in 0..n {
                        dot += duals[i * rank + a] * gram.get(i, j) * duals[j * rank + b];
                    }
                }
                let expected = if a == b { 1.0 } else { 0.0 };
                prop_assert!((dot - expected).abs() < 1e-6, "{} {} {}", a, b, dot);
            }
        }
        let trace: f64 = (0..n).map(|i| gram.get(i, i)).sum::<f64>() - gram.values().iter().sum::<f64>() / n as f64;
        prop_assert!((pca.total_variance() * (n as f64 - 1.0) - trace).abs() <= 1e-12 * trace);
    }

    #[test]
    fn a_gram_survives_being_stored(
        n in 2usize..6,
        d in 1usize..9,
        values in proptest::collection::vec(-1.0..1.0f64, 54),
    ) {
        let gram = rows(&values[..n * d], d).gram(&silent()).unwrap();
        let again = Gram::from_values(n, d as u64, gram.values().to_vec()).unwrap();
        prop_assert_eq!(&gram, &again);
        let pca = Pca::from_gram(&again).unwrap();
        let parts = Pca::from_parts((n, d as u64), pca.explained_variance().to_vec(), pca.left_vectors().to_vec());
        prop_assert_eq!(pca, parts.unwrap());
    }
}
