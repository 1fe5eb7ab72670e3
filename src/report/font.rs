//! The embedded typeface: how wide text is, and its outlines.
//!
//! Owns two weights of Inter (SIL Open Font License 1.1, `font/OFL.txt`), reduced to Latin, digits and the signs that plots
//! use, so that a bare machine draws text and a plot is laid out with the widths it is shown with. A character outside
//! the set has an estimated width and no outline. No I/O.

use std::sync::LazyLock;

use ttf_parser::{Face, GlyphId, OutlineBuilder};

/// How heavy text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is its own name")]
pub enum Weight {
    Regular,
    SemiBold,
}

static REGULAR: LazyLock<Option<Face<'static>>> = LazyLock::new(|| Face::parse(Weight::Regular.file(), 0).ok());
static SEMI_BOLD: LazyLock<Option<Face<'static>>> = LazyLock::new(|| Face::parse(Weight::SemiBold.file(), 0).ok());

/// Width of a character outside the set, in ems: a little wide, so that text rather has room to spare.
const UNKNOWN_EMS: f64 = 0.75;

impl Weight {
    /// The OpenType file.
    pub(crate) fn file(self) -> &'static [u8] {
        match self {
            Self::Regular => include_bytes!("font/inter-regular.otf"),
            Self::SemiBold => include_bytes!("font/inter-semibold.otf"),
        }
    }

    fn face(self) -> Option<&'static Face<'static>> {
        match self {
            Self::Regular => REGULAR.as_ref(),
            Self::SemiBold => SEMI_BOLD.as_ref(),
        }
    }
}

/// Width of a line of text at this size, in the unit of the size.
pub(crate) fn width(text: &str, size: f64, weight: Weight) -> f64 {
    text.chars().map(|character| advance(character, weight)).sum::<f64>() * size
}

/// The text, its middle replaced by an ellipsis where it does not fit into `room`: names of layers differ at both ends.
pub(crate) fn shorten(text: &str, size: f64, weight: Weight, room: f64) -> String {
    if width(text, size, weight) <= room {
        return text.to_owned();
    }
    let characters: Vec<char> = text.chars().collect();
    for kept in (0..characters.len()).rev() {
        let (head, tail) = (kept.div_ceil(2), kept / 2);
        let shortened: String = (characters.iter().take(head))
            .chain(std::iter::once(&'…'))
            .chain(characters.iter().skip(characters.len() - tail))
            .collect();
        if width(&shortened, size, weight) <= room {
            return shortened;
        }
    }
    String::from("…")
}

/// Draws the outlines of a line of text, the baseline's left end at the origin, y downwards.
pub(crate) fn outline(text: &str, size: f64, weight: Weight, pen: &mut dyn OutlineBuilder) {
    let Some(face) = weight.face() else { return };
    let scale = size / f64::from(face.units_per_em());
    let mut x = 0.0;
    for character in text.chars() {
        match face.glyph_index(character) {
            Some(glyph) => {
                face.outline_glyph(glyph, &mut Placed { pen, x, scale });
            }
            None => missing_outline(pen, x, size),
        }
        x += advance(character, weight) * size;
    }
}

fn advance(character: char, weight: Weight) -> f64 {
    let known = weight.face().and_then(|face| {
        let glyph: GlyphId = face.glyph_index(character)?;
        Some(f64::from(face.glyph_hor_advance(glyph)?) / f64::from(face.units_per_em()))
    });
    known.unwrap_or(UNKNOWN_EMS)
}

/// A small square in place of a character that the set lacks.
fn missing_outline(pen: &mut dyn OutlineBuilder, x: f64, size: f64) {
    let (left, right) = ((x + 0.15 * size) as f32, (x + 0.6 * size) as f32);
    let (top, bottom) = ((-0.6 * size) as f32, 0.0);
    pen.move_to(left, bottom);
    pen.line_to(left, top);
    pen.line_to(right, top);
    pen.line_to(right, bottom);
    pen.close();
}

/// Moves and scales a glyph from font units (y upwards) to its place in the line.
struct Placed<'a> {
    pen: &'a mut dyn OutlineBuilder,
    x: f64,
    scale: f64,
}

impl Placed<'_> {
    fn at(&self, x: f32, y: f32) -> (f32, f32) {
        ((self.x + f64::from(x) * self.scale) as f32, (-f64::from(y) * self.scale) as f32)
    }
}

impl OutlineBuilder for Placed<'_> {
    fn move_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.pen.move_to(x, y);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.pen.line_to(x, y);
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let ((x1, y1), (x, y)) = (self.at(x1, y1), self.at(x, y));
        self.pen.quad_to(x1, y1, x, y);
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let ((x1, y1), (x2, y2), (x, y)) = (self.at(x1, y1), self.at(x2, y2), self.at(x, y));
        self.pen.curve_to(x1, y1, x2, y2, x, y);
    }

    fn close(&mut self) {
        self.pen.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_weights_draw_everything_that_plots_say() {
        for weight in [Weight::Regular, Weight::SemiBold] {
            let face = weight.face().unwrap();
            for character in "aZ09.,%−×·⁰¹²³⁴⁵⁶⁷⁸⁹⁻…—–λσ°≥≤✓".chars() {
                assert!(face.glyph_index(character).is_some(), "{character} in {weight:?}");
            }
        }
        assert!(width("1111", 12.0, Weight::Regular) < width("MMMM", 12.0, Weight::Regular));
        assert!(width("layer", 12.0, Weight::Regular) < width("layer", 12.0, Weight::SemiBold));
    }

    #[test]
    fn long_names_keep_both_ends() {
        let name = "visual.transformer.resblocks.11.attn.in_proj_weight";
        let short = shorten(name, 12.0, Weight::Regular, 120.0);
        assert!(width(&short, 12.0, Weight::Regular) <= 120.0);
        assert!(short.starts_with("visual") && short.ends_with("weight") && short.contains('…'), "{short}");
        assert_eq!(shorten("proj", 12.0, Weight::Regular, 120.0), "proj");
        assert_eq!(shorten("proj", 12.0, Weight::Regular, 0.0), "…");
    }
}
