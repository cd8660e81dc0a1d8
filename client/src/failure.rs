//! How a command fails: a text for people and a code for scripts.

use sheaf_dataflow::error::DataError;
use sheaf_runtime::exit::Exit;
use sheaf_runtime::fault::{Fault, Kind};
use sheaf_runtime::registry::RegistryError;

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
        match error.downcast::<Fault>() {
            Ok(fault) => fault.into(),
            Err(error) => Self::new(Exit::Failed, format!("{error:#}")),
        }
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
            tonic::Code::InvalidArgument => Exit::Usage,
            tonic::Code::Unavailable => Exit::Unreachable,
            _ => Exit::Failed,
        };
        Self::new(exit, status.message())
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
