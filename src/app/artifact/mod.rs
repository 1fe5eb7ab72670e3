//! Artifacts as such: one verb a file.

mod describe;
mod get;
mod list;
mod put;

pub use describe::{describe, entry_table};
pub use get::{Destination, GetOptions, Got, GotFile, get};
pub use list::{collections, versions};
pub use put::{Base, Put, PutOptions, PutPlan, Unchanged, plan_put, put};
