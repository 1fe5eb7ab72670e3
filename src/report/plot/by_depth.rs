//! Variance by depth and module, as a heat map: where in the network seeds differ.
//!
//! Owns the grouping of layers into cells: layers of one module at one depth are summed. Layers outside of blocks have no
//! cell; the subtitle counts them. Pure.

use std::collections::BTreeMap;

use super::super::axis::{self, Axis, Frame, Scale};
use super::super::font::{self, Weight};
use super::super::number;
use super::super::palette::Ink;
use super::super::rows::LayerRow;
use super::super::scene::{Anchor, Label, Scene, Shape};

/// Which number a cell shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Total variance.
    Total,
    /// Total variance by the number of parameters, so that large layers do not win by size.
    PerParameter,
}

impl Measure {
    fn name(self) -> &'static str {
        match self {
            Self::Total => "total variance",
            Self::PerParameter => "variance per parameter",
        }
    }
}

const CELL_HEIGHT: f64 = 26.0;

/// The heat map; `None` without a layer that has both a depth and variance.
pub fn variance_by_depth(layers: &[LayerRow], measure: Measure) -> Option<Scene> {
    let grid = Grid::of(layers, measure);
    let scale = Scale::log(grid.cells.values().filter_map(|cell| cell.value));
    grid.cells.values().find(|cell| cell.value.is_some_and(|value| value > 0.0))?;
    let names = grid.modules.iter().map(|name| font::width(name, 12.0, Weight::Regular));
    let left = 16.0 + names.fold(40.0, f64::max).min(190.0) + 10.0;
    let cell_width = (560.0 / grid.depths.len() as f64).clamp(20.0, 46.0);
    let right = left + cell_width * grid.depths.len() as f64;
    let frame = Frame { left, top: 62.0, right, bottom: 62.0 + CELL_HEIGHT * grid.modules.len() as f64 };
    let mut scene =
        Scene::new((right + 20.0).max(super::COMMON_WIDTH), frame.bottom + 106.0, "Variance by depth and module");
    scene.description = grid.description(measure);
    let outside = layers.iter().filter(|row| row.depth.is_none()).count();
    let name = measure.name();
    let subtitle = match outside {
        0 => format!("{name}, logarithmic"),
        1 => format!("{name}, logarithmic; 1 layer outside of blocks is not shown"),
        count => format!("{name}, logarithmic; {count} layers outside of blocks are not shown"),
    };
    axis::draw_heading(&mut scene, &subtitle);
    grid.draw(&mut scene, frame, scale);
    let bar_left = left.min(scene.width - 296.0).max(16.0);
    let bar = Frame { left: bar_left, top: frame.bottom + 66.0, right: bar_left + 280.0, bottom: frame.bottom + 78.0 };
    axis::draw_colour_bar(&mut scene, bar, &Axis::new(scale, name), Ink::sequential);
    Some(scene)
}

#[derive(Default)]
struct GridCell {
    value: Option<f64>,
    parameters: u64,
    layers: usize,
}

struct Grid<'a> {
    modules: Vec<&'a str>,
    depths: Vec<u32>,
    /// By place in `modules`, then depth.
    cells: BTreeMap<(usize, u32), GridCell>,
}

impl<'a> Grid<'a> {
    fn of(layers: &'a [LayerRow], measure: Measure) -> Self {
        let mut modules: Vec<&str> = Vec::new();
        let mut cells: BTreeMap<(usize, u32), GridCell> = BTreeMap::new();
        for row in layers {
            let Some(depth) = row.depth else { continue };
            let module = modules.iter().position(|name| *name == row.module).unwrap_or(modules.len());
            if module == modules.len() {
                modules.push(&row.module);
            }
            let cell = cells.entry((module, depth)).or_default();
            cell.parameters = cell.parameters.saturating_add(row.parameters);
            cell.layers += 1;
            if let Some(variance) = row.total_variance {
                *cell.value.get_or_insert(0.0) += variance;
            }
        }
        if measure == Measure::PerParameter {
            for cell in cells.values_mut() {
                cell.value = cell.value.map(|value| value / cell.parameters.max(1) as f64);
            }
        }
        let mut depths: Vec<u32> = cells.keys().map(|(_, depth)| *depth).collect();
        depths.sort_unstable();
        depths.dedup();
        Self { modules, depths, cells }
    }

    fn description(&self, measure: Measure) -> String {
        let known = self.cells.iter().filter_map(|(key, cell)| Some((key, cell.value?)));
        let most = known.max_by(|a, b| a.1.total_cmp(&b.1));
        let most = most.map_or_else(String::new, |((module, depth), value)| {
            let module = self.modules.get(*module).copied().unwrap_or_default();
            format!(" The largest is {module} at depth {depth}, {}.", number::short(value))
        });
        let (modules, depths) = (self.modules.len(), self.depths.len());
        format!("Heat map of {} for {modules} modules at {depths} depths.{most}", measure.name())
    }

    fn draw(&self, scene: &mut Scene, frame: Frame, scale: Scale) {
        let width = frame.width() / self.depths.len() as f64;
        for (row, module) in self.modules.iter().enumerate() {
            let y = frame.top + row as f64 * CELL_HEIGHT;
            let name = font::shorten(module, 12.0, Weight::Regular, 190.0);
            let label = Label::new(name, (frame.left - 10.0, y + CELL_HEIGHT / 2.0 + 4.0)).anchored(Anchor::End);
            scene.text(label, Ink::Text).hinted(*module);
            for (column, depth) in self.depths.iter().enumerate() {
                let cell = self.cells.get(&(row, *depth));
                let value = cell.and_then(|cell| cell.value);
                let share = value.and_then(|value| scale.share(value));
                let ink = share.map_or(Ink::Missing, Ink::sequential);
                let hint = match (cell, value) {
                    (None, _) => format!("{module}, depth {depth}: no such layer"),
                    (Some(_), None) => format!("{module}, depth {depth}: no variance"),
                    (Some(cell), Some(value)) => {
                        let parameters = number::compact(cell.parameters);
                        format!("{module}, depth {depth}: {} ({parameters} parameters)", number::short(value))
                    }
                };
                let x = frame.left + column as f64 * width;
                let rect = Shape::Rect { x: x + 1.0, y: y + 1.0, width: width - 2.0, height: CELL_HEIGHT - 2.0 };
                scene.draw(rect, ink).hinted(hint);
            }
        }
        let every = (24.0 / width).ceil().max(1.0) as usize;
        for (column, depth) in self.depths.iter().enumerate().step_by(every) {
            let at = (frame.left + (column as f64 + 0.5) * width, frame.bottom + 16.0);
            scene.text(Label::new(depth.to_string(), at).anchored(Anchor::Middle), Ink::Muted);
        }
        let middle = (frame.left + frame.width() / 2.0, frame.bottom + 34.0);
        scene.text(Label::new("depth (block)", middle).anchored(Anchor::Middle), Ink::Muted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(module: &str, depth: Option<u32>, parameters: u64, variance: Option<f64>) -> LayerRow {
        LayerRow { module: module.to_owned(), depth, parameters, total_variance: variance, ..LayerRow::default() }
    }

    fn hints(scene: &Scene) -> Vec<&str> {
        let rects = scene.marks.iter().filter(|mark| matches!(mark.shape, Shape::Rect { .. }));
        rects.filter_map(|mark| mark.hint.as_deref()).collect()
    }

    #[test]
    fn layers_of_one_cell_are_summed_and_absent_ones_named() {
        let layers = [
            row("mlp", Some(0), 10, Some(2.0)),
            row("mlp", Some(0), 30, Some(2.0)),
            row("ln", Some(1), 4, None),
            row("mlp", Some(1), 10, Some(40.0)),
            row("proj", None, 10, Some(1.0)),
        ];
        let scene = variance_by_depth(&layers, Measure::PerParameter).unwrap();
        let expected = [
            "mlp, depth 0: 0.1 (40 parameters)",
            "mlp, depth 1: 4 (10 parameters)",
            "ln, depth 0: no such layer",
            "ln, depth 1: no variance",
        ];
        assert_eq!(hints(&scene), expected);
        assert!(scene.description.ends_with("The largest is mlp at depth 1, 4."), "{}", scene.description);
        let total = variance_by_depth(&layers, Measure::Total).unwrap();
        assert_eq!(hints(&total)[0], "mlp, depth 0: 4 (40 parameters)");
    }

    #[test]
    fn nothing_to_show_is_no_plot() {
        assert!(variance_by_depth(&[], Measure::Total).is_none());
        assert!(variance_by_depth(&[row("mlp", None, 1, Some(1.0))], Measure::Total).is_none());
        assert!(variance_by_depth(&[row("mlp", Some(0), 1, Some(0.0))], Measure::Total).is_none());
    }
}
