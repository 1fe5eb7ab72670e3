//! The numbers: task vectors, Gram matrices, PCA, similarity and sampling. Synchronous, pure, deterministic.
