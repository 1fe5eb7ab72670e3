//! The rooms that are fuzzed, and nothing else of the package: they need none of its other dependencies, so that a
//! build with sanitizers takes a minute or two.

#[path = "../src/checkpoint/mod.rs"]
pub mod checkpoint;
#[path = "../src/ranges.rs"]
pub mod ranges;
#[path = "../src/tensor.rs"]
pub mod tensor;
