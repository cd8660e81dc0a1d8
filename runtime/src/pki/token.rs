//! One-time join tokens: `sheaf1.PAYLOAD.SIGNATURE`. The payload names the role, the time it is good for and
//! the authority by its fingerprint; the authority's key signs it, so that making one needs no running
//! cluster and verifying one needs no list. That it works once is the durable log's business.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::SignatureScheme;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Authority, PkiError, unix_now};
use crate::auth::Role;
use crate::secret::{hex, random};
use crate::tls::provider;

/// How a token begins.
const PREFIX: &str = "sheaf1";
/// What the authority's key signs begins so, and no certificate does: neither can stand for the other.
const PURPOSE: &[u8] = b"sheaf join token 1\n";
/// Longest text of a token.
const MAX_TOKEN_BYTES: usize = 1024;
/// Longest time that a token is good for.
pub const MAX_TTL: Duration = Duration::from_secs(7 * 86_400);
/// How far clocks may differ.
const CLOCK_SKEW: i64 = 300;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    id: String,
    role: String,
    issued: i64,
    expires: i64,
    ca: String,
}

/// A join token, read. Only the authority can tell whether it is genuine.
#[derive(Clone)]
pub struct Token {
    text: String,
    payload: Payload,
    role: Role,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The text opens the cluster; the digest only names it.
        f.debug_struct("Token").field("digest", &self.digest()).field("expires", &self.payload.expires).finish_non_exhaustive()
    }
}

/// Why a token does not open the door, by what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Give the text that `sheaf pki token` printed.
    #[error("this is not a join token; give the text that `sheaf pki token` printed, whole")]
    Malformed,
    /// Make one with this cluster's authority.
    #[error("the join token is for another cluster (authority {}…, this one is {}…); make one with this cluster's authority", &given[..16.min(given.len())], &expected[..16.min(expected.len())])]
    OtherCluster {
        /// Fingerprint in the token.
        given: String,
        /// Fingerprint of this cluster's authority.
        expected: String,
    },
    /// Somebody changed it.
    #[error("the join token's signature is not of this cluster's authority; it was damaged or forged")]
    Forged,
    /// Make a new one.
    #[error("the join token expired {ago} ago; make a new one with `sheaf pki token`")]
    Expired {
        /// Since when, for people.
        ago: String,
    },
    /// Set the clocks.
    #[error("the join token was made {ahead} in the future; the clock here or where it was made is wrong")]
    Clock {
        /// How far, for people.
        ahead: String,
    },
}

impl Token {
    /// Reads the text of a token.
    pub fn read(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let (signed, _) = split(text).ok_or(TokenError::Malformed)?;
        let payload: Payload = serde_json::from_slice(&signed).map_err(|_| TokenError::Malformed)?;
        let role = payload.role.parse().map_err(|_| TokenError::Malformed)?;
        if payload.ca.len() != 64 || !payload.ca.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(TokenError::Malformed);
        }
        Ok(Self { text: text.to_owned(), payload, role })
    }

    /// The text, to be handed to whoever joins.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// What its bearer becomes.
    pub fn role(&self) -> Role {
        self.role
    }

    /// When it ends, seconds since 1970 UTC.
    pub fn expires(&self) -> i64 {
        self.payload.expires
    }

    /// The authority that made it, by its fingerprint.
    pub fn authority(&self) -> &str {
        &self.payload.ca
    }

    /// Names the token without opening anything: SHA-256 of what was signed, hex.
    pub fn digest(&self) -> String {
        hex(&Sha256::digest(serde_json::to_vec(&self.payload).expect("texts and numbers always have JSON")))
    }
}

impl Authority {
    /// Makes a token for a node that is to join with this role.
    pub fn token(&self, role: Role, ttl: Duration) -> Result<Token, PkiError> {
        if role != Role::Worker {
            return Err(PkiError::Order(format!(
                "join tokens are for workers; for a {role} run `sheaf pki issue --role {role}`"
            )));
        }
        if ttl.is_zero() || ttl > MAX_TTL {
            return Err(PkiError::Order(format!("a join token is good for up to {} days", MAX_TTL.as_secs() / 86_400)));
        }
        self.token_from(role, unix_now(), ttl)
    }

    fn token_from(&self, role: Role, issued: i64, ttl: Duration) -> Result<Token, PkiError> {
        let id: [u8; 16] = random().map_err(|e| PkiError::Library(format!("draw an id: {e}")))?;
        let expires = issued.saturating_add(ttl.as_secs() as i64);
        let payload = Payload { id: hex(&id), role: role.name().to_owned(), issued, expires, ca: self.fingerprint() };
        let bytes = serde_json::to_vec(&payload).map_err(|e| PkiError::Library(e.to_string()))?;
        let signature = self.sign_bytes(&[PURPOSE, &bytes].concat())?;
        let text = format!("{PREFIX}.{}.{}", URL_SAFE_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(signature));
        Ok(Token { text, payload, role })
    }

    /// Verifies a token's text: of this authority, untouched, in its time. Whether it was used the log knows.
    pub fn verify_token(&self, text: &str) -> Result<Token, TokenError> {
        self.verify_token_at(text, unix_now())
    }

    fn verify_token_at(&self, text: &str, now: i64) -> Result<Token, TokenError> {
        let token = Token::read(text)?;
        if token.payload.ca != self.fingerprint() {
            return Err(TokenError::OtherCluster { given: token.payload.ca, expected: self.fingerprint() });
        }
        let (signed, signature) = split(&token.text).ok_or(TokenError::Malformed)?;
        if !self.signed(&[PURPOSE, &signed].concat(), &signature) {
            return Err(TokenError::Forged);
        }
        if now >= token.payload.expires {
            return Err(TokenError::Expired { ago: crate::tls::span(now - token.payload.expires) });
        }
        if token.payload.issued > now + CLOCK_SKEW {
            return Err(TokenError::Clock { ahead: crate::tls::span(token.payload.issued - now) });
        }
        Ok(token)
    }

    fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let provider = provider();
        let schemes = provider.signature_verification_algorithms.mapping.iter();
        let mut ours = schemes.filter(|(scheme, _)| *scheme == SignatureScheme::ECDSA_NISTP256_SHA256);
        let algorithm = ours.next().and_then(|(_, algorithms)| algorithms.first());
        algorithm.is_some_and(|a| a.verify_signature(self.public_key(), message, signature).is_ok())
    }
}

/// Payload and signature of a token's text.
fn split(text: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut parts = (text.len() <= MAX_TOKEN_BYTES).then(|| text.split('.'))?;
    let (prefix, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
    if prefix != PREFIX || parts.next().is_some() {
        return None;
    }
    Some((URL_SAFE_NO_PAD.decode(payload).ok()?, URL_SAFE_NO_PAD.decode(signature).ok()?))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn authority() -> (tempfile::TempDir, Authority) {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::init(&dir.path().join("pki"), "test", MAX_TTL).unwrap();
        (dir, authority)
    }

    #[test]
    fn a_token_says_when_and_why_it_does_not_hold() {
        let (_dir, authority) = authority();
        let now = unix_now();
        let token = authority.token_from(Role::Worker, now, Duration::from_secs(60)).unwrap();
        let verified = authority.verify_token(&format!(" {}\n", token.expose())).unwrap();
        assert_eq!((verified.digest(), verified.role(), verified.expires()), (token.digest(), Role::Worker, now + 60));
        let late = authority.verify_token_at(token.expose(), now + 60 + 3 * 60).unwrap_err();
        assert_eq!(late.to_string(), "the join token expired 3 min ago; make a new one with `sheaf pki token`");
        let early = authority.verify_token_at(token.expose(), now - 7200).unwrap_err();
        assert!(matches!(&early, TokenError::Clock { ahead } if ahead == "2 h"), "{early}");
        for bad in ["", "sheaf1", "sheaf1.a.b", "sheaf2.e30.e30", &"x".repeat(9999)] {
            assert_eq!(authority.verify_token(bad).unwrap_err(), TokenError::Malformed, "{bad}");
        }
    }

    #[test]
    fn a_changed_token_and_one_of_another_cluster_are_refused() {
        let ((_a, ours), (_b, other)) = (authority(), authority());
        let token = ours.token(Role::Worker, Duration::from_secs(60)).unwrap();
        assert!(matches!(other.verify_token(token.expose()), Err(TokenError::OtherCluster { .. })));
        let mut longer = token.payload.clone();
        longer.expires += 3600;
        let signature = token.expose().rsplit('.').next().unwrap();
        let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&longer).unwrap());
        assert_eq!(ours.verify_token(&format!("{PREFIX}.{payload}.{signature}")).unwrap_err(), TokenError::Forged);
    }

    #[test]
    fn a_token_does_not_show_itself() {
        let (_dir, authority) = authority();
        let token = authority.token(Role::Worker, Duration::from_secs(60)).unwrap();
        let signature = token.expose().rsplit('.').next().unwrap();
        assert!(!format!("{token:?}").contains(signature));
        assert!(
            authority
                .token(Role::Client, Duration::from_secs(60))
                .unwrap_err()
                .to_string()
                .contains("sheaf pki issue --role client")
        );
        assert!(authority.token(Role::Worker, MAX_TTL * 2).is_err());
    }
}
