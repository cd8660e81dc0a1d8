//! A plain big integer, as slow as it is simple: what exact sums are compared with.

use std::cmp::Ordering;

/// Places by which every f64, and the middle between any two neighbours, becomes an integer.
pub const SCALE: u32 = 1075;

/// Sign and digits of 32 bits, lowest first, without zeros at the top.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Integer {
    negative: bool,
    digits: Vec<u32>,
}

impl Integer {
    fn new(negative: bool, mut digits: Vec<u32>) -> Self {
        while digits.last() == Some(&0) {
            digits.pop();
        }
        Self { negative: negative && !digits.is_empty(), digits }
    }

    pub fn count(n: u64) -> Self {
        Self::new(false, vec![n as u32, (n >> 32) as u32])
    }

    /// x · 2^[`SCALE`]; the infinities stand for ±2^1024.
    pub fn scaled(x: f64) -> Self {
        let bits = x.to_bits();
        let biased = (bits >> 52 & 0x7ff) as u32;
        let fraction = bits & ((1 << 52) - 1);
        let significand = if biased == 0 { fraction } else { fraction | 1 << 52 };
        let magnitude = Self::count(significand).shifted(biased.max(1));
        Self { negative: bits >> 63 == 1 && !magnitude.digits.is_empty(), ..magnitude }
    }

    pub fn is_zero(&self) -> bool {
        self.digits.is_empty()
    }

    pub fn is_negative(&self) -> bool {
        self.negative
    }

    pub fn negated(&self) -> Self {
        Self::new(!self.negative, self.digits.clone())
    }

    pub fn shifted(&self, places: u32) -> Self {
        let mut digits = vec![0; places as usize / 32];
        let mut carry = 0u64;
        for digit in &self.digits {
            let shifted = u64::from(*digit) << (places % 32) | carry;
            digits.push(shifted as u32);
            carry = shifted >> 32;
        }
        digits.push(carry as u32);
        Self::new(self.negative, digits)
    }

    pub fn plus(&self, other: &Self) -> Self {
        if self.negative == other.negative {
            let mut digits = Vec::new();
            let mut carry = 0u64;
            for i in 0..=self.digits.len().max(other.digits.len()) {
                carry += u64::from(*self.digits.get(i).unwrap_or(&0)) + u64::from(*other.digits.get(i).unwrap_or(&0));
                digits.push(carry as u32);
                carry >>= 32;
            }
            return Self::new(self.negative, digits);
        }
        if self.magnitude().cmp(&other.magnitude()) == Ordering::Less {
            return other.plus(self);
        }
        let mut digits = Vec::new();
        let mut borrow = 0i64;
        for (i, digit) in self.digits.iter().enumerate() {
            borrow += i64::from(*digit) - i64::from(*other.digits.get(i).unwrap_or(&0));
            digits.push(borrow as u32);
            borrow >>= 32;
        }
        Self::new(self.negative, digits)
    }

    pub fn minus(&self, other: &Self) -> Self {
        self.plus(&other.negated())
    }

    pub fn times(&self, other: &Self) -> Self {
        let mut digits = vec![0u32; self.digits.len() + other.digits.len() + 1];
        for (i, a) in self.digits.iter().enumerate() {
            let mut carry = 0u64;
            for (j, b) in other.digits.iter().enumerate() {
                carry += u64::from(*a) * u64::from(*b) + u64::from(digits[i + j]);
                digits[i + j] = carry as u32;
                carry >>= 32;
            }
            digits[i + other.digits.len()] = carry as u32;
        }
        Self::new(self.negative != other.negative, digits)
    }

    fn magnitude(&self) -> (usize, Vec<u32>) {
        (self.digits.len(), self.digits.iter().rev().copied().collect())
    }

    fn compared(&self, other: &Self) -> Ordering {
        let difference = self.minus(other);
        match (difference.is_zero(), difference.negative) {
            (true, _) => Ordering::Equal,
            (_, true) => Ordering::Less,
            _ => Ordering::Greater,
        }
    }
}

/// Whether `x` is the f64 nearest to numerator / (denominator · 2^`places`), ties to even; the denominator is positive.
pub fn is_nearest(x: f64, numerator: &Integer, denominator: &Integer, places: u32) -> bool {
    if x.is_nan() {
        return false;
    }
    // Both sides of  below ≤ 2 · value ≤ above, times denominator · 2^places · 2^SCALE.
    let value = numerator.shifted(SCALE + 1);
    let side = |neighbour: f64| {
        let neighbour = if neighbour.is_infinite() && x.is_infinite() { -neighbour } else { neighbour };
        Integer::scaled(x).plus(&Integer::scaled(neighbour)).times(denominator).shifted(places)
    };
    let tie = x.to_bits() & 1 == 0;
    let inside = |order: Ordering, wanted: Ordering| order == wanted || tie && order == Ordering::Equal;
    let below = x == f64::NEG_INFINITY || inside(value.compared(&side(x.next_down())), Ordering::Greater);
    let above = x == f64::INFINITY || inside(value.compared(&side(x.next_up())), Ordering::Less);
    below && above
}
