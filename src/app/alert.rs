//! Alerts about work that ended: told through a run, which is the one that was worked for or one made to tell.

use crate::wandb::{AlertLevel, Resume, RunOptions};

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

/// Tells that a fit failed, through a run made for it, since a fit that failed has none.
///
/// # Errors
/// [`AppError::Wandb`].
pub async fn alert_failed_fit(
    session: &Session,
    options: &LogOptions,
    what: &str,
    error: &AppError,
) -> Result<(), AppError> {
    let alert = Alert { title: format!("{what} failed"), text: explain(error), level: AlertLevel::Error };
    let project = options.project.clone().or(session.project.clone()).unwrap_or_else(|| "uncategorized".to_owned());
    let run = RunOptions::new(project)
        .with_entity(options.entity.clone().or(session.entity.clone()))
        .with_display_name(Some(alert.title.clone()))
        .with_group(options.group.clone())
        .with_tags(options.tags.clone())
        .with_job_type(Some("pca".to_owned()));
    send(session, run, &alert).await
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
