//! Certificates and keys from files, checked when the program starts rather than at the first connection:
//! who may read the key, whose certificate it is, by which authority, valid until when.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error, RootCertStore};

use super::{Leaf, TlsError, provider};
use crate::auth::Role;

/// Certificates and keys are small; a larger file is none.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Where the three things are. Certificate and key may stand in one file: a renewal replaces them at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the authority.
    pub ca: PathBuf,
    /// Our certificate, with intermediates if there are any.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// What the files hold, checked.
pub struct Material {
    /// The authority, to verify others with.
    pub(super) roots: Arc<RootCertStore>,
    /// The authority's certificates.
    pub(super) authorities: Vec<CertificateDer<'static>>,
    /// Our certificate and its intermediates.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// Our key.
    pub(super) key: PrivateKeyDer<'static>,
    /// What our certificate says.
    pub leaf: Leaf,
}

impl TlsFiles {
    /// Reads and checks everything, and that the certificate is for this role.
    pub fn check(&self, role: Role) -> Result<Material, TlsError> {
        let material = self.load()?;
        if material.leaf.role == Some(role) {
            return Ok(material);
        }
        let found = material.leaf.role.map_or_else(|| "none".to_owned(), |role| role.to_string());
        Err(TlsError::WrongRole { path: self.certificate.clone(), name: material.leaf.name, found, expected: role })
    }

    /// Reads and checks everything.
    pub fn load(&self) -> Result<Material, TlsError> {
        self.load_at(UnixTime::now())
    }

    fn load_at(&self, now: UnixTime) -> Result<Material, TlsError> {
        let authorities = certificates("authority's certificate", &self.ca)?;
        let chain = certificates("certificate", &self.certificate)?;
        let key = key(&self.key)?;
        let content = |reason| TlsError::Content { what: "certificate", path: self.certificate.clone(), reason };
        let leaf = Leaf::read(&chain[0]).map_err(content)?;
        let roots = Arc::new(roots(&self.ca, &authorities)?);
        self.verify(&chain, &roots, &leaf, now)?;
        match CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider()) {
            Ok(_) => Ok(Material { roots, authorities, chain, key, leaf }),
            Err(Error::InconsistentKeys(_)) => {
                Err(TlsError::KeyMismatch { certificate: self.certificate.clone(), key: self.key.clone() })
            }
            Err(error) => Err(TlsError::Content { what: "private key", path: self.key.clone(), reason: error.to_string() }),
        }
    }

    fn verify(
        &self,
        chain: &[CertificateDer<'static>],
        roots: &Arc<RootCertStore>,
        leaf: &Leaf,
        now: UnixTime,
    ) -> Result<(), TlsError> {
        let seconds = now.as_secs() as i64;
        let (path, name) = (self.certificate.clone(), leaf.name.clone());
        if seconds > leaf.not_after {
            return Err(TlsError::Expired { path, name, ago: span(seconds - leaf.not_after) });
        }
        if seconds < leaf.not_before {
            return Err(TlsError::NotYet { path, name, until: span(leaf.not_before - seconds) });
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider())
            .build()
            .map_err(|e| TlsError::Library(e.to_string()))?;
        verifier.verify_client_cert(&chain[0], &chain[1..], now).map(|_| ()).map_err(|error| TlsError::WrongAuthority {
            certificate: path,
            ca: self.ca.clone(),
            reason: match error {
                Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                    "another authority signed it".to_owned()
                }
                Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
                    "the authority's own certificate has expired".to_owned()
                }
                other => other.to_string(),
            },
        })
    }
}

/// A span of time for people.
pub(crate) fn span(seconds: i64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn roots(path: &Path, authorities: &[CertificateDer<'static>]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone()).map_err(|e| TlsError::Content {
            what: "authority's certificate",
            path: path.to_owned(),
            reason: e.to_string(),
        })?;
    }
    Ok(roots)
}

/// All certificates of a file, unverified; at least one.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    certificates("certificate", path)
}

/// All certificates of a file; at least one.
pub(crate) fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(what, path)?;
    let content = |reason: String| TlsError::Content { what, path: path.to_owned(), reason };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|e| content(e.to_string()))?;
    if found.is_empty() {
        return Err(content("no section named CERTIFICATE".to_owned()));
    }
    Ok(found)
}

/// The key of a file that others cannot read.
pub(crate) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let what = "private key";
    let metadata = std::fs::metadata(path).map_err(|e| unreadable(what, path, &e))?;
    let mode = metadata.mode() & 0o777;
    // A key that root hands to a service's group is as closed as one of the service's own.
    let closed = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if mode & closed != 0 {
        return Err(TlsError::Exposed { path: path.to_owned(), mode });
    }
    let bytes = read(what, path)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|e| TlsError::Content {
        what,
        path: path.to_owned(),
        reason: match e {
            rustls::pki_types::pem::Error::NoItemsFound => "no section named PRIVATE KEY".to_owned(),
            other => other.to_string(),
        },
    })
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let file = std::fs::File::open(path).map_err(|e| unreadable(what, path, &e))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|e| unreadable(what, path, &e))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(TlsError::Content { what, path: path.to_owned(), reason: "it is larger than 1 MiB".to_owned() });
    }
    Ok(bytes)
}

fn unreadable(what: &'static str, path: &Path, error: &std::io::Error) -> TlsError {
    TlsError::Read { what, path: path.to_owned(), reason: error.to_string() }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::pki::{Authority, Order};
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    const DAY: Duration = Duration::from_secs(86_400);

    /// Files of a worker, issued by an authority of their own.
    fn files(dir: &Path) -> (Authority, TlsFiles) {
        let authority = Authority::init(&dir.join("pki"), "test", DAY * 3).unwrap();
        let order = Order { role: Role::Worker, name: "w1".to_owned(), hosts: Vec::new(), life: DAY };
        let issued = authority.issue(&order).unwrap();
        let files = TlsFiles { ca: dir.join("pki/ca.pem"), certificate: dir.join("w1.pem"), key: dir.join("w1.key") };
        std::fs::write(&files.certificate, issued.certificate).unwrap();
        crate::pki::write_new(&files.key, 0o600, &issued.key).unwrap();
        (authority, files)
    }

    fn said(result: Result<Material, TlsError>) -> String {
        result.map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn good_files_pass_and_say_whose_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let (_, files) = files(dir.path());
        let leaf = files.check(Role::Worker).unwrap().leaf;
        assert_eq!((leaf.name.as_str(), leaf.role), ("w1", Some(Role::Worker)));
        let text = said(files.check(Role::Coordinator));
        assert!(
            text.contains("`w1` is for the role worker, not coordinator; issue one with `sheaf pki issue --role coord"),
            "{text}"
        );
    }

    #[test]
    fn the_clock_decides_what_is_valid() {
        let dir = tempfile::tempdir().unwrap();
        let (_, files) = files(dir.path());
        let at = |seconds| files.load_at(UnixTime::since_unix_epoch(Duration::from_secs(seconds)));
        let now = UnixTime::now().as_secs();
        let text = said(at(now + 2 * 86_400));
        assert!(text.contains("of `w1` expired 24 h ago; issue a new one with `sheaf pki issue`, or correct"), "{text}");
        let text = said(at(now - 3600));
        assert!(text.contains("is not valid for another 55 min; correct this machine's clock"), "{text}");
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (_, files) = files(dir.path());
        std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o644)).unwrap();
        let text = said(files.load());
        assert!(text.contains("can be read by others (mode 644); run `chmod 600 "), "{text}");
    }

    #[test]
    fn files_that_do_not_fit_say_which() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let ((_, ours), (_, theirs)) = (files(dir.path()), files(other.path()));
        let text = said(TlsFiles { ca: theirs.ca.clone(), ..ours.clone() }.load());
        assert!(text.contains("was not issued by the authority in") && text.contains("another authority signed it"), "{text}");
        let text = said(TlsFiles { key: theirs.key, ..ours.clone() }.load());
        assert!(text.contains("does not belong to the certificate"), "{text}");
        let text = said(TlsFiles { certificate: ours.key.clone(), ..ours.clone() }.load());
        assert!(text.contains("holds no certificate as PEM: no section named CERTIFICATE"), "{text}");
        std::fs::write(&ours.key, "nothing").unwrap();
        assert!(said(ours.load()).contains("holds no private key as PEM: no section named PRIVATE KEY"));
        std::fs::remove_file(&ours.ca).unwrap();
        assert!(said(ours.load()).starts_with("read the authority's certificate "));
    }

    #[test]
    fn an_authority_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let (authority, _) = files(dir.path());
        let again = Authority::init(&dir.path().join("pki"), "test", DAY).unwrap_err().to_string();
        assert!(again.contains("ca.key exists already; an authority is never overwritten"), "{again}");
        assert_eq!(Authority::open(&dir.path().join("pki")).unwrap().fingerprint(), authority.fingerprint());
        let mode = std::fs::metadata(dir.path().join("pki/ca.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
