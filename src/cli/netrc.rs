//! The netrc file as text: the key of a machine out of it, and a key into it without touching other entries. No I/O.
//!
//! Reading follows Python's `netrc` module, which the official SDK uses (`wandb/sdk/lib/wbauth/wbnetrc.py`): the machine is
//! the host with its non-default port, the login is ignored, the password is the key, `default` answers for everyone else,
//! the last entry of a machine wins. Writing removes exactly the entries of the machine, wherever on a line they stand,
//! and adds one at the end.

use std::ops::Range;

/// A text that is not a netrc file. Says where, never what is there: it may be a key.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
#[error("line {line}: {problem}")]
pub(crate) struct NetrcError {
    line: usize,
    problem: &'static str,
}

/// What the file has for a machine.
#[derive(Debug, PartialEq, Eq, Clone)]
pub(crate) enum Found {
    /// Neither an entry of its own nor a `default`.
    Nothing,
    /// An entry without a password.
    NoPassword,
    /// This one.
    Password(String),
}

/// One entry: `machine` with its name, or `default`.
struct Entry {
    /// None is the default entry.
    machine: Option<String>,
    password: String,
    /// From the word `machine` to the end of the last value.
    span: Range<usize>,
}

/// The password for `machine`, or the `default` entry's.
///
/// # Errors
/// [`NetrcError`] where the text is no netrc file.
pub(crate) fn password(text: &str, machine: &str) -> Result<Found, NetrcError> {
    let entries = entries(text)?;
    let of = |name: Option<&str>| entries.iter().rev().find(|entry| entry.machine.as_deref() == name);
    Ok(match of(Some(machine)).or_else(|| of(None)) {
        None => Found::Nothing,
        Some(entry) if entry.password.is_empty() => Found::NoPassword,
        Some(entry) => Found::Password(entry.password.clone()),
    })
}

/// The text with the entries of `machine` replaced by one with this password, everything else as it was.
///
/// # Errors
/// [`NetrcError`] where the text is no netrc file: nobody could read the new entry either.
pub(crate) fn with_password(text: &str, machine: &str, password: &str) -> Result<String, NetrcError> {
    let mut kept = String::with_capacity(text.len() + 80);
    let mut from = 0;
    for entry in entries(text)?.iter().filter(|entry| entry.machine.as_deref() == Some(machine)) {
        let cut = whole_lines(text, entry.span.clone());
        kept.push_str(&text[from..cut.start]);
        from = cut.end;
    }
    kept.push_str(&text[from..]);
    if !kept.is_empty() && !kept.ends_with('\n') {
        kept.push('\n');
    }
    kept.push_str(&format!("machine {}\n  login user\n  password {}\n", quoted(machine), quoted(password)));
    Ok(kept)
}

/// The span, widened to its lines where nothing else is on them.
fn whole_lines(text: &str, span: Range<usize>) -> Range<usize> {
    let line_start = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
    let line_end = text[span.end..].find('\n').map_or(text.len(), |at| span.end + at + 1);
    let alone = text[line_start..span.start].trim().is_empty() && text[span.end..line_end].trim().is_empty();
    if alone { line_start..line_end } else { span }
}

fn entries(text: &str) -> Result<Vec<Entry>, NetrcError> {
    let mut words = Words { text, at: 0 };
    let mut found: Vec<Entry> = Vec::new();
    let mut open = false;
    while let Some(word) = words.next()? {
        let start = word.span.start;
        match word.text.as_str() {
            comment if comment.starts_with('#') => words.skip_line(word.span.end),
            "machine" => {
                let name = words.value("a machine without a name")?;
                found.push(Entry { machine: Some(name.text), password: String::new(), span: start..name.span.end });
                open = true;
            }
            "default" => {
                found.push(Entry { machine: None, password: String::new(), span: word.span });
                open = true;
            }
            "macdef" => {
                words.value("a macro without a name")?;
                words.skip_macro()?;
                open = false;
            }
            field @ ("login" | "user" | "account" | "password") if open => {
                let value = words.value("a field without a value")?;
                if let Some(entry) = found.last_mut() {
                    entry.span.end = value.span.end;
                    if field == "password" {
                        entry.password = value.text;
                    }
                }
            }
            _ => return Err(words.error(start, "a word that does not belong there")),
        }
    }
    Ok(found)
}

struct Word {
    text: String,
    span: Range<usize>,
}

/// The words of the text: divided by blanks, quoted where they begin with a quote, a backslash takes the next character.
struct Words<'a> {
    text: &'a str,
    at: usize,
}

impl Words<'_> {
    fn next(&mut self) -> Result<Option<Word>, NetrcError> {
        let rest = &self.text[self.at..];
        let start = self.at + (rest.len() - rest.trim_start().len());
        let mut characters = self.text[start..].char_indices().peekable();
        let Some(&(_, first)) = characters.peek() else { return Ok(None) };
        let quote = (first == '"' || first == '\'').then_some(first);
        if quote.is_some() {
            characters.next();
        }
        let mut text = String::new();
        let mut end = None;
        while let Some((offset, c)) = characters.next() {
            match c {
                c if Some(c) == quote => {
                    end = Some(start + offset + c.len_utf8());
                    break;
                }
                c if quote.is_none() && c.is_whitespace() => {
                    end = Some(start + offset);
                    break;
                }
                '\\' if quote != Some('\'') => text.extend(characters.next().map(|(_, next)| next)),
                c => text.push(c),
            }
        }
        if quote.is_some() && end.is_none() {
            return Err(self.error(start, "a quote that is not closed"));
        }
        self.at = end.unwrap_or(self.text.len());
        Ok(Some(Word { text, span: start..self.at }))
    }

    fn value(&mut self, missing: &'static str) -> Result<Word, NetrcError> {
        let at = self.at;
        self.next()?.ok_or_else(|| self.error(at, missing))
    }

    /// To the end of the line that `from` is on.
    fn skip_line(&mut self, from: usize) {
        self.at = self.text[from..].find('\n').map_or(self.text.len(), |at| from + at + 1);
    }

    /// Behind the empty line that ends a macro.
    fn skip_macro(&mut self) -> Result<(), NetrcError> {
        let start = self.at;
        self.skip_line(start);
        while self.at < self.text.len() {
            let empty = self.text[self.at..].starts_with('\n');
            self.skip_line(self.at);
            if empty {
                return Ok(());
            }
        }
        Err(self.error(start, "a macro that no empty line ends"))
    }

    fn error(&self, at: usize, problem: &'static str) -> NetrcError {
        NetrcError { line: self.text[..at].matches('\n').count() + 1, problem }
    }
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./-_[]".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        // The form that Python's reader, too, takes apart again.
        format!("\"{}\"", word.replace('\\', r"\\").replace('"', "\\\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE: &str = "# keys, machine x password not-this\nmachine a.example login me password one\nmachine b.example:8080\n  login user # mine\n  password 'two words'\nmacdef init\nmachine c password in-a-macro\n\ndefault login x password three\n";

    fn found(text: &str, machine: &str) -> Option<String> {
        match password(text, machine).unwrap() {
            Found::Password(password) => Some(password),
            Found::Nothing | Found::NoPassword => None,
        }
    }

    #[test]
    fn the_key_of_a_machine_is_found() {
        for (machine, key) in [
            ("a.example", "one"),
            ("b.example:8080", "two words"),
            ("b.example", "three"),
            ("c", "three"),
            ("x", "three"),
        ] {
            assert_eq!(found(FILE, machine).as_deref(), Some(key), "{machine}");
        }
        assert_eq!(password("machine a.example password \"\"", "a.example"), Ok(Found::NoPassword));
        assert_eq!(password("machine a login b", "a"), Ok(Found::NoPassword));
        assert_eq!(password("", "a"), Ok(Found::Nothing));
        assert_eq!(
            found("machine a password one machine a password two", "a").as_deref(),
            Some("two"),
            "the last wins"
        );
        assert_eq!(found(r#"machine a password "x\"y""#, "a").as_deref(), Some("x\"y"));
    }

    #[test]
    fn what_is_no_netrc_file_is_an_error_that_shows_nothing_of_it() {
        for (text, line) in [
            ("machine", 1),
            ("machine a password", 1),
            ("\nsecret", 2),
            ("machine a\n password x secret", 2),
            ("machine a password \"secret", 1),
            ("macdef init\nsecret\n", 1),
        ] {
            let error = password(text, "a").unwrap_err();
            assert_eq!(error.line, line, "{text}");
            assert!(!error.to_string().contains("secret"));
            assert_eq!(with_password(text, "a", "b"), Err(error), "{text}");
        }
    }

    #[test]
    fn a_new_key_leaves_other_entries_alone() {
        let text = with_password(FILE, "b.example:8080", "new").unwrap();
        assert_eq!(found(&text, "b.example:8080").as_deref(), Some("new"));
        let (before, after) = FILE.split_once("machine b.example:8080").unwrap();
        let (_, after) = after.split_once("'two words'\n").unwrap();
        let added = "machine b.example:8080\n  login user\n  password new\n";
        assert_eq!(text, format!("{before}{after}{added}"));
        let one_line = with_password("machine a login x password y machine b password z", "a", "it's").unwrap();
        assert_eq!(found(&one_line, "a").as_deref(), Some("it's"));
        assert_eq!(found(&one_line, "b").as_deref(), Some("z"));
        assert_eq!(with_password("", "h", "k").unwrap(), "machine h\n  login user\n  password k\n");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_nothing_else_changes(
            entries in prop::collection::vec(("[a-d]", "[ -~]{1,6}"), 0..6), machine in "[a-e]", key in "[ -~]{1,8}",
        ) {
            let mut text = String::new();
            for (name, key) in &entries {
                text = format!("{text}machine {name} login u password {}\n", quoted(key));
            }
            let written = with_password(&text, &machine, &key).unwrap();
            prop_assert_eq!(found(&written, &machine), Some(key));
            for (name, _) in entries.iter().filter(|(name, _)| *name != machine) {
                prop_assert_eq!(found(&written, name), found(&text, name));
            }
        }

        #[test]
        fn no_text_panics(text: String, other in "(machine|default|macdef|password|login|[a-c\"'\\\\# \n]){0,12}") {
            for text in [text, other] {
                let _ = password(&text, "a");
                let _ = with_password(&text, "a", "b");
            }
        }
    }
}
