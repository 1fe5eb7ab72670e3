//! Content-addressed files on disk, shared with the official SDK's cache, and the one way to write a file durably.
//!
//! ```text
//! <cache>/artifacts/
//!   obj/md5/<hh>/<rest of hex>        objects, named by their W&B digest: the official SDK's layout
//!   obj/xxh128/<hh>/<rest of hex>
//!   wandb-pca-1/                      ours alone; the number is the layout's version
//!     verified/<alg>-<hex>.json       "we hashed this object": size, modification time, sha256
//!     partial/<alg>-<hex>             bytes received so far, kept until the object is whole
//!     locks/<alg>-<hex>               advisory lock of one object: who holds it may write the partial
//!     resolutions/ manifests/ roots/  records that whoever uses the store keeps in it
//! ```
//!
//! Invariants: a file has its object name only when its bytes hash to that name; an object that somebody else put there
//! is hashed once before its first use; a partial is only appended to, under its lock. Synchronous I/O; no network.

mod durable;
mod error;
mod inventory;
mod lock;
mod object;
mod partial;
mod prune;
mod record;
mod space;

pub use durable::{DurableFile, write_durable, write_private};
pub use error::StoreError;
pub use inventory::{Inventory, Leftover, LeftoverKind, StoredObject, Usage};
pub use object::{Object, Reservation, Store, Verdict};
pub use partial::Partial;
pub use prune::{PrunePlan, PruneRules, Pruned, Reason, Removal, Removed, plan as plan_pruning};
pub use record::RecordKind;
pub use space::{Space, can_share_blocks, space};
