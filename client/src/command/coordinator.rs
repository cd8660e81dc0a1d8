//! `sheaf coordinator`: a coordinator in the foreground, until it is asked to end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use sheaf_coordinator::{Coordinator, CoordinatorOptions};
use sheaf_dataflow::stores::StoreOptions;
use sheaf_runtime::connect::Trust;
use sheaf_runtime::exit::Exit;
use sheaf_runtime::pki::Enrolling;
use sheaf_runtime::secret::Secret;
use sheaf_runtime::shutdown::{Asked, Shutdown};
use tracing::info;

use super::{print, setup};
use crate::cli::{CoordinatorArgs, StoreArgs};
use crate::connect::{environment, from_env_tls, tls_of};
use crate::context::{self, Context, Contexts, LOCAL, read_secret, write_private};
use crate::failure::Failure;

/// What allows more to jobs of a standing cluster.
const REMEDY: &str = "the coordinator and its workers have to be started with `--allow` for it";

/// Runs until SIGTERM or Ctrl-C.
pub async fn coordinator(args: CoordinatorArgs) -> Result<Exit, Failure> {
    let store = setup::store(&StoreArgs { store: args.store.clone() })?;
    let mut stores = setup::allowed(&args.allow, REMEDY)?;
    stores = with_store(stores, &store);
    make_folder(&args.state)?;
    let trust = match tls_of(&args.tls).map_or_else(|| from_env_tls(&environment), |tls| Ok(Some(tls)))? {
        Some(tls) => Trust::Tls(tls),
        None => Trust::Secret(secret(&args.state)?),
    };
    let options = CoordinatorOptions {
        listen: args.listen,
        state: args.state.clone(),
        store: store.clone(),
        stores: stores.clone(),
        trust: trust.clone(),
        enrolling: args.pki.clone().map(Enrolling::at),
        worker_timeout: args.worker_timeout,
        running_jobs: args.running_jobs as usize,
        speculation: args.speculation.is_on(),
        namespace_weights: args.namespace_weight.iter().cloned().collect(),
        namespace_limits: args.namespace_limit.iter().cloned().collect(),
        admin: args.admin,
        checkpoint_every: args.checkpoint_every,
    };
    // From here on a signal ends it in good order.
    let mut shutdown = Shutdown::listen().map_err(|e| Failure::new(Exit::Failed, format!("listen for signals: {e}")))?;
    let contexts = match &trust {
        Trust::Secret(_) => known_contexts()?,
        Trust::Tls(_) => None,
    };
    let running = Coordinator::start(options).await?;
    let address = running.address.to_string();
    if let (Trust::Secret(secret), Some((file, contexts))) = (&trust, contexts) {
        save_context(&file, contexts, &address, secret, &stores)?;
    }
    write_address(args.admin_file.as_deref(), running.admin)?;
    write_address(args.address_file.as_deref(), Some(running.address))?;
    print(&format!("listening on {address}"))?;
    info!(address, store, "coordinator listens");
    tokio::select! {
        _ = shutdown.asked(Asked::ToLeave) => {}
        reason = running.failed() => {
            let message = format!("{reason}; jobs go on when a coordinator starts again with --state {}", args.state.display());
            return Err(Failure::new(Exit::LogStopped, message));
        }
    }
    info!("asked to stop; jobs go on when a coordinator starts with the same state");
    tokio::select! {
        stopped = running.stop() => stopped.map(|()| Exit::Done).map_err(Failure::from),
        _ = shutdown.asked(Asked::ToStop) => Ok(Exit::Interrupted),
    }
}

fn write_address(file: Option<&Path>, address: Option<SocketAddr>) -> Result<(), Failure> {
    let (Some(file), Some(address)) = (file, address) else { return Ok(()) };
    write_private(file, format!("{address}\n").as_bytes())
        .map_err(|e| Failure::new(Exit::Failed, format!("write the address file {}: {e}", file.display())))
}

fn make_folder(folder: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|e| Failure::new(Exit::Failed, format!("create the state folder {}: {e}", folder.display())))
}

/// The secret of a cluster on loopback: given in the environment, or kept in the state folder, so that
/// workers and watchers find the coordinator again when it is restarted.
fn secret(state: &Path) -> Result<Secret, Failure> {
    if let Some(secret) = environment("SHEAF_SECRET") {
        return Ok(Secret::given(secret));
    }
    if let Some(file) = environment("SHEAF_SECRET_FILE") {
        return Ok(Secret::given(read_secret(Path::new(&file))?));
    }
    let file = state.join("secret");
    if file.exists() {
        return Ok(Secret::given(read_secret(&file)?));
    }
    let secret = Secret::generate().map_err(|e| Failure::new(Exit::Failed, format!("draw a secret: {e}")))?;
    write_private(&file, secret.expose().as_bytes())
        .map_err(|e| Failure::new(Exit::Failed, format!("write the secret {}: {e}", file.display())))?;
    Ok(secret)
}

/// What may be read and written, the store included.
fn with_store(mut stores: StoreOptions, store: &str) -> StoreOptions {
    if !store.contains("://") {
        stores.local_roots.push(PathBuf::from(store));
    }
    stores
}

/// The contexts of the user; none where a service has no folder of its own, as under systemd.
fn known_contexts() -> Result<Option<(PathBuf, Contexts)>, Failure> {
    match context::path(&environment) {
        Ok(file) => context::read(&file).map(|contexts| Some((file, contexts))),
        Err(_) => {
            info!("neither SHEAF_CONFIG_DIR nor HOME is set: no context is saved, callers need --secret-file");
            Ok(None)
        }
    }
}

/// Saves the context `local`, so that commands and workers of the same user find the cluster.
fn save_context(
    file: &Path,
    mut contexts: Contexts,
    address: &str,
    secret: &Secret,
    stores: &StoreOptions,
) -> Result<(), Failure> {
    let allow = stores.local_roots.iter().map(|root| root.to_string_lossy().into_owned()).collect();
    let secret = Some(secret.expose().to_owned());
    contexts.put(LOCAL, Context { address: address.to_owned(), secret, allow, ..Context::default() })?;
    context::write(file, &contexts)
}
