//! Studies: the grid models × datasets × seeds as plain data, and every decision about it that needs no I/O.
//!
//! ```text
//! study file ─► Spec ──┐
//!                      ├─► Plan: cells, missing artifacts, bytes ─► tasks ─► Ledger: what to do next
//! what exists ─────────┘        │                                    ▲           │
//!                               └─► Slurm job array, W&B sweep ──────┘           ▼
//!                                                        shard results ─► merge ─► Grams of a cell
//! ```
//!
//! - [`Spec`]: the study file, checked, with line and column in every error; [`Template`]: names of artifacts
//! - [`Plan`]: cells in their one order, with stable ids; [`discover()`]: a study file from names alone
//! - [`Ledger`]: append-only records replayed to what is finished, failed or still to do
//! - [`split`] and [`merge`]: shards of layers, and their Grams put together again
//! - [`slurm`] and [`sweep`]: the texts that SLURM and W&B want and give
//!
//! No files by path, no processes, no clock, no network: the `app` room holds the pen.

mod discover;
mod file;
mod ledger;
mod plan;
mod shard;
pub mod slurm;
mod spec;
pub mod sweep;
mod template;

pub use discover::{Discovery, discover};
pub use ledger::{Ledger, LedgerError, Limits, Phase, Record, Standing, Task, TaskState, Todo};
pub use plan::{
    Cell, Estimate, Found, Input, Inventory, Joint, Need, Needs, Plan, PlanError, Rates, Skipped, SkippedSeed, plan,
    run_id,
};
pub use shard::{LayerGram, MergeError, ShardId, ShardIdError, ShardResult, merge, split};
pub use spec::{LayerFilter, Log, Measure, Missing, Slurm, Spec, SpecError, SpecProblem, SweepAxes};
pub use template::{Template, TemplateError};
