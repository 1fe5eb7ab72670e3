//! A drawing as data: marks with roles instead of colours.
//!
//! Owns the vocabulary between plots and what shows them ([`super::svg`], [`super::png`]). Coordinates are in CSS pixels,
//! x to the right, y downwards. Pure.

use super::font::{self, Weight};
use super::palette::Ink;

/// A place, x then y.
pub type Point = (f64, f64);

/// A finished drawing.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
    /// What it is called: the accessible name.
    pub title: String,
    /// What it shows in words, for those who cannot see it.
    pub description: String,
    /// What is drawn, in order, on a surface of [`Ink::Surface`].
    pub marks: Vec<Mark>,
}

/// One thing drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// Its form and place.
    pub shape: Shape,
    /// Its colour.
    pub ink: Ink,
    /// From 0, invisible, to 1.
    pub opacity: f64,
    /// Shown when pointed at.
    pub hint: Option<String>,
}

/// The forms.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// A line through points.
    Line {
        /// The points.
        points: Vec<Point>,
        /// Stroke width.
        width: f64,
        /// Dashed instead of solid.
        dashed: bool,
    },
    /// A filled polygon.
    Area {
        /// Its corners.
        points: Vec<Point>,
    },
    /// A filled rectangle.
    Rect {
        /// Left edge.
        x: f64,
        /// Upper edge.
        y: f64,
        /// Width.
        width: f64,
        /// Height.
        height: f64,
    },
    /// A filled dot.
    Dot {
        /// Its middle.
        at: Point,
        /// Half its width.
        radius: f64,
        /// Its form.
        marker: Marker,
    },
    /// A line of text.
    Text(Label),
}

/// Forms of dots, so that groups differ without colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is its own name")]
pub enum Marker {
    Circle,
    Square,
    Diamond,
    Triangle,
}

impl Marker {
    /// The form of a group, counted from 0.
    pub fn of(group: usize) -> Self {
        match group % 4 {
            0 => Self::Circle,
            1 => Self::Square,
            2 => Self::Diamond,
            _ => Self::Triangle,
        }
    }

    /// Its corners around the origin at radius 1, areas about equal; none for the circle.
    pub fn corners(self) -> &'static [Point] {
        match self {
            Self::Circle => &[],
            Self::Square => &[(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)],
            Self::Diamond => &[(0.0, -1.25), (1.25, 0.0), (0.0, 1.25), (-1.25, 0.0)],
            Self::Triangle => &[(0.0, -1.25), (1.18, 0.85), (-1.18, 0.85)],
        }
    }
}

/// Where the given x of a text lies in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is its own name")]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// A line of text.
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    /// The text.
    pub content: String,
    /// Baseline, at the anchor.
    pub at: Point,
    /// Font size.
    pub size: f64,
    /// How heavy it is.
    pub weight: Weight,
    /// Where `at` lies in it.
    pub anchor: Anchor,
    /// Reads upwards instead of to the right.
    pub upwards: bool,
    /// Surface-coloured rim that keeps it legible over marks.
    pub halo: bool,
}

impl Label {
    /// Regular text of the common size, starting at a place.
    pub fn new(content: impl Into<String>, at: Point) -> Self {
        let content = content.into();
        Self { content, at, size: 12.0, weight: Weight::Regular, anchor: Anchor::Start, upwards: false, halo: false }
    }

    /// With this anchor.
    pub fn anchored(mut self, anchor: Anchor) -> Self {
        self.anchor = anchor;
        self
    }

    /// In this size.
    pub fn sized(mut self, size: f64) -> Self {
        self.size = size;
        self
    }

    /// Heavier.
    pub fn bold(mut self) -> Self {
        self.weight = Weight::SemiBold;
        self
    }

    /// Reading upwards.
    pub fn upwards(mut self) -> Self {
        self.upwards = true;
        self
    }

    /// With a rim.
    pub fn with_halo(mut self) -> Self {
        self.halo = true;
        self
    }

    /// Its width along the line of text.
    pub fn width(&self) -> f64 {
        font::width(&self.content, self.size, self.weight)
    }
}

impl Scene {
    /// An empty drawing.
    pub fn new(width: f64, height: f64, title: impl Into<String>) -> Self {
        Self { width, height, title: title.into(), description: String::new(), marks: Vec::new() }
    }

    /// Draws a shape and returns its mark, to be refined.
    pub fn draw(&mut self, shape: Shape, ink: Ink) -> &mut Mark {
        let at = self.marks.len();
        self.marks.push(Mark { shape, ink, opacity: 1.0, hint: None });
        &mut self.marks[at]
    }

    /// A straight line.
    pub fn line(&mut self, from: Point, to: Point, ink: Ink) -> &mut Mark {
        self.draw(Shape::Line { points: vec![from, to], width: 1.0, dashed: false }, ink)
    }

    /// A line of text.
    pub fn text(&mut self, label: Label, ink: Ink) -> &mut Mark {
        self.draw(Shape::Text(label), ink)
    }

    /// A dot with a rim of the surface, so that overlapping dots stay apart.
    pub fn dot(&mut self, at: Point, radius: f64, marker: Marker, ink: Ink) -> &mut Mark {
        self.draw(Shape::Dot { at, radius: radius + 1.2, marker }, Ink::Surface);
        self.draw(Shape::Dot { at, radius, marker }, ink)
    }
}

impl Mark {
    /// With this opacity.
    pub fn faded(&mut self, opacity: f64) -> &mut Self {
        self.opacity = opacity;
        self
    }

    /// With this hint.
    pub fn hinted(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hint = Some(hint.into());
        self
    }
}
