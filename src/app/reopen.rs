//! The checkpoints that a fit was made from, had again. What is not the same by now is refused.

use crate::wandb::ArtifactName;

use super::error::AppError;
use super::fit_record::InputRecord;
use super::input::{Input, Seeded};
use super::local::identify;
use super::pinned::Pins;
use super::pull::{Pulled, in_store, pull_pinned};
use super::session::Session;

/// The files that were recorded, in their order, the same content where that was recorded: from the store, from where they
/// were, or from the server.
pub(super) async fn reopen(session: &Session, records: &[&InputRecord]) -> Result<Vec<Pulled>, AppError> {
    let here = records.iter().map(|record| in_store(session, record)).collect::<Result<Vec<_>, _>>()?;
    let gone: Vec<&InputRecord> =
        records.iter().zip(&here).filter(|(_, here)| here.is_none()).map(|(record, _)| *record).collect();
    for record in gone.iter().filter(|record| record.resolved.is_some() && record.sha256.is_none()) {
        let note = format!("only parts of {} were fetched for the fit; all of it is needed now", record.input);
        session.progress.note(&note);
    }
    let inputs = gone.iter().map(|record| reference(record)).collect::<Result<Vec<_>, _>>()?;
    let file = |record: &'_ InputRecord| record.file.to_str().filter(|_| record.resolved.is_some()).map(str::to_owned);
    let files: Vec<_> = gone.iter().map(|record| file(record)).collect();
    let wanted: Vec<_> = inputs.iter().zip(&files).map(|(input, file)| (input, file.as_deref())).collect();
    let fetched = pull_pinned(session, &wanted, &Pins::default()).await?;
    // A file of another length needs no closer look.
    gone.iter().zip(&fetched).filter(|(_, now)| now.path.is_file()).try_for_each(|(then, now)| same_size(then, now))?;
    let mut fetched = identify(session, fetched).await?.into_iter();
    let mut pulled = Vec::with_capacity(records.len());
    for (record, here) in records.iter().zip(here) {
        pulled.push(match here {
            Some(here) => here,
            None => {
                let found = fetched.next().ok_or(AppError::Worker { what: "the checkpoints" })?;
                check_unchanged(record, &found)?;
                found
            }
        });
    }
    Ok(pulled)
}

fn reference(record: &InputRecord) -> Result<Seeded, AppError> {
    let input = match &record.resolved {
        None => Input::File(record.file.clone()),
        Some(name) => Input::Artifact(ArtifactName::parse(name).map_err(AppError::wandb("read the fit's inputs"))?),
    };
    Ok(Seeded { seed: record.seed, input })
}

fn check_unchanged(then: &InputRecord, now: &Pulled) -> Result<(), AppError> {
    let same_digest = then.digest.is_none() || then.digest == now.record.digest;
    let same_hash = then.sha256.is_none() || then.sha256 == now.record.sha256;
    match same_digest && same_hash {
        // Folders of older fits have no size.
        true if then.digest.is_none() && now.path.is_dir() => Ok(()),
        true => same_size(then, now),
        false => Err(changed(then, now)),
    }
}

fn same_size(then: &InputRecord, now: &Pulled) -> Result<(), AppError> {
    if then.size == now.record.size { Ok(()) } else { Err(changed(then, now)) }
}

fn changed(then: &InputRecord, now: &Pulled) -> AppError {
    let describe = |record: &InputRecord| match (record.sha256, &record.digest) {
        (Some(sha256), _) => format!("sha256 {sha256}"),
        (None, Some(digest)) if then.digest.is_some() && now.record.digest.is_some() => digest.clone(),
        _ => format!("{} bytes", record.size),
    };
    AppError::InputChanged { input: then.input.clone(), expected: describe(then), found: describe(&now.record) }
}
