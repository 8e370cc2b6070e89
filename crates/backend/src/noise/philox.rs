//! Philox4x32-10: the n-th random number without the n - 1 before it.
//!
//! Ten rounds of: multiply two of the four counter words by constants, keep the high halves mixed with the key, move the low
//! halves along, and advance the key by Weyl constants:
//!
//! ```text
//! (c0, c1, c2, c3) <- (hi(M1 c2) ^ c1 ^ k0,  lo(M1 c2),  hi(M0 c0) ^ c3 ^ k1,  lo(M0 c0))
//! (k0, k1)         <- (k0 + W0, k1 + W1)
//! ```
//!
//! For a fixed key this is a bijection of the 128-bit counter. Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as
//! easy as 1, 2, 3", SC 2011; constants and known answers from its library, Random123.

/// The generator under one key: a pure function from a 128-bit counter to 128 random bits.
///
/// ```
/// use kiln_backend::noise::Philox4x32;
///
/// let first = Philox4x32::new([0, 0]).block([0, 0, 0, 0]);
/// assert_eq!(first, [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Philox4x32 {
    key: [u32; 2],
}

const ROUNDS: usize = 10;
const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

impl Philox4x32 {
    /// The generator with a 64-bit key, low word first.
    #[must_use]
    pub const fn new(key: [u32; 2]) -> Self {
        Self { key }
    }

    /// The four random words at a counter, low word first.
    #[must_use]
    pub fn block(self, counter: [u32; 4]) -> [u32; 4] {
        let [mut c0, mut c1, mut c2, mut c3] = counter;
        let [mut k0, mut k1] = self.key;
        for _ in 0..ROUNDS {
            let (low0, high0) = wide_product(MULTIPLIERS[0], c0);
            let (low1, high1) = wide_product(MULTIPLIERS[1], c2);
            [c0, c1, c2, c3] = [high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0];
            k0 = k0.wrapping_add(WEYL[0]);
            k1 = k1.wrapping_add(WEYL[1]);
        }
        [c0, c1, c2, c3]
    }
}

/// The low and the high word of a 32 x 32 bit product.
fn wide_product(a: u32, b: u32) -> (u32, u32) {
    split(u64::from(a) * u64::from(b))
}

/// The low and the high word of a 64-bit number.
pub(super) const fn split(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}
