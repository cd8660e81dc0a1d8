//! Rows about the network between a worker and the coordinator: slow and lossy, cut, silent in one direction.

use std::time::{Duration, Instant};

use super::{Case, Figures, Work, contributed, same};
use crate::chaos::{Network, Proxy, Throttle};
use crate::cluster::{Cluster, Job, Launch, PATIENCE, Setup};
use crate::evidence;

/// What is said about a worker behind a bad network.
const TROUBLE: &[&str] = &[" lost", "silent", "computed alone", "gave", "disconnected", "not in the cluster", " failed"];

/// How long a part of a second the near worker runs while a network is silent: the job must last, and who waits for
/// it need not compute all that time.
const TURN: (Duration, Duration) = (Duration::from_millis(30), Duration::from_millis(70));

/// One worker on the coordinator's own network, the others behind proxies of their own.
fn cluster(case: &Case, work: &Work, setup: Setup, proxies: usize) -> (Cluster, Vec<Proxy>) {
    let mut cluster = Cluster::start(&case.program, setup);
    cluster.announce(TROUBLE);
    work.write(cluster.folder());
    let proxies: Vec<Proxy> = (0..proxies).map(|_| Proxy::new(cluster.address())).collect();
    for (number, proxy) in (2..).zip(&proxies) {
        cluster.start_worker_with(number, Launch { through: Some(proxy.address), ..Launch::default() });
        cluster.wait_joined(number);
    }
    (cluster, proxies)
}

/// Row 9: delay of 50 ± 25 ms, 5 % and 20 % of what is sent lost. The coordinator would soon give the worker behind
/// that next to nothing: here it must keep its share.
pub fn slow_and_lossy(case: &Case) -> Figures {
    let work = case.pick(Work::default(), Work::longer());
    let undisturbed = work.undisturbed(case);
    let (mut cluster, proxies) = cluster(case, &work, Setup::workers(1).slow().equal(), 1);
    let number = cluster.wait_joined(2);
    let mut figures = Figures::new();
    for loss in case.pick(&[0.2][..], &[0.05, 0.2][..]) {
        let (delay, jitter) = (Duration::from_millis(25), Duration::from_millis(50));
        proxies[0].set(Network { delay, jitter, loss: *loss, ..Network::default() });
        let (lost_before, _) = proxies[0].losses();
        let began = Instant::now();
        let job = cluster.submit("job.yaml", &[]);
        let shown = cluster.wait_end(&job);
        same(&cluster, &shown, &undisturbed);
        let lost = proxies[0].losses().0 - lost_before;
        let shards = contributed(&shown["result"]);
        let all: u64 = shards.values().sum();
        // Under another number after a lost connection.
        let behind: u64 = shards.iter().filter(|(worker, _)| **worker >= number).map(|(_, n)| n).sum();
        assert!(lost > 0, "no losses: the fault hit nothing");
        assert!(behind * 4 >= all && behind < all, "{behind} of {all} shards from behind the network: both have a share");
        figures.push(format!(
            "{:.0} % loss: {lost} losses, {:.1} s, {behind} of {all} shards from behind it",
            loss * 100.0,
            began.elapsed().as_secs_f64()
        ));
    }
    cluster.finish();
    figures
}

/// Row 8 for workers: the connection of one is cut, then silent upwards; that of another is silent downwards at the same
/// time. All heal.
pub fn cut_and_silent(case: &Case) -> Figures {
    let work = case.pick(Work::longer(), Work { iterations: 400, ..Work::default() });
    let undisturbed = work.undisturbed(case);
    let (mut cluster, proxies) = cluster(case, &work, Setup::workers(1).slow(), 2);
    let job = cluster.submit("job.yaml", &[]);
    cluster.wait_step(&job, 3);
    let slow = case.long.is_none().then(|| Throttle::new(cluster.worker(1).pid(), TURN.0, TURN.1));
    let mut figures = Figures::new();
    let cut = [Fault { what: "cut", number: 2, proxy: &proxies[0], network: None }];
    figures.extend(heal(&mut cluster, &job, &cut));
    let silent = |number: usize, what, network| Fault { what, number, proxy: &proxies[number - 2], network: Some(network) };
    let up = Network { mute_up: true, ..Network::default() };
    let down = Network { mute_down: true, ..Network::default() };
    figures.extend(heal(&mut cluster, &job, &[silent(2, "silent upwards", up), silent(3, "silent downwards", down)]));
    drop(slow);
    let shown = cluster.wait_end_for(&job, 5 * PATIENCE);
    same(&cluster, &shown, &undisturbed);
    cluster.finish();
    figures
}

/// What is done to the network of a worker.
struct Fault<'a> {
    what: &'a str,
    number: usize,
    proxy: &'a Proxy,
    /// `None`: its connection is cut.
    network: Option<Network>,
}

/// Does this to the networks at the same time, waits until training goes on and who is silent is given up, heals them,
/// and waits until all are back.
fn heal(cluster: &mut Cluster, job: &Job, faults: &[Fault<'_>]) -> Figures {
    let pids: Vec<u32> = faults.iter().map(|fault| cluster.worker(fault.number).pid()).collect();
    let before: Vec<Vec<u64>> = pids.iter().map(|pid| evidence::numbers_of(&cluster.log(), *pid)).collect();
    let (began, at) = (Instant::now(), job.step());
    for fault in faults {
        match fault.network {
            None => fault.proxy.cut(),
            Some(network) => fault.proxy.set(network),
        }
    }
    cluster.until("training to go on", |_| (job.step() >= at + 3).then_some(()));
    let gap = began.elapsed();
    for numbers in &before {
        let number = *numbers.last().expect("it has joined");
        cluster.until(&format!("the loss of worker {number}"), |cluster| evidence::is_gone(&cluster.log(), number).then_some(()));
    }
    faults.iter().for_each(|fault| fault.proxy.set(Network::default()));
    assert!(job.end().is_none(), "the job ended before the network healed: make it longer");
    let mut figures = Figures::new();
    for (fault, (pid, before)) in faults.iter().zip(pids.iter().zip(&before)) {
        cluster.until("the worker to join again", |cluster| {
            (evidence::numbers_of(&cluster.log(), *pid).len() > before.len()).then_some(())
        });
        let back = began.elapsed();
        figures.push(format!(
            "{}: three steps on {:.2} s later, joined again after {:.2} s",
            fault.what,
            gap.as_secs_f64(),
            back.as_secs_f64()
        ));
    }
    figures
}
