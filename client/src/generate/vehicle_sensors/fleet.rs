//! The invented fleet: models, depots, the kinds of work and fault codes. Constants, and who a vehicle is.

use super::super::draw::{Keys, below, normal, pick};

/// One model of van.
pub struct Model {
    /// Value of the column.
    pub name: &'static str,
    /// Share of the fleet; all shares add up to 1.
    pub share: f64,
    /// Usual life of a drive belt in km.
    pub belt_km: f64,
    /// What the model adds to the vibration, mm/s.
    pub vibration: f64,
    /// Engine speed per road speed, rpm per km/h.
    pub gearing: f64,
    /// kg.
    pub payload_kg: i32,
}

/// All models.
pub const MODELS: [Model; 4] = [
    Model { name: "atlas", share: 0.35, belt_km: 17_000.0, vibration: 0.0, gearing: 17.0, payload_kg: 1_200 },
    Model { name: "brisk", share: 0.30, belt_km: 15_000.0, vibration: 0.3, gearing: 19.5, payload_kg: 900 },
    Model { name: "carrier", share: 0.20, belt_km: 19_000.0, vibration: 0.5, gearing: 15.5, payload_kg: 1_800 },
    Model { name: "dart", share: 0.15, belt_km: 16_000.0, vibration: -0.2, gearing: 20.5, payload_kg: 650 },
];

/// Depots with their share and how much of the driving is in town.
pub const DEPOTS: [(&str, f64, f64); 5] =
    [("airport", 0.20, 0.25), ("centre", 0.25, 0.70), ("harbour", 0.20, 0.45), ("north", 0.15, 0.35), ("south", 0.20, 0.40)];

/// Kinds of maintenance with their usual cost.
pub const WORK: [(&str, f64); 4] = [("drive_belt", 420.0), ("oil", 160.0), ("tyres", 780.0), ("inspection", 90.0)];
/// Index of `drive_belt`.
pub const BELT: usize = 0;

/// Fault codes: low voltage, overheating, catalyst.
pub const FAULTS: [&str; 3] = ["P0562", "P0217", "P0420"];

/// One vehicle.
#[derive(Debug, Clone, PartialEq)]
pub struct Vehicle {
    /// 1, 2, 3 …
    pub id: i64,
    /// Index of [`MODELS`].
    pub model: usize,
    /// Year it was built.
    pub year: i32,
    /// Index of [`DEPOTS`].
    pub depot: usize,
    /// What this very vehicle adds to the vibration, mm/s; stands in no table.
    pub vibration: f64,
    /// Minutes after six at which its shift begins.
    pub shift_minutes: i64,
    /// km at the start.
    pub odometer_km: f64,
}

/// Makes vehicles.
pub struct Vehicles(Keys<4>);

impl Vehicles {
    /// Those of a seed.
    pub fn new(seed: u64) -> Self {
        Self(Keys::new(seed, "generate vehicle-sensors vehicle"))
    }

    /// The vehicle of an index: 0, 1, 2 …
    pub fn at(&self, index: u64) -> Vehicle {
        let draws = self.0.at(index);
        let (model, depot) = draws.pair(0);
        let (year, shift) = draws.pair(1);
        let (vibration, km) = draws.pair(2);
        let year = 2_018 + below(8, year) as i32;
        Vehicle {
            id: index as i64 + 1,
            model: pick(MODELS.iter().map(|m| m.share), 1.0, model),
            year,
            depot: pick(DEPOTS.iter().map(|d| d.1), 1.0, depot),
            vibration: 0.08 * normal(vibration),
            shift_minutes: below(90, shift) as i64,
            odometer_km: 30_000.0 + 45_000.0 * f64::from(2_025 - year) * (0.8 + 0.4 * km),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_to_one() {
        let close = |sum: f64| assert!((sum - 1.0).abs() < 1e-9, "{sum}");
        close(MODELS.iter().map(|m| m.share).sum());
        close(DEPOTS.iter().map(|d| d.1).sum());
        assert_eq!(WORK[BELT].0, "drive_belt");
    }
}
