//! The shape of the study file as YAML, and its checks; what passes is a [`Spec`]. The only place that knows the YAML
//! library. Text only, no I/O.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::{Location, Spanned};

use super::spec::{
    LayerFilter, Log, MAX_CELLS, MAX_SEEDS, Measure, Missing, Slurm, Spec, SpecError, SpecProblem, SweepAxes,
};
use super::template::Template;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StudyFile {
    version: Option<Spanned<u64>>,
    name: Spanned<String>,
    entity: Option<Spanned<String>>,
    project: Option<Spanned<String>>,
    models: Spanned<Vec<Spanned<String>>>,
    datasets: Spanned<Vec<Spanned<String>>>,
    seeds: Spanned<SeedList>,
    pretrained: Option<Spanned<String>>,
    finetuned: Option<Spanned<String>>,
    #[serde(default)]
    layers: Vec<Spanned<String>>,
    #[serde(default)]
    exclude_layers: Vec<Spanned<String>>,
    measures: Option<Vec<Spanned<Measure>>>,
    log: Option<Vec<Spanned<Log>>>,
    missing: Option<Policy>,
    minimum_seeds: Option<Spanned<u64>>,
    retries: Option<Spanned<u64>>,
    max_failures: Option<Spanned<u64>>,
    shards: Option<Spanned<u64>>,
    sweep: Option<SweepSection>,
    slurm: Option<SlurmSection>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SweepSection {
    #[serde(default)]
    layers: Vec<Spanned<String>>,
    #[serde(default)]
    seeds: Vec<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Policy {
    Fail,
    SkipSeed,
    SkipCell,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SlurmSection {
    partition: Option<Spanned<String>>,
    account: Option<Spanned<String>>,
    time: Option<Spanned<String>>,
    memory: Option<Spanned<String>>,
    cpus: Option<Spanned<u64>>,
    at_once: Option<Spanned<u64>>,
    #[serde(default)]
    options: Vec<Spanned<String>>,
    #[serde(default)]
    setup: Vec<Spanned<String>>,
}

/// Seeds as written: a number, a range `0..9` with both ends, or a list of those. What is none of those is kept too, so
/// that the error can carry its place.
#[derive(Debug)]
struct SeedList(Vec<String>);

/// Parses `7` or `0..9`.
fn seed_range(text: &str) -> Result<(u64, u64), SpecProblem> {
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let range = match text.split_once("..") {
        Some((first, last)) => number(first).zip(number(last)),
        None => number(text).map(|seed| (seed, seed)),
    };
    range.ok_or_else(|| SpecProblem::BadSeeds { value: text.to_owned() })
}

impl<'de> Deserialize<'de> for SeedList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seeds;
        impl<'de> Visitor<'de> for Seeds {
            type Value = SeedList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a range of seeds such as 0..9 (both ends included) or a list of seeds and ranges")
            }

            fn visit_u64<E: de::Error>(self, seed: u64) -> Result<SeedList, E> {
                Ok(SeedList(vec![seed.to_string()]))
            }

            fn visit_i64<E: de::Error>(self, seed: i64) -> Result<SeedList, E> {
                Ok(SeedList(vec![seed.to_string()]))
            }

            fn visit_f64<E: de::Error>(self, seed: f64) -> Result<SeedList, E> {
                Ok(SeedList(vec![seed.to_string()]))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<SeedList, E> {
                Ok(SeedList(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<SeedList, A::Error> {
                let mut seeds = Vec::new();
                while let Some(SeedList(more)) = sequence.next_element()? {
                    seeds.extend(more);
                }
                Ok(SeedList(seeds))
            }
        }
        deserializer.deserialize_any(Seeds)
    }
}

/// Reads and checks the text of a study file.
pub(super) fn read(text: &str) -> Result<Spec, SpecError> {
    let file: StudyFile = serde_saphyr::from_str(text).map_err(|error| {
        let (line, column, reason) = explain(&error);
        SpecError::Syntax { line, column, reason }
    })?;
    check(file)
}

/// Where an error of the YAML library is, and what it says.
pub(super) fn explain(error: &serde_saphyr::Error) -> (u64, u64, String) {
    let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
    // The first line alone: the library appends the place, which the error carries itself.
    let message = error.without_snippet().to_string();
    let place = format!(" at line {line}, column {column}");
    let reason = message.lines().next().unwrap_or_default().replace(&place, "");
    // What it says to whoever calls it from a program is no use to who wrote the file.
    let reason = match reason.as_str() {
        "invalid u64" => "this is not a whole number, 0 or more".to_owned(),
        "unexpected end of input" => "there is nothing, or nothing but comments".to_owned(),
        other => other.split(", set DuplicateKeyPolicy").next().unwrap_or_default().to_owned(),
    };
    (line, column, reason)
}

fn invalid(at: Location, problem: SpecProblem) -> SpecError {
    SpecError::Invalid { line: at.line(), column: at.column(), problem }
}

fn check(file: StudyFile) -> Result<Spec, SpecError> {
    if let Some(version) = file.version.filter(|version| version.value != 1) {
        return Err(invalid(version.referenced, SpecProblem::Version { found: version.value }));
    }
    let datasets_at = file.datasets.referenced;
    let models = names("models", file.models)?;
    let datasets = names("datasets", file.datasets)?;
    if models.len().saturating_mul(datasets.len()) > MAX_CELLS {
        return Err(invalid(datasets_at, SpecProblem::TooMany { what: "cells", most: MAX_CELLS }));
    }
    let pretrained = template(file.pretrained, "{model}_pt:latest", |template| {
        let depends = [("dataset", template.has_dataset()), ("seed", template.has_seed())];
        match depends.into_iter().find(|(_, has)| *has) {
            Some((placeholder, _)) => Err(SpecProblem::SharedByAll { placeholder }),
            None => needs(&[("model", template.has_model() || models.len() == 1)]),
        }
    })?;
    let finetuned = template(file.finetuned, "{model}_{dataset}_{seed}:latest", |template| {
        needs(&[
            ("model", template.has_model() || models.len() == 1),
            ("dataset", template.has_dataset() || datasets.len() == 1),
            ("seed", template.has_seed()),
        ])
    })?;
    Ok(Spec {
        name: name(file.name)?,
        entity: file.entity.map(name).transpose()?,
        project: file.project.map(name).transpose()?,
        seeds: seeds(file.seeds.value.0.iter().map(String::as_str))
            .map_err(|problem| invalid(file.seeds.referenced, problem))?,
        models,
        datasets,
        pretrained,
        finetuned,
        layers: layer_filter(file.layers, file.exclude_layers)?,
        measures: chosen("measures", file.measures, [Measure::Variance, Measure::Similarity, Measure::Subspace])?,
        log: chosen("log", file.log, [Log::Cells, Log::Summary, Log::Artifacts])?,
        missing: policy(file.missing, file.minimum_seeds)?,
        retries: number("retries", file.retries, 0, 100)?.unwrap_or(2),
        max_failures: number("max_failures", file.max_failures, 1, u64::from(u32::MAX))?,
        shards: number("shards", file.shards, 1, 10_000)?.unwrap_or(1),
        sweep: file.sweep.map(sweep).transpose()?.unwrap_or_default(),
        variant: None,
        slurm: file.slurm.map(slurm).transpose()?,
    })
}

fn name(text: Spanned<String>) -> Result<String, SpecError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let fine = !text.value.is_empty()
        && text.value.len() <= 128
        && text.value.chars().all(legal)
        && !text.value.chars().all(|c| c == '.');
    if fine { Ok(text.value) } else { Err(invalid(text.referenced, SpecProblem::BadName { value: text.value })) }
}

fn names(key: &'static str, list: Spanned<Vec<Spanned<String>>>) -> Result<Vec<String>, SpecError> {
    if list.value.is_empty() {
        return Err(invalid(list.referenced, SpecProblem::Empty { key }));
    }
    let mut seen = BTreeSet::new();
    list.value
        .into_iter()
        .map(|entry| {
            let at = entry.referenced;
            let value = name(entry)?;
            if seen.insert(value.clone()) { Ok(value) } else { Err(invalid(at, SpecProblem::Twice { key, value })) }
        })
        .collect()
}

/// Seeds of a text such as `0..4` or `0..4,7`.
pub(super) fn seeds_of(text: &str) -> Result<Vec<u64>, SpecProblem> {
    seeds(text.split(','))
}

fn seeds<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Vec<u64>, SpecProblem> {
    let mut seeds = BTreeSet::new();
    for text in texts {
        let (first, last) = seed_range(text)?;
        if last < first {
            return Err(SpecProblem::BackwardRange { first, last });
        }
        if last - first >= MAX_SEEDS as u64 || seeds.len() + (last - first) as usize >= MAX_SEEDS {
            return Err(SpecProblem::TooMany { what: "seeds", most: MAX_SEEDS });
        }
        for seed in first..=last {
            if !seeds.insert(seed) {
                return Err(SpecProblem::Twice { key: "seeds", value: seed.to_string() });
            }
        }
    }
    if seeds.len() < 2 {
        let found = seeds.len() as u64;
        return Err(SpecProblem::OutOfRange { key: "seeds", found, least: 2, most: MAX_SEEDS as u64 });
    }
    Ok(seeds.into_iter().collect())
}

fn template(
    text: Option<Spanned<String>>,
    default: &str,
    check: impl Fn(&Template) -> Result<(), SpecProblem>,
) -> Result<Template, SpecError> {
    let (text, at) = text.map_or((default.to_owned(), Location::UNKNOWN), |text| (text.value, text.referenced));
    let parsed = Template::parse(&text).map_err(SpecProblem::from);
    parsed.and_then(|template| check(&template).map(|()| template)).map_err(|problem| invalid(at, problem))
}

fn needs(placeholders: &[(&'static str, bool)]) -> Result<(), SpecProblem> {
    match placeholders.iter().find(|(_, has)| !has) {
        Some(&(placeholder, _)) => Err(SpecProblem::NeedsPlaceholder { placeholder }),
        None => Ok(()),
    }
}

fn layer_filter(include: Vec<Spanned<String>>, exclude: Vec<Spanned<String>>) -> Result<LayerFilter, SpecError> {
    for glob in include.iter().chain(&exclude) {
        LayerFilter::new(vec![glob.value.clone()], Vec::new()).map_err(|problem| invalid(glob.referenced, problem))?;
    }
    let texts = |globs: Vec<Spanned<String>>| globs.into_iter().map(|glob| glob.value).collect();
    LayerFilter::new(texts(include), texts(exclude)).map_err(|problem| invalid(Location::UNKNOWN, problem))
}

fn chosen<T: Ord + Copy + serde::Serialize, const N: usize>(
    key: &'static str,
    list: Option<Vec<Spanned<T>>>,
    default: [T; N],
) -> Result<BTreeSet<T>, SpecError> {
    let Some(list) = list else { return Ok(BTreeSet::from(default)) };
    let mut set = BTreeSet::new();
    for entry in list {
        if !set.insert(entry.value) {
            let value = serde_json::to_value(entry.value).unwrap_or_default();
            let value = value.as_str().unwrap_or_default().to_owned();
            return Err(invalid(entry.referenced, SpecProblem::Twice { key, value }));
        }
    }
    Ok(set)
}

fn policy(missing: Option<Policy>, minimum: Option<Spanned<u64>>) -> Result<Missing, SpecError> {
    match (missing.unwrap_or(Policy::Fail), minimum) {
        (Policy::SkipSeed, minimum) => {
            Ok(Missing::SkipSeed { minimum: number("minimum_seeds", minimum, 2, MAX_SEEDS as u64)?.unwrap_or(2) })
        }
        (_, Some(minimum)) => Err(invalid(minimum.referenced, SpecProblem::MinimumWithoutSkip)),
        (Policy::Fail, None) => Ok(Missing::Fail),
        (Policy::SkipCell, None) => Ok(Missing::SkipCell),
    }
}

fn number(key: &'static str, value: Option<Spanned<u64>>, least: u64, most: u64) -> Result<Option<u32>, SpecError> {
    let Some(value) = value else { return Ok(None) };
    let found = value.value;
    match u32::try_from(found) {
        Ok(fits) if (least..=most).contains(&found) => Ok(Some(fits)),
        _ => Err(invalid(value.referenced, SpecProblem::OutOfRange { key, found, least, most })),
    }
}

fn sweep(section: SweepSection) -> Result<SweepAxes, SpecError> {
    let checked = |values: Vec<Spanned<String>>, check: fn(&str) -> Result<(), SpecProblem>| {
        let one = |value: Spanned<String>| match check(&value.value) {
            Ok(()) => Ok(value.value),
            Err(problem) => Err(invalid(value.referenced, problem)),
        };
        values.into_iter().map(one).collect::<Result<Vec<_>, _>>()
    };
    Ok(SweepAxes {
        layers: checked(section.layers, |glob| LayerFilter::new(vec![glob.to_owned()], Vec::new()).map(|_| ()))?,
        seeds: checked(section.seeds, |text| seeds_of(text).map(|_| ()))?,
    })
}

fn slurm(section: SlurmSection) -> Result<Slurm, SpecError> {
    let checked = |text: Spanned<String>, fine: fn(&str) -> bool, problem: fn(String) -> SpecProblem| {
        if fine(&text.value) { Ok(text.value) } else { Err(invalid(text.referenced, problem(text.value))) }
    };
    let line = |text| checked(text, is_line, |value| SpecProblem::NotOneLine { value });
    Ok(Slurm {
        partition: section.partition.map(line).transpose()?,
        account: section.account.map(line).transpose()?,
        time: section.time.map(|time| checked(time, is_time, |value| SpecProblem::BadTime { value })).transpose()?,
        memory: section
            .memory
            .map(|memory| checked(memory, is_memory, |value| SpecProblem::BadMemory { value }))
            .transpose()?,
        cpus: number("cpus", section.cpus, 1, 4096)?,
        at_once: number("at_once", section.at_once, 1, 1_000_000)?,
        options: section.options.into_iter().map(line).collect::<Result<_, _>>()?,
        setup: section.setup.into_iter().map(line).collect::<Result<_, _>>()?,
    })
}

fn is_line(text: &str) -> bool {
    !text.trim().is_empty() && !text.chars().any(char::is_control)
}

/// The forms of `sbatch --time`: M, M:S, H:M:S, D-H, D-H:M, D-H:M:S.
fn is_time(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.len() <= 6 && part.bytes().all(|b| b.is_ascii_digit());
    let (days, clock) = text.split_once('-').map_or((None, text), |(days, clock)| (Some(days), clock));
    days.is_none_or(digits) && clock.split(':').count() <= 3 && clock.split(':').all(digits)
}

fn is_memory(text: &str) -> bool {
    let number = text.strip_suffix(['K', 'M', 'G', 'T']).unwrap_or(text);
    !number.is_empty() && number.len() <= 9 && number.bytes().all(|b| b.is_ascii_digit())
}
