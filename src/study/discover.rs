//! A study file from names alone: recognises `<model>_pt` and `<model>_<dataset>_<seed>`. Refuses nothing; what it does
//! not recognise it lists. Plain data, no I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// What a list of collection names holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Discovery {
    /// Seeds by model and dataset, of models that have a pretrained checkpoint.
    pub seeds: BTreeMap<(String, String), BTreeSet<u64>>,
    /// Models with a pretrained checkpoint and nothing fine-tuned from it.
    pub untouched: Vec<String>,
    /// Names that look fine-tuned, but of no model with a pretrained checkpoint.
    pub orphans: Vec<String>,
    /// Names of another form.
    pub others: Vec<String>,
}

/// Recognises the checkpoints among collection names. Where a name could belong to two models, the longer name wins.
pub fn discover<'a>(names: impl IntoIterator<Item = &'a str>) -> Discovery {
    let names: BTreeSet<&str> = names.into_iter().collect();
    let models: BTreeSet<&str> =
        names.iter().filter_map(|name| name.strip_suffix("_pt")).filter(|model| !model.is_empty()).collect();
    let mut found = Discovery::default();
    for name in &names {
        if name.strip_suffix("_pt").is_some_and(|model| models.contains(model)) {
            continue;
        }
        let Some((stem, seed)) = name.rsplit_once('_').and_then(|(stem, seed)| Some((stem, canonical(seed)?))) else {
            found.others.push((*name).to_owned());
            continue;
        };
        // The longest model first: of `a` and `a_b`, `a_b_c_1` belongs to the latter.
        let split = stem.rmatch_indices('_').map(|(at, _)| (&stem[..at], &stem[at + 1..]));
        match split.into_iter().find(|(model, dataset)| models.contains(model) && !dataset.is_empty()) {
            Some((model, dataset)) => {
                found.seeds.entry((model.to_owned(), dataset.to_owned())).or_default().insert(seed);
            }
            None => found.orphans.push((*name).to_owned()),
        }
    }
    let used: BTreeSet<&str> = found.seeds.keys().map(|(model, _)| model.as_str()).collect();
    found.untouched = models.difference(&used).map(|model| (*model).to_owned()).collect();
    found
}

/// A seed as a template would write it: digits without leading zeros.
fn canonical(text: &str) -> Option<u64> {
    text.parse::<u64>().ok().filter(|seed| seed.to_string() == text)
}

impl Discovery {
    /// Models with fine-tuned checkpoints, in order.
    pub fn models(&self) -> BTreeSet<&str> {
        self.seeds.keys().map(|(model, _)| model.as_str()).collect()
    }

    /// Datasets of those models, in order.
    pub fn datasets(&self) -> BTreeSet<&str> {
        self.seeds.keys().map(|(_, dataset)| dataset.as_str()).collect()
    }

    fn all_seeds(&self) -> BTreeSet<u64> {
        self.seeds.values().flatten().copied().collect()
    }

    /// The study file that asks for everything found, with comments, or `None` when there is no grid of at least two
    /// seeds.
    pub fn render(&self, name: &str, entity: &str, project: &str) -> Option<String> {
        let seeds = self.all_seeds();
        if seeds.len() < 2 {
            return None;
        }
        let mut text = String::new();
        let list = |names: BTreeSet<&str>| names.into_iter().map(scalar).collect::<Vec<_>>().join(", ");
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "# A study of task vectors, proposed from the artifact names in {entity}/{project}.\n\
             # Check the grid, then: wandb-pca study plan FILE\n\
             name: {}\nentity: {}\nproject: {}\n\n",
            scalar(name),
            scalar(entity),
            scalar(project)
        );
        let _ = write!(
            text,
            "# The grid: every model on every dataset with every seed (ranges include both ends).\n\
             models: [{}]\ndatasets: [{}]\nseeds: [{}]\n\n",
            list(self.models()),
            list(self.datasets()),
            ranges(&seeds)
        );
        text.push_str(
            "# Names of the artifacts.\n\
             pretrained: \"{model}_pt:latest\"\nfinetuned: \"{model}_{dataset}_{seed}:latest\"\n\n",
        );
        text.push_str(&self.missing());
        text.push_str(
            "\n# Further keys: layers, exclude_layers, measures, log, retries, max_failures, shards, sweep, slurm.\n",
        );
        self.remarks(&mut text);
        Some(text)
    }

    /// The policy for missing checkpoints: the strict one when the grid is whole.
    fn missing(&self) -> String {
        let seeds = self.all_seeds();
        let mut gaps = String::new();
        for model in self.models() {
            for dataset in self.datasets() {
                let here = self.seeds.get(&(model.to_owned(), dataset.to_owned()));
                let lacking: BTreeSet<u64> =
                    seeds.iter().filter(|seed| here.is_none_or(|here| !here.contains(seed))).copied().collect();
                if !lacking.is_empty() {
                    let _ = writeln!(gaps, "#   {model} on {dataset}: {}", ranges(&lacking));
                }
            }
        }
        if gaps.is_empty() {
            "# The grid is whole; a checkpoint that disappears is an error (or: skip-seed, skip-cell).\nmissing: fail\n"
                .to_owned()
        } else {
            format!("# Seeds that do not exist:\n{gaps}missing: skip-seed\nminimum_seeds: 2\n")
        }
    }

    fn remarks(&self, text: &mut String) {
        let remarks = [
            ("Pretrained checkpoints that nothing was fine-tuned from", &self.untouched),
            ("Left out for want of <model>_pt", &self.orphans),
            ("Not recognised", &self.others),
        ];
        for (what, names) in remarks {
            let shown: Vec<&str> = names.iter().take(10).map(String::as_str).collect();
            if !shown.is_empty() {
                let more = names.len() - shown.len();
                let more = if more == 0 { String::new() } else { format!(" and {more} more") };
                let _ = writeln!(text, "# {what}: {}{more}", one_line(&shown.join(", ")));
            }
        }
    }
}

/// Seeds as a study file writes them: `0..4, 7`.
fn ranges(seeds: &BTreeSet<u64>) -> String {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for &seed in seeds {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(seed) => *last = seed,
            _ => runs.push((seed, seed)),
        }
    }
    let run = |(first, last): (u64, u64)| if first == last { first.to_string() } else { format!("{first}..{last}") };
    runs.into_iter().map(run).collect::<Vec<_>>().join(", ")
}

/// A text as a YAML scalar that reads back as this text: plain where that is safe, else in double quotes.
pub(super) fn scalar(text: &str) -> String {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    let reserved = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(word)
        && !reserved.contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { quoted(text) }
}

/// In double quotes, with YAML's escapes for everything that is not plain printable text.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' | '\u{a1}'..='\u{d7ff}' if !matches!(c, '\u{2028}' | '\u{2029}') => out.push(c),
            // Writing to a string cannot fail.
            _ => drop(write!(out, "\\U{:08X}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

/// Comments end with their line: what a name holds must not continue beyond it.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() || matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}') { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::spec::{Missing, Spec};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_whole_grid() {
        let mut names = vec!["ViT-B-16_pt".to_owned(), "my_model_pt".to_owned(), "run-abc-history".to_owned()];
        for seed in 0..3 {
            for dataset in ["CIFAR100", "DTD"] {
                names.push(format!("ViT-B-16_{dataset}_{seed}"));
                names.push(format!("my_model_{dataset}_{seed}"));
            }
        }
        let found = discover(names.iter().map(String::as_str));
        assert_eq!(found.models().into_iter().collect::<Vec<_>>(), ["ViT-B-16", "my_model"]);
        assert_eq!(found.others, ["run-abc-history"]);
        let text = found.render("study", "e", "p").unwrap();
        let spec = Spec::parse(&text).unwrap();
        assert_eq!((spec.models.len(), spec.datasets.len(), &spec.seeds[..]), (2, 2, &[0, 1, 2][..]));
        assert_eq!(spec.missing, Missing::Fail);
        assert!(text.contains("# Not recognised: run-abc-history"));
    }

    #[test]
    fn gaps_orphans_and_the_longer_model() {
        let names = ["a_pt", "a_b_pt", "c_pt", "a_b_x_0", "a_b_x_1", "a_y_0", "a_y_2", "z_x_0", "a_x_007", "a_1"];
        let found = discover(names);
        assert_eq!(
            found.seeds.keys().cloned().collect::<Vec<_>>(),
            [("a".to_owned(), "y".to_owned()), ("a_b".to_owned(), "x".to_owned())]
        );
        assert_eq!(
            (found.untouched, found.orphans),
            (vec!["c".to_owned()], vec!["a_1".to_owned(), "z_x_0".to_owned()])
        );
        assert_eq!(found.others, ["a_x_007"]);
        let text = discover(names).render("s", "e", "p").unwrap();
        assert!(text.contains("#   a on y: 1\n") && text.contains("#   a_b on y: 0..2\n"), "{text}");
        assert_eq!(Spec::parse(&text).unwrap().missing, Missing::SkipSeed { minimum: 2 });
        assert!(discover(["a_pt", "a_x_0"]).render("s", "e", "p").is_none());
    }

    proptest! {
        #[test]
        fn any_grid_is_found_again(
            models in proptest::collection::btree_set("[a-zA-Z][a-zA-Z0-9.-]{0,6}", 1..4),
            datasets in proptest::collection::btree_set("[a-zA-Z][a-zA-Z0-9.-]{0,6}", 1..4),
            seeds in proptest::collection::btree_set(0u64..50, 2..6),
        ) {
            let mut names: Vec<String> = models.iter().map(|model| format!("{model}_pt")).collect();
            for model in &models {
                for dataset in &datasets {
                    names.extend(seeds.iter().map(|seed| format!("{model}_{dataset}_{seed}")));
                }
            }
            let text = discover(names.iter().map(String::as_str)).render("s", "e", "p").unwrap();
            let spec = Spec::parse(&text).unwrap();
            prop_assert_eq!(spec.models.into_iter().collect::<BTreeSet<_>>(), models);
            prop_assert_eq!(spec.datasets.into_iter().collect::<BTreeSet<_>>(), datasets);
            prop_assert_eq!(spec.seeds.into_iter().collect::<BTreeSet<_>>(), seeds);
        }

        #[test]
        fn any_names_give_a_readable_file_or_none(names in proptest::collection::vec(".{0,3}(_pt|_x_[0-9])?", 0..8)) {
            let found = discover(names.iter().map(String::as_str));
            if let Some(text) = found.render("s", "e", "p") {
                // Odd names are refused as names, but never break the file.
                if let Err(error) = Spec::parse(&text) {
                    prop_assert!(matches!(error, super::super::spec::SpecError::Invalid { .. }), "{error}: {text}");
                }
            }
        }
    }
}
