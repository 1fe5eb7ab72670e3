//! The verbs: each file turns what was typed into a call of the library, and what comes back into an [`Output`].

mod account;
mod artifact;
mod cache;
mod compare;
mod demo;
mod demo_study;
mod evaluate;
mod fit;
mod inspect;
mod located;
mod logged;
mod report;
mod sample;
mod study;
mod study_outcome;
mod sweep;
mod sync;

use wandb_pca::progress::Progress;

use super::args::{Cli, Command};
use super::context::Context;
use super::env::Environment;
use super::render::Output;

/// Runs the verb that was typed.
///
/// # Errors
/// Whatever went wrong; see [`super::exit`].
pub(crate) async fn dispatch(
    cli: &Cli,
    environment: &Environment,
    progress: Progress,
) -> anyhow::Result<Option<Output>> {
    let context = Context::open(cli, environment, &progress)?;
    match &cli.command {
        Command::Demo(args) if args.study => demo_study::demo(&context, args).await,
        Command::Demo(args) => demo::demo(args, &progress, context.json).await,
        Command::Serve(args) => demo::serve(args, context.json).await,
        Command::Fit(args) => fit::fit(&context, args).await.map(Some),
        Command::Sample(args) => sample::sample(&context, args).await.map(Some),
        Command::Compare(args) => compare::compare(&context, args).await.map(Some),
        Command::Evaluate(args) => evaluate::evaluate(&context, args).await.map(Some),
        Command::Report(args) => report::report(&context, args).await.map(Some),
        Command::Inspect(args) => inspect::inspect(&context, args).await.map(Some),
        Command::Study(args) => study::dispatch(&context, args).await.map(Some),
        Command::Sweep(args) => sweep::dispatch(&context, args).await.map(Some),
        Command::Artifact(args) => artifact::dispatch(&context, args).await.map(Some),
        Command::Cache(args) => cache::dispatch(&context, args).await.map(Some),
        Command::Sync(args) => sync::sync(&context, args).await.map(Some),
        Command::Login(args) => account::login(&context, args).await.map(Some),
        Command::Whoami => account::whoami(&context).await.map(Some),
    }
}
