//! Who calls, and what they may: roles, the peer behind a connection, the table of methods, and the one
//! layer that lets a call through to a service or refuses it.
//!
//! | file | what it does |
//! |---|---|
//! | `auth/table.rs` | method → roles; a method that is not in it is refused |
//! | `auth/guard.rs` | the layer over every service: finds the peer, asks the table |
//! | `auth/sparing.rs` | few log lines about many refusals |

mod guard;
mod sparing;
mod table;

use std::fmt;
use std::str::FromStr;

pub use guard::{Door, Guard, GuardLayer, Origin, Validity};
pub use sparing::{Line, Sparing};
pub use table::{Access, ENGINE_METHODS, HEALTH_METHODS, allowed, listed};

/// What a peer is to the cluster. People's roles (viewer, operator) come later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Leads: a coordinator.
    Coordinator,
    /// Computes: a worker process.
    Worker,
    /// Asks: a person's program.
    Client,
}

impl Role {
    /// All roles.
    pub const ALL: &'static [Role] = &[Role::Coordinator, Role::Worker, Role::Client];

    /// Its name, as certificates and tokens write it.
    pub fn name(self) -> &'static str {
        match self {
            Role::Coordinator => "coordinator",
            Role::Worker => "worker",
            Role::Client => "client",
        }
    }

    /// A list of this role alone.
    pub fn alone(self) -> &'static [Role] {
        match self {
            Role::Coordinator => &[Role::Coordinator],
            Role::Worker => &[Role::Worker],
            Role::Client => &[Role::Client],
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Role::ALL.iter().find(|role| role.name() == text);
        found.copied().ok_or_else(|| format!("`{text}` is no role: coordinator, worker or client"))
    }
}

/// The authenticated caller. Services find it among a request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Name in its certificate; `local` for a holder of the run's secret.
    pub name: String,
    /// What it may act as.
    pub roles: &'static [Role],
}
