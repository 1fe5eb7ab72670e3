//! A scene as SVG.
//!
//! Owns the text form: a file that stands alone with the colours of one theme, or an element for a page whose CSS variables
//! decide. Accessible by title and description; no script, no external font. Pure.

use std::fmt::Write;

use super::font::Weight;
use super::markup::escape;
use super::palette::{Ink, Theme};
use super::scene::{Anchor, Label, Mark, Marker, Point, Scene, Shape};

/// Typefaces in order of preference; the first is the one that plots are laid out with.
pub const FONT_FAMILY: &str = "Inter, system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif";

/// How colours are named.
#[derive(Debug, Clone, Copy)]
enum Colours {
    Literal(Theme),
    Variables,
}

/// A file that stands alone, in the colours of a theme.
pub fn file(scene: &Scene, theme: Theme) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    element(&mut text, scene, "plot", Colours::Literal(theme));
    text.push('\n');
    text
}

/// An element for a page that declares the CSS variables of [`super::palette`]. `id` must be unique on the page and
/// consist of letters, digits and dashes.
pub fn inline(scene: &Scene, id: &str) -> String {
    let mut text = String::new();
    element(&mut text, scene, id, Colours::Variables);
    text
}

// Writing to a string cannot fail, so the results of `write!` are dropped throughout.

fn element(text: &mut String, scene: &Scene, id: &str, colours: Colours) {
    let (id, width, height) = (escape(id), Length(scene.width), Length(scene.height));
    let _ = write!(
        text,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         role=\"img\" aria-labelledby=\"{id}-title {id}-description\" font-family=\"{FONT_FAMILY}\" font-size=\"12\">\
         <title id=\"{id}-title\">{}</title><desc id=\"{id}-description\">{}</desc>",
        escape(&scene.title),
        escape(&scene.description),
    );
    if let Colours::Literal(_) = colours {
        let _ = write!(text, "<rect width=\"{width}\" height=\"{height}\"{}/>", fill(Ink::Surface, colours));
    }
    for mark in &scene.marks {
        push_mark(text, mark, colours);
    }
    text.push_str("</svg>");
}

fn push_mark(text: &mut String, mark: &Mark, colours: Colours) {
    let mut attributes = String::new();
    if mark.opacity < 1.0 {
        let _ = write!(attributes, " opacity=\"{}\"", Length(mark.opacity));
    }
    let name = match &mark.shape {
        Shape::Line { points, width, dashed } => {
            let colour = colour(mark.ink, colours);
            let _ = write!(attributes, " fill=\"none\" stroke=\"{colour}\" stroke-width=\"{}\"", Length(*width));
            attributes.push_str(" stroke-linejoin=\"round\"");
            if *dashed {
                attributes.push_str(" stroke-dasharray=\"4 3\"");
            }
            let _ = write!(attributes, " points=\"{}\"", coordinates(points));
            "polyline"
        }
        Shape::Area { points } => {
            let _ = write!(attributes, "{} points=\"{}\"", fill(mark.ink, colours), coordinates(points));
            "polygon"
        }
        Shape::Rect { x, y, width, height } => {
            let [x, y, width, height] = [x, y, width, height].map(|length| Length(*length));
            let _ = write!(attributes, " x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"");
            attributes.push_str(&fill(mark.ink, colours));
            "rect"
        }
        Shape::Dot { at, radius, marker: Marker::Circle } => {
            let [x, y, radius] = [at.0, at.1, *radius].map(Length);
            let _ = write!(attributes, " cx=\"{x}\" cy=\"{y}\" r=\"{radius}\"{}", fill(mark.ink, colours));
            "circle"
        }
        Shape::Dot { at, radius, marker } => {
            let corners: Vec<_> =
                (marker.corners().iter()).map(|(x, y)| (at.0 + x * radius, at.1 + y * radius)).collect();
            let _ = write!(attributes, "{} points=\"{}\"", fill(mark.ink, colours), coordinates(&corners));
            "polygon"
        }
        Shape::Text(label) => {
            attributes.push_str(&text_attributes(label, mark.ink, colours));
            "text"
        }
    };
    let hint = mark.hint.as_deref().map(|hint| format!("<title>{}</title>", escape(hint))).unwrap_or_default();
    let content = if let Shape::Text(label) = &mark.shape { escape(&label.content) } else { String::new() };
    if hint.is_empty() && content.is_empty() {
        let _ = write!(text, "<{name}{attributes}/>");
    } else {
        let _ = write!(text, "<{name}{attributes}>{hint}{content}</{name}>");
    }
}

fn text_attributes(label: &Label, ink: Ink, colours: Colours) -> String {
    let (x, y) = (Length(label.at.0), Length(label.at.1));
    let mut attributes = if label.upwards {
        format!(" transform=\"translate({x} {y}) rotate(-90)\"")
    } else {
        format!(" x=\"{x}\" y=\"{y}\"")
    };
    if label.size != 12.0 {
        let _ = write!(attributes, " font-size=\"{}\"", Length(label.size));
    }
    if label.weight == Weight::SemiBold {
        attributes.push_str(" font-weight=\"600\"");
    }
    match label.anchor {
        Anchor::Start => {}
        Anchor::Middle => attributes.push_str(" text-anchor=\"middle\""),
        Anchor::End => attributes.push_str(" text-anchor=\"end\""),
    }
    if label.halo {
        let surface = colour(Ink::Surface, colours);
        let _ = write!(attributes, " paint-order=\"stroke\" stroke=\"{surface}\" stroke-width=\"3\"");
    }
    attributes.push_str(&fill(ink, colours));
    attributes
}

fn fill(ink: Ink, colours: Colours) -> String {
    format!(" fill=\"{}\"", colour(ink, colours))
}

fn colour(ink: Ink, colours: Colours) -> String {
    match colours {
        Colours::Literal(theme) => ink.hex(theme),
        Colours::Variables => format!("var({})", ink.variable()),
    }
}

fn coordinates(points: &[Point]) -> String {
    let mut text = String::new();
    for (position, (x, y)) in points.iter().enumerate() {
        let gap = if position == 0 { "" } else { " " };
        let _ = write!(text, "{gap}{},{}", Length(*x), Length(*y));
    }
    text
}

/// A length to a hundredth of a pixel, as short as it goes; what is not finite is 0, since one NaN blanks a drawing.
struct Length(f64);

impl std::fmt::Display for Length {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hundredths = (self.0 * 100.0).round();
        // Adding 0 turns −0 into 0.
        write!(f, "{}", if hundredths.is_finite() { hundredths / 100.0 + 0.0 } else { 0.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene() -> Scene {
        let mut scene = Scene::new(100.0, 50.0, "a < b");
        scene.description = "two \"things\"".to_owned();
        scene.line((0.0, 0.125), (f64::NAN, -0.001), Ink::Grid);
        scene.dot((10.0, 10.0), 3.0, Marker::Diamond, Ink::Series(1)).hinted("</title><script>").faded(0.5);
        scene.text(Label::new("<layer>", (5.0, 40.0)).bold().upwards().with_halo().anchored(Anchor::End), Ink::Text);
        scene
    }

    #[test]
    fn a_file_stands_alone_and_an_element_follows_the_page() {
        let (file, inline) = (file(&scene(), Theme::Dark), inline(&scene(), "p1"));
        assert!(file.starts_with("<?xml") && file.contains("fill=\"#12161c\"") && !file.contains("var("));
        assert!(inline.starts_with("<svg") && inline.contains("var(--s1)") && !inline.contains("fill=\"#"));
        assert!(inline.contains("aria-labelledby=\"p1-title p1-description\""));
        assert!(inline.contains("<title id=\"p1-title\">a &lt; b</title>"));
    }

    #[test]
    fn names_are_text_and_numbers_are_finite() {
        let inline = inline(&scene(), "p");
        assert!(inline.contains("<title>&lt;/title&gt;&lt;script&gt;</title>"), "{inline}");
        assert!(inline.contains(">&lt;layer&gt;</text>"));
        assert!(inline.contains("points=\"0,0.13 0,0\""), "{inline}");
        assert!(!inline.contains("NaN"));
    }
}
