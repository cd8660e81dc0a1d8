//! What a certificate says of its holder: name, role, where it is reached, how long it is valid.

use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use x509_parser::extensions::GeneralName;

use crate::auth::{Peer, Role};
use crate::secret::hex;

/// How a role stands among a certificate's alternative names.
pub(crate) const ROLE_URI: &str = "sheaf://role/";

/// A certificate, read. Reading proves nothing: the handshake verifies it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Common name.
    pub name: String,
    /// Role, if it has exactly one that we know.
    pub role: Option<Role>,
    /// DNS names and addresses it is reached by.
    pub hosts: Vec<String>,
    /// Valid from, seconds since 1970 UTC.
    pub not_before: i64,
    /// Valid until, seconds since 1970 UTC.
    pub not_after: i64,
    /// Serial number as hex.
    pub serial: String,
}

impl Leaf {
    /// Reads a certificate.
    pub fn read(certificate: &CertificateDer<'_>) -> Result<Self, String> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|e| e.to_string())?;
        let name = parsed.subject().iter_common_name().next().and_then(|n| n.as_str().ok()).unwrap_or("unnamed");
        let names = parsed.subject_alternative_name().map_err(|e| e.to_string())?;
        let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
        let mut roles = names.iter().filter_map(|n| match n {
            GeneralName::URI(uri) => uri.strip_prefix(ROLE_URI),
            _ => None,
        });
        // Two roles would be a certificate that nobody meant to issue: it gets none.
        let role = match (roles.next(), roles.next()) {
            (Some(role), None) => role.parse().ok(),
            _ => None,
        };
        Ok(Self {
            name: printable(name),
            role,
            hosts: names.iter().filter_map(host).collect(),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            serial: hex(parsed.raw_serial()),
        })
    }

    /// Who the holder is to our services.
    pub fn peer(&self) -> Peer {
        Peer { name: self.name.clone(), roles: self.role.map_or(&[], Role::alone) }
    }
}

fn host(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(std::net::IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(std::net::IpAddr::from)).ok().map(|ip| ip.to_string())
        }
        _ => None,
    }
}

/// Names go into logs: nothing in them may break a line.
fn printable(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(64).collect()
}

/// SHA-256 of a certificate, as hex.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    hex(&Sha256::digest(certificate))
}
