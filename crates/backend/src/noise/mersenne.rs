//! MT19937, the Mersenne Twister: 32-bit words with period 2^19937 - 1.
//!
//! A linear recurrence over 624 words, `x[k + 624] = x[k + 397] ^ twist(high bit of x[k] | low 31 bits of x[k + 1])`, then tempering.
//! Source: Matsumoto, Nishimura, "Mersenne Twister", ACM TOMACS 8(1), 1998, with the seeding of 2002.

/// Words of state.
const N: usize = 624;
/// The distance of the recurrence.
const M: usize = 397;

/// The generator's state: 624 words and how many of them have been given out.
#[derive(Clone, Debug)]
pub(super) struct MersenneTwister {
    state: Box<[u32; N]>,
    used: usize,
}

impl MersenneTwister {
    /// The state that grows from one word (`init_genrand`).
    pub(super) fn new(seed: u32) -> Self {
        let mut state = Box::new([0; N]);
        state[0] = seed;
        for i in 1..N {
            let last = state[i - 1];
            state[i] = 1_812_433_253_u32.wrapping_mul(last ^ (last >> 30)).wrapping_add(i as u32);
        }
        Self { state, used: N }
    }

    /// The next 32 random bits.
    pub(super) fn next_word(&mut self) -> u32 {
        if self.used == N {
            self.advance();
        }
        let mut word = self.state[self.used];
        self.used += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9D2C_5680;
        word ^= (word << 15) & 0xEFC6_0000;
        word ^ (word >> 18)
    }

    /// Replaces all 624 words by the next 624 of the recurrence.
    fn advance(&mut self) {
        for k in 0..N {
            let joined = (self.state[k] & 0x8000_0000) | (self.state[(k + 1) % N] & 0x7FFF_FFFF);
            let twist = if joined & 1 == 1 { 0x9908_B0DF } else { 0 };
            self.state[k] = self.state[(k + M) % N] ^ (joined >> 1) ^ twist;
        }
        self.used = 0;
    }
}
