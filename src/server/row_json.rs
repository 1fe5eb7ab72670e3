//! The JSON that clients put into lines: strict JSON plus the bare tokens `NaN`, `Infinity` and `-Infinity`. No I/O.

use serde_json::Value;

/// Parses a line. The bare tokens become the strings of the same name, which strict JSON can carry on.
pub(super) fn parse(text: &str) -> Result<Value, serde_json::Error> {
    match serde_json::from_str(text) {
        Ok(value) => Ok(value),
        // The ordinary case costs nothing; only a line that is not strict JSON is looked at again.
        Err(error) => match quote_tokens(text) {
            Some(quoted) => serde_json::from_str(&quoted),
            None => Err(error),
        },
    }
}

/// The text with its bare tokens in quotes, or none when it has none.
fn quote_tokens(text: &str) -> Option<String> {
    const TOKENS: [&str; 3] = ["NaN", "-Infinity", "Infinity"];
    let mut quoted = String::with_capacity(text.len() + 16);
    let mut found = false;
    let mut in_string = false;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let token = if in_string { None } else { TOKENS.into_iter().find(|token| rest.starts_with(token)) };
        let taken = match (token, c) {
            (Some(token), _) => {
                found = true;
                quoted.push('"');
                quoted.push_str(token);
                quoted.push('"');
                token.len()
            }
            (None, '\\') if in_string => {
                let escape = rest.char_indices().nth(2).map_or(rest.len(), |(end, _)| end);
                quoted.push_str(rest.get(..escape)?);
                escape
            }
            (None, c) => {
                in_string ^= c == '"';
                quoted.push(c);
                c.len_utf8()
            }
        };
        rest = rest.get(taken..)?;
    }
    found.then_some(quoted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn bare_tokens_become_strings_and_texts_stay() {
        let line = r#"{"a":NaN,"b":[Infinity,-Infinity],"c":"NaN \" Infinity","d":1e3}"#;
        let parsed = parse(line).unwrap();
        assert_eq!(parsed, json!({"a": "NaN", "b": ["Infinity", "-Infinity"], "c": "NaN \" Infinity", "d": 1e3}));
        assert!(parse("{\"a\":NaNa}").is_err());
        assert!(parse("{\"a\":nan}").is_err());
        assert!(parse("{\"a\":NaN").is_err());
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "[\\\\\"NaInfity{}:,\u{e9}-]{0,40}") {
            let _ = parse(&text);
        }

        #[test]
        fn strict_json_is_left_alone(text in ".*") {
            let line = json!({ "key": text }).to_string();
            prop_assert_eq!(parse(&line).unwrap(), json!({ "key": text }));
        }
    }
}
