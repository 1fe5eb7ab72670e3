//! The types that W&B keeps with a table's columns, told by their cells. No I/O.
//!
//! Facts from `wandb/sdk/data_types/_dtypes.py`: a column may have gaps, so its type is a union with `none`; members of a
//! union are sorted by their text; every number is a `number`.

use serde_json::{Map, Value, json};

use crate::table::{Cell, ColumnKind, Table};

/// `column_types` of a table.
pub(super) fn column_types(table: &Table) -> Value {
    let column = |(at, column): (usize, &crate::table::Column)| {
        let kind = match column.kind {
            ColumnKind::Text => named("string"),
            ColumnKind::Integer | ColumnKind::Number => named("number"),
            ColumnKind::Boolean => named("boolean"),
            ColumnKind::Mixed => named("any"),
            ColumnKind::Nested => {
                let cells = table.rows().iter().filter_map(|row| row.get(at));
                let nested = cells.filter_map(|cell| if let Cell::Nested(value) = cell { Some(value) } else { None });
                type_of_all(nested)
            }
        };
        (column.name.clone(), union([vec![named("none")], alternatives(kind)].concat()))
    };
    let type_map: Map<String, Value> = table.columns().iter().enumerate().map(column).collect();
    json!({ "wb_type": "typedDict", "params": { "type_map": type_map } })
}

fn named(name: &str) -> Value {
    json!({ "wb_type": name })
}

/// The type of one value.
fn type_of(value: &Value) -> Value {
    match value {
        Value::Null => named("none"),
        Value::Bool(_) => named("boolean"),
        Value::Number(_) => named("number"),
        Value::String(_) => named("string"),
        Value::Array(items) => json!({ "wb_type": "list", "params": { "element_type": type_of_all(items) } }),
        Value::Object(members) => {
            let members: Map<String, Value> =
                members.iter().map(|(key, value)| (key.clone(), type_of(value))).collect();
            json!({ "wb_type": "typedDict", "params": { "type_map": members } })
        }
    }
}

/// The type that all of them have: one, or a union.
fn type_of_all<'a>(values: impl IntoIterator<Item = &'a Value>) -> Value {
    let mut types: Vec<Value> = Vec::new();
    let mut elements: Option<Vec<&Value>> = None;
    for value in values {
        match value {
            // Lists of different elements are one type of list.
            Value::Array(items) => elements.get_or_insert_default().extend(items),
            value => {
                let found = type_of(value);
                if !types.contains(&found) {
                    types.push(found);
                }
            }
        }
    }
    if let Some(elements) = elements {
        types.push(json!({ "wb_type": "list", "params": { "element_type": type_of_all(elements) } }));
    }
    match types.as_slice() {
        [] => named("unknown"),
        [only] => only.clone(),
        _ => union(types),
    }
}

fn union(mut types: Vec<Value>) -> Value {
    types.sort_by_cached_key(Value::to_string);
    types.dedup();
    json!({ "wb_type": "union", "params": { "allowed_types": types } })
}

/// The members of a union; another type is its only one.
fn alternatives(kind: Value) -> Vec<Value> {
    match kind.pointer("/params/allowed_types").and_then(Value::as_array) {
        Some(types) => types.clone(),
        None => vec![kind],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn union_of(types: Value) -> Value {
        json!({ "wb_type": "union", "params": { "allowed_types": types } })
    }

    #[test]
    fn columns_are_typed_by_kind() {
        let mut table = Table::new([("t", ColumnKind::Text), ("b", ColumnKind::Boolean), ("m", ColumnKind::Mixed)]);
        table.push(vec!["a".into(), true.into(), 1.0.into()]).unwrap();
        let types = column_types(&table);
        let types = &types["params"]["type_map"];
        assert_eq!(types["t"], union_of(json!([named("none"), named("string")])));
        assert_eq!(types["b"], union_of(json!([named("boolean"), named("none")])));
        assert_eq!(types["m"], union_of(json!([named("any"), named("none")])));
    }

    #[test]
    fn nested_columns_are_typed_by_their_cells() {
        let of = |cells: Value| {
            let mut table = Table::new([("n", ColumnKind::Nested)]);
            cells.as_array().unwrap().iter().for_each(|cell| table.push(vec![cell.clone().into()]).unwrap());
            column_types(&table)["params"]["type_map"]["n"].clone()
        };
        let list = |element: Value| json!({ "wb_type": "list", "params": { "element_type": element } });
        let dict = |map: Value| json!({ "wb_type": "typedDict", "params": { "type_map": map } });
        assert_eq!(of(json!([[1, 2.5], null, []])), union_of(json!([list(named("number")), named("none")])));
        let mixed = union_of(json!([named("none"), named("string")]));
        assert_eq!(of(json!([["a"], [null]])), union_of(json!([list(mixed), named("none")])));
        assert_eq!(of(json!([null])), union_of(json!([named("none"), named("unknown")])));
        let number = dict(json!({ "x": named("number") }));
        let both = [named("none"), dict(json!({ "y": list(named("unknown")) })), number];
        let mut sorted = both.to_vec();
        sorted.sort_by_cached_key(Value::to_string);
        assert_eq!(of(json!([{ "x": 1 }, { "x": 2 }, { "y": [] }])), union_of(sorted.into()));
    }
}
