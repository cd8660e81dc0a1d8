//! gRPC services: decode, send, encode.

pub mod jobs;
pub mod workers;
