//! The secret of a cluster on loopback: another user of the machine cannot drive it. Handed to programs
//! through the environment or a file that only its owner reads, never on a command line.
//!
//! Whoever holds the secret itself may do everything; from it comes one secret per role, which opens
//! that role's services alone. Workers are given theirs.

use sha2::{Digest as _, Sha256};
use tonic::metadata::{Ascii, MetadataValue};

use crate::auth::Role;

/// Environment variable that carries the secret to worker processes.
pub const SECRET_VARIABLE: &str = "SHEAF_SECRET";

/// 256 random bits as hex. Its text never reaches a log: `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A text that no header can carry, so no secret either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the secret is empty or holds characters other than visible ASCII; give the text that `sheaf coordinator` wrote")]
pub struct Malformed;

impl Secret {
    /// A fresh secret from the operating system.
    pub fn generate() -> std::io::Result<Self> {
        Ok(Self(hex(&random::<32>()?)))
    }

    /// A secret that was handed over.
    pub fn given(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret that opens the services of one role.
    #[must_use]
    pub fn of(&self, role: Role) -> Self {
        let digest = Sha256::new().chain_update("sheaf secret of a ").chain_update(role.name()).chain_update([0]);
        Self(hex(&digest.chain_update(&self.0).finalize()))
    }

    /// The text, for the environment of a child process.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The header that carries it.
    pub(crate) fn header(&self) -> Result<MetadataValue<Ascii>, Malformed> {
        if self.0.is_empty() || !self.0.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Malformed);
        }
        let mut value: MetadataValue<Ascii> = format!("Bearer {}", self.0).parse().map_err(|_| Malformed)?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Whether a header's bytes carry this secret. The time it takes does not tell where they differ.
    pub(crate) fn matches(&self, header: &[u8]) -> bool {
        header.strip_prefix(b"Bearer ").is_some_and(|given| same(given, self.0.as_bytes()))
    }
}

/// Random bytes from the operating system.
pub(crate) fn random<const N: usize>() -> std::io::Result<[u8; N]> {
    use std::io::Read as _;
    let mut bytes = [0u8; N];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Bytes as lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Compares without telling by its time where two texts differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |acc, (x, y)| acc | (x ^ y)) == 0
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_secret_matches() {
        let (secret, other) = (Secret::generate().unwrap(), Secret::generate().unwrap());
        let header = secret.header().unwrap();
        assert!(secret.matches(header.as_encoded_bytes()));
        assert!(!other.matches(header.as_encoded_bytes()));
        assert!(!secret.of(Role::Worker).matches(header.as_encoded_bytes()));
        assert!(!secret.matches(b"") && !secret.matches(b"Bearer "));
        assert_ne!(secret.of(Role::Worker), secret.of(Role::Client));
    }

    #[test]
    fn a_secret_does_not_show() {
        let secret = Secret::given("canary");
        let header = secret.header().unwrap();
        assert_eq!(format!("{secret:?} {header:?}"), "Secret(…) Sensitive");
        for bad in ["", "two words", "line\n"] {
            let text = Secret::given(bad).header().unwrap_err().to_string();
            assert!(text.contains("empty or holds") && !text.contains("words"), "{text}");
        }
    }
}
