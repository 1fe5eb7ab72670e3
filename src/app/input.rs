//! What the user points at: local files or artifacts, with `{seed}` where the seed goes. Text to values, no I/O but the
//! question whether a file exists.

use std::path::{Path, PathBuf};

use crate::wandb::{ArtifactName, WandbError};

/// Where `{seed}` stands in a template.
const SEED: &str = "{seed}";

/// One checkpoint to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A file on this machine.
    File(PathBuf),
    /// An artifact.
    Artifact(ArtifactName),
}

/// A text that names no input, or seeds that are none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// Neither a file that exists nor an artifact name.
    #[error("`{text}` is neither an existing file nor an artifact name")]
    Neither {
        /// What was given.
        text: String,
        /// Why it is not an artifact name.
        #[source]
        source: Box<WandbError>,
    },
    /// Looks like a path, but nothing is there.
    #[error("no file at `{text}`")]
    NoFile {
        /// What was given.
        text: String,
    },
    /// `{seed}` without seeds.
    #[error("`{template}` has {{seed}} in it, but no seeds were given")]
    NoSeeds {
        /// What was given.
        template: String,
    },
    /// Seeds without `{seed}`.
    #[error("seeds were given, but `{template}` has no {{seed}} in it")]
    NoPlaceholder {
        /// What was given.
        template: String,
    },
    /// Not a list of seeds.
    #[error("`{text}` is not a list of seeds")]
    BadSeeds {
        /// What was given.
        text: String,
    },
    /// The same seed twice, which would count one checkpoint twice.
    #[error("seed {seed} is listed twice")]
    RepeatedSeed {
        /// The seed.
        seed: u64,
    },
}

impl Input {
    /// A file where one exists, otherwise an artifact name.
    ///
    /// # Errors
    /// [`InputError`] saying why it is neither.
    pub fn parse(text: &str) -> Result<Self, InputError> {
        if Path::new(text).exists() {
            return Ok(Self::File(PathBuf::from(text)));
        }
        if looks_like_a_path(text) {
            return Err(InputError::NoFile { text: text.to_owned() });
        }
        ArtifactName::parse(text)
            .map(Self::Artifact)
            .map_err(|source| InputError::Neither { text: text.to_owned(), source: Box::new(source) })
    }
}

impl std::fmt::Display for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Artifact(name) => write!(f, "{name}"),
        }
    }
}

/// The fine-tuned checkpoints, each with its seed where it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seeded {
    /// The seed; `None` for inputs that were listed one by one.
    pub seed: Option<u64>,
    /// The checkpoint.
    pub input: Input,
}

/// Expands templates over seeds.
///
/// # Errors
/// [`InputError`] for seeds without a place, a place without seeds, or an input that is none.
pub fn expand(templates: &[String], seeds: Option<&[u64]>) -> Result<Vec<Seeded>, InputError> {
    let mut expanded = Vec::new();
    for template in templates {
        match (template.contains(SEED), seeds) {
            (true, None) => return Err(InputError::NoSeeds { template: template.clone() }),
            (true, Some(seeds)) => {
                for &seed in seeds {
                    let input = Input::parse(&template.replace(SEED, &seed.to_string()))?;
                    expanded.push(Seeded { seed: Some(seed), input });
                }
            }
            (false, Some(_)) => return Err(InputError::NoPlaceholder { template: template.clone() }),
            (false, None) => expanded.push(Seeded { seed: None, input: Input::parse(template)? }),
        }
    }
    Ok(expanded)
}

/// Reads seeds: `0..9` is zero to nine, both included; `0,3,7` and `0..4,8` are lists.
///
/// # Errors
/// [`InputError::BadSeeds`] or [`InputError::RepeatedSeed`].
pub fn parse_seeds(text: &str) -> Result<Vec<u64>, InputError> {
    /// More seeds than anybody trains, few enough to hold.
    const MOST: u64 = 100_000;
    let bad = || InputError::BadSeeds { text: text.to_owned() };
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| bad());
    let mut seeds = Vec::new();
    for part in text.split(',') {
        match part.split_once("..") {
            None => seeds.push(number(part)?),
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last.trim_start_matches('='))?);
                if first > last || last - first >= MOST {
                    return Err(bad());
                }
                seeds.extend(first..=last);
            }
        }
    }
    let mut sorted = seeds.clone();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(InputError::RepeatedSeed { seed: pair[0] }),
        None => Ok(seeds),
    }
}

/// A text with a file's ending or a path's beginning is meant as a path.
fn looks_like_a_path(text: &str) -> bool {
    let endings = [".ckpt", ".pt", ".pth", ".bin", ".safetensors", ".zip", ".json"];
    text.starts_with(['/', '.', '~', '\\']) || endings.iter().any(|ending| text.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_ranges_with_both_ends_and_lists() {
        assert_eq!(parse_seeds("0..9").unwrap(), (0..=9).collect::<Vec<_>>());
        assert_eq!(parse_seeds("3, 1,5..6").unwrap(), [3, 1, 5, 6]);
        for bad in ["", "a", "9..0", "1..", "0..99999999999", "-1"] {
            assert!(matches!(parse_seeds(bad), Err(InputError::BadSeeds { .. })), "{bad}");
        }
        assert!(matches!(parse_seeds("1,0..3"), Err(InputError::RepeatedSeed { seed: 1 })));
    }

    #[test]
    fn files_win_over_names_and_missing_files_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.ckpt");
        std::fs::write(&file, "x").unwrap();
        assert_eq!(Input::parse(file.to_str().unwrap()).unwrap(), Input::File(file.clone()));
        assert!(matches!(Input::parse("missing/0/trained.ckpt"), Err(InputError::NoFile { .. })));
        assert!(matches!(Input::parse("e/p/name:v1"), Ok(Input::Artifact(_))));
        assert!(matches!(Input::parse("a/b/c/d:v1"), Err(InputError::Neither { .. })));
    }

    #[test]
    fn templates_and_seeds_belong_together() {
        let template = vec!["e/p/m_{seed}:latest".to_owned()];
        let expanded = expand(&template, Some(&[0, 2])).unwrap();
        assert_eq!(expanded.iter().map(|s| s.seed).collect::<Vec<_>>(), [Some(0), Some(2)]);
        assert!(expanded[1].input.to_string().contains("m_2"));
        assert!(matches!(expand(&template, None), Err(InputError::NoSeeds { .. })));
        assert!(matches!(expand(&["e/p/m:v0".to_owned()], Some(&[0])), Err(InputError::NoPlaceholder { .. })));
    }
}
