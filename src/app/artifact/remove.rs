//! Removes versions: which ones (a pure plan), then one after another. A link is unlinked, never deleted at its source.

use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;

use crate::app::error::AppError;
use crate::app::session::Session;
use crate::wandb::{Artifact, ArtifactName, WandbError};

use super::age::is_older;

/// Requests under way at a time.
const TOGETHER: usize = 8;

/// What is to be considered.
#[derive(Debug, Clone)]
pub enum Selection {
    /// These versions.
    Names(Vec<ArtifactName>),
    /// Every version of this collection.
    Collection(ArtifactName),
}

/// What may go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RemovalRules {
    /// Only versions made this long ago or longer.
    pub older_than: Option<Duration>,
    /// The newest so many stay.
    pub keep_last: usize,
    /// What aliases mean.
    pub aliases: AliasRule,
}

/// What happens to a version that has aliases.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AliasRule {
    /// It is refused, and nothing is removed.
    #[default]
    Refuse,
    /// It stays.
    Keep,
    /// It goes, and its aliases with it.
    Delete,
}

/// What is to happen to a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fate {
    /// It is deleted.
    Delete,
    /// It is a link, which is taken away; its source stays.
    Unlink,
    /// It stays.
    Keep(KeepReason),
    /// It was asked for but has aliases, and nobody said what to do with those.
    Refuse,
}

impl Fate {
    /// Whether the version goes.
    pub fn goes(self) -> bool {
        matches!(self, Self::Delete | Self::Unlink)
    }
}

/// Why a version stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeepReason {
    /// It is among the newest.
    Newest,
    /// It is not old enough.
    Young,
    /// It has aliases.
    Aliases,
}

/// A version and what is to happen to it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Planned {
    /// The version.
    pub artifact: Artifact,
    /// What is to happen.
    pub fate: Fate,
}

/// What became of a version that was to go.
#[derive(Debug)]
#[non_exhaustive]
pub struct Removal {
    /// The version.
    pub artifact: Artifact,
    /// Nothing when it is gone.
    pub failure: Option<WandbError>,
}

/// Decides what happens to each version, in the order given.
pub fn plan(versions: Vec<Artifact>, rules: &RemovalRules, now: Timestamp) -> Vec<Planned> {
    let mut indices: Vec<u64> = versions.iter().map(index).collect();
    indices.sort_unstable_by(|a, b| b.cmp(a));
    // Versions from this one on are the newest that stay.
    let newest = rules.keep_last.checked_sub(1).map(|last| indices.get(last).copied().unwrap_or(0));
    let fate = |artifact: &Artifact| {
        if newest.is_some_and(|newest| index(artifact) >= newest) {
            return Fate::Keep(KeepReason::Newest);
        }
        if rules.older_than.is_some_and(|age| !is_older(&artifact.created_at, age, now)) {
            return Fate::Keep(KeepReason::Young);
        }
        match rules.aliases {
            AliasRule::Refuse if !artifact.aliases.is_empty() => Fate::Refuse,
            AliasRule::Keep if !artifact.aliases.is_empty() => Fate::Keep(KeepReason::Aliases),
            _ if artifact.name() != artifact.source => Fate::Unlink,
            _ => Fate::Delete,
        }
    };
    versions.into_iter().map(|artifact| Planned { fate: fate(&artifact), artifact }).collect()
}

fn index(artifact: &Artifact) -> u64 {
    artifact.version.strip_prefix('v').and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// The versions that are considered, each once, and what is to happen to them. Changes nothing.
///
/// # Errors
/// [`AppError::Wandb`] naming what could not be found.
pub async fn select(session: &Session, selection: &Selection, rules: &RemovalRules) -> Result<Vec<Planned>, AppError> {
    let versions = match selection {
        Selection::Collection(name) => super::list::versions(session, name, &super::ListFilter::default()).await?,
        Selection::Names(names) => {
            let found = names.iter().map(async |name| {
                let client = session.online(name)?;
                let name = session.qualify(name).await?;
                client.artifact(&name).await.map_err(AppError::wandb(format!("resolve {name}")))
            });
            let mut found: Vec<Artifact> = stream::iter(found).buffered(TOGETHER).try_collect().await?;
            let mut seen = std::collections::HashSet::new();
            found.retain(|artifact| seen.insert(artifact.name()));
            found
        }
    };
    Ok(plan(versions, rules, Timestamp::now()))
}

/// Removes what the plan says goes; one failure does not stop the others.
///
/// # Errors
/// [`AppError::Offline`]. What W&B says to single versions is in the answer.
pub async fn remove(session: &Session, planned: &[Planned], aliases: AliasRule) -> Result<Vec<Removal>, AppError> {
    let client = session.online("an artifact to remove")?;
    let going = planned.iter().filter(|planned| planned.fate.goes()).map(async |planned| {
        let artifact = planned.artifact.clone();
        let done = match planned.fate {
            Fate::Unlink => client.unlink(&artifact).await,
            _ => client.delete(&artifact, aliases == AliasRule::Delete).await,
        };
        Removal { artifact, failure: done.err() }
    });
    Ok(stream::iter(going).buffered(TOGETHER).collect().await)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wandb::QualifiedName;

    /// A version made on a day of January, found in `collection`.
    fn version(collection: &str, index: u64, aliases: &[&str]) -> Artifact {
        let version = format!("v{index}");
        Artifact {
            id: version.clone(),
            entity: "e".to_owned(),
            project: "p".to_owned(),
            collection: collection.to_owned(),
            source: QualifiedName::new("e", "p", "own", &version),
            version,
            artifact_type: "checkpoint".to_owned(),
            digest: String::new(),
            size: 0,
            file_count: 0,
            aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
            tags: Vec::new(),
            description: None,
            metadata: serde_json::Map::new(),
            ttl_seconds: None,
            created_at: format!("2026-01-{:02}T00:00:00Z", index + 1),
            updated_at: None,
        }
    }

    #[test]
    fn the_plan_says_what_goes_and_why_the_rest_stays() {
        let now = "2026-01-10T00:00:00Z".parse().unwrap();
        let days = |days: u64| Some(Duration::from_secs(days * 86_400));
        let rules = |older_than, keep_last, aliases| RemovalRules { older_than, keep_last, aliases };
        // v0 bare, v1 with an alias, v2 bare, v3 the latest; made on the first to the fourth.
        let all = || {
            let named: [&[&str]; 4] = [&[], &["best"], &[], &["latest"]];
            named.iter().enumerate().rev().map(|(index, aliases)| version("own", index as u64, aliases)).collect()
        };
        use Fate::{Delete, Refuse};
        let keep = Fate::Keep;
        for (rules, expected) in [
            (rules(None, 0, AliasRule::Refuse), [Delete, Refuse, Delete, Refuse]),
            (rules(None, 0, AliasRule::Keep), [Delete, keep(KeepReason::Aliases), Delete, keep(KeepReason::Aliases)]),
            (rules(None, 0, AliasRule::Delete), [Delete; 4]),
            (
                rules(None, 2, AliasRule::Keep),
                [Delete, keep(KeepReason::Aliases), keep(KeepReason::Newest), keep(KeepReason::Newest)],
            ),
            (rules(days(8), 0, AliasRule::Delete), [Delete, Delete, keep(KeepReason::Young), keep(KeepReason::Young)]),
            (
                rules(days(9), 0, AliasRule::Refuse),
                [Delete, keep(KeepReason::Young), keep(KeepReason::Young), keep(KeepReason::Young)],
            ),
            (rules(None, 9, AliasRule::Delete), [keep(KeepReason::Newest); 4]),
        ] {
            let mut fates: Vec<Fate> = plan(all(), &rules, now).into_iter().map(|planned| planned.fate).collect();
            fates.reverse();
            assert_eq!(fates, expected, "{rules:?}");
        }
    }

    #[test]
    fn a_link_is_unlinked() {
        let planned = plan(vec![version("portfolio", 0, &[])], &RemovalRules::default(), Timestamp::UNIX_EPOCH);
        assert_eq!(planned[0].fate, Fate::Unlink);
    }
}
