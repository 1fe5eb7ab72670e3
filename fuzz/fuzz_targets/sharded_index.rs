//! Any bytes as the index of a sharded checkpoint, beside two sound shards of either kind: it never names a file outside
//! its folder, and whatever opens can be read whole.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use wandb_pca::checkpoint::{Checkpoint, NamedTensor, OpenOptions, write_safetensors, write_torch};
use wandb_pca::tensor::{Dtype, TensorView};

mod read_all;

/// A folder of this process with the shards.
static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    for (at, names) in [["a", "b.weight"], ["c", "d.bias"]].iter().enumerate() {
        let views = names.map(|_| TensorView::contiguous(Dtype::F32, vec![2], vec![at as u8; 8]).unwrap());
        let named: Vec<_> = names.iter().zip(&views).map(|(name, view)| NamedTensor::new(name, view)).collect();
        let create = |ending: &str| std::fs::File::create(folder.path().join(format!("{at}{ending}"))).unwrap();
        write_torch(&mut create(".bin"), &named).unwrap();
        write_safetensors(&mut create(".safetensors"), &named).unwrap();
    }
    folder
});

fuzz_target!(|index: &[u8]| {
    // Anything else would be another kind of file, which other targets open.
    if !index.trim_ascii_start().starts_with(b"{") {
        return;
    }
    let path = FOLDER.path().join("model.index.json");
    std::fs::write(&path, index).unwrap();
    let Ok(checkpoint) = Checkpoint::open(Path::new(&path), &OpenOptions::default()) else { return };
    read_all::read_opened(&checkpoint);
});
