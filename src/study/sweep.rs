//! W&B sweeps as text: the configuration that makes a study a grid sweep, and the parameters that an agent hands to our
//! program. No I/O: the caller reads the file that `WANDB_SWEEP_PARAM_PATH` names.
//!
//! The agent expands the `${…}` elements of `command` and gives each run one combination, as `--model=… --dataset=…` and
//! as a parameter file (`wandb_version: 1`, then `name:` with `value:` below). Values print in Python's style.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;

use super::discover::scalar;
use super::spec::{LayerFilter, Spec, SpecProblem};
use crate::digest::Sha256;

/// One combination of a sweep over a study.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The model.
    pub model: String,
    /// The dataset.
    pub dataset: String,
    /// The only layers to take, as a glob, in place of the study's.
    pub layers: Option<String>,
    /// The only seeds to take, such as `0..4`, in place of the study's.
    pub seeds: Option<String>,
}

/// Parameters that name no cell of the study.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AssignmentError {
    /// The parameter file is not of W&B's form.
    #[error(
        "the sweep's parameter file is not a mapping from names to values (line {line}, column {column}: {reason})"
    )]
    NotParameters {
        /// Line, from 1; 0 when unknown.
        line: u64,
        /// Column, from 1; 0 when unknown.
        column: u64,
        /// What the parser says.
        reason: String,
    },
    /// An argument that is not `--name=value`.
    #[error("`{argument}` is not a sweep parameter: it should be --name=value")]
    NotAnArgument {
        /// The argument.
        argument: String,
    },
    /// A parameter that means nothing to a study.
    #[error("`{name}` is not a parameter of a study; there are model, dataset, layers and seeds")]
    Unknown {
        /// Its name.
        name: String,
    },
    /// A parameter that every cell needs.
    #[error("the sweep gives no `{name}`")]
    Lacks {
        /// Its name.
        name: &'static str,
    },
    /// A value that is not in the study.
    #[error("the study has no {name} `{value}`")]
    NotInStudy {
        /// Of which parameter.
        name: &'static str,
        /// The value.
        value: String,
    },
    /// A value that makes no sense.
    #[error("the sweep's `{name}` makes no sense")]
    Invalid {
        /// Of which parameter.
        name: &'static str,
        /// Why.
        #[source]
        source: SpecProblem,
    },
}

/// The configuration of a grid sweep over the cells of a study, as YAML. `command` is our program with the arguments
/// that make it run one cell; the parameters are appended by the agent.
pub fn configuration(spec: &Spec, command: &[String]) -> String {
    let mut text = String::new();
    let program = command.first().map_or("wandb-pca", String::as_str);
    let _ = writeln!(text, "name: {}\nmethod: grid\nprogram: {}\ncommand:", scalar(&spec.name), scalar(program));
    for word in command.iter().map(String::as_str).chain(["${args}"]) {
        let _ = writeln!(text, "  - {}", scalar(word));
    }
    text.push_str("parameters:\n");
    let mut parameter = |name: &str, values: &[String]| {
        let values: Vec<String> = values.iter().map(|value| scalar(value)).collect();
        let _ = writeln!(text, "  {name}:\n    values: [{}]", values.join(", "));
    };
    parameter("dataset", &spec.datasets);
    for (name, values) in [("layers", &spec.sweep.layers), ("seeds", &spec.sweep.seeds)] {
        if !values.is_empty() {
            parameter(name, values);
        }
    }
    parameter("model", &spec.models);
    text
}

/// What a parameter file holds for one name.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Entry {
    Wrapped { value: Scalar },
    Bare(Scalar),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Scalar {
    Integer(i64),
    Number(f64),
    Truth(bool),
    Text(String),
}

impl Scalar {
    fn into_text(self) -> String {
        match self {
            Self::Integer(number) => number.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Truth(truth) => if truth { "True" } else { "False" }.to_owned(),
            Self::Text(text) => text,
        }
    }
}

impl Assignment {
    /// Reads the parameter file that an agent writes.
    ///
    /// # Errors
    /// [`AssignmentError`] when it is of another form, or its parameters are not those of a study.
    pub fn from_file(text: &str) -> Result<Self, AssignmentError> {
        let entries: BTreeMap<String, Entry> = serde_saphyr::from_str(text).map_err(|error| {
            let (line, column, reason) = super::file::explain(&error);
            AssignmentError::NotParameters { line, column, reason }
        })?;
        let value = |entry| match entry {
            Entry::Wrapped { value } | Entry::Bare(value) => value.into_text(),
        };
        let named = entries.into_iter().filter(|(name, _)| name != "wandb_version");
        Self::from_parameters(named.map(|(name, entry)| (name, value(entry))))
    }

    /// Reads `--name=value` arguments, as `${args}` gives them; `name=value` (`${args_no_hyphens}`) works as well.
    ///
    /// # Errors
    /// [`AssignmentError`] when an argument is of another form, or not a parameter of a study.
    pub fn from_arguments<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<Self, AssignmentError> {
        let mut parameters = Vec::new();
        for argument in arguments {
            let pair = argument.strip_prefix("--").unwrap_or(argument).split_once('=');
            let Some((name, value)) = pair else {
                return Err(AssignmentError::NotAnArgument { argument: argument.to_owned() });
            };
            parameters.push((name.to_owned(), value.to_owned()));
        }
        Self::from_parameters(parameters)
    }

    /// Reads parameters as a server hands them out.
    ///
    /// # Errors
    /// [`AssignmentError`] when one is not a parameter of a study.
    pub fn from_values(values: impl IntoIterator<Item = (String, serde_json::Value)>) -> Result<Self, AssignmentError> {
        use serde_json::Value;
        let text = |value| match value {
            Value::String(text) => text,
            Value::Bool(truth) => if truth { "True" } else { "False" }.to_owned(),
            other => other.to_string(),
        };
        Self::from_parameters(values.into_iter().map(|(name, value)| (name, text(value))))
    }

    fn from_parameters(parameters: impl IntoIterator<Item = (String, String)>) -> Result<Self, AssignmentError> {
        let (mut model, mut dataset, mut layers, mut seeds) = (None, None, None, None);
        for (name, value) in parameters {
            match name.as_str() {
                "model" => model = Some(value),
                "dataset" => dataset = Some(value),
                "layers" => layers = Some(value),
                "seeds" => seeds = Some(value),
                _ => return Err(AssignmentError::Unknown { name }),
            }
        }
        Ok(Self {
            model: model.ok_or(AssignmentError::Lacks { name: "model" })?,
            dataset: dataset.ok_or(AssignmentError::Lacks { name: "dataset" })?,
            layers,
            seeds,
        })
    }
}

impl Assignment {
    /// The parameters as names and values, for a run's configuration.
    pub fn parameters(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let given = [("model", Some(&self.model)), ("dataset", Some(&self.dataset))];
        let given = given.into_iter().chain([("layers", self.layers.as_ref()), ("seeds", self.seeds.as_ref())]);
        given.filter_map(|(name, value)| Some((name, value?.as_str())))
    }
}

/// The part of a sweep's configuration that says what it varies.
#[derive(Debug, Deserialize)]
struct Configuration {
    #[serde(default)]
    parameters: BTreeMap<String, Axis>,
}

#[derive(Debug, Deserialize)]
struct Axis {
    value: Option<Scalar>,
    #[serde(default)]
    values: Vec<Scalar>,
}

impl Spec {
    /// Checks that a sweep of this configuration hands out cells of this study, and returns the names of what it varies.
    ///
    /// # Errors
    /// [`AssignmentError`] naming what the study does not have.
    pub fn varied_by(&self, configuration: &str) -> Result<Vec<String>, AssignmentError> {
        // `y` is a name to the official client's YAML, not a truth.
        let options = serde_saphyr::options! { strict_booleans: true };
        let read: Configuration = serde_saphyr::from_str_with_options(configuration, options).map_err(|error| {
            let (line, column, reason) = super::file::explain(&error);
            AssignmentError::NotParameters { line, column, reason }
        })?;
        for name in ["model", "dataset"] {
            if !read.parameters.contains_key(name) {
                return Err(AssignmentError::Lacks { name });
            }
        }
        let mut names = Vec::with_capacity(read.parameters.len());
        for (name, axis) in read.parameters {
            let (name, known) = match name.as_str() {
                "model" => ("model", Some(&self.models)),
                "dataset" => ("dataset", Some(&self.datasets)),
                "layers" | "seeds" => (name.as_str(), None),
                _ => return Err(AssignmentError::Unknown { name }),
            };
            names.push(name.to_owned());
            let Some(known) = known else { continue };
            let mut values = axis.value.into_iter().chain(axis.values).map(Scalar::into_text);
            if let Some(value) = values.find(|value| !known.contains(value)) {
                let name = if name == "model" { "model" } else { "dataset" };
                return Err(AssignmentError::NotInStudy { name, value });
            }
        }
        Ok(names)
    }

    /// The study of this one cell: what a sweep's run has to do. Replaced layers or seeds make it a variant, whose cell
    /// has an id of its own.
    ///
    /// # Errors
    /// [`AssignmentError`] when the cell is not in the study or a value makes no sense.
    pub fn assigned(&self, assignment: &Assignment) -> Result<Self, AssignmentError> {
        let within = |name, list: &[String], value: &String| {
            let found = list.contains(value);
            found.then(|| vec![value.clone()]).ok_or_else(|| AssignmentError::NotInStudy { name, value: value.clone() })
        };
        let mut spec = Self {
            models: within("model", &self.models, &assignment.model)?,
            datasets: within("dataset", &self.datasets, &assignment.dataset)?,
            ..self.clone()
        };
        if let Some(glob) = &assignment.layers {
            spec.layers = LayerFilter::new(vec![glob.clone()], self.layers.exclude().to_vec())
                .map_err(|source| AssignmentError::Invalid { name: "layers", source })?;
        }
        if let Some(seeds) = &assignment.seeds {
            spec.seeds =
                super::file::seeds_of(seeds).map_err(|source| AssignmentError::Invalid { name: "seeds", source })?;
        }
        if assignment.layers.is_some() || assignment.seeds.is_some() {
            let text = format!("{:?} {:?}", assignment.layers, assignment.seeds);
            let mut variant = Sha256::of(text.as_bytes()).to_string();
            variant.truncate(8);
            spec.variant = Some(variant);
        }
        Ok(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spec(extra: &str) -> Spec {
        Spec::parse(&format!("name: s\nmodels: [a, b]\ndatasets: [x, y]\nseeds: 0..9\n{extra}")).unwrap()
    }

    #[test]
    fn the_configuration_of_a_grid() {
        let command = ["${env}", "/opt/wandb-pca", "sweep", "cell", "my study.yaml"].map(str::to_owned);
        let text = configuration(&spec("sweep:\n  seeds: [0..4, 0..9]\n"), &command);
        assert_eq!(
            text,
            "name: s\nmethod: grid\nprogram: \"${env}\"\ncommand:\n  - \"${env}\"\n  - \"/opt/wandb-pca\"\n  - sweep\n  \
             - cell\n  - \"my study.yaml\"\n  - \"${args}\"\nparameters:\n  dataset:\n    values: [x, \"y\"]\n  seeds:\n    \
             values: [\"0..4\", \"0..9\"]\n  model:\n    values: [a, b]\n"
        );
    }

    #[test]
    fn what_an_agent_hands_over() {
        let file = "wandb_version: 1\n\ndataset:\n  value: x\nmodel:\n  value: a\nseeds:\n  value: 0..4\n";
        let from_file = Assignment::from_file(file).unwrap();
        let arguments = ["--dataset=x", "--model=a", "--seeds=0..4"];
        assert_eq!(from_file, Assignment::from_arguments(arguments).unwrap());
        let cell = spec("").assigned(&from_file).unwrap();
        assert_eq!((cell.models.len(), cell.datasets.len(), cell.seeds.len()), (1, 1, 5));
        assert!(cell.variant.is_some());
        let plain = Assignment { seeds: None, ..from_file };
        assert!(spec("").assigned(&plain).unwrap().variant.is_none());
    }

    #[test]
    fn what_is_not_an_assignment() {
        let refused = |arguments: &[&str]| Assignment::from_arguments(arguments.iter().copied()).unwrap_err();
        assert!(matches!(refused(&["--model=a"]), AssignmentError::Lacks { name: "dataset" }));
        assert!(matches!(refused(&["--model"]), AssignmentError::NotAnArgument { .. }));
        assert!(matches!(refused(&["--lr=1"]), AssignmentError::Unknown { .. }));
        assert!(matches!(Assignment::from_file("- a\n"), Err(AssignmentError::NotParameters { .. })));
        let assign = |arguments: &[&str]| {
            let assignment = Assignment::from_arguments(arguments.iter().copied()).unwrap();
            spec("").assigned(&assignment).unwrap_err()
        };
        assert!(matches!(assign(&["--model=c", "--dataset=x"]), AssignmentError::NotInStudy { name: "model", .. }));
        let invalid = assign(&["--model=a", "--dataset=x", "--seeds=4..1"]);
        assert!(matches!(invalid, AssignmentError::Invalid { name: "seeds", .. }));
        let invalid = assign(&["--model=a", "--dataset=x", "--layers=["]);
        assert!(matches!(invalid, AssignmentError::Invalid { name: "layers", .. }));
    }

    #[test]
    fn a_sweep_is_of_its_own_study_only() {
        let study = spec("sweep:\n  seeds: [0..4, 0..9]\n");
        let own = configuration(&study, &["wandb-pca".to_owned()]);
        assert_eq!(study.varied_by(&own).unwrap(), ["dataset", "model", "seeds"]);
        // As the official client writes it.
        let dumped = "method: grid\nparameters:\n  dataset:\n    values: [x]\n  model:\n    value: a\nprogram: p\n";
        assert_eq!(study.varied_by(dumped).unwrap(), ["dataset", "model"]);
        let refused = |parameters: &str| study.varied_by(&format!("parameters: {{{parameters}}}")).unwrap_err();
        assert!(matches!(refused("model: {values: [a]}"), AssignmentError::Lacks { name: "dataset" }));
        let lr = refused("model: {value: a}, dataset: {value: x}, lr: {min: 0, max: 1}");
        assert!(matches!(lr, AssignmentError::Unknown { .. }), "{lr}");
        let huge = refused("model: {values: [a, huge]}, dataset: {value: x}");
        assert!(matches!(&huge, AssignmentError::NotInStudy { name: "model", value } if value == "huge"), "{huge}");
        assert!(matches!(study.varied_by("- a"), Err(AssignmentError::NotParameters { .. })));
        let handed = [("model".to_owned(), "a".into()), ("dataset".to_owned(), "x".into())];
        let handed = Assignment::from_values(handed).unwrap();
        assert_eq!(handed, Assignment::from_arguments(["--model=a", "--dataset=x"]).unwrap());
    }

    proptest! {
        #[test]
        fn any_words_of_a_command_read_back(words in proptest::collection::vec(".{1,12}", 1..5)) {
            #[derive(Deserialize)]
            struct Configuration {
                command: Vec<String>,
            }
            let read: Configuration = serde_saphyr::from_str(&configuration(&spec(""), &words)).unwrap();
            prop_assert_eq!(&read.command[..words.len()], &words[..]);
        }

        #[test]
        fn no_file_panics(text in "(wandb_version: 1\n)?.{0,40}") {
            let _ = Assignment::from_file(&text);
        }
    }
}
