//! The command as a user runs it, against a server of its own in another process.
#![allow(dead_code, reason = "each test uses its part")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use wandb_pca::redact::ApiKey;
use wandb_pca::wandb::{Client, ClientOptions};

/// The command with nothing of this machine's settings.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wandb-pca"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WANDB")) {
        command.env_remove(name);
    }
    command.env("NETRC", "/nonexistent/netrc").args(arguments).stdin(Stdio::null());
    command
}

pub fn run(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

pub fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The exit code is `code`, and the message on standard error holds every one of `words`.
pub fn refused(output: &Output, code: i32, words: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
}

/// A server, and a folder in which commands run.
pub struct Served {
    process: Child,
    pub base_url: String,
    pub api_key: String,
    pub entity: String,
    pub folder: tempfile::TempDir,
}

impl Served {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let arguments = ["serve", "--data", data.to_str().unwrap(), "--address", "127.0.0.1:0", "--json"];
        let mut process = command(&arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        let text = |name: &str| ready[name].as_str().unwrap().to_owned();
        Self { base_url: text("base_url"), api_key: text("api_key"), entity: text("entity"), process, folder }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn cache(&self) -> PathBuf {
        self.path().join("cache")
    }

    pub fn client(&self) -> Client {
        let key = ApiKey::parse(&self.api_key).unwrap();
        Client::new(ClientOptions::new(self.base_url.clone()).with_api_key(Some(key))).unwrap()
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.with_key(&self.api_key, arguments)
    }

    pub fn with_key(&self, key: &str, arguments: &[&str]) -> Output {
        self.command(arguments).env("WANDB_API_KEY", key).output().unwrap()
    }

    /// Not started yet, so that more can be set.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command(arguments);
        command.env("WANDB_BASE_URL", &self.base_url).env("WANDB_API_KEY", &self.api_key);
        command.env("WANDB_CACHE_DIR", self.cache()).current_dir(self.path());
        command
    }

    /// The exit code and the JSON that a command prints.
    pub fn json(&self, arguments: &[&str]) -> (i32, Value) {
        let output = self.run(&[arguments, &["--json"]].concat());
        let json = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("no JSON; {}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code().unwrap(), json)
    }

    /// The JSON of a command that ends well.
    pub fn ok(&self, arguments: &[&str]) -> Value {
        let (code, json) = self.json(arguments);
        assert_eq!(code, 0, "{json}");
        json
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found
}
