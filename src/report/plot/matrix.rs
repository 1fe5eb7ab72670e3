//! A square matrix between named things as a heat map: cosine similarities, overlaps.
//!
//! Owns layout and colour range. The diagonal of a similarity is 1 by definition and does not set the range. Pure.

use super::super::axis::{self, Axis, Frame, Scale};
use super::super::font::{self, Weight};
use super::super::number;
use super::super::palette::Ink;
use super::super::rows::Matrix;
use super::super::scene::{Anchor, Label, Scene, Shape};

/// What the colours mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatrixScale {
    /// Values of either sign around zero, with a diagonal of ones: cosine similarity.
    Signed,
    /// Values from 0 to 1: overlap.
    Share,
}

/// The heat map under this title; `None` without a label or when the values do not form a square.
pub fn matrix(title: &str, matrix: &Matrix, scale: MatrixScale) -> Option<Scene> {
    let count = matrix.labels.len();
    if count == 0 || matrix.values.len() != count || matrix.values.iter().any(|row| row.len() != count) {
        return None;
    }
    let names = matrix.labels.iter().map(|label| font::width(label, 12.0, Weight::Regular));
    let room = names.fold(12.0, f64::max).min(130.0);
    let left = 16.0 + room + 8.0;
    let side = ((super::COMMON_WIDTH - 20.0 - left) / count as f64).clamp(14.0, 64.0);
    let extent = side * count as f64;
    let frame = Frame { left, top: 58.0, right: left + extent, bottom: 58.0 + extent };
    // Column labels turn upwards where they would touch.
    let upright = room + 6.0 > side;
    let below = if upright { room + 16.0 } else { 24.0 };
    let width = (frame.right + 20.0).max(super::COMMON_WIDTH);
    let mut scene = Scene::new(width, frame.bottom + below + 64.0, title);
    let off_diagonal = || pairs(matrix).filter(|(row, column, _)| row != column).map(|(_, _, value)| value);
    let values = match scale {
        MatrixScale::Signed => {
            let most = off_diagonal().map(f64::abs).fold(0.0, f64::max);
            Scale::linear(0.0, most.clamp(0.05, 1.0), 4)
        }
        MatrixScale::Share => Scale::Linear(0.0, 1.0),
    };
    let (Scale::Linear(_, high) | Scale::Log(_, high)) = values;
    let bar_scale = if scale == MatrixScale::Signed { Scale::Linear(-high, high) } else { values };
    let ink = move |value: f64| match scale {
        MatrixScale::Signed => Ink::diverging(value / high),
        MatrixScale::Share => Ink::sequential(value / high),
    };
    let summary = summary(&off_diagonal().collect::<Vec<_>>(), count);
    scene.description = format!("{title}: {summary}");
    axis::draw_heading(&mut scene, &summary);
    draw_cells(&mut scene, matrix, frame, &ink);
    draw_labels(&mut scene, &matrix.labels, frame, upright);
    let top = frame.bottom + below + 20.0;
    let bar = Frame { left, top, right: (left + 260.0).min(scene.width - 20.0), bottom: top + 12.0 };
    let name = if scale == MatrixScale::Signed { "cosine similarity" } else { "overlap" };
    axis::draw_colour_bar(&mut scene, bar, &Axis::new(bar_scale, name), |share| match scale {
        MatrixScale::Signed => Ink::diverging(2.0 * share - 1.0),
        MatrixScale::Share => Ink::sequential(share),
    });
    Some(scene)
}

fn pairs(matrix: &Matrix) -> impl Iterator<Item = (usize, usize, f64)> {
    let rows = matrix.values.iter().enumerate();
    rows.flat_map(|(row, values)| {
        values.iter().enumerate().filter_map(move |(column, value)| Some((row, column, (*value)?)))
    })
}

fn summary(values: &[f64], count: usize) -> String {
    if values.is_empty() {
        return format!("{count} × {count}");
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let (low, high) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
    format!("{} to {} between pairs, {} on average", decimal(low), decimal(high), decimal(mean))
}

/// Two decimals, for values whose scale is known to be one.
fn decimal(value: f64) -> String {
    let text = format!("{value:.2}").replace('-', "−");
    if text == "−0.00" { "0.00".to_owned() } else { text }
}

fn draw_cells(scene: &mut Scene, matrix: &Matrix, frame: Frame, ink: &dyn Fn(f64) -> Ink) {
    let side = frame.width() / matrix.labels.len() as f64;
    for (row, (label, values)) in matrix.labels.iter().zip(&matrix.values).enumerate() {
        for (column, (other, value)) in matrix.labels.iter().zip(values).enumerate() {
            let (x, y) = (frame.left + column as f64 * side, frame.top + row as f64 * side);
            let ink = if row == column { Ink::Missing } else { value.map_or(Ink::Missing, ink) };
            let hint = format!("{label} – {other}: {}", value.map_or_else(|| number::NONE.to_owned(), number::short));
            let gap = if side > 24.0 { 1.0 } else { 0.5 };
            let rect = Shape::Rect { x: x + gap, y: y + gap, width: side - 2.0 * gap, height: side - 2.0 * gap };
            scene.draw(rect, ink).hinted(hint.clone());
            if side >= 32.0
                && let Some(value) = value
            {
                let label = Label::new(decimal(*value), (x + side / 2.0, y + side / 2.0 + 4.0));
                let text_ink = if row == column { Ink::Muted } else { ink.text_on() };
                scene.text(label.anchored(Anchor::Middle).sized(11.0), text_ink).hinted(hint);
            }
        }
    }
}

fn draw_labels(scene: &mut Scene, labels: &[String], frame: Frame, upright: bool) {
    let side = frame.width() / labels.len() as f64;
    for (position, label) in labels.iter().enumerate() {
        let middle = (position as f64 + 0.5) * side;
        let name = font::shorten(label, 12.0, Weight::Regular, 130.0);
        let row = Label::new(name.as_str(), (frame.left - 8.0, frame.top + middle + 4.0)).anchored(Anchor::End);
        scene.text(row, Ink::Text).hinted(label);
        let x = frame.left + middle;
        let column = if upright {
            Label::new(name, (x + 4.0, frame.bottom + 8.0)).anchored(Anchor::End).upwards()
        } else {
            Label::new(name, (x, frame.bottom + 18.0)).anchored(Anchor::Middle)
        };
        scene.text(column, Ink::Text).hinted(label);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_diagonal_does_not_set_the_range() {
        let values = vec![vec![Some(1.0), Some(-0.2)], vec![Some(-0.2), None]];
        let cosines = Matrix { labels: vec!["0".to_owned(), "1".to_owned()], values };
        let scene = matrix("Cosine similarity", &cosines, MatrixScale::Signed).unwrap();
        let cells: Vec<_> =
            scene.marks.iter().filter(|mark| mark.hint.is_some() && matches!(mark.shape, Shape::Rect { .. })).collect();
        assert_eq!(cells[0].ink, Ink::Missing);
        assert_eq!(cells[1].ink, Ink::diverging(-1.0));
        assert_eq!(cells[1].hint.as_deref(), Some("0 – 1: −0.2"));
        assert_eq!(cells[3].hint.as_deref(), Some("1 – 1: —"));
        assert_eq!(scene.description, "Cosine similarity: −0.20 to −0.20 between pairs, −0.20 on average");
    }

    #[test]
    fn what_is_not_square_is_no_plot() {
        let ragged =
            Matrix { labels: vec!["0".to_owned(), "1".to_owned()], values: vec![vec![None], vec![None, None]] };
        assert!(matrix("Overlap", &ragged, MatrixScale::Share).is_none());
        assert!(matrix("Overlap", &Matrix::default(), MatrixScale::Share).is_none());
    }
}
