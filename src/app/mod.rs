//! Use-cases, one verb per file; the only bridge between asynchronous and CPU-bound work.
