//! One shape for every table: what is logged to W&B, written as Parquet, CSV or JSON, and shown on a terminal.
//!
//! Plain data without I/O. A number that is not finite has no place in a result, so it is stored as null.

use std::fmt;

use serde_json::Value;

/// What the cells of a column hold, null aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    /// Text.
    Text,
    /// Whole numbers.
    Integer,
    /// Finite numbers.
    Number,
    /// Truth values.
    Boolean,
    /// Lists and objects, nested as deep as they like.
    Nested,
    /// Each cell as it likes.
    Mixed,
}

/// Name and kind of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Name, unique in the table.
    pub name: String,
    /// What its cells hold.
    pub kind: ColumnKind,
}

/// One cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// No value.
    Null,
    /// Text.
    Text(String),
    /// Whole number.
    Integer(i64),
    /// Finite number.
    Number(f64),
    /// Truth value.
    Boolean(bool),
    /// A list or an object.
    Nested(Value),
}

impl Cell {
    /// The cell as JSON; a number that is not finite is null.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Text(text) => text.as_str().into(),
            Self::Integer(number) => (*number).into(),
            Self::Number(number) => (*number).into(),
            Self::Boolean(truth) => (*truth).into(),
            Self::Nested(value) => value.clone(),
        }
    }
}

impl From<Value> for Cell {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::String(text) => Self::Text(text),
            Value::Bool(truth) => Self::Boolean(truth),
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(whole), _) => Self::Integer(whole),
                (None, float) => float.into(),
            },
            Value::Array(_) | Value::Object(_) => Self::Nested(value),
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<f64> for Cell {
    fn from(number: f64) -> Self {
        if number.is_finite() { Self::Number(number) } else { Self::Null }
    }
}

impl From<bool> for Cell {
    fn from(truth: bool) -> Self {
        Self::Boolean(truth)
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        i64::try_from(number).map_or(Self::Number(number as f64), Self::Integer)
    }
}

impl From<usize> for Cell {
    fn from(number: usize) -> Self {
        Self::from(number as u64)
    }
}

impl<T: Into<Self>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A row that does not fit its table.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TableError {
    /// More or fewer cells than columns.
    #[error("a row has {found} cells where the table has {expected} columns")]
    WrongWidth {
        /// Columns.
        expected: usize,
        /// Cells.
        found: usize,
    },
    /// A cell of another kind than its column.
    #[error("a cell of column `{column}` is not {expected:?}")]
    WrongKind {
        /// The column.
        column: String,
        /// Its kind.
        expected: ColumnKind,
    },
}

/// Rows of typed columns.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table with these columns.
    pub fn new<'a>(columns: impl IntoIterator<Item = (&'a str, ColumnKind)>) -> Self {
        let columns = columns.into_iter().map(|(name, kind)| Column { name: name.to_owned(), kind }).collect();
        Self { columns, rows: Vec::new() }
    }

    /// Appends a row. A whole number is welcome in a column of numbers.
    ///
    /// # Errors
    /// [`TableError`] when the row has another width or a cell another kind than its column; nothing is appended then.
    pub fn push(&mut self, row: Vec<Cell>) -> Result<(), TableError> {
        if row.len() != self.columns.len() {
            return Err(TableError::WrongWidth { expected: self.columns.len(), found: row.len() });
        }
        for (cell, column) in row.iter().zip(&self.columns) {
            let fits = match (column.kind, cell) {
                (ColumnKind::Mixed, _) | (_, Cell::Null) => true,
                (kind, Cell::Text(_)) => kind == ColumnKind::Text,
                (kind, Cell::Integer(_)) => matches!(kind, ColumnKind::Integer | ColumnKind::Number),
                (kind, Cell::Number(_)) => kind == ColumnKind::Number,
                (kind, Cell::Boolean(_)) => kind == ColumnKind::Boolean,
                (kind, Cell::Nested(_)) => kind == ColumnKind::Nested,
            };
            if !fits {
                return Err(TableError::WrongKind { column: column.name.clone(), expected: column.kind });
            }
        }
        self.rows.push(row);
        Ok(())
    }

    /// The columns, in order.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The rows, in order; each as wide as the table.
    pub fn rows(&self) -> &[Vec<Cell>] {
        &self.rows
    }

    /// Position of the column with this name.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => Ok(()),
            Self::Text(text) => f.write_str(text),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Boolean(truth) => write!(f, "{truth}"),
            Self::Nested(value) => write!(f, "{value}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_must_fit_their_table() {
        let mut table = Table::new([("layer", ColumnKind::Text), ("variance", ColumnKind::Number)]);
        table.push(vec!["a".into(), 0.5.into()]).unwrap();
        table.push(vec!["b".into(), f64::NAN.into()]).unwrap();
        table.push(vec!["c".into(), Cell::Integer(1)]).unwrap();
        assert_eq!(table.rows()[1][1], Cell::Null);
        assert!(matches!(table.push(vec!["d".into()]), Err(TableError::WrongWidth { expected: 2, found: 1 })));
        assert!(matches!(table.push(vec![Cell::Null, "x".into()]), Err(TableError::WrongKind { .. })));
        assert_eq!((table.rows().len(), table.column("variance")), (3, Some(1)));
    }

    #[test]
    fn nested_and_mixed_columns_take_what_they_say() {
        let list = || Cell::from(serde_json::json!([1, {"a": null}]));
        let mut table = Table::new([("nested", ColumnKind::Nested), ("mixed", ColumnKind::Mixed)]);
        for mixed in [Cell::Null, "x".into(), 0.5.into(), true.into(), Cell::Integer(1), list()] {
            table.push(vec![list(), mixed.clone()]).unwrap();
            assert_eq!(Cell::from(mixed.to_json()), mixed);
        }
        assert!(matches!(table.push(vec!["x".into(), Cell::Null]), Err(TableError::WrongKind { .. })));
        assert_eq!(list().to_string(), r#"[1,{"a":null}]"#);
    }
}
