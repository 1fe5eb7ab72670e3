//! Content-addressed files on disk, shared with the official SDK's cache, and the one way to write a file durably.
//!
//! ```text
//! <cache>/artifacts/
//!   obj/md5/<hh>/<rest of hex>        objects, named by their W&B digest: the official SDK's layout
//!   obj/xxh128/<hh>/<rest of hex>
//!   obj/etag/<hh>/<rest of hex>       what references brought, named by address and version tag
//!   wandb-pca-1/                      ours alone; the number is the layout's version
//!     verified/<alg>-<hex>.json       "we hashed this object": size, modification time, sha256
//!     partial/<alg>-<hex>             bytes received so far, kept until the object is whole
//!     ranges/<alg>-<hex>.<random>     sparse file of the object's size with the parts that were read remotely
//!     ranges/<alg>-<hex>.json         which file that is and which parts; without it they count for nothing
//!     locks/<alg>-<hex>               advisory lock of one object: who holds it may write the partial
//!     resolutions/ manifests/ roots/ local/  records that whoever uses the store keeps in it
//! ```
//!
//! Invariants: a file has its object name only when its bytes hash to that name; an object that somebody else put there
//! is hashed once before its first use; a partial is only appended to, under its lock; parts
//! that were read remotely never become an object. Synchronous I/O; no network.

mod durable;
mod error;
mod etag;
mod etag_partial;
mod inventory;
mod lock;
mod name;
mod object;
mod partial;
mod prune;
mod record;
mod space;
mod sparse;

pub use durable::{DurableFile, write_durable, write_private};
pub use error::StoreError;
pub use etag::{EtagKey, EtagReservation};
pub use etag_partial::EtagPartial;
pub use inventory::{Inventory, Leftover, LeftoverKind, State, StoredObject, Usage};
pub use name::ObjectName;
pub use object::{Object, Reservation, Store, Verdict};
pub use partial::Partial;
pub use prune::{PrunePlan, PruneRules, Pruned, Reason, Removal, Removed, plan as plan_pruning};
pub use record::RecordKind;
pub use space::{Space, can_share_blocks, space};
pub use sparse::{Holding, Sparse};
