//! The configuration of a run as the file `config.yaml`, which people and the UI read. No I/O.

use std::fmt::Write as _;

use super::tree::Tree;

/// Each key with its value below; values are JSON, which YAML contains.
pub(crate) fn config_yaml(values: &Tree) -> String {
    let mut text = String::new();
    for (key, value) in values.entries() {
        let key = if is_plain(key) { key.to_owned() } else { serde_json::Value::from(key).to_string() };
        // Writing to a String cannot fail.
        let _ = write!(text, "{key}:\n    value: {value}\n");
    }
    text
}

/// Whether YAML takes the key for a text without quotes.
fn is_plain(key: &str) -> bool {
    /// What it takes for a truth or for nothing.
    const WORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '/' | '.');
    let first = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    first && key.chars().all(fits) && !WORDS.contains(&key.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_quoted_where_yaml_would_not_see_a_text() {
        let mut values = Tree::default();
        for (key, json) in [("lr", "0.25"), ("a b", r#"{"x":[1,"y: z"]}"#), ("no", "1"), ("1", "2"), ("p/q", "\"t\"")] {
            values.set(&[key], json.to_owned());
        }
        let expected = [
            "\"1\":\n    value: 2",
            "\"a b\":\n    value: {\"x\":[1,\"y: z\"]}",
            "lr:\n    value: 0.25",
            "\"no\":\n    value: 1",
            "p/q:\n    value: \"t\"\n",
        ];
        assert_eq!(config_yaml(&values), expected.join("\n"));
        let back: serde_json::Value = serde_saphyr::from_str(&config_yaml(&values)).unwrap();
        assert_eq!(back["a b"]["value"]["x"][1], "y: z");
    }
}
