//! Alerts about work that ended and has no run to tell it through: told through one made to tell, or gone on with.

use crate::wandb::{AlertLevel, Resume, RunOptions};

use super::begin_run::Subject;
use super::error::AppError;
use super::log_fit::LogOptions;
use super::session::Session;
use super::study::explain;

/// What people are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// In a few words.
    pub title: String,
    /// The rest.
    pub text: String,
    /// How much it matters; an error also fails the run that it is told through.
    pub level: AlertLevel,
}

/// Tells that a fit failed before there was a run for it, through one made to tell. That it could not be told changes
/// nothing else, and is noted.
pub(super) async fn alert_failed_fit(session: &Session, options: &LogOptions, subject: &Subject, error: &AppError) {
    let run = subject.run_options(session, options);
    let name = run.display_name.as_deref().unwrap_or("a fit");
    let alert = Alert { title: format!("{name} failed"), text: explain(error), level: AlertLevel::Error };
    if let Err(error) = send(session, run, &alert).await {
        session.progress.note(&explain(&error));
    }
}

/// Tells something through the run of these options, which goes on if it is there.
///
/// # Errors
/// [`AppError::Wandb`].
pub(super) async fn send(session: &Session, options: RunOptions, alert: &Alert) -> Result<(), AppError> {
    let resume = if options.id.is_some() { Resume::Allow } else { Resume::Unasked };
    let exit_code = i32::from(alert.level == AlertLevel::Error);
    let told = async {
        let run = session.start_run(options.with_resume(resume)).await?;
        let told = run.alert(&alert.title, &alert.text, alert.level).await;
        run.finish(exit_code).await?;
        told
    };
    told.await.map_err(AppError::wandb(format!("send the alert `{}`", alert.title)))
}
