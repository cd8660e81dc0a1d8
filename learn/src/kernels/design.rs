//! The rows of a shard as kernels see them: slices of the columns as they are stored, each with the
//! first slot that it fills. Nothing is copied or converted.

use std::ops::Range;

use crate::algorithm::LearnError;
use crate::shard::{Column, EncodedShard, FeatureKind, Schema};

/// One column of a design.
#[derive(Debug, Clone, Copy)]
pub enum Term<'a> {
    /// Numbers stored as f32.
    F32(&'a [f32]),
    /// Numbers stored as f64.
    F64(&'a [f64]),
    /// Category indices; `slots` and above are "no slot".
    Code {
        /// One index a row.
        codes: &'a [u32],
        /// Number of slots.
        slots: usize,
    },
    /// Sparse rows: row `i` has `entries[offsets[i]..offsets[i + 1]]`.
    Sparse {
        /// rows + 1 offsets.
        offsets: &'a [u32],
        /// (slot, value) of the whole shard.
        entries: &'a [(u32, f32)],
        /// Number of slots.
        slots: usize,
    },
}

/// Columns of a range of rows.
#[derive(Debug, Clone)]
pub struct Design<'a> {
    /// Each column with its first slot, in schema order.
    pub terms: Vec<(usize, Term<'a>)>,
    /// Number of rows.
    pub rows: usize,
    /// Number of slots of all columns.
    pub width: usize,
}

impl<'a> Design<'a> {
    /// Looks at `rows` of a shard; an error if the shard does not follow the schema.
    pub fn new(schema: &Schema, shard: &'a EncodedShard, rows: Range<usize>) -> Result<Self, LearnError> {
        if shard.columns.len() != schema.features.len() {
            let (have, want) = (shard.columns.len(), schema.features.len());
            return Err(LearnError::Data(format!("shard {} has {have} feature columns, the schema has {want}", shard.index)));
        }
        if rows.end > shard.rows || rows.start > rows.end {
            return Err(LearnError::Data(format!("rows {rows:?} are not in shard {} of {} rows", shard.index, shard.rows)));
        }
        let mut terms = Vec::with_capacity(shard.columns.len());
        let mut slot = 0;
        for (column, feature) in shard.columns.iter().zip(&schema.features) {
            let term = term(column, &feature.kind, shard.rows, &rows)
                .map_err(|what| LearnError::Data(format!("column `{}` of shard {}: {what}", feature.name, shard.index)))?;
            terms.push((slot, term));
            slot += feature.kind.width();
        }
        Ok(Self { terms, rows: rows.len(), width: slot })
    }

    /// The design of some of its rows.
    pub fn slice(&self, rows: Range<usize>) -> Design<'a> {
        let terms = self.terms.iter().map(|(slot, term)| (*slot, cut(term, &rows))).collect();
        Design { terms, rows: rows.len(), width: self.width }
    }
}

fn cut<'a>(term: &Term<'a>, rows: &Range<usize>) -> Term<'a> {
    match *term {
        Term::F32(x) => Term::F32(&x[rows.clone()]),
        Term::F64(x) => Term::F64(&x[rows.clone()]),
        Term::Code { codes, slots } => Term::Code { codes: &codes[rows.clone()], slots },
        Term::Sparse { offsets, entries, slots } => Term::Sparse { offsets: &offsets[rows.start..=rows.end], entries, slots },
    }
}

fn term<'a>(column: &'a Column, kind: &FeatureKind, rows: usize, range: &Range<usize>) -> Result<Term<'a>, String> {
    let whole = match (column, kind) {
        (Column::F32(x), FeatureKind::Numeric { .. }) if x.len() == rows => Term::F32(x),
        (Column::F64(x), FeatureKind::Numeric { .. }) if x.len() == rows => Term::F64(x),
        (Column::Code(codes), FeatureKind::Slots { names }) if codes.len() == rows => Term::Code { codes, slots: names.len() },
        (Column::Sparse { offsets, entries }, FeatureKind::Sparse { width }) if offsets.len() == rows + 1 => {
            check_sparse(offsets, entries, *width)?;
            Term::Sparse { offsets, entries, slots: *width as usize }
        }
        (Column::Bytes { .. }, _) => return Err("text cannot be learnt from; encode it (one_hot, hash) or drop it".into()),
        _ => return Err("its encoding does not fit the schema".into()),
    };
    Ok(cut(&whole, range))
}

fn check_sparse(offsets: &[u32], entries: &[(u32, f32)], width: u32) -> Result<(), String> {
    let ascending = offsets.windows(2).all(|w| w[0] <= w[1]);
    if !ascending || offsets.last().is_some_and(|&end| end as usize > entries.len()) {
        return Err("its offsets do not ascend within its entries".into());
    }
    if entries.iter().any(|&(slot, _)| slot >= width) {
        return Err(format!("an entry lies outside its {width} slots"));
    }
    Ok(())
}
