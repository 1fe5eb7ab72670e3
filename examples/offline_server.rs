//! Starts the embedded server and says how to point a client at it; runs until Ctrl-C.
//!
//! ```text
//! cargo run --example offline_server -- serve --data DIR [--address 127.0.0.1:8080] [--json]
//! ```
//!
//! With `--json` it prints one line `{"base_url": …, "api_key": …, "entity": …}`, for programs.
#![allow(clippy::print_stdout, reason = "what it prints is its result")]

use std::error::Error;

use wandb_pca::server::{Server, ServerOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut data = "wandb-data".to_owned();
    let mut address = "127.0.0.1:0".parse()?;
    let mut json = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "serve" => {}
            "--json" => json = true,
            "--data" => data = arguments.next().ok_or("--data needs a folder")?,
            "--address" => address = arguments.next().ok_or("--address needs host:port")?.parse()?,
            other => return Err(format!("unknown argument `{other}`").into()),
        }
    }
    let server = Server::start(ServerOptions::new(data).with_address(address)).await?;
    let key = server.api_key().expose();
    if json {
        let line = serde_json::json!({ "base_url": server.base_url(), "api_key": key, "entity": server.entity() });
        println!("{line}");
    } else {
        println!("export WANDB_BASE_URL={}", server.base_url());
        println!("export WANDB_API_KEY={key}");
    }
    tokio::select! {
        signal = tokio::signal::ctrl_c() => signal?,
        () = server.wait() => {}
    }
    server.shutdown().await?;
    Ok(())
}
