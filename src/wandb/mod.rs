//! Client of the W&B protocol.
