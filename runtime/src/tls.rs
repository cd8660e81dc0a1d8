//! TLS between nodes: version 1.3 only, certificates of the cluster's own authority on both sides.
//!
//! | file | what it does |
//! |---|---|
//! | `tls/files.rs` | reads and checks certificates and keys, so that what is wrong is said at the start |
//! | `tls/leaf.rs` | what a certificate says of its holder: name, role, validity |
//! | `tls/peer.rs` | trust in whoever the authority gave a certificate, wherever it runs |
//! | `tls/pinned.rs` | trust in an authority by its fingerprint alone, for joining |
//! | `tls/reload.rs` | the listening side's certificate, read again when its files change |
//! | `tls/verifier.rs` | what both kinds of trust have in common |
//!
//! Sessions are never resumed: a resumed one would not look at the peer's certificate again.

mod files;
mod leaf;
mod peer;
mod pinned;
mod reload;
mod verifier;

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, ServerConfig};

use crate::auth::Role;

pub use files::{Material, TlsFiles, read_certificates};
pub(crate) use files::{certificates, key, span};
pub(crate) use leaf::ROLE_URI;
pub use leaf::{Leaf, fingerprint};
pub use reload::ServerTls;
use verifier::Verifier;

/// What both sides speak inside.
const ALPN: &[u8] = b"h2";

/// Why TLS cannot be had with what was given. The text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("read the {what} {}: {reason}", path.display())]
    Read {
        /// Certificate, key or authority.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file does not hold what it should.
    #[error("{} holds no {what} as PEM: {reason}", path.display())]
    Content {
        /// Certificate, key or authority.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Others can read the key.
    #[error("the key {} can be read by others (mode {mode:03o}); run `chmod 600 {}`, and issue a new certificate if someone may have read it", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The certificate's time is over.
    #[error("the certificate {} of `{name}` expired {ago} ago; issue a new one with `sheaf pki issue`, or correct this machine's clock", path.display())]
    Expired {
        /// The file.
        path: PathBuf,
        /// Whose.
        name: String,
        /// Since when, for people.
        ago: String,
    },
    /// The certificate's time has not come.
    #[error("the certificate {} of `{name}` is not valid for another {until}; correct this machine's clock", path.display())]
    NotYet {
        /// The file.
        path: PathBuf,
        /// Whose.
        name: String,
        /// For how long not, for people.
        until: String,
    },
    /// The key is another certificate's.
    #[error("the key {} does not belong to the certificate {}", key.display(), certificate.display())]
    KeyMismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// Another authority issued it.
    #[error("the certificate {} was not issued by the authority in {}: {reason}", certificate.display(), ca.display())]
    WrongAuthority {
        /// The certificate's file.
        certificate: PathBuf,
        /// The authority's file.
        ca: PathBuf,
        /// What the check said.
        reason: String,
    },
    /// It cannot stand for what it is to stand for.
    #[error("the certificate {} of `{name}` is for the role {found}, not {expected}; issue one with `sheaf pki issue --role {expected}`", path.display())]
    WrongRole {
        /// The file.
        path: PathBuf,
        /// Whose.
        name: String,
        /// What it has.
        found: String,
        /// What it needs.
        expected: Role,
    },
    /// The library refused what passed our checks.
    #[error("set TLS up: {0}")]
    Library(String),
}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        Self::Library(error.to_string())
    }
}

/// The one crypto provider: given to every configuration, so that no process-wide default is needed.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The side that dials.
pub(crate) fn client_config(files: &TlsFiles) -> Result<ClientConfig, TlsError> {
    let material = files.load()?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(material.roots)
        .with_client_auth_cert(material.chain, material.key)?;
    Ok(with_client_habits(config))
}

/// The side that dials when all it has is a fingerprint: it shows no certificate of its own.
pub(crate) fn joining_config(fingerprint: &str) -> Result<ClientConfig, TlsError> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier::new(pinned::PinnedAuthority::new(fingerprint))))
        .with_no_client_auth();
    Ok(with_client_habits(config))
}

/// As [`client_config`], for a peer that is known by its role and not by its address.
pub(crate) fn peer_config(files: &TlsFiles) -> Result<ClientConfig, TlsError> {
    let material = files.load()?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier::new(peer::OfAuthority(material.roots))))
        .with_client_auth_cert(material.chain, material.key)?;
    Ok(with_client_habits(config))
}

fn with_client_habits(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config
}

/// The side that listens: a peer may come without a certificate (it can then do nothing but enrol), but
/// one that it shows must be of our authority and valid, or there is no connection.
fn server_config(files: &TlsFiles, role: Role) -> Result<ServerConfig, TlsError> {
    let material = files.check(role)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(material.roots, provider())
        .allow_unauthenticated()
        .build()
        .map_err(|e| TlsError::Library(e.to_string()))?;
    let mut chain = material.chain;
    // A joiner knows the authority by its fingerprint alone: it must get to see it.
    for authority in material.authorities {
        if !chain.contains(&authority) {
            chain.push(authority);
        }
    }
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, material.key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}
