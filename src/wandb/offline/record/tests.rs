//! The messages against a log of the official SDK.

use super::super::framing::{FILE_HEADER, Framed, Unframer, frame};
use super::*;
use serde_json::Value;

const LOG: &[u8] = include_bytes!("../../../../fixtures/offline/sdk-0.31.wandb");
const RECORDS: &str = include_str!("../../../../fixtures/offline/sdk-0.31.jsonl");

fn framed() -> Vec<Vec<u8>> {
    let mut unframer = Unframer::default();
    unframer.push(LOG);
    let records = std::iter::from_fn(|| unframer.next()).map(|framed| match framed {
        Framed::Record { bytes, .. } => bytes,
        Framed::Damage(damage) => panic!("{damage:?}"),
    });
    let records = records.collect();
    assert_eq!(unframer.tail(), None);
    records
}

#[test]
fn we_frame_as_the_official_client_does() {
    let mut file = FILE_HEADER.to_vec();
    framed().iter().for_each(|record| frame(file.len() as u64, record, &mut file));
    assert!(file == LOG);
}

/// The list of items in a message as protobuf's own JSON has it, as paths and values.
fn items(list: &Value) -> Vec<(Vec<String>, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let item = |item: &Value| {
        let nested = item["nested_key"].as_array().map(|keys| keys.iter().map(text).collect());
        (nested.unwrap_or_else(|| vec![text(&item["key"])]), text(&item["value_json"]))
    };
    list.as_array().into_iter().flatten().map(item).collect()
}

fn ours(items: &[Item]) -> Vec<(Vec<String>, String)> {
    items.iter().map(|item| (item.path().into_iter().map(str::to_owned).collect(), item.json())).collect()
}

#[test]
fn we_read_what_protobuf_itself_reads() {
    let expected: Vec<Value> = RECORDS.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let records: Vec<Record> = framed().iter().map(|bytes| Record::decode(bytes.as_slice()).unwrap()).collect();
    assert_eq!(records.len(), expected.len());
    for (record, expected) in records.iter().zip(&expected) {
        assert_eq!(record.num.to_string(), expected["num"].as_str().unwrap());
        match record.content.as_ref().unwrap() {
            Content::History(row) => {
                assert_eq!(ours(&row.item), items(&expected["history"]["item"]));
                let step = expected["history"]["step"]["num"].as_str().unwrap_or("0");
                assert_eq!(row.step.unwrap().num.to_string(), step);
            }
            Content::Summary(summary) => assert_eq!(ours(&summary.update), items(&expected["summary"]["update"])),
            Content::Config(config) => assert_eq!(ours(&config.update), items(&expected["config"]["update"])),
            Content::Run(run) => {
                let expected = &expected["run"];
                assert_eq!(ours(&run.config.as_ref().unwrap().update), items(&expected["config"]["update"]));
                let texts = [&run.run_id, &run.project, &run.run_group, &run.job_type, &run.notes, &run.host];
                for (ours, key) in texts.iter().zip(["run_id", "project", "run_group", "job_type", "notes", "host"]) {
                    assert_eq!(ours.as_str(), expected[key].as_str().unwrap(), "{key}");
                }
                assert_eq!(serde_json::json!(run.tags), expected["tags"]);
                let time = jiff::Timestamp::new(run.start_time.unwrap().seconds, run.start_time.unwrap().nanos);
                assert_eq!(time.unwrap().to_string(), expected["start_time"].as_str().unwrap());
                assert!(!record.control.as_ref().unwrap().mailbox_slot.is_empty());
            }
            Content::Artifact(artifact) => {
                let expected = &expected["artifact"];
                let texts = [&artifact.name, &artifact.kind, &artifact.digest, &artifact.client_id];
                for (ours, key) in texts.iter().zip(["name", "type", "digest", "client_id"]) {
                    assert_eq!(ours.as_str(), expected[key].as_str().unwrap(), "{key}");
                }
                let entries = &artifact.manifest.as_ref().unwrap().contents;
                let contents = expected["manifest"]["contents"].as_array().unwrap();
                assert_eq!(entries.len(), contents.len());
                for (entry, expected) in entries.iter().zip(contents) {
                    let texts = [&entry.path, &entry.digest, &entry.local_path];
                    assert_eq!(serde_json::json!(texts[0]), expected["path"]);
                    assert_eq!(serde_json::json!(texts[1]), expected["digest"]);
                    assert_eq!(serde_json::json!(texts[2]), expected["local_path"]);
                    assert_eq!(entry.size.to_string(), expected["size"].as_str().unwrap());
                }
            }
            Content::Files(files) => assert_eq!(files.files[0].path, expected["files"]["files"][0]["path"]),
            Content::Alert(alert) => assert_eq!(alert.title, expected["alert"]["title"]),
            Content::OutputRaw(piece) => assert_eq!(piece.line, expected["output_raw"]["line"]),
            Content::Metric(metric) => {
                assert_eq!(metric.name, expected["metric"]["name"].as_str().unwrap_or_default());
                assert_eq!(metric.step_metric, expected["metric"]["step_metric"].as_str().unwrap_or_default());
            }
            Content::Header(header) => {
                let version = header.version_info.as_ref().unwrap();
                assert_eq!(version.producer, expected["header"]["version_info"]["producer"].as_str().unwrap());
            }
            Content::Telemetry(bytes) => assert!(expected["telemetry"].is_object() && !bytes.is_empty()),
            Content::Exit(exit) => assert_eq!((exit.exit_code, expected["exit"].is_object()), (0, true)),
            other => panic!("not in the fixture: {other:?}"),
        }
    }
}

#[test]
fn typed_values_read_as_json() {
    let json = |typed| Item { typed: Some(typed), ..Item::default() }.json();
    assert_eq!(json(Typed::None(0)), "null");
    assert_eq!(json(Typed::Integer(-3)), "-3");
    assert_eq!(json(Typed::Number(0.5)), "0.5");
    assert_eq!(json(Typed::Number(f64::NAN)), "NaN");
    assert_eq!(json(Typed::Number(f64::NEG_INFINITY)), "-Infinity");
    assert_eq!(json(Typed::Text("a\"".to_owned())), r#""a\"""#);
    assert_eq!(json(Typed::Json("[1]".to_owned())), "[1]");
}

#[test]
fn unknown_fields_are_passed_over() {
    // Field 4000, a varint, before a known one.
    let bytes = [&[0x80, 0xfa, 0x01, 0x07][..], &Record { num: 5, ..Record::default() }.encode_to_vec()].concat();
    assert_eq!(Record::decode(bytes.as_slice()).unwrap(), Record { num: 5, ..Record::default() });
}
