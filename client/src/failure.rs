//! How a command fails: a text for people and a code for scripts.

use sheaf_coordinator::consensus::ConsensusError;
use sheaf_dataflow::error::DataError;
use sheaf_runtime::admin::AdminAddressError;
use sheaf_runtime::connect::{ConnectError, ListenError};
use sheaf_runtime::exit::Exit;
use sheaf_runtime::fault::{Fault, Kind};
use sheaf_runtime::pki::{JoinError, PkiError};
use sheaf_runtime::registry::RegistryError;
use sheaf_runtime::tls::TlsError;
use sheaf_worker::WorkerError;

/// A failed command.
#[derive(Debug)]
pub struct Failure {
    /// What the program exits with.
    pub exit: Exit,
    /// What is shown after `error:`; empty if it has been shown already.
    pub message: String,
}

impl Failure {
    /// A failure with a code.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// Wrong usage.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let exit = exit_of_cause(&error);
        match error.downcast::<Fault>() {
            Ok(fault) => fault.into(),
            Err(error) => Self::new(exit, format!("{error:#}")),
        }
    }
}

/// Errors of connections, certificates and addresses say by themselves what to exit with.
fn exit_of_cause(error: &anyhow::Error) -> Exit {
    let of = |cause: &(dyn std::error::Error + 'static)| {
        let connect = cause.downcast_ref::<ConnectError>().map(ConnectError::exit);
        let connect = connect.or_else(|| cause.downcast_ref::<WorkerError>().map(WorkerError::exit));
        let connect = connect.or_else(|| cause.downcast_ref::<ConsensusError>().map(exit_of_log));
        let ours =
            cause.is::<TlsError>() || cause.is::<ListenError>() || cause.is::<AdminAddressError>() || cause.is::<PkiError>();
        connect.or_else(|| ours.then_some(Exit::Usage))
    };
    error.chain().find_map(of).unwrap_or(Exit::Failed)
}

impl From<PkiError> for Failure {
    fn from(error: PkiError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<TlsError> for Failure {
    fn from(error: TlsError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<JoinError> for Failure {
    fn from(error: JoinError) -> Self {
        Self::new(error.exit(), error.to_string())
    }
}

/// A log that its disk stopped can be started again when there is room; other trouble stays.
fn exit_of_log(error: &ConsensusError) -> Exit {
    match error {
        ConsensusError::Stopped { .. } | ConsensusError::Storage { .. } => Exit::LogStopped,
        _ => Exit::Failed,
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        Self::new(error.exit(), error.to_string())
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::new(exit_of(fault.kind), fault.message)
    }
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        Fault::from(error).into()
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        Self::new(error.exit(), error.to_string())
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        let exit = match status.code() {
            tonic::Code::NotFound => Exit::NotFound,
            tonic::Code::Unauthenticated | tonic::Code::PermissionDenied => Exit::Denied,
            tonic::Code::InvalidArgument | tonic::Code::AlreadyExists | tonic::Code::FailedPrecondition => Exit::Usage,
            _ if crate::watch::is_transient(&status) => Exit::Unreachable,
            _ => Exit::Failed,
        };
        let message = match exit {
            Exit::Unreachable => format!("the coordinator went away: {}", status.message()),
            _ => status.message().to_owned(),
        };
        Self::new(exit, message)
    }
}

/// The exit code of a kind of trouble.
pub fn exit_of(kind: Kind) -> Exit {
    match kind {
        Kind::Job => Exit::Usage,
        Kind::Data | Kind::Internal | Kind::Deadline => Exit::Failed,
        Kind::Limit => Exit::Limit,
    }
}
