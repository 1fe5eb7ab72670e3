//! Registries: projects called `wandb-registry-<name>` that belong to a hidden entity of an organisation. Which one is
//! meant by an organisation's name is asked once for each entity. Network I/O through the client only.
//!
//! The rules are the official SDK's (`wandb/sdk/artifacts/_gqlutils.py`, `_resolve_org_info`).

use super::super::Client;
use super::super::error::WandbError;
use super::super::graphql::execute;
use super::super::operations::{OrgEntityNode, OrgInfo, OrgNode};

const PREFIX: &str = "wandb-registry-";

/// Whether a project is a registry.
pub fn is_registry(project: &str) -> bool {
    project.strip_prefix(PREFIX).is_some_and(|name| !name.is_empty())
}

/// The organisations around an entity: as the names people use and the entities that own the registries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::wandb) struct Organizations {
    /// That of a team.
    own: Option<Organization>,
    /// Those of a person.
    of_user: Vec<Organization>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Organization {
    name: String,
    entity: String,
}

impl Organizations {
    fn of_node(node: OrgEntityNode) -> Self {
        let one = |node: OrgNode| Some(Organization { name: node.name, entity: node.org_entity?.name });
        let of_user = node.user.and_then(|user| user.organizations).unwrap_or_default();
        Self { own: node.organization.and_then(one), of_user: of_user.into_iter().flatten().filter_map(one).collect() }
    }

    /// The entity that owns the registries of the organisation that is meant.
    fn pick(&self, given: Option<&str>) -> Result<String, &'static str> {
        let fits = |organization: &&Organization| {
            given.is_none_or(|given| given == organization.name || given == organization.entity)
        };
        if let Some(own) = self.own.as_ref().filter(fits) {
            return Ok(own.entity.clone());
        }
        let fitting: Vec<&Organization> = self.of_user.iter().filter(fits).collect();
        match (fitting.as_slice(), given) {
            ([one], _) | ([one, ..], Some(_)) => Ok(one.entity.clone()),
            // A server that knows no organisations keeps registries under the entity that is named.
            ([], Some(given)) if self.own.is_none() && self.of_user.is_empty() => Ok(given.to_owned()),
            ([], Some(_)) => Err("its organisation is none that this entity belongs to"),
            ([], None) => Err("it names no organisation and this entity belongs to none"),
            (_, None) => Err("it names no organisation and this entity belongs to several"),
        }
    }
}

impl Client {
    /// The entity that owns the registries of the organisation `given`, by its name or that of its entity, or of the one
    /// that `entity` belongs to.
    ///
    /// # Errors
    /// [`WandbError::Name`] when that is none or not just one, or what the request met.
    pub async fn registry_entity(&self, entity: &str, given: Option<&str>) -> Result<String, WandbError> {
        let ask = async {
            let what = format!("the organisation of {entity}");
            let data = execute(self.transport(), &self.budget(), &what, &OrgInfo { entity }).await?;
            Ok::<_, WandbError>(data.entity.map(Organizations::of_node).unwrap_or_default())
        };
        let known = self.organizations().lock().await.get(entity).cloned();
        let organizations = match known {
            Some(known) => known,
            None => {
                let found = ask.await?;
                self.organizations().lock().await.insert(entity.to_owned(), found.clone());
                found
            }
        };
        let text = || given.map_or_else(|| PREFIX.to_owned() + "…", str::to_owned);
        organizations.pick(given).map_err(|reason| WandbError::Name { text: text(), reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_have_a_name() {
        assert!(is_registry("wandb-registry-model"));
        assert!(!is_registry("wandb-registry-") && !is_registry("model-registry") && !is_registry("vectors"));
    }

    #[test]
    fn the_organisation_is_found_as_the_official_client_finds_it() {
        let org = |name: &str| Organization { name: format!("{name} Inc"), entity: format!("{name}-entity") };
        let team = Organizations { own: Some(org("a")), of_user: vec![] };
        let person = Organizations { own: None, of_user: vec![org("a"), org("b")] };
        let of_one = Organizations { own: None, of_user: vec![org("a")] };
        let nobody = Organizations::default();
        for (organizations, given, expected) in [
            (&team, None, Some("a-entity")),
            (&team, Some("a Inc"), Some("a-entity")),
            (&team, Some("a-entity"), Some("a-entity")),
            (&team, Some("b Inc"), None),
            (&person, Some("b Inc"), Some("b-entity")),
            (&person, Some("c Inc"), None),
            (&person, None, None),
            (&of_one, None, Some("a-entity")),
            (&nobody, Some("team"), Some("team")),
            (&nobody, None, None),
        ] {
            assert_eq!(organizations.pick(given).ok().as_deref(), expected, "{organizations:?} {given:?}");
        }
    }
}
