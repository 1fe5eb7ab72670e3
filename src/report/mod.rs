//! Rows as tables, plots and pages.
