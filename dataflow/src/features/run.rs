//! Fitted steps as a straight list of operations on named columns: lowered with their types, reduced to
//! what the wanted columns need, compiled, and run batch by batch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array};
use datafusion::prelude::SessionContext;
use serde::Serialize;

use crate::features::expression::{self, Compiled};
use crate::features::hash::{self, Hashed};
use crate::features::impute::{self, Fill};
use crate::features::kinds::numbers;
use crate::features::one_hot::{Lookup, Slots};
use crate::features::trace::Folded;
use crate::features::{FitError, Fitted, FittedStep, SqlColumn, Type, affine, date_parts};
use crate::job::DatePart;

/// A column between two operations.
#[derive(Debug, Clone)]
pub(crate) enum Values {
    Plain(ArrayRef, Type),
    Code(Vec<u32>),
    Sparse(Vec<u32>, Vec<(u32, f32)>),
}

/// Columns by name.
pub(crate) type Columns = BTreeMap<String, Values>;

/// One operation before it is compiled.
#[derive(Debug, Clone, Serialize)]
pub(crate) enum Spec {
    Sql { place: String, sql: SqlColumn, columns: Vec<(String, Type)> },
    Indicate { column: String, output: String },
    Fill(Fill),
    Affine { column: String, shift: f64, scale: f64 },
    OneHot { slots: Slots, ty: Type },
    Hash(Hashed),
    Part { column: String, part: DatePart, output: String },
    Rename(Vec<(String, String)>),
}

impl Spec {
    /// Columns that it reads; renames are handled apart.
    fn reads(&self) -> Vec<&str> {
        match self {
            Spec::Sql { sql, .. } => sql.reads.iter().map(String::as_str).collect(),
            Spec::Hash(hashed) => hashed.columns.iter().map(String::as_str).collect(),
            Spec::Indicate { column, .. } | Spec::Affine { column, .. } | Spec::Part { column, .. } => vec![column],
            Spec::Fill(fill) => vec![&fill.column],
            Spec::OneHot { slots, .. } => vec![&slots.column],
            Spec::Rename(names) => names.iter().map(|(old, _)| old.as_str()).collect(),
        }
    }

    /// The column that it makes.
    fn writes(&self) -> &str {
        match self {
            Spec::Sql { sql, .. } => &sql.column,
            Spec::Indicate { output, .. } | Spec::Part { output, .. } => output,
            Spec::Fill(fill) => &fill.column,
            Spec::Affine { column, .. } => column,
            Spec::OneHot { slots, .. } => &slots.column,
            Spec::Hash(hashed) => &hashed.output,
            Spec::Rename(_) => "",
        }
    }
}

/// Operations of fitted steps in order. `folded` affine changes are left out.
pub(crate) fn lower(steps: &[FittedStep], inputs: &[(String, Type)], folded: &Folded) -> Vec<Spec> {
    let mut types: BTreeMap<String, Type> = inputs.iter().cloned().collect();
    let mut out = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        lower_step(at, step, folded, &mut types, &mut out);
    }
    out
}

fn lower_step(at: usize, step: &FittedStep, folded: &Folded, types: &mut BTreeMap<String, Type>, out: &mut Vec<Spec>) {
    match &step.fitted {
        Fitted::Sql(sql) => {
            let columns = sql.reads.iter().filter_map(|r| Some((r.clone(), *types.get(r)?))).collect();
            types.insert(sql.column.clone(), sql.data_type);
            out.push(Spec::Sql { place: step.place.clone(), sql: sql.clone(), columns });
        }
        Fitted::Impute(imputed) => {
            for fill in &imputed.fills {
                if let Some(output) = &fill.indicator {
                    types.insert(output.clone(), Type::Int(64));
                    out.push(Spec::Indicate { column: fill.column.clone(), output: output.clone() });
                }
                types.insert(fill.column.clone(), fill.data_type);
                out.push(Spec::Fill(fill.clone()));
            }
        }
        Fitted::Affine { columns, .. } => {
            for a in columns.iter().filter(|a| !folded.contains(&(at, a.column.clone()))) {
                types.insert(a.column.clone(), Type::Float64);
                out.push(Spec::Affine { column: a.column.clone(), shift: a.shift, scale: a.scale });
            }
        }
        Fitted::OneHot { columns } => {
            let specs = columns.iter().filter_map(|s| Some(Spec::OneHot { slots: s.clone(), ty: types.remove(&s.column)? }));
            out.extend(specs);
        }
        Fitted::Hash(hashed) => {
            types.remove(&hashed.output);
            out.push(Spec::Hash(hashed.clone()));
        }
        Fitted::DateParts(parts) => {
            for (column, part, output) in parts.outputs() {
                types.insert(output.clone(), Type::Int(32));
                out.push(Spec::Part { column: column.to_string(), part, output });
            }
        }
        Fitted::Drop { .. } => {}
        Fitted::Rename { names } => {
            let moved: Vec<_> = names.iter().filter_map(|(old, new)| Some((new.clone(), types.remove(old)?))).collect();
            types.extend(moved);
            out.push(Spec::Rename(names.clone()));
        }
    }
}

/// Keeps what `wanted` needs; gives the operations and the columns that must be there at the start.
pub(crate) fn prune(specs: Vec<Spec>, wanted: impl IntoIterator<Item = String>) -> (Vec<Spec>, BTreeSet<String>) {
    let mut need: BTreeSet<String> = wanted.into_iter().collect();
    let mut kept = Vec::new();
    for spec in specs.into_iter().rev() {
        let spec = match spec {
            Spec::Rename(mut names) => {
                names.retain(|(_, new)| need.remove(new));
                Spec::Rename(names)
            }
            other if need.remove(other.writes()) => other,
            _ => continue,
        };
        need.extend(spec.reads().into_iter().map(String::from));
        kept.push(spec);
    }
    kept.reverse();
    (kept, need)
}

/// An operation ready to run.
pub(crate) enum Op {
    Sql(Compiled, SqlColumn),
    OneHot(Lookup, String),
    Plain(Spec),
}

/// Compiles the operations that need it.
pub(crate) fn compile(specs: Vec<Spec>, session: &SessionContext) -> Result<Vec<Op>, FitError> {
    let op = |spec| match spec {
        Spec::Sql { place, sql, columns } => {
            let path = format!("{place}.{}", sql.column);
            let compiled = expression::compile(session, &path, &sql.expression, &columns, &sql.params, sql.data_type)?;
            Ok(Op::Sql(compiled, sql))
        }
        Spec::OneHot { slots, ty } => {
            let column = slots.column.clone();
            Ok(Op::OneHot(Lookup::new(slots, ty), column))
        }
        other => Ok(Op::Plain(other)),
    };
    specs.into_iter().map(op).collect()
}

/// Runs the operations over the columns of `rows` rows.
pub(crate) fn run(ops: &[Op], columns: &mut Columns, rows: usize) -> Result<(), FitError> {
    for op in ops {
        match op {
            Op::Sql(compiled, sql) => {
                let arrays = sql.reads.iter().map(|r| Ok(plain(columns, r)?.0)).collect::<Result<_, FitError>>()?;
                let values = Values::Plain(compiled.evaluate(arrays, rows)?, sql.data_type);
                columns.insert(sql.column.clone(), values);
            }
            Op::OneHot(lookup, column) => {
                let codes = lookup.encode(&plain(columns, column)?.0)?;
                columns.insert(column.clone(), Values::Code(codes));
            }
            Op::Plain(spec) => run_plain(spec, columns, rows)?,
        }
    }
    Ok(())
}

fn run_plain(spec: &Spec, columns: &mut Columns, rows: usize) -> Result<(), FitError> {
    let made = match spec {
        Spec::Indicate { column, .. } => {
            let (array, ty) = plain(columns, column)?;
            Values::Plain(impute::indicate(&array, ty), Type::Int(64))
        }
        Spec::Fill(fill) => {
            let (array, ty) = plain(columns, &fill.column)?;
            Values::Plain(impute::apply(&array, ty, fill)?, fill.data_type)
        }
        Spec::Affine { column, shift, scale } => {
            let (array, ty) = plain(columns, column)?;
            let values = affine::apply(numbers(&array, ty), *shift, *scale);
            Values::Plain(Arc::new(Float64Array::from(values)), Type::Float64)
        }
        Spec::Hash(hashed) => {
            let inputs = hashed.columns.iter().map(|c| plain(columns, c)).collect::<Result<Vec<_>, _>>()?;
            let (offsets, entries) = hash::apply(hashed, &inputs, rows);
            Values::Sparse(offsets, entries)
        }
        Spec::Part { column, part, .. } => {
            let (array, ty) = plain(columns, column)?;
            Values::Plain(date_parts::extract(&array, ty, *part), Type::Int(32))
        }
        Spec::Rename(names) => {
            let moved: Vec<_> = names.iter().filter_map(|(old, new)| Some((new.clone(), columns.remove(old)?))).collect();
            columns.extend(moved);
            return Ok(());
        }
        Spec::Sql { .. } | Spec::OneHot { .. } => return Ok(()),
    };
    columns.insert(spec.writes().to_string(), made);
    Ok(())
}

/// The values of a column that is not encoded.
pub(crate) fn plain(columns: &Columns, name: &str) -> Result<(ArrayRef, Type), FitError> {
    match columns.get(name) {
        Some(Values::Plain(array, ty)) => Ok((Arc::clone(array), *ty)),
        Some(_) => {
            Err(FitError::Data(format!("column `{name}` is read after it was encoded; the pipeline was changed or damaged")))
        }
        None => Err(FitError::Data(format!("column `{name}` is read before it is there; the pipeline was changed or damaged"))),
    }
}
