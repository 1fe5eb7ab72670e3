//! The netrc file as text: the key of a machine out of it, and a key into it without touching other entries. No I/O.
//!
//! The rules are those of the official SDK (`wandb/sdk/lib/wbauth/wbnetrc.py`): the machine is the host with its
//! non-default port, the login is ignored on reading, the password is the key, `default` answers for everyone else.

/// The password for `machine`, or the `default` entry's.
pub(crate) fn password(text: &str, machine: &str) -> Option<String> {
    let mut words = text.lines().filter(|line| !line.trim_start().starts_with('#')).flat_map(words);
    let (mut here, mut default_here) = (false, false);
    let (mut exact, mut default) = (None, None);
    while let Some(word) = words.next() {
        match word.as_str() {
            "machine" => (here, default_here) = (words.next().as_deref() == Some(machine), false),
            "default" => (here, default_here) = (false, true),
            "password" => {
                let value = words.next().filter(|value| !value.is_empty());
                if here && exact.is_none() {
                    exact = value;
                } else if default_here && default.is_none() {
                    default = value;
                }
            }
            "login" | "account" => drop(words.next()),
            _ => {}
        }
    }
    exact.or(default)
}

/// The text with the entry of `machine` replaced, or added, everything else as it was.
pub(crate) fn with_password(text: &str, machine: &str, password: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut in_old_entry = false;
    for line in text.lines() {
        let words = words(line);
        match words.first().map(String::as_str) {
            Some("machine") => in_old_entry = words.get(1).is_some_and(|name| name == machine),
            Some("default") => in_old_entry = false,
            _ => {}
        }
        if !in_old_entry {
            kept.push(line);
        }
    }
    let mut text = kept.join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(&format!("machine {}\n  login user\n  password {}\n", quoted(machine), quoted(password)));
    text
}

/// Words of a line, with the quotes and backslashes of a POSIX shell.
fn words(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut current: Option<String> = None;
    let mut quote = None;
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                current.get_or_insert_default();
            }
            (None | Some('"'), '\\') => {
                if let Some(next) = characters.next() {
                    current.get_or_insert_default().push(next);
                }
            }
            (None, c) if c.is_whitespace() => found.extend(current.take()),
            (_, c) => current.get_or_insert_default().push(c),
        }
    }
    found.extend(current);
    found
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./-_".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r#"'"'"'"#))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# keys\nmachine a.example login me password one\nmachine b.example:8080\n  login user\n  password 'two words'\ndefault login x password three\n";

    #[test]
    fn the_key_of_a_machine_is_found() {
        assert_eq!(password(FILE, "a.example").as_deref(), Some("one"));
        assert_eq!(password(FILE, "b.example:8080").as_deref(), Some("two words"));
        assert_eq!(password(FILE, "b.example").as_deref(), Some("three"));
        assert_eq!(password("machine a.example password \"\"", "a.example"), None);
        assert_eq!(password("machine", "a"), None);
    }

    #[test]
    fn a_new_key_leaves_other_entries_alone() {
        let text = with_password(FILE, "b.example:8080", "new");
        assert_eq!(password(&text, "b.example:8080").as_deref(), Some("new"));
        assert_eq!(password(&text, "a.example").as_deref(), Some("one"));
        assert_eq!(password(&text, "else").as_deref(), Some("three"));
        assert!(text.starts_with("# keys\n") && !text.contains("two words"));
        let single = with_password("machine a login x password y\nmachine b password z", "a", "it's");
        assert_eq!(password(&single, "a").as_deref(), Some("it's"));
        assert_eq!(password(&single, "b").as_deref(), Some("z"));
    }
}
