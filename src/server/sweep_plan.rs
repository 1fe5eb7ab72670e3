//! What a sweep tries next: the parsed configuration, its grid, its distributions. No I/O; randomness comes from outside.
//!
//! The configuration is the YAML of the official SDK (JSON is YAML, too). Methods `grid` and `random` are planned here;
//! `bayes` and `custom` are refused, by name, when the sweep is made.

use std::collections::BTreeMap;

use rand::{Rng, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Beta, Distribution as _, Normal};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::fault::Fault;

/// A sweep's configuration, as far as planning needs it.
#[derive(Debug, Deserialize)]
pub(super) struct Plan {
    method: Method,
    #[serde(default)]
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) description: Option<String>,
    #[serde(default)]
    pub(super) program: Option<String>,
    #[serde(default)]
    run_cap: Option<usize>,
    #[serde(default)]
    pub(super) metric: Option<Metric>,
    /// Sorted by name: that is the order of a grid.
    #[serde(default)]
    parameters: BTreeMap<String, Parameter>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Method {
    Grid,
    Random,
    Bayes,
    Custom,
}

/// What a sweep improves.
#[derive(Debug, Deserialize)]
pub(super) struct Metric {
    pub(super) name: String,
    #[serde(default)]
    pub(super) goal: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Parameter {
    value: Option<Value>,
    values: Option<Vec<Value>>,
    probabilities: Option<Vec<f64>>,
    distribution: Option<String>,
    min: Option<Value>,
    max: Option<Value>,
    q: Option<f64>,
    mu: Option<f64>,
    sigma: Option<f64>,
    a: Option<f64>,
    b: Option<f64>,
    parameters: Option<BTreeMap<String, Self>>,
}

/// Grids beyond this are not enumerated.
const MAX_GRID: usize = 1_000_000;

impl Plan {
    /// Reads a configuration and refuses what could not be planned later.
    pub(super) fn parse(config: &str) -> Result<Self, Fault> {
        // `y` is a name to the official client's YAML, not a truth.
        let options = serde_saphyr::options! { strict_booleans: true };
        let plan: Self = serde_saphyr::from_str_with_options(config, options)
            .map_err(|error| Fault::invalid(format!("the sweep configuration cannot be read: {error}")))?;
        match plan.method {
            Method::Grid => plan.grid_size().map(drop)?,
            // Any draw tells whether every distribution can be drawn from.
            Method::Random => drop(draw_all(&plan.parameters, &mut ChaCha8Rng::from_seed([0; 32]))?),
            Method::Bayes | Method::Custom => {
                return Err(Fault::invalid(
                    "this server plans sweeps by `grid` or `random`, not by `bayes` or `custom`",
                ));
            }
        }
        Ok(plan)
    }

    /// The method as the schema shows it.
    pub(super) fn method(&self) -> &'static str {
        match self.method {
            Method::Grid => "grid",
            Method::Random => "random",
            Method::Bayes => "bayes",
            Method::Custom => "custom",
        }
    }

    /// How many runs there will be, when that is known.
    pub(super) fn expected(&self) -> Option<usize> {
        let grid = (self.method == Method::Grid).then(|| self.grid_size().unwrap_or(usize::MAX));
        [grid, self.run_cap].into_iter().flatten().min()
    }

    /// The arguments `{name: {"value": …}}` of the run after `issued` others; none when the sweep is over.
    pub(super) fn next(&self, issued: usize, rng: &mut impl Rng) -> Result<Option<Value>, Fault> {
        if self.expected().is_some_and(|expected| issued >= expected) {
            return Ok(None);
        }
        let values = match self.method {
            Method::Grid => pick_all(&self.parameters, issued)?,
            _ => draw_all(&self.parameters, rng)?,
        };
        Ok(Some(values.into_iter().map(|(name, value)| (name, json!({ "value": value }))).collect()))
    }

    fn grid_size(&self) -> Result<usize, Fault> {
        size_all(&self.parameters)
    }
}

fn size_all(parameters: &BTreeMap<String, Parameter>) -> Result<usize, Fault> {
    parameters.iter().try_fold(1_usize, |size, (name, parameter)| {
        let size = size.saturating_mul(parameter.size(name)?);
        if size > MAX_GRID {
            Err(Fault::invalid(format!("the grid has more than {MAX_GRID} points")))
        } else {
            Ok(size)
        }
    })
}

/// The `index`th point of the grid: the last parameter changes fastest.
fn pick_all(parameters: &BTreeMap<String, Parameter>, mut index: usize) -> Result<Map<String, Value>, Fault> {
    let mut values = Vec::with_capacity(parameters.len());
    for (name, parameter) in parameters.iter().rev() {
        let size = parameter.size(name)?.max(1);
        values.push((name.clone(), parameter.pick(name, index % size)?));
        index /= size;
    }
    Ok(values.into_iter().rev().collect())
}

fn draw_all(parameters: &BTreeMap<String, Parameter>, rng: &mut impl Rng) -> Result<Map<String, Value>, Fault> {
    parameters.iter().map(|(name, parameter)| Ok((name.clone(), parameter.draw(name, rng)?))).collect()
}

impl Parameter {
    fn number(&self, name: &str, which: &str) -> Result<f64, Fault> {
        let bound = if which == "min" { &self.min } else { &self.max };
        let number = bound.as_ref().and_then(Value::as_f64).filter(|number| number.is_finite());
        number.ok_or_else(|| Fault::invalid(format!("parameter `{name}` needs a number as `{which}`")))
    }

    fn bounds(&self, name: &str) -> Result<(f64, f64), Fault> {
        let (min, max) = (self.number(name, "min")?, self.number(name, "max")?);
        if min <= max { Ok((min, max)) } else { Err(Fault::invalid(format!("parameter `{name}` has min above max"))) }
    }

    /// The distribution, named or implied as the official clients imply it.
    fn kind(&self) -> &str {
        let integer = |bound: &Option<Value>| bound.as_ref().is_some_and(|value| value.is_i64() || value.is_u64());
        match &self.distribution {
            Some(distribution) => distribution,
            None if self.value.is_some() => "constant",
            None if self.probabilities.is_some() => "categorical_w_probabilities",
            None if self.values.is_some() => "categorical",
            None if self.mu.is_some() || self.sigma.is_some() => "normal",
            None if integer(&self.min) && integer(&self.max) => "int_uniform",
            None => "uniform",
        }
    }

    /// How many values a grid has of it.
    fn size(&self, name: &str) -> Result<usize, Fault> {
        if let Some(nested) = &self.parameters {
            return size_all(nested);
        }
        match self.kind() {
            "constant" => Ok(1),
            "categorical" => Ok(self.values.as_ref().map_or(0, Vec::len)),
            "int_uniform" => self.bounds(name).map(|(min, max)| (max - min) as usize + 1),
            "q_uniform" => self.bounds(name).map(|(min, max)| ((max - min) / self.step()).ceil().max(0.0) as usize),
            other => Err(Fault::invalid(format!("parameter `{name}`: a grid cannot have distribution `{other}`"))),
        }
    }

    fn step(&self) -> f64 {
        self.q.filter(|q| q.is_finite() && *q > 0.0).unwrap_or(1.0)
    }

    /// The `index`th of its grid values.
    fn pick(&self, name: &str, index: usize) -> Result<Value, Fault> {
        if let Some(nested) = &self.parameters {
            return pick_all(nested, index).map(Value::Object);
        }
        match self.kind() {
            "constant" => Ok(self.value.clone().unwrap_or_default()),
            "categorical" => Ok(self.values.as_ref().and_then(|values| values.get(index)).cloned().unwrap_or_default()),
            "int_uniform" => Ok(json!(self.number(name, "min")? as i64 + index as i64)),
            _ => Ok(json!(self.number(name, "min")? + index as f64 * self.step())),
        }
    }

    fn draw(&self, name: &str, rng: &mut impl Rng) -> Result<Value, Fault> {
        if let Some(nested) = &self.parameters {
            return draw_all(nested, rng).map(Value::Object);
        }
        let kind = self.kind();
        let quantised = kind.starts_with("q_");
        let number = match kind.strip_prefix("q_").unwrap_or(kind) {
            "constant" => return Ok(self.value.clone().unwrap_or_default()),
            "categorical" | "categorical_w_probabilities" => return self.choose(name, rng),
            "int_uniform" => {
                let (min, max) = self.bounds(name)?;
                return Ok(json!(rng.random_range(min as i64..=max as i64)));
            }
            "uniform" => self.between(name, rng)?,
            "log_uniform" => self.between(name, rng)?.exp(),
            "log_uniform_values" => self.between_logs(name, rng)?,
            "inv_log_uniform" => 1.0 - self.between(name, rng)?.exp(),
            "inv_log_uniform_values" => {
                let (min, max) = self.bounds(name)?;
                min + max - self.between_logs(name, rng)?
            }
            "normal" => self.gauss(name, rng)?,
            "log_normal" => self.gauss(name, rng)?.exp(),
            "beta" => Beta::new(self.a.unwrap_or(1.0), self.b.unwrap_or(1.0))
                .map_err(|error| Fault::invalid(format!("parameter `{name}`: {error}")))?
                .sample(rng),
            other => return Err(Fault::invalid(format!("parameter `{name}` has unknown distribution `{other}`"))),
        };
        Ok(json!(if quantised { (number / self.step()).round() * self.step() } else { number }))
    }

    fn between(&self, name: &str, rng: &mut impl Rng) -> Result<f64, Fault> {
        let (min, max) = self.bounds(name)?;
        Ok(min + (max - min) * rng.random::<f64>())
    }

    fn between_logs(&self, name: &str, rng: &mut impl Rng) -> Result<f64, Fault> {
        let (min, max) = self.bounds(name)?;
        if min <= 0.0 {
            return Err(Fault::invalid(format!("parameter `{name}` needs bounds above 0")));
        }
        Ok((min.ln() + (max.ln() - min.ln()) * rng.random::<f64>()).exp())
    }

    fn gauss(&self, name: &str, rng: &mut impl Rng) -> Result<f64, Fault> {
        Normal::new(self.mu.unwrap_or(0.0), self.sigma.unwrap_or(1.0))
            .map(|normal| normal.sample(rng))
            .map_err(|error| Fault::invalid(format!("parameter `{name}`: {error}")))
    }

    fn choose(&self, name: &str, rng: &mut impl Rng) -> Result<Value, Fault> {
        let values = self.values.as_deref().unwrap_or_default();
        let weights = match &self.probabilities {
            Some(weights) if weights.len() == values.len() && weights.iter().all(|weight| *weight >= 0.0) => {
                weights.clone()
            }
            Some(_) => return Err(Fault::invalid(format!("parameter `{name}` needs one probability for each value"))),
            None => vec![1.0; values.len()],
        };
        let mut left = rng.random::<f64>() * weights.iter().sum::<f64>();
        let chosen = values.iter().zip(weights).find(|(_, weight)| {
            left -= weight;
            left < 0.0
        });
        let chosen = chosen.map(|(value, _)| value).or(values.last());
        chosen.cloned().ok_or_else(|| Fault::invalid(format!("parameter `{name}` has no values")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(config: &str) -> Vec<Value> {
        let plan = Plan::parse(config).unwrap();
        let mut rng = ChaCha8Rng::from_seed([7; 32]);
        (0..).map_while(|issued| plan.next(issued, &mut rng).unwrap()).collect()
    }

    #[test]
    fn a_grid_is_walked_with_the_last_parameter_fastest() {
        let config = "method: grid\nparameters:\n  b:\n    values: [x, y]\n  a:\n    min: 1\n    max: 2\n  n:\n    parameters:\n      \
                      c:\n        value: 0.5\n";
        let points: Vec<String> =
            all(config).iter().map(|p| format!("{}{}", p["a"]["value"], p["b"]["value"])).collect();
        assert_eq!(points, ["1\"x\"", "1\"y\"", "2\"x\"", "2\"y\""]);
        assert_eq!(all(config)[0]["n"]["value"], json!({ "c": 0.5 }));
        assert_eq!(all(&format!("{config}run_cap: 3\n")).len(), 3);
    }

    #[test]
    fn random_values_stay_in_their_bounds() {
        let config = json!({ "method": "random", "run_cap": 200, "parameters": {
            "i": { "min": 1, "max": 3 }, "u": { "min": 0.0, "max": 1.0 },
            "l": { "distribution": "log_uniform_values", "min": 1e-5, "max": 1e-1 },
            "q": { "distribution": "q_uniform", "min": 0, "max": 10, "q": 5 },
            "w": { "values": ["a", "b"], "probabilities": [0.0, 1.0] }, "n": { "mu": 0, "sigma": 1 } } });
        let points = all(&config.to_string());
        assert_eq!(points.len(), 200);
        for point in points {
            let number = |name: &str| point[name]["value"].as_f64().unwrap();
            assert!((1.0..=3.0).contains(&number("i")) && point["i"]["value"].is_i64());
            assert!((0.0..=1.0).contains(&number("u")) && (1e-5..=1e-1).contains(&number("l")));
            assert!([0.0, 5.0, 10.0].contains(&number("q")) && point["w"]["value"] == "b");
        }
    }

    #[test]
    fn what_cannot_be_planned_is_refused() {
        for bad in [
            "method: bayes",
            "method: nonsense",
            "parameters: {}",
            "method: grid\nparameters: {a: {min: 0.0, max: 1.0}}",
            "method: random\nparameters: {a: {min: 2, max: 1}}",
            "method: random\nparameters: {a: {distribution: strange, min: 1, max: 2}}",
            "method: grid\nparameters: {a: {min: 0, max: 99999999}}",
            "- a",
        ] {
            assert!(Plan::parse(bad).is_err(), "{bad}");
        }
    }
}
