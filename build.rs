//! With the feature `tch`: says plainly when libtorch is missing or of another version, and links programs so that they find
//! it and its CUDA part. Does nothing otherwise. Reads the environment and headers; may ask Python where its torch is.
#![allow(clippy::print_stdout, reason = "what it prints is for cargo")]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The one version that the crate `tch` is written against.
const WANTED: &str = "2.13.0";
/// Where the version stands, below the folder of the headers, in the order of their introduction.
const VERSION_HEADERS: [&str; 3] =
    ["torch/headeronly/version.h", "torch/version.h", "torch/csrc/api/include/torch/version.h"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let has = |feature: &str| env::var_os(format!("CARGO_FEATURE_{feature}")).is_some();
    if has("TCH") && !has("TCH_DOC_ONLY") {
        match find() {
            Ok(libtorch) => libtorch.link(),
            Err(problem) => println!("cargo::error={problem}"),
        }
    }
}

/// An installed libtorch.
struct Libtorch {
    include: PathBuf,
    lib: PathBuf,
}

/// Looks where the build of the crate `torch-sys` looks.
fn find() -> Result<Libtorch, String> {
    let libtorch = if variable("LIBTORCH_USE_PYTORCH").is_some() {
        let torch = folder_of_python()?;
        Libtorch { include: torch.join("include"), lib: torch.join("lib") }
    } else {
        let system = Path::new("/usr/lib/libtorch.so").exists().then(|| PathBuf::from("/usr"));
        let root = variable("LIBTORCH").map(PathBuf::from).or(system).ok_or_else(|| {
            format!(
                "the feature `tch` needs libtorch {WANTED}, and none was found. Set LIBTORCH to its folder (the one with \
                 include/ and lib/), or LIBTORCH_USE_PYTORCH=1 to take that of Python. `python3 tests/libtorch/fetch.py \
                 target/libtorch` gets one for CPUs; docs/libtorch.md has all ways. To check the code without libtorch, add \
                 the feature `tch-doc-only`"
            )
        })?;
        let part = |name: &str| variable(name).map_or_else(|| root.clone(), PathBuf::from);
        Libtorch { include: part("LIBTORCH_INCLUDE").join("include"), lib: part("LIBTORCH_LIB").join("lib") }
    };
    if !libtorch.lib.join("libtorch_cpu.so").exists() && cfg!(target_os = "linux") {
        return Err(format!("there is no libtorch in {}: libtorch_cpu.so is missing", libtorch.lib.display()));
    }
    match libtorch.version() {
        Some(found) if found != WANTED && variable("LIBTORCH_BYPASS_VERSION_CHECK").is_none() => Err(format!(
            "the feature `tch` needs libtorch {WANTED}, and that in {} is {found}: install torch=={WANTED}, see \
             docs/libtorch.md",
            libtorch.include.display()
        )),
        Some(_) => Ok(libtorch),
        None => Err(format!("{} has no headers of libtorch that say their version", libtorch.include.display())),
    }
}

fn variable(name: &str) -> Option<String> {
    println!("cargo::rerun-if-env-changed={name}");
    env::var(name).ok()
}

fn folder_of_python() -> Result<PathBuf, String> {
    let python = if variable("VIRTUAL_ENV").is_some() { "python" } else { "python3" };
    let told = Command::new(python).args(["-c", "import torch; print(torch.__path__[0])"]).output();
    let told = told.map_err(|error| format!("LIBTORCH_USE_PYTORCH is set, but {python} does not run: {error}"))?;
    let path = String::from_utf8_lossy(&told.stdout).trim().to_owned();
    if path.is_empty() {
        let said = String::from_utf8_lossy(&told.stderr);
        let last = said.trim().lines().last().unwrap_or("it said nothing").to_owned();
        return Err(format!("LIBTORCH_USE_PYTORCH is set, but {python} cannot import torch: {last}"));
    }
    Ok(path.into())
}

impl Libtorch {
    fn version(&self) -> Option<String> {
        let header = VERSION_HEADERS.iter().find_map(|header| {
            let text = fs::read_to_string(self.include.join(header)).ok()?;
            text.contains("TORCH_VERSION_MAJOR").then_some(text)
        })?;
        let number = |part: &str| {
            let rest = header.split(&format!("define TORCH_VERSION_{part} ")).nth(1)?;
            rest.lines().next().map(str::trim).map(str::to_owned)
        };
        Some([number("MAJOR")?, number("MINOR")?, number("PATCH")?].join("."))
    }

    /// For the programs, tests and benches of this package; programs of others that use the library do the same in their
    /// own build script.
    fn link(&self) {
        if let Some(version) = self.version() {
            println!("cargo::rustc-env=LIBTORCH_VERSION={version}");
        }
        if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
            println!("cargo::rustc-link-arg=-Wl,-rpath,{}", self.lib.display());
            if self.lib.join("libtorch_cuda.so").exists() {
                // Nothing calls into it: it registers itself when it is loaded, which the linker cannot know.
                println!("cargo::rustc-link-arg=-Wl,--no-as-needed,-L{},-ltorch_cuda,--as-needed", self.lib.display());
            }
        }
    }
}
