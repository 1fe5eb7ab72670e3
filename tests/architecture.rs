//! Keeps the arrows of the house (docs/architecture.md): who may use whom, what each file opens with, how long it may be,
//! and who may read the environment or the clock. Reads the sources as text.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may end loudly")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The longest a source file may be, tests not counted.
const MOST_LINES: usize = 600;
const PRIMITIVES: [&str; 7] = ["digest", "progress", "ranges", "redact", "store", "table", "tensor"];

/// Room → rooms it may use besides itself.
fn arrows() -> BTreeMap<&'static str, Vec<&'static str>> {
    BTreeMap::from([
        (
            "app",
            vec![
                "analysis",
                "checkpoint",
                "libtorch",
                "report",
                "server",
                "study",
                "wandb",
                "digest",
                "progress",
                "ranges",
                "redact",
                "store",
                "table",
                "tensor",
            ],
        ),
        ("wandb", vec!["digest", "progress", "ranges", "redact", "store", "table"]),
        ("checkpoint", vec!["digest", "ranges", "tensor"]),
        ("analysis", vec!["tensor", "progress"]),
        ("libtorch", vec!["analysis", "progress", "tensor"]),
        ("study", vec!["digest"]),
        ("report", vec!["table"]),
        ("server", vec!["digest", "redact", "store"]),
        ("store", vec!["digest", "progress", "ranges"]),
        ("digest", vec![]),
        ("progress", vec![]),
        ("ranges", vec![]),
        ("redact", vec![]),
        ("table", vec![]),
        ("tensor", vec![]),
    ])
}

struct Source {
    path: PathBuf,
    room: String,
    /// Without the test module at the end.
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod ").next().unwrap().to_owned();
                let first = path.strip_prefix(&root).unwrap().components().next().unwrap();
                let room = first.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned();
                found.push(Source { path: path.strip_prefix(&root).unwrap().to_owned(), room, code });
            }
        }
    }
    assert!(found.len() > 20, "the sources are where this test looks for them");
    found
}

fn code_lines(source: &Source) -> impl Iterator<Item = &str> {
    source.code.lines().map(str::trim_start).filter(|line| !line.starts_with("//"))
}

#[test]
fn arrows_point_down() {
    let arrows = arrows();
    for source in sources().iter().filter(|source| !matches!(source.room.as_str(), "lib" | "main" | "cli")) {
        let allowed = arrows.get(source.room.as_str()).unwrap_or_else(|| panic!("{} is in no known room", source.room));
        for line in code_lines(source) {
            for used in line.split("crate::").skip(1).filter(|_| !line.contains("$crate")) {
                let room: String = used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if arrows.contains_key(room.as_str()) {
                    let fine = room == source.room || allowed.contains(&room.as_str());
                    assert!(fine, "{}: `{}` may not use `{room}`: {line}", source.path.display(), source.room);
                }
            }
        }
    }
}

#[test]
fn every_file_says_what_it_is_and_stays_short() {
    for source in sources() {
        let path = source.path.display();
        assert!(source.code.starts_with("//!"), "{path} opens with what it owns");
        let lines = source.code.lines().count();
        assert!(lines <= MOST_LINES, "{path} has {lines} lines before its tests, more than {MOST_LINES}");
        let name = source.path.file_stem().unwrap().to_str().unwrap();
        assert!(!["utils", "util", "helpers", "common", "misc", "types"].contains(&name), "{path} says what it holds");
    }
}

#[test]
fn only_the_command_reads_the_environment_and_prints() {
    for source in sources() {
        let path = source.path.display();
        let outside = !matches!(source.room.as_str(), "cli" | "main");
        for line in code_lines(&source) {
            assert!(!(outside && line.contains("env::var")), "{path} reads the environment: {line}");
            for printing in ["println!(", "eprintln!(", "print!("] {
                assert!(!line.contains(printing), "{path} prints: {line}");
            }
            if matches!(source.room.as_str(), "analysis" | "checkpoint" | "report" | "study" | "tensor" | "table") {
                for clock in ["SystemTime::now", "Instant::now", "Timestamp::now", "Zoned::now"] {
                    assert!(!line.contains(clock), "{path} reads the clock: {line}");
                }
                assert!(!line.contains("async fn"), "{path} is asynchronous: {line}");
            }
        }
    }
}

#[test]
fn rooms_are_the_documented_ones() {
    let known: Vec<&str> = arrows().into_keys().collect();
    for room in sources().iter().map(|source| source.room.as_str()) {
        assert!(known.contains(&room) || matches!(room, "lib" | "main" | "cli"), "{room} is in no known room");
    }
    assert!(PRIMITIVES.iter().all(|primitive| known.contains(primitive)));
}
