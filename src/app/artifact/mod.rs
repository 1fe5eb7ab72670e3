//! Artifacts as such: one verb a file.

mod age;
mod describe;
mod edit;
mod get;
mod lineage;
mod list;
mod put;
mod remove;
mod verify;

pub use describe::{Description, Presence, describe, info, presence};
pub use edit::{edit, link, unlink};
pub use get::{Destination, GetOptions, Got, GotFile, get};
pub use lineage::{Graph, GraphEdge, GraphLimits, GraphNode, Relation, lineage};
pub use list::{ListFilter, collection_table, collections, version_table, versions};
pub use put::{Base, Put, PutOptions, PutPlan, Unchanged, plan_put, put};
pub use remove::{AliasRule, Fate, KeepReason, Planned, Removal, RemovalRules, Selection, plan, remove, select};
pub use verify::{Against, Checked, FileState, Verification, verify};
