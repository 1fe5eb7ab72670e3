//! Lists a checkpoint's tensors with a digest of their values as JSON, or converts it: what the interop tests compare
//! with torch, and an example of the reader and both writers.
//!
//! ```text
//! checkpoint dump FILE [--key KEY] [--keep-names] [--drop PREFIX]
//! checkpoint to-torch FILE OUT [the same]
//! checkpoint to-safetensors FILE OUT [the same]
//! ```

use std::error::Error;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use wandb_pca::checkpoint::{Checkpoint, NamedTensor, OpenOptions, Prefixes, write_safetensors, write_torch};
use wandb_pca::store::DurableFile;
use wandb_pca::tensor::TensorView;

/// Bytes that are digested at a time; a multiple of every element size.
const BLOCK: usize = 1 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["dump", file, rest @ ..] => dump(&Checkpoint::open(Path::new(file), &options(rest)?)?),
        ["to-torch", file, out, rest @ ..] => {
            convert((file, out), &options(rest)?, |out, tensors| Ok(write_torch(out, tensors)?))
        }
        ["to-safetensors", file, out, rest @ ..] => {
            convert((file, out), &options(rest)?, |out, tensors| Ok(write_safetensors(out, tensors)?))
        }
        _ => Err("usage: checkpoint dump|to-torch|to-safetensors FILE [OUT]".into()),
    }
}

fn options(args: &[&str]) -> Result<OpenOptions, Box<dyn Error>> {
    let mut options = OpenOptions::default();
    let mut args = args.iter();
    while let Some(&flag) = args.next() {
        match flag {
            "--key" => options.key = Some(args.next().ok_or("--key needs a value")?.to_string()),
            "--keep-names" => options.prefixes = Prefixes::Keep,
            "--drop" => options.prefixes = Prefixes::Drop(args.next().ok_or("--drop needs a value")?.to_string()),
            other => return Err(format!("unknown flag {other}").into()),
        }
    }
    Ok(options)
}

fn dump(checkpoint: &Checkpoint) -> Result<(), Box<dyn Error>> {
    let mut tensors: Vec<Value> = Vec::new();
    for info in checkpoint.tensors() {
        let digest = digest(&checkpoint.tensor(&info.name)?)?;
        tensors.push(json!([info.name, info.dtype.name(), info.shape, digest]));
    }
    let skipped: Vec<Value> =
        checkpoint.skipped().iter().map(|skipped| json!([skipped.name, skipped.reason])).collect();
    let all = json!({ "format": checkpoint.format().to_string(), "tensors": tensors, "skipped": skipped });
    writeln!(std::io::stdout().lock(), "{all}")?;
    Ok(())
}

fn digest(view: &TensorView<'_>) -> Result<String, Box<dyn Error>> {
    let size = view.dtype().size();
    let mut hasher = Sha256::new();
    let mut block = vec![0; BLOCK];
    let mut at = 0;
    while at < view.len() {
        let count = (view.len() - at).min(BLOCK / size);
        let bytes = block.get_mut(..count * size).ok_or("a block is larger than itself")?;
        view.read_le_bytes(at, bytes)?;
        hasher.update(bytes);
        at += count;
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

type Writer = fn(&mut BufWriter<DurableFile>, &[NamedTensor<'_>]) -> Result<(), Box<dyn Error>>;

fn convert((file, out): (&str, &str), options: &OpenOptions, write: Writer) -> Result<(), Box<dyn Error>> {
    let checkpoint = Checkpoint::open(Path::new(file), options)?;
    let infos = checkpoint.tensors();
    let views = infos.iter().map(|info| checkpoint.tensor(&info.name)).collect::<Result<Vec<_>, _>>()?;
    let tensors: Vec<NamedTensor<'_>> = infos
        .iter()
        .zip(&views)
        .map(|(info, view)| NamedTensor { tied_to: info.tied_to, ..NamedTensor::new(&info.name, view) })
        .collect();
    let mut out = BufWriter::new(DurableFile::create(Path::new(out))?);
    write(&mut out, &tensors)?;
    out.into_inner()?.commit()?;
    Ok(())
}
