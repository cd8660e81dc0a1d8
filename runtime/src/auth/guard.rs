//! The layer over every service: it finds out who calls, asks the table, and refuses what is not allowed.
//! A service behind it sees a [`Peer`] among the request's extensions.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context, Poll};
use std::time::{SystemTime, UNIX_EPOCH};

use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, http};
use tower::{Layer, Service};
use tracing::warn;

use super::table::{Access, allowed};
use super::{Line, Peer, Role, Sparing};
use crate::secret::Secret;

/// How callers prove who they are.
#[derive(Debug, Clone)]
pub enum Door {
    /// By the secret of a cluster on loopback, or the secret of one role.
    Secret(Arc<Secrets>),
    /// By the certificate of their connection.
    Certificate,
}

/// A secret and those that come from it.
#[derive(Debug)]
pub struct Secrets {
    all: Secret,
    roles: Vec<(Role, Secret)>,
}

impl Door {
    /// A door that the secret opens, and for one role the secret of that role.
    pub fn secret(secret: &Secret) -> Self {
        let roles = Role::ALL.iter().map(|role| (*role, secret.of(*role))).collect();
        Self::Secret(Arc::new(Secrets { all: secret.clone(), roles }))
    }
}

/// What the listener knows of a connection: the peer of its certificate, if it showed one.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Who, by the certificate.
    pub peer: Option<Peer>,
    /// From where, for the log.
    pub address: String,
    /// Until when.
    pub validity: Validity,
}

/// Until when a connection is good: as long as its peer's certificate. A renewal over the connection moves
/// that on, so that no work is interrupted.
#[derive(Debug, Clone)]
pub struct Validity(Arc<AtomicI64>);

impl Validity {
    /// For a connection without a certificate.
    pub fn endless() -> Self {
        Self::until(i64::MAX)
    }

    /// Until a time, seconds since 1970 UTC.
    pub fn until(seconds: i64) -> Self {
        Self(Arc::new(AtomicI64::new(seconds)))
    }

    /// Moves the end on.
    pub fn extend(&self, seconds: i64) {
        self.0.fetch_max(seconds, Ordering::Relaxed);
    }

    /// Whether the end has passed.
    pub fn is_over(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
        now > self.0.load(Ordering::Relaxed)
    }
}

/// Puts a [`Guard`] before every service.
#[derive(Debug, Clone)]
pub struct GuardLayer {
    door: Door,
    sparing: Arc<Sparing>,
}

impl GuardLayer {
    /// For one server.
    pub fn new(door: Door) -> Self {
        Self { door, sparing: Arc::default() }
    }
}

impl<S> Layer<S> for GuardLayer {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        Guard { layer: self.clone(), inner }
    }
}

/// Refuses calls that the table does not allow.
#[derive(Debug, Clone)]
pub struct Guard<S> {
    layer: GuardLayer,
    inner: S,
}

impl<S> Service<http::Request<Body>> for Guard<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        match admit(&self.layer.door, &request) {
            Ok(peer) => {
                // No service needs the secret, so none can leak it.
                request.headers_mut().remove(http::header::AUTHORIZATION);
                if let Some(peer) = peer {
                    request.extensions_mut().insert(peer);
                }
                Box::pin(self.inner.call(request))
            }
            Err(status) => {
                let from = request.extensions().get::<Origin>().map_or("unknown", |o| o.address.as_str());
                let (method, reason) = (request.uri().path(), status.message());
                match self.layer.sparing.line() {
                    Line::Full => warn!(method, from, reason, "call refused"),
                    Line::Last => warn!(method, from, reason, "call refused; further ones are not logged for some seconds"),
                    Line::None => {}
                }
                Box::pin(std::future::ready(Ok(status.into_http())))
            }
        }
    }
}

/// Who calls, if they may.
fn admit(door: &Door, request: &http::Request<Body>) -> Result<Option<Peer>, Status> {
    let peer = identify(door, request);
    let access = allowed(request.uri().path());
    match (access, peer) {
        (Some(Access::Open), peer) => Ok(peer),
        (_, None) => Err(Status::unauthenticated(match door {
            Door::Secret(_) => "this cluster's secret is missing or wrong",
            Door::Certificate => {
                "this call needs a client certificate of the cluster's authority; give --tls-cert, --tls-key and --tls-ca"
            }
        })),
        (Some(Access::Roles(roles)), Some(peer)) if peer.roles.iter().any(|role| roles.contains(role)) => Ok(Some(peer)),
        (access, Some(peer)) => Err(Status::permission_denied(refusal(&peer, access, request.uri().path()))),
    }
}

fn refusal(peer: &Peer, access: Option<Access>, path: &str) -> String {
    let names = |roles: &[Role]| roles.iter().map(|r| r.name()).collect::<Vec<_>>().join(", ");
    match access {
        Some(Access::Roles(roles)) => {
            let given = if peer.roles.is_empty() { "none".to_owned() } else { names(peer.roles) };
            format!("{path} is for the role {}; `{}` has {given}", names(roles), peer.name)
        }
        Some(Access::Open) | None => format!("{path} is not a method that anyone may call"),
    }
}

fn identify(door: &Door, request: &http::Request<Body>) -> Option<Peer> {
    match door {
        Door::Certificate => request.extensions().get::<Origin>()?.peer.clone(),
        Door::Secret(secrets) => {
            let given = request.headers().get(http::header::AUTHORIZATION)?.as_bytes();
            // Every one is compared, so that the time does not tell which one failed.
            let all = secrets.all.matches(given).then_some(Role::ALL);
            let role = secrets.roles.iter().fold(None, |found, (role, secret)| {
                let matches = secret.matches(given);
                found.or(matches.then(|| role.alone()))
            });
            Some(Peer { name: "local".to_owned(), roles: all.or(role)? })
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use tonic::Code;

    fn check(door: &Door, path: &str, secret: Option<&Secret>, peer: Option<Peer>) -> Result<Option<Peer>, Code> {
        let mut request = http::Request::builder().uri(format!("http://h{path}")).body(Body::empty()).unwrap();
        if let Some(secret) = secret {
            let header = secret.header().unwrap();
            let value = http::HeaderValue::from_bytes(header.as_encoded_bytes()).unwrap();
            request.headers_mut().insert(http::header::AUTHORIZATION, value);
        }
        request.extensions_mut().insert(Origin { peer, address: "here".to_owned(), validity: Validity::endless() });
        admit(door, &request).map_err(|status| status.code())
    }

    fn peer(roles: &'static [Role]) -> Option<Peer> {
        Some(Peer { name: "p".to_owned(), roles })
    }

    const SUBMIT: &str = "/sheaf.v1.JobService/SubmitJob";
    const JOIN: &str = "/sheaf.v1.WorkerService/JoinCluster";
    const ENROLL: &str = "/sheaf.v1.NodeService/EnrollNode";

    #[test]
    fn a_certificate_opens_its_roles_methods_only() {
        let door = Door::Certificate;
        let client = peer(Role::Client.alone());
        assert_eq!(check(&door, SUBMIT, None, client.clone()), Ok(client.clone()));
        assert_eq!(check(&door, JOIN, None, client.clone()), Err(Code::PermissionDenied));
        assert_eq!(check(&door, "/sheaf.v1.JobService/DropAll", None, client), Err(Code::PermissionDenied));
        assert_eq!(check(&door, SUBMIT, None, peer(Role::Worker.alone())), Err(Code::PermissionDenied));
        assert_eq!(check(&door, SUBMIT, None, peer(&[])), Err(Code::PermissionDenied));
        assert_eq!(check(&door, SUBMIT, None, None), Err(Code::Unauthenticated));
        assert_eq!(check(&door, "/x.Y/Z", None, None), Err(Code::Unauthenticated));
        assert_eq!(check(&door, ENROLL, None, None), Ok(None));
        // A secret is no certificate.
        assert_eq!(check(&door, SUBMIT, Some(&Secret::given("s")), None), Err(Code::Unauthenticated));
    }

    #[test]
    fn a_secret_opens_all_and_a_roles_secret_that_role() {
        let secret = Secret::generate().unwrap();
        let door = Door::secret(&secret);
        for path in [SUBMIT, JOIN] {
            assert!(check(&door, path, Some(&secret), None).is_ok());
            assert_eq!(check(&door, path, None, peer(Role::ALL)), Err(Code::Unauthenticated), "no certificates here");
            assert_eq!(check(&door, path, Some(&Secret::given("x")), None), Err(Code::Unauthenticated));
        }
        assert!(check(&door, JOIN, Some(&secret.of(Role::Worker)), None).is_ok());
        assert_eq!(check(&door, SUBMIT, Some(&secret.of(Role::Worker)), None), Err(Code::PermissionDenied));
        assert!(check(&door, SUBMIT, Some(&secret.of(Role::Client)), None).is_ok());
        assert_eq!(check(&door, JOIN, Some(&secret.of(Role::Client)), None), Err(Code::PermissionDenied));
        assert_eq!(check(&door, "/x.Y/Z", Some(&secret), None), Err(Code::PermissionDenied));
    }
}
