//! The study file, checked: what grid, from which names, measured and logged how. Refuses unknown keys, names that
//! would collide and values out of range, each with line and column. Reads text only, no I/O.

use std::collections::BTreeSet;

use globset::{Glob, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};

use super::file;
use super::template::{Template, TemplateError};

/// Most seeds of a study: far beyond any experiment, far below what exhausts memory.
pub(super) const MAX_SEEDS: usize = 10_000;
/// Most cells of a study, for the same reason.
pub(super) const MAX_CELLS: usize = 100_000;

/// A study: every model × dataset × seed that it asks for and how to treat it.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Name of the study: the group of its runs, and its folder.
    pub name: String,
    /// W&B entity of artifacts and runs; the caller's default when absent.
    pub entity: Option<String>,
    /// W&B project of artifacts and runs; the caller's default when absent.
    pub project: Option<String>,
    /// Models, unique, in the order of the file.
    pub models: Vec<String>,
    /// Datasets, unique, in the order of the file.
    pub datasets: Vec<String>,
    /// Seeds, unique, ascending.
    pub seeds: Vec<u64>,
    /// Name of a model's pretrained checkpoint.
    pub pretrained: Template,
    /// Name of a fine-tuned checkpoint.
    pub finetuned: Template,
    /// Which layers take part.
    pub layers: LayerFilter,
    /// What to compute.
    pub measures: BTreeSet<Measure>,
    /// What to log to W&B.
    pub log: BTreeSet<Log>,
    /// What to do about artifacts that do not exist.
    pub missing: Missing,
    /// How often a failed cell is tried again within one run of the study.
    pub retries: u32,
    /// After how many failed cells the study gives up; never when absent.
    pub max_failures: Option<u32>,
    /// Into how many shards of layers a cell is split on a cluster, at least 1.
    pub shards: u32,
    /// What a W&B sweep varies besides model and dataset.
    pub sweep: SweepAxes,
    /// Marks the cells of a sweep's run whose parameters replace those of the file.
    pub variant: Option<String>,
    /// How to submit to SLURM.
    pub slurm: Option<Slurm>,
}

/// What a W&B sweep varies besides model and dataset; without values it varies nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SweepAxes {
    /// Globs of layers, one at a time.
    pub layers: Vec<String>,
    /// Sets of seeds such as `0..4`, one at a time.
    pub seeds: Vec<String>,
}

/// Globs over layer names; without any, every layer takes part.
#[derive(Debug, Clone, Default)]
pub struct LayerFilter {
    include: Vec<String>,
    exclude: Vec<String>,
    include_set: GlobSet,
    exclude_set: GlobSet,
}

impl LayerFilter {
    /// A filter from globs of what to take and what to leave out.
    ///
    /// # Errors
    /// [`SpecProblem::BadGlob`] naming the glob.
    pub fn new(include: Vec<String>, exclude: Vec<String>) -> Result<Self, SpecProblem> {
        let set = |globs: &[String]| {
            let mut builder = GlobSetBuilder::new();
            for glob in globs {
                builder.add(Glob::new(glob).map_err(|source| SpecProblem::BadGlob { glob: glob.clone(), source })?);
            }
            builder.build().map_err(|source| SpecProblem::BadGlob { glob: globs.join(", "), source })
        };
        let (include_set, exclude_set) = (set(&include)?, set(&exclude)?);
        Ok(Self { include, exclude, include_set, exclude_set })
    }

    /// Whether every layer takes part.
    pub fn takes_all(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }

    /// Whether a layer of this name takes part.
    pub fn admits(&self, layer: &str) -> bool {
        (self.include.is_empty() || self.include_set.is_match(layer)) && !self.exclude_set.is_match(layer)
    }

    /// The globs of layers to take, as written.
    pub fn include(&self) -> &[String] {
        &self.include
    }

    /// The globs of layers to leave out, as written.
    pub fn exclude(&self) -> &[String] {
        &self.exclude
    }
}

/// What a study computes. Explained variance is always computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Explained variance per layer of every cell.
    Variance,
    /// Norms and cosine similarities between the seeds of every cell.
    Similarity,
    /// All datasets of a model in one Gram: joint PCA and principal angles between datasets.
    Subspace,
}

/// What a study logs to W&B.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Log {
    /// One run a cell, with config, summary, tables and lineage.
    Cells,
    /// One summary run with the comparison across datasets.
    Summary,
    /// The fit of every cell as an artifact of its run.
    Artifacts,
}

/// What to do about artifacts that do not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Refuse to start.
    Fail,
    /// Go on with the seeds that exist, if there are at least `minimum`; else leave the cell out.
    SkipSeed {
        /// Fewest seeds of a cell, at least 2.
        minimum: u32,
    },
    /// Leave out every cell with something missing.
    SkipCell,
}

/// How to submit to SLURM. Every text is one line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Slurm {
    /// `--partition`.
    pub partition: Option<String>,
    /// `--account`.
    pub account: Option<String>,
    /// `--time`, in a form that `sbatch` takes.
    pub time: Option<String>,
    /// `--mem`, such as `16G`.
    pub memory: Option<String>,
    /// `--cpus-per-task`.
    pub cpus: Option<u32>,
    /// Most array tasks at once (`%` of `--array`).
    pub at_once: Option<u32>,
    /// Further `#SBATCH` options, such as `--qos=normal`.
    pub options: Vec<String>,
    /// Shell lines before the work, such as `module load …`.
    pub setup: Vec<String>,
}

/// What is wrong with a study file, and where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// Not YAML, an unknown or missing key, or a value of the wrong kind.
    #[error("line {line}, column {column}: {reason}")]
    Syntax {
        /// Line, from 1; 0 when unknown.
        line: u64,
        /// Column, from 1; 0 when unknown.
        column: u64,
        /// What the parser says.
        reason: String,
    },
    /// A value of the right kind that makes no sense.
    #[error("line {line}, column {column}: {problem}")]
    Invalid {
        /// Line, from 1.
        line: u64,
        /// Column, from 1.
        column: u64,
        /// What is wrong.
        problem: SpecProblem,
    },
}

/// Why a value makes no sense.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the message of each variant says what it and its fields are")]
pub enum SpecProblem {
    #[error("version {found} of the study file is not known here, only version 1")]
    Version { found: u64 },
    #[error("`{key}` is empty")]
    Empty { key: &'static str },
    #[error("`{value}` appears twice in `{key}`")]
    Twice { key: &'static str, value: String },
    #[error("`{value}` is not a name: use letters, digits, `.`, `_` and `-`, at most 128 of them")]
    BadName { value: String },
    #[error("`{value}` is not one line of text")]
    NotOneLine { value: String },
    #[error("{found} is out of range: `{key}` is {least} to {most}")]
    OutOfRange { key: &'static str, found: u64, least: u64, most: u64 },
    #[error("the range {first}..{last} ends before it begins")]
    BackwardRange { first: u64, last: u64 },
    #[error("`{value}` is not a set of seeds such as 0..4 or 0..4,7")]
    BadSeeds { value: String },
    #[error("more than {most} {what}")]
    TooMany { what: &'static str, most: usize },
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error("the name template needs {{{placeholder}}}: without it different checkpoints would have one name")]
    NeedsPlaceholder { placeholder: &'static str },
    #[error("the pretrained checkpoint is shared: its name must not depend on {{{placeholder}}}")]
    SharedByAll { placeholder: &'static str },
    #[error("`{glob}` is not a glob: {source}")]
    BadGlob { glob: String, source: globset::Error },
    #[error("`{value}` is not a time that sbatch takes, such as 02:00:00 or 1-12:00:00")]
    BadTime { value: String },
    #[error("`{value}` is not an amount of memory, such as 16G")]
    BadMemory { value: String },
    #[error("`minimum_seeds` only makes sense with `missing: skip-seed`")]
    MinimumWithoutSkip,
}

impl Spec {
    /// Reads the text of a study file.
    ///
    /// # Errors
    /// [`SpecError`] with line and column: broken YAML, unknown or missing keys, values that make no sense.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        file::read(text)
    }

    /// The reference of a model's pretrained checkpoint.
    pub fn pretrained_reference(&self, model: &str) -> String {
        self.qualify(self.pretrained.render(model, "", 0))
    }

    /// The reference of a fine-tuned checkpoint.
    pub fn finetuned_reference(&self, model: &str, dataset: &str, seed: u64) -> String {
        self.qualify(self.finetuned.render(model, dataset, seed))
    }

    /// A name without a slash belongs to the study's project; one with slashes says itself where it is, be it
    /// `entity/project/name:alias` or a file.
    fn qualify(&self, name: String) -> String {
        match (&self.entity, &self.project) {
            _ if name.contains('/') => name,
            (Some(entity), Some(project)) => format!("{entity}/{project}/{name}"),
            (None, Some(project)) => format!("{project}/{name}"),
            (_, None) => name,
        }
    }

    /// Every reference the study may need, each once: pretrained checkpoints first, then cell by cell.
    pub fn references(&self) -> Vec<String> {
        let mut seen = BTreeSet::new();
        let pretrained = self.models.iter().map(|model| self.pretrained_reference(model));
        let finetuned = self.models.iter().flat_map(|model| {
            self.datasets.iter().flat_map(move |dataset| {
                self.seeds.iter().map(move |&seed| self.finetuned_reference(model, dataset, seed))
            })
        });
        pretrained.chain(finetuned).filter(|reference| seen.insert(reference.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTEBOOK: &str = r#"
# The notebook's experiment.
name: vit-b-16
entity: gladia
project: task-vectors-playground
models: [ViT-B-16]
datasets: [CIFAR100, DTD]
seeds: 0..9
pretrained: "{model}_pt:latest"
finetuned: "{model}_{dataset}_{seed}:latest"
layers: ["visual.*"]
exclude_layers: ["*.ln_*"]
missing: skip-seed
minimum_seeds: 5
slurm:
  partition: boost_usr_prod
  time: 02:00:00
  memory: 16G
  cpus: 4
  at_once: 50
  options: ["--qos=normal"]
  setup: ["module load gcc"]
"#;

    #[test]
    fn the_notebooks_study() {
        let spec = Spec::parse(NOTEBOOK).unwrap();
        assert_eq!(spec.seeds, (0..=9).collect::<Vec<_>>());
        assert_eq!(spec.missing, Missing::SkipSeed { minimum: 5 });
        assert_eq!(spec.measures.len(), 3);
        assert_eq!(spec.log.len(), 3);
        assert_eq!((spec.retries, spec.max_failures, spec.shards), (2, None, 1));
        assert_eq!(
            spec.finetuned_reference("ViT-B-16", "DTD", 3),
            "gladia/task-vectors-playground/ViT-B-16_DTD_3:latest"
        );
        assert_eq!(spec.references().len(), 21);
        assert!(spec.layers.admits("visual.conv1.weight") && !spec.layers.admits("token_embedding.weight"));
        assert!(!spec.layers.admits("visual.ln_post.bias"));
        let slurm = spec.slurm.unwrap();
        assert_eq!((slurm.time.as_deref(), slurm.at_once), (Some("02:00:00"), Some(50)));
    }

    fn minimal(extra: &str) -> String {
        format!("name: s\nmodels: [m]\ndatasets: [d, e]\nseeds: [0..2, 7]\n{extra}")
    }

    #[test]
    fn defaults_and_seed_lists() {
        let spec = Spec::parse(&minimal("")).unwrap();
        assert_eq!(spec.seeds, [0, 1, 2, 7]);
        assert_eq!(spec.pretrained_reference("m"), "m_pt:latest");
        assert_eq!(spec.finetuned_reference("m", "d", 7), "m_d_7:latest");
        assert_eq!(spec.missing, Missing::Fail);
        assert!(spec.slurm.is_none());
        let files = Spec::parse(&minimal("pretrained: data/{model}/pt.ckpt\nproject: p\n")).unwrap();
        assert_eq!(files.pretrained_reference("m"), "data/m/pt.ckpt");
        assert_eq!(files.finetuned_reference("m", "e", 0), "p/m_e_0:latest");
    }

    /// The error of the minimal file with `extra` appended, and where it is, as "line:column message".
    fn error(extra: &str) -> String {
        match Spec::parse(&minimal(extra)).unwrap_err() {
            SpecError::Syntax { line, column, reason } => format!("{line}:{column} {reason}"),
            SpecError::Invalid { line, column, problem } => format!("{line}:{column} {problem}"),
        }
    }

    #[test]
    fn errors_carry_line_and_column() {
        for (extra, place, fragment) in [
            ("modles: [x]\n", "5:1", "unknown field `modles`"),
            ("retries: many\n", "5:10", ""),
            ("retries: 1000\n", "5:10", "1000 is out of range: `retries` is 0 to 100"),
            ("finetuned: \"{model}_{seed}\"\n", "5:12", "needs {dataset}"),
            ("finetuned: \"{model}_{dataset}\"\n", "5:12", "needs {seed}"),
            ("pretrained: \"{dataset}\"\n", "5:13", "must not depend on {dataset}"),
            ("pretrained: \"{mod}\"\n", "5:13", "`{mod}` is not a placeholder"),
            ("missing: ignore\n", "5:10", "ignore"),
            ("minimum_seeds: 3\n", "5:16", "only makes sense"),
            ("missing: skip-seed\nminimum_seeds: 1\n", "6:16", "1 is out of range"),
            ("layers: [\"[\"]\n", "5:10", "`[` is not a glob"),
            ("slurm:\n  time: soon\n", "6:9", "`soon` is not a time"),
            ("slurm:\n  memory: lots\n", "6:11", "`lots` is not an amount"),
            ("slurm:\n  options: [\"a\\nb\"]\n", "6:13", "not one line"),
            ("slurm:\n  partitoin: x\n", "6:3", "unknown field `partitoin`"),
            ("entity: a/b\n", "5:9", "`a/b` is not a name"),
            ("log: [cells, cells]\n", "5:14", "`cells` appears twice"),
            ("version: 2\n", "5:10", "version 2"),
            ("shards: 0\n", "5:9", "0 is out of range"),
        ] {
            let message = error(extra);
            assert!(message.starts_with(&format!("{place} ")) && message.contains(fragment), "{extra}: {message}");
        }
    }

    #[test]
    fn grids_that_make_no_sense() {
        for (text, fragment) in [
            ("name: s\nmodels: []\ndatasets: [d]\nseeds: 0..1\n", "2:9 `models` is empty"),
            ("name: s\nmodels: [m, m]\ndatasets: [d]\nseeds: 0..1\n", "2:13 `m` appears twice in `models`"),
            ("name: s\nmodels: [m]\ndatasets: [d]\nseeds: 5..1\n", "4:8 the range 5..1 ends before it begins"),
            ("name: s\nmodels: [m]\ndatasets: [d]\nseeds: [0, 0..1]\n", "`0` appears twice in `seeds`"),
            ("name: s\nmodels: [m]\ndatasets: [d]\nseeds: 0..99999999999\n", "more than 10000 seeds"),
            ("name: s\nmodels: [m]\ndatasets: [d]\nseeds: 3\n", "4:8"),
            ("name: s\nmodels: [m]\ndatasets: [d]\nseeds: nine\n", "4:8"),
            ("name: ../s\nmodels: [m]\ndatasets: [d]\nseeds: 0..1\n", "1:7 `../s` is not a name"),
            ("name: s\nmodels: [m]\nseeds: 0..1\n", "datasets"),
            ("name: [s\n", ""),
            ("", "1:1 there is nothing"),
            ("name: s\nname: t\nmodels: [m]\ndatasets: [d]\nseeds: 0..1\n", "2:1 duplicate mapping key: name"),
            ("name: s\nmodels: [m]\ndatasets: [d]\nseeds: 0..1\nretries: -1\n", "5:10 this is not a whole number"),
        ] {
            let message = match Spec::parse(text).unwrap_err() {
                SpecError::Syntax { line, column, reason } => format!("{line}:{column} {reason}"),
                SpecError::Invalid { line, column, problem } => format!("{line}:{column} {problem}"),
            };
            assert!(message.contains(fragment), "{text}: {message}");
            assert!(!message.contains("Policy"), "{message}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "(name: s\n)?(seeds: [0-9.,\\[\\] ]{0,12}\n)?.{0,60}") {
            let _ = Spec::parse(&text);
        }
    }
}
