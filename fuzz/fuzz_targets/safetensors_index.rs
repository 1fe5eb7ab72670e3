//! Any bytes as the header of a safetensors file whose data are 64 bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

mod read_all;

fuzz_target!(|header: &[u8]| {
    read_all::read_all(&[&(header.len() as u64).to_le_bytes(), header, &[7; 64]].concat());
});
