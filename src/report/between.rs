//! The plain rows of a comparison of datasets, and their tables.
//!
//! Owns the names and kinds of their columns. `grouping` says how layers were put together (`layer`, `block`, `module`,
//! `model`), `group` which of them. Pure.

use serde::{Deserialize, Serialize};

use crate::table::{Cell, ColumnKind, Table, TableError};

/// What two datasets' subspaces say about each other, in one group of layers.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct PairRow {
    /// How layers were put together.
    pub grouping: String,
    /// The group.
    pub group: String,
    /// One dataset.
    pub first: String,
    /// The other.
    pub second: String,
    /// Components of each that were compared.
    pub components: [u32; 2],
    /// ‖M‖_F² by the smaller number of components, 0 to 1.
    pub overlap: Option<f64>,
    /// Principal angles in degrees, rising.
    pub degrees: Vec<f64>,
    /// Share of the first dataset's variance outside the second's components.
    pub first_in_second: Option<f64>,
    /// Share of the second dataset's variance outside the first's components.
    pub second_in_first: Option<f64>,
    /// Mean cosine between a task vector of one and one of the other.
    pub mean_cosine: Option<f64>,
}

/// All datasets together, in one group of layers.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct JointRow {
    /// How layers were put together.
    pub grouping: String,
    /// The group.
    pub group: String,
    /// Its parameters.
    pub parameters: u64,
    /// Σ ‖x − x̄‖² over all task vectors.
    pub scatter: f64,
    /// Its part between datasets.
    pub between: f64,
    /// Its part within datasets.
    pub within: f64,
    /// [`Self::between`] by [`Self::scatter`].
    pub dataset_share: Option<f64>,
    /// Explained variance ratio of the first component of the joint PCA.
    pub first_ratio: Option<f64>,
    /// Of the second.
    pub second_ratio: Option<f64>,
    /// Effective rank of the joint PCA.
    pub effective_rank: Option<f64>,
    /// Fewest components of the joint PCA that explain 90 % of the variance.
    pub components_90: Option<u32>,
    /// 95 %.
    pub components_95: Option<u32>,
    /// 99 %.
    pub components_99: Option<u32>,
}

/// Two task vectors of the whole model.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SimilarityRow {
    /// Dataset and seed of one.
    pub first: [String; 2],
    /// Dataset and seed of the other.
    pub second: [String; 2],
    /// x · y.
    pub dot: f64,
    /// Cosine of the angle between; nothing for a zero vector.
    pub cosine: Option<f64>,
    /// The angle, in radians.
    pub angle: Option<f64>,
    /// ‖x − y‖.
    pub distance: f64,
    /// Smaller norm by larger.
    pub magnitude_ratio: Option<f64>,
}

/// One row a group and pair of datasets; the angles are in [`angles_table`].
///
/// # Errors
/// Never; a [`TableError`] would be a mistake in this file.
pub fn pairs_table(rows: &[PairRow]) -> Result<Table, TableError> {
    use ColumnKind::{Integer, Number, Text};
    let mut table = Table::new([
        ("grouping", Text),
        ("group", Text),
        ("first", Text),
        ("second", Text),
        ("components_first", Integer),
        ("components_second", Integer),
        ("overlap", Number),
        ("smallest_angle_degrees", Number),
        ("mean_angle_degrees", Number),
        ("largest_angle_degrees", Number),
        ("residual_first_in_second", Number),
        ("residual_second_in_first", Number),
        ("mean_cosine", Number),
    ]);
    for row in rows {
        let mut cells = names(row);
        cells.extend(row.components.map(|count| Cell::from(u64::from(count))));
        cells.extend([
            row.overlap.into(),
            row.degrees.first().copied().into(),
            row.mean_angle().into(),
            row.degrees.last().copied().into(),
            row.first_in_second.into(),
            row.second_in_first.into(),
            row.mean_cosine.into(),
        ]);
        table.push(cells)?;
    }
    Ok(table)
}

/// One row a group, pair of datasets and principal angle, angles from 1.
///
/// # Errors
/// As [`pairs_table`].
pub fn angles_table(rows: &[PairRow]) -> Result<Table, TableError> {
    use ColumnKind::{Integer, Number, Text};
    let mut table = Table::new([
        ("grouping", Text),
        ("group", Text),
        ("first", Text),
        ("second", Text),
        ("angle", Integer),
        ("degrees", Number),
    ]);
    for row in rows {
        for (at, degrees) in row.degrees.iter().enumerate() {
            let mut cells = names(row);
            cells.extend([(at + 1).into(), (*degrees).into()]);
            table.push(cells)?;
        }
    }
    Ok(table)
}

/// One row a group.
///
/// # Errors
/// As [`pairs_table`].
pub fn joint_table(rows: &[JointRow]) -> Result<Table, TableError> {
    use ColumnKind::{Integer, Number, Text};
    let mut table = Table::new([
        ("grouping", Text),
        ("group", Text),
        ("parameters", Integer),
        ("scatter", Number),
        ("between", Number),
        ("within", Number),
        ("dataset_share", Number),
        ("first_ratio", Number),
        ("second_ratio", Number),
        ("effective_rank", Number),
        ("components_90", Integer),
        ("components_95", Integer),
        ("components_99", Integer),
    ]);
    for row in rows {
        let counts = [row.components_90, row.components_95, row.components_99];
        let mut cells: Vec<Cell> = vec![
            row.grouping.as_str().into(),
            row.group.as_str().into(),
            row.parameters.into(),
            row.scatter.into(),
            row.between.into(),
            row.within.into(),
        ];
        cells.extend([row.dataset_share, row.first_ratio, row.second_ratio, row.effective_rank].map(Cell::from));
        cells.extend(counts.map(|count| Cell::from(count.map(u64::from))));
        table.push(cells)?;
    }
    Ok(table)
}

/// One row for each ordered pair of task vectors.
///
/// # Errors
/// As [`pairs_table`].
pub fn similarity_table(rows: &[SimilarityRow]) -> Result<Table, TableError> {
    use ColumnKind::{Number, Text};
    let mut table = Table::new([
        ("first_dataset", Text),
        ("first_seed", Text),
        ("second_dataset", Text),
        ("second_seed", Text),
        ("dot", Number),
        ("cosine", Number),
        ("angle", Number),
        ("distance", Number),
        ("magnitude_ratio", Number),
    ]);
    for row in rows {
        let mut cells: Vec<Cell> = row.first.iter().chain(&row.second).map(|name| name.as_str().into()).collect();
        cells.push(row.dot.into());
        cells.extend([row.cosine, row.angle, Some(row.distance), row.magnitude_ratio].map(Cell::from));
        table.push(cells)?;
    }
    Ok(table)
}

impl PairRow {
    /// Mean of the principal angles; nothing where there is none.
    pub fn mean_angle(&self) -> Option<f64> {
        (!self.degrees.is_empty()).then(|| self.degrees.iter().sum::<f64>() / self.degrees.len() as f64)
    }
}

fn names(row: &PairRow) -> Vec<Cell> {
    [&row.grouping, &row.group, &row.first, &row.second].map(|name| name.as_str().into()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn angles_have_a_row_each_and_pairs_sum_them_up() {
        let row = PairRow { first: "a".into(), second: "b".into(), degrees: vec![10.0, 50.0], ..PairRow::default() };
        let without = PairRow { degrees: Vec::new(), ..row.clone() };
        let rows = [row, without];
        let pairs = pairs_table(&rows).unwrap();
        let at = |row: usize, name: &str| pairs.rows()[row][pairs.column(name).unwrap()].clone();
        assert_eq!(at(0, "smallest_angle_degrees"), Cell::Number(10.0));
        assert_eq!(at(0, "mean_angle_degrees"), Cell::Number(30.0));
        assert_eq!(at(0, "largest_angle_degrees"), Cell::Number(50.0));
        assert_eq!(at(1, "mean_angle_degrees"), Cell::Null);
        let angles = angles_table(&rows).unwrap();
        assert_eq!(angles.rows().len(), 2);
        assert_eq!(angles.rows()[1][4..], [Cell::Integer(2), Cell::Number(50.0)]);
        assert_eq!(joint_table(&[JointRow::default()]).unwrap().rows()[0][6], Cell::Null);
        assert_eq!(similarity_table(&[SimilarityRow::default()]).unwrap().rows()[0].len(), 9);
    }
}
