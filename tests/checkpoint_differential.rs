//! Another reader as witness: whatever `pytorch-reader` reads of our fixtures, and of state dicts made at random, has
//! the same values there and here.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use pytorch_reader::PytorchReader;
use wandb_pca::checkpoint::{Checkpoint, NamedTensor, OpenOptions, Prefixes, write_torch};
use wandb_pca::tensor::{Dtype, TensorView};

fn le_bytes(view: &TensorView<'_>) -> Vec<u8> {
    let mut bytes = vec![0; view.len() * view.dtype().size()];
    view.read_le_bytes(0, &mut bytes).unwrap();
    bytes
}

/// Number of tensors that both read, each equal to the bit.
fn compare(path: &Path) -> usize {
    let (Ok(theirs), Ok(ours)) = (PytorchReader::new(path), {
        let mut options = OpenOptions::default();
        options.prefixes = Prefixes::Keep;
        Checkpoint::open(path, &options)
    }) else {
        return 0;
    };
    let mut both = 0;
    for info in ours.tensors() {
        let Some(tensor) = theirs.get(&info.name) else { continue };
        let Ok(data) = tensor.read() else { continue };
        assert_eq!(tensor.shape(), &info.shape[..], "{path:?} {}", info.name);
        assert_eq!(data, le_bytes(&ours.tensor(&info.name).unwrap()), "{path:?} {}", info.name);
        both += 1;
    }
    both
}

#[test]
fn fixtures_read_alike() {
    let mut both = 0;
    for version in ["torch-1.13", "torch-2.13", "frameworks"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/checkpoint").join(version);
        let paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        both += paths.iter().filter(|path| path.is_file()).map(|path| compare(path)).sum::<usize>();
    }
    assert!(both > 500, "only {both} tensors were read by both");
}

const DTYPES: [Dtype; 9] =
    [Dtype::F32, Dtype::F64, Dtype::F16, Dtype::Bf16, Dtype::I64, Dtype::I32, Dtype::I16, Dtype::I8, Dtype::U8];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_state_dicts_read_alike(
        tensors in proptest::collection::vec(
            (0..DTYPES.len(), proptest::collection::vec(1usize..5, 0..4), any::<u8>()), 1..12)
    ) {
        let views: Vec<(String, TensorView<'static>)> = tensors.iter().enumerate().map(|(at, (dtype, shape, seed))| {
            let dtype = DTYPES[*dtype];
            let count = shape.iter().product::<usize>() * dtype.size();
            let bytes: Vec<u8> = (0..count).map(|at| (at as u8).wrapping_mul(37) ^ seed).collect();
            (format!("layer.{at}"), TensorView::contiguous(dtype, shape.clone(), bytes).unwrap())
        }).collect();
        let named: Vec<NamedTensor<'_>> = views.iter().map(|(name, view)| NamedTensor::new(name, view)).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("random.pt");
        let mut file = std::fs::File::create(&path).unwrap();
        write_torch(&mut file, &named).unwrap();
        prop_assert_eq!(compare(&path), views.len());
    }
}
