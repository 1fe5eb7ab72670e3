//! The main charts as Vega-Lite specifications, for W&B custom charts and for any other Vega-Lite viewer.
//!
//! Owns the specifications. In the form for W&B, data is named `wandb` and fields are placeholders `${field:name}` that the
//! panel binds to columns of a logged table; in the form for elsewhere, rows are inside. Pure.

use serde_json::{Value, json};

use super::json as rows_json;
use crate::table::Table;

/// A chart of the rows of a table.
#[derive(Debug, Clone)]
pub struct Chart {
    /// Its name, also for the panel: lower case, with dashes.
    pub name: &'static str,
    /// Title above the chart.
    pub title: &'static str,
    /// Which columns it reads; each is also the name of its placeholder.
    pub columns: &'static [&'static str],
    marks: fn(&Field) -> Value,
}

/// How a column is named in a specification.
type Field = dyn Fn(&str) -> String;

/// Every chart.
pub const CHARTS: [Chart; 5] = [
    Chart {
        name: "variance-by-depth",
        title: "Variance by depth and module",
        columns: &["depth", "module", "variance_per_parameter", "layer"],
        marks: variance_by_depth,
    },
    Chart {
        name: "scree",
        title: "Explained variance by component",
        columns: &["component", "explained_variance_ratio", "layer"],
        marks: scree,
    },
    Chart {
        name: "cumulative",
        title: "Cumulative explained variance",
        columns: &["component", "cumulative_ratio", "layer"],
        marks: cumulative,
    },
    Chart {
        name: "cosine-similarity",
        title: "Cosine similarity",
        columns: &["first", "second", "cosine"],
        marks: cosine,
    },
    Chart {
        name: "seeds-in-plane",
        title: "Seeds in the plane of the first two components",
        columns: &["component_1", "component_2", "seed", "dataset"],
        marks: seeds,
    },
];

impl Chart {
    /// The specification that W&B stores as a custom chart.
    pub fn for_wandb(&self) -> String {
        self.specification(json!({"name": "wandb"}), &|column| format!("${{field:{column}}}"))
    }

    /// The specification with these rows inside; columns that the chart does not read may be there too.
    pub fn with_rows(&self, table: &Table) -> String {
        self.specification(json!({"values": rows_json::records(table)}), &|column| column.to_owned())
    }

    fn specification(&self, data: Value, field: &Field) -> String {
        let mut specification = json!({
            "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
            "title": self.title,
            "data": data,
            "width": "container",
            "height": 300,
            "config": {"view": {"stroke": null}, "range": {"category": ["#1d3bb6", "#e66a09", "#1c8f82", "#751145", "#775703"]}},
        });
        if let (Value::Object(whole), Value::Object(marks)) = (&mut specification, (self.marks)(field)) {
            whole.extend(marks);
        }
        specification.to_string()
    }
}

fn variance_by_depth(field: &Field) -> Value {
    let (value, layer) = (field("variance_per_parameter"), field("layer"));
    json!({
        "transform": [{"filter": {"field": field("depth"), "valid": true}}],
        "mark": {"type": "rect", "tooltip": true},
        "encoding": {
            "x": {"field": field("depth"), "type": "ordinal", "title": "depth (block)"},
            "y": {"field": field("module"), "type": "nominal", "title": null, "sort": null},
            "color": {"field": value, "type": "quantitative", "title": "variance per parameter", "scale": {"type": "log", "scheme": "blues"}},
            "tooltip": [{"field": layer, "type": "nominal"}, {"field": value, "type": "quantitative", "format": ".3~g"}],
        },
    })
}

fn scree(field: &Field) -> Value {
    lines(field, "explained_variance_ratio", "explained variance ratio")
}

fn cumulative(field: &Field) -> Value {
    lines(field, "cumulative_ratio", "cumulative explained variance ratio")
}

fn lines(field: &Field, column: &str, title: &str) -> Value {
    let (x, y, layer) = (field("component"), field(column), field("layer"));
    json!({
        "mark": {"type": "line", "point": true, "opacity": 0.5, "tooltip": true},
        "encoding": {
            "x": {"field": x, "type": "quantitative", "title": "component", "axis": {"tickMinStep": 1}},
            "y": {"field": y, "type": "quantitative", "title": title, "axis": {"format": ".0%"}},
            "detail": {"field": layer, "type": "nominal"},
            "tooltip": [
                {"field": layer, "type": "nominal"},
                {"field": x, "type": "quantitative"},
                {"field": y, "type": "quantitative", "format": ".2%"},
            ],
        },
    })
}

fn cosine(field: &Field) -> Value {
    let (first, second, value) = (field("first"), field("second"), field("cosine"));
    json!({
        "mark": {"type": "rect", "tooltip": true},
        "encoding": {
            "x": {"field": first, "type": "nominal", "title": null, "sort": null},
            "y": {"field": second, "type": "nominal", "title": null, "sort": null},
            "color": {"field": value, "type": "quantitative", "title": "cosine", "scale": {"scheme": "blueorange", "domainMid": 0, "reverse": true}},
            "tooltip": [
                {"field": first, "type": "nominal"},
                {"field": second, "type": "nominal"},
                {"field": value, "type": "quantitative", "format": ".3f"},
            ],
        },
    })
}

fn seeds(field: &Field) -> Value {
    let (x, y, seed, dataset) = (field("component_1"), field("component_2"), field("seed"), field("dataset"));
    json!({
        "encoding": {
            "x": {"field": x, "type": "quantitative", "title": "component 1"},
            "y": {"field": y, "type": "quantitative", "title": "component 2"},
            "tooltip": [{"field": dataset, "type": "nominal"}, {"field": seed, "type": "nominal"}],
        },
        "layer": [
            {"mark": {"type": "point", "filled": true, "size": 80}, "encoding": {
                "color": {"field": dataset, "type": "nominal", "title": null},
                "shape": {"field": dataset, "type": "nominal", "title": null},
            }},
            {"mark": {"type": "text", "dx": 10, "align": "left"}, "encoding": {"text": {"field": seed, "type": "nominal"}}},
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::rows::{self, ComponentRow, LayerRow};

    #[test]
    fn placeholders_and_columns_agree() {
        for chart in CHARTS {
            let specification = chart.for_wandb();
            for column in chart.columns {
                assert!(specification.contains(&format!("\"${{field:{column}}}\"")), "{}: {column}", chart.name);
            }
            let placeholders = specification.matches("${field:").count();
            let known: usize =
                (chart.columns.iter()).map(|c| specification.matches(&format!("${{field:{c}}}")).count()).sum();
            assert_eq!(placeholders, known, "{}", chart.name);
            assert!(serde_json::from_str::<Value>(&specification).is_ok());
        }
    }

    #[test]
    fn charts_of_stored_tables_read_their_columns() {
        let layers = rows::layers_table(&[LayerRow::default()]).unwrap();
        let components = rows::components_table(&[ComponentRow::default()]).unwrap();
        for (chart, table) in CHARTS.iter().zip([&layers, &components, &components]) {
            assert!(chart.columns.iter().all(|column| table.column(column).is_some()), "{}", chart.name);
            let read: Value = serde_json::from_str(&chart.with_rows(table)).unwrap();
            assert_eq!(read["data"]["values"], rows_json::records(table));
        }
    }
}
