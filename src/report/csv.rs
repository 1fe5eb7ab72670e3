//! A table as comma-separated text after RFC 4180.
//!
//! Owns quoting and the spelling of cells. Null is an empty field, empty text is `""`, so the two stay apart. Refuses
//! nothing: every table has a CSV form. No I/O.

use crate::table::{Cell, Table};

/// The table with a header line; lines end in CR LF as RFC 4180 section 2 asks.
///
/// Numbers are written in the shortest form that reads back to the same `f64` (`0.1`, `1e-300`), whole numbers of a
/// number column included; text is quoted where it holds a comma, a quote or a line break, and doubled quotes inside.
pub fn write(table: &Table) -> String {
    let mut text = String::new();
    push_line(&mut text, table.columns().iter().map(|column| field_of_text(&column.name)));
    for row in table.rows() {
        push_line(&mut text, row.iter().map(field));
    }
    text
}

fn push_line(text: &mut String, fields: impl Iterator<Item = String>) {
    for (position, field) in fields.enumerate() {
        if position > 0 {
            text.push(',');
        }
        text.push_str(&field);
    }
    text.push_str("\r\n");
}

fn field(cell: &Cell) -> String {
    match cell {
        Cell::Text(content) => field_of_text(content),
        Cell::Nested(value) => field_of_text(&value.to_string()),
        Cell::Number(number) if !number.is_finite() => String::new(),
        // `Debug` is the shortest form that reads back, with an exponent where digits alone would run long.
        Cell::Number(number) => format!("{number:?}"),
        Cell::Null | Cell::Integer(_) | Cell::Boolean(_) => cell.to_string(),
    }
}

fn field_of_text(content: &str) -> String {
    let quoted = content.is_empty() || content.contains(['"', ',', '\r', '\n']);
    if quoted { format!("\"{}\"", content.replace('"', "\"\"")) } else { content.to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::report::parquet::tests::tables;
    use crate::table::ColumnKind;

    /// A second reading of RFC 4180, so that the writer is not its own witness. `None` is a field without quotes and
    /// without content.
    fn parse(text: &str) -> Vec<Vec<Option<String>>> {
        let (mut lines, mut line, mut field) = (Vec::new(), Vec::new(), String::new());
        let (mut quoted, mut inside) = (false, false);
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '"' if inside && characters.peek() == Some(&'"') => field.extend(characters.next()),
                '"' => (quoted, inside) = (true, !inside),
                ',' | '\r' if !inside => {
                    let content = std::mem::take(&mut field);
                    line.push((quoted || !content.is_empty()).then_some(content));
                    quoted = false;
                    if character == '\r' {
                        assert_eq!(characters.next(), Some('\n'));
                        lines.push(std::mem::take(&mut line));
                    }
                }
                other => field.push(other),
            }
        }
        assert!(line.is_empty() && field.is_empty() && !inside, "the last line is ended too");
        lines
    }

    fn cell(field: Option<String>, kind: ColumnKind) -> Cell {
        let Some(field) = field else { return Cell::Null };
        match kind {
            ColumnKind::Text => Cell::Text(field),
            ColumnKind::Integer => Cell::Integer(field.parse().unwrap()),
            ColumnKind::Number => Cell::Number(field.parse().unwrap()),
            ColumnKind::Boolean => Cell::Boolean(field.parse().unwrap()),
            ColumnKind::Nested | ColumnKind::Mixed => Cell::Nested(field.parse().unwrap()),
        }
    }

    proptest! {
        #[test]
        fn every_table_reads_back(table in tables()) {
            let mut lines = parse(&write(&table)).into_iter();
            let names: Vec<_> = lines.next().unwrap().into_iter().map(Option::unwrap).collect();
            let expected: Vec<_> = table.columns().iter().map(|column| column.name.clone()).collect();
            prop_assert_eq!(names, expected);
            let kinds = || table.columns().iter().map(|column| column.kind);
            let rows: Vec<Vec<_>> = lines.map(|line| line.into_iter().zip(kinds()).map(|(f, k)| cell(f, k)).collect()).collect();
            prop_assert_eq!(rows.as_slice(), table.rows());
        }
    }

    #[test]
    fn quotes_only_where_needed() {
        let mut table = Table::new([("layer, name", ColumnKind::Text), ("variance", ColumnKind::Number)]);
        table.push(vec!["plain".into(), 0.1.into()]).unwrap();
        table.push(vec!["a \"b\"\nc".into(), 1e-300.into()]).unwrap();
        table.push(vec!["".into(), Cell::Null]).unwrap();
        table.push(vec![Cell::Null, Cell::Number(f64::INFINITY)]).unwrap();
        let expected = "\"layer, name\",variance\r\nplain,0.1\r\n\"a \"\"b\"\"\nc\",1e-300\r\n\"\",\r\n,\r\n";
        assert_eq!(write(&table), expected);
    }
}
