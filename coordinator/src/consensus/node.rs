//! [`Consensus`]: a running member of the group, and the only door to the log.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::error::{CheckIsLeaderError, ClientWriteError, Fatal, RaftError};
use openraft::metrics::WaitError;
use openraft::{BasicNode, Config, LogIdOptionExt, Raft, RaftMetrics, SnapshotPolicy};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::consensus::log::LogStore;
use crate::consensus::network::Peers;
use crate::consensus::state_machine::{Batch, StateMachine, Types};
use crate::consensus::store::{Store, StoreError};
use crate::consensus::{ConsensusError, ConsensusOptions, MAX_BATCH_BYTES, MAX_ENTRY_BYTES, Machine, Member};

type Result<T> = std::result::Result<T, ConsensusError>;
type Metrics = RaftMetrics<u64, BasicNode>;

/// openraft draws its election timeout once per process: ranges that do not overlap keep two members
/// from standing against each other for ever.
const ELECTION_BASE_MS: u64 = 500;
const ELECTION_RANK_MS: u64 = 150;
const ELECTION_SPREAD_MS: u64 = 100;
const HEARTBEAT_MS: u64 = 100;
/// Entries that stay in the log behind a snapshot, so that a member that was away for a moment catches
/// up from the log and not from the snapshot.
const KEEP_BEHIND_SNAPSHOT: u64 = 1000;
const READY_SECONDS: u64 = 10;
const SNAPSHOT_SECONDS: u64 = 60;

/// A member of the group. Clones are handles of the same member.
///
/// It runs on the runtime on which [`Consensus::open`] was called; heavy work there delays heartbeats.
/// End it with [`Consensus::shutdown`]: dropping the handles alone leaves it running, and its folder in
/// use, until that runtime ends.
pub struct Consensus<M: Machine> {
    node_id: u64,
    raft: Raft<Types>,
    state: StateMachine<M>,
    store: Arc<Store>,
    options: Arc<ConsensusOptions>,
    closing: Arc<AtomicBool>,
    fatal: watch::Receiver<Option<String>>,
}

impl<M: Machine> Clone for Consensus<M> {
    fn clone(&self) -> Self {
        Self {
            node_id: self.node_id,
            raft: self.raft.clone(),
            state: self.state.clone(),
            store: Arc::clone(&self.store),
            options: Arc::clone(&self.options),
            closing: Arc::clone(&self.closing),
            fatal: self.fatal.clone(),
        }
    }
}

impl<M: Machine> std::fmt::Debug for Consensus<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consensus").field("node_id", &self.node_id).field("term", &self.term()).finish_non_exhaustive()
    }
}

impl<M: Machine> Consensus<M> {
    /// Creates or recovers the member in `options.dir`. At the first start it forms a group of one.
    /// Returns when the member leads, every entry of the log is applied and the term has risen, within
    /// 10 s; a member of a larger group returns when a leader is known.
    pub async fn open(options: ConsensusOptions) -> Result<Self> {
        let config = Arc::new(config(&options)?);
        let (store, mut log, state) = recover::<M>(&options).await?;
        log.step_down().await.map_err(|error| stopped(&error))?;
        let raft = Raft::new(options.node_id, config, Peers, log, state.clone()).await.map_err(|error| stopped(&error))?;
        let closing = Arc::new(AtomicBool::new(false));
        let (fire, fatal) = watch::channel(None);
        tokio::spawn(watch_core(raft.metrics(), Arc::clone(&closing), fire));
        let node = Self { node_id: options.node_id, raft, state, store, options: Arc::new(options), closing, fatal };
        if let Err(error) = node.become_ready().await {
            // Give the folder back before saying why; a second failure would only hide the first.
            if let Err(second) = node.shutdown().await {
                tracing::warn!(%second, "the log could not be closed after it failed to open");
            }
            return Err(error);
        }
        Ok(node)
    }

    /// Appends an entry and returns what applying it answered. The entry is on the disk of a majority,
    /// synced, when this returns. If it fails with [`ConsensusError::Stopped`] the entry may be in the
    /// log all the same: retries need a key in the entry by which the machine knows them.
    pub async fn propose(&self, entry: M::Entry) -> Result<M::Reply> {
        let mut replies = self.propose_all(vec![entry]).await?;
        Ok(replies.pop().expect("a batch has one reply for each of its entries"))
    }

    /// Appends entries as one log entry: one sync, and all of them are applied, in order, or none.
    /// Returns their replies in the same order; an empty batch writes nothing.
    pub async fn propose_all(&self, entries: Vec<M::Entry>) -> Result<Vec<M::Reply>> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let batch = encode::<M>(&entries)?;
        let written = self.raft.client_write(batch).await.map_err(|error| match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => ConsensusError::NotLeader { leader: to.leader_id },
            RaftError::APIError(error @ ClientWriteError::ChangeMembershipError(_)) => stopped(&error),
            RaftError::Fatal(fatal) => stopped(&fatal),
        })?;
        let replies = written.data.0.iter().map(|bytes| postcard::from_bytes(bytes));
        replies.collect::<std::result::Result<_, _>>().map_err(|source| ConsensusError::Codec { what: "reply", source })
    }

    /// Reads the state, with everything in it that was acknowledged before the call, on the leader only.
    /// `f` runs under a lock that applying entries waits for: copy out what is needed.
    pub async fn read<T>(&self, f: impl FnOnce(&M) -> T + Send) -> Result<T> {
        self.raft.ensure_linearizable().await.map_err(|error| match error {
            RaftError::APIError(CheckIsLeaderError::ForwardToLeader(to)) => ConsensusError::NotLeader { leader: to.leader_id },
            RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_)) => ConsensusError::NotLeader { leader: None },
            RaftError::Fatal(fatal) => stopped(&fatal),
        })?;
        Ok(f(&self.state.read()?.machine))
    }

    /// The current Raft term. It rises at every [`Consensus::open`] and with every new leader, and never
    /// falls: the first half of a fencing token.
    pub fn term(&self) -> u64 {
        self.raft.metrics().borrow().current_term
    }

    /// Number of the last log entry; 0 before the first.
    pub fn last_index(&self) -> u64 {
        self.raft.metrics().borrow().last_log_index.unwrap_or(0)
    }

    /// Whether entries can be proposed here: the log runs and this member leads, as far as it knows.
    pub fn health(&self) -> std::result::Result<(), String> {
        if let Some(reason) = self.fatal.borrow().as_ref() {
            return Err(format!("the durable log has stopped: {reason}"));
        }
        if self.closing.load(Ordering::Acquire) {
            return Err("the durable log is being closed".into());
        }
        match self.leader() {
            Some(leader) if leader == self.node_id => Ok(()),
            Some(leader) => Err(format!("node {leader} leads")),
            None => Err("no leader is known".into()),
        }
    }

    /// Tells how long each synced write of the log takes; the first observer stays.
    pub fn observe_writes(&self, observer: impl Fn(Duration) + Send + Sync + 'static) {
        self.store.observe_writes(Box::new(observer));
    }

    /// The leader as far as this member knows. A leader that was cut off still names itself: decide by
    /// [`Consensus::propose`] or [`Consensus::read`], never by this.
    pub fn leader(&self) -> Option<u64> {
        self.raft.metrics().borrow().current_leader
    }

    /// The members of the group by id, as of the latest membership in the log.
    pub fn members(&self) -> Vec<Member> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let voters: Vec<u64> = metrics.membership_config.voter_ids().collect();
        let nodes: BTreeMap<_, _> = metrics.membership_config.nodes().collect();
        let member = |(&&id, node): (&&u64, &&BasicNode)| Member { id, address: node.addr.clone(), voter: voters.contains(&id) };
        nodes.iter().map(member).collect()
    }

    /// Takes a snapshot of everything applied so far and shortens the log behind it; the same happens by
    /// itself every `snapshot_after` entries. Returns when it is on the disk.
    pub async fn snapshot(&self) -> Result<()> {
        let target = self.raft.metrics().borrow().last_applied;
        let done = |m: &Metrics| m.running_state.is_err() || m.snapshot.index() >= target.index();
        let deadline = Instant::now() + Duration::from_secs(SNAPSHOT_SECONDS);
        while !done(&self.raft.metrics().borrow()) {
            // A snapshot that is being taken swallows the trigger and may be too old: ask again.
            self.raft.trigger().snapshot().await.map_err(|error| stopped(&error))?;
            let waited = self.raft.wait(Some(Duration::from_millis(250))).metrics(done, "snapshot").await;
            if waited.is_err() && Instant::now() > deadline {
                return Err(ConsensusError::Timeout { what: "a snapshot of the log", seconds: SNAPSHOT_SECONDS });
            }
        }
        self.running()
    }

    /// Resolves with the reason when the log stops by itself, as on a full disk, and never after
    /// [`Consensus::shutdown`]. The process should then stop serving and exit with 70, so that its
    /// supervisor restarts it.
    pub fn fatal(&self) -> impl Future<Output = String> + Send + use<M> {
        let mut fatal = self.fatal.clone();
        async move {
            match fatal.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone()) {
                Some(reason) => reason,
                None => std::future::pending().await,
            }
        }
    }

    /// Stops the member and gives its folder back; other handles answer [`ConsensusError::Stopped`] from
    /// then on. Nothing acknowledged depends on it: a process may as well be killed.
    pub async fn shutdown(self) -> Result<()> {
        self.closing.store(true, Ordering::Release);
        self.raft.shutdown().await.map_err(|error| stopped(&error))?;
        let store = Arc::clone(&self.store);
        let closed = spawn_blocking(move || store.close()).await;
        closed.unwrap_or_else(|error| Err(StoreError::Writer(error.to_string()))).map_err(|error| error.at(&self.options.dir))
    }

    async fn become_ready(&self) -> Result<()> {
        let voters = self.raft.with_raft_state(|state| state.membership_state.effective().voter_ids().collect::<Vec<u64>>());
        let voters = voters.await.map_err(|error| stopped(&error))?;
        let alone = voters.is_empty() || voters == [self.node_id];
        if voters.is_empty() {
            let group = BTreeMap::from([(self.node_id, BasicNode::default())]);
            self.raft.initialize(group).await.map_err(|error| stopped(&error))?;
        } else if alone {
            self.raft.trigger().elect().await.map_err(|error| stopped(&error))?;
        }
        let known = |m: &Metrics| m.running_state.is_err() || m.current_leader.is_some_and(|id| !alone || id == self.node_id);
        match self.raft.wait(Some(Duration::from_secs(READY_SECONDS))).metrics(known, "leader").await {
            Ok(_) | Err(WaitError::ShuttingDown) => self.running()?,
            Err(WaitError::Timeout(..)) => {
                return Err(ConsensusError::Timeout { what: "an election", seconds: READY_SECONDS });
            }
        }
        if alone { self.read(|_| ()).await } else { Ok(()) }
    }

    fn running(&self) -> Result<()> {
        self.raft.metrics().borrow().running_state.as_ref().map_or_else(|fatal| Err(stopped(fatal)), |()| Ok(()))
    }
}

/// Opens the folder off the async threads. A panic below, as of a database whose trees are damaged, is
/// damage like any other.
async fn recover<M: Machine>(options: &ConsensusOptions) -> Result<(Arc<Store>, LogStore, StateMachine<M>)> {
    let (dir, node_id) = (options.dir.clone(), options.node_id);
    let opened = spawn_blocking(move || {
        let store = Arc::new(Store::open(&dir, node_id)?);
        Ok((Arc::clone(&store), LogStore::open(Arc::clone(&store))?, StateMachine::open(store)?))
    });
    let opened = opened.await.unwrap_or_else(|panic| Err(StoreError::Corrupt(format!("it cannot be read: {panic}"))));
    opened.map_err(|error| error.at(&options.dir))
}

fn config(options: &ConsensusOptions) -> Result<Config> {
    if options.snapshot_after == 0 {
        return Err(ConsensusError::Options { option: "snapshot_after", reason: "must be at least 1 log entry".into() });
    }
    let election_timeout_min = ELECTION_BASE_MS + ELECTION_RANK_MS * u64::from(options.rank);
    let config = Config {
        cluster_name: "sheaf".into(),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min,
        election_timeout_max: election_timeout_min + ELECTION_SPREAD_MS,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(options.snapshot_after),
        max_in_snapshot_log_to_keep: KEEP_BEHIND_SNAPSHOT.min(options.snapshot_after),
        ..Config::default()
    };
    config.validate().map_err(|error| ConsensusError::Options { option: "rank", reason: error.to_string() })
}

/// Encodes a batch within the limits. Each entry is decoded again at once: one that cannot be would stop
/// the log at this and at every later start.
fn encode<M: Machine>(entries: &[M::Entry]) -> Result<Batch> {
    let codec = |source| ConsensusError::Codec { what: "entry", source };
    let mut batch = Vec::with_capacity(entries.len());
    let mut total = 0;
    for entry in entries {
        let bytes = postcard::to_stdvec(entry).map_err(codec)?;
        limit("entry", bytes.len(), MAX_ENTRY_BYTES)?;
        postcard::from_bytes::<M::Entry>(&bytes).map_err(codec)?;
        total += bytes.len();
        batch.push(bytes);
    }
    limit("batch", total, MAX_BATCH_BYTES)?;
    Ok(Batch(batch))
}

fn limit(what: &'static str, bytes: usize, limit: usize) -> Result<()> {
    if bytes > limit { Err(ConsensusError::TooLarge { what, bytes, limit }) } else { Ok(()) }
}

/// Waits for the end of the Raft core, and says why unless it was asked to end.
async fn watch_core(mut metrics: watch::Receiver<Metrics>, closing: Arc<AtomicBool>, fire: watch::Sender<Option<String>>) {
    let reason = match metrics.wait_for(|m| m.running_state.is_err()).await.as_deref() {
        Ok(Metrics { running_state: Err(Fatal::Stopped), .. }) | Err(_) if closing.load(Ordering::Acquire) => return,
        Ok(Metrics { running_state: Err(fatal), .. }) => fatal.to_string(),
        Ok(_) | Err(_) => "the raft core ended".to_string(),
    };
    fire.send_replace(Some(reason));
}

fn stopped(error: &impl ToString) -> ConsensusError {
    ConsensusError::Stopped { reason: error.to_string() }
}
