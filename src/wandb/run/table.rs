//! Tables in the two forms in which W&B keeps them: the run file that the UI draws, and the `run_table` artifact that the
//! SDK reads back as `wandb.Table`. Encoding is pure; the upload is network I/O through the client.
//!
//! Facts from `wandb/sdk/data_types/table.py`: the run file holds 10,000 rows at most, the artifact 200,000.

use serde_json::{Map, Value, json};

use crate::digest::Sha256;
use crate::table::{Cell, ColumnKind, Table};

use super::super::artifact::draft::ArtifactDraft;
use super::super::error::WandbError;
use super::Run;
use super::options::identifier;

const FILE_ROWS: usize = 10_000;
const ARTIFACT_ROWS: usize = 200_000;

impl Run {
    /// Uploads both forms; the value that a row has for the table.
    pub(super) async fn upload_table(&self, key: &str, table: &Table) -> Result<Value, WandbError> {
        let rows = table.rows().len();
        if rows > ARTIFACT_ROWS {
            let reason = format!("{rows} rows where W&B takes {ARTIFACT_ROWS}; log it in parts");
            return Err(WandbError::Option { option: "table", reason });
        }
        if rows > FILE_ROWS {
            let note = format!("table {key}: the page of the run shows the first {FILE_ROWS} of {rows} rows");
            self.progress.note(&note);
        }
        let file = run_file(table).to_string();
        let sha256 = Sha256::of(file.as_bytes()).to_hex();
        let ordinal = self.state().step;
        let path = media_path(key, ordinal, &sha256);
        let (client_id, sequence_client_id) = (identifier(128), identifier(128));
        let entry = format!("{}.table.json", safe_components(key));
        let value = json!({
            "_type": "table-file",
            "sha256": sha256,
            "size": file.len(),
            "path": path,
            "ncols": table.columns().len(),
            "nrows": rows,
            "log_mode": "IMMUTABLE",
            "artifact_path": format!("wandb-client-artifact://{client_id}/{entry}"),
            "_latest_artifact_path": format!("wandb-client-artifact://{sequence_client_id}:latest/{entry}"),
        });
        self.upload_file(&path, file.into_bytes()).await?;
        let draft = ArtifactDraft::new(artifact_name(self.id(), key), "run_table")?;
        let draft = draft.with_file(entry, artifact_file(table).to_string().into_bytes())?;
        self.spool_artifact_as(&draft, [&client_id, &sequence_client_id]).await?;
        Ok(value)
    }
}

/// What the UI draws.
fn run_file(table: &Table) -> Value {
    json!({ "columns": names(table), "data": data(table, FILE_ROWS) })
}

/// What the SDK reads back.
fn artifact_file(table: &Table) -> Value {
    let kind = |kind| match kind {
        ColumnKind::Text => "string",
        ColumnKind::Integer | ColumnKind::Number => "number",
        ColumnKind::Boolean => "boolean",
    };
    // The writer sorts the members of a union by their text.
    let optional = |name: &str| {
        let mut names = ["none", name];
        names.sort_unstable();
        let types: Vec<Value> = names.iter().map(|name| json!({ "wb_type": name })).collect();
        json!({ "wb_type": "union", "params": { "allowed_types": types } })
    };
    let column = |column: &crate::table::Column| (column.name.clone(), optional(kind(column.kind)));
    let type_map: Map<String, Value> = table.columns().iter().map(column).collect();
    json!({
        "_type": "table",
        "columns": names(table),
        "data": data(table, ARTIFACT_ROWS),
        "ncols": table.columns().len(),
        "nrows": table.rows().len(),
        "log_mode": "IMMUTABLE",
        "column_types": { "wb_type": "typedDict", "params": { "type_map": type_map } },
    })
}

fn names(table: &Table) -> Vec<&str> {
    table.columns().iter().map(|column| column.name.as_str()).collect()
}

fn data(table: &Table, rows: usize) -> Vec<Vec<Value>> {
    let cell = |cell: &Cell| match cell {
        Cell::Null => Value::Null,
        Cell::Text(text) => text.as_str().into(),
        Cell::Integer(number) => (*number).into(),
        Cell::Number(number) => (*number).into(),
        Cell::Boolean(truth) => (*truth).into(),
    };
    table.rows().iter().take(rows).map(|row| row.iter().map(cell).collect()).collect()
}

/// `media/table/<key>_<step>_<first 20 digits of the hash>.table.json`.
fn media_path(key: &str, ordinal: u64, sha256: &str) -> String {
    let hash = sha256.get(..20).unwrap_or(sha256);
    format!("media/table/{}_{ordinal}_{hash}.table.json", safe_components(key))
}

/// A key as a path: folders stay, components that would leave or mean nothing become underscores.
fn safe_components(key: &str) -> String {
    let safe = |part: &str| match part {
        "" | "." | ".." => "_".to_owned(),
        part => part.replace(['\\', '\0', ':'], "_"),
    };
    key.trim_start_matches('/').split('/').map(safe).collect::<Vec<_>>().join("/")
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
    use crate::digest::hex;

    fn table() -> Table {
        let mut table =
            Table::new([("layer", ColumnKind::Text), ("variance", ColumnKind::Number), ("ok", ColumnKind::Boolean)]);
        table.push(vec!["a".into(), 0.5.into(), true.into()]).unwrap();
        table.push(vec!["b".into(), f64::NAN.into(), false.into()]).unwrap();
        table
    }

    #[test]
    fn both_forms_have_the_official_shape() {
        let expected = r#"{"columns":["layer","variance","ok"],"data":[["a",0.5,true],["b",null,false]]}"#;
        assert_eq!(run_file(&table()).to_string(), expected);
        let artifact = artifact_file(&table());
        let types = &artifact["column_types"]["params"]["type_map"];
        let union = |names: [&str; 2]| json!({ "wb_type": "union", "params": { "allowed_types": names.map(|name| json!({ "wb_type": name })) } });
        assert_eq!(types["layer"], union(["none", "string"]));
        assert_eq!(types["ok"], union(["boolean", "none"]));
        assert_eq!(
            (&artifact["_type"], &artifact["nrows"], &artifact["ncols"]),
            (&json!("table"), &json!(2), &json!(3))
        );
    }

    #[test]
    fn names_follow_the_official_vector() {
        assert_eq!(artifact_name("media001", "my table/k"), "run-media001-mytablek-RaLQyw");
        assert_eq!(artifact_name("a", "k"), "run-a-k");
        assert!(ArtifactDraft::new(artifact_name("a", &"é k".repeat(200)), "run_table").is_ok());
        let path = media_path("/../a/b", 2, &hex(&[0xab; 32]));
        assert_eq!(path, "media/table/_/a/b_2_abababababababababab.table.json");
    }
}
