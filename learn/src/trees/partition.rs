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

    /// Splits a node by the bins of a column: a row goes left where the table has 1 for its bin. The two children
    /// become the last two nodes.
    ///
    /// # Panics
    /// If a row is not in the column, or the node does not exist.
    pub fn split(&mut self, node: usize, column: &[u8], left: &[u8; CELLS]) {
        let span = self.spans[node].clone();
        let rows = &mut self.rows[span.start as usize..span.end as usize];
        self.spare.resize(self.spare.len().max(rows.len()), 0);
        let middle = span.start + stable(rows, &mut self.spare[..rows.len()], column, left) as u32;
        self.spans.extend([span.start..middle, middle..span.end]);
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
        let column: Vec<u8> = (0..1_000u32).map(|i| (i * 7 % 256) as u8).collect();
        let mut partition = Partition::new((0..1_000).filter(|i| i % 5 != 0).collect());
        let table = std::array::from_fn(|bin| u8::from(bin % 3 == 0));
        partition.split(0, &column, &table);
        let other = std::array::from_fn(|bin| u8::from(bin < 100));
        partition.split(2, &column, &other);
        let want = |keep: &dyn Fn(u8) -> bool| -> Vec<u16> {
            (0..1_000u16).filter(|&i| i % 5 != 0 && keep(column[usize::from(i)])).collect()
        };
        assert_eq!(partition.node(1), want(&|b| b % 3 == 0));
        assert_eq!(partition.node(3), want(&|b| b % 3 != 0 && b < 100));
        assert_eq!(partition.node(4), want(&|b| b % 3 != 0 && b >= 100));
        partition.split(4, &column, &[1; CELLS]);
        assert_eq!(partition.node(5), partition.node(4));
        assert!(partition.node(6).is_empty() && partition.nodes() == 7);
    }
}
