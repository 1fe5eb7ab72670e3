//! Text from outside inside SVG and HTML.
//!
//! Owns the one escape that every name passes through. Pure.

use std::fmt::Write;

/// The text for element content and quoted attribute values, in SVG and HTML alike.
///
/// `& < > " '` become references; characters that XML 1.0 (section 2.2) does not allow become U+FFFD, since one of them
/// makes a whole SVG file unreadable.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\t' | '\n' | '\r' => {
                // A reference keeps line breaks in attribute values apart from spaces. Writing to a string cannot fail.
                let _ = write!(escaped, "&#{};", u32::from(character));
            }
            '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn markup_in_names_is_text() {
        let hostile = "</script><img src=x onerror=\"alert('1')\">&amp;\u{0}\u{1b}[31m";
        let escaped = escape(hostile);
        assert!(!escaped.contains(['<', '>', '"', '\'', '\u{0}', '\u{1b}']));
        assert!(
            escaped.starts_with("&lt;/script&gt;&lt;img src=x onerror=&quot;alert(&#39;1&#39;)&quot;&gt;&amp;amp;")
        );
    }

    proptest! {
        #[test]
        fn nothing_escapes(text in any::<String>()) {
            let escaped = escape(&text);
            prop_assert!(!escaped.contains(['<', '>', '"', '\'']));
            prop_assert!(escaped.split('&').skip(1).all(|rest| rest.contains(';')));
        }
    }
}
