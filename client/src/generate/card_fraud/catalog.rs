//! The invented world of card payments: categories, channels, countries and the merchants in them.
//! Constants only; who draws from them is `mod.rs`.

/// One merchant category.
pub struct Category {
    /// Value of the column.
    pub name: &'static str,
    /// Share of transactions; all shares add up to 1.
    pub share: f64,
    /// Mean of ln(amount).
    pub mean: f64,
    /// Standard deviation of ln(amount).
    pub spread: f64,
    /// What the category adds to the logit of fraud.
    pub risk: f64,
    /// Shares of the channels, in the order of [`CHANNELS`].
    pub channels: [f64; 4],
}

/// Ways of paying.
pub const CHANNELS: [&str; 4] = ["chip", "contactless", "online", "swipe"];
/// Index of `online`.
pub const ONLINE: usize = 2;
/// Index of `swipe`.
pub const SWIPE: usize = 3;

/// Index of `digital_goods`, where stolen numbers are tried out.
pub const DIGITAL_GOODS: usize = 10;
/// Categories where a taken-over account is emptied: goods that can be sold on.
pub const RESOLD: [usize; 4] = [4, 5, 7, 11];

const fn category(name: &'static str, share: f64, (mean, spread): (f64, f64), risk: f64, channels: [f64; 4]) -> Category {
    Category { name, share, mean, spread, risk, channels }
}

/// All categories.
pub const CATEGORIES: [Category; 12] = [
    category("grocery", 0.25, (3.4, 0.70), -0.6, [0.35, 0.50, 0.12, 0.03]),
    category("restaurant", 0.16, (3.1, 0.60), -0.5, [0.40, 0.45, 0.10, 0.05]),
    category("fuel", 0.09, (3.7, 0.45), -0.3, [0.50, 0.40, 0.02, 0.08]),
    category("transport", 0.09, (2.2, 0.80), -0.4, [0.20, 0.60, 0.18, 0.02]),
    category("marketplace", 0.12, (3.3, 0.90), 0.3, [0.02, 0.03, 0.95, 0.00]),
    category("electronics", 0.05, (4.8, 1.00), 0.7, [0.35, 0.10, 0.50, 0.05]),
    category("fashion", 0.07, (3.9, 0.70), 0.1, [0.30, 0.25, 0.42, 0.03]),
    category("travel", 0.03, (5.2, 0.90), 0.5, [0.15, 0.05, 0.75, 0.05]),
    category("entertainment", 0.05, (3.2, 0.70), 0.0, [0.30, 0.35, 0.30, 0.05]),
    category("health", 0.045, (3.3, 0.80), -0.3, [0.45, 0.40, 0.12, 0.03]),
    category("digital_goods", 0.035, (2.3, 0.90), 0.9, [0.00, 0.00, 1.00, 0.00]),
    category("jewellery", 0.01, (5.4, 1.00), 0.9, [0.55, 0.10, 0.30, 0.05]),
];

/// Merchants in each category; their ids are `category · MERCHANTS + rank`, scattered.
pub const MERCHANTS: u64 = 500;

/// Countries with their share of card holders; all shares add up to 1.
pub const COUNTRIES: [(&str, f64); 20] = [
    ("DE", 0.310),
    ("FR", 0.155),
    ("NL", 0.095),
    ("AT", 0.075),
    ("BE", 0.060),
    ("ES", 0.055),
    ("IT", 0.050),
    ("CH", 0.040),
    ("PL", 0.035),
    ("GB", 0.030),
    ("CZ", 0.022),
    ("DK", 0.018),
    ("SE", 0.015),
    ("PT", 0.010),
    ("IE", 0.008),
    ("US", 0.008),
    ("TR", 0.005),
    ("TH", 0.004),
    ("BR", 0.003),
    ("ZA", 0.002),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_to_one() {
        let close = |sum: f64| assert!((sum - 1.0).abs() < 1e-9, "{sum}");
        close(CATEGORIES.iter().map(|c| c.share).sum());
        close(COUNTRIES.iter().map(|c| c.1).sum());
        CATEGORIES.iter().for_each(|c| close(c.channels.iter().sum()));
    }

    #[test]
    fn indices_name_what_they_say() {
        assert_eq!((CHANNELS[ONLINE], CHANNELS[SWIPE]), ("online", "swipe"));
        assert_eq!(CATEGORIES[DIGITAL_GOODS].name, "digital_goods");
        assert_eq!(RESOLD.map(|c| CATEGORIES[c].name), ["marketplace", "electronics", "travel", "jewellery"]);
    }
}
