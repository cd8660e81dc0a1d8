//! The wire: generated types and the only conversions between them and the domain. No logic.

pub mod convert;

/// Generated from `sheaf/v1/*.proto`.
#[expect(missing_docs, clippy::all, clippy::allow_attributes_without_reason, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("sheaf.v1");
}

/// Paths of all methods of all services (`/sheaf.v1.JobService/SubmitJob`), from the descriptors.
pub const METHODS: &[&str] = include!(concat!(env!("OUT_DIR"), "/methods.rs"));

/// Largest message that either side sends or accepts.
pub const MAX_MESSAGE_BYTES: usize = 128 << 20;
