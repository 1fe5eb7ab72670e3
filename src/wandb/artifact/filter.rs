//! Which entries of an artifact are wanted: globs to include and to exclude. No I/O.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::super::error::WandbError;

/// Globs over entry paths; `*` stops at `/`, `**` does not. Nothing to include means everything.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    include: Option<GlobSet>,
    exclude: Option<GlobSet>,
}

impl Filter {
    /// Everything.
    pub fn all() -> Self {
        Self::default()
    }

    /// Entries that match one of `include` (or anything when it is empty) and none of `exclude`.
    ///
    /// # Errors
    /// [`WandbError::Option`] for a glob that does not parse.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, WandbError> {
        Ok(Self { include: set("include", include)?, exclude: set("exclude", exclude)? })
    }

    /// Whether the entry is wanted.
    pub fn wants(&self, path: &str) -> bool {
        self.include.as_ref().is_none_or(|set| set.is_match(path))
            && !self.exclude.as_ref().is_some_and(|set| set.is_match(path))
    }
}

fn set(option: &'static str, globs: &[String]) -> Result<Option<GlobSet>, WandbError> {
    if globs.is_empty() {
        return Ok(None);
    }
    let refuse = |error: globset::Error| WandbError::Option { option, reason: error.to_string() };
    let mut builder = GlobSetBuilder::new();
    for glob in globs {
        builder.add(GlobBuilder::new(glob).literal_separator(true).build().map_err(refuse)?);
    }
    builder.build().map(Some).map_err(refuse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_choose_entries() {
        let globs = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let filter = Filter::new(&globs(&["*.ckpt", "logs/**"]), &globs(&["**/secret*"])).unwrap();
        for (path, wanted) in [
            ("trained.ckpt", true),
            ("deep/trained.ckpt", false),
            ("logs/a/b.txt", true),
            ("logs/a/secret.txt", false),
            ("readme", false),
        ] {
            assert_eq!(filter.wants(path), wanted, "{path}");
        }
        assert!(Filter::all().wants("anything/at all"));
        assert!(matches!(Filter::new(&globs(&["a[b"]), &[]), Err(WandbError::Option { option: "include", .. })));
    }
}
