//! Floats as integers in the same order: the key of exact quantiles and of exact ranks.

/// A key whose unsigned order is the order of the numbers; −0.0 and 0.0 share one. `value` is not NaN.
pub fn key(value: f64) -> u64 {
    let bits = if value == 0.0 { 0 } else { value.to_bits() };
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

/// The number of a key.
pub fn value(key: u64) -> f64 {
    f64::from_bits(if key >> 63 == 1 { key & !(1 << 63) } else { !key })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_ordered_and_invertible() {
        let numbers = [f64::NEG_INFINITY, f64::MIN, -1.5, -5e-324, 0.0, 5e-324, 1.0, 1.5, f64::MAX, f64::INFINITY];
        for pair in numbers.windows(2) {
            assert!(key(pair[0]) < key(pair[1]));
        }
        for number in numbers {
            assert_eq!(value(key(number)), number);
        }
        assert_eq!(key(-0.0), key(0.0));
    }
}
