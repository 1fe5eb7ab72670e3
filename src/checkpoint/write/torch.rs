//! The zip archive of `torch.save`, record for record in torch's order.

use std::io::Write;

use xxhash_rust::xxh3::xxh3_64;

use super::zip::Archive;
use super::{NamedTensor, WriteError, check, copy_tensor, pickle};

/// The prefix that torch uses when it does not know the file's name.
const PREFIX: &str = "archive";
/// Data of every record start at a multiple of this, so that they can be used in place.
const ALIGNMENT: &str = "64";

/// Writes a state dict (`OrderedDict`) that `torch.load(weights_only=True)` reads. Tied tensors share a storage.
///
/// # Errors
/// [`WriteError`]; what was written so far must then be thrown away.
pub fn write_torch(out: &mut impl Write, tensors: &[NamedTensor<'_>]) -> Result<(), WriteError> {
    let sizes = check(tensors)?;
    let mut keys = Vec::with_capacity(tensors.len());
    let mut storages = Vec::new();
    for (tensor, bytes) in tensors.iter().zip(sizes) {
        let shared = tensor.tied_to.and_then(|first| keys.get(first).copied());
        keys.push(shared.unwrap_or(storages.len()));
        if shared.is_none() {
            storages.push((tensor, bytes));
        }
    }
    let pickle = pickle::state_dict(tensors, &keys);
    let mut archive = Archive::new(out);
    archive.small(&format!("{PREFIX}/data.pkl"), &pickle)?;
    archive.small(&format!("{PREFIX}/.format_version"), b"1")?;
    archive.small(&format!("{PREFIX}/.storage_alignment"), ALIGNMENT.as_bytes())?;
    archive.small(&format!("{PREFIX}/byteorder"), b"little")?;
    for (key, (tensor, bytes)) in storages.into_iter().enumerate() {
        archive.record(&format!("{PREFIX}/data/{key}"), bytes, |out| copy_tensor(tensor, bytes, out))?;
    }
    archive.small(&format!("{PREFIX}/version"), b"3\n")?;
    // As in torch: twenty digits from the records' names, twenty from their checksums.
    let (names, checksums) = archive.fingerprint_input();
    let id = format!("{:020}{:020}", xxh3_64(names.as_bytes()), xxh3_64(&checksums));
    archive.small(&format!("{PREFIX}/.data/serialization_id"), id.as_bytes())?;
    archive.finish()?;
    Ok(())
}
