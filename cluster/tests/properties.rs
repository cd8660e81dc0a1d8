//! Random histories: workers that compute, die, stall, come back and repeat themselves, drivers that
//! step, cancels, new leaders. The world checks every command against a plain model of its own
//! (`world/mod.rs`); then the network calms and everything must come to its end.

mod world;

use proptest::prelude::*;
use sheaf_cluster::Term;
use world::{Op, World};

fn op() -> impl Strategy<Value = Op> {
    let pick = any::<u16>;
    prop_oneof![
        3 => (1_u32..5).prop_map(Op::Join),
        2 => pick().prop_map(Op::Kill),
        1 => pick().prop_map(Op::Rejoin),
        1 => pick().prop_map(Op::Drain),
        2 => pick().prop_map(Op::Stall),
        2 => pick().prop_map(Op::Resume),
        6 => pick().prop_map(Op::Prepare),
        12 => (pick(), pick()).prop_map(|(worker, block)| Op::Deliver(worker, block)),
        6 => pick().prop_map(Op::DeliverAll),
        4 => pick().prop_map(Op::Repeat),
        4 => (pick(), pick()).prop_map(|(sent, piece)| Op::Overlap(sent, piece)),
        2 => (pick(), pick()).prop_map(|(sent, worker)| Op::Forge(sent, worker)),
        2 => (pick(), pick()).prop_map(|(worker, shard)| Op::FailShard(worker, shard)),
        1 => pick().prop_map(Op::Return),
        3 => (0_u64..4_000).prop_map(Op::Tick),
        2 => (0_u8..3, -1_i32..2).prop_map(|(namespace, priority)| Op::Queue(namespace, priority)),
        1 => pick().prop_map(Op::Cancel),
        8 => (pick(), pick()).prop_map(|(job, plan)| Op::Drive(job, plan)),
        2 => pick().prop_map(Op::Finish),
        2 => pick().prop_map(Op::Nonsense),
        1 => Just(Op::NewLeader),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    /// Safety at every event, and after the storm every job ends.
    #[test]
    fn whatever_happens_steps_are_exact_and_jobs_end(ops in prop::collection::vec(op(), 1..160)) {
        let mut world = World::new(Term(1));
        for op in ops {
            world.act(op);
        }
        world.calm();
    }

    /// The same events at the same times give the same commands.
    #[test]
    fn histories_replay_identically(ops in prop::collection::vec(op(), 1..80)) {
        let mut world = World::new(Term(1));
        ops.into_iter().for_each(|op| world.act(op));
        world.replay();
    }
}
