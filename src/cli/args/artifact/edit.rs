//! What the verbs take that change a version: `wandb-pca artifact alias`, `tag`, `edit`, `link` and `unlink`.

use clap::{ArgGroup, Args};

/// `artifact alias`
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("change").required(true).multiple(true)))]
pub(crate) struct Alias {
    /// entity/project/name:alias
    pub(crate) artifact: String,
    /// Point an alias at it; repeat for several
    #[arg(long, value_name = "ALIAS", group = "change")]
    pub(crate) add: Vec<String>,
    /// Take an alias away from it; repeat for several
    #[arg(long, value_name = "ALIAS", group = "change")]
    pub(crate) remove: Vec<String>,
}

/// `artifact tag`
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("change").required(true).multiple(true)))]
pub(crate) struct Tag {
    /// entity/project/name:alias
    pub(crate) artifact: String,
    /// Add a tag; repeat for several
    #[arg(long, value_name = "TAG", group = "change")]
    pub(crate) add: Vec<String>,
    /// Remove a tag; repeat for several
    #[arg(long, value_name = "TAG", group = "change")]
    pub(crate) remove: Vec<String>,
}

/// `artifact edit`
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("change").required(true).multiple(true)))]
pub(crate) struct Edit {
    /// entity/project/name:alias
    pub(crate) artifact: String,
    /// A new description
    #[arg(long, short, group = "change")]
    pub(crate) description: Option<String>,
    /// New metadata, a JSON object in place of all the old
    #[arg(long, value_name = "JSON", group = "change")]
    pub(crate) metadata: Option<String>,
    /// How long it is kept from when it was made, such as 30d; or never to keep it for ever
    #[arg(long, value_name = "TIME", group = "change")]
    pub(crate) ttl: Option<String>,
}

/// `artifact link`
#[derive(Debug, Args)]
pub(crate) struct LinkTo {
    /// entity/project/name:alias
    pub(crate) artifact: String,
    /// The collection to link it into: entity/project/collection[:alias]
    pub(crate) target: String,
}

/// `artifact unlink`
#[derive(Debug, Args)]
pub(crate) struct Unlink {
    /// The link: entity/project/collection:alias
    pub(crate) artifact: String,
}
