//! Connections to a coordinator: one way for workers, the embedded cluster and people's programs. A
//! target says where and by what trust; what comes back is a channel that carries the proof by itself.
//!
//! | file | what it does |
//! |---|---|
//! | `connect/dial.rs` | one connection: resolve, connect, TLS, and a first word from the other side |
//! | `connect/peers.rs` | connections to workers, for rows of queries |
//! | `connect/wire.rs` | the stream under a connection of either side, plain or encrypted |

mod dial;
mod peers;
mod wire;

pub use peers::ClusterPeers;
pub use wire::Wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Endpoint;
use tonic::transport::server::Server;
use tonic::{Request, Status};

use crate::exit::Exit;
use crate::pki::keep_renewed;
use crate::secret::{Malformed, Secret};
use crate::tls::{TlsError, TlsFiles};

/// A channel to a coordinator, for any generated client. Cheap to clone; it connects again by itself.
pub type Channel = InterceptedService<tonic::transport::Channel, Proof>;

/// HTTP/2 window of one stream, bytes: partials of a step must not wait for acknowledgements.
const STREAM_WINDOW: u32 = 8 << 20;
/// HTTP/2 window of a whole connection, bytes.
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Largest HTTP/2 frame, bytes: with the protocol's 16 KiB a partial of some megabytes comes in hundreds of pieces.
const FRAME: u32 = 256 << 10;
/// How often an HTTP/2 peer is asked whether it is there.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// How long its answer may take: a peer that is cut off is noticed within the sum of the two.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(4);

/// Where a coordinator is, and by what each side trusts the other.
#[derive(Debug, Clone)]
pub struct Target {
    /// `HOST:PORT`; IPv6 addresses in brackets.
    pub address: String,
    /// By what.
    pub trust: Trust,
}

/// By what two programs of a cluster trust each other.
#[derive(Debug, Clone)]
pub enum Trust {
    /// A secret that both know; on loopback only.
    Secret(Secret),
    /// Certificates of the cluster's own authority.
    Tls(TlsFiles),
}

/// Why there is no connection, by what the caller can do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectError {
    /// Correct the address.
    #[error("`{0}` is not HOST:PORT")]
    Address(String),
    /// Correct the secret.
    #[error(transparent)]
    Secret(#[from] Malformed),
    /// Use TLS.
    #[error(
        "refusing to send the secret to {address} ({ip}): a secret is for loopback only; for another machine give --tls-ca, --tls-cert and --tls-key"
    )]
    NotLoopback {
        /// What was asked for.
        address: String,
        /// Where it leads.
        ip: std::net::IpAddr,
    },
    /// Correct the certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Try again later.
    #[error("the coordinator at {address} cannot be reached: {reason}")]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        reason: String,
    },
    /// Look at who answers there.
    #[error("whoever answers at {address} is not trusted: {reason}")]
    Untrusted {
        /// Where.
        address: String,
        /// Why.
        reason: String,
    },
    /// Look at one's own certificate.
    #[error("the coordinator at {address} refused the connection: {reason}")]
    Refused {
        /// Where.
        address: String,
        /// Why.
        reason: String,
    },
}

impl ConnectError {
    /// Whether the same may work later.
    pub fn retry(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// What a program exits with.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Address(_) | Self::Secret(_) | Self::NotLoopback { .. } | Self::Tls(_) => Exit::Usage,
            Self::Unreachable { .. } => Exit::Unreachable,
            Self::Untrusted { .. } | Self::Refused { .. } => Exit::Denied,
        }
    }
}

/// Connects and waits until the other side has accepted the connection. The certificate of an enrolled
/// node is renewed over it for as long as it, or a clone, is kept.
pub async fn connect(target: &Target) -> Result<Channel, ConnectError> {
    match &target.trust {
        Trust::Secret(secret) => {
            let proof = Proof { header: Some(secret.header()?), _renewal: None };
            Ok(InterceptedService::new(open(dial::Dialer::plain(&target.address)?).await?, proof))
        }
        Trust::Tls(files) => {
            let channel = open(dial::Dialer::tls(&target.address, files)?).await?;
            let renewal = keep_renewed(files, InterceptedService::new(channel.clone(), Proof::default()));
            Ok(InterceptedService::new(channel, Proof { header: None, _renewal: renewal.map(Arc::new) }))
        }
    }
}

/// Connects to a worker at an address. A program that holds the cluster's whole secret shows the workers' one.
async fn connect_peer(target: &Target) -> Result<Channel, ConnectError> {
    match &target.trust {
        Trust::Secret(secret) => {
            let proof = Proof { header: Some(secret.header()?), _renewal: None };
            Ok(InterceptedService::new(open(dial::Dialer::plain(&target.address)?).await?, proof))
        }
        Trust::Tls(files) => {
            Ok(InterceptedService::new(open(dial::Dialer::peer(&target.address, files)?).await?, Proof::default()))
        }
    }
}

/// Connects to a coordinator whose authority has this fingerprint, without a certificate of our own: good
/// for enrolling and nothing else.
pub async fn connect_to_join(address: &str, fingerprint: &str) -> Result<Channel, ConnectError> {
    Ok(InterceptedService::new(open(dial::Dialer::joining(address, fingerprint)?).await?, Proof::default()))
}

async fn open(dialer: dial::Dialer) -> Result<tonic::transport::Channel, ConnectError> {
    let address = dialer.address().to_owned();
    let unreachable = |reason: String| ConnectError::Unreachable { address: address.clone(), reason };
    // The connector does TLS by itself; for the layers above everything is plain.
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|_| ConnectError::Address(address.clone()))?;
    let endpoint = endpoint
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    let dialer = Arc::new(dialer);
    let connector = tower::service_fn(move |_| {
        let dialer = Arc::clone(&dialer);
        async move { dialer.dial().await }
    });
    let channel = endpoint.connect_with_connector(connector).await;
    channel.map_err(|error| cause(&error).unwrap_or_else(|| unreachable(crate::fault::chain(&error))))
}

/// The dialer's own words within what the layers above made of them.
fn cause(error: &(dyn std::error::Error + 'static)) -> Option<ConnectError> {
    std::iter::successors(Some(error), |e| e.source()).find_map(|e| e.downcast_ref::<ConnectError>().cloned())
}

/// A server with the same habits on the wire.
pub fn server() -> Server {
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
}

/// Refuses to listen where others could reach a cluster that has no TLS. There is no switch around it.
pub fn check_listen(listen: SocketAddr, trust: &Trust) -> Result<(), ListenError> {
    match trust {
        Trust::Secret(_) if !listen.ip().is_loopback() => Err(ListenError(listen)),
        Trust::Secret(_) | Trust::Tls(_) => Ok(()),
    }
}

/// An address that needs TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "refusing to listen on {0} without TLS: other machines could drive this cluster; give --tls-cert, --tls-key and --tls-ca (`sheaf pki init` and `sheaf pki issue --role coordinator` make them), or listen on 127.0.0.1"
)]
pub struct ListenError(pub SocketAddr);

/// Adds the secret to every call, where there is one; certificates prove themselves.
#[derive(Debug, Clone, Default)]
pub struct Proof {
    header: Option<MetadataValue<Ascii>>,
    /// Ends with the last clone of the channel.
    _renewal: Option<Arc<AbortOnDropHandle<()>>>,
}

impl Interceptor for Proof {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(header) = &self.header {
            request.metadata_mut().insert("authorization", header.clone());
        }
        Ok(request)
    }
}
