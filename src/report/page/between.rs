//! The section of a comparison: plots of the whole model, and the tables of pairs and of all datasets together.

use super::super::between::{JointRow, PairRow};
use super::super::input::Comparison;
use super::super::number;
use super::super::plot::{self, MatrixScale};
use super::figures;
use super::html::Html;
use super::tables::{self, Cell, columns};

pub(super) fn write(html: &mut Html, section: &Comparison) {
    html.raw("<section id=\"comparison\"><h2>Between datasets</h2>\n");
    let matrix =
        |title, matrix: &Option<_>, scale| matrix.as_ref().and_then(|values| plot::matrix(title, values, scale));
    let plots = [
        plot::principal_angles(&section.angles),
        matrix("Subspace overlap", &section.overlaps, MatrixScale::Share),
        matrix("Mean cosine between task vectors", &section.cosines, MatrixScale::Signed),
        section.scores.as_ref().and_then(plot::seeds_in_plane),
    ];
    figures(html, "comparison", plots);
    if !section.pairs.is_empty() {
        html.raw("<h3>Pairs of datasets</h3>\n");
        pairs(html, &section.pairs);
    }
    if !section.joint.is_empty() {
        html.raw("<h3>All datasets together</h3>\n");
        joint(html, &section.joint);
    }
    html.raw("</section>\n");
}

fn pairs(html: &mut Html, rows: &[PairRow]) {
    let names = ["Layers", "By", "One", "Other"];
    let numbers = ["Overlap", "First angle °", "Mean angle °", "Last angle °", "One outside other"];
    let columns = columns(&names, &[&numbers[..], &["Other outside one", "Mean cosine"]].concat());
    let degrees = |value: f64| format!("{value:.1}");
    tables::write(
        html,
        "rows",
        &columns,
        rows.iter().map(|row| {
            vec![
                Cell::Name(&row.group),
                Cell::Word(&row.grouping),
                Cell::Word(&row.first),
                Cell::Word(&row.second),
                Cell::Number(row.overlap, number::short),
                Cell::Number(row.degrees.first().copied(), degrees),
                Cell::Number(row.mean_angle(), degrees),
                Cell::Number(row.degrees.last().copied(), degrees),
                Cell::Number(row.first_in_second, number::percent),
                Cell::Number(row.second_in_first, number::percent),
                Cell::Number(row.mean_cosine, number::short),
            ]
        }),
    );
}

fn joint(html: &mut Html, rows: &[JointRow]) {
    let numbers = ["Parameters", "Between datasets", "Within datasets", "Share between", "1st", "2nd"];
    let columns = columns(&["Layers", "By"], &[&numbers[..], &["Effective rank", "k95"]].concat());
    tables::write(
        html,
        "rows",
        &columns,
        rows.iter().map(|row| {
            vec![
                Cell::Name(&row.group),
                Cell::Word(&row.grouping),
                Cell::Whole(Some(row.parameters)),
                Cell::Number(Some(row.between), number::short),
                Cell::Number(Some(row.within), number::short),
                Cell::Number(row.dataset_share, number::percent),
                Cell::Number(row.first_ratio, number::percent),
                Cell::Number(row.second_ratio, number::percent),
                Cell::Number(row.effective_rank, |rank| format!("{rank:.1}")),
                Cell::Whole(row.components_95.map(u64::from)),
            ]
        }),
    );
}
