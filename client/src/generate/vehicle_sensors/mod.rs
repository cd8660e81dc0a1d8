//! `vehicle-sensors`: delivery vans that report every 20 minutes of their shifts, and what the workshop did to them.
//! The drive belt turns the water pump and the alternator: as it wears, vibration and coolant temperature rise and
//! the voltage falls ([`series`]). How many kilometres are left until the workshop replaces it is the question.
//!
//! Every value is a function of (seed, number of rows, vehicle): a vehicle's readings are made in one go, since each
//! depends on the one before. The number of rows sets how many vehicles there are.

mod fleet;
mod series;
mod tables;

use std::ops::Range;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use self::series::Fleet;
use super::{Layout, Table};

/// The tables.
pub const TABLES: &[&str] = &["readings", "vehicles", "maintenance"];

/// The dataset of `rows` readings under `seed`.
pub fn tables(rows: u64, seed: u64) -> Vec<Box<dyn Table>> {
    let kinds = [Kind::Readings, Kind::Vehicles, Kind::Maintenance];
    kinds.into_iter().map(|kind| Box::new(Part { kind, fleet: Fleet::new(rows, seed) }) as Box<dyn Table>).collect()
}

/// Which table.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Readings,
    Vehicles,
    Maintenance,
}

/// One of the tables; a unit is a vehicle.
struct Part {
    kind: Kind,
    fleet: Fleet,
}

impl Table for Part {
    fn name(&self) -> &'static str {
        TABLES[self.kind as usize]
    }

    fn schema(&self) -> SchemaRef {
        match self.kind {
            Kind::Readings => tables::readings_schema(),
            Kind::Vehicles => tables::vehicles_schema(),
            Kind::Maintenance => tables::maintenance_schema(),
        }
    }

    fn units(&self) -> u64 {
        self.fleet.vehicles()
    }

    fn noun(&self) -> &'static str {
        "vehicles"
    }

    fn rows_per_unit(&self) -> u64 {
        match self.kind {
            Kind::Readings => self.fleet.readings_per_vehicle(),
            Kind::Vehicles => 1,
            Kind::Maintenance => 10,
        }
    }

    fn layout(&self) -> Layout {
        match self.kind {
            Kind::Vehicles => Layout::Csv,
            _ => Layout::Parquet,
        }
    }

    fn batch(&self, units: Range<u64>) -> anyhow::Result<RecordBatch> {
        match self.kind {
            Kind::Readings => tables::readings(&units.flat_map(|v| self.fleet.series(v).readings).collect::<Vec<_>>()),
            Kind::Vehicles => tables::vehicles(&units.map(|v| self.fleet.vehicle(v)).collect::<Vec<_>>()),
            Kind::Maintenance => tables::maintenance(&units.flat_map(|v| self.fleet.series(v).events).collect::<Vec<_>>()),
        }
    }
}

#[cfg(test)]
mod tests;
