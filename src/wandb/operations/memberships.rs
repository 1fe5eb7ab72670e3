//! Many names in one question: [`MembershipByName`] for each of them, in one document, with an alias for each.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use serde::{Serialize, Serializer};

use super::{MembershipByName, MembershipNode, Operation};

/// The field that the question about one name asks for; what stands behind it is asked for each of many.
const FIELD: &str = "artifactCollectionMembership(name: $name) ";

/// Names to look up together: by entity and project, `collection:alias` with its place among all names.
#[derive(Debug)]
pub(crate) struct MembershipsByName<'a> {
    projects: BTreeMap<(&'a str, &'a str), Vec<(usize, String)>>,
}

impl<'a> MembershipsByName<'a> {
    /// From entity, project and `collection:alias` of each name.
    pub(crate) fn new(names: impl Iterator<Item = (&'a str, &'a str, String)>) -> Self {
        let mut projects: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (at, (entity, project, lookup)) in names.enumerate() {
            projects.entry((entity, project)).or_default().push((at, lookup));
        }
        Self { projects }
    }
}

/// What is asked about one name, braces included: cut from the checked-in document, so that both ask the same.
fn selection() -> &'static str {
    let document = MembershipByName::DOCUMENT;
    let from = document.find(FIELD).map_or(0, |at| at + FIELD.len());
    let mut depth = 0usize;
    for (at, c) in document[from..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return &document[from..=from + at],
            '}' => depth -= 1,
            _ => {}
        }
    }
    ""
}

impl Operation for MembershipsByName<'_> {
    const NAME: &'static str = "ArtifactMemberships";
    const DOCUMENT: &'static str = MembershipByName::DOCUMENT;
    /// By project, then by name: `p0`, `m0`.
    type Data = HashMap<String, Option<HashMap<String, Option<MembershipNode>>>>;

    fn document(&self) -> Cow<'static, str> {
        let (mut variables, mut fields) = (String::new(), String::new());
        // Writing to a String cannot fail.
        for (project, names) in self.projects.values().enumerate() {
            let _ = write!(variables, "$e{project}: String!, $p{project}: String!, ");
            let _ = writeln!(fields, "  p{project}: project(name: $p{project}, entityName: $e{project}) {{");
            for (at, _) in names {
                let _ = write!(variables, "$n{at}: String!, ");
                let _ = writeln!(fields, "    m{at}: artifactCollectionMembership(name: $n{at}) {{ ...Found }}");
            }
            fields.push_str("  }\n");
        }
        let (name, variables) = (Self::NAME, variables.trim_end_matches(", "));
        let fragment = format!("fragment Found on ArtifactCollectionMembership {}\n", selection());
        Cow::Owned(format!("query {name}({variables}) {{\n{fields}}}\n\n{fragment}"))
    }
}

impl Serialize for MembershipsByName<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let variables = self.projects.iter().enumerate().flat_map(|(project, ((entity, name), names))| {
            let project = [(format!("e{project}"), *entity), (format!("p{project}"), *name)];
            let names = names.iter().map(|(at, lookup)| (format!("n{at}"), lookup.as_str()));
            project.into_iter().chain(names)
        });
        serializer.collect_map(variables)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_project_are_asked_of_it_together() {
        let names = [("e", "p", "a:latest"), ("e", "q", "b:v1"), ("e", "p", "c:v0")];
        let names = names.into_iter().map(|(entity, project, lookup)| (entity, project, lookup.to_owned()));
        let operation = MembershipsByName::new(names);
        let document = operation.document();
        assert_eq!(document.matches(": project(").count(), 2);
        assert_eq!(document.matches("...Found").count(), 3);
        let variables = serde_json::to_value(&operation).unwrap();
        let expected = serde_json::json!({
            "e0": "e", "p0": "p", "n0": "a:latest", "n2": "c:v0", "e1": "e", "p1": "q", "n1": "b:v1",
        });
        assert_eq!(variables, expected);
        assert!(selection().starts_with("{\n      id") && selection().contains("fileCount"));
    }
}
