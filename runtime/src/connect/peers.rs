//! Connections to workers, for rows of queries: by the same trust as all else in the cluster.

use std::sync::Arc;

use async_trait::async_trait;
use sheaf_dataflow::engine::{Peer, Peers, peer};
use tonic::Status;

use super::{ConnectError, Target, Trust, connect_peer};
use crate::auth::Role;

/// Reaches the workers of a cluster.
#[derive(Debug, Clone)]
pub struct ClusterPeers {
    trust: Trust,
}

impl ClusterPeers {
    /// For a worker: it shows others what they show it.
    pub fn of_worker(trust: Trust) -> Self {
        Self { trust }
    }

    /// For a coordinator, which holds the whole secret where there is one: workers know theirs.
    pub fn of_coordinator(trust: Trust) -> Self {
        match trust {
            Trust::Secret(secret) => Self { trust: Trust::Secret(secret.of(Role::Worker)) },
            tls @ Trust::Tls(_) => Self { trust: tls },
        }
    }
}

#[async_trait]
impl Peers for ClusterPeers {
    async fn connect(&self, address: &str) -> Result<Arc<dyn Peer>, Status> {
        let target = Target { address: address.to_owned(), trust: self.trust.clone() };
        let channel = connect_peer(&target).await.map_err(|error| Status::unavailable(of_worker(&error)))?;
        Ok(peer(channel))
    }
}

/// The error in words about a worker; those of its own are about coordinators.
fn of_worker(error: &ConnectError) -> String {
    match error {
        ConnectError::Unreachable { address, reason } => format!("the worker at {address} cannot be reached: {reason}"),
        ConnectError::Refused { address, reason } => format!("the worker at {address} refused the connection: {reason}"),
        other => other.to_string(),
    }
}
