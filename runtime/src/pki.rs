//! The cluster's own authority: a folder with a key and a certificate, made by `sheaf pki init`. Whoever
//! holds the key can let anyone in, so it stays on the machine of whoever runs the cluster, and on
//! coordinators that enrol workers.
//!
//! | file | what it does |
//! |---|---|
//! | `pki/authority.rs` | makes an authority, issues certificates, signs requests |
//! | `pki/token.rs` | one-time join tokens: signed by the authority, verified without a network |
//! | `pki/node.rs` | a node's own side: joins with a token, keeps its certificate, renews it |
//! | `pki/store.rs` | writes keys so that nobody else reads them, and nothing is half written |

mod authority;
mod node;
mod store;
mod token;

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::tls::TlsError;

pub use authority::{Authority, CA_CERTIFICATE, CA_KEY, Issued, NodeRequest, Order};
pub(crate) use node::keep_renewed;
pub use node::{JoinError, join, join_patiently};
pub use store::{write_new, write_over};
pub use token::{MAX_TTL, Token, TokenError};

/// Why the authority cannot do it, by what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PkiError {
    /// Use the one that is there, or another folder.
    #[error("{} exists already; an authority is never overwritten: every certificate it issued would be worthless. Use it, or choose another folder", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Look at the disk and permissions.
    #[error("write {}: {reason}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Look at the authority's files.
    #[error(transparent)]
    Files(#[from] TlsError),
    /// Make an authority with `sheaf pki init`.
    #[error("{} is not an authority of ours: {reason}", path.display())]
    NotOurs {
        /// The folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Correct what was asked for.
    #[error("{0}")]
    Order(String),
    /// The library refused what passed our checks.
    #[error("make a certificate: {0}")]
    Library(String),
}

impl From<rcgen::Error> for PkiError {
    fn from(error: rcgen::Error) -> Self {
        Self::Library(error.to_string())
    }
}

/// How a coordinator lets nodes in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolling {
    /// Folder of the authority, with its key.
    pub dir: PathBuf,
    /// How long a node's certificate is valid; it is renewed at two thirds of that.
    pub life: Duration,
}

impl Enrolling {
    /// With certificates of a day.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), life: Duration::from_secs(86_400) }
    }
}

/// The clock, seconds since 1970 UTC.
pub(crate) fn unix_now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64)
}
