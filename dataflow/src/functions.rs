//! Functions that replace DataFusion's by name, so that the same SQL gives the same bits on every
//! machine and at every time: what DataFusion takes from the machine's C library comes from our own mathematics,
//! `now()` and its kin are pinned to the job's time, aggregates over floats are exact sums or have one order. What
//! differs from run to run is refused by name.

mod aggregates;
pub(crate) mod extremes;
mod hash_random;
mod mathematics;

use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue, internal_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};

use crate::types;
pub(crate) use aggregates::aggregates;
use mathematics::FUNCTIONS;

/// Functions that give something else on every call.
const RANDOM: [&str; 3] = ["random", "rand", "uuid"];
/// Functions that read the clock; [`all`] pins them.
pub(crate) const CLOCK: [&str; 7] =
    ["now", "current_timestamp", "localtimestamp", "current_date", "today", "current_time", "localtime"];

/// All scalar replacements, with `now()` pinned to a time in nanoseconds since 1970.
pub(crate) fn all(now_ns: i64) -> Vec<ScalarUDF> {
    let math = FUNCTIONS.map(ScalarUDF::from);
    let clock = [
        Clock { kind: ClockKind::Now, now_ns },
        Clock { kind: ClockKind::Date, now_ns },
        Clock { kind: ClockKind::Time, now_ns },
    ];
    let random = RANDOM.map(|name| ScalarUDF::from(Refused { name }));
    let ours = [ScalarUDF::from(hash_random::HashRandom)];
    math.into_iter().chain(clock.map(ScalarUDF::from)).chain(random).chain(ours).collect()
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
        static NOW: LazyLock<Vec<String>> = LazyLock::new(|| vec!["current_timestamp".to_owned(), "localtimestamp".to_owned()]);
        static DATE: LazyLock<Vec<String>> = LazyLock::new(|| vec!["today".to_owned()]);
        static TIME: LazyLock<Vec<String>> = LazyLock::new(|| vec!["localtime".to_owned()]);
        match self.kind {
            ClockKind::Now => &NOW,
            ClockKind::Date => &DATE,
            ClockKind::Time => &TIME,
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
        plan_err!("{}() gives other values on every run: use hash_random(seed, key, …), which depends on these alone", self.name)
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        internal_err!("{} is refused when planned", self.name)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::any::Any;
    use std::collections::HashMap;
    use std::sync::Arc;

    use super::mathematics::Math;
    use super::*;
    use crate::stores::{StoreOptions, Stores};

    /// DataFusion's mathematical functions that give the same bits on every machine by themselves: one IEEE operation,
    /// rounding, comparisons, whole numbers. `round` and `trunc` to a number of digits scale by a power of ten that
    /// is made by multiplication.
    const EXACT: [&str; 16] = [
        "abs",
        "ceil",
        "degrees",
        "factorial",
        "floor",
        "gcd",
        "isnan",
        "iszero",
        "lcm",
        "nanvl",
        "pi",
        "radians",
        "round",
        "signum",
        "sqrt",
        "trunc",
    ];

    fn registered() -> HashMap<String, Arc<ScalarUDF>> {
        Stores::new(StoreOptions::default()).unwrap().session(0).state().scalar_functions().clone()
    }

    fn is<T: Any>(function: &ScalarUDF) -> bool {
        (function.inner().as_ref() as &dyn Any).is::<T>()
    }

    #[test]
    fn no_mathematical_function_reaches_the_library_of_the_machine() {
        let (theirs, session) = (datafusion::functions::math::functions(), registered());
        assert!(theirs.len() > 30, "DataFusion's own are built in, so they must be covered");
        for function in theirs {
            for name in std::iter::once(function.name()).chain(function.aliases().iter().map(String::as_str)) {
                let used = &session[name];
                let covered = is::<Math>(used) || is::<Refused>(used) || EXACT.contains(&name);
                assert!(covered, "{name} is DataFusion's: replace it, refuse it, or show that it is exact");
            }
        }
    }

    #[test]
    fn every_function_of_ours_is_there_under_all_its_names() {
        let session = registered();
        for function in all(0) {
            for name in std::iter::once(function.name()).chain(function.aliases().iter().map(String::as_str)) {
                assert_eq!(session[name].inner().as_ref().type_id(), function.inner().as_ref().type_id(), "{name}");
                assert_eq!(session[name].name(), function.name(), "{name}");
            }
        }
        assert_eq!(session["pow"].name(), "power");
    }
}
