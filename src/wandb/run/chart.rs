//! Custom charts: a table in the run, and in its configuration which columns of it a Vega-Lite panel draws. What a panel is
//! made of is pure; making a definition of one's own is network I/O through the client.
//!
//! Facts from `wandb/plot/custom_chart.py`: the table is logged as `<key>_table`, the panel is under
//! `_wandb.visualize.<key>`, and nothing is logged under the key itself.

use serde_json::{Map, Value, json};

use crate::table::Table;

use super::super::Client;
use super::super::error::WandbError;
use super::super::graphql::execute;
use super::super::offline::{ConfigRecord, Content, Item};
use super::super::operations::{CreateChart, CreateChartInput};
use super::{Link, Run};

/// A panel over the columns of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    definition: String,
    fields: Map<String, Value>,
    texts: Map<String, Value>,
}

impl Chart {
    /// A panel by the id of its definition, `entity/name`; by the definition's placeholders, the columns to fill them with.
    pub fn of_definition<'a>(
        definition: impl Into<String>,
        fields: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let fields = fields.into_iter().map(|(role, column)| (role.to_owned(), column.into())).collect();
        Self { definition: definition.into(), fields, texts: Map::new() }
    }

    /// W&B's lines: one for each value of the column `stroke`, where there is one.
    pub fn line(x: &str, y: &str, stroke: Option<&str>) -> Self {
        let mut chart = Self::of_definition("wandb/line/v0", [("x", x), ("y", y)]);
        chart.fields.insert("stroke".to_owned(), stroke.into());
        chart
    }

    /// W&B's bars.
    pub fn bar(label: &str, value: &str) -> Self {
        Self::of_definition("wandb/bar/v0", [("label", label), ("value", value)])
    }

    /// W&B's scatter plot.
    pub fn scatter(x: &str, y: &str) -> Self {
        Self::of_definition("wandb/scatter/v0", [("x", x), ("y", y)])
    }

    /// W&B's histogram of a column.
    pub fn histogram(value: &str) -> Self {
        Self::of_definition("wandb/histogram/v0", [("value", value)])
    }

    /// W&B's lines that share one axis: place on the axis, which line, value.
    pub fn line_series(step: &str, line: &str, value: &str) -> Self {
        Self::of_definition("wandb/lineseries/v0", [("step", step), ("lineKey", line), ("lineVal", value)])
    }

    /// W&B's matrix of coloured fields, which its own functions use for confusion matrices: row, column, value.
    pub fn matrix(row: &str, column: &str, value: &str) -> Self {
        let fields = [("Actual", row), ("Predicted", column), ("nPredictions", value)];
        Self::of_definition("wandb/confusion_matrix/v1", fields)
    }

    /// Sets the title.
    #[must_use]
    pub fn with_title(self, title: &str) -> Self {
        self.with_text("title", title)
    }

    /// Sets another text of the definition, such as `xname` of [`Chart::line_series`].
    #[must_use]
    pub fn with_text(mut self, name: &str, text: &str) -> Self {
        self.texts.insert(name.to_owned(), text.into());
        self
    }

    /// What the configuration has for the panel.
    fn panel(&self, table_key: &str) -> Value {
        let plain = |name: &str| json!({ "name": name, "fields": [] });
        let rows =
            json!({ "name": "summaryTable", "args": [{ "name": "tableKey", "value": table_key }], "fields": [] });
        json!({
            "panel_type": "Vega2",
            "panel_config": {
                "panelDefId": self.definition,
                "fieldSettings": self.fields,
                "stringSettings": self.texts,
                "transform": { "name": "tableWithLeafColNames" },
                "userQuery": { "queryFields": [{
                    "name": "runSets",
                    "args": [{ "name": "runSets", "value": "${runSets}" }],
                    "fields": [plain("id"), plain("name"), plain("_defaultColorIndex"), rows],
                }] },
            },
        })
    }

    /// The first column that it reads and the table has not.
    fn missing(&self, table: &Table) -> Option<&str> {
        self.fields.values().filter_map(Value::as_str).find(|column| table.column(column).is_none())
    }
}

/// A Vega-Lite specification to be kept by W&B. Data is named `wandb`, columns are placeholders `${field:name}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChartDefinition {
    /// Unique in the entity; a definition is made once, so another specification wants another name.
    pub name: String,
    /// What people see.
    pub title: String,
    /// JSON text.
    pub specification: String,
}

impl Run {
    /// Logs a table with a panel that draws it: the chart `key`.
    ///
    /// # Errors
    /// [`WandbError::Option`] when the table lacks a column that the chart reads; else as [`Run::log_table`].
    pub async fn log_chart(&self, key: &str, table: &Table, chart: &Chart) -> Result<(), WandbError> {
        let row = self.store_chart(key, table, chart).await?;
        self.log(row).await
    }

    /// As [`Run::log_chart`], but leaves the row to the caller: what it has for the chart's table.
    ///
    /// # Errors
    /// As [`Run::log_chart`].
    pub async fn store_chart(&self, key: &str, table: &Table, chart: &Chart) -> Result<Map<String, Value>, WandbError> {
        if let Some(column) = chart.missing(table) {
            let reason = format!("it reads the column `{column}`, which its table has not");
            return Err(WandbError::Option { option: "chart", reason });
        }
        let table_key = format!("{key}_table");
        let nested_key = vec!["_wandb".to_owned(), "visualize".to_owned(), key.to_owned()];
        let panel = Item { nested_key, value_json: chart.panel(&table_key).to_string(), ..Item::default() };
        self.append(vec![Content::Config(ConfigRecord { update: vec![panel], remove: Vec::new() })])?;
        self.store_table(&table_key, table).await
    }

    /// Lets W&B keep definitions for the run's entity, visible to it alone, unless it does. The id of each; nothing where there
    /// is no server now, or one that keeps none: a chart is to be drawn by one of W&B's own definitions then.
    ///
    /// # Errors
    /// [`WandbError::Unauthenticated`] and the like; a server that refuses or cannot be reached is no error.
    pub async fn define_charts(&self, definitions: &[ChartDefinition]) -> Result<Vec<Option<String>>, WandbError> {
        let mut ids = vec![None; definitions.len()];
        let Link::Sending { client, .. } = &self.link else { return Ok(ids) };
        for (id, definition) in ids.iter_mut().zip(definitions) {
            match client.define_chart(self.entity(), definition).await {
                Ok(defined) => *id = Some(defined),
                Err(error) if error.is_network() => return Ok(ids),
                Err(
                    error @ (WandbError::Rejected { .. } | WandbError::Forbidden { .. } | WandbError::NotFound { .. }),
                ) => {
                    self.progress.note(&format!("{error}; charts are drawn in W&B's own ways"));
                    return Ok(ids);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(ids)
    }
}

impl Client {
    /// The id of a definition that is there now; asked for once.
    async fn define_chart(&self, entity: &str, definition: &ChartDefinition) -> Result<String, WandbError> {
        let ChartDefinition { name, title, specification } = definition;
        let id = format!("{entity}/{name}");
        let mut known = self.0.charts.lock().await;
        if known.contains(&id) {
            return Ok(id);
        }
        let input = CreateChartInput {
            entity,
            name,
            display_name: title,
            kind: "vega2",
            access: "PRIVATE",
            spec: specification,
        };
        let what = format!("the chart definition {id}");
        match execute(self.transport(), &self.budget(), &what, &CreateChart { input }).await {
            // The name says which specification it is, so whoever made it made the same.
            Err(WandbError::Rejected { message, .. }) if message.contains("exist") => {}
            outcome => drop(outcome?),
        }
        known.insert(id.clone());
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::ColumnKind;

    #[test]
    fn a_panel_is_the_official_one() {
        // Recorded from `wandb.plot.line`.
        let expected = r#"{"panel_type":"Vega2","panel_config":{"panelDefId":"wandb/line/v0","fieldSettings":{"x":"x","y":"y","stroke":null},"stringSettings":{"title":"T"},"transform":{"name":"tableWithLeafColNames"},"userQuery":{"queryFields":[{"name":"runSets","args":[{"name":"runSets","value":"${runSets}"}],"fields":[{"name":"id","fields":[]},{"name":"name","fields":[]},{"name":"_defaultColorIndex","fields":[]},{"name":"summaryTable","args":[{"name":"tableKey","value":"K_table"}],"fields":[]}]}]}}}"#;
        let expected: Value = serde_json::from_str(expected).unwrap();
        assert_eq!(Chart::line("x", "y", None).with_title("T").panel("K_table"), expected);
        let series = Chart::line_series("s", "k", "v").with_text("xname", "step").panel("t");
        assert_eq!(series["panel_config"]["fieldSettings"], json!({ "step": "s", "lineKey": "k", "lineVal": "v" }));
        assert_eq!(series["panel_config"]["stringSettings"], json!({ "xname": "step" }));
    }

    #[test]
    fn columns_must_be_there() {
        let table = Table::new([("a", ColumnKind::Number), ("b", ColumnKind::Number)]);
        assert_eq!(Chart::scatter("a", "b").missing(&table), None);
        assert_eq!(Chart::line("a", "b", Some("c")).missing(&table), Some("c"));
        assert_eq!(Chart::matrix("a", "x", "b").missing(&table), Some("x"));
    }
}
