//! Manifests: what an artifact holds, parsed with suspicion, hashed as the official client hashes it, and written.
//!
//! Facts from `core/pkg/artifacts/{manifest,builder}.go` of the official client. A path is refused when it is absolute,
//! has an empty, `.` or `..` component, a NUL, a backslash or a Windows drive, or occurs twice; names that differ in case
//! only are refused where a folder is written ([`export`](super::export)), since the store does not mind them. No I/O.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::digest::{Algorithm, Digest};

use super::super::error::WandbError;

const POLICY: &str = "wandb-storage-policy-v1";
const HEAD: &str = "wandb-artifact-manifest-v1\n";

/// What an artifact holds, by path.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Manifest {
    /// The entries; paths are relative, with `/`, and safe to join to a folder.
    pub entries: BTreeMap<String, Entry>,
    /// How the artifact's own digest was made.
    pub algorithm: Algorithm,
    /// Storage region, where the artifact has one.
    pub region: Option<String>,
}

/// One file or reference of an artifact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Entry {
    /// Digest as the manifest has it: base64 of a file's hash, or what the store of a reference calls its version.
    pub digest: String,
    /// Where a reference points.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Bytes; 0 for references whose size is not known.
    #[serde(default)]
    pub size: u64,
    /// The artifact that first brought these bytes.
    #[serde(rename = "birthArtifactID", default, skip_serializing_if = "Option::is_none")]
    pub birth_artifact_id: Option<String>,
    /// More about a reference, and `alg` when the digest is not MD5.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub extra: serde_json::Map<String, serde_json::Value>,
}

impl Entry {
    /// A file.
    pub(crate) fn file(digest: Digest, size: u64, birth_artifact_id: Option<String>) -> Self {
        let mut extra = serde_json::Map::new();
        if digest.algorithm() == Algorithm::Xxh128 {
            extra.insert("alg".to_owned(), "XXH128".into());
        }
        Self { digest: digest.to_base64(), reference: None, size, birth_artifact_id, extra }
    }

    /// The digest of a file, checked for a form that we can verify.
    ///
    /// # Errors
    /// Why it cannot be verified, in words.
    pub fn file_digest(&self) -> Result<Digest, String> {
        let algorithm = match self.extra.get("alg") {
            None | Some(serde_json::Value::Null) => Algorithm::Md5,
            Some(serde_json::Value::String(name)) if name == "XXH128" => Algorithm::Xxh128,
            Some(serde_json::Value::String(name)) if name == "MD5" => Algorithm::Md5,
            Some(other) => return Err(format!("the digest algorithm {other} is not known")),
        };
        Digest::from_base64(algorithm, &self.digest).map_err(|error| error.to_string())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    version: u64,
    storage_policy: String,
    #[serde(default)]
    storage_policy_config: PolicyConfig,
    contents: Contents,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct PolicyConfig {
    storage_layout: Option<String>,
    storage_region: Option<String>,
}

/// The entries in file order, so that a path that occurs twice is seen.
struct Contents(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Contents {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seen;
        impl<'de> Visitor<'de> for Seen {
            type Value = Contents;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object from paths to entries")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Contents, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Contents(entries))
            }
        }
        deserializer.deserialize_map(Seen)
    }
}

impl Manifest {
    /// Parses the manifest of `artifact` and checks that it hashes to `expected`, the artifact's digest.
    ///
    /// # Errors
    /// [`WandbError::Malformed`], [`WandbError::EntryPath`] or [`WandbError::ManifestDigest`].
    pub fn parse(bytes: &[u8], artifact: &str, expected: &str) -> Result<Self, WandbError> {
        let malformed = |reason: String| WandbError::Malformed { what: format!("the manifest of {artifact}"), reason };
        let wire: Wire = serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
        if wire.version != 1 || wire.storage_policy != POLICY {
            return Err(malformed(format!("version {} of policy `{}`", wire.version, wire.storage_policy)));
        }
        if let Some(layout) =
            wire.storage_policy_config.storage_layout.filter(|layout| layout != "V1" && layout != "V2")
        {
            return Err(malformed(format!("storage layout `{layout}`")));
        }
        let mut entries = BTreeMap::new();
        for (path, entry) in wire.contents.0 {
            let refuse = |path: &str, reason| {
                let (artifact, path) = (artifact.to_owned(), path.to_owned());
                WandbError::EntryPath { artifact, path, reason }
            };
            check_path(&path).map_err(|reason| refuse(&path, reason))?;
            if entries.contains_key(&path) {
                return Err(refuse(&path, "the manifest names it twice"));
            }
            entries.insert(path, entry);
        }
        let region = wire.storage_policy_config.storage_region;
        let md5 = digest_of(&entries, Algorithm::Md5).to_hex();
        let algorithm = if md5 == expected {
            Algorithm::Md5
        } else if digest_of(&entries, Algorithm::Xxh128).to_hex() == expected {
            Algorithm::Xxh128
        } else {
            let (artifact, expected) = (artifact.to_owned(), expected.to_owned());
            return Err(WandbError::ManifestDigest { artifact, expected, found: md5 });
        };
        Ok(Self { entries, algorithm, region })
    }

    /// A manifest to upload.
    pub(crate) fn of(entries: BTreeMap<String, Entry>, algorithm: Algorithm) -> Self {
        Self { entries, algorithm, region: None }
    }

    /// The artifact digest of these entries, lower-case hex.
    pub fn digest(&self) -> String {
        digest_of(&self.entries, self.algorithm).to_hex()
    }

    /// Bytes of all entries.
    pub fn size(&self) -> u64 {
        self.entries.values().map(|entry| entry.size).fold(0, u64::saturating_add)
    }

    /// The file as it is uploaded.
    pub(crate) fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Out<'a> {
            version: u64,
            storage_policy: &'a str,
            storage_policy_config: serde_json::Value,
            contents: &'a BTreeMap<String, Entry>,
        }
        let mut storage_policy_config = serde_json::json!({"storageLayout": "V2"});
        if let Some(region) = &self.region {
            storage_policy_config["storageRegion"] = region.as_str().into();
        }
        let contents = &self.entries;
        serde_json::to_vec(&Out { version: 1, storage_policy: POLICY, storage_policy_config, contents })
    }
}

/// Hash over the head line and `path:digest` lines in the order of the paths' bytes.
fn digest_of(entries: &BTreeMap<String, Entry>, algorithm: Algorithm) -> Digest {
    let mut text = String::from(HEAD);
    for (path, entry) in entries {
        text.extend([path, ":", &entry.digest, "\n"]);
    }
    Digest::of(algorithm, text.as_bytes())
}

/// Whether a path may be an entry's: relative, normal, and the same thing on every system.
pub(crate) fn check_path(path: &str) -> Result<(), &'static str> {
    let drive = |component: &str| {
        let mut chars = component.chars();
        chars.next().is_some_and(|c| c.is_ascii_alphabetic()) && chars.next() == Some(':')
    };
    if path.is_empty() {
        return Err("it is empty");
    }
    if path.contains('\0') {
        return Err("it holds a NUL");
    }
    if path.starts_with(['/', '\\']) {
        return Err("it is absolute");
    }
    if drive(path) {
        return Err("it names a Windows drive");
    }
    if path.contains('\\') {
        return Err("it holds a backslash");
    }
    if path.split('/').any(|component| matches!(component, "" | "." | "..")) {
        return Err("a component is empty, `.` or `..`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn manifest(contents: &str) -> String {
        format!(
            r#"{{"version":1,"storagePolicy":"{POLICY}","storagePolicyConfig":{{"storageLayout":"V2"}},"contents":{contents}}}"#
        )
    }

    fn parse(contents: &str, digest: &str) -> Result<Manifest, WandbError> {
        Manifest::parse(manifest(contents).as_bytes(), "e/p/a:v0", digest)
    }

    #[test]
    fn the_official_vectors_of_artifact_digests() {
        assert_eq!(Manifest::of(BTreeMap::new(), Algorithm::Md5).digest(), "64e7c61456b10382e2f3b571ac24b659");
        let hello =
            r#"{"h.txt":{"digest":"sZRqySSS0jR8YjW00mERhA==","size":6,"birthArtifactID":"QXI=","skip_cache":false}}"#;
        let parsed = parse(hello, "bc34867cc3839a21afe6711ab76d5dc5").unwrap();
        assert_eq!((parsed.algorithm, parsed.size()), (Algorithm::Md5, 6));
        let digest = Digest::of(Algorithm::Xxh128, b"one");
        let entry = serde_json::to_string(&BTreeMap::from([("1.txt", Entry::file(digest, 3, None))])).unwrap();
        let parsed = parse(&entry, "5fcd5f2a2c5fa70b2ae1804806ec360c").unwrap();
        assert_eq!(parsed.algorithm, Algorithm::Xxh128);
        assert_eq!(parsed.entries["1.txt"].file_digest().unwrap(), digest);
    }

    #[test]
    fn another_digest_is_an_integrity_error() {
        let error = parse("{}", "00").unwrap_err();
        assert!(matches!(error, WandbError::ManifestDigest { .. }) && error.is_integrity());
    }

    #[test]
    fn dangerous_paths_are_refused() {
        for path in [
            "",
            "/a",
            "a/../b",
            "..",
            "./a",
            "a//b",
            "a/",
            "C:/x",
            "c:x",
            "\\\\\\\\host\\\\x",
            "a\\\\..\\\\b",
            "a\\u0000b",
        ] {
            let contents = format!(r#"{{"{path}":{{"digest":"sZRqySSS0jR8YjW00mERhA==","size":6}}}}"#);
            assert!(matches!(parse(&contents, ""), Err(WandbError::EntryPath { .. })), "{path}");
        }
        let twice = r#"{"a":{"digest":"x"},"a":{"digest":"y"}}"#;
        assert!(matches!(parse(twice, ""), Err(WandbError::EntryPath { reason: "the manifest names it twice", .. })));
    }

    #[test]
    fn other_versions_policies_and_layouts_are_refused() {
        for (from, to) in
            [("\"version\":1", "\"version\":2"), (POLICY, "other"), ("V2", "V9"), ("\"contents\"", "\"c\"")]
        {
            let text = manifest("{}").replace(from, to);
            assert!(matches!(Manifest::parse(text.as_bytes(), "a", ""), Err(WandbError::Malformed { .. })), "{to}");
        }
    }

    #[test]
    fn an_unknown_algorithm_is_not_taken_for_md5() {
        let contents = r#"{"a":{"digest":"sZRqySSS0jR8YjW00mERhA==","size":6,"extra":{"alg":"SHA256"}}}"#;
        let entries: BTreeMap<String, Entry> = serde_json::from_str(contents).unwrap();
        let digest = Manifest::of(entries, Algorithm::Md5).digest();
        assert!(parse(contents, &digest).unwrap().entries["a"].file_digest().is_err());
    }

    proptest! {
        #[test]
        fn what_we_write_we_read(paths in proptest::collection::btree_set("[a-zé]{1,6}(/[a-z<>&]{1,4})?", 0..20)) {
            let entry = |path: &String| Entry::file(Digest::of(Algorithm::Md5, path.as_bytes()), path.len() as u64, None);
            let written = Manifest::of(paths.iter().map(|path| (path.clone(), entry(path))).collect(), Algorithm::Md5);
            let read = Manifest::parse(&written.to_json().unwrap(), "a", &written.digest()).unwrap();
            prop_assert_eq!(read, written);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Manifest::parse(&bytes, "a", "");
        }

        #[test]
        fn an_accepted_path_stays_below_its_folder(path in "[a-z./\\\\:]{0,12}") {
            if check_path(&path).is_ok() {
                let components: Vec<_> = std::path::Path::new(&path).components().collect();
                let normal = |c: &std::path::Component<'_>| matches!(c, std::path::Component::Normal(_));
                prop_assert!(!components.is_empty() && components.iter().all(normal));
            }
        }
    }
}
