//! What the program says of its own doing, on standard error, around the progress bars.

use std::io::{self, Write};

use indicatif::MultiProgress;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::args::Global;
use super::env::{self, Environment};

/// Starts logging: warnings always, more with `-v` and `-vv`, whatever `WANDB_PCA_LOG` asks for.
pub(crate) fn start(flags: &Global, environment: &Environment, bars: MultiProgress) {
    let default = match (flags.quiet, flags.verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "wandb_pca=info,warn",
        (false, _) => "wandb_pca=debug,info",
    };
    let filter = environment.get(env::LOG).and_then(|text| EnvFilter::try_new(text).ok());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|| EnvFilter::new(default)))
        .with_writer(AroundBars(bars))
        .with_ansi(environment.get(env::NO_COLOR).is_none() && io::IsTerminal::is_terminal(&io::stderr()))
        .with_target(false)
        .finish();
    // Only tests that start it twice can fail here, and the first one serves them both.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Writes to standard error while the bars step aside.
struct AroundBars(MultiProgress);

impl Write for AroundBars {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write(buffer))
    }
    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for AroundBars {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        Self(self.0.clone())
    }
}
