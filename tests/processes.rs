//! The real binary against a server that misbehaves: killed at random moments, raced by others of its kind, on a disk that
//! fills up, and with a manifest of a hundred thousand entries. The end is always right, and what was received is not
//! received again.
//!
//! `WANDB_PCA_KILLS=200 cargo test --release --test processes kill` kills that often.

#![cfg(unix)]
#![allow(missing_docs, unreachable_pub, dead_code, clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use support::{Misbehaving, noise};

const PROGRAM: &str = env!("CARGO_BIN_EXE_wandb-pca");
const NAME: &str = "team/vectors/model:v3";

/// `artifact get --store-only` with folders of its own.
fn get(server: &Misbehaving, home: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    isolate(&mut command, server, home).args(["artifact", "get", "--store-only", NAME]);
    command
}

fn isolate<'a>(command: &'a mut Command, server: &Misbehaving, home: &Path) -> &'a mut Command {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WANDB_")) {
        command.env_remove(name);
    }
    command.env("WANDB_BASE_URL", &server.base).env("WANDB_API_KEY", "k".repeat(40));
    command.env("HOME", home).env("WANDB_CACHE_DIR", home.join("cache")).env("WANDB_CONFIG_DIR", home.join("config"));
    command.current_dir(home).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped())
}

/// Objects under their final names.
fn objects(home: &Path) -> Vec<PathBuf> {
    let heads = std::fs::read_dir(home.join("cache/artifacts/obj/md5")).into_iter().flatten();
    let files = heads.flat_map(|head| std::fs::read_dir(head.unwrap().path()).unwrap());
    files.map(|file| file.unwrap().path()).collect()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_moment_loses_nothing() {
    let kills: u32 = std::env::var("WANDB_PCA_KILLS").map_or(4, |text| text.parse().unwrap());
    let server = Misbehaving::start().await;
    // The larger one is received in parts.
    let sizes = [2_000_000, 17 << 20];
    let data = sizes.map(noise);
    server.slow_down(Duration::from_millis(10));
    let mut moments = noise(2 * kills as usize).into_iter();
    let (mut killed, mut runs, mut resumed) = (0, 0u32, 0u64);
    while killed < kills {
        let data = &data[usize::from(killed >= kills / 2)];
        server.add("model", &[("trained.ckpt", data)]);
        let home = tempfile::tempdir().unwrap();
        // One object survives a few kills, then it is finished.
        for _ in 0..3.min(kills - killed) {
            resumed += first_byte_wanted(&server);
            server.forget_seen();
            let mut child = get(&server, home.path()).spawn().unwrap();
            let begun = Instant::now();
            while server.object_requests().is_empty() && begun.elapsed() < Duration::from_secs(60) {
                if child.try_wait().unwrap().is_some() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            tokio::time::sleep(Duration::from_millis(u64::from(moments.next().unwrap_or(0)))).await;
            child.kill().unwrap();
            child.wait().unwrap();
            (killed, runs) = (killed + 1, runs + 1);
            for object in objects(home.path()) {
                assert!(std::fs::read(object).unwrap() == *data, "after {killed} kills");
            }
        }
        resumed += first_byte_wanted(&server);
        server.forget_seen();
        let output = output(get(&server, home.path())).await;
        assert!(output.status.success(), "{}", told(&output));
        resumed += first_byte_wanted(&server);
        server.forget_seen();
        runs += 1;
        let whole = objects(home.path());
        assert!(whole.len() == 1 && std::fs::read(&whole[0]).unwrap() == *data);
    }
    println!("{killed} kills in {runs} runs, each object right in the end; {resumed} bytes were not received again");
    assert!(resumed > 0, "{killed} kills and never a byte kept");
}

/// Where the last run went on: the first byte that it asked for.
fn first_byte_wanted(server: &Misbehaving) -> u64 {
    let start = |range: &String| range.strip_prefix("bytes=")?.split('-').next()?.parse::<u64>().ok();
    let starts =
        server.object_requests().into_iter().map(|seen| seen.headers.get("range").and_then(start).unwrap_or(0));
    starts.min().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_race_share_one_download() {
    for racers in [2, 8] {
        let server = Misbehaving::start().await;
        let data = noise(1_000_000);
        server.add("model", &[("trained.ckpt", &data)]);
        server.slow_down(Duration::from_millis(10));
        let home = tempfile::tempdir().unwrap();
        let children: Vec<_> = (0..racers).map(|_| get(&server, home.path()).spawn().unwrap()).collect();
        for child in children {
            let output = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap()).await.unwrap();
            assert!(output.status.success(), "{}", told(&output));
        }
        assert_eq!(server.object_requests().len(), 1, "{racers} processes");
        let whole = objects(home.path());
        assert!(whole.len() == 1 && std::fs::read(&whole[0]).unwrap() == data);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn globs_choose_files_and_progress_adds_up() {
    let server = Misbehaving::start().await;
    let (first, second) = (noise(300_000), noise(200_000));
    server.add("model", &[("a.ckpt", &first), ("deep/b.ckpt", &second), ("notes.txt", b"no"), ("deep/c.log", b"no")]);
    let home = tempfile::tempdir().unwrap();
    let mut command = get(&server, home.path());
    command.args(["--progress", "json", "--include", "**/*.ckpt", "--include", "*.txt", "--exclude", "notes*"]);
    let got = output(command).await;
    assert!(got.status.success(), "{}", told(&got));
    assert_eq!(objects(home.path()).len(), 2);
    let events: Vec<serde_json::Value> =
        told(&got).lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    let of = |kind: &str| events.iter().filter(|event| event["event"] == kind).collect::<Vec<_>>();
    assert_eq!((of("plan")[0]["tasks"].as_u64(), of("plan")[0]["total"].as_u64()), (Some(2), Some(500_000)));
    let last = *of("total").last().unwrap();
    assert_eq!((last["finished"].as_u64(), last["done"].as_u64()), (Some(2), Some(500_000)), "{last}");
    assert_eq!(of("advance").iter().map(|event| event["amount"].as_u64().unwrap()).sum::<u64>(), 500_000);
    let mut nothing = get(&server, home.path());
    nothing.args(["--include", "*.bin"]);
    let nothing = output(nothing).await;
    assert_eq!(nothing.status.code(), Some(2), "{}", told(&nothing));
}

/// Runs `get` in a shell that first does `before`.
fn get_after(before: &str, server: &Misbehaving, home: &Path) -> Command {
    let mut command = Command::new("sh");
    let script = format!("{before} exec \"$0\" artifact get --store-only {NAME}");
    isolate(&mut command, server, home).args(["-c", &script, PROGRAM]);
    command
}

async fn output(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_up_is_named_and_the_rest_comes_later() {
    let server = Misbehaving::start().await;
    let data = noise(3_000_000);
    server.add("model", &[("trained.ckpt", &data)]);
    let home = tempfile::tempdir().unwrap();
    // A file may not grow beyond 1 MB (POSIX counts 512 bytes); the signal is ignored, so that writing fails instead.
    let full = output(get_after("trap '' XFSZ; ulimit -f 2000;", &server, home.path())).await;
    assert_eq!(full.status.code(), Some(1), "{}", told(&full));
    assert!(told(&full).contains("no space left") && told(&full).contains("partial"), "{}", told(&full));
    assert!(objects(home.path()).is_empty());
    server.forget_seen();
    let later = output(get(&server, home.path())).await;
    assert!(later.status.success(), "{}", told(&later));
    assert!(std::fs::read(&objects(home.path())[0]).unwrap() == data);
    let range = server.object_requests()[0].headers["range"].clone();
    assert!(range.starts_with("bytes=") && range != "bytes=0-", "{range}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_too_small_is_seen_before_the_first_byte() {
    let server = Misbehaving::start().await;
    server.add("model", &[("trained.ckpt", &noise(3_000_000))]);
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("cache")).unwrap();
    let mounted = "mount -t tmpfs -o size=2m none cache || exit 77;";
    let mut command = Command::new("unshare");
    let script = format!("{mounted} exec \"$0\" artifact get --store-only {NAME}");
    isolate(&mut command, &server, home.path()).args(["-rm", "sh", "-c", &script, PROGRAM]);
    let small = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    match small {
        Ok(small) if small.status.code() == Some(1) && told(&small).contains("more bytes") => {
            assert_eq!(server.object_requests().len(), 0);
        }
        // Where no small disk can be made, the test of a file that may not grow and the one of a size beyond all disks
        // (tests/transfer.rs) remain.
        Ok(small) if small.status.code() == Some(77) || told(&small).starts_with("unshare:") => {}
        Ok(small) => panic!("{}: {}", small.status, told(&small)),
        Err(_) => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_are_shared_where_the_file_system_can() {
    let server = Misbehaving::start().await;
    server.add("model", &[("trained.ckpt", &noise(20_000_000))]);
    let home = tempfile::tempdir().unwrap();
    // A file system of its own in a file, mounted for these commands only; 77 where that cannot be had.
    let disk = "truncate -s 200M image && mkfs.btrfs -q image && mkdir disk && mount -o loop image disk || exit 77;";
    let used = "used() { sync; df --output=used -B1 disk | tail -1; }; export WANDB_CACHE_DIR=$PWD/disk/cache;";
    let get = format!("\"$0\" --json artifact get {NAME} --root disk");
    let script = format!(
        "{disk} {used} set -e; {get}/copy --link copy; one=$(used); {get}/auto; {get}/must --link reflink; two=$(used);
         cmp disk/copy/trained.ckpt disk/auto/trained.ckpt; printf x | dd of=disk/must/trained.ckpt conv=notrunc;
         \"$0\" cache verify; echo grown by $((two - one))"
    );
    let mut command = Command::new("unshare");
    isolate(&mut command, &server, home.path()).args(["-m", "sh", "-c", &script, PROGRAM]);
    let ran = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
    let ran = match ran {
        Ok(ran) if ran.status.code() != Some(77) && !told(&ran).starts_with("unshare:") => ran,
        // That a reflink which fails is said, and that others fall back to copies, is tested in tests/cache.rs.
        _ => return,
    };
    let output = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success(), "{output}{}", told(&ran));
    assert_eq!(output.matches("\"placed\":\"reflinked\"").count(), 2, "{output}");
    let grown = output.rsplit("grown by ").next().unwrap().trim();
    assert!(grown.parse::<i64>().unwrap() < 5_000_000, "two files of 20 MB took {grown} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_entries_are_planned_in_bounded_time_and_memory() {
    let server = Misbehaving::start().await;
    let paths: Vec<String> = (0..100_000).map(|i| format!("folder-{}/file-{i}.bin", i % 100)).collect();
    let files: Vec<(&str, &[u8])> = paths.iter().map(|path| (path.as_str(), b"the same".as_slice())).collect();
    server.add("model", &files);
    let home = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let mut command = get(&server, home.path());
    command.stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let ended = loop {
        if let Some(ended) = child.try_wait().unwrap() {
            break ended;
        }
        peak = high_water_kib(&status).max(peak);
        assert!(begun.elapsed() < Duration::from_secs(120), "too slow");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(ended.success());
    assert_eq!(server.object_requests().len(), 1);
    println!("{:.1} s, {} MiB", begun.elapsed().as_secs_f64(), peak >> 10);
    assert!(peak < 400 << 10, "{peak} KiB");
}

fn high_water_kib(status: &str) -> u64 {
    let status = std::fs::read_to_string(status).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
