//! The service by which nodes get their certificates: enrolling with a join token, renewing with the
//! certificate that they have.

use std::sync::Arc;
use std::time::Duration;

use sheaf_cluster::durable::{Entry, Reply};
use sheaf_cluster::id::Millis;
use sheaf_proto::v1::{self, node_service_server::NodeService};
use sheaf_runtime::auth::{Origin, Peer, Role};
use sheaf_runtime::pki::{Authority, Enrolling, NodeRequest, Order, PkiError, TokenError};
use tonic::{Request, Response, Status};
use tracing::{info, warn};

use crate::context::{Context, now};

/// [`NodeService`] over the authority and the log.
pub struct Nodes {
    context: Context,
    authority: Option<Arc<Authority>>,
    life: Duration,
}

impl Nodes {
    /// Without `enrolling` nobody gets a certificate here.
    pub fn new(context: Context, enrolling: Option<&Enrolling>) -> Result<Self, PkiError> {
        let authority = enrolling.map(|e| Authority::open(&e.dir)).transpose()?.map(Arc::new);
        Ok(Self { context, authority, life: enrolling.map_or(Duration::ZERO, |e| e.life) })
    }

    fn authority(&self) -> Result<&Authority, Status> {
        self.authority.as_deref().ok_or_else(|| {
            Status::failed_precondition(
                "this coordinator gives no certificates; start it with --pki DIR, the folder of `sheaf pki init`",
            )
        })
    }

    /// A certificate for a request, and until when it is valid.
    fn sign(&self, authority: &Authority, request: &NodeRequest, role: Role, name: String) -> Result<String, Status> {
        let order = Order { role, name, hosts: Vec::new(), life: self.life };
        authority.sign(request, &order).map_err(wrong)
    }
}

#[tonic::async_trait]
impl NodeService for Nodes {
    async fn enroll_node(&self, request: Request<v1::EnrollNodeRequest>) -> Result<Response<v1::EnrollNodeResponse>, Status> {
        let from = request.extensions().get::<Origin>().map_or_else(String::new, |o| o.address.clone());
        let authority = self.authority()?;
        let asked = request.into_inner();
        let token = authority.verify_token(&asked.token).map_err(|error| {
            warn!(from, %error, "a node was not enrolled");
            match error {
                TokenError::Malformed => Status::invalid_argument(error.to_string()),
                _ => Status::permission_denied(error.to_string()),
            }
        })?;
        let node = NodeRequest::read(&asked.request).map_err(wrong)?;
        // Made before the token is spent: a name that is wrong must not cost it.
        let certificate = self.sign(authority, &node, token.role(), asked.name.clone())?;
        let expires = Millis(u64::try_from(token.expires()).unwrap_or(0).saturating_mul(1000));
        let entry = Entry::TokenUsed { token: token.digest(), key: node.key_digest(), expires, now: now() };
        match self.context.log.propose(entry).await.map_err(|e| Status::unavailable(e.to_string()))? {
            Reply::Rejected(reason) => {
                warn!(from, token = token.digest(), reason, "a node was not enrolled");
                Err(Status::permission_denied(reason))
            }
            Reply::Ok | Reply::Submitted { .. } => {
                info!(from, name = asked.name, role = %token.role(), token = token.digest(), "node enrolled");
                Ok(Response::new(v1::EnrollNodeResponse { certificate, authority: authority.pem().to_owned() }))
            }
        }
    }

    async fn renew_certificate(
        &self,
        request: Request<v1::RenewCertificateRequest>,
    ) -> Result<Response<v1::RenewCertificateResponse>, Status> {
        let authority = self.authority()?;
        let extensions = request.extensions();
        let (Some(peer), Some(origin)) = (extensions.get::<Peer>().cloned(), extensions.get::<Origin>().cloned()) else {
            return Err(Status::unauthenticated("a certificate is renewed over a connection made with it"));
        };
        let &[role] = peer.roles else {
            return Err(Status::failed_precondition("on loopback there are no certificates to renew"));
        };
        let node = NodeRequest::read(&request.into_inner().request).map_err(wrong)?;
        let certificate = self.sign(authority, &node, role, peer.name.clone())?;
        // The connection goes on under the new certificate.
        let until = i64::try_from(now().0 / 1000 + self.life.as_secs()).unwrap_or(i64::MAX);
        origin.validity.extend(until.min(authority.leaf().not_after));
        info!(name = peer.name, from = origin.address, "certificate renewed");
        Ok(Response::new(v1::RenewCertificateResponse { certificate, authority: authority.pem().to_owned() }))
    }
}

/// What was asked for is wrong, or the authority is.
fn wrong(error: PkiError) -> Status {
    match error {
        PkiError::Order(reason) => Status::invalid_argument(reason),
        other => Status::internal(other.to_string()),
    }
}
