//! Best-first growth that looks ahead: which splits are taken as things stand, and about which others a step asks
//! beforehand.
//!
//! The best split of all leaves is taken, one after the other, until one comes up whose children nobody has asked about.
//! A node comes up after all those that gain more than the least gain on its way from the root; its place in that
//! order says how likely it is to be taken, and whether anything can be taken after it.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Part of the gain of the split that is waited for from which others are split beforehand.
const NEAR: f64 = 0.5;

/// A node as the order sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    /// What its split gains; `None` where there is none.
    pub gain: Option<f64>,
    /// Its split's number, once it is split: its children are the nodes `2 split + 1` and `2 split + 2`.
    pub split: Option<u32>,
}

/// A node that is split now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chosen {
    /// The node.
    pub node: u32,
    /// Whether its children may be split in their turn.
    pub goes_on: bool,
}

/// A leaf that may be split: more gain comes first, then a lower number.
#[derive(Debug, Clone, Copy)]
struct Open {
    gain: f64,
    node: u32,
}

impl Ord for Open {
    fn cmp(&self, other: &Self) -> Ordering {
        self.gain.total_cmp(&other.gain).then(other.node.cmp(&self.node))
    }
}

impl PartialOrd for Open {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Open {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Open {}

/// The splits that are taken, up to `most`, in their order; and the nodes that are split next, ascending: none if all is
/// taken that can be.
pub(super) fn look(nodes: &[Node], most: usize) -> (Vec<u32>, Vec<Chosen>) {
    let open = |node: u32| Some(Open { gain: nodes.get(node as usize)?.gain?, node });
    let mut leaves: BinaryHeap<Open> = open(0).into_iter().collect();
    let mut taken = Vec::new();
    while taken.len() < most
        && let Some(split) = leaves.peek().and_then(|best| nodes[best.node as usize].split)
    {
        leaves.pop();
        taken.push(split);
        leaves.extend([2 * split + 1, 2 * split + 2].into_iter().filter_map(open));
    }
    let room = most - taken.len();
    let chosen = match leaves.peek() {
        Some(best) if room > 0 => choose(nodes, &leaves, best.gain * NEAR, room),
        _ => Vec::new(),
    };
    (taken, chosen)
}

/// The nodes without children that come up among the next `room`, as far as is known now, and gain enough.
fn choose(nodes: &[Node], leaves: &BinaryHeap<Open>, floor: f64, room: usize) -> Vec<Chosen> {
    let mut order = Vec::new();
    let mut way: Vec<Open> = leaves.iter().copied().collect();
    while let Some(open) = way.pop() {
        order.push(open);
        let children = nodes[open.node as usize].split.map_or([0; 2], |split| [2 * split + 1, 2 * split + 2]);
        for child in children.into_iter().filter(|child| *child > 0) {
            // A child comes up with its parent's gain where its own is larger.
            way.extend(nodes[child as usize].gain.map(|gain| Open { gain: gain.min(open.gain), node: child }));
        }
    }
    order.sort_by(|a, b| b.cmp(a));
    let before = |open: &Open| order.partition_point(|other| other.gain > open.gain);
    let next = order.iter().take(room).filter(|open| open.gain >= floor && nodes[open.node as usize].split.is_none());
    let mut chosen: Vec<Chosen> = next.map(|open| Chosen { node: open.node, goes_on: before(open) + 1 < room }).collect();
    chosen.sort_unstable_by_key(|chosen| chosen.node);
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Grows a tree whose gains are known in full, heap-numbered: node `i` has children `2i + 1` and `2i + 2`.
    fn grow(gains: &[f64], most: usize) -> (Vec<f64>, usize) {
        let (mut nodes, mut places) = (vec![Node { gain: Some(gains[0]), split: None }], vec![0]);
        let (mut splits, mut steps) = (Vec::new(), 0);
        loop {
            let (taken, chosen) = look(&nodes, most);
            if chosen.is_empty() {
                return (taken.iter().map(|split| splits[*split as usize]).collect(), steps);
            }
            steps += 1;
            for Chosen { node, goes_on } in chosen {
                let place: usize = places[node as usize];
                nodes[node as usize].split = Some(splits.len() as u32);
                splits.push(gains[place]);
                for child in [2 * place + 1, 2 * place + 2] {
                    let gain = gains.get(child).copied().filter(|gain| goes_on && *gain > 0.0);
                    nodes.push(Node { gain, split: None });
                    places.push(child);
                }
            }
        }
    }

    /// The same without looking ahead.
    fn plainly(gains: &[f64], most: usize) -> Vec<f64> {
        let (mut open, mut taken) = (vec![0], Vec::new());
        while taken.len() < most && !open.is_empty() {
            let best = (0..open.len()).max_by(|&a, &b| gains[open[a]].total_cmp(&gains[open[b]])).unwrap_or(0);
            let node = open.swap_remove(best);
            taken.push(gains[node]);
            open.extend([2 * node + 1, 2 * node + 2].into_iter().filter(|child| gains.get(*child).is_some_and(|g| *g > 0.0)));
        }
        taken
    }

    #[test]
    fn the_order_is_that_of_the_best_leaf() {
        let mut state = 1u64;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / (1u64 << 31) as f64
        };
        for case in 0..300 {
            let gains: Vec<f64> = (0..511)
                .map(|i: u32| {
                    let depth = f64::from((i + 1).ilog2());
                    let own = draw() / (1.0 + depth) + f64::from(i) * 1e-9;
                    if draw() < 0.1 { 0.0 } else { own + 1e-6 }
                })
                .collect();
            let gains = [&[1.0], &gains[1..]].concat();
            let most = 1 + case % 60;
            let (found, steps) = grow(&gains, most);
            assert_eq!(found, plainly(&gains, most), "case {case}");
            assert!(steps <= most, "{steps} steps for {most} splits");
        }
    }

    #[test]
    fn few_steps_where_leaves_are_alike() {
        let gains: Vec<f64> = (0..511u32).map(|i| 1.0 - f64::from(i) * 1e-3).collect();
        let (found, steps) = grow(&gains, 255);
        assert_eq!((found.len(), steps), (255, 8));
    }

    #[test]
    fn nothing_is_asked_below_the_last_split() {
        let nodes = [Node { gain: Some(1.0), split: None }];
        assert_eq!(look(&nodes, 1), (Vec::new(), vec![Chosen { node: 0, goes_on: false }]));
        assert_eq!(look(&nodes, 2), (Vec::new(), vec![Chosen { node: 0, goes_on: true }]));
        assert_eq!(look(&nodes, 0), (Vec::new(), Vec::new()));
    }
}
