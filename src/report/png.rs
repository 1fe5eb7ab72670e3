//! A scene as PNG.
//!
//! Owns rasterising: the marks through tiny-skia, text as outlines of the embedded typeface, so that a machine without
//! fonts draws the same picture. Refuses sizes that do not fit into memory. No I/O.

use tiny_skia::{FillRule, LineCap, LineJoin, Paint, Path, PathBuilder, Pixmap, Rect, Stroke, StrokeDash, Transform};
use ttf_parser::OutlineBuilder;

use super::ReportError;
use super::font;
use super::palette::{Ink, Theme};
use super::scene::{Anchor, Label, Mark, Marker, Point, Scene, Shape};

/// The most pixels of a side.
const MAX_SIDE: f64 = 16_384.0;

/// The scene as a PNG file, `scale` pixels for each of its units (2 looks sharp on most screens).
///
/// # Errors
/// [`ReportError::PictureSize`] when a side is empty or longer than 16,384 pixels.
pub fn file(scene: &Scene, theme: Theme, scale: f32) -> Result<Vec<u8>, ReportError> {
    let [width, height] = [scene.width, scene.height].map(|side| (side * f64::from(scale)).round());
    let refused = || ReportError::PictureSize { width, height };
    if !(1.0..=MAX_SIDE).contains(&width) || !(1.0..=MAX_SIDE).contains(&height) {
        return Err(refused());
    }
    let pixels = Pixmap::new(width as u32, height as u32).ok_or_else(refused)?;
    let mut canvas = Canvas { pixels, theme, transform: Transform::from_scale(scale, scale) };
    let [red, green, blue] = Ink::Surface.rgb(theme);
    canvas.pixels.fill(tiny_skia::Color::from_rgba8(red, green, blue, 255));
    for mark in &scene.marks {
        canvas.draw(mark);
    }
    canvas.pixels.encode_png().map_err(|_| refused())
}

struct Canvas {
    pixels: Pixmap,
    theme: Theme,
    transform: Transform,
}

impl Canvas {
    fn draw(&mut self, mark: &Mark) {
        let paint = self.paint(mark.ink, mark.opacity);
        match &mark.shape {
            Shape::Line { points, width, dashed } => {
                let stroke = Stroke {
                    width: *width as f32,
                    line_cap: LineCap::Butt,
                    line_join: LineJoin::Round,
                    dash: if *dashed { StrokeDash::new(vec![4.0, 3.0], 0.0) } else { None },
                    ..Stroke::default()
                };
                if let Some(path) = polygon(points.iter().copied(), false) {
                    self.pixels.stroke_path(&path, &paint, &stroke, self.transform, None);
                }
            }
            Shape::Area { points } => self.fill(polygon(points.iter().copied(), true), &paint),
            Shape::Rect { x, y, width, height } => {
                let [x, y, width, height] = [x, y, width, height].map(|length| *length as f32);
                if let Some(rect) = Rect::from_xywh(x, y, width, height) {
                    self.pixels.fill_rect(rect, &paint, self.transform, None);
                }
            }
            Shape::Dot { at, radius, marker: Marker::Circle } => {
                self.fill(PathBuilder::from_circle(at.0 as f32, at.1 as f32, *radius as f32), &paint);
            }
            Shape::Dot { at, radius, marker } => {
                let corners = marker.corners().iter().map(|(x, y)| (at.0 + x * radius, at.1 + y * radius));
                self.fill(polygon(corners, true), &paint);
            }
            Shape::Text(label) => self.text(label, &paint),
        }
    }

    fn text(&mut self, label: &Label, paint: &Paint<'_>) {
        let mut pen = Pen(PathBuilder::new());
        font::outline(&label.content, label.size, label.weight, &mut pen);
        let Some(path) = pen.0.finish() else { return };
        let shift = match label.anchor {
            Anchor::Start => 0.0,
            Anchor::Middle => -label.width() / 2.0,
            Anchor::End => -label.width(),
        };
        let turned = if label.upwards { Transform::from_rotate(-90.0) } else { Transform::identity() };
        let placed = Transform::from_translate(shift as f32, 0.0)
            .post_concat(turned)
            .post_translate(label.at.0 as f32, label.at.1 as f32)
            .post_concat(self.transform);
        if label.halo {
            let stroke = Stroke { width: 3.0, line_join: LineJoin::Round, ..Stroke::default() };
            let surface = self.paint(Ink::Surface, 1.0);
            self.pixels.stroke_path(&path, &surface, &stroke, placed, None);
        }
        self.pixels.fill_path(&path, paint, FillRule::Winding, placed, None);
    }

    fn fill(&mut self, path: Option<Path>, paint: &Paint<'_>) {
        if let Some(path) = path {
            self.pixels.fill_path(&path, paint, FillRule::Winding, self.transform, None);
        }
    }

    fn paint(&self, ink: Ink, opacity: f64) -> Paint<'static> {
        let [red, green, blue] = ink.rgb(self.theme);
        let mut paint = Paint::default();
        paint.set_color_rgba8(red, green, blue, (opacity.clamp(0.0, 1.0) * 255.0).round() as u8);
        paint.anti_alias = true;
        paint
    }
}

/// `None` where nothing can be drawn: too few points, or one that is not finite.
fn polygon(points: impl Iterator<Item = Point>, closed: bool) -> Option<Path> {
    let mut builder = PathBuilder::new();
    for (position, (x, y)) in points.enumerate() {
        let (x, y) = (x as f32, y as f32);
        if position == 0 { builder.move_to(x, y) } else { builder.line_to(x, y) }
    }
    if closed {
        builder.close();
    }
    builder.finish()
}

struct Pen(PathBuilder);

impl OutlineBuilder for Pen {
    fn move_to(&mut self, x: f32, y: f32) {
        self.0.move_to(x, y);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        self.0.line_to(x, y);
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        self.0.quad_to(x1, y1, x, y);
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        self.0.cubic_to(x1, y1, x2, y2, x, y);
    }

    fn close(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixels(scene: &Scene) -> Pixmap {
        Pixmap::decode_png(&file(scene, Theme::Light, 2.0).unwrap()).unwrap()
    }

    fn rgb(pixels: &Pixmap, x: u32, y: u32) -> [u8; 3] {
        let colour = pixels.pixel(x, y).unwrap();
        [colour.red(), colour.green(), colour.blue()]
    }

    #[test]
    fn marks_land_where_the_scene_says() {
        let mut scene = Scene::new(40.0, 20.0, "marks");
        scene.draw(Shape::Rect { x: 0.0, y: 0.0, width: 10.0, height: 10.0 }, Ink::Series(0));
        scene.dot((30.0, 10.0), 4.0, Marker::Circle, Ink::Series(1));
        scene.line((0.0, f64::NAN), (10.0, 10.0), Ink::Text);
        let pixels = pixels(&scene);
        assert_eq!((pixels.width(), pixels.height()), (80, 40));
        assert_eq!(rgb(&pixels, 10, 10), Ink::Series(0).rgb(Theme::Light));
        assert_eq!(rgb(&pixels, 60, 20), Ink::Series(1).rgb(Theme::Light));
        assert_eq!(rgb(&pixels, 40, 38), Ink::Surface.rgb(Theme::Light));
    }

    /// The rows or columns between which something dark was drawn.
    fn extent(pixels: &Pixmap, across: bool) -> (u32, u32) {
        let dark = (0..pixels.height()).flat_map(|y| (0..pixels.width()).map(move |x| (x, y)));
        let dark = dark.filter(|(x, y)| rgb(pixels, *x, *y)[0] < 128).map(|(x, y)| if across { x } else { y });
        let places: Vec<_> = dark.collect();
        (*places.iter().min().unwrap(), *places.iter().max().unwrap())
    }

    #[test]
    fn text_is_drawn_where_it_was_measured_without_any_font_of_the_machine() {
        let label = Label::new("Hxxxxxxxxl", (80.0, 90.0));
        let width = label.width() * 2.0;
        for (anchor, left) in
            [(Anchor::Start, 160.0), (Anchor::Middle, 160.0 - width / 2.0), (Anchor::End, 160.0 - width)]
        {
            let mut scene = Scene::new(160.0, 100.0, "text");
            scene.text(label.clone().anchored(anchor), Ink::Text);
            let (first, last) = extent(&pixels(&scene), true);
            assert!((f64::from(first) - left).abs() < 5.0, "{anchor:?} starts at {first}, expected {left}");
            assert!((f64::from(last) - left - width).abs() < 5.0, "{anchor:?} ends at {last}");
        }
        let mut scene = Scene::new(100.0, 120.0, "text");
        scene.text(label.upwards().with_halo(), Ink::Text);
        let (first, last) = extent(&pixels(&scene), false);
        assert!(last <= 181 && f64::from(last - first) > width - 8.0, "reads upwards from {last} to {first}");
    }

    #[test]
    fn impossible_sizes_are_refused() {
        for (width, height) in [(0.0, 10.0), (f64::NAN, 10.0), (1e9, 10.0), (10.0, -1.0)] {
            let refused = file(&Scene::new(width, height, ""), Theme::Light, 1.0);
            assert!(matches!(refused, Err(ReportError::PictureSize { .. })), "{width} × {height}");
        }
    }
}
