//! `sheaf worker`: a worker process. Secret and stores come through the environment.

use sheaf_dataflow::stores::StoreOptions;
use sheaf_runtime::exit::Exit;
use sheaf_runtime::secret::{SECRET_VARIABLE, Secret};
use sheaf_worker::WorkerOptions;

use crate::cli::WorkerArgs;
use crate::embedded::STORES_VARIABLE;
use crate::failure::Failure;

/// Runs until the coordinator is gone.
pub fn worker(args: WorkerArgs) -> Result<Exit, Failure> {
    let secret = std::env::var(SECRET_VARIABLE)
        .map_err(|_| Failure::usage(format!("{SECRET_VARIABLE} is not set; `sheaf run` starts workers by itself")))?;
    let stores: StoreOptions = match std::env::var(STORES_VARIABLE) {
        Ok(text) => serde_json::from_str(&text).map_err(|e| Failure::usage(format!("read {STORES_VARIABLE}: {e}")))?,
        Err(_) => StoreOptions::default(),
    };
    let options = WorkerOptions {
        join: args.join,
        secret: Secret::given(secret),
        threads: args.threads as usize,
        memory_bytes: args.memory,
        spill: args.spill,
        stores,
        paranoid: args.paranoid,
        kernel_level: args.kernel_level,
    };
    sheaf_worker::run(options)?;
    Ok(Exit::Done)
}
