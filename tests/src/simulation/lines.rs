//! Events, commands and entries as lines of a trace: short, and with all that matters.

use sheaf_cluster::{Command, Entry, Event, Reply};

/// What the engine is told.
pub(super) fn event(event: &Event) -> String {
    match event {
        Event::WorkerJoined { worker, threads } => format!("worker {worker} joined with {threads} threads"),
        Event::WorkerLost { worker, reason } => format!("worker {worker} lost: {reason}"),
        Event::Heartbeat { worker } => format!("worker {worker} beats"),
        Event::DrainRequested { worker } => format!("worker {worker} wants to leave"),
        Event::JobQueued { job, namespace, priority, .. } => format!("{job} queued in {namespace} with priority {priority}"),
        Event::CancelRequested { job } => format!("{job} to be cancelled"),
        Event::JobEnded { job } => format!("{job} ended"),
        Event::StageOpened { stage, plan } => {
            let units = plan.boundaries.len();
            format!("{stage} opened: {} shards in {units} units, at most {:?} workers", plan.shards, plan.max_workers)
        }
        Event::StepReady { stage, step } => format!("{stage} step {step} ready"),
        Event::Prepared { worker, stage, token } => format!("worker {worker} prepared {stage} under {token}"),
        Event::BlockArrived { worker, stage, step, token, block, digest } => {
            format!("worker {worker} sent {}:{} of {stage} step {step} under {token}: {digest:016x}", block.level, block.index)
        }
        Event::ShardFailed { worker, stage, token, shard, message, .. } => {
            format!("worker {worker} failed shard {shard} of {stage} under {token}: {message}")
        }
        Event::ShardsReturned { worker, stage, token, ranges } => {
            format!("worker {worker} gives {ranges:?} of {stage} back under {token}")
        }
        Event::StageClosed { stage } => format!("{stage} closed"),
        Event::Tick => "tick".to_owned(),
    }
}

/// What the engine wants done.
pub(super) fn command(command: &Command) -> String {
    match command {
        Command::StartJob { job } => format!("start {job}"),
        Command::FailJob { job, kind, message, .. } => format!("fail {job} ({kind:?}): {message}"),
        Command::CancelJob { job } => format!("cancel {job}"),
        Command::OpenStage { worker, stage, token, prepare } => {
            format!("worker {worker} opens {stage} under {token} and prepares {prepare:?}")
        }
        Command::Compute { worker, stage, step, token, ranges } => {
            format!("worker {worker} computes {ranges:?} of {stage} step {step} under {token}")
        }
        Command::CloseStage { worker, stage } => format!("worker {worker} closes {stage}"),
        Command::Accept { stage, step, block } => format!("accept {}:{} of {stage} step {step}", block.level, block.index),
        Command::Refuse { worker, stage, step, block, reason } => {
            format!("refuse {}:{} of {stage} step {step} from worker {worker}: {reason}", block.level, block.index)
        }
        Command::CompleteStep { stage, step } => format!("{stage} step {step} complete"),
        Command::Note(note) => format!("note on {}: {}", note.stage, note.text),
        Command::Disconnect { worker, reason } => format!("disconnect worker {worker}: {reason}"),
        Command::DrainDone { worker } => format!("let worker {worker} go"),
    }
}

/// An entry of the log.
pub(super) fn entry(entry: &Entry) -> String {
    match entry {
        Entry::LeaderStarted { .. } => "leader started".to_owned(),
        Entry::JobSubmitted { job, key, .. } => format!("{job} submitted under {key:?}"),
        Entry::JobStarted { job, .. } => format!("{job} started"),
        Entry::PhaseEntered { job, phase, .. } => format!("{job} enters {phase}"),
        Entry::PhaseFinished { job, number, document, .. } => format!("{job} finishes phase {number} with {document}"),
        Entry::Checkpoint { job, stage, step, .. } => format!("{job} checkpoint of stage {stage} before step {step}"),
        Entry::CancelRequested { job, .. } => format!("{job} is to be cancelled"),
        Entry::TokenUsed { token, .. } => format!("join token {token} used"),
        Entry::JobEnded { job, outcome, .. } => format!("{job} ended: {outcome:?}"),
    }
}

/// What applying an entry answered.
pub(super) fn reply(reply: &Reply) -> String {
    match reply {
        Reply::Ok => "ok".to_owned(),
        Reply::Submitted { job, fresh } => format!("{job}, fresh: {fresh}"),
        Reply::Rejected(reason) => format!("rejected: {reason}"),
    }
}
