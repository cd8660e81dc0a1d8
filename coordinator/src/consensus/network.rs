//! The wire to other members: none yet, so every peer is unreachable.
//!
//! A group of one never sends anything. What a transport has to fill in is the three calls of [`Peer`]:
//! encode the request, send it to `address` within `option.hard_ttl()`, decode the answer, and give
//! [`Unreachable`] when there is no connection, for openraft then waits before it tries again. The
//! receiving side hands requests to `Raft::append_entries`, `Raft::vote` and `Raft::install_snapshot`.

use openraft::error::{InstallSnapshotError, RPCError, RaftError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{BasicNode, RaftNetwork, RaftNetworkFactory};

use crate::consensus::state_machine::Types;

type Failure<E = openraft::error::Infallible> = RPCError<u64, BasicNode, RaftError<u64, E>>;

/// Makes a [`Peer`] for each other member.
#[derive(Debug, Default)]
pub(crate) struct Peers;

/// The way to one other member.
#[derive(Debug)]
pub(crate) struct Peer {
    id: u64,
    address: String,
}

/// There is no transport between members yet.
#[derive(Debug, thiserror::Error)]
#[error("member {id} at {address:?} cannot be reached: this version runs a group of one member only")]
struct NoTransport {
    id: u64,
    address: String,
}

impl Peer {
    fn unreachable(&self) -> Unreachable {
        Unreachable::new(&NoTransport { id: self.id, address: self.address.clone() })
    }
}

impl RaftNetworkFactory<Types> for Peers {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Peer {
        Peer { id: target, address: node.addr.clone() }
    }
}

impl RaftNetwork<Types> for Peer {
    async fn append_entries(
        &mut self,
        _: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, Failure> {
        Err(self.unreachable().into())
    }

    async fn install_snapshot(
        &mut self,
        _: InstallSnapshotRequest<Types>,
        _: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, Failure<InstallSnapshotError>> {
        Err(self.unreachable().into())
    }

    async fn vote(&mut self, _: VoteRequest<u64>, _: RPCOption) -> Result<VoteResponse<u64>, Failure> {
        Err(self.unreachable().into())
    }
}
