//! The authority: made once, then issues certificates. What a certificate says is decided here; a request
//! contributes its public key and nothing else.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber, SigningKey as _,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use sha2::{Digest as _, Sha256};
use x509_parser::time::ASN1Time;

use super::store::{folder, write_new};
use super::{PkiError, unix_now};
use crate::auth::Role;
use crate::secret::{hex, random};
use crate::tls::{Leaf, ROLE_URI, certificates, fingerprint, key};

/// The authority's certificate in its folder.
pub const CA_CERTIFICATE: &str = "ca.pem";
/// The authority's key in its folder.
pub const CA_KEY: &str = "ca.key";

/// Certificates are good from a little before they were made: clocks differ.
pub(super) const BACKDATED: i64 = 300;
/// Longest life of a certificate that is issued.
const MAX_LIFE: Duration = Duration::from_secs(825 * 86_400);
/// Largest signing request; ours has 250 bytes.
const MAX_REQUEST_BYTES: usize = 4096;

/// What a certificate is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// What its holder is.
    pub role: Role,
    /// What people call it.
    pub name: String,
    /// DNS names and addresses by which it is reached; a coordinator has at least one.
    pub hosts: Vec<String>,
    /// How long it is valid, from now on.
    pub life: Duration,
}

/// A certificate with its key, as PEM.
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

/// An authority whose key is at hand.
pub struct Authority {
    certificate: CertificateDer<'static>,
    leaf: Leaf,
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("name", &self.leaf.name).finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes an authority in a folder. One that is there is never overwritten.
    pub fn init(dir: &Path, name: &str, life: Duration) -> Result<Self, PkiError> {
        check_name(name)?;
        let (key_path, path) = (dir.join(CA_KEY), dir.join(CA_CERTIFICATE));
        if let Some(path) = [&key_path, &path].into_iter().find(|p| p.exists()) {
            return Err(PkiError::Exists { path: path.clone() });
        }
        folder(dir)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = blank(name, unix_now(), life)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?;
        write_new(&key_path, 0o600, &key.serialize_pem())?;
        write_new(&path, 0o644, &certificate.pem())?;
        Self::open(dir)
    }

    /// Opens the authority of a folder.
    pub fn open(dir: &Path) -> Result<Self, PkiError> {
        let not_ours = |reason: String| PkiError::NotOurs { path: dir.to_owned(), reason };
        let mut found = certificates("authority's certificate", &dir.join(CA_CERTIFICATE))?;
        if found.len() != 1 {
            return Err(not_ours(format!("{CA_CERTIFICATE} holds {} certificates instead of one", found.len())));
        }
        let certificate = found.remove(0);
        let leaf = Leaf::read(&certificate).map_err(&not_ours)?;
        let der = key(&dir.join(CA_KEY))?;
        let pair = KeyPair::from_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256)
            .map_err(|_| not_ours(format!("{CA_KEY} is not an ECDSA P-256 key; make an authority with `sheaf pki init`")))?;
        if public_key(&certificate).map_err(&not_ours)? != pair.der_bytes() {
            return Err(not_ours(format!("{CA_KEY} does not belong to {CA_CERTIFICATE}")));
        }
        let now = unix_now();
        if now < leaf.not_before || now > leaf.not_after {
            return Err(not_ours("its certificate has expired or is not valid yet; look at this machine's clock".to_owned()));
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, pair)?;
        let pem = pem(&certificate);
        Ok(Self { certificate, leaf, issuer, pem })
    }

    /// What its certificate says.
    pub fn leaf(&self) -> &Leaf {
        &self.leaf
    }

    /// SHA-256 of its certificate, hex: what a join token pins.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.certificate)
    }

    /// Its certificate as PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A key and a certificate for it.
    pub fn issue(&self, order: &Order) -> Result<Issued, PkiError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = self.params(order, unix_now())?.signed_by(&key, &self.issuer)?;
        Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// A certificate for the key of a request. The request's own wishes are not looked at.
    pub fn sign(&self, request: &NodeRequest, order: &Order) -> Result<String, PkiError> {
        Ok(self.params(order, unix_now())?.signed_by(&request.0.public_key, &self.issuer)?.pem())
    }

    /// Signs bytes with the authority's key. The caller's first bytes say what for.
    pub(super) fn sign_bytes(&self, bytes: &[u8]) -> Result<Vec<u8>, PkiError> {
        Ok(self.issuer.key().sign(bytes)?)
    }

    /// The authority's public key, as signatures are verified with it.
    pub(super) fn public_key(&self) -> &[u8] {
        self.issuer.key().der_bytes()
    }

    fn params(&self, order: &Order, now: i64) -> Result<CertificateParams, PkiError> {
        check_name(&order.name)?;
        if order.life > MAX_LIFE || order.life.is_zero() {
            return Err(PkiError::Order(format!("a certificate is valid for up to {} days", MAX_LIFE.as_secs() / 86_400)));
        }
        if order.role == Role::Coordinator && order.hosts.is_empty() {
            return Err(PkiError::Order("a coordinator's certificate names the hosts it is reached by: give --host".to_owned()));
        }
        // Nothing outlives the authority.
        let left = Duration::from_secs((self.leaf.not_after - now).max(0) as u64);
        let mut params = blank(&order.name, now, order.life.min(left))?;
        let role = format!("{ROLE_URI}{}", order.role);
        params.subject_alt_names = order.hosts.iter().map(|host| host_name(host)).collect::<Result<_, _>>()?;
        params.subject_alt_names.push(SanType::URI(role.try_into()?));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        // Workers serve rows of queries to each other.
        if order.role != Role::Client {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }
}

/// A verified signing request: whoever made it has the private key.
#[derive(Debug)]
pub struct NodeRequest(CertificateSigningRequestParams);

impl NodeRequest {
    /// Reads a request (DER) and verifies its signature.
    pub fn read(bytes: &[u8]) -> Result<Self, PkiError> {
        if bytes.len() > MAX_REQUEST_BYTES {
            return Err(PkiError::Order(format!("a signing request has at most {MAX_REQUEST_BYTES} bytes, not {}", bytes.len())));
        }
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(bytes))
            .map_err(|e| PkiError::Order(format!("malformed signing request: {e}")))?;
        if request.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(PkiError::Order("a node's key is ECDSA P-256".to_owned()));
        }
        Ok(Self(request))
    }

    /// SHA-256 of its public key, hex.
    pub fn key_digest(&self) -> String {
        hex(&Sha256::digest(self.0.public_key.der_bytes()))
    }
}

fn blank(name: &str, now: i64, life: Duration) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    params.not_before = moment(now - BACKDATED)?.to_datetime();
    params.not_after = moment(now.saturating_add(i64::try_from(life.as_secs()).unwrap_or(i64::MAX)))?.to_datetime();
    let mut serial: [u8; 16] = random().map_err(|e| PkiError::Library(format!("draw a serial number: {e}")))?;
    // Positive, and of full length.
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

fn moment(seconds: i64) -> Result<ASN1Time, PkiError> {
    ASN1Time::from_timestamp(seconds).map_err(|e| PkiError::Order(format!("the time {seconds} s is out of range: {e}")))
}

fn host_name(host: &str) -> Result<SanType, PkiError> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(ip));
    }
    let legal = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
    };
    let labels = host.strip_prefix("*.").unwrap_or(host);
    if host.len() > 253 || !labels.split('.').all(legal) {
        return Err(PkiError::Order(format!("`{host}` is neither a DNS name nor an address (without port)")));
    }
    Ok(SanType::DnsName(host.try_into()?))
}

/// Names stand in certificates, file names and logs.
fn check_name(name: &str) -> Result<(), PkiError> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if (1..=63).contains(&name.len()) && name.bytes().all(legal) && !name.starts_with('.') {
        return Ok(());
    }
    Err(PkiError::Order(format!(
        "`{}` is no name: 1 to 63 letters, digits, `-`, `_` and `.`, not starting with a dot",
        name.escape_debug()
    )))
}

fn public_key(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|e| e.to_string())?;
    Ok(parsed.public_key().subject_public_key.data.to_vec())
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(certificate);
    let lines: Vec<&str> = body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("base64 is ASCII")).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
