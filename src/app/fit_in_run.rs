//! The main job within a run: the run is there while the fit is made, so that it shows on W&B that somebody works on it, it
//! can be stopped from there, and what went wrong is where people look.

use super::alert::alert_failed_fit;
use super::begin_run::{Subject, abandon, begin};
use super::error::AppError;
use super::fit::{FitOptions, FitOutcome, make, plan};
use super::log_fit::{LogOptions, Logged, log_fit, log_into};
use super::session::Session;

/// Makes a fit and logs it. The run begins when it is known what all names stand for: a mistyped name makes none. Without a
/// server, where nobody sees a run that goes on, it begins when there is something to log.
///
/// # Errors
/// As [`fit`](super::fit()) and [`log_fit`]; the run says why then and is marked failed. What a person asked W&B to stop ends
/// with [`WandbError::Stopped`](crate::wandb::WandbError::Stopped); a computation under way on other threads ends by itself.
pub async fn fit_in_run(
    session: &Session,
    options: FitOptions,
    log: &LogOptions,
) -> Result<(FitOutcome, Logged), AppError> {
    let subject = Subject::planned(&options);
    let begun = async {
        let mut planned = plan(session, options).await?;
        if session.client.is_none() {
            return Ok((None, make(session, planned).await));
        }
        planned.check()?;
        let run = begin(session, log, &subject).await?;
        let outcome = run.unless_stopped(make(session, planned)).await;
        Ok((Some(run), outcome.unwrap_or_else(|stopped| Err(AppError::wandb("finish the fit")(stopped)))))
    };
    match begun.await {
        Ok((Some(run), Ok(outcome))) => {
            let logged = log_into(session, run, (&outcome.fit, &outcome.folder), log).await?;
            Ok((outcome, logged))
        }
        Ok((None, Ok(outcome))) => {
            let logged = log_fit(session, (&outcome.fit, &outcome.folder), log).await?;
            Ok((outcome, logged))
        }
        Ok((Some(run), Err(error))) => Err(abandon(run, error, log).await),
        Ok((None, Err(error))) | Err(error) => {
            if log.alert {
                alert_failed_fit(session, log, &subject, &error).await;
            }
            Err(error)
        }
    }
}
