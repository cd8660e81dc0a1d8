//! Accepts connections: handshakes with a time limit and a bounded number at once, the peer's identity
//! from its certificate, an end to connections whose certificate has expired.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use tracing::{debug, warn};

use crate::auth::{Line, Origin, Sparing, Validity};
use crate::connect::Wire;
use crate::tls::{Leaf, ServerTls};

/// Connections at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 4096;
/// Connections at once of peers without a certificate, and how long each may last: they come to enrol,
/// and must not keep others out.
const MAX_STRANGERS: usize = 256;
const STRANGER_SECONDS: i64 = 30;
/// TLS handshakes at once; more wait in the kernel's queue.
const MAX_HANDSHAKES: usize = 64;
/// Time for a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Wait after the system refused a connection (most often: no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepted connections, ready for the server. Without `tls` they are plain.
pub fn accept(listener: TcpListener, tls: Option<ServerTls>) -> ReceiverStream<Result<Connection, Infallible>> {
    let (connections, accepted) = mpsc::channel(16);
    tokio::spawn(async move {
        tokio::select! {
            () = connections.closed() => {}
            never = accept_all(&listener, tls.map(Arc::new), &connections) => match never {},
        }
    });
    ReceiverStream::new(accepted)
}

type Accepted = mpsc::Sender<Result<Connection, Infallible>>;

async fn accept_all(listener: &TcpListener, tls: Option<Arc<ServerTls>>, connections: &Accepted) -> Infallible {
    let (slots, handshakes) = (Arc::new(Semaphore::new(MAX_CONNECTIONS)), Arc::new(Semaphore::new(MAX_HANDSHAKES)));
    let (strangers, sparing) = (Arc::new(Semaphore::new(MAX_STRANGERS)), Arc::new(Sparing::default()));
    loop {
        let slot = permit(&slots).await;
        let handshake = permit(&handshakes).await;
        let (stream, address) = match listener.accept().await {
            Ok((stream, address)) => (stream, address.to_string()),
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (tls, connections) = (tls.clone(), connections.clone());
        let (strangers, sparing) = (Arc::clone(&strangers), Arc::clone(&sparing));
        tokio::spawn(async move {
            let shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, shake(stream, &address, tls.as_deref(), slot, &strangers)).await;
            drop(handshake);
            match shaken {
                // The receiver is gone only when the server ends, and connections with it.
                Ok(Ok(connection)) => drop(connections.send(Ok(connection)).await),
                Ok(Err(error)) => match sparing.line() {
                    Line::Full => warn!(from = address, %error, "connection refused in the handshake"),
                    Line::Last => {
                        warn!(from = address, %error, "connection refused in the handshake; more are not logged for now")
                    }
                    Line::None => {}
                },
                Err(_) => debug!(from = address, "no handshake within the time allowed"),
            }
        });
    }
}

async fn permit(semaphore: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    Arc::clone(semaphore).acquire_owned().await.expect("the semaphore is never closed")
}

async fn shake(
    stream: TcpStream,
    address: &str,
    tls: Option<&ServerTls>,
    slot: OwnedSemaphorePermit,
    strangers: &Arc<Semaphore>,
) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    let address = address.to_owned();
    let Some(tls) = tls else {
        let origin = Origin { peer: None, address, validity: Validity::endless() };
        return Ok(Connection { stream: Wire::plain(stream), origin, _slots: [Some(slot), None] });
    };
    let stream = TlsAcceptor::from(tls.config()).accept(stream).await?;
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let leaf = certificate.map(Leaf::read).transpose().map_err(io::Error::other)?;
    let (peer, until, stranger) = match leaf {
        Some(leaf) => (Some(leaf.peer()), leaf.not_after, None),
        None => {
            let place = Arc::clone(strangers).try_acquire_owned();
            let place =
                place.map_err(|_| io::Error::other(format!("{MAX_STRANGERS} peers without a certificate are here already")))?;
            (None, now_seconds() + STRANGER_SECONDS, Some(place))
        }
    };
    let origin = Origin { peer, address, validity: Validity::until(until) };
    Ok(Connection { stream: Wire::tls(stream), origin, _slots: [Some(slot), stranger] })
}

/// Seconds since 1970, UTC.
fn now_seconds() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64)
}

/// An accepted connection.
pub struct Connection {
    stream: Wire,
    origin: Origin,
    /// Its places among all connections and among strangers.
    _slots: [Option<OwnedSemaphorePermit>; 2],
}

impl Connected for Connection {
    type ConnectInfo = Origin;

    fn connect_info(&self) -> Origin {
        self.origin.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // Keep-alives are answered every few seconds, so this is asked also while nothing else happens.
        if this.origin.validity.is_over() {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the certificate of this connection has expired, or it had none and lasted too long",
            )));
        }
        Pin::new(&mut this.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
