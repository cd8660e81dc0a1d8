//! Mathematical functions of SQL in our own arithmetic, under DataFusion's names: a table of name and kernel. They take
//! and give f64; integers, decimals and f32 become f64 first, and null gives null.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::compute::{binary, unary};
use arrow::datatypes::{DataType, Float64Type};
use arrow::error::ArrowError;
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, TypeSignature, Volatility};
use sheaf_learn::math;

/// Of one argument: over a whole array, so that the function is known inside the loop.
type One = fn(&Float64Array) -> Float64Array;
/// Of two arguments.
type Two = fn(&Float64Array, &Float64Array) -> Result<Float64Array, ArrowError>;

/// All of them.
pub(super) const FUNCTIONS: [Math; 21] = [
    one("acos", |x| unary(x, math::acos)),
    one("acosh", |x| unary(x, math::acosh)),
    one("asin", |x| unary(x, math::asin)),
    one("asinh", |x| unary(x, math::asinh)),
    one("atan", |x| unary(x, math::atan)),
    two("atan2", |y, x| binary(y, x, math::atan2)),
    one("atanh", |x| unary(x, math::atanh)),
    one("cbrt", |x| unary(x, math::cbrt)),
    one("cos", |x| unary(x, math::cos)),
    one("cosh", |x| unary(x, math::cosh)),
    one("cot", |x| unary(x, math::cot)),
    one("exp", |x| unary(x, math::exp)),
    one("ln", |x| unary(x, math::ln)),
    // log(x) is to the base 10.
    Math { one: Some(|x| unary(x, math::log10)), ..two("log", |base, x| binary(base, x, math::log)) },
    one("log10", |x| unary(x, math::log10)),
    one("log2", |x| unary(x, math::log2)),
    Math { alias: Some("pow"), ..two("power", |x, y| binary(x, y, math::pow)) },
    one("sin", |x| unary(x, math::sin)),
    one("sinh", |x| unary(x, math::sinh)),
    one("tan", |x| unary(x, math::tan)),
    one("tanh", |x| unary(x, math::tanh)),
];

/// A function by its name, and what computes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Math {
    name: &'static str,
    alias: Option<&'static str>,
    one: Option<One>,
    two: Option<Two>,
}

const fn one(name: &'static str, kernel: One) -> Math {
    Math { name, alias: None, one: Some(kernel), two: None }
}

const fn two(name: &'static str, kernel: Two) -> Math {
    Math { name, alias: None, one: None, two: Some(kernel) }
}

impl PartialEq for Math {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Math {}

impl Hash for Math {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl Math {
    fn apply(&self, args: &[ArrayRef]) -> Result<Float64Array> {
        let numbers = |x: &ArrayRef| x.as_primitive::<Float64Type>().clone();
        match (args, self.one, self.two) {
            ([x], Some(kernel), _) => Ok(kernel(&numbers(x))),
            ([a, b], _, Some(kernel)) => Ok(kernel(&numbers(a), &numbers(b))?),
            _ => internal_err!("{} does not take {} arguments", self.name, args.len()),
        }
    }
}

fn numbers(counts: &[usize]) -> Signature {
    let exact = |n: &usize| TypeSignature::Exact(vec![DataType::Float64; *n]);
    Signature::one_of(counts.iter().map(exact).collect(), Volatility::Immutable)
}

impl ScalarUDFImpl for Math {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        static POW: LazyLock<Vec<String>> =
            LazyLock::new(|| FUNCTIONS.iter().filter_map(|f| f.alias).map(str::to_owned).collect());
        if self.alias.is_some() { &POW } else { &[] }
    }

    fn signature(&self) -> &Signature {
        static ONE: LazyLock<Signature> = LazyLock::new(|| numbers(&[1]));
        static TWO: LazyLock<Signature> = LazyLock::new(|| numbers(&[2]));
        static BOTH: LazyLock<Signature> = LazyLock::new(|| numbers(&[1, 2]));
        match (self.one, self.two) {
            (Some(_), Some(_)) => &BOTH,
            (None, _) => &TWO,
            _ => &ONE,
        }
    }

    fn return_type(&self, _args: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let result = self.apply(&ColumnarValue::values_to_arrays(&args.args)?)?;
        match scalar {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?)),
            false => Ok(ColumnarValue::Array(Arc::new(result))),
        }
    }
}
