//! The rows of the database as values, and the SQL that reads and changes them. Knows the meaning of the data (versions,
//! aliases, lineage), not how GraphQL or HTTP ask for them.

pub(super) mod alias;
pub(super) mod artifact;
pub(super) mod collection;
pub(super) mod commit;
pub(super) mod project;
pub(super) mod run;
pub(super) mod run_file;
pub(super) mod sweep;
