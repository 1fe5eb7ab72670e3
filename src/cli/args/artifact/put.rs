//! What `wandb-pca artifact put` takes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use wandb_pca::wandb::MOST_OBJECTS;

/// `artifact put`
#[derive(Debug, Args)]
pub(crate) struct Put {
    /// Files and folders. A file goes under its name, a folder's files under their paths from there; links are followed
    #[arg(required_unless_present_any = ["reference", "remove"])]
    pub(crate) paths: Vec<PathBuf>,
    /// Where to: [entity/]project/name, or the id of a version whose collection is meant
    #[arg(long, short, value_name = "NAME")]
    pub(crate) name: String,
    /// Type of the artifact
    #[arg(long = "type", short, default_value = "dataset", value_name = "TYPE")]
    pub(crate) kind: String,
    /// Aliases besides `latest`
    #[arg(long, short, value_name = "ALIAS")]
    pub(crate) alias: Vec<String>,
    /// Tags
    #[arg(long, value_name = "TAG")]
    pub(crate) tag: Vec<String>,
    /// Description
    #[arg(long, short)]
    pub(crate) description: Option<String>,
    /// Metadata: a JSON object, or @FILE with one
    #[arg(long, value_name = "JSON")]
    pub(crate) metadata: Option<String>,
    /// How long the version is kept: a number and s, m, h, d or w, such as 30d; or never to keep it for ever
    #[arg(long, value_name = "TIME")]
    pub(crate) ttl: Option<String>,
    /// Only these files of a folder (`*` stops at `/`, `**` does not)
    #[arg(long, value_name = "GLOB")]
    pub(crate) include: Vec<String>,
    /// Not these files of a folder
    #[arg(long, value_name = "GLOB")]
    pub(crate) exclude: Vec<String>,
    /// An entry that points at an address instead of holding bytes: http(s), file, wandb-artifact, and with the feature
    /// `cloud` s3, gs and Azure; a folder or prefix becomes an entry for each file or object
    #[arg(long, value_name = "[PATH=]URI")]
    pub(crate) reference: Vec<String>,
    /// Record references without looking at what they point at (schemes that nobody fetches need it)
    #[arg(long, requires = "reference")]
    pub(crate) no_checksum: bool,
    /// Refuse a reference that stands for more objects or files
    #[arg(long, requires = "reference", value_name = "COUNT", default_value_t = MOST_OBJECTS)]
    pub(crate) max_objects: usize,
    /// Start from a version of the collection, such as latest or v3: its other entries stay
    #[arg(long, value_name = "VERSION")]
    pub(crate) base: Option<String>,
    /// Leave this entry of the base out
    #[arg(long, value_name = "PATH", requires = "base", conflicts_with = "incremental")]
    pub(crate) remove: Vec<String>,
    /// Announce only what is added; the server lays it over the base, or over the latest version
    #[arg(long)]
    pub(crate) incremental: bool,
    /// How files are hashed; MD5 is used where the server or the collection does not take XXH128
    #[arg(long, value_enum, default_value_t = Digest::Md5, value_name = "ALGORITHM")]
    pub(crate) digest: Digest,
    /// Link the version into a collection too: entity/project/collection[:alias]
    #[arg(long, value_name = "NAME")]
    pub(crate) link_to: Vec<String>,
    /// Do nothing when the latest version has the same content
    #[arg(long)]
    pub(crate) if_changed: bool,
    /// Hash everything and say what would be uploaded; send nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// How files are hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Digest {
    /// MD5, which every server takes
    Md5,
    /// XXH128, which is faster
    Xxh128,
}
