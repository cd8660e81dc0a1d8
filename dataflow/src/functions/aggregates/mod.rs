//! Aggregates over floats whose bits depend on the values alone: DataFusion's names and signatures, exact sums from
//! [`sheaf_learn::reproducible`]. Every order, partitioning and tree of merges gives the same result, and a window
//! frame the same as its rows alone. Integers, decimals, durations and intervals stay DataFusion's own, which are
//! exact in any order; so does `regr_count`.
//!
//! A partial state is one `LargeBinary` column of canonical bytes. Nothing of a state depends on the machine.

mod accumulator;
mod distinct;
mod groups;
mod rows;
mod statistic;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DataFusionError, Result, ScalarValue, not_impl_err};
use datafusion::functions_aggregate::{average, correlation, covariance, regr, stddev, sum, variance};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::function::{AccumulatorArgs, AggregateFunctionSimplification, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, Expr, GroupsAccumulator, Operator, ReversedUDAF, SetMonotonicity,
    Signature, StatisticsArgs,
};
use sheaf_learn::reproducible::StateError;

use accumulator::NewAccumulator;
use distinct::NewDistinct;
use groups::NewGroups;
use statistic::Statistic;

/// All replacements, each under all names of the function that it replaces.
pub(crate) fn aggregates() -> Vec<Arc<AggregateUDF>> {
    let functions = [
        (sum::sum_udaf(), Statistic::Sum),
        (average::avg_udaf(), Statistic::Mean),
        (variance::var_samp_udaf(), Statistic::Variance { sample: true }),
        (variance::var_pop_udaf(), Statistic::Variance { sample: false }),
        (stddev::stddev_udaf(), Statistic::Deviation { sample: true }),
        (stddev::stddev_pop_udaf(), Statistic::Deviation { sample: false }),
        (covariance::covar_samp_udaf(), Statistic::Covariance { sample: true }),
        (covariance::covar_pop_udaf(), Statistic::Covariance { sample: false }),
        (correlation::corr_udaf(), Statistic::Correlation),
        (regr::regr_slope_udaf(), Statistic::Slope),
        (regr::regr_intercept_udaf(), Statistic::Intercept),
        (regr::regr_r2_udaf(), Statistic::Determination),
        (regr::regr_avgx_udaf(), Statistic::MeanX),
        (regr::regr_avgy_udaf(), Statistic::MeanY),
        (regr::regr_sxx_udaf(), Statistic::SquaresX),
        (regr::regr_syy_udaf(), Statistic::SquaresY),
        (regr::regr_sxy_udaf(), Statistic::Products),
    ];
    functions.into_iter().map(|(own, statistic)| Arc::new(AggregateUDF::from(Reproducible { own, statistic }))).collect()
}

/// A function of DataFusion's with other arithmetic for floats.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Reproducible {
    /// DataFusion's, for all that is not arithmetic over floats.
    own: Arc<AggregateUDF>,
    statistic: Statistic,
}

/// Whether these are the arguments that we take over. DataFusion's signatures turn all floats into f64.
fn floats(arguments: &[FieldRef]) -> bool {
    arguments.iter().all(|a| *a.data_type() == DataType::Float64)
}

/// A partial state that cannot be read.
fn damaged(error: StateError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

impl AggregateUDFImpl for Reproducible {
    fn name(&self) -> &str {
        self.own.name()
    }

    fn aliases(&self) -> &[String] {
        self.own.aliases()
    }

    fn signature(&self) -> &Signature {
        self.own.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.own.return_type(arguments)
    }

    fn is_nullable(&self) -> bool {
        self.own.is_nullable()
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if !floats(args.expr_fields) {
            return self.own.accumulator(args);
        }
        if !args.is_distinct {
            return Ok(self.statistic.dispatch(NewAccumulator));
        }
        match self.statistic.dispatch(NewDistinct) {
            Some(accumulator) => Ok(accumulator),
            None => not_impl_err!("{}(DISTINCT y, x): take the distinct rows in a subquery", self.name()),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if floats(args.expr_fields) { self.accumulator(args) } else { self.own.create_sliding_accumulator(args) }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        if !floats(args.input_fields) {
            return self.own.state_fields(args);
        }
        let field = if args.is_distinct {
            let item = Field::new_list_field(DataType::Float64, true);
            Field::new_list(format_state_name(args.name, "distinct"), item, false)
        } else {
            Field::new(format_state_name(args.name, "exact"), DataType::LargeBinary, false)
        };
        Ok(vec![Arc::new(field)])
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        if floats(args.expr_fields) { !args.is_distinct } else { self.own.groups_accumulator_supported(args) }
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        if floats(args.expr_fields) { Ok(self.statistic.dispatch(NewGroups)) } else { self.own.create_groups_accumulator(args) }
    }

    /// The order of rows is no part of any result, over floats or anything else that these functions take.
    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        self.own.simplify()
    }

    /// sum(x + c) = sum(x) + c · count(x) holds for integers and decimals, not for rounded numbers.
    fn simplify_expr_op_literal(
        &self,
        function: &AggregateFunction,
        argument: &Expr,
        operator: Operator,
        literal: &Expr,
        argument_is_left: bool,
    ) -> Result<Option<Expr>> {
        match literal {
            Expr::Literal(value, _) if !value.data_type().is_floating() => {
                self.own.simplify_expr_op_literal(function, argument, operator, literal, argument_is_left)
            }
            _ => Ok(None),
        }
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.own.coerce_types(arguments)
    }

    /// A file's own statistics of floats were added by who knows whom.
    fn value_from_stats(&self, args: &StatisticsArgs) -> Option<ScalarValue> {
        if args.return_type.is_floating() { None } else { self.own.value_from_stats(args) }
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.own.default_value(data_type)
    }

    fn supports_null_handling_clause(&self) -> bool {
        self.own.supports_null_handling_clause()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.own.documentation()
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.own.inner().set_monotonicity(data_type)
    }
}
