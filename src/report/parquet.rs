//! A table as a Parquet file and back, without Arrow.
//!
//! Owns the mapping of cells to Parquet types: text is a UTF-8 string, whole numbers INT64, numbers DOUBLE, truth values
//! BOOLEAN; every column is optional and compressed with Snappy. Reads only flat files of these four types and refuses
//! the rest by name. The same table gives the same bytes. No I/O.

use std::panic::catch_unwind;
use std::sync::Arc;

use ::parquet::basic::{Compression, ConvertedType, LogicalType, Repetition, Type as PhysicalType};
use ::parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use ::parquet::column::writer::ColumnWriter;
use ::parquet::data_type::{ByteArray, DataType};
use ::parquet::file::metadata::KeyValue;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::types::{ColumnDescriptor, Type, TypePtr};
use bytes::Bytes;

use super::ReportError;
use crate::table::{Cell, Column, ColumnKind, Table};

/// The most cells (rows times columns) that [`read`] unpacks: a small file can declare any number of rows.
pub const MAX_CELLS: u64 = 50_000_000;

/// Rows of one row group, and of one read.
const BATCH_ROWS: usize = 65_536;

/// What a Parquet file holds.
#[derive(Debug, Clone, PartialEq)]
pub struct ParquetTable {
    /// The rows.
    pub table: Table,
    /// Key-value metadata of the file, in file order; a key without a value has an empty one.
    pub metadata: Vec<(String, String)>,
}

/// The table as the bytes of a Parquet file with this key-value metadata (for instance a schema version).
///
/// A whole number in a number column becomes a DOUBLE; a number that is not finite becomes null.
///
/// # Errors
/// [`ReportError::NoColumns`], [`ReportError::DuplicateColumn`], or [`ReportError::Parquet`] when a cell is too large to
/// be stored.
pub fn write(table: &Table, metadata: &[(&str, &str)]) -> Result<Vec<u8>, ReportError> {
    let schema = schema(table.columns())?;
    let pairs = metadata.iter().map(|(key, value)| KeyValue::new((*key).to_owned(), (*value).to_owned()));
    let properties = WriterProperties::builder()
        .set_created_by(concat!("wandb-pca version ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::SNAPPY)
        .set_key_value_metadata((!metadata.is_empty()).then(|| pairs.collect()))
        .build();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties))?;
    for rows in table.rows().chunks(BATCH_ROWS) {
        let mut group = writer.next_row_group()?;
        let mut position = 0;
        while let Some(mut column) = group.next_column()? {
            write_column(column.untyped(), &mut rows.iter().filter_map(|row| row.get(position)))?;
            column.close()?;
            position += 1;
        }
        group.close()?;
    }
    Ok(writer.into_inner()?)
}

fn schema(columns: &[Column]) -> Result<TypePtr, ReportError> {
    if columns.is_empty() {
        return Err(ReportError::NoColumns);
    }
    let mut fields = Vec::with_capacity(columns.len());
    for (position, column) in columns.iter().enumerate() {
        if columns.iter().take(position).any(|earlier| earlier.name == column.name) {
            return Err(ReportError::DuplicateColumn { column: column.name.clone() });
        }
        let (physical, logical) = match column.kind {
            // What Parquet has no simple type for is written as its text: lists and objects as JSON.
            ColumnKind::Text | ColumnKind::Nested | ColumnKind::Mixed => {
                (PhysicalType::BYTE_ARRAY, Some(LogicalType::String))
            }
            ColumnKind::Integer => (PhysicalType::INT64, None),
            ColumnKind::Number => (PhysicalType::DOUBLE, None),
            ColumnKind::Boolean => (PhysicalType::BOOLEAN, None),
        };
        let field = Type::primitive_type_builder(&column.name, physical)
            .with_repetition(Repetition::OPTIONAL)
            .with_logical_type(logical)
            .build()?;
        fields.push(Arc::new(field));
    }
    Ok(Arc::new(Type::group_type_builder("schema").with_fields(fields).build()?))
}

/// Writes the cells of one column. A cell of another kind than the column cannot be in a [`Table`]; it would be null.
fn write_column(writer: &mut ColumnWriter<'_>, cells: &mut dyn Iterator<Item = &Cell>) -> Result<(), ReportError> {
    match writer {
        ColumnWriter::BoolColumnWriter(writer) => {
            let (values, levels) =
                split(cells, |cell| if let Cell::Boolean(truth) = cell { Some(*truth) } else { None });
            writer.write_batch(&values, Some(&levels), None)?;
        }
        ColumnWriter::Int64ColumnWriter(writer) => {
            let (values, levels) =
                split(cells, |cell| if let Cell::Integer(number) = cell { Some(*number) } else { None });
            writer.write_batch(&values, Some(&levels), None)?;
        }
        ColumnWriter::DoubleColumnWriter(writer) => {
            let (values, levels) = split(cells, |cell| match cell {
                Cell::Integer(number) => Some(*number as f64),
                Cell::Number(number) if number.is_finite() => Some(*number),
                _ => None,
            });
            writer.write_batch(&values, Some(&levels), None)?;
        }
        ColumnWriter::ByteArrayColumnWriter(writer) => {
            let (values, levels) = split(cells, |cell| match cell {
                Cell::Null => None,
                Cell::Text(text) => Some(ByteArray::from(text.as_str())),
                other => Some(ByteArray::from(other.to_string().as_str())),
            });
            writer.write_batch(&values, Some(&levels), None)?;
        }
        // `schema` asks for no other type.
        ColumnWriter::Int32ColumnWriter(_)
        | ColumnWriter::Int96ColumnWriter(_)
        | ColumnWriter::FloatColumnWriter(_)
        | ColumnWriter::FixedLenByteArrayColumnWriter(_) => {}
    }
    Ok(())
}

/// The values that are there, and for each cell its definition level: 1 where there is a value, 0 where it is null.
fn split<T>(cells: &mut dyn Iterator<Item = &Cell>, value: impl Fn(&Cell) -> Option<T>) -> (Vec<T>, Vec<i16>) {
    let (mut values, mut levels) = (Vec::new(), Vec::new());
    for cell in cells {
        let value = value(cell);
        levels.push(i16::from(value.is_some()));
        values.extend(value);
    }
    (values, levels)
}

/// The table in these bytes.
///
/// # Errors
/// [`ReportError::Parquet`] when the bytes are not Parquet, [`ReportError::DamagedFile`] and
/// [`ReportError::DamagedColumn`] where they contradict themselves, [`ReportError::UnsupportedColumn`] for nested
/// columns and other types than [`write`] makes, [`ReportError::TooLarge`] beyond [`MAX_CELLS`].
pub fn read(bytes: Bytes) -> Result<ParquetTable, ReportError> {
    // parquet 60 asserts where it should refuse: negative offsets in the footer, a dictionary that is not there, level
    // data shorter than declared. Nothing outlives the call, so nothing half-read can be seen.
    catch_unwind(|| read_trusting(bytes)).unwrap_or(Err(ReportError::DamagedFile))
}

fn read_trusting(bytes: Bytes) -> Result<ParquetTable, ReportError> {
    let reader = SerializedFileReader::new(bytes)?;
    let file = reader.metadata().file_metadata();
    let descriptors = file.schema_descr().columns();
    let columns = descriptors.iter().map(|column| kind(column)).collect::<Result<Vec<_>, _>>()?;
    let declared =
        reader.metadata().row_groups().iter().map(|group| u64::try_from(group.num_rows()).unwrap_or(u64::MAX));
    let cells = declared.fold(0, u64::saturating_add).saturating_mul(columns.len() as u64);
    if cells > MAX_CELLS {
        return Err(ReportError::TooLarge { cells, limit: MAX_CELLS });
    }
    let pairs = file.key_value_metadata().map(Vec::as_slice).unwrap_or_default();
    let metadata = pairs.iter().map(|pair| (pair.key.clone(), pair.value.clone().unwrap_or_default())).collect();
    let mut table = Table::new(columns.iter().map(|column| (column.name.as_str(), column.kind)));
    for position in 0..reader.num_row_groups() {
        read_group(&reader, position, &mut table)?;
    }
    Ok(ParquetTable { table, metadata })
}

fn kind(descriptor: &ColumnDescriptor) -> Result<Column, ReportError> {
    let path = descriptor.path();
    let refused = |found: String| ReportError::UnsupportedColumn { column: path.string(), found };
    let [name] = path.parts() else { return Err(refused("nested values".to_owned())) };
    if descriptor.max_rep_level() > 0 || descriptor.max_def_level() > 1 {
        return Err(refused("lists".to_owned()));
    }
    // The converted type is the older of two spellings: writers give both, or this one alone.
    let kind = match (descriptor.physical_type(), descriptor.converted_type()) {
        (PhysicalType::BYTE_ARRAY, ConvertedType::UTF8) => ColumnKind::Text,
        (PhysicalType::INT64, ConvertedType::NONE) => ColumnKind::Integer,
        (PhysicalType::DOUBLE, ConvertedType::NONE) => ColumnKind::Number,
        (PhysicalType::BOOLEAN, ConvertedType::NONE) => ColumnKind::Boolean,
        (physical, ConvertedType::NONE) => return Err(refused(physical.to_string())),
        (physical, converted) => return Err(refused(format!("{physical} as {converted}"))),
    };
    Ok(Column { name: name.clone(), kind })
}

/// Appends one row group to the table, batch by batch, so that memory follows what is there and not what is declared.
fn read_group(reader: &SerializedFileReader<Bytes>, position: usize, table: &mut Table) -> Result<(), ReportError> {
    let group = reader.get_row_group(position)?;
    let mut readers = (0..group.num_columns()).map(|i| group.get_column_reader(i)).collect::<Result<Vec<_>, _>>()?;
    let mut left = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
    while left > 0 {
        let batch = left.min(BATCH_ROWS);
        let mut columns = Vec::with_capacity(readers.len());
        for (reader, column) in readers.iter_mut().zip(table.columns()) {
            columns.push(read_column(reader, batch, &column.name)?.into_iter());
        }
        for _ in 0..batch {
            table.push(columns.iter_mut().filter_map(Iterator::next).collect())?;
        }
        left -= batch;
    }
    Ok(())
}

fn read_column(reader: &mut ColumnReader, rows: usize, column: &str) -> Result<Vec<Cell>, ReportError> {
    let damaged = |what| ReportError::DamagedColumn { column: column.to_owned(), what };
    let cells = match reader {
        ColumnReader::BoolColumnReader(reader) => read_cells(reader, rows, |truth| Some(truth.into()))?,
        ColumnReader::Int64ColumnReader(reader) => read_cells(reader, rows, |number| Some(Cell::Integer(number)))?,
        ColumnReader::DoubleColumnReader(reader) => read_cells(reader, rows, |number| Some(number.into()))?,
        ColumnReader::ByteArrayColumnReader(reader) => {
            read_cells(reader, rows, |text| text.as_utf8().ok().map(Cell::from))?
        }
        _ => return Err(damaged("its pages hold another type than the schema says")),
    };
    let cells = cells.ok_or_else(|| damaged("its text is not UTF-8"))?;
    if cells.len() == rows { Ok(cells) } else { Err(damaged("it has fewer values than the file has rows")) }
}

/// Up to `rows` cells of a column; `None` when a value has no cell.
fn read_cells<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    rows: usize,
    cell: impl Fn(T::T) -> Option<Cell>,
) -> Result<Option<Vec<Cell>>, ReportError> {
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    let (records, found, _) = reader.read_records(rows, Some(&mut levels), None, &mut values)?;
    if levels.is_empty() {
        // A required column has no levels: every record has its value.
        levels.resize(records.min(found), 1);
    }
    let mut values = values.into_iter();
    let cells = levels.iter().map(|level| if *level == 0 { Some(Cell::Null) } else { values.next().and_then(&cell) });
    Ok(cells.collect())
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn kinds() -> impl Strategy<Value = ColumnKind> {
        prop_oneof![
            Just(ColumnKind::Text),
            Just(ColumnKind::Integer),
            Just(ColumnKind::Number),
            Just(ColumnKind::Boolean)
        ]
    }

    fn cells(kind: ColumnKind) -> BoxedStrategy<Cell> {
        let number = proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL | proptest::num::f64::ZERO;
        let value = match kind {
            ColumnKind::Text => any::<String>().prop_map(Cell::Text).boxed(),
            ColumnKind::Integer => any::<i64>().prop_map(Cell::Integer).boxed(),
            ColumnKind::Number => number.prop_map(Cell::Number).boxed(),
            ColumnKind::Boolean => any::<bool>().prop_map(Cell::Boolean).boxed(),
            // They come back as texts.
            ColumnKind::Nested | ColumnKind::Mixed => Just(Cell::Null).boxed(),
        };
        prop_oneof![1 => Just(Cell::Null), 4 => value].boxed()
    }

    /// Any table of one to five columns with names that differ and up to forty rows; numbers are finite.
    pub(in crate::report) fn tables() -> impl Strategy<Value = Table> {
        let columns = proptest::collection::btree_map(any::<String>(), kinds(), 1..5);
        columns.prop_flat_map(|columns: BTreeMap<String, ColumnKind>| {
            let row: Vec<_> = columns.values().map(|kind| cells(*kind)).collect();
            (Just(columns), proptest::collection::vec(row, 0..40)).prop_map(|(columns, rows)| {
                let mut table = Table::new(columns.iter().map(|(name, kind)| (name.as_str(), *kind)));
                rows.into_iter().for_each(|row| table.push(row).unwrap());
                table
            })
        })
    }

    fn layers() -> Table {
        let mut table = Table::new([
            ("layer", ColumnKind::Text),
            ("parameters", ColumnKind::Integer),
            ("total_variance", ColumnKind::Number),
            ("degenerate", ColumnKind::Boolean),
        ]);
        table.push(vec!["visual.proj".into(), 393_216_u64.into(), 1.25e-7.into(), false.into()]).unwrap();
        table.push(vec!["logit_scale".into(), 1_u64.into(), Cell::Null, true.into()]).unwrap();
        table
    }

    proptest! {
        #[test]
        fn every_table_reads_back(table in tables(), key in any::<String>(), value in any::<String>()) {
            let bytes = write(&table, &[(&key, &value)]).unwrap();
            prop_assert_eq!(&bytes, &write(&table, &[(&key, &value)]).unwrap());
            let read = read(bytes.into()).unwrap();
            prop_assert_eq!(read.table, table);
            prop_assert_eq!(read.metadata, vec![(key, value)]);
        }

        #[test]
        fn damaged_bytes_are_refused_or_read(at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = write(&layers(), &[("schema_version", "1")]).unwrap();
            let position = at.index(bytes.len());
            bytes[position] = byte;
            // Without checksums a changed value may pass; a panic or another shape may not.
            if let Ok(read) = read(bytes.into()) {
                prop_assert!(read.table.rows().iter().all(|row| row.len() == read.table.columns().len()));
            }
        }

        #[test]
        fn truncated_bytes_are_refused(cut in any::<proptest::sample::Index>()) {
            let bytes = write(&layers(), &[]).unwrap();
            prop_assert!(read(Bytes::copy_from_slice(&bytes[..cut.index(bytes.len())])).is_err());
        }
    }

    #[test]
    fn an_offset_before_the_file_is_an_error() {
        let bytes = write(&layers(), &[]).unwrap();
        let refused = (0..bytes.len()).any(|position| {
            let mut bytes = bytes.clone();
            bytes[position] = 1;
            matches!(read(bytes.into()), Err(ReportError::DamagedFile))
        });
        assert!(refused, "parquet no longer panics on damaged files: the guard in `read` can go");
    }

    #[test]
    fn whole_numbers_of_a_number_column_become_numbers() {
        let mut table = Table::new([("variance", ColumnKind::Number)]);
        table.push(vec![Cell::Integer(3)]).unwrap();
        table.push(vec![Cell::Number(f64::NAN)]).unwrap();
        let read = read(write(&table, &[]).unwrap().into()).unwrap();
        assert_eq!(read.table.rows(), [[Cell::Number(3.0)], [Cell::Null]]);
        assert!(read.metadata.is_empty());
    }

    #[test]
    fn more_rows_than_a_batch_keep_their_order() {
        let mut table = Table::new([("row", ColumnKind::Integer), ("name", ColumnKind::Text)]);
        for row in 0..BATCH_ROWS * 2 + 3 {
            let name = if row % 3 == 0 { Cell::Null } else { Cell::Text(format!("layer {}", row % 7)) };
            table.push(vec![row.into(), name]).unwrap();
        }
        assert_eq!(read(write(&table, &[]).unwrap().into()).unwrap().table, table);
    }

    #[test]
    fn impossible_tables_and_foreign_files_are_refused() {
        assert!(matches!(write(&Table::default(), &[]), Err(ReportError::NoColumns)));
        let twice = Table::new([("layer", ColumnKind::Text), ("layer", ColumnKind::Number)]);
        assert!(matches!(write(&twice, &[]), Err(ReportError::DuplicateColumn { column }) if column == "layer"));
        assert!(matches!(read(Bytes::from_static(b"PAR1 but no more")), Err(ReportError::Parquet(_))));
        assert!(matches!(read(Bytes::new()), Err(ReportError::Parquet(_))));
    }

    fn foreign(message: &str) -> Bytes {
        let schema = Arc::new(::parquet::schema::parser::parse_message_type(message).unwrap());
        SerializedFileWriter::new(Vec::new(), schema, Arc::default()).unwrap().into_inner().unwrap().into()
    }

    #[test]
    fn columns_without_a_cell_kind_are_refused_by_name() {
        for message in [
            "message schema { optional INT32 size; }",
            "message schema { optional INT64 size (TIMESTAMP_MILLIS); }",
            "message schema { optional BYTE_ARRAY size; }",
            "message schema { repeated DOUBLE size; }",
            "message schema { optional group size { optional DOUBLE inner; } }",
        ] {
            let error = read(foreign(message)).unwrap_err();
            assert!(error.to_string().contains("`size"), "{message}: {error}");
        }
        let required = read(foreign("message schema { required DOUBLE size; }")).unwrap();
        assert_eq!(required.table.columns()[0].kind, ColumnKind::Number);
    }
}
