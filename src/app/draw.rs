//! Ways to weigh the seeds of a fit into a new model, and how each is named so that the model is found again.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::analysis::{GENERATOR, SampleRecipe, Scale};
use crate::digest::Sha256;

use super::error::AppError;
use super::fit::labels;
use super::fit_folder::Fit;

/// How models are made from the seeds.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Draw {
    /// From the Gaussian of the fit, each layer on its own.
    Gaussian(Scale),
    /// Uniformly from the simplex that the seeds span, each layer on its own.
    Convex,
    /// The mean of the seeds, which is one model.
    Mean,
    /// (1 − t) · one seed + t · another: one model a position.
    Interpolation {
        /// The seed at t = 0, as the fit calls it.
        from: String,
        /// The seed at t = 1.
        to: String,
        /// The positions; beyond 0..=1 they extrapolate.
        at: Vec<f64>,
    },
    /// mean + Σ z_k v_k with these coefficients, which is one model.
    Coefficients {
        /// The z_k.
        values: Coefficients,
        /// Whether they count standard deviations (√λ_k) or plain lengths.
        scale: Scale,
    },
}

/// Coefficients of the first components; components behind them get 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Coefficients {
    /// The same for every layer.
    All(Vec<f64>),
    /// By layer; a layer that is not named stays at the mean.
    ByLayer(BTreeMap<String, Vec<f64>>),
}

impl Coefficients {
    /// From a JSON file: a list of numbers, or an object of lists by layer.
    ///
    /// # Errors
    /// [`AppError::File`], or [`AppError::NotCoefficients`].
    pub fn read(path: &Path) -> Result<Self, AppError> {
        let text = fs::read(path).map_err(AppError::file("read", path))?;
        let wrong = |reason: String| AppError::NotCoefficients { path: path.to_owned(), reason };
        serde_json::from_slice(&text).map_err(|error| wrong(format!("{error}; a list or an object of lists is read")))
    }

    fn of(&self, layer: &str) -> &[f64] {
        match self {
            Self::All(values) => values,
            Self::ByLayer(layers) => layers.get(layer).map_or(&[], Vec::as_slice),
        }
    }
}

/// A way to draw, with seeds looked up in a fit.
#[derive(Debug)]
pub(super) struct Drawing<'d> {
    draw: &'d Draw,
    random_seed: u64,
    /// Indices of the seeds of an interpolation.
    ends: (usize, usize),
}

impl<'d> Drawing<'d> {
    pub(super) fn new(fit: &Fit, draw: &'d Draw, random_seed: u64) -> Result<Self, AppError> {
        let names = labels(&fit.record);
        let index = |seed: &String| {
            let unknown = || AppError::UnknownSeed { seed: seed.clone(), known: names.clone() };
            names.iter().position(|name| name == seed).ok_or_else(unknown)
        };
        let mut ends = (0, 0);
        match draw {
            Draw::Interpolation { from, to, .. } => ends = (index(from)?, index(to)?),
            Draw::Coefficients { values: Coefficients::ByLayer(layers), .. } => {
                let known = |name: &String| fit.layers.iter().any(|layer| layer.layer.name == *name);
                if let Some(layer) = layers.keys().find(|layer| !known(layer)) {
                    return Err(AppError::UnknownLayer { layer: layer.clone() });
                }
            }
            _ => {}
        }
        Ok(Self { draw, random_seed, ends })
    }

    /// How many models there are when `asked` are wanted.
    pub(super) fn count(&self, asked: u64) -> u64 {
        match self.draw {
            Draw::Gaussian(_) | Draw::Convex => asked,
            Draw::Mean | Draw::Coefficients { .. } => asked.min(1),
            Draw::Interpolation { at, .. } => at.len() as u64,
        }
    }

    /// The recipe of one layer of a model.
    pub(super) fn recipe(&self, layer: &str, number: u64) -> SampleRecipe {
        let seed = self.random_seed;
        match self.draw {
            Draw::Gaussian(scale) => SampleRecipe::Gaussian { scale: *scale, seed, number },
            Draw::Convex => SampleRecipe::Convex { seed, number },
            Draw::Mean => SampleRecipe::Mean,
            Draw::Interpolation { .. } => {
                SampleRecipe::Interpolation { from: self.ends.0, to: self.ends.1, t: self.position(number) }
            }
            Draw::Coefficients { values, scale } => {
                let scores = values.of(layer).to_vec();
                SampleRecipe::Coefficients { scores, whiten: *scale == Scale::Variance }
            }
        }
    }

    fn position(&self, number: u64) -> f64 {
        let Draw::Interpolation { at, .. } = self.draw else { return 0.0 };
        usize::try_from(number).ok().and_then(|number| at.get(number).copied()).unwrap_or_default()
    }

    /// What it is called in folders and aliases: the same for the same model, another for another.
    pub(super) fn name(&self, number: u64) -> String {
        let kind = kind(self.draw);
        match self.draw {
            Draw::Gaussian(_) | Draw::Convex => format!("{kind}-{}-{number}", self.random_seed),
            Draw::Mean => kind.to_owned(),
            Draw::Interpolation { .. } => {
                format!("{kind}-{}-{}-{}", self.ends.0, self.ends.1, self.position(number))
            }
            Draw::Coefficients { values, scale } => {
                let text = serde_json::to_vec(values).unwrap_or_default();
                let digest = Sha256::of(&text).to_hex();
                format!("{kind}-{}-{}", scale_name(*scale), digest.get(..8).unwrap_or(&digest))
            }
        }
    }

    /// Everything needed to make the model again.
    pub(super) fn metadata(&self, fit: &Fit, number: u64) -> Map<String, Value> {
        let mut recipe = Map::new();
        let mut put = |key: &str, value: Value| recipe.insert(key.to_owned(), value);
        put("model", json!(fit.record.model));
        put("dataset", json!(fit.record.dataset));
        put("scale", json!(kind(self.draw)));
        put("name", json!(self.name(number)));
        put("number", json!(number));
        put("seeds", json!(labels(&fit.record)));
        let pretrained = &fit.record.pretrained;
        put("pretrained", json!(pretrained.resolved.as_ref().unwrap_or(&pretrained.input)));
        match self.draw {
            Draw::Gaussian(_) | Draw::Convex => {
                put("random_seed", json!(self.random_seed));
                put("generator", json!(GENERATOR));
            }
            Draw::Mean => {}
            Draw::Interpolation { from, to, .. } => {
                put("from", json!(from));
                put("to", json!(to));
                put("t", json!(self.position(number)));
            }
            Draw::Coefficients { values, scale } => {
                put("coefficients", json!(values));
                put("coefficients_scale", json!(scale_name(*scale)));
            }
        }
        recipe
    }
}

fn kind(draw: &Draw) -> &'static str {
    match draw {
        Draw::Gaussian(scale) => scale_name(*scale),
        Draw::Convex => "convex",
        Draw::Mean => "mean",
        Draw::Interpolation { .. } => "interpolation",
        Draw::Coefficients { .. } => "coefficients",
    }
}

fn scale_name(scale: Scale) -> &'static str {
    match scale {
        Scale::Variance => "variance",
        Scale::Unit => "unit",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_models_apart() {
        let of = |draw: &Draw, seed, number| Drawing { draw, random_seed: seed, ends: (2, 0) }.name(number);
        assert_eq!(of(&Draw::Gaussian(Scale::Variance), 7, 0), "variance-7-0");
        assert_eq!(of(&Draw::Convex, 7, 3), "convex-7-3");
        assert_eq!(of(&Draw::Mean, 7, 0), "mean");
        let at = vec![0.0, 0.25];
        assert_eq!(of(&Draw::Interpolation { from: "c".into(), to: "a".into(), at }, 7, 1), "interpolation-2-0-0.25");
        let chosen = |values: Vec<f64>| Draw::Coefficients { values: Coefficients::All(values), scale: Scale::Unit };
        let (one, other) = (of(&chosen(vec![1.0]), 7, 0), of(&chosen(vec![2.0]), 7, 0));
        assert!(one.starts_with("coefficients-unit-") && one != other, "{one} {other}");
    }

    #[test]
    fn coefficients_are_a_list_or_lists_by_layer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("z.json");
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            Coefficients::read(&path)
        };
        assert_eq!(read("[1, -0.5]").unwrap().of("any"), [1.0, -0.5]);
        let by_layer = read(r#"{"w": [2.0]}"#).unwrap();
        assert_eq!((by_layer.of("w"), by_layer.of("b")), (&[2.0][..], &[][..]));
        for bad in ["3", "[\"a\"]", "{\"w\": 1}", ""] {
            assert!(matches!(read(bad), Err(AppError::NotCoefficients { .. })), "{bad}");
        }
    }
}
