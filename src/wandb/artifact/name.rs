//! Names of artifact versions: `[[entity/]project/]collection[:alias]`, parsed and completed. No I/O.
//!
//! The grammar is the official SDK's (`wandb/sdk/artifacts/_validators.py`): split once at the first `:`, the left side
//! at `/` into one to three parts. Where it leaves a bare collection to the server's guess, we always say `latest`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::super::error::WandbError;

const LATEST: &str = "latest";
const REFERENCE: &str = "wandb-artifact://";
const LONGEST: usize = 128;

/// A name as the user wrote it; entity and project may be missing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ArtifactName {
    entity: Option<String>,
    project: Option<String>,
    collection: String,
    alias: String,
}

/// A name with everything in it: what the server is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct QualifiedName {
    /// User, team or organisation.
    pub entity: String,
    /// Project.
    pub project: String,
    /// Collection.
    pub collection: String,
    /// Alias, version such as `v3`, or digest.
    pub alias: String,
}

impl ArtifactName {
    /// Parses a name. A leading `wandb-artifact://` is allowed; a missing alias is `latest`.
    ///
    /// # Errors
    /// [`WandbError::Name`] saying what is wrong.
    pub fn parse(text: &str) -> Result<Self, WandbError> {
        let refuse = |reason| WandbError::Name { text: text.to_owned(), reason };
        let plain = text.strip_prefix(REFERENCE).unwrap_or(text);
        let (path, alias) = plain.split_once(':').unwrap_or((plain, LATEST));
        let parts: Vec<&str> = path.split('/').collect();
        if parts.iter().any(|part| part.is_empty() || part.trim() != *part) {
            return Err(refuse("a part is empty or has blanks around it"));
        }
        if alias.is_empty() || alias.trim() != alias {
            return Err(refuse("nothing usable follows the colon"));
        }
        if alias.contains(['/', ':']) {
            return Err(refuse("an alias has neither `/` nor `:`"));
        }
        if plain.chars().any(char::is_control) {
            return Err(refuse("it holds a control character"));
        }
        if parts.iter().chain([&alias]).any(|part| part.chars().count() > LONGEST) {
            return Err(refuse("a part is longer than 128 characters"));
        }
        let (entity, project, collection) = match parts.as_slice() {
            [collection] => (None, None, collection),
            [project, collection] => (None, Some(project), collection),
            [entity, project, collection] => (Some(entity), Some(project), collection),
            _ => return Err(refuse("it has more than the three parts entity/project/collection")),
        };
        let own = |part: &&str| (*part).to_owned();
        let (entity, project) = (entity.map(own), project.map(own));
        Ok(Self { entity, project, collection: own(collection), alias: alias.to_owned() })
    }

    /// Fills in what is missing.
    ///
    /// # Errors
    /// [`WandbError::Name`] when a part is missing here and there.
    pub fn with_defaults(&self, entity: Option<&str>, project: Option<&str>) -> Result<QualifiedName, WandbError> {
        let pick = |own: &Option<String>, default: Option<&str>, reason| {
            let given = own.as_deref().or(default).filter(|part| !part.is_empty());
            given.map(str::to_owned).ok_or_else(|| WandbError::Name { text: self.to_string(), reason })
        };
        Ok(QualifiedName {
            entity: pick(&self.entity, entity, "it names no entity and there is no default one")?,
            project: pick(&self.project, project, "it names no project and there is no default one")?,
            collection: self.collection.clone(),
            alias: self.alias.clone(),
        })
    }

    /// The same name in another entity, or in none.
    #[must_use]
    pub fn with_entity(&self, entity: Option<String>) -> Self {
        Self { entity, ..self.clone() }
    }

    /// The entity, where given.
    pub fn entity(&self) -> Option<&str> {
        self.entity.as_deref()
    }

    /// The project, where given.
    pub fn project(&self) -> Option<&str> {
        self.project.as_deref()
    }

    /// The collection.
    pub fn collection(&self) -> &str {
        &self.collection
    }

    /// The alias; `latest` when none was given.
    pub fn alias(&self) -> &str {
        &self.alias
    }
}

impl QualifiedName {
    /// The name of one version.
    pub fn new(entity: &str, project: &str, collection: &str, alias: &str) -> Self {
        let [entity, project, collection, alias] = [entity, project, collection, alias].map(str::to_owned);
        Self { entity, project, collection, alias }
    }

    /// `collection:alias`, as the server wants it.
    pub(crate) fn lookup(&self) -> String {
        format!("{}:{}", self.collection, self.alias)
    }
}

/// Whether an alias is a version such as `v3`, and which.
pub fn version_index(alias: &str) -> Option<u64> {
    let digits = alias.strip_prefix('v')?;
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

impl fmt::Display for ArtifactName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [&self.entity, &self.project].into_iter().flatten() {
            write!(f, "{part}/")?;
        }
        write!(f, "{}:{}", self.collection, self.alias)
    }
}

impl fmt::Display for QualifiedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}:{}", self.entity, self.project, self.collection, self.alias)
    }
}

impl FromStr for ArtifactName {
    type Err = WandbError;
    fn from_str(text: &str) -> Result<Self, WandbError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_to_three_parts_and_an_alias() {
        let full = ArtifactName::parse("gladia/vectors/ViT-B-16_pt:v12").unwrap();
        assert_eq!((full.entity(), full.project()), (Some("gladia"), Some("vectors")));
        assert_eq!((full.collection(), full.alias()), ("ViT-B-16_pt", "v12"));
        let bare = ArtifactName::parse("model").unwrap();
        assert_eq!(bare.with_defaults(Some("e"), Some("p")).unwrap().to_string(), "e/p/model:latest");
        let reference = ArtifactName::parse("wandb-artifact://p/model:best").unwrap();
        assert_eq!(reference.with_defaults(Some("e"), Some("x")).unwrap().to_string(), "e/p/model:best");
        assert_eq!(
            (version_index("v12"), version_index("v"), version_index("v1a"), version_index("+v1")),
            (Some(12), None, None, None)
        );
    }

    #[test]
    fn nonsense_is_refused_with_its_reason() {
        for text in ["", "a/b/c/d", "a//b", "/a", "a/", "a:", "a:b/c", "a:b:c", " a", "a: b", "a\n", &"x".repeat(129)] {
            assert!(matches!(ArtifactName::parse(text), Err(WandbError::Name { .. })), "{text}");
        }
        let error = ArtifactName::parse("p/model").unwrap().with_defaults(None, None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`p/model:latest` is not an artifact name: it names no entity and there is no default one"
        );
    }

    proptest! {
        #[test]
        fn what_parses_prints_as_what_parses_the_same(text in "[a-z/:. -]{0,20}") {
            if let Ok(name) = ArtifactName::parse(&text) {
                prop_assert_eq!(ArtifactName::parse(&name.to_string()).unwrap(), name);
            }
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = ArtifactName::parse(&text);
            let _ = version_index(&text);
        }
    }
}
