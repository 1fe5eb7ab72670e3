//! Seeds in the plane of the first two components.
//!
//! Owns the choice of ranges (one unit is as long on both axes, so distances are true) and the placing of labels where they
//! touch nothing. Pure.

use super::super::axis::{self, Axis, Frame, Scale};
use super::super::number;
use super::super::palette::Ink;
use super::super::rows::{Score, Scores};
use super::super::scene::{Anchor, Label, Marker, Point, Scene};
use super::{COMMON_WIDTH, Entry, Key, draw_legend};

const HEIGHT: f64 = 340.0;
const RADIUS: f64 = 5.0;

/// The scatter plot; `None` without a seed.
pub fn seeds_in_plane(scores: &Scores) -> Option<Scene> {
    let points: Vec<&Score> =
        scores.points.iter().filter(|score| score.first.is_finite() && score.second.is_finite()).collect();
    if points.is_empty() {
        return None;
    }
    let mut groups: Vec<&str> = Vec::new();
    for score in &points {
        if !groups.contains(&score.group.as_str()) {
            groups.push(&score.group);
        }
    }
    let mut scene = Scene::new(COMMON_WIDTH, 0.0, "Seeds in the plane of the first two components");
    let shares = scores.ratios.map(|ratio| ratio.map(number::percent));
    scene.description = format!("Scatter plot of {} seeds on components 1 and 2.", points.len());
    axis::draw_heading(&mut scene, "one unit is as long on both axes");
    let entries: Vec<Entry> = (groups.iter().enumerate())
        .filter(|_| groups.len() > 1)
        .map(|(group, name)| Entry {
            name: (*name).to_owned(),
            ink: Ink::Series(group),
            key: Key::Dot(Marker::of(group)),
        })
        .collect();
    let legend = if entries.is_empty() { 0.0 } else { draw_legend(&mut scene, 66.0, &entries) };
    let frame = super::common_frame(legend, HEIGHT);
    scene.height = frame.bottom + 50.0;
    let (x, y) = equal_scales(&points, frame);
    let name = |component: usize, share: &Option<String>| match share {
        Some(share) => format!("component {component} ({share})"),
        None => format!("component {component}"),
    };
    frame.draw_y(&mut scene, &Axis::new(y, name(2, &shares[1])), &y.ticks(6));
    frame.draw_x(&mut scene, &Axis::new(x, name(1, &shares[0])), &x.ticks(6));
    for axis in [
        frame.x(x, 0.0).map(|x| ((x, frame.top), (x, frame.bottom))),
        frame.y(y, 0.0).map(|y| ((frame.left, y), (frame.right, y))),
    ] {
        if let Some((from, to)) = axis.filter(|(from, to)| frame_holds(frame, *from) && frame_holds(frame, *to)) {
            scene.line(from, to, Ink::Axis);
        }
    }
    draw_points(&mut scene, &points, &groups, |score| frame.point(x, y, (score.first, score.second)));
    place_labels(&mut scene, frame, &points, |score| frame.point(x, y, (score.first, score.second)));
    Some(scene)
}

fn frame_holds(frame: Frame, (x, y): Point) -> bool {
    (frame.left..=frame.right).contains(&x) && (frame.top..=frame.bottom).contains(&y)
}

/// Scales over all points with some air, in which one unit takes as many pixels to the right as upwards.
fn equal_scales(points: &[&Score], frame: Frame) -> (Scale, Scale) {
    let range = |coordinate: fn(&Score) -> f64| {
        let values = points.iter().map(|score| coordinate(score));
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
    };
    let ((left, right), (bottom, top)) = (range(|score| score.first), range(|score| score.second));
    let unit = ((right - left) / frame.width()).max((top - bottom) / frame.height()) * 1.2;
    let unit = if unit > 0.0 && unit.is_finite() { unit } else { 1.0 / frame.height() };
    let around = |low: f64, high: f64, pixels: f64| {
        let (middle, half) = (low / 2.0 + high / 2.0, unit * pixels / 2.0);
        Scale::Linear(middle - half, middle + half)
    };
    (around(left, right, frame.width()), around(bottom, top, frame.height()))
}

fn draw_points(scene: &mut Scene, points: &[&Score], groups: &[&str], place: impl Fn(&Score) -> Option<Point>) {
    for score in points {
        let Some(at) = place(score) else { continue };
        let group = groups.iter().position(|group| *group == score.group).unwrap_or(0);
        let whose =
            if score.group.is_empty() { score.label.clone() } else { format!("{}, {}", score.group, score.label) };
        let hint = format!("{whose}: {}, {}", number::short(score.first), number::short(score.second));
        scene.dot(at, RADIUS, Marker::of(group), Ink::Series(group)).hinted(hint);
    }
}

/// A rectangle: left, top, right, bottom.
type Bounds = [f64; 4];

fn overlap(a: &Bounds, b: &Bounds) -> bool {
    a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3]
}

/// Labels each point at the first of eight places around it that is free; a point without one keeps only its hint.
fn place_labels(scene: &mut Scene, frame: Frame, points: &[&Score], place: impl Fn(&Score) -> Option<Point>) {
    let mut taken: Vec<Bounds> = (points.iter().filter_map(|score| place(score)))
        .map(|(x, y)| [x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS])
        .collect();
    for score in points {
        let Some((x, y)) = place(score) else { continue };
        let label = Label::new(score.label.as_str(), (x, y)).sized(11.0).with_halo();
        let width = label.width();
        let (aside, over, under) = (RADIUS + 4.0, RADIUS + 4.0, RADIUS + 12.0);
        let candidates = [
            (aside, 4.0, Anchor::Start),
            (-aside, 4.0, Anchor::End),
            (0.0, -over, Anchor::Middle),
            (0.0, under, Anchor::Middle),
            (aside - 2.0, -over + 2.0, Anchor::Start),
            (-aside + 2.0, -over + 2.0, Anchor::End),
            (aside - 2.0, under - 2.0, Anchor::Start),
            (-aside + 2.0, under - 2.0, Anchor::End),
        ];
        for (dx, dy, anchor) in candidates {
            let left = match anchor {
                Anchor::Start => x + dx,
                Anchor::Middle => x + dx - width / 2.0,
                Anchor::End => x + dx - width,
            };
            let bounds = [left, y + dy - 9.0, left + width, y + dy + 2.0];
            let inside = frame_holds(frame, (bounds[0], bounds[1])) && frame_holds(frame, (bounds[2], bounds[3]));
            if inside && !taken.iter().any(|other| overlap(other, &bounds)) {
                taken.push(bounds);
                scene.text(Label { at: (x + dx, y + dy), anchor, ..label }, Ink::Text);
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::scene::Shape;
    use super::*;

    fn scores(points: &[(f64, f64)]) -> Scores {
        let points = points.iter().enumerate().map(|(seed, (first, second))| Score {
            label: format!("seed {seed}"),
            group: String::new(),
            first: *first,
            second: *second,
        });
        Scores { points: points.collect(), ratios: [Some(0.5), None] }
    }

    #[test]
    fn nothing_to_show_is_no_plot() {
        assert!(seeds_in_plane(&Scores::default()).is_none());
        assert!(seeds_in_plane(&scores(&[(f64::NAN, 0.0)])).is_none());
        assert!(seeds_in_plane(&scores(&[(0.0, 0.0), (0.0, 0.0)])).is_some(), "seeds may coincide");
    }

    proptest! {
        #[test]
        fn labels_touch_nothing(points in proptest::collection::vec((-1.0..1.0f64, -1.0..1.0f64), 1..40), size in -12i32..12) {
            let unit = 10f64.powi(size);
            let points: Vec<_> = points.into_iter().map(|(x, y)| (x * unit, y * unit)).collect();
            let scene = seeds_in_plane(&scores(&points)).unwrap();
            let mut boxes: Vec<Bounds> = Vec::new();
            for mark in &scene.marks {
                match &mark.shape {
                    Shape::Text(label) if label.halo => {
                        let (width, (x, y)) = (label.width(), label.at);
                        let left = match label.anchor {
                            Anchor::Start => x,
                            Anchor::Middle => x - width / 2.0,
                            Anchor::End => x - width,
                        };
                        let bounds = [left + 0.01, y - 8.0, left + width - 0.01, y + 1.0];
                        prop_assert!(!boxes.iter().any(|other| overlap(other, &bounds)));
                        boxes.push(bounds);
                    }
                    Shape::Dot { at: (x, y), .. } => {
                        prop_assert!((0.0..=scene.width).contains(x) && (0.0..=scene.height).contains(y));
                    }
                    _ => {}
                }
            }
            if points.len() == 1 {
                prop_assert_eq!(boxes.len(), 1);
            }
        }
    }
}
