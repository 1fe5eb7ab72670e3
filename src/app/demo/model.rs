//! The demo's experiment: a small vision transformer and its fine-tuned seeds, made by arithmetic instead of training.
//!
//! Names and proportions are those of CLIP ViT-B/16 as open_clip saves it with the text blocks left out: a frozen text
//! side, a scalar `logit_scale`, a patch embedding of rank 4, blocks of attention and MLP. The task vectors have the
//! structure that real ones show: a direction that all seeds of a dataset share, seed noise of low rank on top of an
//! isotropic floor, and a size that grows with depth.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use rand_distr::{Distribution as _, StandardNormal};

const TOKENS: usize = 50;
const EMBEDDING: usize = 64;
const TEXT_WIDTH: usize = 64;
const CONTEXT: usize = 77;

/// Rank of the seed noise that carries most of the variance, with the standard deviation of each direction.
const SEED_DIRECTIONS: [f32; 3] = [1.0, 0.5, 0.25];
/// Standard deviation of the isotropic seed noise, relative to the first seed direction.
const FLOOR: f32 = 0.05;

/// One tensor of the demo's model.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct DemoTensor {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<f32>,
}

/// How large the model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) width: usize,
    pub(super) blocks: usize,
    /// Pixels along the edge of a patch.
    pub(super) patch: usize,
    /// Rows of the frozen token embedding.
    pub(super) vocabulary: usize,
}

/// What to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DemoModel {
    /// Before fine-tuning.
    Pretrained,
    /// After fine-tuning on a dataset (by number) with a seed.
    FineTuned { dataset: u64, seed: u64 },
}

/// The state dict of a model: the same for the same argument on every machine.
pub(super) fn state_dict(size: Size, model: DemoModel) -> Vec<DemoTensor> {
    layers(size).into_iter().enumerate().map(|(index, layer)| layer.tensor(index as u64, model)).collect()
}

struct LayerPlan {
    name: String,
    shape: Vec<usize>,
    /// Standard deviation of the pretrained weights.
    spread: f32,
    /// Value around which they lie: 1 for the weights of a layer norm.
    centre: f32,
    /// Size of the task vector relative to `spread`; 0 for what fine-tuning leaves alone.
    plasticity: f32,
}

impl LayerPlan {
    fn tensor(self, index: u64, model: DemoModel) -> DemoTensor {
        let count = self.shape.iter().product();
        let mut values: Vec<f32> =
            normals(&[index, 0]).take(count).map(|z: f32| self.centre + self.spread * z).collect();
        if let DemoModel::FineTuned { dataset, seed } = model
            && self.plasticity > 0.0
        {
            let size = self.spread * self.plasticity;
            let mut add = |stream: &[u64], factor: f32| {
                values.iter_mut().zip(normals(stream)).for_each(|(value, z)| *value += size * factor * z);
            };
            add(&[index, 1, dataset], 1.0);
            let coefficients: Vec<f32> = normals(&[u64::MAX, dataset, seed]).take(SEED_DIRECTIONS.len()).collect();
            for (k, (scale, coefficient)) in SEED_DIRECTIONS.iter().zip(coefficients).enumerate() {
                add(&[index, 2, dataset, k as u64], scale * coefficient);
            }
            add(&[index, 3, dataset, seed], FLOOR);
        }
        DemoTensor { name: self.name, shape: self.shape, values }
    }
}

/// An endless stream of standard normals, one for each list of numbers.
fn normals(stream: &[u64]) -> impl Iterator<Item = f32> {
    let mut seed = [0u8; 32];
    for (slot, number) in seed.chunks_exact_mut(8).zip(stream) {
        slot.copy_from_slice(&number.wrapping_add(1).to_le_bytes());
    }
    let mut generator = ChaCha8Rng::from_seed(seed);
    std::iter::repeat_with(move || StandardNormal.sample(&mut generator))
}

/// The layers in the order in which open_clip saves them.
fn layers(Size { width, blocks, patch, vocabulary }: Size) -> Vec<LayerPlan> {
    let mut plan = Plan(Vec::new());
    plan.frozen("model.positional_embedding", &[CONTEXT, TEXT_WIDTH]);
    plan.frozen("model.text_projection", &[TEXT_WIDTH, EMBEDDING]);
    plan.add("model.logit_scale", &[], (4.6052, 0.0), 0.0);
    plan.weight("model.visual.class_embedding", &[width], 0.02);
    plan.weight("model.visual.positional_embedding", &[TOKENS, width], 0.02);
    plan.weight("model.visual.proj", &[width, EMBEDDING], 0.12);
    plan.weight("model.visual.conv1.weight", &[width, 3, patch, patch], 0.03);
    plan.norm("model.visual.ln_pre", width, 0.02);
    for block in 0..blocks {
        plan.block(&format!("model.visual.transformer.resblocks.{block}"), width, 0.04 * (1.0 + block as f32));
    }
    plan.norm("model.visual.ln_post", width, 0.1);
    plan.frozen("model.token_embedding.weight", &[vocabulary, TEXT_WIDTH]);
    plan.add("model.ln_final.weight", &[TEXT_WIDTH], (1.0, 0.05), 0.0);
    plan.add("model.ln_final.bias", &[TEXT_WIDTH], (0.0, 0.05), 0.0);
    plan.0
}

struct Plan(Vec<LayerPlan>);

impl Plan {
    /// `values` is centre and spread.
    fn add(&mut self, name: &str, shape: &[usize], values: (f32, f32), plasticity: f32) {
        let (centre, spread) = values;
        self.0.push(LayerPlan { name: name.to_owned(), shape: shape.to_vec(), spread, centre, plasticity });
    }

    fn frozen(&mut self, name: &str, shape: &[usize]) {
        self.add(name, shape, (0.0, 0.02), 0.0);
    }

    /// Weights of fan-in scale, as initialised.
    fn weight(&mut self, name: &str, shape: &[usize], plasticity: f32) {
        let fan_in: usize = shape.iter().skip(1).product::<usize>().max(1);
        self.add(name, shape, (0.0, 1.0 / (fan_in as f32).sqrt()), plasticity);
    }

    fn norm(&mut self, name: &str, width: usize, plasticity: f32) {
        self.add(&format!("{name}.weight"), &[width], (1.0, 0.05), plasticity);
        self.add(&format!("{name}.bias"), &[width], (0.0, 0.05), plasticity);
    }

    fn block(&mut self, name: &str, width: usize, plasticity: f32) {
        self.norm(&format!("{name}.ln_1"), width, plasticity);
        self.weight(&format!("{name}.attn.in_proj_weight"), &[3 * width, width], plasticity);
        self.add(&format!("{name}.attn.in_proj_bias"), &[3 * width], (0.0, 0.05), plasticity);
        self.weight(&format!("{name}.attn.out_proj.weight"), &[width, width], plasticity);
        self.add(&format!("{name}.attn.out_proj.bias"), &[width], (0.0, 0.05), plasticity);
        self.norm(&format!("{name}.ln_2"), width, plasticity);
        self.weight(&format!("{name}.mlp.c_fc.weight"), &[4 * width, width], 1.5 * plasticity);
        self.add(&format!("{name}.mlp.c_fc.bias"), &[4 * width], (0.0, 0.05), plasticity);
        self.weight(&format!("{name}.mlp.c_proj.weight"), &[width, 4 * width], 1.5 * plasticity);
        self.add(&format!("{name}.mlp.c_proj.bias"), &[width], (0.0, 0.05), plasticity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { width: 96, blocks: 4, patch: 16, vocabulary: 1024 };

    #[test]
    fn the_model_is_clip_in_small() {
        let tensors = state_dict(SIZE, DemoModel::Pretrained);
        let parameters: usize = tensors.iter().map(|tensor| tensor.values.len()).sum();
        assert_eq!(tensors.len(), 14 + 12 * SIZE.blocks);
        assert!((400_000..2_000_000).contains(&parameters), "{parameters}");
        let shape = |name: &str| tensors.iter().find(|tensor| tensor.name == name).map(|tensor| tensor.shape.clone());
        assert_eq!(shape("model.logit_scale"), Some(vec![]));
        assert_eq!(shape("model.visual.conv1.weight").map(|shape| shape.len()), Some(4));
    }

    #[test]
    fn seeds_differ_where_fine_tuning_reaches_and_nowhere_else() {
        let pretrained = state_dict(SIZE, DemoModel::Pretrained);
        let one = state_dict(SIZE, DemoModel::FineTuned { dataset: 0, seed: 0 });
        let two = state_dict(SIZE, DemoModel::FineTuned { dataset: 0, seed: 1 });
        assert_eq!(one, state_dict(SIZE, DemoModel::FineTuned { dataset: 0, seed: 0 }));
        for ((before, one), two) in pretrained.iter().zip(&one).zip(&two) {
            let frozen = !before.name.contains(".visual.");
            assert_eq!(before.values == one.values, frozen, "{}", before.name);
            assert_eq!(one.values == two.values, frozen, "{}", before.name);
        }
    }
}
