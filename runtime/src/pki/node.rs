//! A node's own side: joins with a token, keeps its key and certificate in its state folder, and has the
//! certificate renewed at two thirds of its life over the connection that it works on.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use sheaf_proto::v1::node_service_client::NodeServiceClient;
use sheaf_proto::v1::{EnrollNodeRequest, RenewCertificateRequest};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::authority::BACKDATED;
use super::store::folder;
use super::{PkiError, Token, TokenError, unix_now, write_over};
use crate::auth::Role;
use crate::connect::{Channel, ConnectError, Target, Trust, connect_to_join};
use crate::exit::Exit;
use crate::retry::Backoff;
use crate::tls::{Leaf, TlsError, TlsFiles, certificates, fingerprint};

/// Key and certificate in one file, so that a renewal replaces both at once.
const NODE_FILE: &str = "node.pem";
/// The authority's certificates.
const CA_FILE: &str = "ca.pem";
/// Longest sleep before the clock is looked at again: a machine may be suspended meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// Wait after a renewal that failed; a tenth of what is left if that is less.
const RETRY: Duration = Duration::from_secs(60);

/// Why a node could not join, by what to do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JoinError {
    /// Look at the network or the address.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Make another token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The coordinator did not give a certificate.
    #[error("the coordinator at {address} gave no certificate: {reason}")]
    Refused {
        /// Where.
        address: String,
        /// Its words.
        reason: String,
        /// Whether the same may work later.
        retry: bool,
    },
    /// Look at the state folder.
    #[error(transparent)]
    State(#[from] PkiError),
    /// Look at the token file.
    #[error("read the token file {}: {reason}", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl JoinError {
    /// Whether the same may work later.
    pub fn retry(&self) -> bool {
        match self {
            Self::Connect(error) => error.retry(),
            Self::Refused { retry, .. } => *retry,
            Self::Token(_) | Self::State(_) | Self::TokenFile { .. } => false,
        }
    }

    /// What a program exits with.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Connect(error) => error.exit(),
            Self::Refused { retry: true, .. } => Exit::Unreachable,
            Self::Token(_) | Self::Refused { .. } => Exit::Denied,
            Self::State(_) | Self::TokenFile { .. } => Exit::Usage,
        }
    }
}

/// A target with a certificate of this node's own: the one in its state folder if it still holds, else a
/// new one for the token. A restart therefore needs no second token.
pub async fn join(address: &str, token_file: &Path, name: &str, state: &Path) -> Result<Target, JoinError> {
    let text = std::fs::read_to_string(token_file)
        .map_err(|e| JoinError::TokenFile { path: token_file.to_owned(), reason: e.to_string() })?;
    let token = Token::read(&text)?;
    let files = TlsFiles { ca: state.join(CA_FILE), certificate: state.join(NODE_FILE), key: state.join(NODE_FILE) };
    if !holds(&files, &token)? {
        enroll(address, &token, name, state, &files).await?;
    }
    Ok(Target { address: address.to_owned(), trust: Trust::Tls(files) })
}

/// As [`join`], again and again while the coordinator is away: a worker may be started before it. Gives up
/// after so long, if that is said.
pub async fn join_patiently(
    address: &str,
    token_file: &Path,
    name: &str,
    state: &Path,
    give_up_after: Option<Duration>,
) -> Result<Target, JoinError> {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    let began = Instant::now();
    loop {
        match join(address, token_file, name, state).await {
            Err(error) if error.retry() && give_up_after.is_none_or(|limit| began.elapsed() < limit) => {
                if backoff.tries() == 0 {
                    warn!(%error, "not enrolled yet; trying again");
                }
                tokio::time::sleep(backoff.pause()).await;
            }
            result => return result,
        }
    }
}

/// Whether the files are good for the token's cluster. Missing, expired or of another cluster: no.
fn holds(files: &TlsFiles, token: &Token) -> Result<bool, JoinError> {
    if !files.certificate.exists() || !files.ca.exists() {
        return Ok(false);
    }
    if !certificates("authority's certificate", &files.ca)
        .map_err(PkiError::from)?
        .iter()
        .any(|c| fingerprint(c) == token.authority())
    {
        info!("the certificate kept here is of another cluster; joining with the token");
        return Ok(false);
    }
    match files.check(token.role()) {
        Ok(_) => Ok(true),
        Err(error @ (TlsError::Read { .. } | TlsError::Exposed { .. })) => Err(PkiError::from(error).into()),
        Err(error) => {
            info!(%error, "the certificate kept here is not used; joining with the token");
            Ok(false)
        }
    }
}

async fn enroll(address: &str, token: &Token, name: &str, state: &Path, files: &TlsFiles) -> Result<(), JoinError> {
    folder(state)?;
    let channel = connect_to_join(address, token.authority()).await?;
    let (key, request) = new_key()?;
    let request = EnrollNodeRequest { token: token.expose().to_owned(), request, name: name.to_owned() };
    let refused = |reason: String, retry| JoinError::Refused { address: address.to_owned(), reason, retry };
    let answer = NodeServiceClient::new(channel).enroll_node(request).await;
    let answer = answer.map_err(|s| refused(s.message().to_owned(), s.code() == tonic::Code::Unavailable))?.into_inner();
    let authority = answer.authority.as_bytes();
    let pinned = CertificateDer::pem_slice_iter(authority).filter_map(Result::ok).any(|c| fingerprint(&c) == token.authority());
    if !pinned {
        return Err(refused("it names another authority than the token".to_owned(), false));
    }
    keep(files, &answer.authority, &answer.certificate, &key, token.role())?;
    info!(name, "enrolled");
    Ok(())
}

/// A fresh key and a signing request for it. The authority decides what the certificate says.
fn new_key() -> Result<(KeyPair, Vec<u8>), PkiError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let request = CertificateParams::default().serialize_request(&key)?.der().to_vec();
    Ok((key, request))
}

/// Keeps what was issued, if it is good: checked beside the old files before it takes their place.
fn keep(files: &TlsFiles, authority: &str, certificate: &str, key: &KeyPair, role: Role) -> Result<Leaf, PkiError> {
    let (node, ca) = (files.certificate.with_extension("candidate"), files.ca.with_extension("candidate"));
    let both = format!("{certificate}{}", key.serialize_pem());
    write_over(&ca, 0o644, authority)?;
    write_over(&node, 0o600, &both)?;
    let candidate = TlsFiles { ca: ca.clone(), certificate: node.clone(), key: node.clone() };
    let leaf = candidate.check(role)?.leaf;
    for (from, to) in [(&ca, &files.ca), (&node, &files.certificate)] {
        std::fs::rename(from, to).map_err(|e| PkiError::Write { path: to.clone(), reason: e.to_string() })?;
    }
    Ok(leaf)
}

/// Renews the certificate of an enrolled node over its connection until the handle is dropped. A node with
/// certificates that somebody put there (certificate and key in two files) is left alone.
pub(crate) fn keep_renewed(files: &TlsFiles, channel: Channel) -> Option<AbortOnDropHandle<()>> {
    if files.certificate != files.key {
        return None;
    }
    let (files, client) = (files.clone(), NodeServiceClient::new(channel));
    Some(AbortOnDropHandle::new(tokio::spawn(renew_for_ever(files, client))))
}

async fn renew_for_ever(files: TlsFiles, mut client: NodeServiceClient<Channel>) {
    loop {
        let wait = match files.load() {
            Ok(material) => {
                let now = unix_now();
                let wait = due(&material.leaf, now);
                if wait.is_zero() {
                    match renew(&files, &material.leaf, &mut client).await {
                        Ok(leaf) => {
                            info!(name = leaf.name, valid_s = leaf.not_after - now, "certificate renewed");
                            // Even with a clock that is far off this asks no more often.
                            due(&leaf, now).max(Duration::from_secs(1))
                        }
                        Err(error) => {
                            warn!(%error, left_s = material.leaf.not_after - now, "the certificate could not be renewed; trying again");
                            RETRY.min(Duration::from_secs((material.leaf.not_after - now).max(10) as u64 / 10))
                        }
                    }
                } else {
                    wait
                }
            }
            Err(error) => {
                warn!(%error, "the certificate could not be read; trying again");
                RETRY
            }
        };
        tokio::time::sleep(wait.min(LOOK_AGAIN)).await;
    }
}

async fn renew(files: &TlsFiles, old: &Leaf, client: &mut NodeServiceClient<Channel>) -> Result<Leaf, String> {
    let (key, request) = new_key().map_err(|e| e.to_string())?;
    let answer =
        client.renew_certificate(RenewCertificateRequest { request }).await.map_err(|s| s.message().to_owned())?.into_inner();
    let role = old.role.ok_or_else(|| format!("the certificate of `{}` has no role", old.name))?;
    keep(files, &answer.authority, &answer.certificate, &key, role).map_err(|e| e.to_string())
}

/// How long until two thirds of a certificate's life have passed.
fn due(leaf: &Leaf, now: i64) -> Duration {
    let life = leaf.not_after - (leaf.not_before + BACKDATED);
    Duration::from_secs((leaf.not_after - life / 3).saturating_sub(now).max(0) as u64)
}
