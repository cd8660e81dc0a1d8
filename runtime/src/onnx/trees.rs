//! Trees as one `TreeEnsembleRegressor` of `ai.onnx.ml` 3. A split is `x <= threshold` over f32 numbers, as it is here,
//! so a row takes the same path to the same leaf. A split by categories becomes a split of a column that the graph
//! makes: 0 for the codes that go left, 1 for the others, NaN for what is missing; it goes left at 0.5 or below.

use std::collections::BTreeMap;

use sheaf_learn::shard::{FeatureKind, Schema};
use sheaf_learn::trees::model::TreeModel;
use sheaf_learn::trees::tree::Tree;

use super::ExportError;
use super::graph::{Graph, Name, floats, int, ints, text, texts};
use super::proto::{AttributeProto, element};

/// Sets of categories that go left, by feature, each with its number among those of the feature.
type Sets<'a> = BTreeMap<u32, BTreeMap<&'a [u32], usize>>;

/// The sums of the leaves and the base: f32 numbers, one a row and output.
///
/// # Errors
/// A leaf value is beyond f32.
pub fn scores(graph: &mut Graph, model: &TreeModel, schema: &Schema, features: &Name) -> Result<Name, ExportError> {
    let sets = sets(model);
    let (columns, firsts) = columns(graph, &sets, schema, features);
    let mut lists = Lists::default();
    for (t, tree) in model.trees.iter().enumerate() {
        lists.take(t, tree, t % model.outputs(), &sets, &firsts);
    }
    if model.trees.is_empty() {
        let alone = Tree { value: vec![0.0], ..Tree::default() };
        lists.take(0, &alone, 0, &sets, &firsts);
    }
    let base: Vec<f32> = model.base.iter().map(|&b| b as f32).collect();
    if lists.weights.iter().chain(&base).any(|w| !w.is_finite()) {
        return Err(ExportError("a leaf value is beyond what ONNX's 32-bit numbers hold: scale the target".to_owned()));
    }
    Ok(graph.ml_node("TreeEnsembleRegressor", &[&columns], lists.attributes(model.outputs(), base), "scores"))
}

/// All sets of categories by which trees split.
fn sets(model: &TreeModel) -> Sets<'_> {
    let mut out = Sets::new();
    for tree in &model.trees {
        for i in (0..tree.splits()).filter(|&i| tree.categorical[i]) {
            let own = out.entry(tree.feature[i]).or_default();
            let next = own.len();
            own.entry(&tree.slots[i]).or_insert(next);
        }
    }
    out
}

/// The features with a column for each set behind them; and the number of the first such column of each feature.
fn columns(graph: &mut Graph, sets: &Sets<'_>, schema: &Schema, features: &Name) -> (Name, BTreeMap<u32, usize>) {
    let (mut names, mut firsts) = (vec![features.clone()], BTreeMap::new());
    let mut end = schema.features.len();
    for (&feature, own) in sets {
        let slots = match &schema.features[feature as usize].kind {
            FeatureKind::Slots { names } => names.len(),
            _ => 0,
        };
        names.push(sides(graph, features, feature as usize, slots, own));
        firsts.insert(feature, end);
        end += own.len();
    }
    match names.as_slice() {
        [only] => (only.clone(), firsts),
        _ => (graph.node("Concat", &names.iter().collect::<Vec<_>>(), vec![int("axis", 1)], "columns"), firsts),
    }
}

/// A column for each set of a feature: from the code to its group (codes that all sets treat alike), from there to a
/// row of sides.
fn sides(graph: &mut Graph, features: &Name, feature: usize, slots: usize, own: &BTreeMap<&[u32], usize>) -> Name {
    let mut right = vec![vec![true; own.len()]; slots];
    for (set, &number) in own {
        set.iter().filter(|&&slot| (slot as usize) < slots).for_each(|&slot| right[slot as usize][number] = false);
    }
    let mut groups: BTreeMap<&[bool], usize> = BTreeMap::new();
    let mut group_of = Vec::with_capacity(slots + 1);
    for row in &right {
        let next = groups.len();
        group_of.push(*groups.entry(row).or_insert(next) as i64);
    }
    group_of.push(groups.len() as i64);
    let mut table = vec![f64::NAN; (groups.len() + 1) * own.len()];
    for (row, group) in &groups {
        let out = &mut table[group * own.len()..(group + 1) * own.len()];
        out.iter_mut().zip(*row).for_each(|(o, &right)| *o = f64::from(u8::from(right)));
    }
    let index = graph.code(features, element::FLOAT, feature, slots);
    let group_of = graph.integers(&format!("groups_{feature}"), &[slots + 1], group_of);
    let group = graph.node("Gather", &[&group_of, &index], vec![int("axis", 0)], &format!("group_{feature}"));
    let table = graph.numbers(&format!("table_{feature}"), element::FLOAT, &[groups.len() + 1, own.len()], &table);
    let rows = graph.node("Gather", &[&table, &group], vec![int("axis", 0)], &format!("rows_{feature}"));
    let axes = graph.integers(&format!("axes_{feature}"), &[1], vec![1]);
    graph.node("Squeeze", &[&rows, &axes], Vec::new(), &format!("sides_{feature}"))
}

/// What the operator takes: an entry a node, and an entry a leaf.
#[derive(Default)]
struct Lists {
    trees: Vec<i64>,
    nodes: Vec<i64>,
    features: Vec<i64>,
    values: Vec<f32>,
    leaves: Vec<bool>,
    lower: Vec<i64>,
    upper: Vec<i64>,
    missing: Vec<i64>,
    leaf_trees: Vec<i64>,
    leaf_nodes: Vec<i64>,
    leaf_targets: Vec<i64>,
    weights: Vec<f32>,
}

impl Lists {
    /// Splits of a tree are its nodes from 0 on, leaves follow.
    fn take(&mut self, number: usize, tree: &Tree, target: usize, sets: &Sets<'_>, firsts: &BTreeMap<u32, usize>) {
        let splits = tree.splits();
        let node = |child: i32| -> i64 { if child < 0 { (splits as i32 + !child).into() } else { child.into() } };
        for i in 0..splits {
            let feature = tree.feature[i];
            let (column, threshold) = match tree.categorical[i] {
                true => (firsts[&feature] + sets[&feature][tree.slots[i].as_slice()], 0.5),
                false => (feature as usize, open(tree.threshold[i] as f32)),
            };
            self.push(number, i, column, threshold, [node(tree.left[i]), node(tree.right[i])], tree.missing_left[i]);
            self.leaves.push(false);
        }
        for (leaf, &value) in tree.value.iter().enumerate() {
            self.push(number, splits + leaf, 0, 0.0, [0, 0], false);
            self.leaves.push(true);
            self.leaf_trees.push(number as i64);
            self.leaf_nodes.push((splits + leaf) as i64);
            self.leaf_targets.push(target as i64);
            self.weights.push(value as f32);
        }
    }

    fn push(&mut self, tree: usize, node: usize, column: usize, threshold: f32, children: [i64; 2], missing_left: bool) {
        self.trees.push(tree as i64);
        self.nodes.push(node as i64);
        self.features.push(column as i64);
        self.values.push(threshold);
        self.lower.push(children[0]);
        self.upper.push(children[1]);
        self.missing.push(missing_left.into());
    }

    fn attributes(self, outputs: usize, base: Vec<f32>) -> Vec<AttributeProto> {
        let modes = self.leaves.iter().map(|&leaf| if leaf { "LEAF" } else { "BRANCH_LEQ" }).collect();
        vec![
            int("n_targets", outputs as i64),
            text("aggregate_function", "SUM"),
            text("post_transform", "NONE"),
            floats("base_values", base),
            ints("nodes_treeids", self.trees),
            ints("nodes_nodeids", self.nodes),
            ints("nodes_featureids", self.features),
            floats("nodes_values", self.values),
            texts("nodes_modes", modes),
            ints("nodes_truenodeids", self.lower),
            ints("nodes_falsenodeids", self.upper),
            ints("nodes_missing_value_tracks_true", self.missing),
            ints("target_treeids", self.leaf_trees),
            ints("target_nodeids", self.leaf_nodes),
            ints("target_ids", self.leaf_targets),
            floats("target_weights", self.weights),
        ]
    }
}

/// The threshold in a runtime that does not narrow infinite values to the largest finite ones, as scoring here does:
/// what everything finite is below, infinity is too.
fn open(threshold: f32) -> f32 {
    if threshold == f32::MAX { f32::INFINITY } else { threshold }
}
