//! Rows as files, plots and pages: plain data in, bytes out.
//!
//! Owns the shapes in which results leave the program: tables ([`rows`]) as [`mod@parquet`], [`csv`] and [`json`], plots
//! ([`plot`]) as scenes that become [`svg`], [`png`] or Vega-Lite ([`vega`]), and the HTML [`page`] made of an [`input`]. It
//! knows neither files by path nor the network nor where the numbers come from, so a report can be made again from stored
//! rows alone. No I/O.

mod axis;
pub mod between;
pub mod csv;
pub mod font;
pub mod input;
pub mod json;
mod markup;
mod number;
pub mod page;
pub mod palette;
pub mod parquet;
pub mod plot;
pub mod png;
pub mod rows;
pub mod scene;
pub mod svg;
pub mod vega;

use crate::table::TableError;

/// Why rows could not become a file, or a file rows.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A Parquet file cannot hold a table without columns.
    #[error("a table without columns cannot be stored as Parquet")]
    NoColumns,
    /// Two columns share one name, which most readers cannot tell apart.
    #[error("two columns are named `{column}`")]
    DuplicateColumn {
        /// The name they share.
        column: String,
    },
    /// A Parquet column of a type that a table has no cells for.
    #[error("Parquet column `{column}` holds {found}, which a table has no cells for")]
    UnsupportedColumn {
        /// The column.
        column: String,
        /// What the file says it holds.
        found: String,
    },
    /// A Parquet file that declares more cells than we agree to unpack.
    #[error("the Parquet file declares {cells} cells where at most {limit} are read")]
    TooLarge {
        /// Rows times columns, as declared.
        cells: u64,
        /// [`parquet::MAX_CELLS`].
        limit: u64,
    },
    /// A Parquet file whose parts contradict each other.
    #[error("the Parquet file is damaged")]
    DamagedFile,
    /// A column that ends before its rows do, or text that is not UTF-8.
    #[error("Parquet column `{column}` is damaged: {what}")]
    DamagedColumn {
        /// The column.
        column: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The Parquet library refused; the file is damaged, or of a kind we do not read.
    #[error("not a Parquet file we can use")]
    Parquet(#[from] ::parquet::errors::ParquetError),
    /// A report's input made for another version of this program.
    #[error("the report input has schema version {found} where {known} is read")]
    SchemaVersion {
        /// Version it says it has.
        found: u32,
        /// [`input::SCHEMA_VERSION`].
        known: u32,
    },
    /// A picture without extent, or too large to draw.
    #[error("a picture of {width} × {height} pixels cannot be drawn")]
    PictureSize {
        /// Pixels across.
        width: f64,
        /// Pixels down.
        height: f64,
    },
    /// The cells read do not form a table.
    #[error("the rows do not form a table")]
    Table(#[from] TableError),
}
