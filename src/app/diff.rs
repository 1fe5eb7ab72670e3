//! How two checkpoints differ, tensor by tensor: what only one has, what changed its shape or type, and by how much the
//! values moved.

use std::collections::HashSet;

use rayon::prelude::*;

use crate::checkpoint::{Checkpoint, CheckpointError, TensorInfo};
use crate::progress::{Progress, Stage, Task};
use crate::table::{Cell, ColumnKind, Table};
use crate::tensor::{TensorError, TensorView};

use super::blocking::run_blocking;
use super::error::AppError;
use super::fit;
use super::input::{Input, Seeded};
use super::layer_name::shape_text;
use super::pull::{Pulled, pull};
use super::session::Session;

/// Elements converted at a time.
const BLOCK: usize = 4096;

/// Which two checkpoints to compare.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DiffOptions {
    /// The one that changes are counted from.
    pub before: Input,
    /// The other.
    pub after: Input,
    /// Which file of artifacts that hold several.
    pub file: Option<String>,
    /// Nested dictionary that holds the weights, where there are several.
    pub key: Option<String>,
}

impl DiffOptions {
    /// From one checkpoint to another.
    pub fn new(before: Input, after: Input) -> Self {
        Self { before, after, file: None, key: None }
    }
}

/// How two checkpoints differ.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Difference {
    /// One row a tensor, in the order of the first checkpoint and then of the second: tensor, change (`equal`, `values`,
    /// `dtype`, `shape`, `removed`, `added`), dtype, shape, elements that differ, the Euclidean norm of the difference
    /// absolute and relative to the first tensor's norm, and the largest difference of one element.
    pub tensors: Table,
    /// Tensors whose elements are the same to the bit.
    pub equal: usize,
    /// Tensors that differ in any way, those that only one has included.
    pub different: usize,
}

impl Difference {
    /// The rows of tensors that differ.
    ///
    /// # Errors
    /// Never for a comparison that was made; a [`TableError`](crate::table::TableError) would be a mistake in this file.
    pub fn differing(&self) -> Result<Table, AppError> {
        let equal = Cell::from(EQUAL);
        let mut table = Table::new(COLUMNS);
        for row in self.tensors.rows().iter().filter(|row| row.get(1) != Some(&equal)) {
            table.push(row.clone())?;
        }
        Ok(table)
    }
}

/// Compares two checkpoints by the names of their tensors.
///
/// # Errors
/// [`AppError`] naming the input, and the tensor where one is damaged.
pub async fn diff(session: &Session, options: DiffOptions) -> Result<Difference, AppError> {
    let inputs = [&options.before, &options.after].map(|input| Seeded { seed: None, input: input.clone() });
    let pulled = pull(session, &inputs, options.file.as_deref()).await?;
    let progress = session.progress.clone();
    run_blocking("the comparison", move || compare(&pulled, options.key.as_deref(), &progress)).await
}

fn compare(pulled: &[Pulled], key: Option<&str>, progress: &Progress) -> Result<Difference, AppError> {
    let opened = fit::open_alike(pulled, key)?.into_iter().zip(pulled).collect::<Vec<_>>();
    let sides = <[Side<'_>; 2]>::try_from(opened).map_err(|_| AppError::Worker { what: "the comparison" })?;
    let [(first, _), (second, _)] = &sides;
    let bytes = first.tensors().iter().map(|info| info.bytes).sum();
    let task = progress.begin(Stage::Compute, "differences", Some(bytes));
    let in_first: HashSet<&str> = first.tensors().iter().map(|info| info.name.as_str()).collect();
    let added = second.tensors().iter().filter(|info| !in_first.contains(info.name.as_str()));
    let pairs = first.tensors().iter().map(|info| (Some(info), second.info(&info.name)));
    let pairs: Vec<_> = pairs.chain(added.map(|info| (None, Some(info)))).collect();
    let rows = pairs.par_iter().map(|&pair| compare_tensor(&sides, pair, &task)).collect::<Result<Vec<_>, _>>()?;
    let equal = rows.iter().filter(|row| row.change == EQUAL).count();
    let different = rows.len() - equal;
    let mut tensors = Table::new(COLUMNS);
    for row in rows {
        tensors.push(row.cells())?;
    }
    Ok(Difference { tensors, equal, different })
}

const EQUAL: &str = "equal";
const COLUMNS: [(&str, ColumnKind); 8] = [
    ("tensor", ColumnKind::Text),
    ("change", ColumnKind::Text),
    ("dtype", ColumnKind::Text),
    ("shape", ColumnKind::Text),
    ("changed", ColumnKind::Integer),
    ("norm", ColumnKind::Number),
    ("relative", ColumnKind::Number),
    ("largest", ColumnKind::Number),
];

/// One row of the table.
struct Row {
    name: String,
    change: &'static str,
    dtype: String,
    shape: String,
    moved: Option<Moved>,
}

/// By how much the values of a tensor moved.
#[derive(Debug, Default, PartialEq)]
struct Moved {
    /// Elements that are not the same number.
    changed: u64,
    /// Σ (after − before)².
    squares: f64,
    /// Σ before².
    before: f64,
    largest: f64,
}

impl Row {
    fn cells(self) -> Vec<Cell> {
        let finite = |number: f64| Some(number).filter(|number| number.is_finite());
        let moved = self.moved.as_ref();
        let relative = |moved: &Moved| finite((moved.squares / moved.before).sqrt());
        vec![
            self.name.into(),
            self.change.into(),
            self.dtype.into(),
            self.shape.into(),
            moved.map(|moved| moved.changed).into(),
            moved.and_then(|moved| finite(moved.squares.sqrt())).into(),
            moved.and_then(relative).into(),
            moved.and_then(|moved| finite(moved.largest)).into(),
        ]
    }
}

type Side<'a> = (Checkpoint, &'a Pulled);

fn compare_tensor(
    sides: &[Side<'_>; 2],
    pair: (Option<&TensorInfo>, Option<&TensorInfo>),
    task: &Task,
) -> Result<Row, AppError> {
    let alone = |info: &TensorInfo, change| {
        Ok(Row {
            name: info.name.clone(),
            change,
            dtype: info.dtype.to_string(),
            shape: shape_text(&info.shape),
            moved: None,
        })
    };
    let (before, after) = match pair {
        (Some(before), Some(after)) => (before, after),
        (Some(only), None) => return alone(only, "removed"),
        (None, Some(only)) => return alone(only, "added"),
        (None, None) => return Err(AppError::Worker { what: "the comparison" }),
    };
    let both = |a: String, b: String| if a == b { a } else { format!("{a} → {b}") };
    let (dtype, shape) = (
        both(before.dtype.to_string(), after.dtype.to_string()),
        both(shape_text(&before.shape), shape_text(&after.shape)),
    );
    let (mut change, mut moved) = ("shape", None);
    if before.shape == after.shape {
        let found = moved_between(sides, &before.name)?;
        change = match (before.dtype == after.dtype, found.changed) {
            (false, _) => "dtype",
            (true, 0) => EQUAL,
            (true, _) => "values",
        };
        moved = Some(found);
    }
    task.advance(before.bytes);
    Ok(Row { name: before.name.clone(), change, dtype, shape, moved })
}

/// Reads one tensor of the same shape on both sides.
fn moved_between([first, second]: &[Side<'_>; 2], name: &str) -> Result<Moved, AppError> {
    let [a, b] = [first, second].map(|(checkpoint, pulled)| {
        checkpoint.tensor(name).map_err(AppError::checkpoint("read", &pulled.record.input))
    });
    measure(&a?, &b?).map_err(|source| {
        let (file, tensor) = (first.0.file().to_owned(), name.to_owned());
        AppError::checkpoint("compare", &first.1.record.input)(CheckpointError::Layout { file, tensor, source })
    })
}

/// Elements of one dtype are compared by their bits, so that a NaN equals itself; of two dtypes by their values.
/// Complex elements are compared and not measured.
fn measure(a: &TensorView<'_>, b: &TensorView<'_>) -> Result<Moved, TensorError> {
    let real = !a.dtype().is_complex() && !b.dtype().is_complex();
    let same_dtype = a.dtype() == b.dtype();
    let (mut x, mut y) = (vec![0.0; BLOCK], vec![0.0; BLOCK]);
    let (mut bits_a, mut bits_b) = (vec![0; BLOCK * a.dtype().size()], vec![0; BLOCK * b.dtype().size()]);
    let mut moved = Moved::default();
    for start in (0..a.len()).step_by(BLOCK) {
        let count = BLOCK.min(a.len() - start);
        let (size_a, size_b) = (a.dtype().size(), b.dtype().size());
        let (bits_a, bits_b) = (&mut bits_a[..count * size_a], &mut bits_b[..count * size_b]);
        a.read_le_bytes(start, bits_a)?;
        b.read_le_bytes(start, bits_b)?;
        if same_dtype {
            let pairs = bits_a.chunks_exact(size_a).zip(bits_b.chunks_exact(size_b));
            moved.changed += pairs.filter(|(a, b)| a != b).count() as u64;
        }
        if !real {
            moved.squares = f64::NAN;
            moved.largest = f64::NAN;
            continue;
        }
        let (x, y) = (&mut x[..count], &mut y[..count]);
        a.read_f64(start, x)?;
        b.read_f64(start, y)?;
        for (x, y) in x.iter().zip(y.iter()) {
            moved.changed += u64::from(!same_dtype && x != y);
            moved.before += x * x;
            moved.squares += (y - x) * (y - x);
            moved.largest = moved.largest.max((y - x).abs());
        }
    }
    Ok(moved)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Dtype;

    fn f32s(numbers: &[f32]) -> TensorView<'static> {
        let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        TensorView::contiguous(Dtype::F32, vec![numbers.len()], bytes).unwrap()
    }

    #[test]
    fn moves_are_counted_and_measured() {
        let moved = measure(&f32s(&[3.0, 4.0, 1.0]), &f32s(&[3.0, 4.0, 3.0])).unwrap();
        assert_eq!(moved, Moved { changed: 1, squares: 4.0, before: 26.0, largest: 2.0 });
        let nan = f32s(&[f32::NAN]);
        assert_eq!(measure(&nan, &nan).unwrap().changed, 0, "a NaN equals itself to the bit");
        let long: Vec<f32> = (0..10_000).map(|at| at as f32).collect();
        assert_eq!(measure(&f32s(&long), &f32s(&long)).unwrap().changed, 0);
    }

    #[test]
    fn values_of_two_dtypes_are_compared_as_numbers() {
        let half: Vec<u8> = [1.5f32, 2.0].iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()).collect();
        let half = TensorView::contiguous(Dtype::Bf16, vec![2], half).unwrap();
        assert_eq!(measure(&f32s(&[1.5, 2.5]), &half).unwrap().changed, 1);
    }
}
