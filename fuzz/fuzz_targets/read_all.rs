//! Opens bytes as a checkpoint and reads every element of what opens.

use wandb_pca::checkpoint::{Checkpoint, OpenOptions};

#[allow(dead_code, reason = "targets that open files use the other one")]
pub(crate) fn read_all(bytes: &[u8]) {
    if let Ok(checkpoint) = Checkpoint::from_bytes("fuzz", bytes, &OpenOptions::default()) {
        read_opened(&checkpoint);
    }
}

pub(crate) fn read_opened(checkpoint: &Checkpoint) {
    for info in checkpoint.tensors() {
        // An expanded tensor may be 64 MiB long: its first elements will do.
        let Ok(view) = checkpoint.tensor(&info.name) else { continue };
        let count = view.len().min(4096);
        let mut block = vec![0; count * view.dtype().size()];
        assert!(view.read_le_bytes(0, &mut block).is_ok());
        assert!(view.read_le_bytes(view.len() - count, &mut block).is_ok());
        let mut numbers = vec![0.0; count];
        assert_eq!(view.read_f64(0, &mut numbers).is_ok(), !view.dtype().is_complex());
    }
}
