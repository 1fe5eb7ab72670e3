//! A JSON object whose values are texts that are passed on as they are: rows, summaries and configurations of the log may
//! hold bare `NaN` and the infinities, and numbers must not change on their way. No I/O.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use super::record::Item;

/// An object: by key a value, or an object below.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tree(BTreeMap<String, Node>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    /// JSON text.
    Value(String),
    Object(Tree),
}

impl Tree {
    /// Sets what the items say; an item whose value is no JSON is left out.
    pub(crate) fn update(&mut self, items: &[Item]) {
        for item in items {
            self.set(&item.path(), item.json());
        }
    }

    /// Sets the value at a path, over whatever was there; a text that is no JSON changes nothing.
    pub(crate) fn set(&mut self, path: &[&str], json: String) {
        if is_json(&json) {
            self.put(path, Node::Value(json));
        }
    }

    fn put(&mut self, path: &[&str], node: Node) {
        match path {
            [] => {}
            [key] => {
                self.0.insert((*key).to_owned(), node);
            }
            [key, rest @ ..] => {
                let mut below = self.0.remove(*key).map_or_else(Self::default, Node::into_object);
                below.put(rest, node);
                self.0.insert((*key).to_owned(), Node::Object(below));
            }
        }
    }

    /// Removes what is at the items' paths.
    pub(crate) fn remove(&mut self, items: &[Item]) {
        items.iter().for_each(|item| self.remove_at(&item.path()));
    }

    fn remove_at(&mut self, path: &[&str]) {
        match path {
            [] => {}
            [key] => {
                self.0.remove(*key);
            }
            [key, rest @ ..] => {
                if let Some(below) = self.0.remove(*key) {
                    let mut below = below.into_object();
                    below.remove_at(rest);
                    self.0.insert((*key).to_owned(), Node::Object(below));
                }
            }
        }
    }

    /// The JSON text of the value under a key.
    pub(crate) fn get(&self, key: &str) -> Option<String> {
        self.0.get(key).map(Node::text)
    }

    /// Keys and the JSON texts of their values, in order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, String)> {
        self.0.iter().map(|(key, node)| (key.as_str(), node.text()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The object as JSON text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::from("{");
        for (at, (key, node)) in self.0.iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = write!(text, "{}{}:{}", if at == 0 { "" } else { "," }, Value::from(key.as_str()), node.text());
        }
        text.push('}');
        text
    }
}

impl Node {
    fn text(&self) -> String {
        match self {
            Self::Value(text) => text.clone(),
            Self::Object(tree) => tree.text(),
        }
    }

    /// The node as an object: a value that is one is taken apart, any other gives way to an empty one.
    fn into_object(self) -> Tree {
        match self {
            Self::Object(tree) => tree,
            Self::Value(text) => {
                let members: BTreeMap<String, Value> = serde_json::from_str(&text).unwrap_or_default();
                Tree(members.into_iter().map(|(key, value)| (key, Self::Value(value.to_string()))).collect())
            }
        }
    }
}

/// Whether a text is one JSON value, in which `NaN`, `Infinity` and `-Infinity` may stand bare.
pub(crate) fn is_json(text: &str) -> bool {
    if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() {
        return true;
    }
    serde_json::from_str::<serde::de::IgnoredAny>(&plain_json(text)).is_ok()
}

/// A JSON text with `null` where `NaN` or an infinity stands bare.
pub(crate) fn plain_json(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let (mut rest, mut in_text) = (text, false);
    while let Some(first) = rest.chars().next() {
        let token = ["NaN", "-Infinity", "Infinity"].into_iter().find(|token| !in_text && rest.starts_with(token));
        if let Some(token) = token {
            plain.push_str("null");
            rest = rest.get(token.len()..).unwrap_or_default();
            continue;
        }
        let width = match first {
            '\\' if in_text => 1 + rest.chars().nth(1).map_or(0, char::len_utf8),
            other => other.len_utf8(),
        };
        in_text ^= first == '"';
        plain.push_str(rest.get(..width).unwrap_or_default());
        rest = rest.get(width..).unwrap_or_default();
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nested(path: &[&str], json: &str) -> Item {
        let nested_key = path.iter().map(|key| (*key).to_owned()).collect();
        Item { nested_key, value_json: json.to_owned(), ..Item::default() }
    }

    #[test]
    fn values_go_through_untouched() {
        let mut tree = Tree::default();
        tree.update(&[Item::new("a", "1.7954e+09"), nested(&["b", "c"], "NaN"), nested(&["b", "d\""], "[1,Infinity]")]);
        assert_eq!(tree.text(), r#"{"a":1.7954e+09,"b":{"c":NaN,"d\"":[1,Infinity]}}"#);
        tree.remove(&[nested(&["b", "c"], ""), Item::new("a", "")]);
        assert_eq!(tree.text(), r#"{"b":{"d\"":[1,Infinity]}}"#);
        // What is no JSON would spoil the whole line.
        tree.update(&[Item::new("bad", "{"), Item::new("worse", "1,\"x\":2")]);
        assert_eq!(tree.get("bad"), None);
        assert!(tree.get("worse").is_none());
    }

    #[test]
    fn an_object_that_came_as_a_value_can_be_added_to() {
        let mut tree = Tree::default();
        tree.update(&[Item::new("loss", r#"{"min":0.5}"#), nested(&["loss", "max"], "2"), nested(&["x", "y"], "1")]);
        assert_eq!(tree.text(), r#"{"loss":{"max":2,"min":0.5},"x":{"y":1}}"#);
        tree.update(&[Item::new("x", "3"), nested(&["x", "z"], "4")]);
        assert_eq!(tree.get("x").unwrap(), r#"{"z":4}"#);
    }

    #[test]
    fn only_json_is_json() {
        for good in ["1", "NaN", "-Infinity", r#"{"a":[NaN,"NaN \" Infinity"]}"#, r#""\\""#] {
            assert!(is_json(good), "{good}");
        }
        for bad in ["", "NaNNaN", "{", "1 2", "nan", r#"{"a":NaN"#, "\"", "Infinity\""] {
            assert!(!is_json(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_tree_is_always_json(paths in proptest::collection::vec((proptest::collection::vec("[ab\"]{0,2}", 1..4), ".{0,6}"), 0..12)) {
            let mut tree = Tree::default();
            for (path, value) in &paths {
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                tree.set(&path, value.clone());
                tree.set(&path, Value::from(value.as_str()).to_string());
            }
            prop_assert!(is_json(&tree.text()));
        }
    }
}
