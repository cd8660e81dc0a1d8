//! A vehicle's readings, one after the other, and what the workshop did in between.
//!
//! The belt's state is the number of kilometres that it has left, `left_km`. What it does to the sensors is linear in
//! the *slip* `1 - left_km / 24,000`; no belt lives longer. The workshop replaces it when `left_km` falls below what is
//! drawn for each belt (mean 0, standard deviation [`EARLY_OR_LATE_KM`]): nobody can know that, so it bounds what any
//! model can reach.

use super::super::draw::{Draws, Keys, exponential, hundredths, normal, tenths, whole};
use super::fleet::{BELT, DEPOTS, MODELS, Vehicle, Vehicles, WORK};

/// Standard deviation of how early (or late) the workshop replaces a belt, in km.
pub const EARLY_OR_LATE_KM: f64 = 1_500.0;
/// Kilometres that the longest belt lives; the slip is measured against it.
const LONGEST_KM: f64 = 24_000.0;
/// Readings of a vehicle if there are enough rows for ten vehicles.
const READINGS: u64 = 2_500;
/// Readings of a shift of nine hours.
const READINGS_PER_DAY: u64 = 27;
/// 2026-01-05, a Monday, as days since 1970.
pub const FIRST_DAY: i64 = 20_458;
/// Microseconds of a minute.
const MINUTE: i64 = 60_000_000;
/// Hours between two readings.
const HOURS: f64 = 1.0 / 3.0;
/// Counters of a vehicle's own events.
const EVENTS: u64 = 100_000;

/// Slots of a reading's draws; each gives two uniforms.
mod slot {
    pub const DRIVING: usize = 0;
    pub const VIBRATION: usize = 1;
    pub const COOLANT: usize = 2;
    pub const VOLTAGE: usize = 3;
    pub const WEATHER: usize = 4;
    pub const FAULT: usize = 5;
    pub const MISSING: usize = 6;
    pub const ALL: usize = 7;
}

/// One reading.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// 1, 2, 3 … over all vehicles.
    pub id: i64,
    pub vehicle: i64,
    pub at_us: i64,
    pub odometer_km: f64,
    pub speed_kmh: f64,
    pub rpm: i32,
    pub ambient_c: f64,
    pub coolant_c: Option<f64>,
    /// mm/s.
    pub vibration: Option<f64>,
    pub voltage: Option<f64>,
    /// Index of the fault codes.
    pub fault: Option<usize>,
    /// Kilometres that the belt has left; stands in no table.
    pub left_km: f64,
}

/// Something that the workshop did.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub id: i64,
    pub vehicle: i64,
    pub at_us: i64,
    pub odometer_km: f64,
    /// Index of the kinds of work.
    pub work: usize,
    pub cost: f64,
}

/// All about one vehicle, each in order of time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Series {
    pub readings: Vec<Reading>,
    pub events: Vec<Event>,
}

/// Makes vehicles and their series.
pub struct Fleet {
    rows: u64,
    vehicles: Vehicles,
    reading_keys: Keys<{ slot::ALL }>,
    belt_keys: Keys<2>,
    event_keys: Keys<2>,
    day_keys: Keys<1>,
}

impl Fleet {
    /// A fleet with `rows` readings: 2,500 of a vehicle, fewer if that would be fewer than ten vehicles.
    pub fn new(rows: u64, seed: u64) -> Self {
        Self {
            rows,
            vehicles: Vehicles::new(seed),
            reading_keys: Keys::new(seed, "generate vehicle-sensors reading"),
            belt_keys: Keys::new(seed, "generate vehicle-sensors belt"),
            event_keys: Keys::new(seed, "generate vehicle-sensors event"),
            day_keys: Keys::new(seed, "generate vehicle-sensors day"),
        }
    }

    /// Number of vehicles.
    pub fn vehicles(&self) -> u64 {
        (self.rows / READINGS).max(10).min(self.rows)
    }

    /// Readings of the vehicle that has most.
    pub fn readings_per_vehicle(&self) -> u64 {
        self.rows.div_ceil(self.vehicles())
    }

    /// The vehicle of an index.
    pub fn vehicle(&self, index: u64) -> Vehicle {
        self.vehicles.at(index)
    }

    /// Everything that the vehicle of an index reported and went through.
    pub fn series(&self, index: u64) -> Series {
        let edge = |index: u64| (u128::from(self.rows) * u128::from(index) / u128::from(self.vehicles())) as u64;
        let mut drive = Drive::start(self, index);
        for (n, row) in (edge(index)..edge(index + 1)).enumerate() {
            drive.read(n as u64, row);
            drive.maintain();
        }
        drive.series
    }

    /// The `number`-th belt of a vehicle.
    fn belt(&self, vehicle: &Vehicle, number: u64) -> Belt {
        let draws = self.belt_keys.at(vehicle.id as u64 * EVENTS + number);
        let (life, early) = draws.pair(0);
        let life_km = (MODELS[vehicle.model].belt_km * (1.0 + 0.12 * normal(life))).clamp(9_000.0, LONGEST_KM);
        let replaced_at = (EARLY_OR_LATE_KM * normal(early)).clamp(-4_500.0, 4_500.0);
        Belt { number, life_km, replaced_at_km: replaced_at, used: draws.unit(1) }
    }
}

/// One drive belt.
struct Belt {
    number: u64,
    /// Kilometres from new to worn out.
    life_km: f64,
    /// What is left, or by how much it is overdue, when the workshop replaces it.
    replaced_at_km: f64,
    /// A share in (0, 1): what was used up of it before the first reading, for a vehicle's first belt.
    used: f64,
}

/// A vehicle on the road.
struct Drive<'a> {
    fleet: &'a Fleet,
    vehicle: Vehicle,
    belt: Belt,
    left_km: f64,
    odometer_km: f64,
    /// How fast the traffic is, standard normal, remembered from reading to reading.
    traffic: f64,
    next_oil_km: f64,
    next_tyres_km: f64,
    series: Series,
}

impl<'a> Drive<'a> {
    /// The vehicle before its first reading. Its first belt was fitted some time ago: the first event.
    fn start(fleet: &'a Fleet, index: u64) -> Self {
        let vehicle = fleet.vehicle(index);
        let belt = fleet.belt(&vehicle, 0);
        let done_km = belt.used * belt.life_km;
        let odometer_km = vehicle.odometer_km + done_km;
        let (oil, tyres) = fleet.event_keys.at(vehicle.id as u64 * EVENTS).pair(0);
        let mut drive = Self {
            left_km: belt.life_km - done_km,
            belt,
            odometer_km: vehicle.odometer_km,
            traffic: 0.0,
            next_oil_km: odometer_km + 12_000.0 * oil,
            next_tyres_km: odometer_km + 35_000.0 * tyres,
            vehicle,
            fleet,
            series: Series::default(),
        };
        let days_ago = (done_km / 550.0) as i64 + 1;
        drive.work(BELT, (FIRST_DAY - days_ago) * 1_440 * MINUTE + 1_020 * MINUTE);
        drive.odometer_km = odometer_km;
        drive
    }

    /// Drives to the `n`-th reading, which has the number `row` among all.
    fn read(&mut self, n: u64, row: u64) {
        let draws = self.fleet.reading_keys.at(row);
        let (day, at_us) = self.moment(n, &draws);
        let speed_kmh = self.speed(&draws);
        self.odometer_km += speed_kmh * HOURS;
        self.left_km -= speed_kmh * HOURS;
        let ambient_c = self.ambient(day, n, &draws);
        let reading = Reading {
            id: row as i64 + 1,
            vehicle: self.vehicle.id,
            at_us,
            odometer_km: tenths(self.odometer_km),
            speed_kmh: tenths(speed_kmh),
            rpm: self.rpm(speed_kmh, &draws),
            ambient_c: tenths(ambient_c),
            left_km: self.left_km,
            ..self.sensed(speed_kmh, ambient_c, &draws)
        };
        self.series.readings.push(reading);
    }

    /// (days since the first, microseconds since 1970): shifts from Monday to Friday, a reading every 20 minutes.
    fn moment(&self, n: u64, draws: &Draws<'_>) -> (i64, i64) {
        let (workday, place) = ((n / READINGS_PER_DAY) as i64, (n % READINGS_PER_DAY) as i64);
        let day = workday / 5 * 7 + workday % 5;
        let (_, jitter) = draws.pair(slot::DRIVING);
        let minutes = (FIRST_DAY + day) * 1_440 + 360 + self.vehicle.shift_minutes + place * 20;
        (day, minutes * MINUTE + (jitter * 120.0) as i64 * 1_000_000)
    }

    /// Mean speed since the last reading, km/h.
    fn speed(&mut self, draws: &Draws<'_>) -> f64 {
        let (traffic, _) = draws.pair(slot::DRIVING);
        self.traffic = 0.8 * self.traffic + 0.6 * normal(traffic);
        let town = DEPOTS[self.vehicle.depot].2;
        (62.0 - 34.0 * town + 19.0 * self.traffic).clamp(3.0, 118.0)
    }

    fn rpm(&self, speed_kmh: f64, draws: &Draws<'_>) -> i32 {
        let (_, noise) = draws.pair(slot::WEATHER);
        whole(850.0 + MODELS[self.vehicle.model].gearing * speed_kmh + 90.0 * normal(noise)).clamp(700.0, 4_500.0) as i32
    }

    /// Outside temperature: spring comes, days differ (alike for all), noon is warmer.
    fn ambient(&self, day: i64, n: u64, draws: &Draws<'_>) -> f64 {
        let (local, _) = draws.pair(slot::WEATHER);
        let weather = normal(self.fleet.day_keys.at(day as u64).unit(0));
        let noon = 1.0 - ((n % READINGS_PER_DAY) as f64 - 18.0).abs() / 18.0;
        2.0 + 0.09 * (day as f64).min(180.0) + 3.0 * weather + 5.0 * noon + 0.4 * normal(local)
    }

    /// What the belt has to do with, and what is missing.
    fn sensed(&self, speed_kmh: f64, ambient_c: f64, draws: &Draws<'_>) -> Reading {
        let (vibration, _) = draws.pair(slot::VIBRATION);
        let (coolant, _) = draws.pair(slot::COOLANT);
        let (voltage, _) = draws.pair(slot::VOLTAGE);
        let (no_coolant, no_vibration) = draws.pair(slot::MISSING);
        let (_, no_voltage) = draws.pair(slot::COOLANT);
        let slip = 1.0 - self.left_km / LONGEST_KM;
        let shake = 1.1 + 0.018 * speed_kmh + MODELS[self.vehicle.model].vibration + self.vehicle.vibration;
        let vibration = shake + 2.2 * slip + 0.35 * normal(vibration);
        let coolant = 82.0 + 7.0 * slip + 0.05 * (speed_kmh - 50.0) + 0.15 * (ambient_c - 12.0) + 2.5 * normal(coolant);
        let voltage = 14.3 - 0.8 * slip + 0.1 * normal(voltage);
        Reading {
            coolant_c: (no_coolant >= 0.02).then(|| tenths(coolant)),
            vibration: (no_vibration >= 0.01).then(|| hundredths(vibration.max(0.1))),
            voltage: (no_voltage >= 0.005).then(|| hundredths(voltage)),
            fault: fault(slip, draws),
            ..nothing()
        }
    }

    /// What the workshop does after the shift's reading: whatever is due.
    fn maintain(&mut self) {
        let Some(last) = self.series.readings.last() else { return };
        let at_us = last.at_us;
        if self.left_km <= self.belt.replaced_at_km {
            self.work(BELT, at_us + 6 * MINUTE);
            self.belt = self.fleet.belt(&self.vehicle, self.belt.number + 1);
            self.left_km = self.belt.life_km;
        }
        if self.odometer_km >= self.next_oil_km {
            self.work(1, at_us + 8 * MINUTE);
            self.next_oil_km = self.odometer_km + 12_000.0 + self.spread(1_500.0);
        }
        if self.odometer_km >= self.next_tyres_km {
            self.work(2, at_us + 10 * MINUTE);
            self.work(3, at_us + 12 * MINUTE);
            self.next_tyres_km = self.odometer_km + 35_000.0 + self.spread(4_000.0);
        }
    }

    /// A random distance of mean `mean_km` for the event that has just been noted.
    fn spread(&self, mean_km: f64) -> f64 {
        exponential(mean_km, self.event_draws().unit(0))
    }

    fn event_draws(&self) -> Draws<'_> {
        self.fleet.event_keys.at(self.vehicle.id as u64 * EVENTS + self.series.events.len() as u64)
    }

    fn work(&mut self, work: usize, at_us: i64) {
        let cost = self.event_draws().unit(1);
        let event = Event {
            id: self.vehicle.id * EVENTS as i64 + self.series.events.len() as i64 + 1,
            vehicle: self.vehicle.id,
            at_us,
            odometer_km: tenths(self.odometer_km),
            work,
            cost: hundredths(WORK[work].1 * (0.85 + 0.3 * cost)),
        };
        self.series.events.push(event);
    }
}

/// Faults come late: low voltage and overheating from a slipping belt, the catalyst at any time.
fn fault(slip: f64, draws: &Draws<'_>) -> Option<usize> {
    let (low_voltage, hot) = draws.pair(slot::FAULT);
    let (_, catalyst) = draws.pair(slot::VIBRATION);
    let slip = slip.max(0.0);
    let cubed = slip * slip * slip;
    if low_voltage < 0.12 * cubed * cubed {
        Some(0)
    } else if hot < 0.06 * cubed * cubed {
        Some(1)
    } else {
        (catalyst < 0.004).then_some(2)
    }
}

fn nothing() -> Reading {
    Reading {
        id: 0,
        vehicle: 0,
        at_us: 0,
        odometer_km: 0.0,
        speed_kmh: 0.0,
        rpm: 0,
        ambient_c: 0.0,
        coolant_c: None,
        vibration: None,
        voltage: None,
        fault: None,
        left_km: 0.0,
    }
}
