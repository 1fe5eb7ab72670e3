//! Every GraphQL operation that we send: its document in a `.graphql` file beside, its variables and its answer as types.
//!
//! Answers name only what we read. A field is an `Option` where the schema allows null. No I/O. The documents are
//! validated in the tests below against the embedded server's schema and, where it is beside the checkout, against
//! what is known of the hosted server's.

mod artifact;
mod edit;
mod lineage;
mod listing;
mod memberships;
mod name;
mod run;
mod sweep;
mod upload;

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::retry::Traffic;

pub(super) use artifact::*;
pub(super) use edit::*;
pub(super) use lineage::*;
pub(super) use listing::*;
pub(super) use memberships::*;
pub(super) use name::*;
pub(super) use run::*;
pub(super) use sweep::*;
pub(super) use upload::*;

/// A GraphQL operation; the implementing type is its variables.
pub(super) trait Operation: Serialize {
    const NAME: &'static str;
    const DOCUMENT: &'static str;
    const TRAFFIC: Traffic = Traffic::Api;
    type Data: DeserializeOwned;

    /// The document to send: where it depends on the variables, it is built around [`Self::DOCUMENT`].
    fn document(&self) -> Cow<'static, str> {
        Cow::Borrowed(Self::DOCUMENT)
    }
}

/// Declares an operation: variables type, name, file of the document, answer type.
macro_rules! operation {
    ($variables:ty, $name:literal, $file:literal, $data:ty $(, $traffic:expr)?) => {
        impl $crate::wandb::operations::Operation for $variables {
            const NAME: &'static str = $name;
            const DOCUMENT: &'static str = include_str!($file);
            $(const TRAFFIC: $crate::wandb::retry::Traffic = $traffic;)?
            type Data = $data;
        }
    };
}
pub(super) use operation;

/// A page's edges, as everywhere in Relay connections.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Connection<N> {
    pub(super) edges: Vec<Edge<N>>,
    pub(super) page_info: Option<PageInfo>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Edge<N> {
    pub(super) node: Option<N>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageInfo {
    pub(super) end_cursor: Option<String>,
    pub(super) has_next_page: bool,
}

impl<N> Connection<N> {
    /// The nodes, and the cursor of the next page when there is one.
    pub(super) fn into_page(self) -> (Vec<N>, Option<String>) {
        let next = self.page_info.filter(|page| page.has_next_page).and_then(|page| page.end_cursor);
        (self.edges.into_iter().filter_map(|edge| edge.node).collect(), next)
    }
}

/// An object of which only the name matters.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Named {
    pub(super) name: String,
}

/// An object of which only the id matters.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Identified {
    pub(super) id: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use apollo_compiler::validation::Valid;
    use apollo_compiler::{ExecutableDocument, Schema};
    use std::path::Path;

    fn documents() -> Vec<(&'static str, &'static str)> {
        fn of<O: Operation>() -> (&'static str, &'static str) {
            (O::NAME, O::DOCUMENT)
        }
        vec![
            of::<Viewer>(),
            of::<MembershipByName<'_>>(),
            of::<ArtifactById<'_>>(),
            of::<FetchManifest<'_>>(),
            of::<MembershipFiles<'_>>(),
            of::<CreateArtifact<'_>>(),
            of::<CreateManifest<'_>>(),
            of::<CreateFiles<'_>>(),
            of::<CompleteMultipart<'_>>(),
            of::<CommitArtifact<'_>>(),
            of::<UpdateManifest<'_>>(),
            of::<LinkArtifact<'_>>(),
            of::<ServerFeatures>(),
            of::<XxhDigestsEnabled<'_>>(),
            of::<DigestAlgorithm<'_>>(),
            of::<UseArtifact<'_>>(),
            of::<UpsertBucket>(),
            of::<RunResumeStatus<'_>>(),
            of::<CreateRunFiles<'_>>(),
            of::<NotifyAlert<'_>>(),
            of::<CreateChart<'_>>(),
            of::<HistoryPage<'_>>(),
            of::<Collections<'_>>(),
            of::<Versions<'_>>(),
            of::<NamesNear<'_>>(),
            of::<EntityProjects<'_>>(),
            of::<OrgInfo<'_>>(),
            of::<ArtifactLineage<'_>>(),
            of::<RunInputs<'_>>(),
            of::<RunOutputs<'_>>(),
            of::<CollectionByName<'_>>(),
            of::<UpdateArtifact<'_>>(),
            of::<DeleteArtifact<'_>>(),
            of::<UnlinkArtifact<'_>>(),
            of::<AddAliases<'_>>(),
            of::<DeleteAliases<'_>>(),
            of::<UpsertSweep<'_>>(),
            of::<SweepWithRuns<'_>>(),
            of::<EditRun<'_>>(),
            of::<CreateAgent<'_>>(),
            of::<Heartbeat<'_>>(),
        ]
    }

    /// Documents that are built for their variables.
    fn generated() -> Vec<(&'static str, String)> {
        let names = |count: usize| {
            let name = |at: usize| ("e", if at.is_multiple_of(3) { "p" } else { "q" }, format!("c{at}:latest"));
            MembershipsByName::new((0..count).map(name)).document().into_owned()
        };
        vec![("one name", names(1)), ("two names", names(2)), ("many names", names(50))]
    }

    fn fits(schema: &Valid<Schema>) {
        let generated = generated();
        let all = documents().into_iter().chain(generated.iter().map(|(name, text)| (*name, text.as_str())));
        for (name, document) in all {
            if let Err(errors) = ExecutableDocument::parse_and_validate(schema, document, name) {
                panic!("{name}: {}", errors.errors);
            }
        }
    }

    #[test]
    fn every_document_is_here_and_bears_its_name() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/wandb/operations");
        let files = std::fs::read_dir(folder)
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "graphql"));
        // Two operations may send one document.
        let distinct: std::collections::BTreeSet<&str> = documents().iter().map(|(_, document)| *document).collect();
        assert_eq!(files.count(), distinct.len());
        for (name, document) in documents() {
            let head = document.split(['(', '{']).next().unwrap().trim();
            assert_eq!(head.split(' ').nth(1), Some(name));
        }
    }

    #[test]
    fn documents_fit_the_embedded_servers_schema() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/server/schema.graphql");
        let Ok(text) = std::fs::read_to_string(&path) else { return };
        let schema = Schema::parse_and_validate(text, path).unwrap();
        fits(&schema);
    }

    #[test]
    fn documents_fit_what_is_known_of_the_hosted_schema() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/wandb-api/schema-facts.json");
        let Ok(text) = std::fs::read(path) else { return };
        let facts: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let schema = Schema::parse_and_validate(sdl(&facts["types"]), "facts.graphql").unwrap();
        fits(&schema);
    }

    /// The part of the recorded facts that our documents reach, as a schema definition.
    fn sdl(types: &serde_json::Value) -> String {
        use std::fmt::Write as _;
        let types = types.as_object().unwrap();
        let base = |text: &str| text.trim_matches(['[', ']', '!']).replace(['[', ']', '!'], "");
        let (mut text, mut wanted, mut done) =
            (String::new(), vec!["Query".to_owned(), "Mutation".to_owned()], Vec::new());
        while let Some(name) = wanted.pop() {
            if done.contains(&name) || ["String", "Int", "Float", "Boolean", "ID"].contains(&name.as_str()) {
                continue;
            }
            done.push(name.clone());
            let Some(fact) = types.get(&name) else {
                writeln!(text, "scalar {name}").unwrap();
                continue;
            };
            let kind = fact["kind"].as_str().unwrap();
            if kind == "SCALAR" {
                writeln!(text, "scalar {name}").unwrap();
                continue;
            }
            let list = |key: &str| -> Vec<String> {
                let of = |v: &serde_json::Value| v.as_str().unwrap().to_owned();
                fact[key].as_array().map(|values| values.iter().map(of).collect()).unwrap_or_default()
            };
            if kind == "ENUM" {
                writeln!(text, "enum {name} {{ {} }}", list("values").join(" ")).unwrap();
                continue;
            }
            if kind == "UNION" {
                let members = ["members", "possibleTypes", "types"].iter().map(|key| list(key)).find(|m| !m.is_empty());
                let members = members.unwrap_or_default();
                writeln!(text, "union {name} = {}", members.join(" | ")).unwrap();
                wanted.extend(members);
                continue;
            }
            let keyword = match kind {
                "INPUT" => "input",
                "INTERFACE" => "interface",
                _ => "type",
            };
            let interfaces = list("interfaces");
            let above =
                if interfaces.is_empty() { String::new() } else { format!(" implements {}", interfaces.join(" & ")) };
            wanted.extend(interfaces);
            if kind == "INTERFACE" {
                let below = |fact: &serde_json::Value| {
                    fact["interfaces"].as_array().is_some_and(|above| above.iter().any(|above| *above == name))
                };
                wanted.extend(types.iter().filter(|(_, fact)| below(fact)).map(|(name, _)| name.clone()));
            }
            writeln!(text, "{keyword} {name}{above} {{").unwrap();
            for (field, fact) in fact["fields"].as_object().unwrap() {
                if let Some(of) = fact.as_str() {
                    writeln!(text, "  {field}: {of}").unwrap();
                    wanted.push(base(of));
                    continue;
                }
                let of = fact["type"].as_str().unwrap();
                wanted.push(base(of));
                let mut arguments = Vec::new();
                for (argument, of) in fact["args"].as_object().into_iter().flatten() {
                    let of = of.as_str().unwrap();
                    wanted.push(base(of));
                    arguments.push(format!("{argument}: {of}"));
                }
                let arguments =
                    if arguments.is_empty() { String::new() } else { format!("({})", arguments.join(", ")) };
                writeln!(text, "  {field}{arguments}: {of}").unwrap();
            }
            writeln!(text, "}}").unwrap();
        }
        text
    }
}
