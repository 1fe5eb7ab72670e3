//! What W&B keeps of a run under `config._wandb`: telemetry `t`, metric definitions `m`, the environment `e`. No I/O.
//!
//! Telemetry and metrics go there by their protobuf field numbers: a message made of booleans becomes the ascending list
//! of those that are true, a text stays a text (`core/internal/corelib`, `core/internal/runmetric`).

use std::collections::BTreeMap;

use prost::bytes::Buf;
use prost::encoding::{WireType, decode_key, decode_varint};
use serde_json::{Map, Value, json};

use super::record::{EnvironmentRecord, MetricRecord, Timestamp};

/// Fields of `TelemetryRecord` that are texts, and the one that is a message of texts; the others are sets of flags.
const TEXTS: [u32; 5] = [4, 5, 6, 12, 13];
const LABEL: u32 = 9;
/// Flags of a metric's options that go to the server: `step_sync` and `hidden`; and the one that says that the metric was
/// defined under its own name, which a client works out itself.
const OPTIONS: [u32; 2] = [1, 2];
const EXPLICIT: u32 = 3;
/// Flags of its summary: minimum, maximum, mean, last, none, first.
const SUMMARIES: [u32; 6] = [1, 2, 3, 5, 6, 8];
/// `core_version`: who sent the run.
pub(crate) const SENDER: u32 = 12;

/// One field of a message as it is on the wire.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, up to the first that cannot be read.
fn fields(mut bytes: &[u8]) -> Vec<(u32, Field<'_>)> {
    let mut found = Vec::new();
    while bytes.has_remaining() {
        let Some((number, field)) = field(&mut bytes) else { break };
        if let Some(field) = field {
            found.push((number, field));
        }
    }
    found
}

/// The next field; the inner nothing is one of a type that telemetry has none of.
fn field<'a>(bytes: &mut &'a [u8]) -> Option<(u32, Option<Field<'a>>)> {
    let (number, wire) = decode_key(bytes).ok()?;
    let mut take = |count: usize| {
        let (taken, rest) = bytes.split_at_checked(count)?;
        *bytes = rest;
        Some(taken)
    };
    let field = match wire {
        WireType::SixtyFourBit => take(8).map(|_| None)?,
        WireType::ThirtyTwoBit => take(4).map(|_| None)?,
        WireType::Varint => Some(Field::Number(decode_varint(bytes).ok()?)),
        WireType::LengthDelimited => {
            let length = usize::try_from(decode_varint(bytes).ok()?).ok()?;
            let (taken, rest) = bytes.split_at_checked(length)?;
            *bytes = rest;
            Some(Field::Bytes(taken))
        }
        WireType::StartGroup | WireType::EndGroup => return None,
    };
    Some((number, field))
}

/// The numbers of the flags that are true in a message made of booleans.
fn flags(bytes: &[u8]) -> Vec<u32> {
    let on = |(number, field): (u32, Field<'_>)| matches!(field, Field::Number(1..)).then_some(number);
    let mut numbers: Vec<u32> = fields(bytes).into_iter().filter_map(on).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

fn text(bytes: &[u8]) -> Value {
    String::from_utf8_lossy(bytes).into()
}

/// `_wandb.t` of telemetry messages one after another, which is how protobuf merges them.
pub(crate) fn telemetry(messages: &[u8]) -> Value {
    let mut sets: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    let mut other: BTreeMap<u32, Value> = BTreeMap::new();
    for (number, field) in fields(messages) {
        match field {
            Field::Bytes(bytes) if TEXTS.contains(&number) => {
                other.insert(number, text(bytes));
            }
            Field::Bytes(bytes) if number == LABEL => {
                let labels = fields(bytes).into_iter().filter_map(|(number, field)| match field {
                    Field::Bytes(bytes) => Some((number.to_string(), text(bytes))),
                    Field::Number(_) => None,
                });
                other.insert(number, Value::Object(labels.collect()));
            }
            Field::Bytes(bytes) => sets.entry(number).or_default().extend_from_slice(bytes),
            Field::Number(value) => {
                other.insert(number, value.into());
            }
        }
    }
    other.extend(sets.into_iter().map(|(number, bytes)| (number, json!(flags(&bytes)))));
    Value::Object(other.into_iter().map(|(number, value)| (number.to_string(), value)).collect())
}

/// A telemetry message of one text.
pub(crate) fn telemetry_text(number: u32, value: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::string::encode(number, &value.to_owned(), &mut bytes);
    bytes
}

/// The metric definitions of a run.
#[derive(Debug, Default)]
pub(crate) struct Metrics(Vec<MetricRecord>);

impl Metrics {
    /// Takes a definition in: over an earlier one of the same name, or together with it.
    pub(crate) fn define(&mut self, record: MetricRecord) {
        let same = |known: &&mut MetricRecord| known.name == record.name && known.glob_name == record.glob_name;
        let Some(known) = self.0.iter_mut().find(same) else {
            self.0.push(record);
            return;
        };
        if record.control.is_some_and(|control| control.overwrite) {
            *known = record;
            return;
        }
        let join = |old: &mut Option<Vec<u8>>, new: Option<Vec<u8>>| {
            if let Some(new) = new {
                old.get_or_insert_default().extend(new);
            }
        };
        join(&mut known.options, record.options);
        join(&mut known.summary, record.summary);
        if !record.step_metric.is_empty() {
            known.step_metric = record.step_metric;
        }
        if record.goal != 0 {
            known.goal = record.goal;
        }
    }

    /// `_wandb.m`: each with the place of its step metric in the list, which is added when it has no definition.
    pub(crate) fn list(&self) -> Vec<Value> {
        let mut all = self.0.clone();
        for metric in &self.0 {
            let step = &metric.step_metric;
            if !step.is_empty() && !all.iter().any(|known| &known.name == step) {
                all.push(MetricRecord { name: step.clone(), ..MetricRecord::default() });
            }
        }
        let place = |step: &str| all.iter().position(|known| known.name == step).map(|at| at + 1);
        let entry = |metric: &MetricRecord| {
            let mut entry = Map::new();
            let mut texts = |number: &str, text: &str| {
                if !text.is_empty() {
                    entry.insert(number.to_owned(), text.into());
                }
            };
            texts("1", &metric.name);
            texts("2", &metric.glob_name);
            if !metric.step_metric.is_empty()
                && let Some(place) = place(&metric.step_metric)
            {
                entry.insert("5".to_owned(), place.into());
            }
            let of = |message: &Option<Vec<u8>>, known: &[u32]| -> Vec<u32> {
                let set = flags(message.as_deref().unwrap_or_default());
                set.into_iter().filter(|number| known.contains(number)).collect()
            };
            let mut options = of(&metric.options, &OPTIONS);
            options.extend((!metric.name.is_empty() && self.0.contains(metric)).then_some(EXPLICIT));
            entry.insert("6".to_owned(), json!(options));
            entry.insert("7".to_owned(), json!(of(&metric.summary, &SUMMARIES)));
            if metric.goal != 0 {
                entry.insert("8".to_owned(), metric.goal.into());
            }
            Value::Object(entry)
        };
        all.iter().map(entry).collect()
    }
}

/// The environment as `wandb-metadata.json` and `_wandb.e` have it: protobuf's JSON, so 64-bit numbers are texts.
pub(crate) fn environment(record: &EnvironmentRecord) -> Map<String, Value> {
    let mut all = Map::new();
    let mut put = |key: &str, value: Value| {
        if !is_empty(&value) {
            all.insert(key.to_owned(), value);
        }
    };
    for (key, text) in [
        ("os", &record.os),
        ("python", &record.python),
        ("docker", &record.docker),
        ("program", &record.program),
        ("codePath", &record.code_path),
        ("codePathLocal", &record.code_path_local),
        ("email", &record.email),
        ("root", &record.root),
        ("host", &record.host),
        ("username", &record.username),
        ("executable", &record.executable),
        ("gpu", &record.gpu_type),
        ("cudaVersion", &record.cuda_version),
        ("writerId", &record.writer_id),
    ] {
        put(key, text.as_str().into());
    }
    put("startedAt", record.started_at.and_then(rfc3339).into());
    put("args", json!(record.args));
    if let Some(git) = &record.git {
        put("git", filled([("remote", json!(git.remote_url)), ("commit", json!(git.commit))]));
    }
    put("cpu_count", record.cpu_count.into());
    put("cpu_count_logical", record.cpu_count_logical.into());
    put("gpu_count", record.gpu_count.into());
    let sizes = |total: u64, used: u64| json!({ "total": total.to_string(), "used": used.to_string() });
    let disk = record.disk.iter().map(|(mount, disk)| (mount.clone(), sizes(disk.total, disk.used)));
    put("disk", Value::Object(disk.collect()));
    put("memory", record.memory.map_or(Value::Null, |memory| json!({ "total": memory.total.to_string() })));
    if let Some(cpu) = &record.cpu {
        let (count, logical) = (json!(cpu.count), json!(cpu.count_logical));
        put("cpu", filled([("model", json!(cpu.model)), ("count", count), ("countLogical", logical)]));
    }
    let gpu = |gpu: &super::record::GpuNvidiaInfo| {
        json!({
            "name": gpu.name, "memoryTotal": gpu.memory_total.to_string(), "cudaCores": gpu.cuda_cores,
            "architecture": gpu.architecture, "uuid": gpu.uuid,
        })
    };
    put("gpu_nvidia", record.gpu_nvidia.iter().map(gpu).collect::<Vec<_>>().into());
    put("slurm", json!(record.slurm));
    all
}

/// Whether protobuf's JSON leaves a value out.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Number(number) => number.as_u64() == Some(0),
        Value::Bool(_) => false,
    }
}

/// An object of the members that are not empty.
fn filled<const N: usize>(members: [(&str, Value); N]) -> Value {
    let kept = members.into_iter().filter(|(_, value)| !is_empty(value));
    Value::Object(kept.map(|(key, value)| (key.to_owned(), value)).collect())
}

/// As the JSON form of protocol buffers has it: 0, 3, 6 or 9 digits of a second.
fn rfc3339(time: Timestamp) -> Option<String> {
    let at = jiff::Timestamp::new(time.seconds, time.nanos).ok()?;
    Some(match time.nanos {
        0 => at.to_string(),
        nanos if nanos % 1_000_000 == 0 => format!("{at:.3}"),
        nanos if nanos % 1_000 == 0 => format!("{at:.6}"),
        _ => format!("{at:.9}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_digits_of_protocol_buffers() {
        let cases = [
            (0, "2023-11-14T22:13:20Z"),
            (120_000_000, "2023-11-14T22:13:20.120Z"),
            (247_730_000, "2023-11-14T22:13:20.247730Z"),
            (1_200, "2023-11-14T22:13:20.000001200Z"),
        ];
        for (nanos, text) in cases {
            assert_eq!(rfc3339(Timestamp { seconds: 1_700_000_000, nanos }).as_deref(), Some(text));
        }
        assert_eq!(rfc3339(Timestamp { seconds: i64::MAX, nanos: 0 }), None);
    }

    #[test]
    fn telemetry_becomes_numbers() {
        // feature{finish(2), offline(4)}, python_version, cli_version, then feature{set_init_name(13)} of a later record.
        let bytes = [
            &[0x1a, 4, 0x10, 1, 0x20, 1][..],
            &telemetry_text(4, "3.11.7"),
            &telemetry_text(5, "0.31.0"),
            &[0x1a, 4, 0x68, 1, 0x20, 1],
            &telemetry_text(SENDER, "x"),
        ]
        .concat();
        assert_eq!(telemetry(&bytes), json!({ "3": [2, 4, 13], "4": "3.11.7", "5": "0.31.0", "12": "x" }));
        // Damage ends it and breaks nothing.
        for cut in 0..bytes.len() {
            telemetry(&bytes[..cut]);
        }
    }

    #[test]
    fn an_environment_says_what_is_known() {
        let git = super::super::record::GitRepoRecord { commit: "abc".to_owned(), ..Default::default() };
        let memory = Some(super::super::record::MemoryInfo { total: 1 << 33 });
        let disk = [("/".to_owned(), super::super::record::DiskInfo { total: 2, used: 1 })].into();
        let started_at = Some(Timestamp { seconds: 1_700_000_000, nanos: 5_000 });
        let record = EnvironmentRecord {
            os: "Linux".to_owned(),
            git: Some(git),
            memory,
            disk,
            started_at,
            ..Default::default()
        };
        let expected = json!({
            "os": "Linux", "startedAt": "2023-11-14T22:13:20.000005Z", "git": { "commit": "abc" },
            "disk": { "/": { "total": "2", "used": "1" } }, "memory": { "total": "8589934592" },
        });
        assert_eq!(Value::Object(environment(&record)), expected);
        assert!(environment(&EnvironmentRecord::default()).is_empty());
    }

    #[test]
    fn metrics_name_their_step_by_its_place() {
        // The example of the wire: loss with its minimum, val/* by epoch, and epoch, which nobody defined.
        let mut metrics = Metrics::default();
        let of = |name: &str, glob: &str, step: &str| MetricRecord {
            name: name.to_owned(),
            glob_name: glob.to_owned(),
            step_metric: step.to_owned(),
            ..MetricRecord::default()
        };
        metrics.define(MetricRecord { options: Some(vec![0x18, 1]), summary: Some(vec![8, 1]), ..of("loss", "", "") });
        metrics.define(MetricRecord {
            options: Some(vec![8, 1]),
            summary: Some(vec![8, 1]),
            ..of("", "val/*", "epoch")
        });
        metrics.define(MetricRecord { summary: Some(vec![0x10, 1]), ..of("", "val/*", "") });
        assert_eq!(
            json!(metrics.list()),
            json!([
                { "1": "loss", "6": [3], "7": [1] },
                { "2": "val/*", "5": 3, "6": [1], "7": [1, 2] },
                { "1": "epoch", "6": [], "7": [] },
            ])
        );
    }
}
