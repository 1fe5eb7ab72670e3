//! Any bytes after the three fixed pickles of a legacy file: whatever opens can be read whole.
#![no_main]

use libfuzzer_sys::fuzz_target;

mod read_all;

const PREAMBLE: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.";

fuzz_target!(|bytes: &[u8]| read_all::read_all(&[PREAMBLE, bytes].concat()));
