//! A settings file as text: section `[default]` of an INI file in the dialect of Python's `configparser`, which the
//! official SDK reads it with (`wandb/sdk/lib/settings_file.py`). No I/O.

use std::collections::HashMap;

/// Keys that a settings file may not set (`wandb/sdk/wandb_settings.py`, `update_from_system_settings`).
const IGNORED: [&str; 3] = ["settings_system", "root_dir", "anonymous"];
const SECTION: &str = "default";
/// Values of this section hold in every other.
const EVERYWHERE: &str = "DEFAULT";
/// How deep values may name one another, as in `configparser`.
const DEPTH: usize = 10;

/// A text that is not a settings file.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum FileError {
    /// A line that fits nowhere.
    #[error("line {line}: {problem}")]
    Line {
        /// Counted from one.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A `%` that stands for nothing.
    #[error("the value of `{key}`: {problem}")]
    Interpolation {
        /// The key.
        key: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// What a file holds, and what of it is not taken.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parsed {
    /// By lower-case key.
    pub(crate) values: HashMap<String, String>,
    /// Keys that were there but count for nothing.
    pub(crate) ignored: Vec<&'static str>,
}

/// Reads a settings file.
///
/// # Errors
/// [`FileError`] where `configparser` would refuse the file, too.
pub(crate) fn parse(text: &str) -> Result<Parsed, FileError> {
    let mut sections = sections(text)?;
    let mut raw = sections.remove(EVERYWHERE).unwrap_or_default();
    let Some(own) = sections.remove(SECTION) else { return Ok(Parsed::default()) };
    raw.extend(own);
    let mut parsed = Parsed::default();
    for key in raw.keys() {
        match IGNORED.iter().find(|ignored| *ignored == key) {
            Some(ignored) => parsed.ignored.push(ignored),
            None => drop(parsed.values.insert(key.clone(), interpolate(&raw, key, 0)?)),
        }
    }
    parsed.ignored.sort_unstable();
    Ok(parsed)
}

type Sections = HashMap<String, HashMap<String, String>>;

fn sections(text: &str) -> Result<Sections, FileError> {
    let mut sections = Sections::new();
    let mut section: Option<String> = None;
    // The key that a deeper line goes on, and how deep its own line was.
    let mut open: Option<(String, usize)> = None;
    for (at, whole) in text.lines().enumerate() {
        let refuse = |problem| FileError::Line { line: at + 1, problem };
        let line = whole.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let depth = whole.len() - whole.trim_start().len();
        let here = section.as_ref().and_then(|name| sections.get_mut(name));
        if let (Some((key, own)), Some(here)) = (&open, here)
            && depth > *own
        {
            if let Some(value) = here.get_mut(key) {
                value.push('\n');
                value.push_str(line);
            }
            continue;
        }
        open = None;
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(name, _)| name) {
            if name != EVERYWHERE && sections.contains_key(name) {
                return Err(refuse("a section that is there already"));
            }
            sections.entry(name.to_owned()).or_default();
            section = Some(name.to_owned());
            continue;
        }
        let Some(here) = section.as_ref().and_then(|name| sections.get_mut(name)) else {
            return Err(refuse("it stands before any section"));
        };
        let (key, value) = line.split_once(['=', ':']).ok_or_else(|| refuse("neither a section nor `key = value`"))?;
        let key = key.trim().to_lowercase();
        if here.insert(key.clone(), value.trim().to_owned()).is_some() {
            return Err(refuse("a key that is there already"));
        }
        open = Some((key, depth));
    }
    Ok(sections)
}

/// The value with `%%` as `%` and `%(name)s` as the value of that name.
fn interpolate(raw: &HashMap<String, String>, key: &str, depth: usize) -> Result<String, FileError> {
    let refuse = |problem| FileError::Interpolation { key: key.to_owned(), problem };
    if depth > DEPTH {
        return Err(refuse("names that lead in a circle"));
    }
    let mut rest = raw.get(key).map(String::as_str).ok_or_else(|| refuse("`%(…)s` names no key of the file"))?;
    let mut value = String::new();
    while let Some(at) = rest.find('%') {
        value.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            value.push('%');
            rest = after;
        } else {
            let named = rest.strip_prefix('(').and_then(|rest| rest.split_once(")s"));
            let (name, after) = named.ok_or_else(|| refuse("a `%` that is neither `%%` nor `%(name)s`"))?;
            value.push_str(&interpolate(raw, &name.to_lowercase(), depth + 1)?);
            rest = after;
        }
    }
    value.push_str(rest);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values(text: &str) -> Vec<(String, String)> {
        let mut values: Vec<_> = parse(text).unwrap().values.into_iter().collect();
        values.sort();
        values
    }

    #[test]
    fn only_the_default_section_counts() {
        let text = "; comment\n[other]\nentity = no\n[default]\n# comment\nEntity = team\nproject: vectors\nempty =\n";
        let expected = [("empty", ""), ("entity", "team"), ("project", "vectors")];
        assert_eq!(values(text), expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert_eq!(values(""), []);
        assert_eq!(values("[other]\na = b"), []);
    }

    #[test]
    fn values_go_on_in_deeper_lines_and_may_name_one_another() {
        let text = "[DEFAULT]\nhost = h\n[default]\nlist = a,\n   b\nbase_url = http://%(HOST)s/%%20\n";
        let found = parse(text).unwrap().values;
        assert_eq!((found["list"].as_str(), found["base_url"].as_str()), ("a,\nb", "http://h/%20"));
    }

    #[test]
    fn some_keys_are_not_for_files() {
        let parsed = parse("[default]\nroot_dir = /x\nsettings_system = y\nentity = e\n").unwrap();
        assert_eq!(parsed.ignored, ["root_dir", "settings_system"]);
        assert_eq!(parsed.values.len(), 1);
    }

    #[test]
    fn what_configparser_refuses_is_refused() {
        for text in [
            "entity = e",
            "[default]\nnonsense",
            "[default]\na = 1\na = 2",
            "[default]\n[default]",
            "[default]\na = 100%",
            "[default]\na = %(b)s",
            "[default]\na = %(a)s",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String, other in "(\\[default\\]|\n|a|=|%|%\\(a\\)s| |\\[|:|;){0,20}") {
            let _ = parse(&text);
            let _ = parse(&other);
        }
    }
}
