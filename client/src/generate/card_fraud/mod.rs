//! `card-fraud`: card transactions of half a year, in order of time, with 0.2–0.5 % fraud. Fraud comes
//! from three places: a noisy logit of what the row shows (night, amount, distance, channel, country,
//! velocity, device, merchant), injected attacks, and a few cases that nothing explains.
//!
//! Every value is a function of (seed, number of rows, row); the number of rows sets only the distance
//! in time from row to row and how many cards there are.

mod attack;
mod catalog;
mod columns;
mod rhythm;

use std::ops::Range;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use sheaf_learn::math;

use self::attack::{Attack, Attacks, BLOCK, Kind};
use self::catalog::{CATEGORIES, CHANNELS, COUNTRIES, DIGITAL_GOODS, MERCHANTS, ONLINE, RESOLD, SWIPE};
use self::rhythm::Rhythm;
use super::Table;
use super::draw::{Draws, Keys, below, exponential, hundredths, normal, pick, poisson, tenths, zipf};

/// The one table.
pub const TABLES: &[&str] = &["transactions"];

/// The dataset of `rows` transactions under `seed`.
pub fn tables(rows: u64, seed: u64) -> Vec<Box<dyn Table>> {
    vec![Box::new(CardFraud::new(rows, seed))]
}

/// Slots of a row's draws; each gives two uniforms.
mod slot {
    pub const TIME: usize = 0;
    pub const CARD: usize = 1;
    pub const MERCHANT: usize = 2;
    pub const CHANNEL: usize = 3;
    pub const AMOUNT: usize = 4;
    pub const DISTANCE: usize = 5;
    pub const COUNT: usize = 6;
    pub const DEVICE: usize = 7;
    pub const DOUBT: usize = 8;
    pub const NULLS: usize = 9;
    pub const FRAUD: usize = 10;
    pub const ATTACK: usize = 11;
    pub const ATTACK_MORE: usize = 12;
    pub const ALL: usize = 13;
}

/// Logit of fraud of the dullest transaction.
const INTERCEPT: f64 = -10.0;
/// Share of frauds that nothing in the row explains.
const UNEXPLAINED: f64 = 0.0001;

/// One transaction.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    id: i64,
    at_us: i64,
    card: u64,
    customer_age: Option<i32>,
    merchant: i64,
    category: usize,
    channel: usize,
    country: usize,
    amount: f64,
    distance_km: Option<f64>,
    minutes_since_last: Option<f64>,
    transactions_24h: i32,
    foreign: bool,
    device_score: Option<f64>,
    fraud: bool,
}

/// What stays the same for a card.
struct Card {
    country: usize,
    age: Option<i32>,
    /// Mean number of further transactions within 24 hours.
    activity: f64,
}

/// The dataset for one seed and size.
pub struct CardFraud {
    rows: u64,
    cards: u64,
    rhythm: Rhythm,
    row_keys: Keys<{ slot::ALL }>,
    card_keys: Keys<3>,
    merchant_keys: Keys<1>,
    attacks: Attacks,
}

impl CardFraud {
    /// A dataset of `rows` transactions on a twentieth as many cards (at least 500).
    pub fn new(rows: u64, seed: u64) -> Self {
        let cards = (rows / 20).max(500);
        Self {
            rows,
            cards,
            rhythm: Rhythm::new(),
            row_keys: Keys::new(seed, "generate card-fraud row"),
            card_keys: Keys::new(seed, "generate card-fraud card"),
            merchant_keys: Keys::new(seed, "generate card-fraud merchant"),
            attacks: Attacks::new(seed, cards),
        }
    }

    fn card(&self, card: u64) -> Card {
        let draws = self.card_keys.at(card);
        let (country, no_age) = draws.pair(0);
        let (age, activity) = draws.pair(1);
        let years = (46.0 + 16.0 * normal(age)).clamp(18.0, 95.0).floor() as i32;
        Card {
            country: pick(COUNTRIES.iter().map(|c| c.1), 1.0, country),
            age: (no_age >= 0.03).then_some(years),
            activity: math::exp(0.6 * normal(activity) - 0.1),
        }
    }

    /// What the merchant adds to the logit: one in twenty-five outside the popular ones is careless.
    fn merchant_risk(&self, category: usize, rank: u64) -> f64 {
        let careless = rank >= 10 && self.merchant_keys.at(merchant_index(category, rank)).unit(0) < 0.04;
        if careless { 1.5 } else { 0.0 }
    }

    fn row(&self, row: u64, attack: Option<(Attack, u64)>) -> Row {
        let draws = self.row_keys.at(row);
        let card_id = match attack {
            Some((attack, _)) => attack.card,
            // A mild skew: some cards are used much more often than others.
            None => {
                let p = draws.unit(slot::CARD);
                below(self.cards, p * p.sqrt())
            }
        };
        let card = self.card(card_id);
        let mut made = self.ordinary(row, &draws, card_id, &card);
        if let Some((attack, payment)) = attack {
            attacked(&mut made, &draws, &attack, payment);
        }
        hide_some(&mut made, &draws);
        made
    }

    /// A transaction as the card holder (or a thief who looks much like one) makes it; nothing missing yet.
    fn ordinary(&self, row: u64, draws: &Draws<'_>, card_id: u64, card: &Card) -> Row {
        let (jitter, _) = draws.pair(slot::TIME);
        let (category, merchant) = draws.pair(slot::MERCHANT);
        let (channel, foreign) = draws.pair(slot::CHANNEL);
        let (count, country) = draws.pair(slot::COUNT);
        let (_, minutes) = draws.pair(slot::CARD);
        let category = pick(CATEGORIES.iter().map(|c| c.share), 1.0, category);
        let rank = zipf(MERCHANTS, merchant);
        let channel = pick(CATEGORIES[category].channels, 1.0, channel);
        let foreign = foreign < if channel == ONLINE { 0.12 } else { 0.025 };
        let transactions_24h = 1 + poisson(card.activity, count) as i32;
        let mut made = Row {
            id: row as i64 + 1,
            at_us: self.rhythm.at((row as f64 + jitter) / self.rows as f64),
            card: card_id,
            customer_age: card.age,
            merchant: merchant_id(category, rank),
            category,
            channel,
            country: if foreign { country_abroad(card.country, country) } else { card.country },
            amount: amount(category, draws),
            distance_km: Some(distance(foreign, draws)),
            minutes_since_last: Some(exponential(1_600.0 / f64::from(transactions_24h), minutes)),
            transactions_24h,
            foreign,
            device_score: Some(device_score(draws)),
            fraud: false,
        };
        let (noise, outcome) = draws.pair(slot::FRAUD);
        let logit = logit(&made) + self.merchant_risk(category, rank) + 0.5 * normal(noise);
        made.fraud = outcome < UNEXPLAINED + 1.0 / (1.0 + math::exp(-logit));
        made
    }
}

impl Table for CardFraud {
    fn name(&self) -> &'static str {
        TABLES[0]
    }

    fn units(&self) -> u64 {
        self.rows
    }

    fn schema(&self) -> SchemaRef {
        columns::schema()
    }

    fn batch(&self, rows: Range<u64>) -> anyhow::Result<RecordBatch> {
        let mut block = rows.start / BLOCK;
        let mut attacks = self.attacks.of_block(block);
        let made: Vec<Row> = rows
            .map(|row| {
                if row / BLOCK != block {
                    block = row / BLOCK;
                    attacks = self.attacks.of_block(block);
                }
                let attack = attacks.iter().flatten().find_map(|a| Some((*a, a.payment(row % BLOCK)?)));
                self.row(row, attack)
            })
            .collect();
        columns::batch(&made)
    }
}

/// The logit of fraud from what the row shows.
fn logit(row: &Row) -> f64 {
    let yes = |condition: bool, weight: f64| if condition { weight } else { 0.0 };
    let distance = row.distance_km.unwrap_or(5.0);
    let minutes = row.minutes_since_last.unwrap_or(250.0);
    INTERCEPT
        + CATEGORIES[row.category].risk
        + yes(rhythm::hour_of_day(row.at_us) < 6, 1.3)
        + yes(row.channel == ONLINE, 1.2)
        + yes(row.channel == SWIPE, 0.9)
        + yes(row.foreign, 1.5)
        + 0.80 * (math::ln(1.0 + row.amount) - 3.3)
        + 0.30 * (math::ln(1.0 + distance) - 1.8)
        - 0.35 * (math::ln(1.0 + minutes) - 5.5)
        + 0.45 * (f64::from(row.transactions_24h) - 2.0)
        - 7.0 * (row.device_score.unwrap_or(0.8) - 0.8)
}

/// Log-normal by category, with a heavier tail once in fifty; in cents, at least one.
fn amount(category: usize, draws: &Draws<'_>) -> f64 {
    let (z, tail) = draws.pair(slot::AMOUNT);
    let kind = &CATEGORIES[category];
    let wider = if tail < 0.02 { 1.8 } else { 1.0 };
    cents(math::exp(kind.mean + kind.spread * wider * normal(z)))
}

/// Log-normal, far away when abroad; three in a hundred are twenty times as far.
fn distance(foreign: bool, draws: &Draws<'_>) -> f64 {
    let (z, jump) = draws.pair(slot::DISTANCE);
    let (mean, spread) = if foreign { (6.8, 0.8) } else { (1.6, 1.3) };
    let factor = if jump < 0.03 { 20.0 } else { 1.0 };
    tenths((math::exp(mean + spread * normal(z)) * factor).min(20_000.0))
}

/// How well the device is known, 0 to 1; four in a hundred honest ones look doubtful.
fn device_score(draws: &Draws<'_>) -> f64 {
    let (z, doubtful) = draws.pair(slot::DEVICE);
    let doubt = if doubtful < 0.04 { 0.6 * draws.unit(slot::DOUBT) } else { 0.0 };
    let z = normal(z);
    1.0 - (0.12 + 0.10 * z * z + doubt).clamp(0.0, 1.0)
}

/// Turns an ordinary row into the `payment`-th payment of an attack.
fn attacked(row: &mut Row, draws: &Draws<'_>, attack: &Attack, payment: u64) {
    let (a, b) = draws.pair(slot::ATTACK);
    let (c, d) = draws.pair(slot::ATTACK_MORE);
    row.fraud = true;
    row.channel = ONLINE;
    match attack.kind {
        Kind::Testing => {
            row.category = DIGITAL_GOODS;
            row.merchant = merchant_id(DIGITAL_GOODS, attack.merchant_rank);
            row.amount = cents(0.5 + 2.0 * a);
            row.transactions_24h += 3 + payment as i32;
            row.minutes_since_last = Some(0.2 + 1.5 * b);
            row.device_score = Some(0.2 + 0.5 * c);
        }
        Kind::Takeover => {
            row.category = RESOLD[below(RESOLD.len() as u64, a) as usize];
            row.merchant = merchant_id(row.category, zipf(MERCHANTS, b));
            row.amount = cents(math::exp(5.8 + 0.6 * normal(c)));
            row.transactions_24h += payment as i32;
            row.device_score = Some(0.1 + 0.4 * d);
        }
    }
}

/// Takes away what a real export would miss: distances, first transactions, devices at terminals.
fn hide_some(row: &mut Row, draws: &Draws<'_>) {
    let (no_distance, first) = draws.pair(slot::NULLS);
    let (_, no_device) = draws.pair(slot::DOUBT);
    let first = first < 0.006 && row.transactions_24h == 1;
    row.distance_km = row.distance_km.filter(|_| no_distance >= 0.05);
    row.minutes_since_last = row.minutes_since_last.filter(|_| !first).map(hundredths);
    let unknown = if row.channel == ONLINE { 0.04 } else { 0.10 };
    row.device_score = row.device_score.filter(|_| no_device >= unknown).map(|s| (s * 1_000.0 + 0.5).floor() / 1_000.0);
}

fn country_abroad(home: usize, p: f64) -> usize {
    let others = COUNTRIES.iter().enumerate().map(|(i, c)| if i == home { 0.0 } else { c.1 });
    pick(others, 1.0 - COUNTRIES[home].1, p)
}

fn merchant_index(category: usize, rank: u64) -> u64 {
    category as u64 * MERCHANTS + rank
}

/// Scatters ids, so that they say nothing about category or size (7919 is prime to their number).
fn merchant_id(category: usize, rank: u64) -> i64 {
    let merchants = MERCHANTS * CATEGORIES.len() as u64;
    10_000 + (merchant_index(category, rank) * 7_919 % merchants) as i64
}

fn cents(x: f64) -> f64 {
    hundredths(x.clamp(0.01, 250_000.0))
}

#[cfg(test)]
mod tests;
