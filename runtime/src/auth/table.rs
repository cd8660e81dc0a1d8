//! Which role may call which method. What is not written here is refused, whoever asks.

use super::Role::{self, Client, Coordinator, Worker};

/// Who may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Even a peer without a certificate: the method checks what it is given by itself.
    Open,
    /// Peers of these roles.
    Roles(&'static [Role]),
}

/// The whole table.
const TABLE: &[(&str, Access)] = &[
    ("/sheaf.v1.JobService/SubmitJob", Access::Roles(&[Client])),
    ("/sheaf.v1.JobService/WatchJob", Access::Roles(&[Client])),
    ("/sheaf.v1.JobService/GetJob", Access::Roles(&[Client])),
    ("/sheaf.v1.JobService/ListJobs", Access::Roles(&[Client])),
    ("/sheaf.v1.JobService/CancelJob", Access::Roles(&[Client])),
    ("/sheaf.v1.JobService/RetryJob", Access::Roles(&[Client])),
    ("/sheaf.v1.JobService/GetJobLog", Access::Roles(&[Client])),
    ("/sheaf.v1.JobService/GetCluster", Access::Roles(&[Client])),
    ("/sheaf.v1.JobService/DrainWorker", Access::Roles(&[Client])),
    ("/sheaf.v1.QueryService/RunQuery", Access::Roles(&[Client])),
    ("/sheaf.v1.WorkerService/JoinCluster", Access::Roles(&[Worker])),
    ("/sheaf.v1.WorkerService/FetchDocument", Access::Roles(&[Worker])),
    ("/sheaf.v1.WorkerService/FetchMessage", Access::Roles(&[Worker])),
    ("/sheaf.v1.WorkerService/FetchChapters", Access::Roles(&[Worker])),
    ("/sheaf.v1.WorkerService/PushBlocks", Access::Roles(&[Worker])),
    ("/sheaf.v1.WorkerService/FollowQueries", Access::Roles(&[Worker])),
    ("/sheaf.v1.WorkerService/LeaveQueries", Access::Roles(&[Worker])),
    // Of the query engine's own protocol this is all: tasks for members at the coordinator, rows at workers.
    ("/ballista.protobuf.SchedulerGrpc/PollWork", Access::Roles(&[Worker])),
    ("/arrow.flight.protocol.FlightService/DoGet", Access::Roles(&[Worker, Coordinator])),
    ("/arrow.flight.protocol.FlightService/DoAction", Access::Roles(&[Worker, Coordinator])),
    // Needs a join token, which it checks.
    ("/sheaf.v1.NodeService/EnrollNode", Access::Open),
    ("/sheaf.v1.NodeService/RenewCertificate", Access::Roles(&[Worker])),
    ("/grpc.health.v1.Health/Check", Access::Roles(&[Client, Worker, Coordinator])),
    ("/grpc.health.v1.Health/Watch", Access::Roles(&[Client, Worker, Coordinator])),
];

/// Methods of `grpc.health.v1`, which is not among our own `.proto` files.
pub const HEALTH_METHODS: &[&str] = &["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"];

/// Methods of the query engine's own protocol that anyone may call.
pub const ENGINE_METHODS: &[&str] = &[
    "/ballista.protobuf.SchedulerGrpc/PollWork",
    "/arrow.flight.protocol.FlightService/DoGet",
    "/arrow.flight.protocol.FlightService/DoAction",
];

/// Who may call a method (its path); `None`: nobody.
pub fn allowed(path: &str) -> Option<Access> {
    TABLE.iter().find(|(method, _)| *method == path).map(|(_, access)| *access)
}

/// The methods of the table.
pub fn listed() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(method, _)| *method)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_method_once_and_no_other() {
        let mut ours: Vec<&str> = sheaf_proto::METHODS.iter().chain(HEALTH_METHODS).chain(ENGINE_METHODS).copied().collect();
        let mut table: Vec<&str> = listed().collect();
        ours.sort_unstable();
        table.sort_unstable();
        assert_eq!(table, ours, "a method needs a line in the table, and a line its method");
    }

    #[test]
    fn only_enrolling_is_open() {
        let open: Vec<&str> = listed().filter(|m| allowed(m) == Some(Access::Open)).collect();
        assert_eq!(open, ["/sheaf.v1.NodeService/EnrollNode"]);
        assert_eq!(allowed("/sheaf.v1.JobService/Submitjob"), None);
        assert_eq!(allowed(""), None);
    }
}
