//! A table as JSON: one object a row, in the order of the columns.
//!
//! Owns the spelling of cells in JSON. Null and numbers that are not finite are `null`. Refuses nothing. No I/O.

use serde_json::{Map, Value};

use crate::table::{Cell, Table};

/// The table as an array of objects, one line a row, so that it reads well and diffs line by line.
pub fn write(table: &Table) -> String {
    let mut text = String::from("[");
    for (position, row) in table.rows().iter().enumerate() {
        text.push_str(if position == 0 { "\n  " } else { ",\n  " });
        text.push_str(&record(table, row).to_string());
    }
    text.push_str(if table.rows().is_empty() { "]\n" } else { "\n]\n" });
    text
}

/// The rows as JSON values, for a document that holds more than one table.
pub fn records(table: &Table) -> Value {
    table.rows().iter().map(|row| record(table, row)).collect()
}

fn record(table: &Table, row: &[Cell]) -> Value {
    let fields = table.columns().iter().zip(row).map(|(column, cell)| (column.name.clone(), cell.to_json()));
    Value::Object(fields.collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::report::parquet::tests::tables;
    use crate::table::ColumnKind;

    fn cell(value: &Value, kind: ColumnKind) -> Cell {
        match (value, kind) {
            (Value::Null, _) => Cell::Null,
            (Value::String(text), ColumnKind::Text) => Cell::Text(text.clone()),
            (Value::Number(number), ColumnKind::Integer) => Cell::Integer(number.as_i64().unwrap()),
            (Value::Number(number), ColumnKind::Number) => Cell::Number(number.as_f64().unwrap()),
            (Value::Bool(truth), ColumnKind::Boolean) => Cell::Boolean(*truth),
            other => panic!("unexpected {other:?}"),
        }
    }

    proptest! {
        #[test]
        fn every_table_reads_back(table in tables()) {
            let read: Value = serde_json::from_str(&write(&table)).unwrap();
            prop_assert_eq!(&read, &records(&table));
            let rows: Vec<Vec<_>> = read.as_array().unwrap().iter().map(|record| {
                table.columns().iter().map(|column| cell(&record[&column.name], column.kind)).collect()
            }).collect();
            prop_assert_eq!(rows.as_slice(), table.rows());
        }
    }

    #[test]
    fn one_line_a_row() {
        let mut table = Table::new([("layer", ColumnKind::Text), ("variance", ColumnKind::Number)]);
        assert_eq!(write(&table), "[]\n");
        table.push(vec!["a\"b".into(), 0.5.into()]).unwrap();
        table.push(vec![Cell::Null, Cell::Number(f64::NAN)]).unwrap();
        let expected = "[\n  {\"layer\":\"a\\\"b\",\"variance\":0.5},\n  {\"layer\":null,\"variance\":null}\n]\n";
        assert_eq!(write(&table), expected);
    }
}
