//! Scales, ticks and the frame of a plot.
//!
//! Owns where a value lies and which values are worth a tick. Refuses to place what is not finite, or not positive on a
//! logarithmic scale. Pure.

use super::number;
use super::palette::Ink;
use super::scene::{Anchor, Label, Point, Scene, Shape};

/// How values become places.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Scale {
    /// Evenly between two values, the first below the second.
    Linear(f64, f64),
    /// By magnitude between two positive values, the first below the second.
    Log(f64, f64),
}

impl Scale {
    /// Linear, from `low` to `high`, both moved outwards to ticks.
    pub(crate) fn linear(low: f64, high: f64, ticks: usize) -> Self {
        let (low, high) = widened(low, high);
        let step = nice_step((high - low) / ticks.max(1) as f64);
        Self::Linear((low / step + 1e-9).floor() * step, (high / step - 1e-9).ceil() * step)
    }

    /// Logarithmic around the positive of these values with some air; from 0.1 to 1 when there are none.
    pub(crate) fn log(values: impl Iterator<Item = f64>) -> Self {
        let positive = values.filter(|value| value.is_finite() && *value > 0.0);
        let (low, high) =
            positive.fold((f64::INFINITY, 0.0f64), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            return Self::Log(0.1, 1.0);
        }
        let (low, high) = if high / low < 1.5 { (low / 2.0, high * 2.0) } else { (low, high) };
        let air = (high / low).powf(0.04);
        Self::Log((low / air).max(f64::MIN_POSITIVE), (high * air).min(f64::MAX))
    }

    /// Where a value lies: 0 at the low end, 1 at the high end, beyond them outside; `None` for what has no place.
    pub(crate) fn share(self, value: f64) -> Option<f64> {
        let share = match self {
            Self::Linear(low, high) => (value - low) / (high - low),
            Self::Log(low, high) => (value.ln() - low.ln()) / (high.ln() - low.ln()),
        };
        share.is_finite().then_some(share)
    }

    /// About this many values worth a tick, in rising order, all inside.
    pub(crate) fn ticks(self, about: usize) -> Vec<f64> {
        match self {
            Self::Linear(low, high) => {
                let step = nice_step((high - low) / about.max(1) as f64);
                let first = (low / step - 1e-9).ceil();
                let count = ((high / step + 1e-9).floor() - first).clamp(0.0, 100.0) as usize;
                (0..=count).map(|tick| (first + tick as f64) * step + 0.0).collect()
            }
            Self::Log(low, high) => {
                let ticks = log_ticks(low, high, about.max(1));
                // Within a fraction of a decade there may be no round power: then a linear axis has better ticks.
                if ticks.len() < 2 { Self::Linear(low, high).ticks(about) } else { ticks }
            }
        }
    }

    /// A tick's value in words.
    pub(crate) fn label(self, value: f64) -> String {
        match self {
            Self::Linear(..) => number::short(value),
            Self::Log(..) => number::power(value),
        }
    }
}

/// Powers of ten, every n-th where there are many; 1, 2 and 5 of each where there are few.
fn log_ticks(low: f64, high: f64, about: usize) -> Vec<f64> {
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let decades = (high / low).log10();
    let every = ((decades / about as f64).ceil() as i32).max(1);
    let multiples: &[f64] = if decades < 2.2 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    (first..=last)
        .filter(|exponent| exponent.rem_euclid(every) == 0)
        .flat_map(|exponent| multiples.iter().map(move |multiple| multiple * 10f64.powi(exponent)))
        .filter(|value| *value >= low * (1.0 - 1e-9) && *value <= high * (1.0 + 1e-9))
        .collect()
}

/// 1, 2 or 5 times a power of ten, not below `step`.
fn nice_step(step: f64) -> f64 {
    if !step.is_finite() || step <= 0.0 {
        return 1.0;
    }
    let unit = 10f64.powf(step.log10().floor());
    let multiple = [1.0, 2.0, 5.0].into_iter().find(|multiple| step <= multiple * unit * (1.0 + 1e-9));
    multiple.unwrap_or(10.0) * unit
}

fn widened(low: f64, high: f64) -> (f64, f64) {
    match (low.is_finite(), high.is_finite()) {
        (true, true) if low < high => (low, high),
        (true, true) if low == high && low != 0.0 => (low - low.abs() / 2.0, low + low.abs() / 2.0),
        _ => (0.0, 1.0),
    }
}

/// The rectangle that values are drawn in, in scene units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Frame {
    pub(crate) left: f64,
    pub(crate) top: f64,
    pub(crate) right: f64,
    pub(crate) bottom: f64,
}

/// A scale with its name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Axis {
    /// Where values lie.
    pub(crate) scale: Scale,
    /// What the values are.
    pub(crate) name: String,
    /// Ticks are shares, shown as percent.
    pub(crate) percent: bool,
}

impl Axis {
    /// An axis of plain values.
    pub(crate) fn new(scale: Scale, name: impl Into<String>) -> Self {
        Self { scale, name: name.into(), percent: false }
    }

    /// An axis of shares.
    pub(crate) fn percent(scale: Scale, name: impl Into<String>) -> Self {
        Self { scale, name: name.into(), percent: true }
    }

    fn label(&self, value: f64) -> String {
        if self.percent { number::percent(value) } else { self.scale.label(value) }
    }
}

impl Frame {
    /// Width.
    pub(crate) fn width(self) -> f64 {
        self.right - self.left
    }

    /// Height.
    pub(crate) fn height(self) -> f64 {
        self.bottom - self.top
    }

    /// Where a value of a horizontal axis lies.
    pub(crate) fn x(self, scale: Scale, value: f64) -> Option<f64> {
        Some(self.left + scale.share(value)? * self.width())
    }

    /// Where a value of a vertical axis lies.
    pub(crate) fn y(self, scale: Scale, value: f64) -> Option<f64> {
        Some(self.bottom - scale.share(value)? * self.height())
    }

    /// Where a pair of values lies.
    pub(crate) fn point(self, x: Scale, y: Scale, at: Point) -> Option<Point> {
        Some((self.x(x, at.0)?, self.y(y, at.1)?))
    }

    /// Draws a horizontal axis below the frame: grid lines, tick labels and the name. Labels that would touch are left out.
    pub(crate) fn draw_x(self, scene: &mut Scene, axis: &Axis, ticks: &[f64]) {
        let mut free_from = f64::NEG_INFINITY;
        for tick in ticks {
            let Some(x) = self.x(axis.scale, *tick) else { continue };
            scene.line((x, self.top), (x, self.bottom), Ink::Grid);
            let label = Label::new(axis.label(*tick), (x, self.bottom + 17.0)).anchored(Anchor::Middle);
            let half = label.width() / 2.0;
            if x - half >= free_from {
                free_from = x + half + 6.0;
                scene.text(label, Ink::Muted);
            }
        }
        scene.line((self.left, self.bottom), (self.right, self.bottom), Ink::Axis);
        let middle = (self.left + self.width() / 2.0, self.bottom + 36.0);
        scene.text(Label::new(axis.name.as_str(), middle).anchored(Anchor::Middle), Ink::Muted);
    }

    /// Draws a vertical axis left of the frame; its name lies over the frame, where it reads without turning the head.
    pub(crate) fn draw_y(self, scene: &mut Scene, axis: &Axis, ticks: &[f64]) {
        for tick in ticks {
            let Some(y) = self.y(axis.scale, *tick) else { continue };
            scene.line((self.left, y), (self.right, y), Ink::Grid);
            let label = Label::new(axis.label(*tick), (self.left - 8.0, y + 4.0)).anchored(Anchor::End);
            scene.text(label, Ink::Muted);
        }
        scene.text(Label::new(axis.name.as_str(), (self.left, self.top - 10.0)), Ink::Muted);
    }
}

/// Draws title and subtitle at the top; the drawing begins 58 below the edge.
pub(crate) fn draw_heading(scene: &mut Scene, subtitle: &str) {
    let room = scene.width - 32.0;
    let title = Label::new("", (16.0, 24.0)).sized(15.0).bold();
    let content = super::font::shorten(&scene.title, title.size, title.weight, room);
    scene.text(Label { content, ..title }, Ink::Text);
    let content = super::font::shorten(subtitle, 12.0, super::font::Weight::Regular, room);
    scene.text(Label::new(content, (16.0, 42.0)), Ink::Muted);
}

/// A colour scale as a bar with labelled ends and ticks, from `left` to `right` at `top`; 30 high.
pub(crate) fn draw_colour_bar(scene: &mut Scene, frame: Frame, axis: &Axis, ink: impl Fn(f64) -> Ink) {
    const SEGMENTS: usize = 33;
    let width = frame.width() / SEGMENTS as f64;
    for segment in 0..SEGMENTS {
        let share = segment as f64 / (SEGMENTS - 1) as f64;
        let x = frame.left + segment as f64 * width;
        // Segments overlap by half a pixel, so that no seam shows between them.
        let rect = Shape::Rect { x, y: frame.top, width: width + 0.5, height: frame.height() };
        scene.draw(rect, ink(share));
    }
    let mut free_from = f64::NEG_INFINITY;
    for tick in axis.scale.ticks(4) {
        let Some(x) = frame.x(axis.scale, tick) else { continue };
        let label = Label::new(axis.label(tick), (x, frame.bottom + 14.0)).anchored(Anchor::Middle).sized(11.0);
        let half = label.width() / 2.0;
        if x - half >= free_from {
            free_from = x + half + 6.0;
            scene.line((x, frame.bottom), (x, frame.bottom + 3.0), Ink::Axis);
            scene.text(label, Ink::Muted);
        }
    }
    scene.text(Label::new(axis.name.as_str(), (frame.left, frame.top - 6.0)).sized(11.0), Ink::Muted);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ticks_are_round() {
        assert_eq!(Scale::linear(0.0, 0.93, 5), Scale::Linear(0.0, 1.0));
        assert_eq!(Scale::linear(0.0, 0.93, 5).ticks(5), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(Scale::linear(-3.0, 7.0, 4).ticks(4), [-5.0, 0.0, 5.0, 10.0]);
        assert_eq!(Scale::Log(1e-9, 1e-3).ticks(8).len(), 7);
        assert_eq!(Scale::Log(0.9, 60.0).ticks(6), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0]);
        assert_eq!(Scale::log([0.0, -1.0, f64::NAN].into_iter()), Scale::Log(0.1, 1.0));
    }

    #[test]
    fn places_are_inside_the_frame_or_nowhere() {
        let frame = Frame { left: 10.0, top: 0.0, right: 110.0, bottom: 100.0 };
        assert_eq!(frame.point(Scale::Linear(0.0, 1.0), Scale::Log(1.0, 100.0), (0.5, 10.0)), Some((60.0, 50.0)));
        assert_eq!(frame.y(Scale::Log(1.0, 100.0), 0.0), None);
        assert_eq!(frame.x(Scale::Linear(0.0, 1.0), f64::NAN), None);
    }

    proptest! {
        #[test]
        fn every_range_has_ticks_inside(low in -1e12f64..1e12, span in 1e-9f64..1e12, about in 1usize..12) {
            let scale = Scale::linear(low, low + span * (1.0 + low.abs()), about);
            let ticks = scale.ticks(about);
            prop_assert!((2..=2 * about + 2).contains(&ticks.len()), "{:?} {:?}", scale, ticks);
            for tick in &ticks {
                let share = scale.share(*tick).unwrap();
                prop_assert!((-1e-6..=1.0 + 1e-6).contains(&share));
            }
        }

        #[test]
        fn every_magnitude_has_ticks(low in -300f64..280.0, decades in 0f64..20.0) {
            let scale = Scale::log([10f64.powf(low), 10f64.powf(low + decades)].into_iter());
            let ticks = scale.ticks(6);
            prop_assert!(!ticks.is_empty() && ticks.len() <= 9, "{:?} {:?}", scale, ticks);
            prop_assert!(ticks.iter().all(|tick| (0.0..=1.0).contains(&(scale.share(*tick).unwrap() + 1e-12).min(1.0))));
        }
    }
}
