//! Trust among workers: any certificate that the cluster's authority signed is good, whatever address it is shown at.
//! Workers come and go and their addresses with them; who calls looks at the role in the certificate instead.

use std::sync::Arc;

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{Error, RootCertStore};

use super::verifier::Trust;

/// Accepts certificates of one authority: the one whose own certificates these are.
#[derive(Debug)]
pub struct OfAuthority(pub Arc<RootCertStore>);

impl Trust for OfAuthority {
    fn accept(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        now: UnixTime,
        provider: &Arc<CryptoProvider>,
    ) -> Result<(), Error> {
        let certificate = ParsedCertificate::try_from(certificate)?;
        let algorithms = provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.0, others, now, algorithms)
    }
}
