//! The pictures of a report: rows in, scenes out.
//!
//! Owns what each plot shows and how it is laid out. A plot of nothing is `None`: there is no empty frame to misread. Pure.

mod by_depth;
mod by_layer;
mod curves;
mod matrix;
mod plane;

pub use by_depth::{Measure, variance_by_depth};
pub use by_layer::variance_by_layer;
pub use curves::{Spectra, cumulative, principal_angles, scree};
pub use matrix::{MatrixScale, matrix};
pub use plane::seeds_in_plane;

use super::axis::Frame;
use super::font::{self, Weight};
use super::palette::Ink;
use super::scene::{Label, Marker, Scene, Shape};

/// Width of a plot that is as wide as a phone is, times its scale there.
const COMMON_WIDTH: f64 = 480.0;

/// One entry of a legend.
struct Entry {
    name: String,
    ink: Ink,
    key: Key,
}

/// How an entry looks.
enum Key {
    Line(f64),
    Dashes,
    Band,
    Dot(Marker),
}

/// Draws entries in a row from the left margin, in as many rows as they need; returns the height they take.
fn draw_legend(scene: &mut Scene, top: f64, entries: &[Entry]) -> f64 {
    let (mut x, mut y) = (16.0, top);
    for entry in entries {
        let name = font::shorten(&entry.name, 12.0, Weight::Regular, scene.width - 70.0);
        let width = 28.0 + font::width(&name, 12.0, Weight::Regular);
        if x > 16.0 && x + width > scene.width - 16.0 {
            (x, y) = (16.0, y + 19.0);
        }
        match entry.key {
            Key::Line(width) => {
                let points = vec![(x, y - 4.0), (x + 20.0, y - 4.0)];
                scene.draw(Shape::Line { points, width, dashed: false }, entry.ink);
            }
            Key::Dashes => {
                let points = vec![(x, y - 4.0), (x + 20.0, y - 4.0)];
                scene.draw(Shape::Line { points, width: 1.5, dashed: true }, entry.ink);
            }
            Key::Band => {
                scene.draw(Shape::Rect { x, y: y - 10.0, width: 20.0, height: 12.0 }, entry.ink).faded(BAND_OPACITY);
            }
            Key::Dot(marker) => {
                scene.dot((x + 14.0, y - 4.0), 4.5, marker, entry.ink);
            }
        }
        scene.text(Label::new(name, (x + 26.0, y)), Ink::Muted);
        x += width + 18.0;
    }
    y - top + 19.0
}

/// How strongly the null band shows.
const BAND_OPACITY: f64 = 0.55;

/// The frame below a heading and a legend of this height, with room for axes.
fn common_frame(legend: f64, height: f64) -> Frame {
    let top = 60.0 + legend + 22.0;
    Frame { left: 64.0, top, right: COMMON_WIDTH - 20.0, bottom: top + height }
}
