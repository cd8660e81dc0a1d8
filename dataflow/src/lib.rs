//! From files to encoded shards: object stores, pinned inputs, SQL, canonical shards, features as
//! data. It never trains and never schedules.

pub mod checks;
mod confine;
mod csv;
pub mod dataset;
pub mod error;
pub mod features;
mod functions;
pub mod job;
mod load;
mod operators;
mod params;
mod parquet_file;
pub mod pin;
pub mod pipeline;
pub mod plan;
pub mod prepared;
pub mod reader;
mod rowid;
mod rowwise;
pub mod score;
pub mod session;
pub mod sink;
pub mod split;
mod sql;
pub mod stores;
mod table;
pub mod target;
pub mod types;
mod uses;
pub mod view;
