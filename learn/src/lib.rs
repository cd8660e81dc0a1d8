//! Pure mathematics: encoded shards in, partials and models out. No tokio, files, clocks or entropy.

pub mod algorithm;
pub mod algorithms;
pub mod hash;
pub mod isolation;
pub mod kernels;
pub mod linalg;
pub mod math;
pub mod metrics;
pub mod model;
pub mod murmur3;
pub mod optimizer;
pub mod params;
pub mod philox;
pub mod program;
pub mod query;
pub mod registry;
pub mod reproducible;
pub mod shard;
pub mod statistics;
pub mod suggest;
pub mod tree;
pub mod trees;
