//! Injected attacks: each block of rows may hold one card-testing burst (a stolen number tried out with
//! tiny online amounts within minutes) and one takeover (few large online purchases on an odd device).
//! Where they lie is a function of seed and block, so any row can ask alone whether it belongs to one.

use super::super::draw::{Keys, below};

/// Rows in a block.
pub const BLOCK: u64 = 2_048;

/// How an attack works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Many tiny payments in a row.
    Testing,
    /// A few large ones, spread over the block.
    Takeover,
}

/// One attack on one card.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attack {
    /// How it works.
    pub kind: Kind,
    /// The card attacked.
    pub card: u64,
    /// Rank of the merchant where numbers are tried out.
    pub merchant_rank: u64,
    first: u64,
    stride: u64,
    length: u64,
}

impl Attack {
    /// Which payment of the attack (0, 1, …) stands `offset` rows into the block, if any.
    pub fn payment(&self, offset: u64) -> Option<u64> {
        let from_first = offset.checked_sub(self.first)?;
        (from_first % self.stride == 0 && from_first / self.stride < self.length).then_some(from_first / self.stride)
    }
}

/// Finds the attacks of a block.
pub struct Attacks {
    keys: Keys<6>,
    cards: u64,
}

impl Attacks {
    /// Attacks on `cards` cards under `seed`.
    pub fn new(seed: u64, cards: u64) -> Self {
        Self { keys: Keys::new(seed, "generate card-fraud attack"), cards }
    }

    /// The attacks of one block: about 0.04 % of all rows test cards, about 0.02 % are takeovers.
    pub fn of_block(&self, block: u64) -> [Option<Attack>; 2] {
        let draws = self.keys.at(block);
        let attack = |slot: usize, chance: f64, kind: Kind, stride: u64, (least, span): (u64, u64)| {
            let (happens, card) = draws.pair(slot);
            let (first, length) = draws.pair(slot + 1);
            let (rank, _) = draws.pair(slot + 2);
            (happens < chance).then(|| {
                let length = least + below(span, length);
                Attack {
                    kind,
                    card: below(self.cards, card),
                    merchant_rank: 40 + below(200, rank),
                    first: below(BLOCK - stride * length, first),
                    stride,
                    length,
                }
            })
        };
        [attack(0, 0.10, Kind::Testing, 2, (4, 9)), attack(3, 0.12, Kind::Takeover, 181, (2, 4))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attacks_stay_in_their_block_and_have_their_length() {
        let attacks = Attacks::new(3, 1_000);
        let mut rows = [0_u64; 2];
        for block in 0..2_000 {
            for (kind, attack) in attacks.of_block(block).into_iter().enumerate() {
                let Some(attack) = attack else { continue };
                let members: Vec<u64> = (0..BLOCK).filter_map(|offset| attack.payment(offset)).collect();
                assert_eq!(members, (0..attack.length).collect::<Vec<_>>());
                rows[kind] += attack.length;
            }
        }
        let share = |n: u64| n as f64 / (2_000 * BLOCK) as f64;
        assert!((0.0003..0.0005).contains(&share(rows[0])), "{}", share(rows[0]));
        assert!((0.00015..0.00025).contains(&share(rows[1])), "{}", share(rows[1]));
    }
}
