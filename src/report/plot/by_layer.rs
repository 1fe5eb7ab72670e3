//! Total variance of each layer, as dots on a logarithmic axis, largest first.
//!
//! Owns the ranking. Layers without variance have no place on the axis; the subtitle counts them. Pure.

use super::super::axis::{self, Axis, Frame, Scale};
use super::super::font::{self, Weight};
use super::super::number;
use super::super::palette::Ink;
use super::super::rows::LayerRow;
use super::super::scene::{Anchor, Label, Marker, Scene};

const ROW_HEIGHT: f64 = 17.0;
const NAME_ROOM: f64 = 250.0;

/// The `most` layers of the largest total variance; `None` when no layer has any.
pub fn variance_by_layer(layers: &[LayerRow], most: usize) -> Option<Scene> {
    let mut ranked: Vec<(&LayerRow, f64)> = layers
        .iter()
        .filter_map(|row| Some((row, row.total_variance.filter(|v| v.is_finite() && *v > 0.0)?)))
        .collect();
    // Names decide ties, so that the picture does not depend on the order of the rows.
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.layer.cmp(&b.0.layer)));
    let varying = ranked.len();
    ranked.truncate(most);
    let (largest, value) = *ranked.first()?;
    let names = ranked.iter().map(|(row, _)| font::width(&row.layer, 11.0, Weight::Regular));
    let left = 16.0 + names.fold(60.0, f64::max).min(NAME_ROOM) + 12.0;
    let width = super::COMMON_WIDTH.max(left + 300.0);
    let frame = Frame { left, top: 60.0, right: width - 24.0, bottom: 60.0 + ROW_HEIGHT * ranked.len() as f64 };
    let mut scene = Scene::new(width, frame.bottom + 50.0, "Total variance by layer");
    scene.description = format!(
        "Ranking of {} of {} layers. The largest is {} with {}.",
        ranked.len(),
        layers.len(),
        largest.layer,
        number::short(value)
    );
    axis::draw_heading(&mut scene, &subtitle(ranked.len(), varying, layers.len()));
    let scale = Scale::log(ranked.iter().map(|(_, value)| *value));
    frame.draw_x(&mut scene, &Axis::new(scale, "total variance, logarithmic"), &scale.ticks(6));
    for (position, (row, value)) in ranked.iter().enumerate() {
        let y = frame.top + (position as f64 + 0.5) * ROW_HEIGHT;
        let Some(x) = frame.x(scale, *value) else { continue };
        let name = font::shorten(&row.layer, 11.0, Weight::Regular, NAME_ROOM);
        scene
            .text(Label::new(name, (left - 10.0, y + 4.0)).sized(11.0).anchored(Anchor::End), Ink::Text)
            .hinted(&row.layer);
        scene.line((left, y), (x, y), Ink::Axis);
        let parameters = number::count(row.parameters);
        let hint = format!("{}: {} ({parameters} parameters)", row.layer, number::short(*value));
        scene.dot((x, y), 4.0, Marker::Circle, Ink::Series(0)).hinted(hint);
    }
    Some(scene)
}

fn subtitle(shown: usize, varying: usize, all: usize) -> String {
    let shown =
        if shown < varying { format!("the {shown} largest of {all} layers") } else { format!("{shown} layers") };
    match all - varying {
        0 => shown,
        1 => format!("{shown}; 1 layer without variance is left out"),
        without => format!("{shown}; {without} layers without variance are left out"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::scene::Shape;
    use super::*;

    #[test]
    fn largest_first_and_only_what_varies() {
        let rows = [("a", Some(1.0)), ("b", Some(100.0)), ("c", None), ("d", Some(0.0)), ("e", Some(10.0))];
        let layers = rows.map(|(layer, total_variance)| LayerRow {
            layer: layer.to_owned(),
            total_variance,
            ..LayerRow::default()
        });
        let scene = variance_by_layer(&layers, 2).unwrap();
        let dots: Vec<_> = scene.marks.iter().filter(|mark| matches!(mark.shape, Shape::Dot { .. })).collect();
        let hints: Vec<_> = dots.iter().filter_map(|mark| mark.hint.as_deref()).collect();
        assert_eq!(hints, ["b: 100 (0 parameters)", "e: 10 (0 parameters)"]);
        assert_eq!(subtitle(2, 3, 5), "the 2 largest of 5 layers; 2 layers without variance are left out");
        assert!(variance_by_layer(&layers[2..4], 9).is_none());
    }
}
