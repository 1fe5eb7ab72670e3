//! How fast does this machine hash? A program that prints MD5 of one stream (RustCrypto, OpenSSL), of several streams in
//! SIMD lanes, of several streams fed to a pool as downloads feed it, and SHA-256 and XXH128 beside them.
//!
//! ```text
//! cargo bench --bench hash -- [--python PYTHON]
//! ```
//!
//! The best of several runs each, data in cache: the numbers are rates of a core, not of memory.

#![allow(clippy::print_stdout, reason = "a program that prints its measurements")]

use std::error::Error;
use std::hint::black_box;
use std::process::Command;
use std::time::Instant;

use bytes::Bytes;
use wandb_pca::digest::{Algorithm, DigestHasher, Md5Pool, PooledHasher, Sha256};

#[path = "../src/digest/md5_lanes.rs"]
#[allow(dead_code, unused_imports, reason = "the library's own kernel and its tests, driven here without them")]
mod md5_lanes;

use md5_lanes::{BLOCK, INITIAL, Lane, Lanes};

const STREAM: usize = 512 << 10;
const REPEAT: usize = 9;

fn main() -> Result<(), Box<dyn Error>> {
    let data: Vec<Bytes> = (0..16).map(noise).collect();
    report("MD5, one stream (RustCrypto)", STREAM, || digest(Algorithm::Md5, &data[0]));
    report("SHA-256 (RustCrypto, SHA-NI where there)", STREAM, || {
        black_box(Sha256::of(&data[0]));
    });
    report("XXH128", STREAM, || digest(Algorithm::Xxh128, &data[0]));
    for lanes in Lanes::all().into_iter().filter(|lanes| lanes.width() > 1) {
        for streams in [2, 4, 8, 11, 16].into_iter().filter(|&streams| streams <= lanes.width()) {
            let what = format!("MD5, {streams} streams in {} lanes", lanes.width());
            report(&what, streams * STREAM, || {
                let mut all: Vec<Lane<'_>> = data.iter().take(streams).map(lane).collect();
                lanes.compress(&mut all);
                black_box(&all);
            });
        }
    }
    let pool = Md5Pool::default();
    for streams in [1, 2, 4, 8, 11, 16] {
        report(&format!("MD5, {streams} streams of a pool, fed in turn"), streams * STREAM * 8, || {
            let mut hashers: Vec<_> = (0..streams).map(|_| PooledHasher::new(&pool, Algorithm::Md5)).collect();
            for _ in 0..8 {
                for piece in 0..4 {
                    for (hasher, bytes) in hashers.iter_mut().zip(&data) {
                        hasher.update(bytes.slice(piece * STREAM / 4..(piece + 1) * STREAM / 4));
                    }
                }
            }
            for hasher in &mut hashers {
                black_box(hasher.digest());
            }
        });
    }
    openssl()
}

fn lane(bytes: &Bytes) -> Lane<'_> {
    Lane { state: INITIAL, blocks: bytes.as_chunks::<BLOCK>().0 }
}

fn noise(seed: usize) -> Bytes {
    (0..STREAM).map(|i| ((i + seed).wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn digest(algorithm: Algorithm, data: &[u8]) {
    let mut hasher = DigestHasher::new(algorithm);
    hasher.update(data);
    black_box(hasher.digest());
}

fn report(what: &str, bytes: usize, mut work: impl FnMut()) {
    work();
    let once = |_| {
        let started = Instant::now();
        work();
        started.elapsed().as_secs_f64()
    };
    let best = (0..REPEAT).map(once).fold(f64::INFINITY, f64::min);
    println!("{what:<44} {:>7.2} GB/s", bytes as f64 / best / 1e9);
}

/// OpenSSL as Python's hashlib calls it: the yardstick of what hand-written assembly makes of one stream.
fn openssl() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let Some(flag) = args.next() else {
        println!("OpenSSL was not measured: give --python a Python");
        return Ok(());
    };
    let python = args.next().filter(|_| flag == "--python").ok_or("the only flag is --python PYTHON")?;
    let script = "import hashlib, ssl, time\n\
        data = bytes(range(256)) * 2048 * 16\n\
        for name in ('md5', 'sha256'):\n    \
            best = 9\n    \
            for _ in range(9):\n        \
                start = time.perf_counter(); hashlib.new(name, data).digest()\n        \
                best = min(best, time.perf_counter() - start)\n    \
            print(f'{name.upper() + \", \" + ssl.OPENSSL_VERSION:<44} {len(data) / best / 1e9:>7.2f} GB/s')\n";
    let output = Command::new(python).args(["-c", script]).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    print!("{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}
