//! The only bridge from asynchronous to CPU-bound work.

use super::error::AppError;

/// Runs `work` on a thread where it may block and compute. A panic in it goes on in the caller.
///
/// # Errors
/// What `work` returns, or [`AppError::Worker`] when the runtime is shutting down.
pub(super) async fn run_blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> Result<T, AppError> + Send + 'static,
) -> Result<T, AppError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(AppError::Worker { what }),
        },
    }
}
