//! Any bytes as a pickle: parsed or refused, never a panic, and no more consumed than there was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wandb_pca::checkpoint::pickle::Pickle;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(pickle) = Pickle::parse(bytes) {
        assert!(pickle.consumed() <= bytes.len());
        let _ = pickle.deref(pickle.root());
    }
});
