//! Rows of a shard by the node they stand in: 16-bit row numbers, each node's in one span and in the order of rows.

use std::ops::Range;

use super::CELLS;
use crate::kernels::level::prefetch;

/// Rows by which bins are asked ahead.
const AHEAD: usize = 48;
/// Rows of the column for one of a node from which its bins are asked ahead.
const SPARSE: usize = 16;

/// Rows of one tree on one shard.
#[derive(Debug, Clone, Default)]
pub struct Partition {
    rows: Vec<u16>,
    spare: Vec<u16>,
    /// Span of every node, by its number.
    spans: Vec<Range<u32>>,
}

impl Partition {
    /// All these rows in the root.
    pub fn new(rows: Vec<u16>) -> Self {
        let root = 0..rows.len() as u32;
        Self { rows, spare: Vec::new(), spans: vec![root] }
    }

    /// Rows of a node.
    pub fn node(&self, node: usize) -> &[u16] {
        let span = &self.spans[node];
        &self.rows[span.start as usize..span.end as usize]
    }

    /// All rows, those of a node next to each other.
    pub fn all(&self) -> &[u16] {
        &self.rows
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Number of nodes.
    pub fn nodes(&self) -> usize {
        self.spans.len()
    }

    /// Splits nodes, which may be children of earlier splits: split `i` makes the last two nodes but for those of later
    /// ones. Splits by one feature are made together, while its column is in the cache.
    ///
    /// # Panics
    /// If a node does not exist, or a row is not in its column.
    pub fn grow<'a>(
        &mut self,
        splits: &[(usize, usize)],
        column: impl Fn(usize) -> &'a [u8],
        left: impl Fn(usize) -> [u8; CELLS],
    ) {
        let mut first = 0;
        while first < splits.len() {
            // As far as nodes are there already.
            let there = self.spans.len();
            let count = splits[first..].iter().take_while(|(node, _)| *node < there).count();
            assert!(count > 0, "a split of node {}, of {there} nodes", splits[first].0);
            let mut order: Vec<usize> = (first..first + count).collect();
            order.sort_by_key(|&i| splits[i].1);
            self.spans.resize(there + 2 * count, 0..0);
            for i in order {
                let (node, feature) = splits[i];
                let [l, r] = self.split(node, column(feature), &left(i));
                let at = there + 2 * (i - first);
                (self.spans[at], self.spans[at + 1]) = (l, r);
            }
            first += count;
        }
    }

    /// Sorts a node's rows by the bins of a column: those first where the table has 1 for the bin. Gives both spans.
    fn split(&mut self, node: usize, column: &[u8], left: &[u8; CELLS]) -> [Range<u32>; 2] {
        let span = self.spans[node].clone();
        let rows = &mut self.rows[span.start as usize..span.end as usize];
        self.spare.resize(self.spare.len().max(rows.len()), 0);
        let middle = span.start + stable(rows, &mut self.spare[..rows.len()], column, left) as u32;
        [span.start..middle, middle..span.end]
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        (self.rows.len() + self.spare.len()) * 2 + self.spans.len() * 8
    }
}

/// Rows that go left first, both in order; gives how many go left.
fn stable(rows: &mut [u16], spare: &mut [u16], column: &[u8], left: &[u8; CELLS]) -> usize {
    assert_eq!(rows.len(), spare.len(), "a place for every row");
    assert!(left.iter().all(|&l| l <= 1), "a table of 0 and 1");
    let highest = rows.iter().fold(0, |high, &row| high.max(row));
    assert!(rows.is_empty() || usize::from(highest) < column.len(), "a bin for every row");
    let (mut l, mut r) = (0, 0);
    let mut take = |rows: &mut [u16], i: usize| {
        // SAFETY: i < rows.len(); every row lies in the column, as asserted; l + r = i, so both are at most i.
        unsafe {
            let row = *rows.get_unchecked(i);
            let go = usize::from(left[usize::from(*column.get_unchecked(usize::from(row)))]);
            *rows.get_unchecked_mut(l) = row;
            *spare.get_unchecked_mut(r) = row;
            l += go;
            r += 1 - go;
        }
    };
    // Rows that lie close are there without being asked for.
    let near = if rows.len() * SPARSE < column.len() { rows.len().saturating_sub(AHEAD) } else { 0 };
    for i in 0..near {
        prefetch(column.as_ptr().wrapping_add(usize::from(rows[i + AHEAD])));
        take(rows, i);
    }
    for i in near..rows.len() {
        take(rows, i);
    }
    rows[l..].copy_from_slice(&spare[..r]);
    l
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_keep_the_order_of_rows() {
        let columns: Vec<Vec<u8>> =
            (0..3u32).map(|j| (0..1_000u32).map(|i| ((i * 7 + j * 91 * (i % 13)) % 256) as u8).collect()).collect();
        let left =
            |which: usize| -> [u8; CELLS] { std::array::from_fn(|bin| u8::from(bin % (which + 2) == 0 || bin < 30 * which)) };
        // The second and third of nodes that the first makes, the fourth of one of theirs; features not in order.
        let splits = [(0, 2), (2, 1), (1, 0), (4, 1)];
        let rows = || (0..1_000u16).filter(|i| i % 5 != 0);
        let mut partition = Partition::new(rows().collect());
        partition.grow(&splits, |feature| &columns[feature], left);
        let mut want: Vec<Vec<u16>> = vec![rows().collect()];
        for (i, (node, feature)) in splits.into_iter().enumerate() {
            let goes = |row: &u16| left(i)[usize::from(columns[feature][usize::from(*row)])] == 1;
            let (l, r) = want[node].iter().copied().partition(goes);
            want.extend([l, r]);
        }
        assert_eq!(partition.nodes(), want.len());
        assert!((0..want.len()).filter(|node| ![0, 1, 2, 4].contains(node)).all(|node| partition.node(node) == want[node]));
        let mut one_by_one = Partition::new(rows().collect());
        for (i, split) in splits.into_iter().enumerate() {
            one_by_one.grow(&[split], |feature| &columns[feature], |_| left(i));
        }
        assert_eq!(one_by_one.all(), partition.all());
        partition.grow(&[(8, 0)], |_| &columns[0], |_| [1; CELLS]);
        assert_eq!(partition.node(9), partition.node(8));
        assert!(partition.node(10).is_empty() && partition.nodes() == 11);
    }
}
