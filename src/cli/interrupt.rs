//! Ctrl-C and the request to terminate, for commands that end their work in order. Listening replaces what the system does.

use std::io;

/// What people and schedulers send to end a command.
pub(crate) struct Interruptions {
    #[cfg(unix)]
    signals: [tokio::signal::unix::Signal; 2],
}

/// Listens from now on.
///
/// # Errors
/// The system refuses.
pub(crate) fn interruptions() -> io::Result<Interruptions> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Interruptions { signals: [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?] })
    }
    #[cfg(not(unix))]
    Ok(Interruptions {})
}

impl Interruptions {
    /// Done when the next one comes.
    pub(crate) async fn next(&mut self) {
        #[cfg(unix)]
        {
            let [interrupt, terminate] = &mut self.signals;
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
        #[cfg(not(unix))]
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
