//! The per-run secret of a cluster on loopback: another user of the machine cannot drive it.
//! Handed to workers through the environment, never on a command line.

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

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

impl Secret {
    /// A fresh secret from the operating system.
    pub fn generate() -> std::io::Result<Self> {
        use std::io::Read as _;
        let mut bytes = [0u8; 32];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(Self(bytes.iter().map(|b| format!("{b:02x}")).collect()))
    }

    /// A secret that was handed over.
    pub fn given(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the environment of a child process.
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn header(&self) -> Result<MetadataValue<Ascii>, Status> {
        format!("Bearer {}", self.0).parse().map_err(|_| Status::internal("the secret is no header value"))
    }
}

/// Adds the secret to every call.
#[derive(Debug, Clone)]
pub struct AddSecret(pub Secret);

impl Interceptor for AddSecret {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.header()?);
        Ok(request)
    }
}

/// Refuses every call without the secret.
#[derive(Debug, Clone)]
pub struct CheckSecret(pub Secret);

impl Interceptor for CheckSecret {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let expected = self.0.header()?;
        let given = request.metadata().get("authorization").map(|v| v.as_encoded_bytes());
        if given.is_some_and(|given| same(given, expected.as_encoded_bytes())) {
            Ok(request)
        } else {
            Err(Status::unauthenticated("this cluster belongs to another run; its secret is missing or wrong"))
        }
    }
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
    fn only_the_same_secret_passes() {
        let secret = Secret::generate().unwrap();
        let request = AddSecret(secret.clone()).call(Request::new(())).unwrap();
        assert!(CheckSecret(secret.clone()).call(request).is_ok());
        let other = AddSecret(Secret::generate().unwrap()).call(Request::new(())).unwrap();
        assert!(CheckSecret(secret.clone()).call(other).is_err());
        assert!(CheckSecret(secret.clone()).call(Request::new(())).is_err());
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }
}
