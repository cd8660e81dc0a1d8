//! `sheaf worker`: a worker process. Those of an embedded cluster get secret and stores through the
//! environment; those started by hand find them in flags and contexts.

use std::path::PathBuf;

use sheaf_dataflow::stores::StoreOptions;
use sheaf_runtime::connect::Target;
use sheaf_runtime::exit::Exit;
use sheaf_runtime::pki;
use sheaf_runtime::secret::SECRET_VARIABLE;
use sheaf_worker::{Ended, WorkerOptions};

use super::{setup, wait};
use crate::allocator;
use crate::cli::{ConnectArgs, WorkerArgs};
use crate::connect::{environment, from_env, place};
use crate::embedded::STORES_VARIABLE;
use crate::failure::Failure;

/// What allows more to a worker.
const REMEDY: &str = "this worker has to be started with `--allow` for it, as its coordinator";

/// Runs until it is asked to leave.
pub fn worker(args: WorkerArgs) -> Result<Exit, Failure> {
    allocator::settle_for(args.memory);
    let name = args.name.clone().unwrap_or_else(machine_name);
    let (join, stores) = match (std::env::var(STORES_VARIABLE), &args.token_file) {
        (Ok(stores), _) => embedded(&args, &stores)?,
        (Err(_), Some(_)) => enrolled(&args, &name)?,
        (Err(_), None) => by_hand(&args)?,
    };
    if let Some(spill) = &args.spill {
        std::fs::create_dir_all(spill)
            .map_err(|e| Failure::new(Exit::Failed, format!("create the spill folder {}: {e}", spill.display())))?;
    }
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let options = WorkerOptions {
        join,
        threads: args.threads.map_or_else(cores, |threads| threads as usize),
        memory_bytes: args.memory,
        spill: args.spill,
        stores,
        paranoid: args.paranoid,
        kernel_level: args.kernel_level,
        name,
        give_up_after: args.give_up_after,
        drain_timeout: args.drain_timeout,
        parent: args.parent,
        admin: args.admin,
        listen: args.listen,
        advertise: args.advertise,
    };
    match sheaf_worker::run(options)? {
        Ended::Left => Ok(Exit::Done),
        Ended::Stopped => Ok(Exit::Interrupted),
    }
}

/// A worker of an embedded cluster: all comes from its parent, nothing from the user's contexts.
fn embedded(args: &WorkerArgs, stores: &str) -> Result<(Target, StoreOptions), Failure> {
    let stores = serde_json::from_str(stores).map_err(|e| Failure::usage(format!("read {STORES_VARIABLE}: {e}")))?;
    let trust = from_env(&environment)?.ok_or_else(|| Failure::usage(format!("{SECRET_VARIABLE} is not set")))?;
    Ok((Target { address: args.join.clone(), trust }, stores))
}

/// A worker with a join token has a certificate of its own, the kept one or a new one.
fn enrolled(args: &WorkerArgs, name: &str) -> Result<(Target, StoreOptions), Failure> {
    let (Some(token), Some(state)) = (&args.token_file, &args.state) else {
        return Err(Failure::usage("--token-file and --state belong together"));
    };
    let joining = pki::join_patiently(&args.join, token, name, state, args.give_up_after);
    let target = wait(async { Ok(joining.await?) })?;
    Ok((target, setup::allowed(&args.allow, REMEDY)?))
}

/// A worker started by hand may read and write what was typed, or what the coordinator on the same
/// machine allows.
fn by_hand(args: &WorkerArgs) -> Result<(Target, StoreOptions), Failure> {
    let connect = ConnectArgs { addr: Some(args.join.clone()), context: None, proof: args.proof.clone() };
    let place = place(&connect)?;
    let mut stores = setup::allowed(&args.allow, REMEDY)?;
    if args.allow.is_empty() {
        stores.local_roots.extend(place.allow.iter().map(PathBuf::from));
    }
    Ok((place.target, stores))
}

/// The machine's name, for people.
fn machine_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "worker".to_owned() } else { name.trim().to_owned() }
}
