//! Curves over components: scree, cumulative ratio, principal angles.
//!
//! Owns how many curves share one frame: the one that matters is strong, the layers behind it are thin. Pure.

use super::super::axis::{self, Axis, Frame, Scale};
use super::super::number;
use super::super::palette::{Ink, SERIES};
use super::super::rows::{self, NullBand, PairAngles, Spectrum};
use super::super::scene::{Marker, Point, Scene, Shape};
use super::{COMMON_WIDTH, Entry, Key, draw_legend};

/// What [`scree`] and [`cumulative`] show together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spectra<'a> {
    /// Ratios of the whole model, the strong curve; empty for none.
    pub whole: &'a [f64],
    /// Ratios of the layers, thin curves.
    pub layers: &'a [Spectrum],
    /// The range of the whole model's ratios under random directions.
    pub null: Option<&'a NullBand>,
}

const HEIGHT: f64 = 270.0;

/// Explained variance ratio by component; `None` without a curve.
pub fn scree(spectra: &Spectra<'_>) -> Option<Scene> {
    draw_spectra(spectra, "Explained variance by component", <[f64]>::to_vec, false)
}

/// Cumulative explained variance ratio by component; `None` without a curve.
pub fn cumulative(spectra: &Spectra<'_>) -> Option<Scene> {
    draw_spectra(spectra, "Cumulative explained variance", rows::cumulative, true)
}

fn draw_spectra(spectra: &Spectra<'_>, title: &str, curve: fn(&[f64]) -> Vec<f64>, sums: bool) -> Option<Scene> {
    let whole = curve(spectra.whole);
    let layers: Vec<(&str, Vec<f64>)> =
        spectra.layers.iter().map(|layer| (layer.layer.as_str(), curve(&layer.ratios))).collect();
    let band = spectra.null.map(|null| (curve(&null.low), curve(&null.high)));
    let components =
        layers.iter().map(|(_, ratios)| ratios.len()).chain([whole.len()]).max().filter(|most| *most > 0)?;
    let mut scene = Scene::new(COMMON_WIDTH, 0.0, title);
    scene.description = description(title, spectra, &whole);
    axis::draw_heading(&mut scene, "share of the layer's total variance");
    let legend = draw_legend(&mut scene, 66.0, &legend(spectra, sums));
    let frame = super::common_frame(legend, HEIGHT);
    scene.height = frame.bottom + 50.0;
    let highest = layers.iter().flat_map(|(_, ratios)| ratios).chain(&whole).copied().fold(0.0, f64::max);
    let y = if sums { Scale::Linear(0.0, 1.0) } else { Scale::linear(0.0, highest.clamp(1e-6, 1.0), 5) };
    let x = component_scale(components);
    frame.draw_y(&mut scene, &Axis::percent(y, "explained variance ratio"), &y.ticks(5));
    frame.draw_x(&mut scene, &Axis::new(x, "component"), &component_ticks(components));
    let place = |values: &[f64]| places(frame, x, y, values);
    if let Some((low, high)) = &band {
        let points: Vec<Point> = place(high).into_iter().chain(place(low).into_iter().rev()).collect();
        scene.draw(Shape::Area { points }, Ink::Axis).faded(BAND_FADE);
        // Of many parameters the band is as thin as a hair; its edges show where it is.
        for edge in [low, high] {
            scene.draw(Shape::Line { points: place(edge), width: 1.0, dashed: false }, Ink::Axis);
        }
    }
    if sums && let Some(y) = frame.y(y, 0.9) {
        let points = vec![(frame.left, y), (frame.right, y)];
        scene.draw(Shape::Line { points, width: 1.2, dashed: true }, Ink::Muted);
    }
    // Many layers make a cloud instead of a wall.
    let opacity = (12.0 / layers.len().max(1) as f64).sqrt().clamp(0.22, 0.9);
    for (name, ratios) in &layers {
        let line = Shape::Line { points: place(ratios), width: 1.0, dashed: false };
        scene.draw(line, Ink::Muted).faded(opacity).hinted(*name);
    }
    draw_curve(&mut scene, &place(&whole), (Ink::Series(0), Marker::Circle), |component| {
        let value = whole.get(component).copied().unwrap_or(f64::NAN);
        format!("whole model, component {}: {}", component + 1, number::percent(value))
    });
    Some(scene)
}

const BAND_FADE: f64 = super::BAND_OPACITY;

fn legend(spectra: &Spectra<'_>, sums: bool) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut add = |name: String, ink, key| entries.push(Entry { name, ink, key });
    if !spectra.whole.is_empty() {
        add("whole model".to_owned(), Ink::Series(0), Key::Line(2.5));
    }
    match spectra.layers.len() {
        0 => {}
        1 => add("its layer".to_owned(), Ink::Muted, Key::Line(1.0)),
        count => add(format!("{count} layers"), Ink::Muted, Key::Line(1.0)),
    }
    if spectra.null.is_some() {
        add("random directions".to_owned(), Ink::Axis, Key::Band);
    }
    if sums {
        add("90 %".to_owned(), Ink::Muted, Key::Dashes);
    }
    entries
}

fn description(title: &str, spectra: &Spectra<'_>, whole: &[f64]) -> String {
    let mut text = format!("{title}: curves of {} layers", spectra.layers.len());
    if let Some(first) = whole.first() {
        text.push_str(&format!(" and of the whole model, which starts at {}", number::percent(*first)));
    }
    if let Some(last) = whole.last().filter(|_| whole.len() > 1) {
        text.push_str(&format!(" and ends at {} with component {}", number::percent(*last), whole.len()));
    }
    text.push('.');
    text
}

/// Principal angles, one curve for each pair of datasets; `None` without an angle.
pub fn principal_angles(pairs: &[PairAngles]) -> Option<Scene> {
    let most = pairs.iter().map(|pair| pair.degrees.len()).max().filter(|most| *most > 0)?;
    let mut scene = Scene::new(COMMON_WIDTH, 0.0, "Principal angles between datasets");
    let names: Vec<String> = pairs.iter().map(|pair| format!("{} – {}", pair.first, pair.second)).collect();
    scene.description = format!("Principal angles in degrees between the seed subspaces of {}.", names.join(", "));
    axis::draw_heading(&mut scene, "between seed subspaces; 0° is a shared direction, 90° is orthogonal");
    // Beyond the distinct colours and forms curves are told apart by their hints.
    let entries = names.iter().take(2 * SERIES).enumerate().map(|(pair, name)| Entry {
        name: name.clone(),
        ink: Ink::Series(pair),
        key: Key::Dot(Marker::of(pair)),
    });
    let legend = draw_legend(&mut scene, 66.0, &entries.collect::<Vec<_>>());
    let frame = super::common_frame(legend, HEIGHT);
    scene.height = frame.bottom + 50.0;
    let (x, y) = (component_scale(most), Scale::Linear(0.0, 90.0));
    frame.draw_y(&mut scene, &Axis::new(y, "degrees"), &[0.0, 15.0, 30.0, 45.0, 60.0, 75.0, 90.0]);
    frame.draw_x(&mut scene, &Axis::new(x, "principal angle"), &component_ticks(most));
    for (position, (pair, name)) in pairs.iter().zip(&names).enumerate() {
        let style = (Ink::Series(position), Marker::of(position));
        draw_curve(&mut scene, &places(frame, x, y, &pair.degrees), style, |angle| {
            let degrees = pair.degrees.get(angle).copied().unwrap_or(f64::NAN);
            format!("{name}, angle {}: {degrees:.1}°", angle + 1)
        });
    }
    Some(scene)
}

/// A strong line with dots that carry hints.
fn draw_curve(scene: &mut Scene, points: &[Point], (ink, marker): (Ink, Marker), hint: impl Fn(usize) -> String) {
    if points.len() > 1 {
        scene.draw(Shape::Line { points: points.to_vec(), width: 2.5, dashed: false }, ink);
    }
    for (position, point) in points.iter().enumerate() {
        scene.dot(*point, if points.len() > 40 { 2.0 } else { 4.0 }, marker, ink).hinted(hint(position));
    }
}

/// The places of values over 1, 2, 3, …; a value without a place ends nothing, it is left out.
fn places(frame: Frame, x: Scale, y: Scale, values: &[f64]) -> Vec<Point> {
    let numbered = values.iter().enumerate();
    numbered.filter_map(|(position, value)| frame.point(x, y, ((position + 1) as f64, *value))).collect()
}

/// From the first to the last component, with half a step of air.
fn component_scale(components: usize) -> Scale {
    Scale::Linear(0.5, components as f64 + 0.5)
}

fn component_ticks(components: usize) -> Vec<f64> {
    if components <= 15 {
        return (1..=components).map(|component| component as f64).collect();
    }
    let ticks = Scale::Linear(1.0, components as f64).ticks(8);
    std::iter::once(1.0).chain(ticks.into_iter().filter(|tick| *tick > 1.0 && tick.fract() == 0.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hints(scene: &Scene) -> Vec<&str> {
        scene.marks.iter().filter_map(|mark| mark.hint.as_deref()).collect()
    }

    #[test]
    fn curves_say_their_numbers() {
        let layers = [Spectrum { layer: "proj".to_owned(), ratios: vec![0.9, 0.1] }];
        let null = NullBand { low: vec![0.4, 0.3], high: vec![0.6, 0.5] };
        let spectra = Spectra { whole: &[0.7, 0.3], layers: &layers, null: Some(&null) };
        let expected = ["proj", "whole model, component 1: 70 %", "whole model, component 2: 30 %"];
        assert_eq!(hints(&scree(&spectra).unwrap()), expected);
        assert_eq!(hints(&cumulative(&spectra).unwrap())[2], "whole model, component 2: 100 %");
        let thin = NullBand { low: vec![0.5, 0.5], high: vec![0.5, 0.5] };
        let lines = |null| {
            let scene = scree(&Spectra { null, ..spectra }).unwrap();
            scene.marks.iter().filter(|mark| matches!(mark.shape, Shape::Line { .. })).count()
        };
        assert_eq!(lines(Some(&thin)), lines(None) + 2, "a band without height has edges");
        assert!(scree(&Spectra { whole: &[], layers: &[], null: None }).is_none());
    }

    #[test]
    fn angles_say_their_pair() {
        let pair = PairAngles { first: "MNIST".to_owned(), second: "SVHN".to_owned(), degrees: vec![12.0, 80.04] };
        let scene = principal_angles(std::slice::from_ref(&pair)).unwrap();
        assert_eq!(hints(&scene), ["MNIST – SVHN, angle 1: 12.0°", "MNIST – SVHN, angle 2: 80.0°"]);
        assert!(principal_angles(&[]).is_none());
        assert!(principal_angles(&[PairAngles { degrees: vec![], ..pair }]).is_none());
    }

    #[test]
    fn component_ticks_are_whole() {
        assert_eq!(component_ticks(3), [1.0, 2.0, 3.0]);
        assert_eq!(component_ticks(69)[..3], [1.0, 10.0, 20.0]);
    }
}
