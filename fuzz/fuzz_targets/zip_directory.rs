//! Any bytes as a zip archive: every record that the directory admits lies inside the archive, apart from all others.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wandb_pca::checkpoint::zip::Directory;

fuzz_target!(|bytes: &[u8]| {
    let Ok(directory) = Directory::read(bytes) else { return };
    let mut ranges = Vec::new();
    for (name, record) in directory.records() {
        assert!(directory.get(name).is_some());
        if let Ok(range) = directory.locate(bytes, record) {
            assert!(range.start <= range.end && range.end <= bytes.len() as u64);
            let content = &bytes[range.start as usize..range.end as usize];
            if !record.is_stored()
                && let Ok(inflated) = directory.inflate_to_memory(record, content)
            {
                assert_eq!(inflated.len() as u64, record.size());
            }
            ranges.push(range);
        }
    }
    ranges.sort_by_key(|range| range.start);
    assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start));
});
