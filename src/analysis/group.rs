//! Layers put together: per block, per kind of module, or the whole model, by the names of their state dict. No I/O.

use crate::analysis::{AnalysisError, Gram};

/// How layers are put together. A group's Gram is the sum of its layers' Grams: that of their concatenation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Grouping {
    /// Each layer by itself.
    Layer,
    /// By the name up to and with its first number: `visual.transformer.resblocks.3`; names without one by all but their
    /// last part (`visual.ln_pre`), or by themselves.
    Block,
    /// By what remains of the name when its numbers become `*`: `visual.transformer.resblocks.*.mlp.c_fc.weight`.
    Module,
    /// Everything.
    Model,
}

impl Grouping {
    /// Every way, from fine to coarse.
    pub const ALL: [Self; 4] = [Self::Layer, Self::Block, Self::Module, Self::Model];

    /// What it is called in tables.
    pub fn label(self) -> &'static str {
        match self {
            Self::Layer => "layer",
            Self::Block => "block",
            Self::Module => "module",
            Self::Model => "model",
        }
    }

    /// Name of the group that this layer is in.
    pub fn name(self, layer: &str) -> String {
        let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let parts: Vec<&str> = layer.split('.').collect();
        match self {
            Self::Layer => layer.to_owned(),
            Self::Model => "model".to_owned(),
            Self::Module => {
                parts.iter().map(|part| if is_number(part) { "*" } else { part }).collect::<Vec<_>>().join(".")
            }
            Self::Block => match parts.iter().position(is_number) {
                Some(number) => parts[..=number].join("."),
                None => parts[..(parts.len() - 1).max(1)].join("."),
            },
        }
    }
}

/// Depth of a layer: the first number in its name, as in `resblocks.3`.
pub fn depth(layer: &str) -> Option<u64> {
    layer.split('.').find_map(|part| part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())?)
}

/// The Grams of the groups, in the order in which their first layers come.
///
/// # Errors
/// [`AnalysisError::SizeMismatch`] when the numbers of seeds differ between layers.
pub fn group<'g>(
    layers: impl IntoIterator<Item = (&'g str, &'g Gram)>,
    grouping: Grouping,
) -> Result<Vec<(String, Gram)>, AnalysisError> {
    let mut groups: Vec<(String, Gram)> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for (layer, gram) in layers {
        let name = grouping.name(layer);
        match places.get(&name).and_then(|&place: &usize| groups.get_mut(place)) {
            Some((_, sum)) => sum.merge(gram)?,
            None => {
                places.insert(name.clone(), groups.len());
                groups.push((name, gram.clone()));
            }
        }
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_groups() {
        let layer = "visual.transformer.resblocks.11.mlp.c_fc.weight";
        assert_eq!(Grouping::Block.name(layer), "visual.transformer.resblocks.11");
        assert_eq!(Grouping::Module.name(layer), "visual.transformer.resblocks.*.mlp.c_fc.weight");
        assert_eq!(Grouping::Block.name("visual.ln_pre.weight"), "visual.ln_pre");
        assert_eq!(Grouping::Block.name("visual.conv1.weight"), "visual.conv1");
        assert_eq!(Grouping::Block.name("logit_scale"), "logit_scale");
        assert_eq!(Grouping::Model.name(layer), "model");
        assert_eq!((depth(layer), depth("visual.conv1.weight"), depth("a..b")), (Some(11), None, None));
    }

    #[test]
    fn a_group_is_the_sum_of_its_layers() {
        let gram = |x: f64, d| Gram::from_values(2, d, vec![x, 0.0, 0.0, x]).unwrap();
        let (a, b, c) = (gram(1.0, 3), gram(2.0, 4), gram(4.0, 5));
        let layers = [("h.0.w", &a), ("norm.w", &b), ("h.1.w", &c)];
        let modules = group(layers, Grouping::Module).unwrap();
        assert_eq!(modules, [("h.*.w".to_owned(), gram(5.0, 8)), ("norm.w".to_owned(), b.clone())]);
        let whole = group(layers, Grouping::Model).unwrap();
        assert_eq!(whole[0].1.values()[0], 7.0);
    }
}
