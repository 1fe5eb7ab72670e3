//! MD5 of several streams at once: one stream a SIMD lane, the lanes chosen for the CPU found at run time. No I/O.
//!
//! MD5 is a chain: each of its 64 steps waits for the one before, so one stream leaves most of a core idle. Sixteen
//! streams side by side (AVX-512) or eight (AVX2) take the time of about one. Elsewhere streams are hashed one by one.

use md5::block_api::compress;

/// State before the first block (RFC 1321, 3.3).
pub(super) const INITIAL: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

/// Bytes of one block.
pub(super) const BLOCK: usize = 64;

/// One stream for [`Lanes::compress`]: its state, and blocks to add to it.
#[derive(Debug)]
pub(super) struct Lane<'a> {
    pub(super) state: [u32; 4],
    pub(super) blocks: &'a [[u8; BLOCK]],
}

/// The widest way to hash several streams that this CPU has.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lanes {
    #[cfg(target_arch = "x86_64")]
    Sixteen(pulp::x86::V4),
    #[cfg(target_arch = "x86_64")]
    Eight(pulp::x86::V3),
    One,
}

impl Lanes {
    /// What this CPU has.
    pub(super) fn detect() -> Self {
        Self::all().first().copied().unwrap_or(Self::One)
    }

    /// All ways that this CPU has, the widest first.
    pub(super) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(pulp::x86::V4::try_new().map(Self::Sixteen));
            all.extend(pulp::x86::V3::try_new().map(Self::Eight));
        }
        all.push(Self::One);
        all
    }

    /// How many streams go side by side.
    pub(super) fn width(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Sixteen(_) => 16,
            #[cfg(target_arch = "x86_64")]
            Self::Eight(_) => 8,
            Self::One => 1,
        }
    }

    /// Adds to each stream as many blocks as the shortest of up to [`Lanes::width`] has.
    pub(super) fn compress(self, lanes: &mut [Lane<'_>]) {
        let rows = lanes.iter().map(|lane| lane.blocks.len()).min().unwrap_or(0);
        match self {
            _ if lanes.len() == 1 || lanes.len() > self.width() => one_by_one(lanes, rows),
            #[cfg(target_arch = "x86_64")]
            // Half-empty wide vectors are slower than full narrow ones.
            Self::Sixteen(simd) if lanes.len() <= 8 => x86::eight(*simd, lanes, rows),
            #[cfg(target_arch = "x86_64")]
            Self::Sixteen(simd) => x86::sixteen(simd, lanes, rows),
            #[cfg(target_arch = "x86_64")]
            Self::Eight(simd) => x86::eight(simd, lanes, rows),
            Self::One => one_by_one(lanes, rows),
        }
        lanes.iter_mut().for_each(|lane| lane.blocks = &lane.blocks[rows..]);
    }
}

fn one_by_one(lanes: &mut [Lane<'_>], rows: usize) {
    lanes.iter_mut().for_each(|lane| compress(&mut lane.state, &lane.blocks[..rows]));
}

/// The 64 steps on vectors of one word a lane, and how to fill such vectors.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__m256i, __m512i};

    use bytemuck::cast;
    use pulp::NullaryFnOnce;
    use pulp::x86::{V3, V4};

    use super::{BLOCK, Lane};

    /// Arithmetic on one word of each lane.
    trait Words: Copy {
        type Word: Copy;
        fn splat(self, word: u32) -> Self::Word;
        fn add(self, a: Self::Word, b: Self::Word) -> Self::Word;
        /// `RIGHT` is 32 − `LEFT`.
        fn rotate<const LEFT: i32, const RIGHT: i32>(self, a: Self::Word) -> Self::Word;
        /// `b ? c : d`, bit by bit.
        fn choose(self, b: Self::Word, c: Self::Word, d: Self::Word) -> Self::Word;
        fn parity(self, b: Self::Word, c: Self::Word, d: Self::Word) -> Self::Word;
        /// `c ^ (b | !d)`.
        fn last(self, b: Self::Word, c: Self::Word, d: Self::Word) -> Self::Word;
    }

    impl Words for V4 {
        type Word = __m512i;

        #[inline(always)]
        fn splat(self, word: u32) -> __m512i {
            self.avx512f._mm512_set1_epi32(word.cast_signed())
        }

        #[inline(always)]
        fn add(self, a: __m512i, b: __m512i) -> __m512i {
            self.avx512f._mm512_add_epi32(a, b)
        }

        #[inline(always)]
        fn rotate<const LEFT: i32, const RIGHT: i32>(self, a: __m512i) -> __m512i {
            self.avx512f._mm512_rol_epi32::<LEFT>(a)
        }

        // The numbers are truth tables: bit (4b + 2c + d) is the result for these three bits.
        #[inline(always)]
        fn choose(self, b: __m512i, c: __m512i, d: __m512i) -> __m512i {
            self.avx512f._mm512_ternarylogic_epi32::<0xca>(b, c, d)
        }

        #[inline(always)]
        fn parity(self, b: __m512i, c: __m512i, d: __m512i) -> __m512i {
            self.avx512f._mm512_ternarylogic_epi32::<0x96>(b, c, d)
        }

        #[inline(always)]
        fn last(self, b: __m512i, c: __m512i, d: __m512i) -> __m512i {
            self.avx512f._mm512_ternarylogic_epi32::<0x39>(b, c, d)
        }
    }

    impl Words for V3 {
        type Word = __m256i;

        #[inline(always)]
        fn splat(self, word: u32) -> __m256i {
            self.avx._mm256_set1_epi32(word.cast_signed())
        }

        #[inline(always)]
        fn add(self, a: __m256i, b: __m256i) -> __m256i {
            self.avx2._mm256_add_epi32(a, b)
        }

        #[inline(always)]
        fn rotate<const LEFT: i32, const RIGHT: i32>(self, a: __m256i) -> __m256i {
            let (left, right) = (self.avx2._mm256_slli_epi32::<LEFT>(a), self.avx2._mm256_srli_epi32::<RIGHT>(a));
            self.avx2._mm256_or_si256(left, right)
        }

        #[inline(always)]
        fn choose(self, b: __m256i, c: __m256i, d: __m256i) -> __m256i {
            let both = self.avx2._mm256_and_si256(b, self.avx2._mm256_xor_si256(c, d));
            self.avx2._mm256_xor_si256(d, both)
        }

        #[inline(always)]
        fn parity(self, b: __m256i, c: __m256i, d: __m256i) -> __m256i {
            self.avx2._mm256_xor_si256(self.avx2._mm256_xor_si256(c, d), b)
        }

        #[inline(always)]
        fn last(self, b: __m256i, c: __m256i, d: __m256i) -> __m256i {
            let not_d = self.avx2._mm256_xor_si256(d, self.splat(u32::MAX));
            self.avx2._mm256_xor_si256(c, self.avx2._mm256_or_si256(b, not_d))
        }
    }

    /// One block of each lane, as RFC 1321 has it; `m` holds word i of every lane in its i-th vector.
    #[inline(always)]
    fn block<W: Words>(w: W, [a0, b0, c0, d0]: [W::Word; 4], m: &[W::Word; 16]) -> [W::Word; 4] {
        let [mut a, mut b, mut c, mut d] = [a0, b0, c0, d0];
        macro_rules! step {
            ($a:ident = $mixed:expr, $b:ident, $message:expr, $constant:expr, $rotate:literal) => {
                // What does not wait for the step before is added first.
                let early = w.add(w.add($a, w.splat($constant)), m[$message]);
                $a = w.add($b, w.rotate::<$rotate, { 32 - $rotate }>(w.add(early, $mixed)));
            };
        }
        macro_rules! four {
            (F, [$m0:expr, $m1:expr, $m2:expr, $m3:expr], $k:expr, ($r0:literal $r1:literal $r2:literal $r3:literal)) => {
                step!(a = w.choose(b, c, d), b, $m0, $k[0], $r0);
                step!(d = w.choose(a, b, c), a, $m1, $k[1], $r1);
                step!(c = w.choose(d, a, b), d, $m2, $k[2], $r2);
                step!(b = w.choose(c, d, a), c, $m3, $k[3], $r3);
            };
            (G, [$m0:expr, $m1:expr, $m2:expr, $m3:expr], $k:expr, ($r0:literal $r1:literal $r2:literal $r3:literal)) => {
                step!(a = w.choose(d, b, c), b, $m0, $k[0], $r0);
                step!(d = w.choose(c, a, b), a, $m1, $k[1], $r1);
                step!(c = w.choose(b, d, a), d, $m2, $k[2], $r2);
                step!(b = w.choose(a, c, d), c, $m3, $k[3], $r3);
            };
            (H, [$m0:expr, $m1:expr, $m2:expr, $m3:expr], $k:expr, ($r0:literal $r1:literal $r2:literal $r3:literal)) => {
                step!(a = w.parity(b, c, d), b, $m0, $k[0], $r0);
                step!(d = w.parity(a, b, c), a, $m1, $k[1], $r1);
                step!(c = w.parity(d, a, b), d, $m2, $k[2], $r2);
                step!(b = w.parity(c, d, a), c, $m3, $k[3], $r3);
            };
            (I, [$m0:expr, $m1:expr, $m2:expr, $m3:expr], $k:expr, ($r0:literal $r1:literal $r2:literal $r3:literal)) => {
                step!(a = w.last(b, c, d), b, $m0, $k[0], $r0);
                step!(d = w.last(a, b, c), a, $m1, $k[1], $r1);
                step!(c = w.last(d, a, b), d, $m2, $k[2], $r2);
                step!(b = w.last(c, d, a), c, $m3, $k[3], $r3);
            };
        }
        four!(F, [0, 1, 2, 3], SINES[0], (7 12 17 22));
        four!(F, [4, 5, 6, 7], SINES[1], (7 12 17 22));
        four!(F, [8, 9, 10, 11], SINES[2], (7 12 17 22));
        four!(F, [12, 13, 14, 15], SINES[3], (7 12 17 22));
        four!(G, [1, 6, 11, 0], SINES[4], (5 9 14 20));
        four!(G, [5, 10, 15, 4], SINES[5], (5 9 14 20));
        four!(G, [9, 14, 3, 8], SINES[6], (5 9 14 20));
        four!(G, [13, 2, 7, 12], SINES[7], (5 9 14 20));
        four!(H, [5, 8, 11, 14], SINES[8], (4 11 16 23));
        four!(H, [1, 4, 7, 10], SINES[9], (4 11 16 23));
        four!(H, [13, 0, 3, 6], SINES[10], (4 11 16 23));
        four!(H, [9, 12, 15, 2], SINES[11], (4 11 16 23));
        four!(I, [0, 7, 14, 5], SINES[12], (6 10 15 21));
        four!(I, [12, 3, 10, 1], SINES[13], (6 10 15 21));
        four!(I, [8, 15, 6, 13], SINES[14], (6 10 15 21));
        four!(I, [4, 11, 2, 9], SINES[15], (6 10 15 21));
        [w.add(a0, a), w.add(b0, b), w.add(c0, c), w.add(d0, d)]
    }

    /// ⌊2³² · |sin(i + 1)|⌋, four steps a row.
    const SINES: [[u32; 4]; 16] = [
        [0xd76a_a478, 0xe8c7_b756, 0x2420_70db, 0xc1bd_ceee],
        [0xf57c_0faf, 0x4787_c62a, 0xa830_4613, 0xfd46_9501],
        [0x6980_98d8, 0x8b44_f7af, 0xffff_5bb1, 0x895c_d7be],
        [0x6b90_1122, 0xfd98_7193, 0xa679_438e, 0x49b4_0821],
        [0xf61e_2562, 0xc040_b340, 0x265e_5a51, 0xe9b6_c7aa],
        [0xd62f_105d, 0x0244_1453, 0xd8a1_e681, 0xe7d3_fbc8],
        [0x21e1_cde6, 0xc337_07d6, 0xf4d5_0d87, 0x455a_14ed],
        [0xa9e3_e905, 0xfcef_a3f8, 0x676f_02d9, 0x8d2a_4c8a],
        [0xfffa_3942, 0x8771_f681, 0x6d9d_6122, 0xfde5_380c],
        [0xa4be_ea44, 0x4bde_cfa9, 0xf6bb_4b60, 0xbebf_bc70],
        [0x289b_7ec6, 0xeaa1_27fa, 0xd4ef_3085, 0x0488_1d05],
        [0xd9d4_d039, 0xe6db_99e5, 0x1fa2_7cf8, 0xc4ac_5665],
        [0xf429_2244, 0x432a_ff97, 0xab94_23a7, 0xfc93_a039],
        [0x655b_59c3, 0x8f0c_cc92, 0xffef_f47d, 0x8584_5dd1],
        [0x6fa8_7e4f, 0xfe2c_e6e0, 0xa301_4314, 0x4e08_11a1],
        [0xf753_7e82, 0xbd3a_f235, 0x2ad7_d2bb, 0xeb86_d391],
    ];

    /// Up to 16 streams, `rows` blocks each.
    pub(super) fn sixteen(simd: V4, lanes: &mut [Lane<'_>], rows: usize) {
        let blocks = blocks_of(lanes, rows);
        let states = simd.vectorize(Sixteen { simd, state: words_of(lanes), blocks: &blocks, rows });
        store(lanes, &states);
    }

    /// Up to 8 streams, `rows` blocks each.
    pub(super) fn eight(simd: V3, lanes: &mut [Lane<'_>], rows: usize) {
        let blocks = blocks_of(lanes, rows);
        let states = simd.vectorize(Eight { simd, state: words_of(lanes), blocks: &blocks, rows });
        store(lanes, &states);
    }

    struct Sixteen<'a> {
        simd: V4,
        state: [[u32; 16]; 4],
        blocks: &'a [&'a [[u8; BLOCK]]; 16],
        rows: usize,
    }

    // Everything below `call` is inlined into it, or it would not be compiled for the CPU's instructions: plain loops,
    // since closures given to the standard library are not.
    impl NullaryFnOnce for Sixteen<'_> {
        type Output = [[u32; 16]; 4];

        #[inline(always)]
        fn call(self) -> Self::Output {
            let Self { simd, state: [a, b, c, d], blocks, rows } = self;
            let mut state: [__m512i; 4] = [cast(a), cast(b), cast(c), cast(d)];
            let mut lines = [simd.splat(0); 16];
            for row in 0..rows {
                for (line, blocks) in lines.iter_mut().zip(blocks) {
                    *line = cast(blocks[row]);
                }
                state = block(simd, state, &transpose16(simd, lines));
            }
            let [a, b, c, d] = state;
            [cast(a), cast(b), cast(c), cast(d)]
        }
    }

    struct Eight<'a> {
        simd: V3,
        state: [[u32; 8]; 4],
        blocks: &'a [&'a [[u8; BLOCK]]; 8],
        rows: usize,
    }

    impl NullaryFnOnce for Eight<'_> {
        type Output = [[u32; 8]; 4];

        #[inline(always)]
        fn call(self) -> Self::Output {
            let Self { simd, state: [a, b, c, d], blocks, rows } = self;
            let mut state: [__m256i; 4] = [cast(a), cast(b), cast(c), cast(d)];
            let mut halves = [[simd.splat(0); 8]; 2];
            let mut m = [simd.splat(0); 16];
            for row in 0..rows {
                for (lane, blocks) in blocks.iter().enumerate() {
                    [halves[0][lane], halves[1][lane]] = cast(blocks[row]);
                }
                m[..8].copy_from_slice(&transpose8(simd, halves[0]));
                m[8..].copy_from_slice(&transpose8(simd, halves[1]));
                state = block(simd, state, &m);
            }
            let [a, b, c, d] = state;
            [cast(a), cast(b), cast(c), cast(d)]
        }
    }

    /// Word i of every lane in the i-th array; lanes without a stream repeat the first.
    fn words_of<const N: usize>(lanes: &[Lane<'_>]) -> [[u32; N]; 4] {
        let lane = |lane: usize| lanes.get(lane).or(lanes.first());
        std::array::from_fn(|word| std::array::from_fn(|at| lane(at).map_or(0, |lane| lane.state[word])))
    }

    fn blocks_of<'a, const N: usize>(lanes: &[Lane<'a>], rows: usize) -> [&'a [[u8; BLOCK]]; N] {
        let lane = |lane: usize| lanes.get(lane).or(lanes.first());
        std::array::from_fn(|at| lane(at).map_or(&[][..], |lane| &lane.blocks[..rows]))
    }

    fn store<const N: usize>(lanes: &mut [Lane<'_>], states: &[[u32; N]; 4]) {
        for (at, lane) in lanes.iter_mut().enumerate() {
            lane.state = std::array::from_fn(|word| states[word][at]);
        }
    }

    /// Row i, column j to row j, column i: 16 words of 16 lanes.
    #[inline(always)]
    fn transpose16(simd: V4, rows: [__m512i; 16]) -> [__m512i; 16] {
        let f = simd.avx512f;
        let mut pairs = rows;
        for i in 0..8 {
            pairs[2 * i] = f._mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
            pairs[2 * i + 1] = f._mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
        }
        // fours[4i + j]: word j of each quarter, lanes 4i to 4i + 3.
        let mut fours = pairs;
        for i in 0..4 {
            for j in 0..2 {
                let (left, right) = (pairs[4 * i + j], pairs[4 * i + 2 + j]);
                fours[4 * i + 2 * j] = f._mm512_unpacklo_epi64(left, right);
                fours[4 * i + 2 * j + 1] = f._mm512_unpackhi_epi64(left, right);
            }
        }
        let mut out = fours;
        for j in 0..4 {
            let [a, b, c, d] = [fours[j], fours[4 + j], fours[8 + j], fours[12 + j]];
            let (ab_even, ab_odd) =
                (f._mm512_shuffle_i32x4::<0b10_00_10_00>(a, b), f._mm512_shuffle_i32x4::<0b11_01_11_01>(a, b));
            let (cd_even, cd_odd) =
                (f._mm512_shuffle_i32x4::<0b10_00_10_00>(c, d), f._mm512_shuffle_i32x4::<0b11_01_11_01>(c, d));
            out[j] = f._mm512_shuffle_i32x4::<0b10_00_10_00>(ab_even, cd_even);
            out[8 + j] = f._mm512_shuffle_i32x4::<0b11_01_11_01>(ab_even, cd_even);
            out[4 + j] = f._mm512_shuffle_i32x4::<0b10_00_10_00>(ab_odd, cd_odd);
            out[12 + j] = f._mm512_shuffle_i32x4::<0b11_01_11_01>(ab_odd, cd_odd);
        }
        out
    }

    /// The same for 8 words of 8 lanes.
    #[inline(always)]
    fn transpose8(simd: V3, rows: [__m256i; 8]) -> [__m256i; 8] {
        let f = simd.avx2;
        let mut pairs = rows;
        for i in 0..4 {
            pairs[2 * i] = f._mm256_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
            pairs[2 * i + 1] = f._mm256_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
        }
        let mut fours = pairs;
        for i in 0..2 {
            for j in 0..2 {
                let (left, right) = (pairs[4 * i + j], pairs[4 * i + 2 + j]);
                fours[4 * i + 2 * j] = f._mm256_unpacklo_epi64(left, right);
                fours[4 * i + 2 * j + 1] = f._mm256_unpackhi_epi64(left, right);
            }
        }
        let mut out = fours;
        for j in 0..4 {
            out[j] = f._mm256_permute2x128_si256::<0x20>(fours[j], fours[4 + j]);
            out[4 + j] = f._mm256_permute2x128_si256::<0x31>(fours[j], fours[4 + j]);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use md5::{Digest as _, Md5};
    use proptest::prelude::*;

    use super::*;

    fn finish(mut state: [u32; 4], len: usize) -> [u8; 16] {
        let mut last = [0; BLOCK];
        last[0] = 0x80;
        last[56..].copy_from_slice(&(len as u64 * 8).to_le_bytes());
        compress(&mut state, &[last]);
        bytemuck::cast(state.map(u32::to_le_bytes))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn lanes_hash_like_one_stream_after_the_other(lengths in proptest::collection::vec(0usize..40, 1..17), seed: u8) {
            let data: Vec<Vec<[u8; BLOCK]>> = lengths.iter().enumerate().map(|(stream, &length)| {
                (0..length).map(|i| std::array::from_fn(|j| (i * 31 + j * 7 + stream * 13) as u8 ^ seed)).collect()
            }).collect();
            for lanes in Lanes::all() {
                let mut streams: Vec<Lane<'_>> = data.iter().map(|blocks| Lane { state: INITIAL, blocks }).collect();
                let shortest = lengths.iter().copied().min().unwrap_or(0);
                streams.chunks_mut(lanes.width()).for_each(|group| lanes.compress(group));
                for (lane, blocks) in streams.iter().zip(&data) {
                    let done = blocks.len() - lane.blocks.len();
                    prop_assert!(done >= shortest);
                    let expected: [u8; 16] = Md5::digest(blocks[..done].as_flattened()).into();
                    prop_assert_eq!(finish(lane.state, done * BLOCK), expected, "{:?}", lanes);
                }
            }
        }
    }
}
