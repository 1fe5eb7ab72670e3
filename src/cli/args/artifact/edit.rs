//! What `wandb-pca artifact alias`, `tag` and `edit` take.

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
    /// How long it is kept, such as 30d, or `never-expires`
    #[arg(long, value_name = "AGE", group = "change")]
    pub(crate) ttl: Option<String>,
}
