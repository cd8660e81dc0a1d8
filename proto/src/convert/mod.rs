//! Conversions between wire and domain, a file per `.proto`.

mod common;

pub use common::{BlockOf, Missing, StageOf, TokenOf};
