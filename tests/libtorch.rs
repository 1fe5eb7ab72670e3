//! libtorch behind the feature `tch`: both backends agree, tensors come and go unchanged, modules run, and what is not there
//! is said. `tests/libtorch/run` gets libtorch and runs this.
#![allow(
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    reason = "a test may end loudly"
)]

#[path = "support/command.rs"]
mod command;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use command::{command, json, refused};
use proptest::prelude::*;
use serde_json::Value;
use tch::{Kind, Tensor};
use wandb_pca::analysis::{AnalysisError, Checkpoint as Which, Gram, TaskVectors};
use wandb_pca::checkpoint::{Checkpoint, NamedTensor, OpenOptions, write_safetensors, write_torch};
use wandb_pca::libtorch::{Device, LibtorchError, Score, ScriptModule, Torch, borrow, from_torch, share, to_torch};
use wandb_pca::progress::{Event, Progress, Stage, Task, Watch};
use wandb_pca::tensor::{ByteOrder, Dtype, TensorView};

fn silent() -> Task {
    Progress::silent().begin(Stage::Compute, "test", None)
}

fn f64s(values: &[f64]) -> TensorView<'static> {
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    TensorView::contiguous(Dtype::F64, vec![values.len()], bytes).unwrap()
}

/// The values in this dtype, rounded.
fn rounded(dtype: Dtype, values: &[f64]) -> TensorView<'static> {
    let bytes: Vec<u8> = match dtype {
        Dtype::F64 => return f64s(values),
        Dtype::F32 => values.iter().flat_map(|&x| (x as f32).to_le_bytes()).collect(),
        Dtype::F16 => values.iter().flat_map(|&x| half::f16::from_f64(x).to_le_bytes()).collect(),
        Dtype::Bf16 => values.iter().flat_map(|&x| half::bf16::from_f64(x).to_le_bytes()).collect(),
        _ => panic!("no rounding to {dtype}"),
    };
    TensorView::contiguous(dtype, vec![values.len()], bytes).unwrap()
}

/// Numbers that look random and are the same everywhere.
fn noise(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64 - 0.5
    };
    (0..count).map(|_| next()).collect()
}

fn layer(seeds: usize, parameters: usize, dtypes: &[Dtype]) -> TaskVectors<'static> {
    let pretrained = noise(parameters, 1);
    let tuned = (0..seeds).map(|seed| {
        let step = noise(parameters, 2 + seed as u64);
        let values: Vec<f64> = pretrained.iter().zip(step).map(|(base, step)| base + 0.01 * step).collect();
        rounded(dtypes[seed % dtypes.len()], &values)
    });
    TaskVectors::new("w", rounded(dtypes[0], &pretrained), tuned.collect()).unwrap()
}

fn torch(block_bytes: usize) -> Torch {
    Torch::on(Device::Cpu).unwrap().with_block_bytes(block_bytes)
}

/// The tolerance of docs/numerics.md.
fn assert_conform(ours: &Gram, theirs: &Gram, what: &str) {
    let n = ours.seeds();
    assert_eq!((n, ours.parameters()), (theirs.seeds(), theirs.parameters()), "{what}");
    let at = |gram: &Gram, i: usize, j: usize| gram.values()[i * n + j];
    for (i, j) in (0..n).flat_map(|i| (0..n).map(move |j| (i, j))) {
        let scale = (at(ours, i, i) * at(ours, j, j)).sqrt();
        let off = (at(ours, i, j) - at(theirs, i, j)).abs();
        assert!(off <= 64.0 * f64::EPSILON * scale, "{what}: entry ({i}, {j}) is off by {:e}", off / scale);
        assert_eq!(at(theirs, i, j), at(theirs, j, i), "{what}: symmetric to the bit");
    }
}

#[test]
fn both_backends_make_the_same_gram_of_every_shape_and_dtype() {
    let one = [[Dtype::F32], [Dtype::F64], [Dtype::F16], [Dtype::Bf16]];
    let mixed = [Dtype::F32, Dtype::F64, Dtype::Bf16, Dtype::F16];
    let dtypes = one.iter().map(<[_; 1]>::as_slice).chain([mixed.as_slice()]);
    for dtypes in dtypes {
        for seeds in [1, 2, 3, 10, 33] {
            for parameters in [1, 2, 255, 256, 257, 1000, 70_001] {
                let vectors = layer(seeds, parameters, dtypes);
                // The first is cut into blocks of the least width, so that most layers take several.
                for block_bytes in [0, 4 << 20] {
                    let theirs = vectors.gram_by(&torch(block_bytes), &silent()).unwrap();
                    let what = format!("{seeds} × {parameters}, {dtypes:?}, blocks of {block_bytes}");
                    assert_conform(&vectors.gram(&silent()).unwrap(), &theirs, &what);
                }
            }
        }
    }
}

#[test]
fn layers_without_parameters_or_seeds_have_a_gram_of_zeros() {
    let empty = TaskVectors::new("w", f64s(&[]), vec![f64s(&[]), f64s(&[])]).unwrap();
    assert_eq!(empty.gram_by(&torch(0), &silent()).unwrap(), empty.gram(&silent()).unwrap());
    let alone = TaskVectors::new("w", f64s(&[1.0]), vec![]).unwrap();
    assert_eq!(alone.gram_by(&torch(0), &silent()).unwrap(), alone.gram(&silent()).unwrap());
}

#[test]
fn products_with_known_seeds_are_kept_and_the_others_agree() {
    let all = layer(9, 3000, &[Dtype::F32]);
    let part = |range: std::ops::Range<usize>| {
        let tuned = all.fine_tuned()[range].to_vec();
        TaskVectors::new("w", all.pretrained().clone(), tuned).unwrap().gram(&silent()).unwrap()
    };
    let whole = all.gram(&silent()).unwrap();
    for known in
        [vec![], vec![part(0..4)], vec![part(0..4), part(4..9)], vec![part(0..9)], vec![part(0..2), part(2..7)]]
    {
        let known: Vec<&Gram> = known.iter().collect();
        let joined = all.extend_gram_by(&torch(0), &known, &silent()).unwrap();
        assert_conform(&whole, &joined, &format!("{} groups known", known.len()));
        if let Some(first) = known.first() {
            let n = first.seeds();
            let kept: Vec<f64> = (0..n).flat_map(|i| joined.values()[i * 9..i * 9 + n].to_vec()).collect();
            assert_eq!(kept, first.values(), "kept to the bit");
        }
    }
}

/// What lies otherwise than libtorch takes it in place: transposed, big-endian, unaligned, 8-bit floats.
#[test]
fn every_layout_is_read() {
    let values = noise(600, 5);
    let bytes = |big: bool| -> Vec<u8> {
        let of = |x: f64| if big { (x as f32).to_be_bytes() } else { (x as f32).to_le_bytes() };
        values.iter().flat_map(|&x| of(x)).collect()
    };
    let strided = |strides: &[usize], big: bool| {
        let order = if big { ByteOrder::Big } else { ByteOrder::Little };
        TensorView::strided(Dtype::F32, vec![20, 30], strides, 0, bytes(big), order).unwrap()
    };
    let unaligned = [vec![0], bytes(false)].concat();
    let unaligned = TensorView::contiguous(Dtype::F32, vec![20, 30], &unaligned[1..]).unwrap();
    let float8: Vec<u8> = (0..600u32).map(|at| (at % 120) as u8).collect();
    let seeds = vec![
        strided(&[30, 1], false),
        strided(&[1, 20], false),
        strided(&[30, 1], true),
        unaligned,
        TensorView::contiguous(Dtype::F8E4m3, vec![20, 30], float8).unwrap(),
    ];
    let vectors = TaskVectors::new("w", strided(&[1, 20], true), seeds).unwrap();
    let theirs = vectors.gram_by(&torch(0), &silent()).unwrap();
    assert_conform(&vectors.gram(&silent()).unwrap(), &theirs, "layouts");
}

#[test]
fn the_golden_cases_of_scikit_learn_come_out_the_same() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/golden/pca.json")).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() > 10);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let [n, d] = [0, 1].map(|axis| case["shape"][axis].as_u64().unwrap() as usize);
        let x: Vec<f64> = case["x"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
        let rows = x.chunks_exact(d).map(f64s).collect();
        let vectors = TaskVectors::new("w", f64s(&vec![0.0; d]), rows).unwrap();
        let theirs = vectors.gram_by(&torch(0), &silent()).unwrap();
        assert_eq!(theirs.seeds(), n);
        assert_conform(&vectors.gram(&silent()).unwrap(), &theirs, name);
        let pca = vectors.pca(&theirs).unwrap();
        if case["degenerate"] == true {
            assert!(pca.is_degenerate(), "{name}");
            continue;
        }
        let expected: Vec<f64> =
            case["explained_variance"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
        let total: f64 = expected.iter().sum();
        for (found, expected) in pca.explained_variance().iter().zip(&expected) {
            let wanted = if *expected > 1e-12 * total { 1e-9 * expected } else { 1e-12 * total };
            assert!((found - expected).abs() <= wanted, "{name}: {found} is not {expected}");
        }
    }
}

#[test]
fn values_that_are_not_finite_are_refused_in_the_same_words() {
    for (bad, seed, element) in [(f64::NAN, 1, 700), (f64::INFINITY, 0, 0), (f64::NEG_INFINITY, 2, 999)] {
        let mut seeds: Vec<Vec<f64>> = (0..3).map(|seed| noise(1000, seed)).collect();
        seeds[seed][element] = bad;
        let tuned = seeds.iter().map(|values| rounded(Dtype::F32, values)).collect();
        let vectors = TaskVectors::new("w", rounded(Dtype::F32, &noise(1000, 9)), tuned).unwrap();
        let theirs = vectors.gram_by(&torch(0), &silent()).unwrap_err();
        assert_eq!(theirs.to_string(), vectors.gram(&silent()).unwrap_err().to_string());
        let expected = (Which::FineTuned(seed), element);
        assert!(
            matches!(theirs, AnalysisError::NonFinite { checkpoint, element, .. } if (checkpoint, element) == expected)
        );
    }
    let huge = TaskVectors::new("w", f64s(&[0.0; 2]), vec![f64s(&[1e200; 2]), f64s(&[1e200; 2])]).unwrap();
    assert!(matches!(huge.gram_by(&torch(0), &silent()), Err(AnalysisError::Overflow { .. })));
}

#[test]
fn a_checksum_that_was_left_to_compare_is_compared() {
    let values = noise(3000, 8);
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let right = crc32fast::hash(&bytes);
    let stated = |crc32: u32| f64s(&values).with_crc32_to_compare(crc32);
    let layer = |crc32: u32| TaskVectors::new("w", stated(right), vec![stated(right), stated(crc32)]).unwrap();
    layer(right).gram_by(&torch(0), &silent()).unwrap();
    let wrong = layer(right ^ 1);
    let theirs = wrong.gram_by(&torch(0), &silent()).unwrap_err();
    assert!(matches!(theirs, AnalysisError::Damaged { checkpoint: Which::FineTuned(1), .. }), "{theirs}");
    assert_eq!(theirs.to_string(), wrong.gram(&silent()).unwrap_err().to_string());
}

#[test]
fn layers_take_turns_and_each_gets_its_own_gram() {
    let layers: Vec<TaskVectors<'_>> = (1..40).map(|size| layer(4, 97 * size, &[Dtype::F32])).collect();
    let backend = torch(0);
    let grams: Vec<Gram> = std::thread::scope(|scope| {
        let started: Vec<_> =
            layers.iter().map(|vectors| scope.spawn(|| vectors.gram_by(&backend, &silent()).unwrap())).collect();
        started.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (vectors, gram) in layers.iter().zip(&grams) {
        assert_conform(&vectors.gram(&silent()).unwrap(), gram, "in turn");
    }
}

#[test]
fn the_progress_adds_up_to_the_bytes_of_the_layer() {
    #[derive(Debug, Default)]
    struct Sum(AtomicU64);
    impl Watch for Sum {
        fn on_event(&self, event: Event<'_>) {
            if let Event::Advance { amount, .. } = event {
                self.0.fetch_add(amount, Ordering::Relaxed);
            }
        }
    }
    let told = Arc::new(Sum::default());
    let watcher = Arc::clone(&told);
    let task = Progress::new(watcher).begin(Stage::Compute, "test", None);
    let vectors = layer(3, 5000, &[Dtype::F32]);
    vectors.gram_by(&torch(0), &task).unwrap();
    assert_eq!(told.0.load(Ordering::Relaxed), vectors.bytes());
}

fn le_bytes(view: &TensorView<'_>) -> Vec<u8> {
    let mut bytes = vec![0; view.len() * view.dtype().size()];
    view.read_le_bytes(0, &mut bytes).unwrap();
    bytes
}

/// Dtypes that `tch` lacks.
const LACKING: [Dtype; 4] = [Dtype::U16, Dtype::U32, Dtype::U64, Dtype::F8E8m0];

#[test]
fn tensors_of_every_dtype_go_there_and_come_back_to_the_bit() {
    for dtype in Dtype::ALL {
        for shape in [vec![], vec![3], vec![2, 3], vec![2, 0, 3]] {
            let count = shape.iter().product::<usize>() * dtype.size();
            let most = if dtype == Dtype::Bool { 2 } else { 256 };
            let bytes: Vec<u8> = (0..count).map(|at| ((at * 37 + 11) % most) as u8).collect();
            let view = TensorView::contiguous(dtype, shape.clone(), bytes.clone()).unwrap();
            let there = match to_torch(&view) {
                Err(LibtorchError::Dtype { .. }) => {
                    assert!(LACKING.contains(&dtype), "{dtype}");
                    continue;
                }
                there => there.unwrap(),
            };
            assert!(!LACKING.contains(&dtype), "{dtype}");
            let back = from_torch(&there).unwrap();
            assert_eq!((back.dtype(), back.shape(), le_bytes(&back)), (dtype, &shape[..], bytes), "{dtype}");
        }
    }
}

#[test]
fn numbers_mean_the_same_on_both_sides() {
    let values = [1.5, -2.25, 0.0, 1e-3, 448.0];
    for dtype in [Dtype::F64, Dtype::F32, Dtype::F16, Dtype::Bf16] {
        let ours = rounded(dtype, &values);
        let mut read = [0.0; 5];
        ours.read_f64(0, &mut read).unwrap();
        let theirs = Vec::<f64>::try_from(to_torch(&ours).unwrap().to_kind(Kind::Double)).unwrap();
        assert_eq!(theirs, read, "{dtype}");
    }
    // Every 8-bit float, those that are no numbers included.
    for dtype in [Dtype::F8E4m3, Dtype::F8E5m2, Dtype::F8E4m3Fnuz, Dtype::F8E5m2Fnuz] {
        let ours = TensorView::contiguous(dtype, vec![256], (0..=255).collect::<Vec<u8>>()).unwrap();
        let mut read = vec![0.0; 256];
        ours.read_f64(0, &mut read).unwrap();
        let theirs = Vec::<f64>::try_from(to_torch(&ours).unwrap().to_kind(Kind::Float).to_kind(Kind::Double)).unwrap();
        for (at, (ours, theirs)) in read.iter().zip(&theirs).enumerate() {
            assert!(ours == theirs || (ours.is_nan() && theirs.is_nan()), "{dtype} {at:#x}: {ours} is not {theirs}");
        }
    }
    let odd = TensorView::contiguous(Dtype::Bool, vec![3], vec![0, 1, 7]).unwrap();
    assert_eq!(Vec::<bool>::try_from(to_torch(&odd).unwrap()).unwrap(), [false, true, true]);
}

#[test]
fn strides_of_either_side_are_followed() {
    let ours = TensorView::strided(
        Dtype::F32,
        vec![3, 2],
        &[1, 3],
        0,
        [0.0f32, 1.0, 2.0, 3.0, 4.0, 5.0].iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>(),
        ByteOrder::Little,
    )
    .unwrap();
    let there = to_torch(&ours).unwrap();
    assert_eq!(there.size(), [3, 2]);
    assert_eq!(Vec::<f32>::try_from(there.view(-1)).unwrap(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    let back = from_torch(&there.tr()).unwrap();
    assert_eq!((back.shape(), back.as_f32().unwrap()), (&[2, 3][..], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0][..]));
}

#[test]
#[allow(unsafe_code, reason = "what is shared is kept and left alone")]
fn sharing_copies_nothing() {
    let values = noise(100, 3);
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let view = TensorView::contiguous(Dtype::F64, vec![10, 10], bytes.as_slice()).unwrap();
    // SAFETY: `bytes` outlives the tensors made here, and nothing writes to them.
    let there = unsafe { share(&view) }.unwrap().unwrap();
    assert_eq!(there.data_ptr().cast_const().cast::<u8>(), view.as_le_bytes().unwrap().as_ptr());
    assert_eq!(there.size(), [10, 10]);
    assert_eq!(Vec::<f64>::try_from(there.view(-1)).unwrap(), values);
    let transposed = there.tr();
    // SAFETY: nothing writes to the tensor.
    let back = unsafe { borrow(&transposed) }.unwrap().unwrap();
    assert_eq!(back.shape(), [10, 10]);
    let mut read = vec![0.0; 100];
    back.read_f64(0, &mut read).unwrap();
    assert_eq!((read[1], read[10]), (values[10], values[1]), "strides come along");
    // SAFETY: as above.
    let (unaligned, none) = unsafe {
        let part = TensorView::contiguous(Dtype::F32, vec![4], &bytes[1..17]).unwrap();
        let bools = TensorView::contiguous(Dtype::Bool, vec![4], &bytes[..4]).unwrap();
        (share(&part).unwrap(), share(&bools).unwrap())
    };
    assert!(unaligned.is_none() && none.is_none(), "these are for copying");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    #[allow(unsafe_code, reason = "what is borrowed is left alone")]
    fn whatever_libtorch_does_to_strides_is_read_the_same(
        sizes in prop::collection::vec(1i64..5, 1..4), order in any::<u64>(), narrow in 0i64..3,
    ) {
        let count: i64 = sizes.iter().product();
        let mut tensor = Tensor::arange(count, (Kind::Float, Device::Cpu)).view(sizes.as_slice());
        let mut axes: Vec<i64> = (0..sizes.len() as i64).collect();
        axes.sort_by_key(|axis| order.rotate_left(7 * *axis as u32));
        tensor = tensor.permute(axes);
        let first = tensor.size()[0];
        tensor = tensor.narrow(0, narrow.min(first - 1), first - narrow.min(first - 1));
        let copied = from_torch(&tensor).unwrap();
        // SAFETY: nothing writes to the tensor.
        let borrowed = unsafe { borrow(&tensor) }.unwrap().unwrap();
        prop_assert_eq!(borrowed.shape(), copied.shape());
        prop_assert_eq!(le_bytes(&borrowed), le_bytes(&copied));
    }
}

fn fixture(name: &str) -> String {
    format!("{}/fixtures/checkpoint/torch-2.13/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The scripted network of the fixtures, written by PyTorch: scale · batchnorm(linear(x)), 3 → 2.
fn by_hand(script: &Checkpoint, x: [f64; 3]) -> [f64; 2] {
    let read = |name: &str| {
        let view = script.tensor(name).unwrap();
        let mut values = vec![0.0; view.len()];
        view.read_f64(0, &mut values).unwrap();
        values
    };
    let (weight, bias) = (read("lin.weight"), read("lin.bias"));
    let [gain, shift, mean, variance] = ["bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"].map(read);
    std::array::from_fn(|i| {
        let linear = bias[i] + (0..3).map(|j| weight[i * 3 + j] * x[j]).sum::<f64>();
        let normed = (linear - mean[i]) / (variance[i] + 1e-5).sqrt();
        read("scale")[0] * (gain[i] * normed + shift[i])
    })
}

#[test]
fn a_module_runs_with_the_parameters_and_buffers_that_it_is_written_with() {
    let path = fixture("scripted.pt");
    let script = Checkpoint::open(path.as_ref(), &OpenOptions::default()).unwrap();
    let x = [0.5, -1.5, 2.0];
    let run = |archive: &[u8]| {
        let module = ScriptModule::load(&mut &*archive, path.as_ref(), Device::Cpu).unwrap();
        let inputs = Tensor::from_slice(&x.map(|x| x as f32)).view([1, 3]);
        let outputs = module.outputs(&inputs, 1).unwrap().to_kind(Kind::Double);
        Vec::<f64>::try_from(outputs.view(-1)).unwrap()
    };
    let near = |found: &[f64], expected: [f64; 2]| {
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{found} is not {expected}");
        }
    };
    near(&run(&fs::read(&path).unwrap()), by_hand(&script, x));
    let other = [("lin.weight", 6, 21), ("bn.running_mean", 2, 22), ("scale", 1, 23)].map(|(name, count, seed)| {
        let shape = script.info(name).unwrap().shape.clone();
        let bytes: Vec<u8> = noise(count, seed).iter().flat_map(|&x| (x as f32).to_le_bytes()).collect();
        (name, TensorView::contiguous(Dtype::F32, shape, bytes).unwrap())
    });
    let tensors: Vec<_> = other.iter().map(|(name, view)| NamedTensor::new(name, view)).collect();
    let mut archive = Vec::new();
    script.write_with(&mut archive, &tensors).unwrap();
    let changed = Checkpoint::from_bytes("changed", archive.clone(), &OpenOptions::default()).unwrap();
    near(&run(&archive), by_hand(&changed, x));
    assert_ne!(by_hand(&changed, x), by_hand(&script, x));
}

#[test]
fn scores_are_the_cross_entropy_and_the_share_of_hits() {
    let outputs = Tensor::from_slice(&[2.0, 0.0, 0.0, 1.0, 0.0, 3.0]).view([3, 2]);
    let score = Score::of(&outputs, &Tensor::from_slice(&[0i64, 1, 0])).unwrap();
    let loss = |margin: f64| (1.0 + (-margin).exp()).ln();
    let expected = (loss(2.0) + loss(1.0) + loss(-3.0)) / 3.0;
    assert!((score.loss - expected).abs() < 1e-12, "{} is not {expected}", score.loss);
    assert_eq!((score.samples, score.correct), (3, 2));
    // A model that broke is wrong everywhere, whatever is largest.
    let broken = Tensor::from_slice(&[f64::NAN, 0.0, f64::INFINITY, 1.0]).view([2, 2]);
    let score = Score::of(&broken, &Tensor::from_slice(&[0i64, 0])).unwrap();
    assert!(!score.loss.is_finite());
    assert_eq!((score.correct, score.accuracy()), (0, 0.0));
    for labels in [vec![0i64, 2, 0], vec![-1, 0, 0], vec![0, 1]] {
        let error = Score::of(&outputs, &Tensor::from_slice(&labels)).unwrap_err();
        assert!(matches!(error, LibtorchError::Batch { .. }), "{error}");
    }
}

/// A pretrained checkpoint and three seeds for the scripted network, and data for it.
fn network(folder: &Path) {
    let script = Checkpoint::open(fixture("scripted.pt").as_ref(), &OpenOptions::default()).unwrap();
    for seed in 0..4u64 {
        let views: Vec<(String, TensorView<'_>)> = script
            .tensors()
            .iter()
            .map(|info| {
                let view = script.tensor(&info.name).unwrap();
                // Variances stay positive.
                if info.dtype != Dtype::F32 || info.name == "bn.running_var" {
                    return (info.name.clone(), view);
                }
                let mut values = vec![0.0; view.len()];
                view.read_f64(0, &mut values).unwrap();
                let moved = values.iter().zip(noise(values.len(), seed)).map(|(x, step)| x + 0.1 * seed as f64 * step);
                let bytes: Vec<u8> = moved.flat_map(|x| (x as f32).to_le_bytes()).collect();
                (info.name.clone(), TensorView::contiguous(Dtype::F32, info.shape.clone(), bytes).unwrap())
            })
            .collect();
        let named: Vec<_> = views.iter().map(|(name, view)| NamedTensor::new(name, view)).collect();
        let name = if seed == 0 { "pt.ckpt".to_owned() } else { format!("ft_{}.ckpt", seed - 1) };
        write_torch(&mut fs::File::create(folder.join(name)).unwrap(), &named).unwrap();
    }
    let inputs: Vec<u8> = noise(60, 40).iter().flat_map(|&x| (x as f32).to_le_bytes()).collect();
    let labels: Vec<u8> = (0..20i64).flat_map(|at| (at % 2).to_le_bytes()).collect();
    let inputs = TensorView::contiguous(Dtype::F32, vec![20, 3], inputs).unwrap();
    let labels = TensorView::contiguous(Dtype::I64, vec![20], labels).unwrap();
    let named = [NamedTensor::new("inputs", &inputs), NamedTensor::new("labels", &labels)];
    write_safetensors(&mut fs::File::create(folder.join("data.safetensors")).unwrap(), &named).unwrap();
    fs::copy(fixture("scripted.pt"), folder.join("scripted.pt")).unwrap();
}

fn in_folder(folder: &Path, arguments: &[&str]) -> std::process::Output {
    command(arguments).env("WANDB_CACHE_DIR", folder.join("cache")).current_dir(folder).output().unwrap()
}

const FIT: [&str; 9] =
    ["fit", "--pretrained", "pt.ckpt", "--finetuned", "ft_{seed}.ckpt", "--seeds", "0..2", "--no-log", "--json"];

#[test]
fn a_fit_by_libtorch_is_the_built_in_one_and_says_who_made_it() {
    let folder = tempfile::tempdir().unwrap();
    network(folder.path());
    let fit = |more: &[&str]| json(&in_folder(folder.path(), &[&FIT[..], more].concat()));
    let ours = fit(&["--out", "ours"]);
    let theirs = fit(&["--out", "theirs", "--device", "cpu"]);
    let variances = |fit: &Value| -> Vec<f64> {
        fit["layers"].as_array().unwrap().iter().map(|layer| layer["total_variance"].as_f64().unwrap()).collect()
    };
    assert!(variances(&ours).len() > 4);
    for (ours, theirs) in variances(&ours).iter().zip(variances(&theirs)) {
        assert!((ours - theirs).abs() <= 1e-12 * ours, "{theirs} is not {ours}");
    }
    let backend = |name: &str| -> Value {
        let text = fs::read(folder.path().join(name).join("fit.json")).unwrap();
        serde_json::from_slice::<Value>(&text).unwrap()["backend"].clone()
    };
    assert_eq!(backend("ours"), "built-in");
    assert_eq!(backend("theirs"), "libtorch 2.13.0 on cpu");
    // With no more than three rows no GPU is worth its while, whether there is one or not.
    fit(&["--out", "auto", "--device", "auto"]);
    assert_eq!(backend("auto"), "built-in");
    let compared = ["compare", "ours", "theirs", "--out", "both", "--device", "cpu", "--no-log", "--json"];
    json(&in_folder(folder.path(), &compared));
    let record: Value = serde_json::from_slice(&fs::read(folder.path().join("both/compare.json")).unwrap()).unwrap();
    assert_eq!(record["backend"], "libtorch 2.13.0 on cpu");
}

#[test]
fn a_device_that_is_not_there_is_refused_before_anything_is_read() {
    let folder = tempfile::tempdir().unwrap();
    network(folder.path());
    let output = in_folder(folder.path(), &[&FIT[..], &["--device", "cuda:63"]].concat());
    refused(&output, 3, &["cannot compute on cuda:63", "there is no cuda:63"]);
    let output = in_folder(folder.path(), &[&FIT[..], &["--device", "gpu"]].concat());
    refused(&output, 2, &["one of built-in, cpu, cuda:N and auto is meant"]);
    let output = in_folder(folder.path(), &[&FIT[..], &["--device", "cpu", "--interference"]].concat());
    refused(&output, 2, &["cannot be used with"]);
}

fn evaluate(folder: &Path, more: &[&str]) -> std::process::Output {
    let arguments = ["evaluate", "--module", "scripted.pt", "--data", "data.safetensors", "--json"];
    in_folder(folder, &[&arguments[..], more].concat())
}

#[test]
fn a_sweep_has_seeds_mean_and_samples_and_a_written_sample_does_the_same() {
    let folder = tempfile::tempdir().unwrap();
    network(folder.path());
    json(&in_folder(folder.path(), &[&FIT[..], &["--out", "fit"]].concat()));
    let sweep = ["--weights", "fit", "--scales", "2,0,1", "--samples", "2", "--random-seed", "7"];
    let found = json(&evaluate(folder.path(), &sweep));
    let models = found["models"].as_array().unwrap();
    let names: Vec<&str> = models.iter().map(|model| model["model"].as_str().unwrap()).collect();
    let expected = [
        "pretrained",
        "seed 0",
        "seed 1",
        "seed 2",
        "mean",
        "sample 0 at 1",
        "sample 1 at 1",
        "sample 0 at 2",
        "sample 1 at 2",
    ];
    assert_eq!(names, expected);
    assert_eq!((found["samples"].as_u64(), found["backend"].as_str()), (Some(20), Some("libtorch 2.13.0 on cpu")));
    let number = |model: &Value, key: &str| model[key].as_f64().unwrap();
    let distance = |at: usize| number(&models[at], "distance_to_mean");
    assert!(distance(4) < 1e-6 && (distance(7) / distance(5) - 2.0).abs() < 1e-9, "twice as far");
    let sample = ["sample", "fit", "--count", "2", "--random-seed", "7", "--format", "torch,safetensors", "--json"];
    let written = json(&in_folder(folder.path(), &sample));
    for (at, model) in written["models"].as_array().unwrap().iter().enumerate() {
        let file = Path::new(model["files"][1].as_str().unwrap());
        for weights in [file, file.parent().unwrap()] {
            let alone = json(&evaluate(folder.path(), &["--weights", weights.to_str().unwrap()]));
            let [alone] = alone["models"].as_array().unwrap().as_slice() else { panic!("one model") };
            assert_eq!(number(alone, "loss"), number(&models[5 + at], "loss"), "to the bit");
            assert_eq!(number(alone, "accuracy"), number(&models[5 + at], "accuracy"));
        }
    }
}

#[test]
fn what_does_not_fit_together_is_told() {
    let folder = tempfile::tempdir().unwrap();
    network(folder.path());
    let refuse = |more: &[&str], code: i32, words: &[&str]| refused(&evaluate(folder.path(), more), code, words);
    refuse(&["--weights", "pt.ckpt", "--labels", "classes"], 1, &["classes", "data.safetensors"]);
    refuse(&["--weights", "pt.ckpt", "--inputs", "labels"], 1, &["cannot run scripted.pt with pt.ckpt", "libtorch: "]);
    refuse(&["--weights", "data.safetensors"], 1, &["they lack scale", "the module lacks inputs", "--partial"]);
    refuse(&["--weights", "data.safetensors", "--partial"], 1, &["they lack"]);
    refuse(&["--weights", "nowhere.ckpt"], 3, &["no file at `nowhere.ckpt`"]);
    refuse(&["--weights", "pt.ckpt", "--device", "cuda:63"], 3, &["there is no cuda:63"]);
    let module = ["evaluate", "--data", "data.safetensors", "--weights", "pt.ckpt", "--module"];
    let output = in_folder(folder.path(), &[&module[..], &["pt.ckpt"]].concat());
    refused(&output, 1, &["pt.ckpt is no TorchScript module, but a torch file", "torch.jit.script"]);
    // Our reader takes the archive, libtorch does not: its code is gone.
    let mut broken = Vec::new();
    let script = fs::read(folder.path().join("scripted.pt")).unwrap();
    let mut from = zip::ZipArchive::new(std::io::Cursor::new(script)).unwrap();
    let mut to = zip::ZipWriter::new(std::io::Cursor::new(&mut broken));
    for at in 0..from.len() {
        let record = from.by_index_raw(at).unwrap();
        if !record.name().contains("/code/") {
            to.raw_copy_file(record).unwrap();
        }
    }
    to.finish().unwrap();
    fs::write(folder.path().join("broken.pt"), broken).unwrap();
    let output = in_folder(folder.path(), &[&module[..], &["broken.pt"]].concat());
    refused(&output, 1, &["broken.pt", "is no TorchScript module"]);
}

#[test]
fn partial_weights_leave_the_rest_of_the_module_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    network(folder.path());
    let whole = Checkpoint::open(&folder.path().join("ft_2.ckpt"), &OpenOptions::default()).unwrap();
    let (lin, extra) = (whole.tensor("lin.weight").unwrap(), f64s(&[1.0]));
    let named = [NamedTensor::new("lin.weight", &lin), NamedTensor::new("head.weight", &extra)];
    write_torch(&mut fs::File::create(folder.path().join("part.ckpt")).unwrap(), &named).unwrap();
    let found =
        json(&evaluate(folder.path(), &["--weights", "part.ckpt", "--partial", "--outputs", "out.safetensors"]));
    assert_eq!(found["unused"], serde_json::json!(["head.weight"]));
    assert_eq!(found["kept"].as_array().unwrap().len(), whole.tensors().len() - 1);
    // The same by hand: the script's own values with the other `lin.weight`.
    let script = Checkpoint::open(fixture("scripted.pt").as_ref(), &OpenOptions::default()).unwrap();
    let mut archive = Vec::new();
    script.write_with(&mut archive, &named[..1]).unwrap();
    let expected = Checkpoint::from_bytes("expected", archive, &OpenOptions::default()).unwrap();
    let outputs = Checkpoint::open(&folder.path().join("out.safetensors"), &OpenOptions::default()).unwrap();
    let outputs = outputs.tensor("part.ckpt").unwrap();
    let data = Checkpoint::open(&folder.path().join("data.safetensors"), &OpenOptions::default()).unwrap();
    let (outputs, inputs) = (outputs.as_f32().unwrap().to_vec(), data.tensor("inputs").unwrap());
    let mut x = [0.0; 60];
    inputs.read_f64(0, &mut x).unwrap();
    for (found, x) in outputs.chunks_exact(2).zip(x.chunks_exact(3)) {
        let expected = by_hand(&expected, [x[0], x[1], x[2]]);
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (f64::from(*found) - expected).abs() <= 1e-6 * expected.abs().max(1.0),
                "{found} is not {expected}"
            );
        }
    }
}
