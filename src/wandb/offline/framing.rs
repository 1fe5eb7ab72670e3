//! The frame of a `.wandb` file: a header, then records cut into chunks that never cross a block of 32 KiB. No I/O.
//!
//! It is LevelDB's log format with a file header, a plain CRC-32 and no masking of it (`core/pkg/leveldb/record.go` of the
//! official client; its comments speak of CRC-32C, its files hold zlib's CRC-32). A record is one chunk, or a first, some
//! middle and a last one. Each chunk: CRC of type and payload (4 bytes), length of the payload (2), type (1), payload.
//!
//! [`Unframer`] takes the file as it comes, a piece at a time, and says of each place that is not sound where it is and
//! what is wrong with it; what is before and behind it is still read.

/// What the file starts with: `:W&B`, the magic 0xBEE1, version 0. The bytes belong to the first block.
pub(crate) const FILE_HEADER: [u8; 7] = [0x3a, 0x57, 0x26, 0x42, 0xe1, 0xbe, 0x00];
const BLOCK: usize = 32 << 10;
const CHUNK_HEADER: usize = 7;
/// The longest record we put together: the limit of protobuf.
const LONGEST_RECORD: usize = i32::MAX as usize;

const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

/// Appends the frame of a record to `out`, to be written at `position` of the file.
pub(crate) fn frame(position: u64, record: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let mut rest = record;
    let mut begun = false;
    loop {
        let in_block = ((position as usize % BLOCK) + (out.len() - start)) % BLOCK;
        let left = BLOCK - in_block;
        if left < CHUNK_HEADER {
            out.resize(out.len() + left, 0);
            continue;
        }
        let (payload, after) = rest.split_at(rest.len().min(left - CHUNK_HEADER));
        let kind = match (begun, after.is_empty()) {
            (false, true) => FULL,
            (false, false) => FIRST,
            (true, false) => MIDDLE,
            (true, true) => LAST,
        };
        out.extend_from_slice(&crc(kind, payload).to_le_bytes());
        // At most a block, so it fits.
        out.extend_from_slice(&(payload.len() as u16).to_le_bytes());
        out.push(kind);
        out.extend_from_slice(payload);
        if after.is_empty() {
            return;
        }
        (rest, begun) = (after, true);
    }
}

fn crc(kind: u8, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind]);
    hasher.update(payload);
    hasher.finalize()
}

/// What the next bytes of a file turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Framed {
    /// One whole record, and the position in the file just behind it.
    Record { bytes: Vec<u8>, end: u64 },
    /// A place that is not sound. The reader goes on at the next block.
    Damage(Damage),
}

/// A place of the file that is not as a writer leaves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Position in the file, in bytes.
    pub(crate) at: u64,
    /// What is wrong.
    pub(crate) reason: &'static str,
}

/// Takes a file apart. Feed it bytes with [`Unframer::push`], take what they make with [`Unframer::next`], and ask
/// [`Unframer::tail`] at the end of the file.
#[derive(Debug, Default)]
pub(crate) struct Unframer {
    /// Bytes that were not looked at yet.
    bytes: Vec<u8>,
    /// How many of `bytes` are used up.
    used: usize,
    /// How many bytes to pass over before the next look: the rest of a block that is given up.
    skip: usize,
    /// Position in the file of the first byte that is not used up.
    position: u64,
    /// The beginning of a record whose end is still to come, and where it began.
    open: Option<(u64, Vec<u8>)>,
}

/// What a look at the front of the bytes found.
enum Chunk {
    /// Not enough bytes to tell.
    Short,
    /// Filling up to the end of the block, this many bytes.
    Filling(usize),
    Sound {
        kind: u8,
        payload: std::ops::Range<usize>,
    },
    Broken(&'static str),
}

impl Unframer {
    /// Adds the next bytes of the file.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.used);
        self.used = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next record or unsound place; nothing when more bytes are needed.
    pub(crate) fn next(&mut self) -> Option<Framed> {
        loop {
            let skipped = self.skip.min(self.bytes.len() - self.used);
            self.advance(skipped);
            self.skip -= skipped;
            if self.position == 0 {
                let sound = self.bytes.get(..FILE_HEADER.len())? == FILE_HEADER;
                self.advance(FILE_HEADER.len());
                if !sound {
                    return Some(Framed::Damage(Damage { at: 0, reason: "it does not start as a W&B log does" }));
                }
            }
            match self.look() {
                Chunk::Short => return None,
                Chunk::Filling(count) => self.advance(count),
                Chunk::Broken(reason) => return Some(self.skip_block(reason)),
                Chunk::Sound { kind, payload } => {
                    if let Some(framed) = self.take(kind, payload) {
                        return Some(framed);
                    }
                }
            }
        }
    }

    /// What is left when the file is at its end: the beginning of a record whose writer was stopped, or nothing.
    pub(crate) fn tail(&self) -> Option<Damage> {
        let reason = "it ends in the middle of a record";
        match &self.open {
            Some((at, _)) => Some(Damage { at: *at, reason }),
            None => {
                let left = self.bytes.get(self.used..).unwrap_or_default();
                // An empty file has no header yet, which is no record either.
                let filling = self.left_in_block() < CHUNK_HEADER && left.iter().all(|byte| *byte == 0);
                (!left.is_empty() && !filling).then_some(Damage { at: self.position, reason })
            }
        }
    }

    fn look(&self) -> Chunk {
        let bytes = self.bytes.get(self.used..).unwrap_or_default();
        let left = self.left_in_block();
        if left < CHUNK_HEADER {
            return match bytes.get(..left) {
                None => Chunk::Short,
                Some(filling) if filling.iter().all(|byte| *byte == 0) => Chunk::Filling(left),
                Some(_) => Chunk::Broken("the end of a block is not filled with zeros"),
            };
        }
        let [c0, c1, c2, c3, l0, l1, kind, ..] = *bytes else { return Chunk::Short };
        let length = usize::from(u16::from_le_bytes([l0, l1]));
        if kind == 0 {
            // A writer that reserved the block, or a file system that did so for it, leaves zeros.
            return match bytes.get(..left) {
                None if bytes.iter().all(|byte| *byte == 0) => Chunk::Short,
                Some(rest) if rest.iter().all(|byte| *byte == 0) => Chunk::Filling(left),
                _ => Chunk::Broken("a chunk of type 0"),
            };
        }
        if !(FULL..=LAST).contains(&kind) {
            return Chunk::Broken("a chunk of an unknown type");
        }
        if CHUNK_HEADER + length > left {
            return Chunk::Broken("a chunk longer than its block");
        }
        let Some(payload) = bytes.get(CHUNK_HEADER..CHUNK_HEADER + length) else { return Chunk::Short };
        if crc(kind, payload) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Chunk::Broken("a chunk whose checksum is wrong");
        }
        let start = self.used + CHUNK_HEADER;
        Chunk::Sound { kind, payload: start..start + length }
    }

    /// Takes a sound chunk in; what it completes, or what it cannot belong to.
    fn take(&mut self, kind: u8, payload: std::ops::Range<usize>) -> Option<Framed> {
        let at = self.position;
        let bytes = self.bytes.get(payload).unwrap_or_default().to_vec();
        self.advance(CHUNK_HEADER + bytes.len());
        let damage = |at, reason| Some(Framed::Damage(Damage { at, reason }));
        match (kind, self.open.take()) {
            (FULL, None) => Some(Framed::Record { bytes, end: self.position }),
            (FIRST, None) => {
                self.open = Some((at, bytes));
                None
            }
            (FULL, Some((begun, _))) => {
                // The sound record must not be lost over the broken one before it: look at its chunk again.
                self.back(CHUNK_HEADER + bytes.len());
                damage(begun, "a record without its end")
            }
            (FIRST, Some((begun, _))) => {
                self.open = Some((at, bytes));
                damage(begun, "a record without its end")
            }
            (_, None) => damage(at, "a piece of a record without its beginning"),
            (_, Some((begun, mut record))) => {
                if record.len() + bytes.len() > LONGEST_RECORD {
                    return damage(begun, "a record longer than 2 GiB");
                }
                record.extend_from_slice(&bytes);
                if kind == LAST {
                    return Some(Framed::Record { bytes: record, end: self.position });
                }
                self.open = Some((begun, record));
                None
            }
        }
    }

    /// Gives up the rest of the block.
    fn skip_block(&mut self, reason: &'static str) -> Framed {
        let at = self.position;
        self.open = None;
        self.skip = self.left_in_block();
        Framed::Damage(Damage { at, reason })
    }

    fn left_in_block(&self) -> usize {
        BLOCK - (self.position % BLOCK as u64) as usize
    }

    fn advance(&mut self, count: usize) {
        self.used += count;
        self.position += count as u64;
    }

    fn back(&mut self, count: usize) {
        self.used -= count;
        self.position -= count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(records: &[Vec<u8>]) -> Vec<u8> {
        let mut file = FILE_HEADER.to_vec();
        for record in records {
            frame(file.len() as u64, record, &mut file);
        }
        file
    }

    /// Everything in a file, fed in pieces of `piece` bytes.
    fn read(file: &[u8], piece: usize) -> (Vec<Vec<u8>>, Vec<Damage>) {
        let (mut unframer, mut records, mut damages) = (Unframer::default(), Vec::new(), Vec::new());
        for bytes in file.chunks(piece.max(1)) {
            unframer.push(bytes);
            while let Some(framed) = unframer.next() {
                match framed {
                    Framed::Record { bytes, .. } => records.push(bytes),
                    Framed::Damage(damage) => damages.push(damage),
                }
            }
        }
        damages.extend(unframer.tail());
        (records, damages)
    }

    fn records() -> impl Strategy<Value = Vec<Vec<u8>>> {
        // Lengths around a block are the interesting ones.
        let length = prop_oneof![0..40usize, 32_700..32_780usize, 65_480..65_540usize, Just(100_000)];
        proptest::collection::vec((length, any::<u8>()), 0..6)
            .prop_map(|many| many.into_iter().map(|(length, byte)| vec![byte; length]).collect())
    }

    #[test]
    fn a_file_of_the_official_client_is_read_and_written_byte_for_byte() {
        // Appendix C.1 of our protocol notes: a file that the official clients 0.28 to 0.31 sync.
        let golden: Vec<u8> = [
            "3a572642e1be00aab21e1316000108",
            "01aa01110a0f0a05722f302e311206302e37302e30",
            "0e77036f27000108028a011c0a0861623132636433341a0170220d0a0b0a026c72820104302e3235820103220 16d",
            "ac12a90d2100010803121d0a0c0a046c6f7373820103302e350a0b0a055f7374657082010130 1200",
            "ec491b3612000108041a0e0a0c0a046c6f7373820103302e35",
            "2a94bc9a05000108 05920100",
        ]
        .concat()
        .replace(' ', "")
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
        let (records, damages) = read(&golden, 10);
        assert_eq!((records.len(), damages.len()), (5, 0));
        assert_eq!(file(&records), golden);
    }

    #[test]
    fn seven_bytes_left_hold_an_empty_first_chunk_and_six_are_filled() {
        for (left, chunks) in [(7, 2), (6, 1)] {
            let first = vec![1; BLOCK - FILE_HEADER.len() - CHUNK_HEADER - left];
            let bytes = file(&[first.clone(), vec![2; 5]]);
            assert_eq!(bytes.len(), BLOCK + CHUNK_HEADER + 5, "{left}");
            assert_eq!(bytes[BLOCK - left + left.min(6)..][..1], [if chunks == 2 { FIRST } else { bytes[BLOCK] }]);
            assert_eq!(read(&bytes, BLOCK), (vec![first, vec![2; 5]], vec![]));
        }
    }

    #[test]
    fn records_behind_a_damaged_block_are_still_read() {
        let records: Vec<Vec<u8>> = (0..8).map(|number| vec![number; 20_000]).collect();
        let mut bytes = file(&records);
        bytes[40_000] ^= 1;
        let (read, damages) = read(&bytes, 1000);
        // The second record ends in the damaged block, the third lies in it, the fourth begins in it.
        assert_eq!(read.iter().map(|record| record[0]).collect::<Vec<_>>(), [0, 4, 5, 6, 7]);
        let places: Vec<u64> = damages.iter().map(|damage| damage.at).collect();
        assert_eq!(places, [BLOCK as u64, 2 * BLOCK as u64], "the block, and the rest of the fourth record");
    }

    #[test]
    fn zeros_behind_the_records_are_a_torn_tail() {
        let mut bytes = file(&[vec![1; 10]]);
        let end = bytes.len();
        bytes.resize(end + 500, 0);
        let (read, damages) = read(&bytes, 64);
        assert_eq!((read.len(), damages.len(), damages[0].at), (1, 1, end as u64));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_framed_is_read_back(records in records(), piece in 1..70_000usize) {
            prop_assert_eq!(read(&file(&records), piece), (records, vec![]));
        }

        #[test]
        fn any_beginning_of_a_file_holds_a_beginning_of_its_records(records in records(), at: prop::sample::Index) {
            let whole = file(&records);
            let cut = at.index(whole.len() + 1);
            let (found, damages) = read(&whole[..cut], 4096);
            prop_assert!(records.starts_with(&found));
            // Nothing is said to be wrong where the cut is between two records.
            let end = file(&found).len();
            let filling = cut > end && BLOCK - end % BLOCK < CHUNK_HEADER && cut - end <= BLOCK - end % BLOCK;
            let between = cut == 0 || cut == end || filling;
            prop_assert_eq!(damages.is_empty(), between, "cut at {} of {}: {:?}", cut, whole.len(), damages);
        }

        #[test]
        fn any_other_byte_is_noticed(records in records(), at: prop::sample::Index, flip in 1..=255u8) {
            let mut bytes = file(&records);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            let (found, damages) = read(&bytes, 4096);
            prop_assert!(!damages.is_empty(), "byte {} of {}", at, bytes.len());
            // What is read is what was written: some records are missing, none is another.
            let mut rest = records.iter();
            prop_assert!(found.iter().all(|record| rest.any(|written| written == record)));
        }

        #[test]
        fn nonsense_does_not_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..2000), piece in 1..500usize) {
            let _ = read(&[FILE_HEADER.to_vec(), bytes].concat(), piece);
        }
    }
}
