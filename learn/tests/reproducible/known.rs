//! Values from elsewhere: `math.fsum` of Python, the certified values of NIST's Statistical Reference Datasets, exact
//! rational arithmetic (Python's `fractions`) rounded once.

use sheaf_learn::kernels::Level;
use sheaf_learn::reproducible::{Fit, Spread, Sums, Total};

use super::of;

fn column(values: impl IntoIterator<Item = f64>) -> Vec<[f64; 1]> {
    values.into_iter().map(|x| [x]).collect()
}

fn sum(values: &[f64]) -> f64 {
    of::<1, Total>(&column(values.iter().copied())).sum().unwrap()
}

#[test]
fn sums_that_cancel_are_those_of_fsum() {
    let inverse_squares: Vec<f64> = (1..=1000).map(|k| 1.0 / f64::from(k * k)).collect();
    let roots: Vec<f64> = (1..=2000).map(|k| f64::from(k).sqrt() * if k % 2 == 0 { 1.0 } else { -1.0 }).collect();
    let cases: [(&[f64], f64); 9] = [
        (&[1e100, 1.0, -1e100], 1.0),
        (&[0.1; 10], 1.0),
        (&[1e16, 1.0, 1e-16], 1.000_000_000_000_000_2e16),
        (&[9_007_199_254_740_992.0, 1.0, 8.673617379884035e-19], 9_007_199_254_740_994.0),
        (&[0.1, 0.2, 0.3, -0.6], 2.775_557_561_562_891_4e-17),
        (&[5e-324; 3], 1.5e-323),
        (&inverse_squares, f64::from_bits(0x3ffa_4d8e_550a_9466)),
        (&roots, f64::from_bits(0x4035_fbbe_23b1_1714)),
        // Where `fsum` gives up: the exact sum of terms whose partial sums overflow.
        (&[1e308, 1e308, -1e308], 1e308),
    ];
    for (values, expected) in cases {
        assert_eq!(sum(values).to_bits(), expected.to_bits(), "{expected:e}");
    }
}

#[test]
fn what_is_not_finite_decides_and_can_be_taken_away() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    assert_eq!(sum(&[1.0, inf, 2.0]), inf);
    assert_eq!(sum(&[-inf, -inf, 1e308]), -inf);
    for undefined in [&[inf, -inf, 1.0][..], &[nan], &[-nan, 1.0], &[inf, nan]] {
        assert_eq!(sum(undefined).to_bits(), nan.to_bits(), "{undefined:?}");
    }
    assert_eq!(sum(&[f64::MAX, f64::MAX]), inf);
    assert_eq!(sum(&[-0.0, -0.0]).to_bits(), 0.0f64.to_bits(), "a sum that is zero is +0");
    assert_eq!(sum(&[1.5, -1.5]).to_bits(), 0.0f64.to_bits());

    let mut sums: Spread = of(&column([1.0, inf, 3.0, nan, -inf]));
    assert!(sums.variance(false).unwrap().is_nan());
    for x in [nan, inf, -inf] {
        sums.retract([x]);
    }
    assert_eq!((sums.variance(false), sums.deviation(true)), (Some(1.0), Some(std::f64::consts::SQRT_2)));
    assert_eq!((sums.count(), Total::default().sum(), Spread::default().variance(false)), (2, None, None));
    let one: Spread = of(&column([7.0]));
    assert_eq!((one.variance(false), one.variance(true), one.squares()), (Some(0.0), None, Some(0.0)));
}

/// NumAcc3 and NumAcc4 of NIST: 1001 numbers around a large mean, of certified mean 1000000.2 (10000000.2) and
/// standard deviation 0.1. The bits are those of the f64 nearest to the exact results for the given f64.
#[test]
fn univariate_references_of_nist() {
    let cases = [(1e6, 1_000_000.2, 0.010_000_000_006_984_92), (1e7, 10_000_000.2, 0.010_000_000_111_758_71)];
    for (base, mean, variance) in cases {
        let pairs = (0..500).flat_map(|_| [base + 0.1, base + 0.3]);
        let rows = column(std::iter::once(base + 0.2).chain(pairs));
        let (total, spread): (Total, Spread) = (of(&rows), of(&rows));
        assert_eq!((total.mean(), spread.variance(true)), (Some(mean), Some(variance)));
        assert!((spread.deviation(true).unwrap() - 0.1).abs() < 1e-9);
    }
}

/// Norris of NIST: certified slope 1.00211681802045, intercept −0.262323073774029, R² 0.999993745883712.
#[test]
fn linear_references_of_nist() {
    let y = [
        0.1, 338.8, 118.1, 888.0, 9.2, 228.1, 668.5, 998.5, 449.1, 778.9, 559.2, 0.3, 0.1, 778.1, 668.8, 339.3, 448.9, 10.8,
        557.7, 228.3, 998.0, 888.8, 119.6, 0.3, 0.6, 557.6, 339.3, 888.0, 998.5, 778.9, 10.2, 117.6, 228.9, 668.4, 449.2, 0.2,
    ];
    let x = [
        0.2, 337.4, 118.2, 884.6, 10.1, 226.5, 666.3, 996.3, 448.6, 777.0, 558.2, 0.4, 0.6, 775.5, 666.9, 338.0, 447.5, 11.6,
        556.0, 228.1, 995.8, 887.6, 120.2, 0.3, 0.3, 556.8, 339.1, 887.2, 999.0, 779.0, 11.1, 118.3, 229.2, 669.1, 448.9, 0.5,
    ];
    let mut fit = Fit::default();
    fit.add_columns(Level::detect(), [&y, &x]);
    let (slope, intercept, r2) = (fit.slope().unwrap(), fit.intercept().unwrap(), fit.determination().unwrap());
    assert!((slope - 1.002_116_818_020_45).abs() < 1e-14 && (intercept + 0.262_323_073_774_029).abs() < 1e-13);
    assert!((r2 - 0.999_993_745_883_712).abs() < 1e-15);
    assert_eq!([slope, intercept, r2], [1.0021168180204545, -0.26232307377402675, 0.9999937458837117]);
    let r = fit.correlation().unwrap();
    assert!((r - r2.sqrt()).abs() <= f64::EPSILON);
}

#[test]
fn a_line_through_its_points_is_exact() {
    let rows: Vec<[f64; 2]> = (0..1000).map(|i| f64::from(i) * 0.1).map(|x| [3.0 * x, x]).collect();
    let down: Vec<[f64; 2]> = rows.iter().map(|[_, x]| [-*x, *x]).collect();
    let fit: Fit = of(&down);
    assert_eq!((fit.slope(), fit.intercept(), fit.correlation()), (Some(-1.0), Some(-0.0), Some(-1.0)));
    assert_eq!(of::<2, Fit>(&rows).determination(), Some(1.0));
    let level: Fit = of(&[[2.0, 1.0], [2.0, 5.0]]);
    assert_eq!((level.slope(), level.correlation(), level.determination()), (Some(0.0), None, None));
    let upright: Fit = of(&[[2.0, 1.0], [5.0, 1.0]]);
    assert_eq!((upright.slope(), upright.intercept(), upright.correlation()), (None, None, None));
    let odd: Fit = of(&[[f64::NAN, f64::NAN]]);
    assert!(odd.correlation().unwrap().is_nan() && odd.slope().is_none());
    let half: Fit = of(&[[1.0, f64::NAN], [2.0, 3.0]]);
    assert!(half.correlation().is_none() && half.slope().unwrap().is_nan());
}
