//! Tables in the two forms in which W&B keeps them: the run file that the UI draws, and the `run_table` artifact that the
//! SDK reads back as `wandb.Table`. Encoding is pure; the upload is network I/O through the client.
//!
//! Facts from `wandb/sdk/data_types/table.py`: the run file holds 10,000 rows at most, the artifact 200,000.

use serde_json::{Map, Value, json};

use crate::table::{Cell, Table};

use super::super::artifact::draft::ArtifactDraft;
use super::super::error::WandbError;
use super::Run;
use super::media::safe_components;
use super::options::identifier;
use super::table_type::column_types;

const FILE_ROWS: usize = 10_000;
const ARTIFACT_ROWS: usize = 200_000;

impl Run {
    /// Keeps a table with the run, as [`Run::log_table`] does, and returns what a row has for it, to be logged together with
    /// other values. A table of more than 200,000 rows becomes several: `key`, `key-part2` and so on.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn store_table(&self, key: &str, table: &Table) -> Result<Map<String, Value>, WandbError> {
        let rows = table.rows().len();
        let parts = parts(table.rows(), ARTIFACT_ROWS);
        if parts.len() > 1 {
            let last = part_key(key, parts.len() - 1);
            let note = format!(
                "table {key}: W&B takes {ARTIFACT_ROWS} of its {rows} rows at once, so it is logged in parts, {key} to {last}"
            );
            self.progress.note(&note);
        }
        if rows > FILE_ROWS {
            let note = format!(
                "table {key}: the page of the run shows the first {FILE_ROWS} rows of each table; all are in its artifact"
            );
            self.progress.note(&note);
        }
        let types = column_types(table);
        let mut row = Map::new();
        for (at, rows) in parts.into_iter().enumerate() {
            let key = part_key(key, at);
            let value = self.store_part(&key, Part { names: names(table), types: &types, rows }).await?;
            row.insert(key, value);
        }
        Ok(row)
    }

    /// Keeps both forms; the value that a row has for the table.
    async fn store_part(&self, key: &str, part: Part<'_>) -> Result<Value, WandbError> {
        let [client_id, sequence_client_id] = [identifier(128), identifier(128)];
        let entry = format!("{}.table.json", safe_components(key));
        let mut value = Map::from_iter([("_type".to_owned(), "table-file".into())]);
        let file = part.run_file().to_string().into_bytes();
        value.extend(self.keep_media(("table", "table.json"), key, file.into()).await?);
        for (name, member) in [
            ("ncols", json!(part.names.len())),
            ("nrows", json!(part.rows.len())),
            ("log_mode", json!("IMMUTABLE")),
            ("artifact_path", json!(format!("wandb-client-artifact://{client_id}/{entry}"))),
            ("_latest_artifact_path", json!(format!("wandb-client-artifact://{sequence_client_id}:latest/{entry}"))),
        ] {
            value.insert(name.to_owned(), member);
        }
        let draft = ArtifactDraft::new(artifact_name(self.id(), key), "run_table")?;
        let draft = draft.with_file(entry, part.artifact_file().to_string().into_bytes())?;
        self.spool_artifact_as(&draft, [&client_id, &sequence_client_id]).await?;
        Ok(value.into())
    }
}

/// As much of a table as W&B takes at once.
#[derive(Debug)]
struct Part<'a> {
    names: Vec<&'a str>,
    types: &'a Value,
    rows: &'a [Vec<Cell>],
}

impl Part<'_> {
    /// What the UI draws.
    fn run_file(&self) -> Value {
        json!({ "columns": self.names, "data": data(self.rows.iter().take(FILE_ROWS)) })
    }

    /// What the SDK reads back.
    fn artifact_file(&self) -> Value {
        json!({
            "_type": "table",
            "columns": self.names,
            "data": data(self.rows),
            "ncols": self.names.len(),
            "nrows": self.rows.len(),
            "log_mode": "IMMUTABLE",
            "column_types": self.types,
        })
    }
}

/// The rows in parts of at most `limit`; one at least.
fn parts(rows: &[Vec<Cell>], limit: usize) -> Vec<&[Vec<Cell>]> {
    if rows.is_empty() { vec![rows] } else { rows.chunks(limit).collect() }
}

/// The key of a part, the first of which is 0.
fn part_key(key: &str, at: usize) -> String {
    if at == 0 { key.to_owned() } else { format!("{key}-part{}", at + 1) }
}

fn names(table: &Table) -> Vec<&str> {
    table.columns().iter().map(|column| column.name.as_str()).collect()
}

fn data<'a>(rows: impl IntoIterator<Item = &'a Vec<Cell>>) -> Vec<Vec<Value>> {
    rows.into_iter().map(|row| row.iter().map(Cell::to_json).collect()).collect()
}

/// `run-<id>-<key>` without what a collection cannot be called, and then with a hash of the original
/// (`wandb/sdk/artifacts/_internal_artifact.py`).
fn artifact_name(run: &str, key: &str) -> String {
    use base64::Engine as _;
    let original = format!("run-{run}-{key}");
    let fits = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let kept: String = original.chars().filter(fits).collect();
    if kept == original && kept.len() <= 128 {
        return kept;
    }
    let crc = crc32fast::hash(original.as_bytes()).to_be_bytes();
    let hash = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(crc);
    let kept: String = kept.chars().take(121).collect();
    format!("{kept}-{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::ColumnKind;

    fn table() -> Table {
        let mut table = Table::new([("layer", ColumnKind::Text), ("variance", ColumnKind::Number)]);
        table.push(vec!["a".into(), 0.5.into()]).unwrap();
        table.push(vec!["b".into(), f64::NAN.into()]).unwrap();
        table
    }

    #[test]
    fn both_forms_have_the_official_shape() {
        let (table, types) = (table(), json!({}));
        let part = Part { names: names(&table), types: &types, rows: table.rows() };
        let expected = r#"{"columns":["layer","variance"],"data":[["a",0.5],["b",null]]}"#;
        assert_eq!(part.run_file().to_string(), expected);
        let expected = r#"{"_type":"table","columns":["layer","variance"],"data":[["a",0.5],["b",null]],"ncols":2,"nrows":2,"log_mode":"IMMUTABLE","column_types":{}}"#;
        assert_eq!(part.artifact_file().to_string(), expected);
    }

    #[test]
    fn long_tables_are_split() {
        let rows = vec![vec![Cell::Null]; 5];
        assert_eq!(parts(&rows, 2).iter().map(|part| part.len()).collect::<Vec<_>>(), [2, 2, 1]);
        assert_eq!(parts(&rows, 5).len(), 1);
        assert_eq!(parts(&[], 5), [&[] as &[Vec<Cell>]]);
        assert_eq!([0, 1, 2].map(|at| part_key("a/b", at)), ["a/b", "a/b-part2", "a/b-part3"]);
        let long = vec![vec![Cell::Null]; FILE_ROWS + 1];
        let types = Value::Null;
        let part = Part { names: vec!["a"], types: &types, rows: &long };
        assert_eq!(part.run_file()["data"].as_array().map(Vec::len), Some(FILE_ROWS));
        assert_eq!(part.artifact_file()["data"].as_array().map(Vec::len), Some(FILE_ROWS + 1));
    }

    #[test]
    fn names_follow_the_official_vector() {
        assert_eq!(artifact_name("media001", "my table/k"), "run-media001-mytablek-RaLQyw");
        assert_eq!(artifact_name("a", "k"), "run-a-k");
        assert!(ArtifactDraft::new(artifact_name("a", &"é k".repeat(200)), "run_table").is_ok());
    }
}
