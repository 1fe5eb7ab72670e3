//! Embedded W&B-compatible server.
