//! Which runs of this process are still being sent, so that a process that ends can let those it gave up say so.

use std::sync::LazyLock;

use tokio::sync::watch;

static PRESENT: LazyLock<watch::Sender<usize>> = LazyLock::new(|| watch::Sender::new(0));

/// A run that is being sent, as long as this lives.
#[derive(Debug)]
pub(super) struct Presence(());

impl Presence {
    pub(super) fn new() -> Self {
        PRESENT.send_modify(|present| *present += 1);
        Self(())
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        PRESENT.send_modify(|present| *present -= 1);
    }
}

/// Ends when no run of this process is being sent any more: those that were finished are through, and those whose handle was
/// dropped have told the server, or tried to for a few seconds. A run whose handle lives keeps it waiting.
pub async fn runs_parted() {
    // The sender is never dropped, so that waiting cannot fail.
    let _ = PRESENT.subscribe().wait_for(|present| *present == 0).await;
}
