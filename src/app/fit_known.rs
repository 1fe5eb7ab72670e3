//! What an earlier fit knows of a new one: the Grams of the checkpoints that both have. A checkpoint is the same when its
//! bytes are. Reads the earlier fit.

use std::collections::HashMap;
use std::path::Path;

use crate::analysis::{Backend as _, BuiltIn, Known, Layer, LayerFit};

use super::begin_run::PROGRAM;
use super::fit_folder::Fit;
use super::fit_record::InputRecord;
use super::pull::Pulled;

/// Between backends that made parts of one fit.
const AND: &str = " and ";

/// The stored Grams of some of the seeds of a fit.
#[derive(Debug)]
pub(super) struct KnownFit {
    layers: HashMap<String, LayerFit>,
    /// For each seed of the new fit its row in the stored Grams.
    rows: Vec<Option<usize>>,
    /// What made its products.
    backend: String,
}

impl KnownFit {
    /// What the fit in this folder knows; nothing when there is none, or none of the same pretrained checkpoint, read alike,
    /// by this version of the program, with a seed in common.
    pub(super) fn in_folder(folder: &Path, pulled: &[Pulled], key: Option<&str>) -> Option<Self> {
        // What cannot be read is no fit to start from, and will be replaced.
        Self::of(Fit::read(folder).ok()?, pulled, key)
    }

    /// The same of a fit that was read.
    pub(super) fn of(earlier: Fit, pulled: &[Pulled], key: Option<&str>) -> Option<Self> {
        let (pretrained, tuned) = pulled.split_first()?;
        let record = &earlier.record;
        let alike = record.program == PROGRAM && record.key.as_deref() == key;
        if !alike || !is_same(&record.pretrained, &pretrained.record) {
            return None;
        }
        let row = |now: &Pulled| record.finetuned.iter().position(|known| is_same(known, &now.record));
        let rows: Vec<Option<usize>> = tuned.iter().map(row).collect();
        let backend = record.backend.clone().unwrap_or_else(|| BuiltIn.name());
        let layers = earlier.layers.into_iter().map(|fit| (fit.layer.name.clone(), fit)).collect();
        rows.iter().any(Option::is_some).then_some(Self { layers, rows, backend })
    }

    /// How many seeds are known, and of how many.
    pub(super) fn seeds(&self) -> (usize, usize) {
        (self.rows.iter().flatten().count(), self.rows.len())
    }

    /// What made the products of the new fit, when `now` makes the missing ones.
    pub(super) fn backends(&self, now: &str) -> String {
        let before = &self.backend;
        if self.rows.iter().all(Option::is_some) || before.split(AND).any(|name| name == now) {
            return before.clone();
        }
        format!("{before}{AND}{now}")
    }

    /// What is known of a layer.
    pub(super) fn layer(&self, layer: &Layer) -> Option<Known<'_>> {
        let fit = self.layers.get(&layer.name).filter(|fit| fit.layer == *layer)?;
        Some(Known { gram: &fit.gram, rows: &self.rows })
    }

    /// In a sentence; `source` says where from.
    pub(super) fn sentence(&self, source: &str) -> String {
        let (known, all) = self.seeds();
        match all - known {
            0 => format!("all {all} seeds are known from {source}: nothing is computed from checkpoints again"),
            1 => format!("{known} of {all} seeds are known from {source}: computing the row of the other one"),
            new => format!("{known} of {all} seeds are known from {source}: computing the rows of the other {new}"),
        }
    }
}

/// Whether these are the same bytes, proved then at least as well as now.
fn is_same(known: &InputRecord, now: &InputRecord) -> bool {
    known.verified >= now.verified && known.digest.is_some() && known.digest == now.digest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::input::Verified;

    #[test]
    fn a_fit_names_all_that_made_its_products() {
        let known = |rows: &[Option<usize>], backend: &str| {
            let (layers, backend) = (HashMap::new(), backend.to_owned());
            KnownFit { layers, rows: rows.to_vec(), backend }
        };
        assert_eq!(known(&[Some(0), None], "built-in").backends("built-in"), "built-in");
        assert_eq!(known(&[Some(0), None], "built-in").backends("libtorch 2 on cpu"), "built-in and libtorch 2 on cpu");
        let mixed = "built-in and libtorch 2 on cpu";
        assert_eq!(known(&[Some(0), None], mixed).backends("built-in"), mixed);
        assert_eq!(known(&[Some(1), Some(0)], "libtorch 2 on cpu").backends("built-in"), "libtorch 2 on cpu");
    }

    #[test]
    fn only_the_same_bytes_proved_as_well_are_the_same() {
        let record = |digest: Option<&str>, verified| InputRecord {
            input: "a".to_owned(),
            seed: Some(1),
            resolved: None,
            artifact_digest: None,
            file: "a".into(),
            size: 1,
            digest: digest.map(str::to_owned),
            sha256: None,
            verified,
        };
        let (whole, partly, no) = (Verified::Whole, Verified::Partly, Verified::No);
        assert!(is_same(&record(Some("x"), whole), &record(Some("x"), whole)));
        assert!(is_same(&record(Some("x"), whole), &record(Some("x"), partly)));
        assert!(!is_same(&record(Some("x"), partly), &record(Some("x"), whole)));
        assert!(!is_same(&record(Some("x"), whole), &record(Some("y"), whole)));
        assert!(!is_same(&record(None, no), &record(None, no)));
        let elsewhere = InputRecord { file: "b".into(), seed: None, ..record(Some("x"), no) };
        assert!(is_same(&record(Some("x"), no), &elsewhere));
    }
}
