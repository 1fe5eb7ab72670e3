//! The `.wandb` transaction log: what a run logs, written to disk before anything is sent.
//!
//! [`framing`] and [`record`] are the file format, without I/O.

#![allow(dead_code, reason = "the run that writes it and the sender that reads it come next")]

mod framing;
mod record;
