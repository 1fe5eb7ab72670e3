//! How fast is a cold download beside the official SDK's? A program that starts our own server as a process, uploads
//! artifacts of one file each, downloads them with `artifact get` and, when given a Python with wandb, with
//! `Api().artifact().download()`, and prints wall times, their ratio, the peak memory of ours, and what bounds it.
//! Everything in one run; compare only numbers of one run.
//!
//! ```text
//! cargo bench --bench download -- [--dir FOLDER] [--python PYTHON] [--files N] [--megabytes N] [--repeat N] [--full]
//! ```
//!
//! `--full` is the notebook's fit: 11 files of 426.5 MB. FOLDER decides the disk; on tmpfs it needs 3.2 times the bytes.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints its measurements")]

use std::error::Error;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;
use wandb_pca::digest::{Algorithm, Digest, Md5Pool, PooledHasher};

type Failure = Box<dyn Error + Send + Sync>;

const PROGRAM: &str = env!("CARGO_BIN_EXE_wandb-pca");
const CHUNK: usize = 1 << 20;

fn main() -> Result<(), Failure> {
    let options = Options::parse(std::env::args().skip(1))?;
    let scratch = match &options.dir {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let bench = Bench::prepare(&options, scratch.path())?;
    let total = bench.total() as f64;
    println!("{} files of {:.1} MB in {}", options.files, options.bytes as f64 / 1e6, scratch.path().display());
    bench.bounds(&options)?;
    let mut best = f64::INFINITY;
    for (what, place) in [("artifact get --store-only", false), ("artifact get, copied into folders", true)] {
        for _ in 0..options.repeat {
            let (wall, peak) = bench.ours(place)?;
            best = best.min(wall);
            println!(
                "{what:<34} {wall:>7.2} s  {:>5.2} GB/s  {:>6.1} MB resident at most",
                total / wall / 1e9,
                peak / 1e6
            );
        }
    }
    let Some(python) = &options.python else {
        println!("the official SDK was not measured: give --python a Python with wandb");
        return Ok(());
    };
    let mut fastest = f64::INFINITY;
    for _ in 0..options.repeat {
        let wall = bench.sdk(python)?;
        fastest = fastest.min(wall);
        println!("{:<34} {wall:>7.2} s  {:>5.2} GB/s", "official SDK, download()", total / wall / 1e9);
    }
    println!("official SDK / artifact get = {:.2} (best of each)", fastest / best);
    Ok(())
}

#[derive(Debug)]
struct Options {
    dir: Option<PathBuf>,
    python: Option<PathBuf>,
    files: usize,
    bytes: usize,
    repeat: usize,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let mut options = Self { dir: None, python: None, files: 6, bytes: 64_000_000, repeat: 2 };
        while let Some(flag) = args.next() {
            match flag.as_str() {
                // What cargo itself passes.
                "--bench" => continue,
                "--full" => {
                    (options.files, options.bytes) = (11, 426_500_000);
                    continue;
                }
                _ => {}
            }
            let value = args.next().ok_or_else(|| format!("{flag} needs a value"))?;
            match flag.as_str() {
                "--dir" => options.dir = Some(value.into()),
                "--python" => options.python = Some(value.into()),
                "--files" => options.files = value.parse::<usize>()?.max(1),
                "--megabytes" => options.bytes = value.parse::<usize>()? * 1_000_000,
                "--repeat" => options.repeat = value.parse::<usize>()?.max(1),
                _ => return Err(format!("unknown flag {flag}").into()),
            }
        }
        Ok(options)
    }
}

/// The server, what it holds, and where clients may write.
struct Bench {
    server: Child,
    base: String,
    key: String,
    entity: String,
    folder: PathBuf,
    names: Vec<String>,
    digests: Vec<Digest>,
    bytes: usize,
}

impl Drop for Bench {
    fn drop(&mut self) {
        // It is gone already, or it ends now; there is nobody to tell.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Bench {
    fn prepare(options: &Options, folder: &Path) -> Result<Self, Failure> {
        let mut server = Command::new(PROGRAM)
            .args(["serve", "--json", "--address", "127.0.0.1:0", "--data"])
            .arg(folder.join("server"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(server.stdout.take().ok_or("no standard output")?).read_line(&mut line)?;
        let told: Value = serde_json::from_str(&line)?;
        let text = |name: &str| told[name].as_str().map(str::to_owned).ok_or_else(|| format!("no {name} in {line}"));
        let mut bench = Self {
            server,
            base: text("base_url")?,
            key: text("api_key")?,
            entity: text("entity")?,
            folder: folder.to_owned(),
            names: Vec::new(),
            digests: Vec::new(),
            bytes: options.bytes,
        };
        for index in 0..options.files {
            let name = format!("{}/bench/seed-{index}", bench.entity);
            let path = folder.join("trained.ckpt");
            bench.digests.push(make(&path, options.bytes, index as u64)?);
            let mut put = bench.command(&folder.join("uploader"));
            run(put.args(["artifact", "put", "--type", "checkpoint", "--name", &name]).arg(&path))?;
            std::fs::remove_file(&path)?;
            bench.names.push(name + ":latest");
        }
        Ok(bench)
    }

    fn total(&self) -> usize {
        self.names.len() * self.bytes
    }

    /// Our command with folders of its own.
    fn command(&self, home: &Path) -> Command {
        let mut command = Command::new(PROGRAM);
        command.env("WANDB_BASE_URL", &self.base).env("WANDB_API_KEY", &self.key);
        command.env("WANDB_CACHE_DIR", home.join("cache")).env("HOME", home).stdout(Stdio::null());
        command
    }

    /// Wall seconds and the highest resident memory of a cold download.
    fn ours(&self, place: bool) -> Result<(f64, f64), Failure> {
        let home = self.folder.join("ours");
        std::fs::create_dir_all(&home)?;
        let mut get = self.command(&home);
        get.args(["artifact", "get"]).current_dir(&home);
        if !place {
            get.arg("--store-only");
        }
        get.args(&self.names);
        let started = Instant::now();
        let mut child = get.spawn()?;
        let status = format!("/proc/{}/status", child.id());
        let mut peak = 0.0f64;
        let ended = loop {
            if let Some(ended) = child.try_wait()? {
                break ended;
            }
            peak = peak.max(high_water(&status));
            std::thread::sleep(Duration::from_millis(5));
        };
        let wall = started.elapsed().as_secs_f64();
        std::fs::remove_dir_all(&home)?;
        if ended.success() { Ok((wall, peak)) } else { Err(format!("artifact get ended with {ended}").into()) }
    }

    /// Wall seconds of the official SDK, from the first call to the last byte; its start is not counted.
    fn sdk(&self, python: &Path) -> Result<f64, Failure> {
        let home = self.folder.join("sdk");
        std::fs::create_dir_all(&home)?;
        let script = "import sys, time, wandb\n\
            api = wandb.Api()\n\
            start = time.perf_counter()\n\
            for name in sys.argv[1:]:\n    \
                api.artifact(name).download(root='out/' + name.replace('/', '_').replace(':', '_'))\n\
            print(time.perf_counter() - start)\n";
        let mut command = Command::new(python);
        command.args(["-c", script]).args(&self.names).current_dir(&home).env("HOME", &home);
        command.env("WANDB_BASE_URL", &self.base).env("WANDB_API_KEY", &self.key).env("WANDB_SILENT", "true");
        for folder in ["WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_DIR", "WANDB_CONFIG_DIR"] {
            command.env(folder, home.join(folder));
            std::fs::create_dir_all(home.join(folder))?;
        }
        command.env("WANDB_ERROR_REPORTING", "false");
        let printed = run(&mut command)?;
        std::fs::remove_dir_all(&home)?;
        Ok(printed.lines().last().unwrap_or_default().trim().parse()?)
    }

    /// What each stage alone can do here.
    fn bounds(&self, options: &Options) -> Result<(), Failure> {
        let total = self.total() as f64;
        let rate = |what: &str, seconds: f64| {
            println!("bound: {what:<27} {seconds:>7.2} s  {:>5.2} GB/s", total / seconds / 1e9);
        };
        rate("MD5 of all files, one thread", hash_all(self.names.len(), options.bytes));
        let started = Instant::now();
        self.receive_all()?;
        rate("server and loopback", started.elapsed().as_secs_f64());
        let (written, synced) = write_all(&self.folder.join("written"), self.names.len(), options.bytes)?;
        rate("writing files", written);
        rate("writing and syncing files", synced);
        Ok(())
    }

    /// Every file over plain sockets into the void, side by side.
    fn receive_all(&self) -> Result<(), Failure> {
        let address = self.base.trim_start_matches("http://");
        let key = base64(format!("api:{}", self.key).as_bytes());
        std::thread::scope(|scope| {
            let receive = |digest: &Digest| -> Result<(), Failure> {
                let mut socket = TcpStream::connect(address)?;
                let (path, hex) = (format!("/artifacts/{}", self.entity), digest.to_hex());
                write!(
                    socket,
                    "GET {path}/{hex} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Basic {key}\r\nConnection: close\r\n\r\n"
                )?;
                let (mut buffer, mut received) = (vec![0; CHUNK], 0);
                loop {
                    match socket.read(&mut buffer)? {
                        0 => break,
                        read => received += read,
                    }
                }
                if received < self.bytes { Err(format!("{received} bytes of {hex}").into()) } else { Ok(()) }
            };
            let threads: Vec<_> = self.digests.iter().map(|digest| scope.spawn(move || receive(digest))).collect();
            threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a receiver failed")?)
        })
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// `VmHWM`: the highest resident memory so far. 0 where the system does not tell.
fn high_water(status: &str) -> f64 {
    let status = std::fs::read_to_string(status).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0) * 1024.0
}

fn run(command: &mut Command) -> Result<String, Failure> {
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn chunk(state: &mut u64) -> Bytes {
    let mut chunk = Vec::with_capacity(CHUNK);
    while chunk.len() < CHUNK {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        chunk.extend(state.to_le_bytes());
    }
    chunk.into()
}

/// Writes a file of noise and says what it hashes to.
fn make(path: &Path, bytes: usize, seed: u64) -> Result<Digest, Failure> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut hasher = PooledHasher::new(&Md5Pool::default(), Algorithm::Md5);
    let mut file = File::create(path)?;
    for start in (0..bytes).step_by(CHUNK) {
        let mut piece = chunk(&mut state);
        piece.truncate(bytes - start);
        file.write_all(&piece)?;
        hasher.update(piece);
    }
    Ok(hasher.digest())
}

fn hash_all(files: usize, bytes: usize) -> f64 {
    let piece = chunk(&mut 1);
    let pool = Md5Pool::default();
    let started = Instant::now();
    let mut hashers: Vec<_> = (0..files).map(|_| PooledHasher::new(&pool, Algorithm::Md5)).collect();
    for start in (0..bytes).step_by(CHUNK / 4) {
        for hasher in &mut hashers {
            hasher.update(piece.slice(..(CHUNK / 4).min(bytes - start)));
        }
    }
    for hasher in &mut hashers {
        std::hint::black_box(hasher.digest());
    }
    started.elapsed().as_secs_f64()
}

/// Seconds until all files are written, and until they are on disk.
fn write_all(folder: &Path, files: usize, bytes: usize) -> Result<(f64, f64), Failure> {
    std::fs::create_dir_all(folder)?;
    let piece = chunk(&mut 1);
    let started = Instant::now();
    let mut written = Vec::new();
    for index in 0..files {
        let mut file = File::create(folder.join(index.to_string()))?;
        for start in (0..bytes).step_by(CHUNK) {
            file.write_all(&piece[..CHUNK.min(bytes - start)])?;
        }
        written.push(file);
    }
    let wall = started.elapsed().as_secs_f64();
    written.iter().try_for_each(File::sync_all)?;
    let synced = started.elapsed().as_secs_f64();
    std::fs::remove_dir_all(folder)?;
    Ok((wall, synced))
}
