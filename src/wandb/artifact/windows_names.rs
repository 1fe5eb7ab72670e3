//! Names that Windows takes for something else than a file. No I/O.
//!
//! They are fine in a manifest and in the store, and in a folder elsewhere: an artifact of a Linux machine may well hold
//! `aux.txt`. On Windows, [`export`](super::export) refuses them, since they would name a device, a stream of another
//! file, or another file.

/// Why Windows cannot hold a file under this path, if it cannot.
pub(super) fn refused_by_windows(path: &str) -> Option<&'static str> {
    path.split('/').find_map(refused)
}

fn refused(component: &str) -> Option<&'static str> {
    if component.ends_with(['.', ' ']) {
        return Some("Windows drops a dot or space at the end of a name");
    }
    if component.contains(['<', '>', ':', '"', '|', '?', '*', '\\']) || component.chars().any(|c| c < ' ') {
        return Some("it holds a character that Windows reserves");
    }
    let stem = component.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    let numbered = |device: &str| {
        let number = stem.strip_prefix(device)?;
        let mut digits = number.chars();
        matches!((digits.next(), digits.next()), (Some('0'..='9' | '¹' | '²' | '³'), None)).then_some(())
    };
    let device = matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$");
    (device || numbered("COM").is_some() || numbered("LPT").is_some()).then_some("it names a device of Windows")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_streams_and_vanishing_ends_are_refused_and_ordinary_names_are_not() {
        for path in [
            "CON",
            "con",
            "aux.txt",
            "a/NUL/b",
            "com1",
            "LPT9.log",
            "com¹",
            "CONIN$",
            "prn .txt",
            "a.",
            "a/b ",
            "x./y",
            "a:b",
            "a*b",
            "what?",
            "tab\there",
            "\"",
            "a|b",
        ] {
            assert!(refused_by_windows(path).is_some(), "{path}");
        }
        for path in ["trained.ckpt", "console", "com10", "com", "lpt.txt", "a.b/c d", ".hidden", "auxiliary/nul1"] {
            assert_eq!(refused_by_windows(path), None, "{path}");
        }
    }
}
