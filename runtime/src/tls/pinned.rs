//! Trust by fingerprint: a joining node knows nothing of the cluster but the digest of its authority's
//! certificate, which came with the join token. The server shows that certificate along with its own;
//! when the digest fits, everything is verified as usual with it as the root. No trust on first use.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, Error, RootCertStore};

use super::fingerprint;
use super::verifier::Trust;

/// Accepts servers whose certificate comes from the authority with this fingerprint.
#[derive(Debug)]
pub struct PinnedAuthority {
    fingerprint: String,
}

impl PinnedAuthority {
    /// `fingerprint` is the SHA-256 of the authority's certificate, hex.
    pub fn new(fingerprint: &str) -> Self {
        Self { fingerprint: fingerprint.to_ascii_lowercase() }
    }
}

impl Trust for PinnedAuthority {
    fn accept(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
        provider: &Arc<CryptoProvider>,
    ) -> Result<(), Error> {
        let authority = others.iter().find(|c| fingerprint(c) == self.fingerprint);
        let authority = authority.ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        let verifier = verifier.build().map_err(|e| Error::General(e.to_string()))?;
        verifier.verify_server_cert(certificate, others, name, &[], now).map(drop)
    }
}
