//! gRPC services: decode, send, encode.

pub mod jobs;
pub mod nodes;
pub mod queries;
pub mod workers;
