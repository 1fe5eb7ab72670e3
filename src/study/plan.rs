//! From a study and what exists to its cells: a deterministic order, stable ids, inputs, what is missing, and what it
//! will cost. Plain data in and out; looking things up and fetching them is the caller's.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::ledger::Task;
use super::spec::{Missing, Spec};
use crate::digest::Sha256;

/// An artifact or file that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Resolved version, such as `v3`; for a file its path.
    pub version: String,
    /// Digest of the contents: equal digests are equal bytes.
    pub digest: String,
    /// Size of the checkpoint.
    pub bytes: u64,
    /// How many bytes of it are on this machine already: all, or parts.
    pub cached: u64,
}

/// What exists, by reference. A reference that is not in it does not exist.
pub type Inventory = BTreeMap<String, Found>;

/// One checkpoint of a cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// How the study names it.
    pub reference: String,
    /// What that name stood for when the study was planned.
    #[serde(flatten)]
    pub found: Found,
}

/// One model × dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// `model@dataset`: stable, unique in the study, fit for a file name.
    pub id: String,
    /// The model.
    pub model: String,
    /// The dataset.
    pub dataset: String,
    /// The checkpoint all seeds started from.
    pub pretrained: Input,
    /// Seeds, ascending.
    pub seeds: Vec<u64>,
    /// Their checkpoints, in the order of `seeds`.
    pub finetuned: Vec<Input>,
    /// Hash of everything the numbers depend on: another value means another result.
    pub inputs: String,
}

/// All datasets of one model in one Gram.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joint {
    /// `model+joint`.
    pub id: String,
    /// The model.
    pub model: String,
    /// Positions in [`Plan::cells`], ascending; at least two.
    pub cells: Vec<usize>,
    /// As [`Cell::inputs`].
    pub inputs: String,
}

/// A cell left out by policy, with the references it lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// The model.
    pub model: String,
    /// The dataset.
    pub dataset: String,
    /// What does not exist.
    pub missing: Vec<String>,
}

/// A seed left out of a cell that goes on without it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedSeed {
    /// The cell.
    pub cell: String,
    /// The seed.
    pub seed: u64,
    /// What does not exist.
    pub reference: String,
}

/// A study laid out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Name of the study.
    pub study: String,
    /// What will be computed: models in the order of the file, and datasets within each.
    pub cells: Vec<Cell>,
    /// Comparisons across datasets, if the study measures them.
    pub joints: Vec<Joint>,
    /// Cells left out by policy.
    pub skipped: Vec<Skipped>,
    /// Seeds left out by policy.
    pub skipped_seeds: Vec<SkippedSeed>,
    /// References that the policy does not allow to be missing.
    pub missing: Vec<String>,
}

/// Why a plan cannot be run.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanError {
    /// Something is missing and the policy is to fail.
    #[error("{} of the study do not exist, the first is {first}", references(*count))]
    Missing {
        /// How many.
        count: usize,
        /// The first of them.
        first: String,
    },
    /// The policy left nothing.
    #[error("no cell of the study has what it needs ({skipped} left out)")]
    NothingToDo {
        /// Cells left out.
        skipped: usize,
    },
}

fn references(count: usize) -> String {
    if count == 1 { "1 checkpoint".to_owned() } else { format!("{count} checkpoints") }
}

/// How fast things go here, in bytes a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Downloading and verifying.
    pub download: f64,
    /// Reading checkpoints and computing.
    pub analysis: f64,
}

/// What a study needs of one checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Bytes of it that the store will hold; none of a file that is not in the store.
    pub store: u64,
    /// Bytes of it that are read for the analysis.
    pub read: u64,
}

/// What a study needs of its checkpoints: the whole of those that are not in here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// By reference.
    pub inputs: BTreeMap<String, Need>,
    /// Most bytes that a shard fetches which has no store in common with others; nothing where tasks are not sharded.
    pub shard: Option<u64>,
}

impl Needs {
    fn of(&self, input: &Input) -> Need {
        let whole = Need { store: input.found.bytes, read: input.found.bytes };
        self.inputs.get(&input.reference).copied().unwrap_or(whole)
    }

    /// Bytes that the analysis of a cell reads.
    fn read(&self, cell: &Cell) -> u64 {
        cell.checkpoints().fold(0, |sum, input| sum.saturating_add(self.of(input).read))
    }
}

/// What a plan will cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Bytes to fetch; what several cells share counts once, what is here already not at all.
    pub fetch_bytes: u64,
    /// Bytes that the store will hold, of all checkpoints together, each once.
    pub disk_bytes: u64,
    /// Bytes to read for the analysis; what several cells share counts for each.
    pub read_bytes: u64,
    /// [`Needs::shard`].
    pub shard_bytes: Option<u64>,
    /// Seconds, with the download of each cell overlapping the analysis of the one before; `None` without usable rates.
    pub seconds: Option<f64>,
}

/// Lays a study out over what exists.
pub fn plan(spec: &Spec, inventory: &Inventory) -> Plan {
    let mut plan = Plan {
        study: spec.name.clone(),
        cells: Vec::new(),
        joints: Vec::new(),
        skipped: Vec::new(),
        skipped_seeds: Vec::new(),
        missing: Vec::new(),
    };
    for model in &spec.models {
        for dataset in &spec.datasets {
            plan.add_cell(spec, inventory, (model, dataset));
        }
        if spec.measures.contains(&super::Measure::Subspace) {
            plan.add_joint(spec, model);
        }
    }
    let mut seen = BTreeSet::new();
    plan.missing.retain(|reference| seen.insert(reference.clone()));
    plan
}

impl Plan {
    fn add_cell(&mut self, spec: &Spec, inventory: &Inventory, (model, dataset): (&str, &str)) {
        let find = |reference: String| match inventory.get(&reference) {
            Some(found) => Ok(Input { reference, found: found.clone() }),
            None => Err(reference),
        };
        let variant = spec.variant.as_ref().map_or(String::new(), |variant| format!("~{variant}"));
        let id = format!("{model}@{dataset}{variant}");
        let mut missing = Vec::new();
        let pretrained = find(spec.pretrained_reference(model)).map_err(|reference| missing.push(reference)).ok();
        let (mut seeds, mut finetuned, mut lost) = (Vec::new(), Vec::new(), Vec::new());
        for &seed in &spec.seeds {
            match find(spec.finetuned_reference(model, dataset, seed)) {
                Ok(input) => {
                    seeds.push(seed);
                    finetuned.push(input);
                }
                Err(reference) => lost.push(SkippedSeed { cell: id.clone(), seed, reference }),
            }
        }
        let may_go_on = match spec.missing {
            Missing::Fail | Missing::SkipCell => lost.is_empty(),
            Missing::SkipSeed { minimum } => seeds.len() >= minimum as usize,
        };
        match pretrained {
            Some(pretrained) if may_go_on => {
                let inputs = fingerprint(spec, &pretrained, seeds.iter().zip(&finetuned));
                let (model, dataset) = (model.to_owned(), dataset.to_owned());
                self.skipped_seeds.extend(lost);
                self.cells.push(Cell { id, model, dataset, pretrained, seeds, finetuned, inputs });
            }
            _ => {
                missing.extend(lost.into_iter().map(|seed| seed.reference));
                if spec.missing == Missing::Fail {
                    self.missing.extend(missing.iter().cloned());
                }
                self.skipped.push(Skipped { model: model.to_owned(), dataset: dataset.to_owned(), missing });
            }
        }
    }

    fn add_joint(&mut self, spec: &Spec, model: &str) {
        let of_model = |(_, cell): &(usize, &Cell)| cell.model == model;
        let cells: Vec<usize> = self.cells.iter().enumerate().filter(of_model).map(|(at, _)| at).collect();
        let parts: Vec<&Cell> = cells.iter().filter_map(|&at| self.cells.get(at)).collect();
        if let [first, _, ..] = parts.as_slice() {
            let all = parts.iter().flat_map(|cell| cell.seeds.iter().zip(&cell.finetuned));
            let inputs = fingerprint(spec, &first.pretrained, all);
            self.joints.push(Joint { id: format!("{model}+joint"), model: model.to_owned(), cells, inputs });
        }
    }

    /// Whether the plan can be run as it stands.
    ///
    /// # Errors
    /// [`PlanError`] when something is missing that may not be, or when nothing is left to do.
    pub fn check(&self) -> Result<(), PlanError> {
        if let Some(first) = self.missing.first() {
            return Err(PlanError::Missing { count: self.missing.len(), first: first.clone() });
        }
        if self.cells.is_empty() {
            return Err(PlanError::NothingToDo { skipped: self.skipped.len() });
        }
        Ok(())
    }

    /// The tasks of the plan, in the order to do them: the cells of a model, then its comparison across datasets.
    pub fn tasks(&self) -> Vec<Task> {
        let mut tasks = Vec::with_capacity(self.cells.len() + self.joints.len());
        let mut joints = self.joints.iter().peekable();
        for (at, cell) in self.cells.iter().enumerate() {
            tasks.push(Task { id: cell.id.clone(), inputs: cell.inputs.clone() });
            if let Some(joint) = joints.next_if(|joint| joint.cells.last() == Some(&at)) {
                tasks.push(Task { id: joint.id.clone(), inputs: joint.inputs.clone() });
            }
        }
        tasks
    }

    /// The cell with this id.
    pub fn cell(&self, id: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.id == id)
    }

    /// The comparison with this id.
    pub fn joint(&self, id: &str) -> Option<&Joint> {
        self.joints.iter().find(|joint| joint.id == id)
    }

    /// What running the plan will cost.
    pub fn estimate(&self, rates: Rates, needs: &Needs) -> Estimate {
        let mut here = BTreeSet::new();
        let (mut fetch_bytes, mut disk_bytes, mut read_bytes) = (0u64, 0u64, 0u64);
        let usable = |rate: f64| rate.is_finite() && rate > 0.0;
        let timed = usable(rates.download) && usable(rates.analysis);
        // When the downloads so far are through, and when the analyses so far are: a cell starts after both.
        let (mut downloaded, mut analysed) = (0.0, 0.0);
        for cell in &self.cells {
            for input in cell.checkpoints() {
                let need = needs.of(input);
                read_bytes = read_bytes.saturating_add(need.read);
                if here.insert(&input.found.digest) {
                    // Parts that are here are no use to who fetches the whole.
                    let whole = need.store == input.found.bytes && input.found.cached < input.found.bytes;
                    let cached = if whole { 0 } else { input.found.cached };
                    let lacking = need.store.saturating_sub(cached);
                    fetch_bytes = fetch_bytes.saturating_add(lacking);
                    disk_bytes = disk_bytes.saturating_add(need.store.max(cached));
                    downloaded += lacking as f64 / rates.download;
                }
            }
            analysed = f64::max(downloaded, analysed) + needs.read(cell) as f64 / rates.analysis;
        }
        for joint in &self.joints {
            let cells = joint.cells.iter().filter_map(|&at| self.cells.get(at));
            let bytes = cells.map(|cell| needs.read(cell)).fold(0u64, u64::saturating_add);
            read_bytes = read_bytes.saturating_add(bytes);
            analysed += bytes as f64 / rates.analysis;
        }
        let (shard_bytes, seconds) = (needs.shard, timed.then_some(analysed));
        Estimate { fetch_bytes, disk_bytes, read_bytes, shard_bytes, seconds }
    }
}

impl Cell {
    /// The pretrained checkpoint, then the fine-tuned ones.
    pub fn checkpoints(&self) -> impl Iterator<Item = &Input> {
        std::iter::once(&self.pretrained).chain(&self.finetuned)
    }

    /// Bytes of all its checkpoints.
    pub fn bytes(&self) -> u64 {
        self.checkpoints().fold(0, |sum, input| sum.saturating_add(input.found.bytes))
    }
}

/// A W&B run id for a task of a study, the same whenever it is logged again: 16 hex digits.
pub fn run_id(study: &str, task: &Task) -> String {
    let mut text = Sha256::of(format!("run\n{study}\n{}\n{}", task.id, task.inputs).as_bytes()).to_string();
    text.truncate(16);
    text
}

/// Hash of what the numbers of a cell depend on: the bytes of its checkpoints, their order, and the layers taken.
fn fingerprint<'a>(spec: &Spec, pretrained: &Input, finetuned: impl Iterator<Item = (&'a u64, &'a Input)>) -> String {
    let mut text =
        format!("layers {:?} {:?}\n{}\n", spec.layers.include(), spec.layers.exclude(), { &pretrained.found.digest });
    for (seed, input) in finetuned {
        text.push_str(&format!("{seed} {}\n", input.found.digest));
    }
    Sha256::of(text.as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spec(policy: &str) -> Spec {
        Spec::parse(&format!(
            "name: s\nproject: p\nentity: e\nmodels: [a, b]\ndatasets: [x, y, z]\nseeds: 0..4\n{policy}\n"
        ))
        .unwrap()
    }

    fn everything(spec: &Spec) -> Inventory {
        let found =
            |reference: &String| Found { version: "v0".to_owned(), digest: reference.clone(), bytes: 100, cached: 0 };
        spec.references().into_iter().map(|reference| (reference.clone(), found(&reference))).collect()
    }

    const RATES: Rates = Rates { download: 10.0, analysis: 100.0 };

    #[test]
    fn a_whole_grid_in_order() {
        let spec = spec("");
        let plan = plan(&spec, &everything(&spec));
        plan.check().unwrap();
        let ids: Vec<_> = plan.tasks().into_iter().map(|task| task.id).collect();
        assert_eq!(ids, ["a@x", "a@y", "a@z", "a+joint", "b@x", "b@y", "b@z", "b+joint"]);
        let estimate = plan.estimate(RATES, &Needs::default());
        // Each pretrained checkpoint once: 2 + 2 × 3 × 5 files, though each cell reads its six.
        assert_eq!((estimate.fetch_bytes, estimate.disk_bytes), (3200, 3200));
        assert_eq!(estimate.read_bytes, 2 * 6 * 600);
        // All downloads (320 s), then what cannot overlap: the last cell (6 s) and both comparisons (36 s).
        assert_eq!(estimate.seconds, Some(320.0 + 6.0 + 36.0));
        assert_eq!(plan.estimate(Rates { download: 0.0, analysis: 1.0 }, &Needs::default()).seconds, None);
    }

    #[test]
    fn what_is_needed_of_each_checkpoint_is_counted() {
        let spec = spec("");
        let mut inventory = everything(&spec);
        let part = Need { store: 10, read: 9 };
        let mut needs = Needs { shard: Some(7), ..Needs::default() };
        needs.inputs.extend(inventory.keys().map(|reference| (reference.clone(), part)));
        let estimate = plan(&spec, &inventory).estimate(RATES, &needs);
        assert_eq!((estimate.fetch_bytes, estimate.disk_bytes, estimate.shard_bytes), (320, 320, Some(7)));
        assert_eq!(estimate.read_bytes, 2 * 6 * 6 * 9);
        let expected = 32.0 + 0.54 + 2.0 * 1.62;
        assert!(estimate.seconds.is_some_and(|seconds| (seconds - expected).abs() < 1e-9), "{estimate:?}");
        // One is here as a whole, half of what is needed of another, and a third is a file.
        inventory.get_mut("e/p/a_pt:latest").unwrap().cached = 100;
        inventory.get_mut("e/p/b_pt:latest").unwrap().cached = 5;
        needs.inputs.insert("e/p/a_x_0:latest".to_owned(), Need { store: 0, read: 100 });
        let estimate = plan(&spec, &inventory).estimate(RATES, &needs);
        assert_eq!((estimate.fetch_bytes, estimate.disk_bytes), (320 - 10 - 5 - 10, 320 + 90 - 10));
    }

    #[test]
    fn policies_for_missing_checkpoints() {
        let without = |policy: &str, missing: &[&str]| {
            let spec = spec(policy);
            let mut inventory = everything(&spec);
            for name in missing {
                inventory.remove(*name).unwrap();
            }
            plan(&spec, &inventory)
        };
        let gone = ["e/p/a_x_3:latest", "e/p/b_pt:latest"];
        let plan = without("missing: fail", &gone);
        assert!(matches!(plan.check(), Err(PlanError::Missing { count: 2, .. })), "{:?}", plan.missing);
        let plan = without("missing: skip-cell", &gone);
        assert_eq!(plan.cells.iter().map(|cell| cell.id.as_str()).collect::<Vec<_>>(), ["a@y", "a@z"]);
        assert_eq!(plan.skipped.len(), 4);
        let plan = without("missing: skip-seed\nminimum_seeds: 4", &gone);
        assert_eq!(plan.cells.iter().map(|cell| cell.seeds.len()).collect::<Vec<_>>(), [4, 5, 5]);
        assert_eq!(
            plan.skipped_seeds,
            [SkippedSeed { cell: "a@x".to_owned(), seed: 3, reference: gone[0].to_owned() }]
        );
        let plan = without("missing: skip-seed\nminimum_seeds: 5", &gone);
        assert_eq!(plan.cells.len(), 2);
        let plan = without("missing: skip-cell", &["e/p/a_pt:latest", "e/p/b_pt:latest"]);
        assert_eq!(plan.check(), Err(PlanError::NothingToDo { skipped: 6 }));
    }

    #[test]
    fn inputs_change_with_bytes_and_layers_alone() {
        let spec = spec("");
        let inventory = everything(&spec);
        let before = plan(&spec, &inventory);
        let mut moved = inventory.clone();
        for found in moved.values_mut() {
            found.version = "v9".to_owned();
            found.cached = 100;
        }
        assert_eq!(plan(&spec, &moved).tasks(), before.tasks());
        assert_eq!(plan(&spec, &moved).estimate(RATES, &Needs::default()).fetch_bytes, 0);
        moved.get_mut("e/p/a_y_0:latest").unwrap().digest = "other".to_owned();
        let after = plan(&spec, &moved).tasks();
        let changed: Vec<_> =
            after.iter().zip(before.tasks()).filter(|(a, b)| **a != *b).map(|(a, _)| a.id.clone()).collect();
        assert_eq!(changed, ["a@y", "a+joint"]);
        let mut narrowed = spec.clone();
        narrowed.layers = super::super::spec::LayerFilter::new(vec!["visual.*".to_owned()], vec![]).unwrap();
        assert!(plan(&narrowed, &inventory).tasks().iter().zip(before.tasks()).all(|(a, b)| a.inputs != b.inputs));
        let task = &before.tasks()[0];
        assert_eq!(run_id("s", task), run_id("s", task));
        assert_ne!(run_id("s", task), run_id("t", task));
    }

    proptest! {
        #[test]
        fn a_cell_has_what_it_needs_or_is_left_out(gone in proptest::collection::vec(any::<bool>(), 32)) {
            let spec = spec("missing: skip-seed\nminimum_seeds: 3");
            let mut inventory = everything(&spec);
            for (reference, gone) in spec.references().iter().zip(&gone) {
                if *gone {
                    inventory.remove(reference);
                }
            }
            let plan = plan(&spec, &inventory);
            prop_assert_eq!(plan.cells.len() + plan.skipped.len(), 6);
            for cell in &plan.cells {
                prop_assert!(cell.seeds.len() >= 3 && cell.seeds.len() == cell.finetuned.len());
                prop_assert!(cell.checkpoints().all(|input| inventory.contains_key(&input.reference)));
            }
            for joint in &plan.joints {
                prop_assert!(joint.cells.len() >= 2);
                prop_assert!(joint.cells.iter().all(|&at| plan.cells[at].model == joint.model));
            }
            prop_assert_eq!(plan.tasks().len(), plan.cells.len() + plan.joints.len());
        }
    }
}
