//! Rows about the network between a worker and the coordinator: slow and lossy, cut, silent in one direction.

use std::time::{Duration, Instant};

use super::{Case, Figures, Work, contributed, same};
use crate::chaos::{Network, Proxy};
use crate::cluster::{Cluster, Launch, Setup};
use crate::evidence;

/// What is said about a worker behind a bad network.
const TROUBLE: &[&str] = &[" lost", "silent", "computed alone", "gave", "disconnected", "not in the cluster", " failed"];

/// One worker on the coordinator's own network, one behind a proxy.
fn cluster(case: &Case, work: &Work) -> (Cluster, Proxy) {
    let mut cluster = Cluster::start(&case.program, Setup::workers(1).slow());
    cluster.announce(TROUBLE);
    work.write(cluster.folder());
    let proxy = Proxy::new(cluster.address());
    cluster.start_worker_with(2, Launch { through: Some(proxy.address), ..Launch::default() });
    cluster.wait_joined(2);
    (cluster, proxy)
}

/// Row 9: delay of 50 ± 25 ms, 5 % and 20 % of what is sent lost.
pub fn slow_and_lossy(case: &Case) -> Figures {
    let work = Work { iterations: case.pick(30, 60), ..Work::default() };
    let undisturbed = work.undisturbed(case);
    let (mut cluster, proxy) = cluster(case, &work);
    let number = cluster.wait_joined(2);
    let mut figures = Figures::new();
    for loss in case.pick(&[0.2][..], &[0.05, 0.2][..]) {
        let (delay, jitter) = (Duration::from_millis(25), Duration::from_millis(50));
        proxy.set(Network { delay, jitter, loss: *loss, ..Network::default() });
        let (lost_before, _) = proxy.losses();
        let began = Instant::now();
        let job = cluster.submit("job.yaml", &[]);
        let shown = cluster.wait_end(&job);
        same(&cluster, &shown, &undisturbed);
        let lost = proxy.losses().0 - lost_before;
        let shards: u64 = contributed(&shown["result"]).iter().filter(|(worker, _)| **worker >= number).map(|(_, n)| n).sum();
        assert!(lost > 0 && shards > 0, "{lost} losses, {shards} shards from behind the network: it hit nothing");
        figures.push(format!(
            "{:.0} % loss: {lost} losses, {:.1} s, {shards} shards from behind it",
            loss * 100.0,
            began.elapsed().as_secs_f64()
        ));
    }
    cluster.finish();
    figures
}

/// Row 8 for workers: the connection is cut, then silent in either direction, and heals each time.
pub fn cut_and_silent(case: &Case) -> Figures {
    let work = Work { iterations: case.pick(400, 1500), ..Work::default() };
    let undisturbed = work.undisturbed(case);
    let (mut cluster, proxy) = cluster(case, &work);
    let job = cluster.submit("job.yaml", &[]);
    cluster.wait_step(&job, 3);
    let pid = cluster.worker(2).pid();
    let mut figures = Figures::new();
    let up = Network { mute_up: true, ..Network::default() };
    let down = Network { mute_down: true, ..Network::default() };
    for (what, network) in [("cut", None), ("silent upwards", Some(up)), ("silent downwards", Some(down))] {
        let before = evidence::numbers_of(&cluster.log(), pid).len();
        let (began, at) = (Instant::now(), job.step());
        match network {
            None => proxy.cut(),
            Some(network) => proxy.set(network),
        }
        cluster.until("training to go on", |_| (job.step() >= at + 3).then_some(()));
        let gap = began.elapsed();
        if network.is_some() {
            let lost = |cluster: &mut Cluster| {
                let losses = evidence::of_kind(&cluster.log(), &job.id, "lost").len() + usize::from(job.end().is_some());
                (losses > figures.len()).then_some(())
            };
            cluster.until("the loss of the worker", lost);
        }
        proxy.set(Network::default());
        assert!(job.end().is_none(), "the job ended before the network healed: make it longer");
        cluster.until("the worker to join again", |cluster| {
            (evidence::numbers_of(&cluster.log(), pid).len() > before).then_some(())
        });
        figures.push(format!(
            "{what}: three steps on {:.2} s later, joined again after {:.2} s",
            gap.as_secs_f64(),
            began.elapsed().as_secs_f64()
        ));
    }
    let shown = cluster.wait_end(&job);
    same(&cluster, &shown, &undisturbed);
    cluster.finish();
    figures
}
