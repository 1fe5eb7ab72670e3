//! The `wandb-pca` command: parse, resolve settings, start logging, dispatch, print errors with a hint, exit code.

mod cli;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;

use cli::args::Cli;
use cli::env::Environment;
use cli::exit::{Exit, Interrupted};
use wandb_pca::wandb::runs_parted;

/// How long runs that were given up may take to say so.
const LAST_WORDS: Duration = Duration::from_secs(6);

fn main() -> ExitCode {
    let cli = Cli::parse();
    let environment = Environment::of_process();
    let exit = match run(&cli, &environment) {
        Ok(()) => Exit::Ok,
        Err(error) => {
            cli::bars::line(cli::exit::message(&error).trim_end());
            cli::exit::code(&error)
        }
    };
    exit.into()
}

fn run(cli: &Cli, environment: &Environment) -> anyhow::Result<()> {
    let (progress, bars) = cli::bars::progress(cli.global.progress, cli.global.quiet);
    cli::log::start(&cli.global, environment, bars);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let outcome = tokio::select! {
            outcome = cli::commands::dispatch(cli, environment, progress) => outcome,
            () = interrupted(cli) => Err(Interrupted.into()),
        };
        // A run whose work ended without it tells the server so, unless there is no patience for that.
        tokio::select! {
            _ = tokio::time::timeout(LAST_WORDS, runs_parted()) => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        outcome
    });
    // Work under way on other threads gets a moment to drop its temporary files.
    runtime.shutdown_timeout(Duration::from_secs(2));
    outcome?.map_or(Ok(()), |output| Ok(output.print(cli.global.json)?))
}

/// Done when Ctrl-C is to end the command whatever it does.
async fn interrupted(cli: &Cli) {
    for _ in 0..=cli.command.own_interruptions() {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
