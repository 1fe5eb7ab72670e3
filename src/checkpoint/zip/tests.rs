use std::io::{Cursor, Read, Write};

use ::zip::write::SimpleFileOptions;
use ::zip::{CompressionMethod, ZipArchive, ZipWriter};
use proptest::prelude::*;

use super::*;

/// An archive by the `zip` crate: the independent writer.
fn archive(contents: &[(Vec<u8>, bool)]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (at, (content, deflated)) in contents.iter().enumerate() {
        let method = if *deflated { CompressionMethod::Deflated } else { CompressionMethod::Stored };
        writer.start_file(format!("a/data/{at}"), SimpleFileOptions::default().compression_method(method)).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn content(directory: &Directory, archive: &[u8], name: &str) -> Result<Vec<u8>, ZipError> {
    let record = directory.get(name).unwrap();
    let range = directory.locate(archive, record)?;
    let bytes = &archive[range.start as usize..range.end as usize];
    let content = if record.is_stored() { bytes.to_vec() } else { directory.inflate_to_memory(record, bytes)? };
    directory.verify(record, &content)?;
    Ok(content)
}

proptest! {
    /// What the `zip` crate writes, we read as it does.
    #[test]
    fn records_read_as_the_zip_crate_wrote_them(
        contents in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..300), any::<bool>()), 1..6)
    ) {
        let bytes = archive(&contents);
        let directory = Directory::read(&bytes[..]).unwrap();
        prop_assert_eq!(directory.records().count(), contents.len());
        for (at, (expected, _)) in contents.iter().enumerate() {
            prop_assert_eq!(&content(&directory, &bytes, &format!("a/data/{at}")).unwrap(), expected);
        }
    }

    /// After any flipped byte we refuse, or give what the `zip` crate gives.
    #[test]
    fn a_flipped_byte_never_gives_other_content(position in any::<proptest::sample::Index>(), mask in 1u8..) {
        let contents = [(b"weights".repeat(9), false), (b"weights".repeat(9), true)];
        let mut bytes = archive(&contents);
        let at = position.index(bytes.len());
        bytes[at] ^= mask;
        let Ok(directory) = Directory::read(&bytes[..]) else { return Ok(()) };
        for (name, record) in directory.records() {
            // A zeroed checksum means that none was computed.
            if record.crc() == 0 {
                continue;
            }
            let Ok(ours) = content(&directory, &bytes, name) else { continue };
            let mut theirs = Vec::new();
            let mut archive = ZipArchive::new(Cursor::new(&bytes)).unwrap();
            archive.by_name(name).unwrap().read_to_end(&mut theirs).unwrap();
            prop_assert_eq!(ours, theirs);
        }
    }
}
