//! One connection: resolve the name, connect, shake hands, and wait for the other side's first bytes. A
//! server says its HTTP/2 settings first, so those bytes mean that it accepted us; under TLS 1.3 a refused
//! certificate shows nowhere earlier.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig, Error};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::codegen::http::uri::Authority;

use super::ConnectError;
use super::wire::Wire;
use crate::auth::Role;
use crate::tls::{Leaf, TlsFiles, client_config, joining_config, peer_config};

/// For each address that a name resolves to.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For TLS and the first word.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes connections to one place.
pub struct Dialer {
    authority: Authority,
    port: u16,
    how: How,
}

enum How {
    /// Loopback, as it is.
    Plain,
    /// A worker's certificate, wherever the worker is.
    Peer(TlsFiles),
    /// The files are read at each connection: a renewed certificate is used from the next one on.
    Tls(TlsFiles),
    /// A fixed configuration.
    Joining(Arc<ClientConfig>),
}

impl Dialer {
    /// Without TLS; loopback only.
    pub fn plain(address: &str) -> Result<Self, ConnectError> {
        Self::new(address, How::Plain)
    }

    /// With certificates.
    pub fn tls(address: &str, files: &TlsFiles) -> Result<Self, ConnectError> {
        // Read once now, so that what is wrong with them is not said to be the network's fault.
        client_config(files)?;
        Self::new(address, How::Tls(files.clone()))
    }

    /// To a worker, with certificates.
    pub fn peer(address: &str, files: &TlsFiles) -> Result<Self, ConnectError> {
        peer_config(files)?;
        Self::new(address, How::Peer(files.clone()))
    }

    /// With trust in an authority by its fingerprint.
    pub fn joining(address: &str, fingerprint: &str) -> Result<Self, ConnectError> {
        Self::new(address, How::Joining(Arc::new(joining_config(fingerprint)?)))
    }

    fn new(address: &str, how: How) -> Result<Self, ConnectError> {
        let wrong = || ConnectError::Address(address.to_owned());
        let authority: Authority = address.parse().map_err(|_| wrong())?;
        let port = authority.port_u16().filter(|port| *port > 0).ok_or_else(wrong)?;
        if authority.host().is_empty() || authority.as_str().contains('@') {
            return Err(wrong());
        }
        Ok(Self { authority, port, how })
    }

    /// `HOST:PORT`.
    pub fn address(&self) -> &str {
        self.authority.as_str()
    }

    fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }

    /// Makes a connection.
    pub async fn dial(&self) -> Result<TokioIo<Wire>, ConnectError> {
        let stream = self.reach().await?;
        let shaking = tokio::time::timeout(HANDSHAKE_TIMEOUT, self.shake(stream));
        let wire = shaking.await.map_err(|_| {
            let hint = if matches!(self.how, How::Plain) { "; is TLS wanted there?" } else { "" };
            let seconds = HANDSHAKE_TIMEOUT.as_secs();
            self.unreachable(format!("it accepted the connection and then said nothing for {seconds} s{hint}"))
        })?;
        Ok(TokioIo::new(wire?))
    }

    async fn reach(&self) -> Result<TcpStream, ConnectError> {
        let addresses = tokio::net::lookup_host((self.host(), self.port)).await.map_err(|e| self.unreachable(e.to_string()))?;
        let mut last = format!("`{}` resolves to no address", self.host());
        for address in addresses {
            if matches!(self.how, How::Plain) && !address.ip().is_loopback() {
                return Err(self.not_loopback(address.ip()));
            }
            match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    stream.set_nodelay(true).map_err(|e| self.unreachable(e.to_string()))?;
                    return Ok(stream);
                }
                Ok(Err(error)) => last = error.to_string(),
                Err(_) => last = format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
            }
        }
        Err(self.unreachable(last))
    }

    async fn shake(&self, stream: TcpStream) -> Result<Wire, ConnectError> {
        let config = match &self.how {
            How::Plain => return self.first_word(Wire::plain(stream)).await,
            How::Tls(files) => Arc::new(client_config(files)?),
            How::Peer(files) => Arc::new(peer_config(files)?),
            How::Joining(config) => Arc::clone(config),
        };
        let name = ServerName::try_from(self.host().to_owned()).map_err(|_| ConnectError::Address(self.address().to_owned()))?;
        let stream = TlsConnector::from(config).connect(name, stream).await.map_err(|e| self.broken(&e))?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let leaf = certificate.map(Leaf::read).transpose().map_err(|reason| self.untrusted(reason))?;
        let wanted = if matches!(self.how, How::Peer(_)) { Role::Worker } else { Role::Coordinator };
        if leaf.as_ref().and_then(|leaf| leaf.role) != Some(wanted) {
            let name = leaf.map_or_else(|| "nobody".to_owned(), |leaf| format!("`{}`", leaf.name));
            return Err(self.untrusted(format!("its certificate ({name}) is not for the role {wanted}")));
        }
        self.first_word(Wire::tls(stream)).await
    }

    async fn first_word(&self, mut wire: Wire) -> Result<Wire, ConnectError> {
        wire.wait_for_first().await.map_err(|e| self.broken(&e))?;
        Ok(wire)
    }

    /// What a broken handshake means.
    fn broken(&self, error: &std::io::Error) -> ConnectError {
        let Some(tls) = error.get_ref().and_then(|e| e.downcast_ref::<Error>()) else {
            return self.unreachable(match error.kind() {
                std::io::ErrorKind::UnexpectedEof => "it closed the connection at once; is TLS wanted there, or not?".to_owned(),
                _ => error.to_string(),
            });
        };
        match tls {
            Error::InvalidCertificate(reason) => self.untrusted(format!("its certificate does not hold ({reason})")),
            Error::AlertReceived(alert) => self.refused(advice(*alert)),
            Error::InvalidMessage(_) => self.unreachable(format!("it does not speak TLS ({tls})")),
            other => self.unreachable(other.to_string()),
        }
    }

    fn unreachable(&self, reason: String) -> ConnectError {
        ConnectError::Unreachable { address: self.address().to_owned(), reason }
    }

    fn untrusted(&self, reason: String) -> ConnectError {
        ConnectError::Untrusted { address: self.address().to_owned(), reason }
    }

    fn refused(&self, reason: String) -> ConnectError {
        ConnectError::Refused { address: self.address().to_owned(), reason }
    }

    fn not_loopback(&self, ip: IpAddr) -> ConnectError {
        ConnectError::NotLoopback { address: self.address().to_owned(), ip }
    }
}

/// What an alert means for whoever got it.
fn advice(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::UnknownCA | AlertDescription::DecryptError | AlertDescription::BadCertificate => {
            "this certificate is of another authority than the cluster's".to_owned()
        }
        AlertDescription::CertificateExpired => {
            "this certificate has expired; issue a new one with `sheaf pki issue`, or join again with a new token".to_owned()
        }
        other => format!("TLS alert {other:?}"),
    }
}
