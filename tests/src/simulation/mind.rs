//! The engine under test, and what a mutation makes of it.

use std::ops::Range;

use sheaf_cluster::{Command, Engine, Event, JobId, Millis, Stage, Step, Token, WorkerId};

use super::mutation::Mutation;

/// The engine, perhaps broken.
#[derive(Debug)]
pub(super) struct Mind {
    pub engine: Engine,
    mutation: Option<Mutation>,
    /// Workers that were held lost or leave, for mutations that treat them as if they did not.
    lost: Vec<WorkerId>,
    leaving: Vec<WorkerId>,
    last: Option<Compute>,
}

/// The last order, to be given once more.
#[derive(Debug, Clone)]
struct Compute {
    stage: Stage,
    step: Step,
    token: Token,
    ranges: Vec<Range<u32>>,
}

impl Mind {
    pub fn new(engine: Engine, mutation: Option<Mutation>) -> Self {
        Self { engine, mutation, lost: Vec::new(), leaving: Vec::new(), last: None }
    }

    pub fn handle(&mut self, event: Event, now: Millis) -> Vec<Command> {
        let Some(mutation) = self.mutation else { return self.engine.handle(event, now) };
        let commands = self.engine.handle(event.clone(), now);
        self.note(&event, &commands);
        self.mutate(mutation, &event, commands)
    }

    fn note(&mut self, event: &Event, commands: &[Command]) {
        match event {
            Event::WorkerLost { worker, .. } => self.lost.push(*worker),
            Event::DrainRequested { worker } => self.leaving.push(*worker),
            _ => {}
        }
        for command in commands {
            if let Command::Compute { stage, step, token, ranges, .. } = command {
                self.last = Some(Compute { stage: stage.clone(), step: *step, token: *token, ranges: ranges.clone() });
            }
        }
    }

    fn mutate(&mut self, mutation: Mutation, event: &Event, mut commands: Vec<Command>) -> Vec<Command> {
        match mutation {
            Mutation::TakesTwice => {
                forgive(event, commands, |reason| reason.contains("came before") || reason.contains("are in already"))
            }
            Mutation::HonoursStaleTokens => forgive(event, commands, |reason| {
                reason.contains("holds no lease") || reason.contains("the term is") || reason.contains("the stage is at")
            }),
            Mutation::ForgetsTheLost if matches!(event, Event::WorkerLost { .. } | Event::Tick) => {
                commands.retain(|command| !matches!(command, Command::Compute { .. }));
                commands
            }
            Mutation::LeasesToLeavers => {
                if let Some(leaver) = self.leaving.pop() {
                    let to_leaver = |command: &mut Command| match command {
                        Command::Compute { worker, .. } if *worker != leaver => {
                            *worker = leaver;
                            true
                        }
                        _ => false,
                    };
                    if !commands.iter_mut().any(to_leaver) {
                        self.leaving.push(leaver);
                    }
                }
                commands
            }
            Mutation::LetsGoTooEarly => {
                if let Event::DrainRequested { worker } = event
                    && !commands.iter().any(|command| matches!(command, Command::DrainDone { .. }))
                {
                    commands.push(Command::DrainDone { worker: *worker });
                }
                commands
            }
            Mutation::SpeaksToTheLost => {
                if let Event::StageClosed { stage } = event
                    && let Some(worker) = self.lost.pop()
                {
                    commands.push(Command::CloseStage { worker, stage: stage.clone() });
                }
                commands
            }
            Mutation::OrdersTwice => {
                if let Event::Prepared { worker, .. } = event
                    && let Some(last) = self.last.take()
                {
                    let Compute { stage, step, token, ranges } = last;
                    commands.push(Command::Compute { worker: *worker, stage, step, token, ranges });
                }
                commands
            }
            Mutation::BlamesTheInnocent => {
                for command in &mut commands {
                    if let Command::FailJob { job, .. } = command
                        && let Some(other) = self.engine.running().into_iter().find(|other: &JobId| other != job)
                    {
                        *job = other;
                    }
                }
                commands
            }
            Mutation::Scatters => commands.into_iter().flat_map(scatter).collect(),
            _ => commands,
        }
    }
}

/// Turns refusals for certain reasons into acceptance.
fn forgive(event: &Event, commands: Vec<Command>, reason: impl Fn(&str) -> bool) -> Vec<Command> {
    let Event::BlockArrived { stage, step, block, .. } = event else { return commands };
    let accept = |command: Command| match command {
        Command::Refuse { reason: why, .. } if reason(&why) => {
            Command::Accept { stage: stage.clone(), step: *step, block: *block }
        }
        command => command,
    };
    commands.into_iter().map(accept).collect()
}

/// One order becomes one for each shard.
fn scatter(command: Command) -> Vec<Command> {
    match command {
        Command::Compute { worker, stage, step, token, ranges } => {
            let one = |shard: u32| Command::Compute {
                worker,
                stage: stage.clone(),
                step,
                token,
                ranges: std::iter::once(shard..shard + 1).collect(),
            };
            ranges.into_iter().flatten().map(one).collect()
        }
        command => vec![command],
    }
}
