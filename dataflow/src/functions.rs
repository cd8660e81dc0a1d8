//! Scalar functions that replace DataFusion's by name, so that the same SQL gives the same bits on every
//! machine and at every time: `ln`, `exp`, `pow` and logarithms from our own mathematics, `now()` and its kin
//! pinned to the job's time. What would differ from CPU to CPU or from run to run is refused by name.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::compute::{binary, unary};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, ScalarValue, internal_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use sheaf_learn::math;

use crate::types;

/// Functions whose last bits come from the machine's C library.
const MACHINE: [&str; 15] =
    ["sin", "cos", "tan", "cot", "asin", "acos", "atan", "atan2", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "cbrt"];
/// Functions that give something else on every call.
const RANDOM: [&str; 3] = ["random", "rand", "uuid"];
/// Functions that read the clock; [`all`] pins them.
pub(crate) const CLOCK: [&str; 5] = ["now", "current_timestamp", "current_date", "today", "current_time"];

/// All replacements, with `now()` pinned to a time in nanoseconds since 1970.
pub(crate) fn all(now_ns: i64) -> Vec<ScalarUDF> {
    let math = [Math::Ln, Math::Exp, Math::Log2, Math::Log10, Math::Log, Math::Pow].map(ScalarUDF::from);
    let clock = [
        Clock { kind: ClockKind::Now, now_ns },
        Clock { kind: ClockKind::Date, now_ns },
        Clock { kind: ClockKind::Time, now_ns },
    ];
    let machine = MACHINE.map(|name| ScalarUDF::from(Refused { name, random: false }));
    let random = RANDOM.map(|name| ScalarUDF::from(Refused { name, random: true }));
    math.into_iter().chain(clock.map(ScalarUDF::from)).chain(machine).chain(random).collect()
}

/// Functions over f64 in our own arithmetic. Integers and decimals become f64 first; null gives null.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Math {
    Ln,
    Exp,
    Log2,
    Log10,
    /// `log(x)` to the base 10, `log(base, x)`.
    Log,
    Pow,
}

impl Math {
    fn two(self, a: f64, b: f64) -> f64 {
        match self {
            Math::Log if a == 2.0 => log2(b),
            Math::Log if a == 10.0 => log10(b),
            Math::Log => math::ln(b) / math::ln(a),
            _ => math::pow(a, b),
        }
    }

    fn one(self, x: f64) -> f64 {
        match self {
            Math::Ln => math::ln(x),
            Math::Exp => math::exp(x),
            Math::Log2 => log2(x),
            Math::Log10 | Math::Log | Math::Pow => log10(x),
        }
    }

    fn apply(self, args: &[ArrayRef]) -> Result<Float64Array> {
        match args {
            [x] => Ok(unary(x.as_primitive::<Float64Type>(), |x| self.one(x))),
            [a, b] => Ok(binary(a.as_primitive::<Float64Type>(), b.as_primitive::<Float64Type>(), |a, b| self.two(a, b))?),
            _ => internal_err!("wrong number of arguments"),
        }
    }
}

/// log2 as ln(x) / ln(2), exact where the result is a whole number.
fn log2(x: f64) -> f64 {
    whole(math::ln(x) / std::f64::consts::LN_2, 2.0, x)
}

/// log10 as ln(x) / ln(10), exact where the result is a whole number.
fn log10(x: f64) -> f64 {
    whole(math::ln(x) / std::f64::consts::LN_10, 10.0, x)
}

/// `quotient`, or the whole number beside it whose power of the base is exactly `x`.
fn whole(quotient: f64, base: f64, x: f64) -> f64 {
    let near = (quotient + 0.5).floor();
    if (quotient - near).abs() < 1e-9 && near.abs() < 1100.0 && math::pow(base, near) == x { near } else { quotient }
}

impl ScalarUDFImpl for Math {
    fn name(&self) -> &str {
        match self {
            Math::Ln => "ln",
            Math::Exp => "exp",
            Math::Log2 => "log2",
            Math::Log10 => "log10",
            Math::Log => "log",
            Math::Pow => "power",
        }
    }

    fn aliases(&self) -> &[String] {
        static POW: std::sync::LazyLock<Vec<String>> = std::sync::LazyLock::new(|| vec!["pow".to_owned()]);
        if *self == Math::Pow { &POW } else { &[] }
    }

    fn signature(&self) -> &Signature {
        use std::sync::LazyLock;
        fn numbers(counts: &[usize]) -> Signature {
            let exact = |n: &usize| TypeSignature::Exact(vec![DataType::Float64; *n]);
            Signature::one_of(counts.iter().map(exact).collect(), Volatility::Immutable)
        }
        static ONE: LazyLock<Signature> = LazyLock::new(|| numbers(&[1]));
        static TWO: LazyLock<Signature> = LazyLock::new(|| numbers(&[2]));
        static BOTH: LazyLock<Signature> = LazyLock::new(|| numbers(&[1, 2]));
        match self {
            Math::Pow => &TWO,
            Math::Log => &BOTH,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum ClockKind {
    Now,
    Date,
    Time,
}

/// A clock that stands still.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Clock {
    kind: ClockKind,
    now_ns: i64,
}

const DAY_NS: i64 = 86_400_000_000_000;

impl Clock {
    fn value(&self) -> Result<ScalarValue> {
        Ok(match self.kind {
            ClockKind::Now => ScalarValue::TimestampNanosecond(Some(self.now_ns), Some(types::UTC.into())),
            ClockKind::Date => ScalarValue::Date32(i32::try_from(self.now_ns.div_euclid(DAY_NS)).ok()),
            ClockKind::Time => ScalarValue::Time64Nanosecond(Some(self.now_ns.rem_euclid(DAY_NS))),
        })
    }
}

impl ScalarUDFImpl for Clock {
    fn name(&self) -> &str {
        match self.kind {
            ClockKind::Now => "now",
            ClockKind::Date => "current_date",
            ClockKind::Time => "current_time",
        }
    }

    fn aliases(&self) -> &[String] {
        use std::sync::LazyLock;
        static NOW: LazyLock<Vec<String>> = LazyLock::new(|| vec!["current_timestamp".to_owned()]);
        static DATE: LazyLock<Vec<String>> = LazyLock::new(|| vec!["today".to_owned()]);
        match self.kind {
            ClockKind::Now => &NOW,
            ClockKind::Date => &DATE,
            ClockKind::Time => &[],
        }
    }

    fn signature(&self) -> &Signature {
        static NONE: std::sync::LazyLock<Signature> = std::sync::LazyLock::new(|| Signature::nullary(Volatility::Immutable));
        &NONE
    }

    fn return_type(&self, _args: &[DataType]) -> Result<DataType> {
        Ok(self.value()?.data_type())
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Scalar(self.value()?))
    }
}

/// A function that cannot be planned.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Refused {
    name: &'static str,
    random: bool,
}

impl ScalarUDFImpl for Refused {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        static ANY: std::sync::LazyLock<Signature> = std::sync::LazyLock::new(|| {
            Signature::one_of(vec![TypeSignature::Nullary, TypeSignature::VariadicAny], Volatility::Immutable)
        });
        &ANY
    }

    fn return_type(&self, _args: &[DataType]) -> Result<DataType> {
        match self.random {
            true => plan_err!("{}() gives other values on every run and is not allowed", self.name),
            false => plan_err!("{}() is not supported yet: its last digits differ from machine to machine", self.name),
        }
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        internal_err!("{} is refused when planned", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_logarithms_are_exact() {
        for power in -20..=20 {
            let x = format!("1e{power}").parse::<f64>().unwrap_or_default();
            if power >= 0 {
                assert_eq!(log10(x), f64::from(power));
            }
            assert_eq!(log2(f64::from(2.0_f32.powi(power))), f64::from(power));
        }
        assert!((log10(2.0) - std::f64::consts::LOG10_2).abs() < 1e-15);
        assert!(log2(-1.0).is_nan());
        assert_eq!(log10(0.0), f64::NEG_INFINITY);
    }

    #[test]
    fn log_takes_the_base_first() {
        assert_eq!(Math::Log.two(2.0, 8.0), 3.0);
        assert_eq!(Math::Log.one(1000.0), 3.0);
        assert_eq!(Math::Pow.two(2.0, 10.0), 1024.0);
    }
}
