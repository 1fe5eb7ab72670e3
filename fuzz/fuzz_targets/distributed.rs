//! Any bytes as the `.metadata` of a `torch.distributed.checkpoint` folder, beside the files of the fixtures: whatever
//! opens can be read whole.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use wandb_pca::checkpoint::{Checkpoint, OpenOptions};

mod read_all;

/// A folder of this process with the pieces that the fixtures have.
static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/checkpoint/frameworks");
    // Both fixtures have a file of the first name.
    for (from, to) in [("distributed", "__0_0"), ("distributed_cut", "__0_1"), ("distributed_cut", "__1_0")] {
        let file = if to == "__0_1" { "__0_0" } else { to };
        let place = fixtures.join(from).join(format!("{file}.distcp"));
        std::fs::copy(place, folder.path().join(format!("{to}.distcp"))).unwrap();
    }
    folder
});

fuzz_target!(|metadata: &[u8]| {
    std::fs::write(FOLDER.path().join(".metadata"), metadata).unwrap();
    let Ok(checkpoint) = Checkpoint::open(FOLDER.path(), &OpenOptions::default()) else { return };
    read_all::read_opened(&checkpoint);
});
