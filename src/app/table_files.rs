//! Tables as CSV files, for spreadsheets.

use std::path::Path;

use crate::report::csv;
use crate::store::write_durable;
use crate::table::Table;

use super::error::AppError;

/// Writes each table to `<folder>/<name>.csv`.
///
/// # Errors
/// [`AppError::File`] naming the file.
pub fn write_csv(folder: &Path, tables: &[(&'static str, Table)]) -> Result<(), AppError> {
    tables.iter().try_for_each(|(name, table)| {
        let path = folder.join(format!("{name}.csv"));
        write_durable(&path, csv::write(table).as_bytes()).map_err(AppError::file("write", &path))
    })
}
