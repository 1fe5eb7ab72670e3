//! What a file is, by its first bytes; its name says nothing. Pure.

/// The kind of container, before it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Zip,
    Pickle,
    Safetensors,
    /// JSON: perhaps the index of a sharded checkpoint.
    Json,
    /// A known kind of file that is no checkpoint, with advice.
    Other(&'static str),
}

/// First bytes of kinds that are often taken for checkpoints.
const KNOWN: [(&[u8], &str); 10] = [
    (b"PK\x05\x06", "an empty zip archive"),
    (b"version https://git-lfs", "a Git LFS pointer; fetch the file itself with `git lfs pull`"),
    (b"\x1f\x8b", "a gzip file; decompress it first"),
    (b"GGUF", "a GGUF file"),
    (b"\x89HDF", "an HDF5 file, as Keras writes it"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"BZh", "a bzip2 file; decompress it first"),
    (b"\xfd7zXZ", "an xz file; decompress it first"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file; decompress it first"),
    (b"<", "a web page or XML, perhaps the error page of a download"),
];

pub(super) fn sniff(bytes: &[u8]) -> Kind {
    if bytes.is_empty() {
        return Kind::Other("an empty file");
    }
    // First, because a safetensors file opens with the length of its header: 1152, for instance, looks like a pickle of
    // protocol 4 and 60 like XML. A brace after a length below 4 GiB looks like nothing else.
    if bytes.get(8) == Some(&b'{') && bytes.get(4..8) == Some(&[0; 4]) {
        return Kind::Safetensors;
    }
    if bytes.starts_with(b"PK\x03\x04") {
        return Kind::Zip;
    }
    if let Some(&(_, what)) = KNOWN.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Kind::Other(what);
    }
    if bytes.get(257..262) == Some(b"ustar") {
        return Kind::Other("a tar archive, as torch 0.1 wrote them; load it with torch and save it again");
    }
    if bytes.starts_with(b"\x80") && bytes.get(1).is_some_and(|&protocol| (1..=5).contains(&protocol)) {
        return Kind::Pickle;
    }
    let length = super::safetensors::header_len(bytes);
    let opening = bytes.get(8);
    if length.is_some_and(|length| length < bytes.len() as u64)
        && opening.is_some_and(|byte| b"{ \t\r\n".contains(byte))
    {
        return Kind::Safetensors;
    }
    match bytes.trim_ascii_start().first() {
        Some(b'{') => Kind::Json,
        _ => Kind::Other("of no known kind"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_length_that_looks_like_another_kind() {
        for magic in [&b"\x80\x04"[..], b"\x80\x02", b"<", b"BZh", b"\x1f\x8b"] {
            let mut bytes = magic.to_vec();
            bytes.resize(8, 0);
            bytes.extend_from_slice(b"{\"__metadata__\":{}}");
            assert_eq!(sniff(&bytes), Kind::Safetensors, "{magic:?}");
        }
        assert_eq!(sniff(b"\x80\x04\x95\x0b\0\0\0\0\0\0\0}\x94."), Kind::Pickle);
        assert_eq!(sniff(b"<html><body>"), Kind::Other("a web page or XML, perhaps the error page of a download"));
    }
}
