//! Plumbing that coordinator, worker and client share: orders and works as documents, the artifact
//! store and registry, memory budget, secrets, TLS, telemetry, exit codes. It decides nothing.

pub mod admin;
pub mod artifact;
pub mod auth;
pub mod canonical;
pub mod connect;
pub mod documents;
pub mod exit;
pub mod fault;
pub mod listen;
pub mod memory;
pub mod metrics;
pub mod onnx;
pub mod order;
pub mod output;
pub mod pki;
pub mod registry;
pub mod retry;
pub mod secret;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
pub mod work;

/// Rises, with a changelog entry, whenever the same job may give other bits.
pub const NUMERIC_VERSION: u32 = 4;

/// Version of the artifact and registry formats.
pub const FORMAT_VERSION: u32 = 1;
