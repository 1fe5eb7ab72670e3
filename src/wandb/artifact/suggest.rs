//! What to tell somebody whose artifact name leads nowhere: which project, collection, version or alias exists instead.
//! Asks the server only after it said "not found", and never lets that question hide the answer.

use std::fmt;

use super::super::Client;
use super::super::error::WandbError;
use super::super::graphql::execute;
use super::super::operations::{EntityProjects, NamesNear};
use super::name::{QualifiedName, version_index};

/// Names asked for; a project with more has more than anybody reads.
const MOST: usize = 100;
/// Names shown.
const SHOWN: usize = 5;

/// What exists near a name that does not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Suggestions {
    /// Projects of the entity, the most similar first; empty when the project exists.
    pub projects: Vec<String>,
    /// Collections of the project, the most similar first; empty when the collection exists.
    pub collections: Vec<String>,
    /// Versions of the collection, such as `v3`, newest first.
    pub versions: Vec<String>,
    /// Aliases in the collection.
    pub aliases: Vec<String>,
}

impl Suggestions {
    fn is_empty(&self) -> bool {
        [&self.projects, &self.collections, &self.versions, &self.aliases].iter().all(|names| names.is_empty())
    }
}

/// A half-sentence for the end of a message.
impl fmt::Display for Suggestions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &[String]| {
            let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
            if names.len() > SHOWN { format!("{shown}, …") } else { shown }
        };
        if !self.projects.is_empty() {
            return write!(f, "projects there: {}", list(&self.projects));
        }
        if !self.collections.is_empty() {
            return write!(f, "artifacts there: {}", list(&self.collections));
        }
        write!(f, "it has {}", list(&self.versions))?;
        if self.aliases.is_empty() { Ok(()) } else { write!(f, " and the aliases {}", list(&self.aliases)) }
    }
}

impl Client {
    /// Adds to an error that says "not found" what exists instead, where the server tells. Any other error, and this one
    /// when there is nothing to add, comes back as it was.
    pub async fn explain(&self, name: &QualifiedName, error: WandbError) -> WandbError {
        if !matches!(error, WandbError::NotFound { .. }) {
            return error;
        }
        match self.near(name).await {
            Ok(suggestions) if !suggestions.is_empty() => {
                WandbError::NoSuchName { what: error.to_string(), suggestions: Box::new(suggestions) }
            }
            Ok(_) => error,
            Err(trouble) => {
                tracing::debug!(error = %trouble, "what exists near {name} is not known");
                error
            }
        }
    }

    async fn near(&self, name: &QualifiedName) -> Result<Suggestions, WandbError> {
        let QualifiedName { entity, project, collection, .. } = name;
        let what = format!("what there is near {name}");
        let variables = NamesNear { entity, project, collection, most: MOST };
        let data = execute(self.transport(), &self.budget(), &what, &variables).await?;
        let Some(found) = data.project else {
            let variables = EntityProjects { entity, most: MOST };
            let data = execute(self.transport(), &self.budget(), &what, &variables).await?;
            let projects = data.models.map(|models| models.into_page().0).unwrap_or_default();
            let projects = projects.into_iter().map(|project| project.name).collect();
            return Ok(Suggestions { projects: by_likeness(project, projects), ..Suggestions::default() });
        };
        let Some(here) = found.artifact_collection else {
            let all = found.artifact_collections.map(|all| all.into_page().0).unwrap_or_default();
            let collections = by_likeness(collection, all.into_iter().map(|collection| collection.name).collect());
            return Ok(Suggestions { collections, ..Suggestions::default() });
        };
        let versions = here.artifacts.map(|page| page.edges).unwrap_or_default();
        let aliases = here.aliases.map(|aliases| aliases.into_page().0).unwrap_or_default();
        let mut aliases: Vec<String> =
            aliases.into_iter().map(|node| node.alias).filter(|alias| version_index(alias).is_none()).collect();
        aliases.sort();
        aliases.dedup();
        let versions = versions.into_iter().map(|edge| edge.version).collect();
        Ok(Suggestions { versions, aliases, ..Suggestions::default() })
    }
}

/// The candidates, the most similar to `word` first.
fn by_likeness(word: &str, mut candidates: Vec<String>) -> Vec<String> {
    candidates.sort();
    candidates.dedup();
    candidates.sort_by_cached_key(|candidate| distance(&word.to_lowercase(), &candidate.to_lowercase()));
    candidates
}

/// Characters to insert, remove or change (Levenshtein), two changed places for one swap of neighbours included.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let changed = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn own(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_most_similar_name_comes_first() {
        let all = own(&["data", "ViT-B-32", "vit-b-16", "model"]);
        assert_eq!(by_likeness("ViT-B-16", all.clone())[0], "vit-b-16");
        assert_eq!(by_likeness("modle", all)[0], "model");
        assert_eq!((distance("", "abc"), distance("kitten", "sitting"), distance("é", "e")), (3, 3, 1));
    }

    #[test]
    fn suggestions_read_as_the_end_of_a_sentence() {
        let of = |projects: &[&str], collections: &[&str], versions: &[&str], aliases: &[&str]| {
            let [projects, collections, versions, aliases] = [projects, collections, versions, aliases].map(own);
            Suggestions { projects, collections, versions, aliases }.to_string()
        };
        assert_eq!(of(&["a", "b"], &[], &[], &[]), "projects there: a, b");
        assert_eq!(of(&[], &["a", "b", "c", "d", "e", "f"], &[], &[]), "artifacts there: a, b, c, d, e, …");
        assert_eq!(of(&[], &[], &["v1", "v0"], &["latest"]), "it has v1, v0 and the aliases latest");
    }

    proptest! {
        #[test]
        fn a_distance_is_one(a in "[ab]{0,6}", b in "[ab]{0,6}", c in "[ab]{0,6}") {
            prop_assert_eq!(distance(&a, &b), distance(&b, &a));
            prop_assert_eq!(distance(&a, &b) == 0, a == b);
            prop_assert!(distance(&a, &c) <= distance(&a, &b) + distance(&b, &c));
        }
    }
}
