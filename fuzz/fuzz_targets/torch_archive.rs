//! Any bytes as the `data.pkl` of a sound torch archive with two storages: past the checksums, where random bytes of a
//! whole file never get.
#![no_main]

use libfuzzer_sys::fuzz_target;

mod read_all;

fuzz_target!(|pickle: &[u8]| {
    let records = [("a/data.pkl", pickle), ("a/data/0", &[1; 64]), ("a/data/1", &[2; 16])];
    read_all::read_all(&archive(&records));
});

/// A stored archive without checksums, which readers must then not compare.
fn archive(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut directory = Vec::new();
    for (name, content) in records {
        let header = out.len() as u32;
        let mut fixed = vec![0; 14];
        fixed.extend((content.len() as u32).to_le_bytes());
        fixed.extend((content.len() as u32).to_le_bytes());
        fixed.extend((name.len() as u16).to_le_bytes());
        fixed.extend([0, 0]);
        // Version needed, flags, method, time, date: ten bytes, then no CRC-32.
        out.extend(b"PK\x03\x04");
        out.extend(&fixed);
        out.extend(name.as_bytes());
        out.extend(*content);
        directory.extend(b"PK\x01\x02\0\0");
        directory.extend(&fixed);
        directory.extend([0; 10]);
        directory.extend(header.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let start = out.len() as u32;
    out.extend(&directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend([(records.len() as u16).to_le_bytes(); 2].concat());
    out.extend((directory.len() as u32).to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0, 0]);
    out
}
