//! Elementary functions against values of some hundred digits (`tests/reference/math.json`, made by the script beside
//! it), in units of the last place. The bounds are those that the documentation states.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use sheaf_learn::math;

#[derive(Deserialize)]
struct Reference {
    functions: BTreeMap<String, Vec<Vec<Value>>>,
}

enum Function {
    One(fn(f64) -> f64),
    Two(fn(f64, f64) -> f64),
}

use Function::{One, Two};

/// Function and the largest error that it may have.
const FUNCTIONS: [(&str, Function, f64); 21] = [
    ("acos", One(math::acos), 0.6),
    ("acosh", One(math::acosh), 0.6),
    ("asin", One(math::asin), 0.6),
    ("asinh", One(math::asinh), 0.6),
    ("atan", One(math::atan), 0.6),
    ("atan2", Two(math::atan2), 0.6),
    ("atanh", One(math::atanh), 0.6),
    ("cbrt", One(math::cbrt), 0.51),
    ("cos", One(math::cos), 0.6),
    ("cosh", One(math::cosh), 0.6),
    ("cot", One(math::cot), 0.6),
    ("exp", One(math::exp), 1.0),
    ("ln", One(math::ln), 1.0),
    ("log", Two(math::log), 0.6),
    ("log10", One(math::log10), 0.6),
    ("log2", One(math::log2), 0.6),
    ("pow", Two(math::pow), 2.0),
    ("sin", One(math::sin), 0.6),
    ("sinh", One(math::sinh), 0.6),
    ("tan", One(math::tan), 0.6),
    ("tanh", One(math::tanh), 0.6),
];

fn number(bits: &Value) -> f64 {
    f64::from_bits(u64::from_str_radix(bits.as_str().unwrap(), 16).unwrap())
}

/// The distance of two f64 of one sign, by counting those between them.
fn steps(a: f64, b: f64) -> f64 {
    let place = |x: f64| if x < 0.0 { -((x.to_bits() << 1 >> 1) as i64) } else { x.to_bits() as i64 };
    (place(a) - place(b)) as f64
}

/// The error of a result in units of the last place of the true value, which lies `above` the nearest f64.
fn error(ours: f64, nearest: f64, above: f64) -> f64 {
    (steps(ours, nearest) - above).abs()
}

#[test]
fn errors_stay_below_the_stated_bounds() {
    let reference: Reference = serde_json::from_str(include_str!("../../tests/reference/math.json")).unwrap();
    assert!(reference.functions.keys().map(String::as_str).eq(FUNCTIONS.iter().map(|(name, ..)| *name)));
    let mut failures = Vec::new();
    for (name, function, bound) in FUNCTIONS {
        let cases = &reference.functions[name];
        assert!(cases.len() >= 250, "{name}");
        let mut worst = 0.0;
        for case in cases {
            let (arguments, want) = case.split_at(case.len() - 2);
            let arguments: Vec<f64> = arguments.iter().map(number).collect();
            let ours = match (&function, arguments.as_slice()) {
                (One(f), [x]) => f(*x),
                (Two(f), [x, y]) => f(*x, *y),
                _ => panic!("{name} does not take {arguments:?}"),
            };
            let off = error(ours, number(&want[0]), want[1].as_f64().unwrap() / 1000.0);
            if off > bound {
                failures.push(format!("{name}({arguments:?}) = {ours:e}, {off} units off"));
            }
            worst = if off > worst { off } else { worst };
        }
        println!("{name:6} {worst:.3}");
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures[..failures.len().min(50)].join("\n"));
}
