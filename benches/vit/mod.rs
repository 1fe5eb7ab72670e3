//! Checkpoints of CLIP ViT-B/16's size for the benchmarks, made from a hash of each weight's position.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use wandb_pca::checkpoint::{NamedTensor, SourceError, TensorSource, WriteError};
use wandb_pca::tensor::Dtype;

use crate::Failure;

/// Names and shapes of CLIP ViT-B/16 as open_clip saves it, without the text blocks; `small` is an eighth as wide.
pub(crate) fn tensors(small: bool) -> Vec<(String, Vec<usize>)> {
    let width = if small { 96 } else { 768 };
    let text = width * 2 / 3;
    let mut list: Vec<(String, Vec<usize>)> = Vec::new();
    let mut add = |name: &str, shape: &[usize]| list.push((name.to_owned(), shape.to_vec()));
    add("positional_embedding", &[77, text]);
    add("text_projection", &[text, text]);
    add("logit_scale", &[]);
    add("visual.class_embedding", &[width]);
    add("visual.positional_embedding", &[197, width]);
    add("visual.proj", &[width, text]);
    add("visual.conv1.weight", &[width, 3, 16, 16]);
    for part in ["weight", "bias"] {
        add(&format!("visual.ln_pre.{part}"), &[width]);
    }
    for block in 0..12 {
        let name = |part: &str| format!("visual.transformer.resblocks.{block}.{part}");
        for part in ["ln_1.weight", "ln_1.bias", "ln_2.weight", "ln_2.bias"] {
            add(&name(part), &[width]);
        }
        add(&name("attn.in_proj_weight"), &[3 * width, width]);
        add(&name("attn.in_proj_bias"), &[3 * width]);
        add(&name("attn.out_proj.weight"), &[width, width]);
        add(&name("attn.out_proj.bias"), &[width]);
        add(&name("mlp.c_fc.weight"), &[4 * width, width]);
        add(&name("mlp.c_fc.bias"), &[4 * width]);
        add(&name("mlp.c_proj.weight"), &[width, 4 * width]);
        add(&name("mlp.c_proj.bias"), &[width]);
    }
    for part in ["weight", "bias"] {
        add(&format!("visual.ln_post.{part}"), &[width]);
    }
    add("token_embedding.weight", &[49_408, text]);
    for part in ["weight", "bias"] {
        add(&format!("ln_final.{part}"), &[text]);
    }
    list
}

/// Weights from a hash of their position: the pretrained model, plus a shared direction and the seed's own noise on the
/// visual side.
#[derive(Debug)]
struct Weights<'a> {
    name: &'a str,
    shape: &'a [usize],
    layer: u64,
    seed: Option<u64>,
}

/// Uniform in −1..1, from SplitMix64's finaliser.
fn noise(stream: u64, at: u64) -> f32 {
    let mut x = stream.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ at.wrapping_mul(0xd1b5_4a32_d192_ed03);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x >> 40) as f32) / (1u64 << 23) as f32 - 1.0
}

impl TensorSource for Weights<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        self.shape
    }

    fn read_le_bytes(&self, start: usize, out: &mut [u8]) -> Result<(), SourceError> {
        let moves = self.name.starts_with("visual.");
        for (offset, bytes) in out.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let at = (start + offset) as u64;
            let mut weight = 0.05 * noise(self.layer, at);
            if let Some(seed) = self.seed.filter(|_| moves) {
                weight += 5e-4 * noise(1000 + self.layer, at) + 2e-4 * noise(10_000 * (seed + 1) + self.layer, at);
            }
            *bytes = weight.to_le_bytes();
        }
        Ok(())
    }
}

/// How a checkpoint is written.
pub(crate) type Writer = fn(&mut BufWriter<File>, &[NamedTensor<'_>]) -> Result<(), WriteError>;

/// Writes the pretrained checkpoint, or that of a seed, unless it is there.
pub(crate) fn make(path: &Path, small: bool, seed: Option<u64>, write: Writer) -> Result<(), Failure> {
    if path.exists() {
        return Ok(());
    }
    let list = tensors(small);
    let parameters: usize = list.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    if !small {
        assert_eq!((list.len(), parameters), (158, 111_792_129), "this is CLIP ViT-B/16 without text blocks");
    }
    let weights: Vec<Weights<'_>> =
        (0u64..).zip(&list).map(|(layer, (name, shape))| Weights { name, shape, layer, seed }).collect();
    let named: Vec<NamedTensor<'_>> = weights.iter().map(|w| NamedTensor::new(w.name, w)).collect();
    let partial = path.with_extension("partial");
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&partial)?);
    write(&mut out, &named)?;
    out.flush()?;
    std::fs::rename(partial, path)?;
    Ok(())
}
