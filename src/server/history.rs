//! What readers ask of the lines of a run: samples, rows with given keys, the keys there are, console lines. No I/O.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::fault::Fault;
use super::filter::lookup;
use super::row_json;
use super::rows::run::Line;

/// How many rows a sample has when the client does not say.
const DEFAULT_SAMPLES: usize = 500;

/// At most `count` of the items, spread evenly, the first and the last among them.
pub(super) fn sample<T>(items: Vec<T>, count: Option<i64>) -> Vec<T> {
    let count = count.and_then(|count| usize::try_from(count).ok()).unwrap_or(DEFAULT_SAMPLES);
    let total = items.len();
    if total <= count {
        return items;
    }
    let last = total - 1;
    let slots = count.saturating_sub(1).max(1);
    let mut next = 0;
    let mut kept = Vec::with_capacity(count);
    for (index, item) in items.into_iter().enumerate() {
        if kept.len() < count && index == next * last / slots {
            kept.push(item);
            next += 1;
        }
    }
    kept
}

/// One spec of `sampledHistory`: rows that have all of `keys`, with these keys only.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    #[serde(default)]
    keys: Vec<String>,
    #[serde(default)]
    samples: Option<i64>,
    #[serde(default)]
    min_step: Option<i64>,
    /// The last step wanted, inclusive.
    #[serde(default)]
    max_step: Option<i64>,
}

impl Spec {
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        serde_json::from_str(text).map_err(|error| Fault::invalid(format!("history spec: {error}")))
    }

    /// The steps it is about, the end exclusive.
    pub(super) fn steps(&self) -> std::ops::Range<i64> {
        self.min_step.unwrap_or(i64::MIN)..self.max_step.map_or(i64::MAX, |last| last.saturating_add(1))
    }

    /// The rows it wants out of these lines.
    pub(super) fn rows(&self, lines: &[Line]) -> Vec<Value> {
        let rows = lines.iter().filter_map(|line| {
            let row = row_json::parse(&line.content).ok()?;
            let pick = |key: &String| match key.as_str() {
                // Rows of shared runs have no step of their own.
                "_step" => Some((key.clone(), json!(line.step))),
                _ => lookup(&row, key).map(|value| (key.clone(), value.clone())),
            };
            if self.keys.is_empty() {
                return Some(row);
            }
            self.keys.iter().map(pick).collect::<Option<Map<_, _>>>().map(Value::Object)
        });
        sample(rows.collect(), self.samples)
    }
}

/// `historyKeys`: every key with the types and number of its values, and the last step.
pub(super) fn keys(lines: &[Line]) -> Value {
    let mut counts: BTreeMap<String, BTreeMap<&'static str, i64>> = BTreeMap::new();
    let mut last: BTreeMap<String, (Option<f64>, bool, Value)> = BTreeMap::new();
    for line in lines {
        let Ok(Value::Object(row)) = row_json::parse(&line.content) else { continue };
        for (key, value) in flatten(&row) {
            *counts.entry(key.clone()).or_default().entry(type_of(&value)).or_default() += 1;
            let number = value.as_f64();
            let entry = last.entry(key).or_insert((None, true, Value::Null));
            if let (Some(before), Some(now)) = (entry.0, number) {
                entry.1 &= now >= before;
            }
            entry.1 &= number.is_some();
            *entry = (number.or(entry.0), entry.1, value);
        }
    }
    let keys: Map<String, Value> = counts
        .into_iter()
        .map(|(key, types)| {
            let counted: Vec<Value> =
                types.into_iter().map(|(name, count)| json!({ "type": name, "count": count })).collect();
            let (_, monotonic, previous) = last.remove(&key).unwrap_or((None, false, Value::Null));
            let fact = json!({ "typeCounts": counted, "monotonic": monotonic, "previousValue": previous });
            (key, fact)
        })
        .collect();
    let last_step = lines.iter().map(|line| line.step).max();
    // Clients fail on a null step: without rows there is none at all.
    match last_step {
        Some(step) => json!({ "lastStep": step, "keys": keys }),
        None => json!({ "keys": keys }),
    }
}

/// Keys of nested objects are joined by dots; objects that stand for media stay whole.
fn flatten(row: &Map<String, Value>) -> Vec<(String, Value)> {
    let mut flat = Vec::new();
    for (key, value) in row {
        match value {
            Value::Object(inner) if !inner.contains_key("_type") && !inner.is_empty() => {
                flat.extend(flatten(inner).into_iter().map(|(rest, value)| (format!("{key}.{rest}"), value)));
            }
            value => flat.push((key.clone(), value.clone())),
        }
    }
    flat
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(text) if matches!(text.as_str(), "NaN" | "Infinity" | "-Infinity") => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "map",
    }
}

/// A console line taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Console {
    pub(super) level: Option<String>,
    pub(super) timestamp: Option<String>,
    pub(super) label: Option<String>,
    pub(super) text: String,
}

impl Console {
    /// Understands both forms: an object with `content`, and `[ERROR ]<time> [\[label\] ]<text>`.
    pub(super) fn parse(line: &str) -> Self {
        let line = line.strip_suffix('\n').unwrap_or(line);
        if let Ok(Value::Object(object)) = serde_json::from_str::<Value>(line)
            && let Some(content) = object.get("content").and_then(Value::as_str)
        {
            let text = |key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
            return Self {
                level: text("level"),
                timestamp: text("ts"),
                label: text("label"),
                text: content.to_owned(),
            };
        }
        let (level, rest) = match line.strip_prefix("ERROR ") {
            Some(rest) => (Some("error".to_owned()), rest),
            None => (None, line),
        };
        let (timestamp, text) = match rest.split_once(' ').unwrap_or((rest, "")) {
            (time, text) if is_time(time) => (Some(time.to_owned()), text),
            _ => return Self { level: None, timestamp: None, label: None, text: line.to_owned() },
        };
        Self { level, timestamp, label: None, text: text.to_owned() }
    }
}

/// Whether a text has the shape `YYYY-MM-DDTHH:MM:SS…`.
fn is_time(text: &str) -> bool {
    let shape = "dddd-dd-ddTdd:dd:dd";
    text.len() >= shape.len()
        && text.bytes().zip(shape.bytes()).all(|(byte, shape)| match shape {
            b'd' => byte.is_ascii_digit(),
            shape => byte == shape,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(rows: &[(i64, &str)]) -> Vec<Line> {
        let line = |(number, (step, content)): (usize, &(i64, &str))| Line {
            number: number as i64,
            step: *step,
            content: (*content).to_owned(),
        };
        rows.iter().enumerate().map(line).collect()
    }

    #[test]
    fn samples_are_spread_and_keep_both_ends() {
        let all: Vec<i32> = (0..1000).collect();
        let kept = sample(all.clone(), Some(5));
        assert_eq!(kept, [0, 249, 499, 749, 999]);
        assert_eq!(sample(all.clone(), Some(2)), [0, 999]);
        assert_eq!(sample(all.clone(), Some(1)), [0]);
        assert!(sample(all.clone(), Some(0)).is_empty());
        assert_eq!(sample(all, None).len(), 500);
        assert_eq!(sample(vec![1, 2], Some(5)), [1, 2]);
    }

    #[test]
    fn only_rows_with_all_keys_are_given_and_nan_is_text() {
        let lines = lines(&[(0, r#"{"a":1,"n":{"x":2}}"#), (1, r#"{"a":NaN}"#), (2, r#"{"a":3,"n":{"x":4},"n.x":5}"#)]);
        let spec = Spec::parse(r#"{"keys":["_step","a","n.x","_step"],"maxStep":2}"#).unwrap();
        assert_eq!(spec.steps(), i64::MIN..3);
        assert_eq!(spec.rows(&lines), [json!({"_step": 0, "a": 1, "n.x": 2}), json!({"_step": 2, "a": 3, "n.x": 5})]);
        assert_eq!(Spec::parse("{\"keys\":[\"a\"]}").unwrap().rows(&lines)[1], json!({"a": "NaN"}));
        assert!(Spec::parse("[").is_err());
    }

    #[test]
    fn keys_are_counted_by_type() {
        let found = keys(&lines(&[(0, r#"{"a":1,"n":{"x":2}}"#), (4, r#"{"a":0,"t":{"_type":"table-file"}}"#)]));
        assert_eq!(found["lastStep"], 4);
        assert_eq!(found["keys"]["a"]["typeCounts"], json!([{"type": "number", "count": 2}]));
        assert_eq!(found["keys"]["a"]["monotonic"], false);
        assert_eq!(found["keys"]["n.x"]["monotonic"], true);
        assert_eq!(found["keys"]["t"]["typeCounts"][0]["type"], "map");
        assert!(keys(&[]).get("lastStep").is_none());
    }

    #[test]
    fn console_lines_of_both_forms_are_taken_apart() {
        let plain = Console::parse("ERROR 2026-11-23T02:26:56.885694 err line\n");
        assert_eq!(plain.level.as_deref(), Some("error"));
        assert_eq!(plain.timestamp.as_deref(), Some("2026-11-23T02:26:56.885694"));
        assert_eq!(plain.text, "err line");
        let json = Console::parse(r#"{"ts":"2026-11-23T02:26:56","content":"x","label":"a"}"#);
        assert_eq!((json.text.as_str(), json.label.as_deref(), json.level), ("x", Some("a"), None));
        assert_eq!(Console::parse("no time here").text, "no time here");
    }
}
