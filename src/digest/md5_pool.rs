//! MD5 of streams whose bytes come as they like: one thread hashes all of a pool's streams, as many side by side as the
//! CPU takes. No I/O.
//!
//! Whoever feeds a stream hands over bytes without copying them and waits only when the hashing falls behind. The thread
//! waits until every live stream (or a full set of lanes) has something, since a full set costs as much as one stream;
//! but not once a stream is full or its owner asks for the digest, so a stream that stalls holds up nobody.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use md5::block_api::compress;

use super::md5_lanes::{BLOCK, INITIAL, Lane, Lanes};

/// A stream with this many bytes waiting is worth a turn.
const WORTH: usize = 128 << 10;
/// A stream with this many bytes waiting takes no more before some are hashed.
const FULL: usize = 512 << 10;
/// A piece of fewer blocks is hashed alone: it would cut the turn of all others short.
const SHORT: usize = 16;

/// Streams that are hashed together. Clones are the same pool; its thread lives while it has streams.
#[derive(Clone)]
pub struct Md5Pool(Arc<Shared>);

struct Shared {
    lanes: Lanes,
    pool: Mutex<Pool>,
    /// There may be a turn to take.
    work: Condvar,
    /// A turn is over.
    turned: Condvar,
}

#[derive(Default)]
struct Pool {
    streams: BTreeMap<u64, Stream>,
    opened: u64,
    running: bool,
}

#[derive(Default)]
struct Stream {
    state: [u32; 4],
    /// Whole blocks, in order.
    pieces: VecDeque<Bytes>,
    /// Bytes in `pieces` and in the turn under way.
    waiting: usize,
    /// Its state and pieces are with the thread.
    away: bool,
    /// Its owner waits for the end.
    ending: bool,
}

impl fmt::Debug for Md5Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Md5Pool").field("lanes", &self.0.lanes).finish_non_exhaustive()
    }
}

impl Default for Md5Pool {
    fn default() -> Self {
        Self::with(Lanes::detect())
    }
}

impl Md5Pool {
    fn with(lanes: Lanes) -> Self {
        let shared = Shared { lanes, pool: Mutex::default(), work: Condvar::new(), turned: Condvar::new() };
        Self(Arc::new(shared))
    }

    /// A new stream.
    pub(super) fn stream(&self) -> Md5Stream {
        let mut pool = self.0.lock();
        pool.opened += 1;
        let id = pool.opened;
        pool.streams.insert(id, Stream { state: INITIAL, ..Stream::default() });
        if !pool.running {
            let shared = Arc::clone(&self.0);
            // Where no thread can be had, the streams hash themselves.
            pool.running = std::thread::Builder::new().name("md5".to_owned()).spawn(move || shared.run()).is_ok();
        }
        Md5Stream { pool: self.clone(), id, rest: [0; BLOCK], len: 0 }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread: one turn after the other, until the last stream is gone.
    fn run(&self) {
        let mut pool = self.lock();
        loop {
            if pool.streams.is_empty() {
                pool.running = false;
                return;
            }
            if !pool.ready(self.lanes.width()) {
                pool = self.work.wait(pool).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let mut turn = pool.take(self.lanes.width());
            drop(pool);
            take_turn(self.lanes, &mut turn);
            pool = self.lock();
            pool.put_back(turn);
            self.turned.notify_all();
        }
    }
}

impl Pool {
    fn ready(&self, width: usize) -> bool {
        let mut worth = 0;
        for stream in self.streams.values() {
            if stream.waiting >= FULL || (stream.ending && stream.waiting > 0) {
                return true;
            }
            worth += usize::from(stream.waiting >= WORTH);
        }
        worth > 0 && worth >= self.streams.len().min(width)
    }

    /// The streams of the next turn: those that end, then those with most to hash.
    fn take(&mut self, width: usize) -> Vec<Turn> {
        let mut chosen: Vec<_> = self.streams.iter_mut().filter(|(_, stream)| stream.waiting > 0).collect();
        chosen.sort_by_key(|(_, stream)| std::cmp::Reverse((stream.ending, stream.waiting)));
        let turn = |(&id, stream): (&u64, &mut Stream)| {
            stream.away = true;
            Turn { id, state: stream.state, pieces: std::mem::take(&mut stream.pieces), hashed: 0 }
        };
        chosen.into_iter().take(width).map(turn).collect()
    }

    fn put_back(&mut self, turn: Vec<Turn>) {
        for mut turn in turn {
            // A stream that was dropped meanwhile needs nothing any more.
            let Some(stream) = self.streams.get_mut(&turn.id) else { continue };
            stream.state = turn.state;
            stream.waiting -= turn.hashed;
            stream.away = false;
            turn.pieces.append(&mut stream.pieces);
            stream.pieces = turn.pieces;
        }
    }
}

/// A stream's part in one turn.
struct Turn {
    id: u64,
    state: [u32; 4],
    pieces: VecDeque<Bytes>,
    hashed: usize,
}

impl Turn {
    /// Hashes short pieces alone, until a long one is in front or none is left.
    fn skip_short(&mut self) {
        while let Some(piece) = self.pieces.front()
            && piece.len() < SHORT * BLOCK
        {
            compress(&mut self.state, piece.as_chunks().0);
            self.hashed += piece.len();
            self.pieces.pop_front();
        }
    }

    fn lane(&self) -> Option<Lane<'_>> {
        let piece = self.pieces.front()?;
        Some(Lane { state: self.state, blocks: piece.as_chunks().0 })
    }

    fn advance(&mut self, bytes: usize) {
        if let Some(piece) = self.pieces.front_mut() {
            bytes::Buf::advance(piece, bytes);
            self.hashed += bytes;
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
    }
}

/// Hashes until half of the streams ran dry; what the others have left waits for the next turn, when those may have more.
fn take_turn(lanes: Lanes, turns: &mut [Turn]) {
    loop {
        turns.iter_mut().for_each(Turn::skip_short);
        let mut abreast: Vec<Lane<'_>> = turns.iter().filter_map(Turn::lane).collect();
        if abreast.is_empty() || abreast.len() < turns.len().div_ceil(2) {
            return;
        }
        let before = abreast[0].blocks.len();
        lanes.compress(&mut abreast);
        let rows = before - abreast[0].blocks.len();
        let states: Vec<[u32; 4]> = abreast.iter().map(|lane| lane.state).collect();
        for (turn, state) in turns.iter_mut().filter(|turn| !turn.pieces.is_empty()).zip(states) {
            turn.state = state;
            turn.advance(rows * BLOCK);
        }
    }
}

/// One stream of a pool.
pub(super) struct Md5Stream {
    pool: Md5Pool,
    id: u64,
    /// Bytes that do not fill a block yet: `len` modulo the block's size of them.
    rest: [u8; BLOCK],
    len: u64,
}

impl Md5Stream {
    /// Appends bytes; waits while too many wait to be hashed.
    pub(super) fn update(&mut self, mut bytes: Bytes) {
        let held = self.held();
        self.len += bytes.len() as u64;
        if held > 0 {
            let head = bytes.split_to(bytes.len().min(BLOCK - held));
            self.rest[held..held + head.len()].copy_from_slice(&head);
            if held + head.len() < BLOCK {
                return;
            }
            self.hand_over(Bytes::copy_from_slice(&self.rest));
        }
        let tail = bytes.split_off(bytes.len() / BLOCK * BLOCK);
        self.rest[..tail.len()].copy_from_slice(&tail);
        if !bytes.is_empty() {
            self.hand_over(bytes);
        }
    }

    /// The digest of everything.
    pub(super) fn finish(&mut self) -> [u8; 16] {
        let mut state = self.settle();
        let held = self.held();
        // RFC 1321, 3.1 and 3.2: a one bit, zeros, and the length in bits.
        let mut last = [[0; BLOCK]; 2];
        last[0][..held].copy_from_slice(&self.rest[..held]);
        last[0][held] = 0x80;
        let used = if held < BLOCK - 8 { &mut last[..1] } else { &mut last[..] };
        if let Some(end) = used.last_mut() {
            end[BLOCK - 8..].copy_from_slice(&self.len.wrapping_mul(8).to_le_bytes());
        }
        compress(&mut state, used);
        bytemuck::cast(state.map(u32::to_le_bytes))
    }

    fn held(&self) -> usize {
        (self.len % BLOCK as u64) as usize
    }

    fn hand_over(&self, blocks: Bytes) {
        let shared = &self.pool.0;
        let mut pool = shared.lock();
        loop {
            let alone = !pool.running;
            let Some(stream) = pool.streams.get_mut(&self.id) else { return };
            if alone {
                compress(&mut stream.state, blocks.as_chunks().0);
                return;
            }
            if stream.waiting < FULL {
                stream.waiting += blocks.len();
                stream.pieces.push_back(blocks);
                shared.work.notify_one();
                return;
            }
            pool = shared.turned.wait(pool).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until all that was handed over is hashed.
    fn settle(&self) -> [u32; 4] {
        let shared = &self.pool.0;
        let mut pool = shared.lock();
        loop {
            let Some(stream) = pool.streams.get_mut(&self.id) else { return INITIAL };
            if stream.waiting == 0 && !stream.away {
                stream.ending = false;
                return stream.state;
            }
            stream.ending = true;
            shared.work.notify_one();
            pool = shared.turned.wait(pool).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Md5Stream {
    fn drop(&mut self) {
        self.pool.0.lock().streams.remove(&self.id);
        // Fewer streams may make a full set, and none ends the thread.
        self.pool.0.work.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use md5::{Digest as _, Md5};
    use proptest::prelude::*;

    use super::*;

    fn noise(len: usize, seed: usize) -> Bytes {
        (0..len).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8 ^ seed as u8).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(6))]
        #[test]
        fn any_interleaving_of_any_lengths_is_md5(
            lengths in proptest::collection::vec(0usize..150_000, 1..20),
            cuts in proptest::collection::vec(1usize..70_000, 1..10),
        ) {
            for lanes in Lanes::all() {
                let pool = Md5Pool::with(lanes);
                let mut streams: Vec<_> = lengths.iter().enumerate().map(|(seed, &len)| (pool.stream(), noise(len, seed))).collect();
                for cut in cuts.iter().cycle() {
                    for (stream, left) in &mut streams {
                        stream.update(left.split_to((*cut).min(left.len())));
                    }
                    if streams.iter().all(|(_, left)| left.is_empty()) {
                        break;
                    }
                }
                for (seed, ((stream, _), &len)) in streams.iter_mut().zip(&lengths).enumerate() {
                    let expected: [u8; 16] = Md5::digest(noise(len, seed)).into();
                    prop_assert_eq!(stream.finish(), expected);
                }
            }
        }
    }

    #[test]
    fn a_stream_that_stalls_holds_up_nobody() {
        let pool = Md5Pool::default();
        let _stalled = pool.stream();
        let data = noise(5 << 20, 0);
        let expected: [u8; 16] = Md5::digest(&data).into();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut stream = pool.stream();
                    data.chunks(100_003).for_each(|chunk| stream.update(Bytes::copy_from_slice(chunk)));
                    assert_eq!(stream.finish(), expected);
                });
            }
        });
    }

    #[test]
    fn a_digest_can_be_asked_for_and_the_stream_go_on() {
        let mut stream = Md5Pool::default().stream();
        stream.update(Bytes::from_static(b"hel"));
        let part: [u8; 16] = Md5::digest(b"hel").into();
        assert_eq!(stream.finish(), part);
        stream.update(Bytes::from_static(b"lo"));
        let whole: [u8; 16] = Md5::digest(b"hello").into();
        assert_eq!(stream.finish(), whole);
    }

    #[test]
    fn the_thread_ends_with_the_last_stream_and_begins_anew() {
        let pool = Md5Pool::default();
        for _ in 0..2 {
            let mut stream = pool.stream();
            stream.update(noise(1 << 16, 1));
            stream.finish();
            drop(stream);
            let begun = std::time::Instant::now();
            while pool.0.lock().running {
                assert!(begun.elapsed().as_secs() < 10);
                std::thread::yield_now();
            }
        }
    }
}
