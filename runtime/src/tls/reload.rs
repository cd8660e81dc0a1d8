//! The listening side's certificate, read again when its files change: a new one needs no restart.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::ServerConfig;
use tracing::{info, warn};

use super::{TlsError, TlsFiles, server_config};
use crate::auth::Role;

/// What tells one state of the files from another.
type Stamp = [Option<(SystemTime, u64)>; 3];

/// Configuration for handshakes, up to date with its files.
#[derive(Debug)]
pub struct ServerTls {
    files: TlsFiles,
    role: Role,
    current: Mutex<(Stamp, Arc<ServerConfig>)>,
}

impl ServerTls {
    /// Reads and checks the files; the certificate must be for the role.
    pub fn open(files: TlsFiles, role: Role) -> Result<Self, TlsError> {
        let stamp = stamp(&files);
        let config = Arc::new(server_config(&files, role)?);
        Ok(Self { files, role, current: Mutex::new((stamp, config)) })
    }

    /// The configuration for the next handshake. Files that changed and are wrong now change nothing: the
    /// last good certificate goes on to be used, with a warning once for each change.
    pub fn config(&self) -> Arc<ServerConfig> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamp(&self.files);
        if current.0 != now {
            current.0 = now;
            match server_config(&self.files, self.role) {
                Ok(config) => {
                    info!(certificate = %self.files.certificate.display(), "certificate read again");
                    current.1 = Arc::new(config);
                }
                Err(error) => warn!(%error, "the new certificate is not used"),
            }
        }
        Arc::clone(&current.1)
    }
}

fn stamp(files: &TlsFiles) -> Stamp {
    let of = |path: &Path| std::fs::metadata(path).and_then(|m| Ok((m.modified()?, m.len()))).ok();
    [of(&files.ca), of(&files.certificate), of(&files.key)]
}
