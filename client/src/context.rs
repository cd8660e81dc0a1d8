//! The context file: clusters by name, with what proves us to them. It holds secrets, so it is written
//! for its owner alone and refused when others can read it.

use std::collections::BTreeMap;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sheaf_runtime::exit::Exit;

use crate::failure::Failure;

/// Context that a coordinator on loopback saves.
pub const LOCAL: &str = "local";

/// Longest name of a context, in bytes.
const LONGEST_NAME: usize = 63;

/// All contexts of a user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contexts {
    /// Version of the format; 1.
    pub version: u32,
    /// The context that commands use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// Contexts by name.
    #[serde(default)]
    pub contexts: BTreeMap<String, Context>,
}

/// One cluster. Serialising it writes the secret.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// Coordinator, `HOST:PORT`.
    pub address: String,
    /// Secret of a cluster on loopback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Namespace of jobs that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// What the coordinator allows; workers on its machine that say nothing else allow the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("address", &self.address)
            .field("secret", &self.secret.as_ref().map(|_| "…"))
            .field("tls", &self.tls)
            .field("namespace", &self.namespace)
            .field("allow", &self.allow)
            .finish()
    }
}

/// Files with certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The cluster's authority.
    pub ca: PathBuf,
    /// Own certificate.
    pub certificate: PathBuf,
    /// Own key.
    pub key: PathBuf,
}

/// Folder of the user's configuration: `SHEAF_CONFIG_DIR`, or `sheaf` in the usual place.
pub fn folder(env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let set = |name: &str| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("SHEAF_CONFIG_DIR")
        .or_else(|| set("XDG_CONFIG_HOME").map(|dir| dir.join("sheaf")))
        .or_else(|| set("HOME").map(|dir| dir.join(".config/sheaf")))
}

/// The context file's path.
pub fn path(env: &dyn Fn(&str) -> Option<String>) -> Result<PathBuf, Failure> {
    let folder = folder(env).ok_or_else(|| Failure::usage("no place for contexts is known: set SHEAF_CONFIG_DIR or HOME"))?;
    Ok(folder.join("contexts.json"))
}

/// Reads contexts; no file holds none.
pub fn read(file: &Path) -> Result<Contexts, Failure> {
    let name = file.display();
    let metadata = match std::fs::metadata(file) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Contexts { version: 1, ..Contexts::default() }),
        Err(e) => return Err(Failure::new(Exit::Denied, format!("read contexts {name}: {e}"))),
    };
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        let message = format!(
            "the context file {name} can be read by others (mode {mode:03o}), and it holds secrets; run `chmod 600 {name}`"
        );
        return Err(Failure::new(Exit::Denied, message));
    }
    let own = rustix::process::geteuid().as_raw();
    if metadata.uid() != own && own != 0 {
        let message =
            format!("the context file {name} belongs to user {}, not to you ({own}); set SHEAF_CONFIG_DIR", metadata.uid());
        return Err(Failure::new(Exit::Denied, message));
    }
    let text = std::fs::read_to_string(file).map_err(|e| Failure::new(Exit::Denied, format!("read contexts {name}: {e}")))?;
    let contexts: Contexts = serde_json::from_str(&text)
        .map_err(|e| Failure::usage(format!("the context file {name} is malformed: {e}; mend it or remove it")))?;
    match contexts.version {
        1 => Ok(contexts),
        other => Err(Failure::usage(format!("the context file {name} has version {other}; this program reads version 1"))),
    }
}

/// Writes contexts whole or not at all, for their owner alone.
pub fn write(file: &Path, contexts: &Contexts) -> Result<(), Failure> {
    let failed = |e: String| Failure::new(Exit::Failed, format!("write contexts {}: {e}", file.display()));
    let text = serde_json::to_string_pretty(contexts).map_err(|e| failed(e.to_string()))?;
    let folder = file.parent().unwrap_or_else(|| Path::new("."));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| failed(e.to_string()))?;
    write_private(file, text.as_bytes()).map_err(|e| failed(e.to_string()))
}

/// Writes a file that only its owner can read, whole or not at all.
pub fn write_private(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    // Temporary files are made with mode 600.
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    temporary.write_all(bytes)?;
    temporary.as_file().sync_all()?;
    temporary.persist(file).map(drop).map_err(|e| e.error)
}

/// Reads a secret from a file that only its owner can read.
pub fn read_secret(file: &Path) -> Result<String, Failure> {
    let name = file.display();
    let metadata = std::fs::metadata(file).map_err(|e| Failure::usage(format!("read the secret {name}: {e}")))?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        let message = format!("the secret {name} can be read by others (mode {mode:03o}); run `chmod 600 {name}`");
        return Err(Failure::new(Exit::Denied, message));
    }
    let text = std::fs::read_to_string(file).map_err(|e| Failure::usage(format!("read the secret {name}: {e}")))?;
    match text.trim() {
        "" => Err(Failure::usage(format!("the secret {name} is empty"))),
        secret => Ok(secret.to_owned()),
    }
}

impl Contexts {
    /// A context by name.
    pub fn named(&self, name: &str) -> Result<&Context, Failure> {
        self.contexts.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
            let hint = if known.is_empty() { "there are none".to_owned() } else { format!("there are {}", known.join(", ")) };
            Failure::new(Exit::NotFound, format!("context `{name}` not found; {hint}"))
        })
    }

    /// The context of an address; the current one before others.
    pub fn at(&self, address: &str) -> Option<&Context> {
        let current = self.current.as_ref().and_then(|name| self.contexts.get(name));
        let wanted = numeric(address);
        current.into_iter().chain(self.contexts.values()).find(|context| numeric(&context.address) == wanted)
    }

    /// Adds or replaces a context; the first becomes the current one.
    pub fn put(&mut self, name: &str, context: Context) -> Result<(), Failure> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(plain) {
            let message = format!("`{name}` is no name of a context: at most {LONGEST_NAME} of a-z, 0-9, `-`, `_` and `.`");
            return Err(Failure::usage(message));
        }
        self.contexts.insert(name.to_owned(), context);
        self.current.get_or_insert_with(|| name.to_owned());
        Ok(())
    }

    /// Removes a context; if it was the current one, none is.
    pub fn remove(&mut self, name: &str) -> Result<(), Failure> {
        self.named(name)?;
        self.contexts.remove(name);
        self.current.take_if(|current| current == name);
        Ok(())
    }
}

/// `localhost` is what coordinators call 127.0.0.1.
fn numeric(address: &str) -> String {
    match address.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => address.to_owned(),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn context(address: &str) -> Context {
        Context { address: address.into(), secret: Some("canary".into()), ..Context::default() }
    }

    #[test]
    fn what_is_written_is_read_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("deep/contexts.json");
        assert_eq!(read(&file).unwrap().contexts.len(), 0);
        let mut contexts = read(&file).unwrap();
        contexts.put("prod", context("h:1")).unwrap();
        contexts.put("other", context("h:2")).unwrap();
        write(&file, &contexts).unwrap();
        assert_eq!(read(&file).unwrap(), contexts);
        assert_eq!(contexts.current.as_deref(), Some("prod"));
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert!(!format!("{contexts:?}").contains("canary"));

        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        let refused = read(&file).unwrap_err();
        assert!(refused.exit == Exit::Denied && refused.message.contains("chmod 600"), "{}", refused.message);
    }

    #[test]
    fn names_are_checked_and_the_current_one_goes_with_its_context() {
        let mut contexts = Contexts { version: 1, ..Contexts::default() };
        assert_eq!(contexts.put("a b", context("h:1")).unwrap_err().exit, Exit::Usage);
        contexts.put("a", context("h:1")).unwrap();
        assert_eq!(contexts.at("h:1").map(|c| c.address.as_str()), Some("h:1"));
        contexts.put("here", context("127.0.0.1:7433")).unwrap();
        assert!(contexts.at("localhost:7433").is_some() && contexts.at("localhost:1").is_none());
        assert_eq!(contexts.named("b").unwrap_err().exit, Exit::NotFound);
        contexts.remove("a").unwrap();
        assert_eq!(contexts.current, None);
    }

    #[test]
    fn the_folder_follows_the_environment() {
        let of = |pairs: &[(&str, &str)]| {
            let pairs: Vec<(String, String)> = pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            folder(&move |name| pairs.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()))
        };
        assert_eq!(of(&[("SHEAF_CONFIG_DIR", "/c"), ("HOME", "/h")]), Some("/c".into()));
        assert_eq!(of(&[("XDG_CONFIG_HOME", "/x"), ("HOME", "/h")]), Some("/x/sheaf".into()));
        assert_eq!(of(&[("SHEAF_CONFIG_DIR", ""), ("HOME", "/h")]), Some("/h/.config/sheaf".into()));
        assert_eq!(of(&[]), None);
    }
}
