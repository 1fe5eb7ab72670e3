//! Results as text for people or JSON for programs. Standard output holds nothing else.

use std::io::{self, Write};

use serde_json::{Value, json};
use wandb_pca::report::input::Verified;
use wandb_pca::table::{Cell, ColumnKind, Table};

/// What a command has to say.
#[derive(Debug)]
pub(crate) struct Output {
    /// Name and version of the JSON shape, such as `fit/2`.
    pub(crate) schema: &'static str,
    /// The result as JSON.
    pub(crate) json: Value,
    /// The result for people.
    pub(crate) text: String,
}

impl Output {
    /// Writes the result; a closed pipe is no failure.
    ///
    /// # Errors
    /// Standard output refused.
    pub(crate) fn print(&self, as_json: bool) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let written = if as_json {
            let mut whole = json!({"schema": format!("wandb-pca/{}", self.schema)});
            if let (Some(whole), Some(fields)) = (whole.as_object_mut(), self.json.as_object()) {
                whole.extend(fields.iter().map(|(key, value)| (key.clone(), value.clone())));
            }
            writeln!(out, "{whole}")
        } else {
            out.write_all(self.text.as_bytes())
        };
        match written.and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other,
        }
    }
}

/// A table in columns: text to the left, numbers to the right, two spaces between.
pub(crate) fn columns(table: &Table) -> String {
    let cells: Vec<Vec<String>> = table.rows().iter().map(|row| row.iter().map(cell).collect()).collect();
    let width = |at: usize| {
        let head = table.columns()[at].name.chars().count();
        cells.iter().map(|row| row[at].chars().count()).chain([head]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..table.columns().len()).map(width).collect();
    let line = |texts: &mut dyn Iterator<Item = &str>| {
        let padded = texts.zip(table.columns()).zip(&widths).map(|((text, column), &width)| match column.kind {
            ColumnKind::Text | ColumnKind::Boolean | ColumnKind::Nested | ColumnKind::Mixed => {
                format!("{text:<width$}")
            }
            ColumnKind::Integer | ColumnKind::Number => format!("{text:>width$}"),
        });
        format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    let head = line(&mut table.columns().iter().map(|column| column.name.as_str()));
    let rows = cells.iter().map(|row| line(&mut row.iter().map(String::as_str)));
    std::iter::once(head).chain(rows).collect()
}

/// The table as JSON: a list of objects.
pub(crate) fn objects(table: &Table) -> Value {
    let names = table.columns().iter().map(|column| column.name.clone());
    let object = |row: &Vec<Cell>| Value::Object(names.clone().zip(row.iter().map(Cell::to_json)).collect());
    table.rows().iter().map(object).collect()
}

fn cell(cell: &Cell) -> String {
    match cell {
        Cell::Null => "-".to_owned(),
        Cell::Number(number) => number_text(*number),
        other => printable(&other.to_string()),
    }
}

/// Five significant digits, plain where that is short.
pub(crate) fn number_text(number: f64) -> String {
    let size = number.abs();
    if number == 0.0 {
        "0".to_owned()
    } else if (1e-4..1e6).contains(&size) {
        let digits = (4 - size.log10().floor() as i32).clamp(0, 9) as usize;
        format!("{number:.digits$}")
    } else {
        format!("{number:.4e}")
    }
}

/// Names come from files and servers: control characters in them must not reach the terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The same for text of several lines.
pub(crate) fn printable_lines(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// What was checked, for people.
pub(crate) fn verified_text(verified: Verified) -> &'static str {
    match verified {
        Verified::Whole => "verified, every byte",
        Verified::Partly => "partly verified, by the CRC-32 of what was read",
        Verified::No => "not verified",
    }
}

/// A number with what it counts.
pub(crate) fn counted(count: impl TryInto<u64>, one: &str, many: &str) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

/// Bytes for people, in powers of 1024.
pub(crate) fn bytes_text(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < units.len() {
        size /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{size:.1} {}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_control_characters_do_not_pass() {
        let mut table = Table::new([("layer", ColumnKind::Text), ("variance", ColumnKind::Number)]);
        table.push(vec!["a\u{1b}[31m".into(), 0.012345678.into()]).unwrap();
        table.push(vec!["long name".into(), Cell::Null]).unwrap();
        assert_eq!(columns(&table), "layer      variance\na\u{fffd}[31m     0.012346\nlong name         -\n");
        assert_eq!(objects(&table)[1], json!({"layer": "long name", "variance": null}));
    }

    #[test]
    fn numbers_and_bytes_read_well() {
        let texts: Vec<String> = [0.0, 1.0, 0.00012, 123456.7, 1e-9, 2.5e7].map(number_text).into();
        assert_eq!(texts, ["0", "1.0000", "0.00012000", "123457", "1.0000e-9", "2.5000e7"]);
        assert_eq!([bytes_text(12), bytes_text(447_223_296)], ["12 B", "426.5 MiB"]);
    }
}
