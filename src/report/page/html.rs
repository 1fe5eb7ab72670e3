//! HTML text in which nothing from outside can become markup.
//!
//! Owns the one rule of the page: markup is a constant of this program, everything else is escaped. Pure.

use std::fmt::Write;

use super::super::markup::escape;
use super::super::scene::Scene;
use super::super::svg;

/// HTML being written.
#[derive(Debug, Default)]
pub(crate) struct Html {
    text: String,
}

impl Html {
    /// Markup: only what the program itself says.
    pub(crate) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.text.push_str(markup);
        self
    }

    /// Anything else, as content of an element or of a quoted attribute.
    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.text.push_str(&escape(text));
        self
    }

    /// A number that reads back exactly.
    pub(crate) fn exact(&mut self, number: f64) -> &mut Self {
        // Writing to a string cannot fail.
        let _ = write!(self.text, "{number:?}");
        self
    }

    /// A whole number.
    pub(crate) fn count(&mut self, number: u64) -> &mut Self {
        let _ = write!(self.text, "{number}");
        self
    }

    /// A drawing, with the colours of the page; its texts are escaped by the SVG writer.
    pub(crate) fn scene(&mut self, scene: &Scene, id: &str) -> &mut Self {
        self.text.push_str(&svg::inline(scene, id));
        self
    }

    /// Colours, typefaces and digests: what this program has computed in an alphabet without markup. Anything else in it
    /// is dropped.
    pub(crate) fn computed(&mut self, text: &str) -> &mut Self {
        self.text.extend(text.chars().filter(|character| !matches!(character, '<' | '>' | '&' | '"' | '\'')));
        self
    }

    /// The finished text.
    pub(crate) fn finish(self) -> String {
        self.text
    }
}
