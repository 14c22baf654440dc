//! Numbers that look random and are the same in every sandbox (xorshift64*). Not for anything that has to be secret.

/// A stream of numbers with a fixed beginning.
pub struct Dice(u64);

impl Dice {
    /// `seed` picks the stream; zero is taken as one.
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// From 0 to `below - 1`; 0 when `below` is 0.
    pub fn below(&mut self, below: u32) -> u32 {
        let wide = u128::from(self.next()) * u128::from(below);
        u32::try_from(wide >> 64).unwrap_or(0)
    }

    /// From `lowest` to `highest`, both included.
    pub fn between(&mut self, lowest: u32, highest: u32) -> u32 {
        lowest + self.below(highest.saturating_sub(lowest) + 1)
    }

    /// One of them; `None` of none.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let length = u32::try_from(from.len()).unwrap_or(u32::MAX);
        from.get(usize::try_from(self.below(length)).unwrap_or(0))
    }

    /// A UUID of version 4 made of the stream.
    pub fn uuid(&mut self) -> uuid::Uuid {
        let (high, low) = (self.next(), self.next());
        uuid::Builder::from_random_bytes(((u128::from(high) << 64) | u128::from(low)).to_be_bytes()).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_always_the_same_and_stays_in_range() {
        let (mut one, mut other) = (Dice::new(7), Dice::new(7));
        for _ in 0..1000 {
            let rolled = one.between(3, 9);
            assert_eq!(rolled, other.between(3, 9));
            assert!((3..=9).contains(&rolled));
        }
        assert_ne!(Dice::new(7).next(), Dice::new(8).next());
        assert_eq!((one.below(0), one.pick::<u8>(&[])), (0, None));
    }
}
