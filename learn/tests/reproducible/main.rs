//! Exact sums: against a plain big integer, in any order, split, merged and taken away again, and against values that
//! others have computed.

#![expect(clippy::unwrap_used, reason = "tests")]

mod integer;
mod known;

use integer::{Integer, SCALE, is_nearest};
use proptest::prelude::*;
use sheaf_learn::kernels::Level;
use sheaf_learn::reproducible::{Exact, Fit, Of, Pair, Spread, Sums, Total, add_column, add_products};

/// 2^e for the exponents of normal f64.
fn power(e: i32) -> f64 {
    f64::from_bits(((e + 1023) as u64) << 52)
}

/// Values of all kinds: of everyday size, of any bits, of few bits, zeros, neighbours of the limits.
fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => -1e6..1e6f64,
        2 => any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |x| x.is_finite()),
        2 => (-1000i32..1000).prop_map(|k| f64::from(k) * 0.25),
        2 => (-40i32..40, 1.0..2.0f64).prop_map(|(e, m)| m * power(e)),
        1 => prop::sample::select(vec![0.0, -0.0, f64::MAX, f64::MIN, 5e-324, -5e-324, f64::MIN_POSITIVE, 1.0]),
    ]
}

fn column() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(value(), 0..60)
}

/// Values that a window holds, as most columns are.
fn tame() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(-1e3..1e3f64, 0..60)
}

fn rows() -> impl Strategy<Value = Vec<[f64; 2]>> {
    let rows = |values: BoxedStrategy<f64>| prop::collection::vec([values.clone(), values], 0..40);
    prop_oneof![rows(value().boxed()), rows((-50.0..50.0f64).boxed()), rows((-3..4i32).prop_map(f64::from).boxed())]
}

fn bytes<const C: usize>(sums: &impl Sums<C>) -> Vec<u8> {
    let mut bytes = Vec::new();
    sums.write(&mut bytes);
    bytes
}

fn of<const C: usize, S: Sums<C>>(rows: &[[f64; C]]) -> S {
    let mut sums = S::default();
    rows.iter().for_each(|row| {
        sums.add(*row);
    });
    sums
}

/// Rows in another order, split into parts that are merged as a tree, some of them by their bytes.
fn merged<const C: usize, S: Sums<C>>(rows: &[[f64; C]], order: &[prop::sample::Index], parts: usize) -> S {
    let mut rows = rows.to_vec();
    for (i, index) in order.iter().enumerate().take(rows.len()) {
        let other = index.index(rows.len());
        rows.swap(i, other);
    }
    let size = rows.len().div_ceil(parts).max(1);
    let mut level: Vec<S> = rows.chunks(size).map(of).collect();
    while level.len() > 1 {
        level = level
            .chunks(2)
            .enumerate()
            .map(|(i, pair)| {
                let mut left = pair[0].clone();
                match pair.get(1) {
                    Some(right) if i % 2 == 0 => drop(left.merge(right)),
                    Some(right) => drop(left.merge_bytes(&bytes(right)).unwrap()),
                    None => {}
                }
                left
            })
            .collect();
    }
    level.pop().unwrap_or_default()
}

/// Sums after all, `extra` added before and taken away after it.
fn retracted<const C: usize, S: Sums<C>>(rows: &[[f64; C]], extra: &[[f64; C]]) -> S {
    let mut sums: S = of(extra);
    rows.iter().for_each(|row| {
        sums.add(*row);
    });
    extra.iter().for_each(|row| {
        sums.retract(*row);
    });
    sums
}

fn same_bytes<const C: usize, S: Sums<C>>(rows: &[[f64; C]], extra: &[[f64; C]], order: &[prop::sample::Index], parts: usize) {
    let expected = bytes(&of::<C, S>(rows));
    assert_eq!(bytes(&merged::<C, S>(rows, order, parts)), expected, "merged");
    assert_eq!(bytes(&retracted::<C, S>(rows, extra)), expected, "retracted");
    let columns: [Vec<f64>; C] = std::array::from_fn(|c| rows.iter().map(|r| r[c]).collect());
    for level in Level::available() {
        let mut sums = S::default();
        sums.add_columns(level, std::array::from_fn(|c| columns[c].as_slice()));
        assert_eq!(bytes(&sums), expected, "{}", level.name());
    }
    let mut read = S::default();
    read.merge_bytes(&expected).unwrap();
    assert_eq!((bytes(&read), read.count()), (expected, rows.len() as u64));
}

fn total(column: &[f64]) -> Integer {
    column.iter().fold(Integer::default(), |sum, x| sum.plus(&Integer::scaled(*x)))
}

/// n · Σxy − Σx · Σy, times 2^(2 · SCALE).
fn centred(x: &[f64], y: &[f64]) -> Integer {
    let products = x.iter().zip(y).map(|(x, y)| Integer::scaled(*x).times(&Integer::scaled(*y)));
    let sum = products.fold(Integer::default(), |sum, p| sum.plus(&p));
    sum.times(&Integer::count(x.len() as u64)).minus(&total(x).times(&total(y)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_sum_and_its_mean_are_the_nearest_f64(column in prop_oneof![column(), tame()]) {
        let sums: Total = of(&column.iter().map(|x| [*x]).collect::<Vec<_>>());
        let exact = total(&column);
        match sums.sum() {
            None => prop_assert!(column.is_empty()),
            Some(sum) => {
                let nearest = |x: f64| is_nearest(x, &exact, &Integer::count(1), SCALE);
                prop_assert!(nearest(sum), "{sum:e} of {column:?}");
let others = [sum.next_up(), sum.next_down()].into_iter().filter(|x| *x != sum);
                prop_assert!(!others.into_iter().any(nearest), "the reference knows neighbours apart");
                let mean = sums.mean().unwrap();
                prop_assert!(is_nearest(mean, &exact, &Integer::count(column.len() as u64), SCALE), "mean {mean:e} of {column:?}");
            }
        }
    }

    #[test]
    fn a_variance_is_the_nearest_f64(column in prop_oneof![column(), tame()]) {
        let sums: Spread = of(&column.iter().map(|x| [*x]).collect::<Vec<_>>());
        let (n, exact) = (column.len() as u64, centred(&column, &column));
        let check = |found: Option<f64>, divisor: u64| match found {
            None => divisor == 0,
            Some(found) => is_nearest(found, &exact, &Integer::count(divisor), 2 * SCALE),
        };
        prop_assert!(check(sums.variance(false), n * n), "population {:?} of {column:?}", sums.variance(false));
        prop_assert!(check(sums.variance(true), n * n.saturating_sub(1)), "sample {:?} of {column:?}", sums.variance(true));
        prop_assert!(check(sums.squares(), n), "squares {:?} of {column:?}", sums.squares());
        if let Some(variance) = sums.variance(true).filter(|v| *v > 1e-290 && v.is_finite()) {
            prop_assert_eq!(sums.deviation(true).unwrap().to_bits(), variance.sqrt().to_bits());
        }
    }

    #[test]
    fn a_line_is_the_nearest_f64(rows in rows()) {
        let (y, x): (Vec<f64>, Vec<f64>) = rows.iter().map(|[y, x]| (*y, *x)).unzip();
        let (pair, fit): (Pair, Fit) = (of(&rows), of(&rows));
        let (n, xx, yy, xy) = (Integer::count(rows.len() as u64), centred(&x, &x), centred(&y, &y), centred(&x, &y));
        if let Some(covariance) = pair.covariance(true) {
            let divisor = n.times(&n.minus(&Integer::count(1)));
            prop_assert!(is_nearest(covariance, &xy, &divisor, 2 * SCALE), "covariance {covariance:e}");
            prop_assert!(is_nearest(pair.products().unwrap(), &xy, &n, 2 * SCALE));
        }
        let line = rows.len() > 1 && !xx.is_zero();
        prop_assert_eq!((fit.slope().is_some(), fit.intercept().is_some()), (line, line));
        prop_assert_eq!(fit.correlation().is_some(), line && !yy.is_zero());
        prop_assert_eq!(fit.determination().is_some(), line && !yy.is_zero());
        if line {
            let (slope, intercept) = (fit.slope().unwrap(), fit.intercept().unwrap());
            prop_assert!(is_nearest(slope, &xy, &xx, 0), "slope {slope:e} of {rows:?}");
            let above = total(&y).times(&xx).minus(&total(&x).times(&xy));
            prop_assert!(is_nearest(intercept, &above, &n.times(&xx), SCALE), "intercept {intercept:e} of {rows:?}");
        }
        if let (Some(r2), Some(r)) = (fit.determination(), fit.correlation()) {
            prop_assert!(is_nearest(r2, &xy.times(&xy), &xx.times(&yy), 0), "R² {r2:e} of {rows:?}");
            prop_assert!(r.abs() <= 1.0 && (r2 < 1e-290 || (r * r / r2 - 1.0).abs() < 1e-15), "r {r:e}, R² {r2:e}");
            prop_assert!(r == 0.0 || (r < 0.0) == xy.is_negative(), "sign of {r:e}");
        }
    }

    #[test]
    fn bytes_depend_on_the_multiset_alone(
        rows in rows(),
        extra in rows(),
        order in prop::collection::vec(any::<prop::sample::Index>(), 40),
        parts in 1..9usize,
        odd in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY])), 0..3),
    ) {
        let mut rows = rows;
        for (at, x) in odd {
            if !rows.is_empty() {
                let at = at.index(rows.len());
                rows[at][1] = x;
            }
        }
        let column = |rows: &[[f64; 2]]| rows.iter().map(|r| [r[1]]).collect::<Vec<_>>();
        same_bytes::<1, Total>(&column(&rows), &column(&extra), &order, parts);
        same_bytes::<1, Spread>(&column(&rows), &column(&extra), &order, parts);
        same_bytes::<2, Pair>(&rows, &extra, &order, parts);
        same_bytes::<2, Fit>(&rows, &extra, &order, parts);
        same_bytes::<2, Of<Spread, 1>>(&rows, &extra, &order, parts);
    }

    #[test]
    fn long_columns_add_up_as_their_terms(seed in any::<u64>(), length in 0..5000usize, wide in 0..3u32) {
        // Of one magnitude, of many, and with a few that no block can hold beside the others.
        let draw = |i: usize, bits: u32| (seed ^ (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> (64 - bits);
        let term = |i: usize| {
            let x = draw(i, 53) as f64 * power(-52) - 1.0;
            match wide {
                0 => x,
                1 => x * power(draw(i + 1, 5) as i32),
                _ => x * power(if draw(i + 2, 10) == 0 { -300 } else { 0 }),
            }
        };
        let column: Vec<f64> = (0..length).map(term).collect();
        let mut one: Exact<2> = Exact::default();
        column.iter().for_each(|x| { one.add(*x); });
        let mut expected = Vec::new();
        one.write(&mut expected);
        for level in Level::available() {
            let mut sum = Exact::default();
            add_column(level, &column, &mut sum);
            let mut found = Vec::new();
            sum.write(&mut found);
            prop_assert_eq!(&found, &expected, "{}", level.name());
        }
    }

    #[test]
    fn long_columns_of_products_add_up_as_their_terms(
        x in prop::collection::vec(-1.0..1.0f64, 48..1100),
        scales in (-600..500i32, -600..500i32),
        odd in prop::collection::vec((any::<prop::sample::Index>(), value()), 0..2),
    ) {
        let y: Vec<f64> = x.iter().rev().map(|y| y * power(scales.1)).collect();
        let mut x: Vec<f64> = x.iter().map(|x| x * power(scales.0)).collect();
        for (at, value) in odd {
            let at = at.index(x.len());
            x[at] = value;
        }
        let mut one: Exact<4> = Exact::default();
        x.iter().zip(&y).for_each(|(x, y)| { one.add(*x, *y); });
        let mut expected = Vec::new();
        one.write(&mut expected);
        for level in Level::available() {
            let mut sum = Exact::default();
            add_products(level, &x, &y, &mut sum);
            let mut found = Vec::new();
            sum.write(&mut found);
            prop_assert_eq!(&found, &expected, "{}", level.name());
        }
    }

    #[test]
    fn damaged_bytes_are_an_error_or_other_sums(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let mut sums = Fit::default();
        if sums.merge_bytes(&bytes).is_ok() {
            prop_assert!(sums.correlation().is_none_or(|r| r.is_nan() || r.is_finite()));
        }
        let mut written = Vec::new();
        sums.write(&mut written);
    }
}
