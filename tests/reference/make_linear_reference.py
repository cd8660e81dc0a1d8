"""Writes tests/data/{breast_cancer,diabetes}.csv and tests/reference/linear.json.

    pip install scikit-learn
    python tests/reference/make_linear_reference.py

Objective: sum(w * loss) / sum(w) + l1 * |b|_1 + l2 / 2 * |b|_2^2, squared loss 1/2 (y - f)^2, the
intercept not penalised; with standardization the penalties see (x - mean) / sd (weighted, ddof 0).

Every case is solved twice: by scikit-learn at its tightest tolerance, and by a proximal Newton method
with coordinate descent in numpy, iterated until the optimality conditions hold to 1e-13. What is stored
is the second; `sklearn` names the estimator of the first and `difference` how far apart they are
(largest difference of a coefficient on the fitted scale, relative to the largest coefficient; at most
1e-8), null where scikit-learn has no solver that converges.
"""

import json
import pathlib
import platform
import sys

import numpy as np
import sklearn
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import ElasticNet, LinearRegression, LogisticRegression, Ridge

ROOT = pathlib.Path(__file__).resolve().parent.parent


def write_csv(name, data, columns, target):
    lines = [",".join([*columns, target])]
    lines += [",".join(repr(float(v)) for v in row) for row in np.column_stack([data.data, data.target])]
    (ROOT / "data" / f"{name}.csv").write_text("\n".join(lines) + "\n")


def solve(X, y, w, loss, l1, l2, intercept):
    """Proximal Newton: exact to rounding."""
    n, p = X.shape
    A = np.column_stack([np.ones(n), X]) if intercept else X
    first = int(intercept)
    k1 = np.r_[np.zeros(first), l1]
    k2 = np.r_[np.zeros(first), l2]
    w = w / w.sum()

    def evaluate(b):
        f = A @ b
        if loss == "squared":
            value, r, h = 0.5 * (f - y) ** 2, f - y, np.ones(n)
        else:
            s = np.where(y > 0.5, -f, f)
            q = np.where(s >= 0, 1 / (1 + np.exp(-np.abs(s))), np.exp(-np.abs(s)) / (1 + np.exp(-np.abs(s))))
            value, r, h = np.logaddexp(0, s), np.where(y > 0.5, -q, q), q * (1 - q)
        smooth = w @ value + 0.5 * k2 @ b**2
        return smooth, A.T @ (w * r) + k2 * b, (A.T * (w * h)) @ A + np.diag(k2)

    def violation(b, g):
        s = np.where(b != 0, g + k1 * np.sign(b), np.sign(g) * np.maximum(np.abs(g) - k1, 0))
        return np.abs(s).max()

    def objective(b):
        return evaluate(b)[0] + k1 @ np.abs(b)

    b = np.zeros(p + first)
    start = None
    for _ in range(200):
        value, g, H = evaluate(b)
        start = start or np.abs(g).max()
        if violation(b, g) <= 1e-13 * start:
            break
        z = inner(H, g, b, k1)
        step = 1.0
        while objective(b + step * (z - b)) > objective(b) + 1e-13 * abs(objective(b)) and step > 1e-10:
            step /= 2
        b = b + step * (z - b) if step < 1 else z
    return b, violation(b, evaluate(b)[1]) / start


def inner(H, g, b, k1):
    """Minimizes g'(z - b) + 1/2 (z - b)'H(z - b) + k1 |z| by coordinate descent, polished on the support."""
    z, s = b.copy(), g.copy()
    for _ in range(3000):
        old = z.copy()
        for j in range(len(z)):
            free = H[j, j] * z[j] - s[j]
            new = np.sign(free) * max(abs(free) - k1[j], 0) / H[j, j]
            if new != z[j]:
                s += H[:, j] * (new - z[j])
                z[j] = new
        on = (z != 0) | (k1 == 0)
        polished = z.copy()
        polished[on] -= np.linalg.solve(H[np.ix_(on, on)], (s + k1 * np.sign(z))[on])
        if np.all(np.sign(polished[on & (k1 > 0)]) == np.sign(z[on & (k1 > 0)])):
            slope = g + H @ (polished - b)
            if np.all(np.abs(slope[~on]) <= k1[~on]):
                return polished
        if np.abs(z - old).max() <= 1e-16 * np.abs(z).max():
            break
    return z


def reference(task, X, y, w, l1, l2, intercept):
    """The same by scikit-learn; returns (name, intercept and coefficients)."""
    n = w.sum()
    if task == "linear_regression":
        if l1 == 0 and l2 == 0:
            m = LinearRegression(fit_intercept=intercept)
        elif l1 == 0:
            m = Ridge(alpha=l2 * n, fit_intercept=intercept, solver="cholesky", tol=1e-15)
        else:
            alpha = l1 + l2
            m = ElasticNet(alpha=alpha, l1_ratio=l1 / alpha, fit_intercept=intercept, tol=1e-15, max_iter=10_000_000)
    else:
        total = l1 + l2
        if l1 == 0:
            m = LogisticRegression(C=1 / (l2 * n), fit_intercept=intercept, solver="newton-cholesky", tol=1e-14, max_iter=1000)
        else:
            m = LogisticRegression(C=1 / (total * n), l1_ratio=l1 / total, penalty="elasticnet", fit_intercept=intercept,
                                   solver="saga", tol=1e-13, max_iter=200_000, random_state=0)
    m.fit(X, y, sample_weight=w)
    start = np.ravel(m.intercept_) if intercept else []
    return type(m).__name__, np.r_[start, np.ravel(m.coef_)]


def case(task, data, name, weights=None, **params):
    X, y = data.data, data.target.astype(float)
    l1, l2 = params.get("l1", 0.0), params.get("l2", 0.0)
    intercept = params.get("fit_intercept", True)
    standard = params.get("standardization", True)
    w = np.ones(len(y)) if weights is None else 1.0 + np.arange(len(y)) % weights
    total = w.copy()
    classes = params.get("class_weight", "none")
    if classes == "balanced":
        classes = {str(c): total.sum() / (2 * total[y == c].sum()) for c in (0, 1)}
    if classes != "none":
        total *= np.where(y > 0.5, classes["1"], classes["0"])
    mean = np.average(X, axis=0, weights=total)
    sd = np.sqrt(np.average((X - mean) ** 2, axis=0, weights=total))
    # Solved on standardised columns in any case; without standardization the penalties are carried over.
    centre = mean if intercept else np.zeros_like(mean)
    T = (X - centre) / sd
    k = np.ones_like(sd) if standard else 1 / sd
    loss = "squared" if task == "linear_regression" else "logistic"
    b, violation = solve(T, y, total, loss, l1 * k, l2 * k * k, intercept)
    if l1 > 0 and loss == "logistic" and not standard:
        # saga does not get there on unscaled columns, liblinear penalises the intercept: no second opinion.
        estimator, theirs = None, None
    else:
        estimator, theirs = reference(task, T if standard else X, y, total, l1, l2, intercept)
    ours = b.copy()
    first = int(intercept)
    if not standard:
        ours[first:] /= sd
        if intercept:
            ours[0] -= ours[first:] @ centre
    difference = None if theirs is None else float(np.abs(ours - theirs)[first:].max() / np.abs(ours[first:]).max())
    coefficients = b[first:] / sd
    start = b[0] - coefficients @ centre if intercept else 0.0
    print(f"{task} {name} {params} weights={weights}: {estimator}, differ by {difference}, conditions {violation:.1e}")
    return {
        "algorithm": task, "data": f"tests/data/{name}.csv", "params": params,
        "weights": weights, "intercept": float(start), "coefficients": [float(c) for c in coefficients],
        "sklearn": estimator, "difference": difference, "violation": float(violation),
    }


def main():
    cancer = load_breast_cancer()
    columns = [c.replace(" ", "_") for c in cancer.feature_names]
    write_csv("breast_cancer", cancer, columns, "benign")
    diabetes = load_diabetes(scaled=False)
    write_csv("diabetes", diabetes, diabetes.feature_names, "progression")
    linear = lambda **k: case("linear_regression", diabetes, "diabetes", **k)
    logistic = lambda **k: case("logistic_regression", cancer, "breast_cancer", **k)
    cases = [
        linear(), linear(l2=0.1), linear(l1=0.5), linear(l1=2.0), linear(l1=0.3, l2=0.2),
        linear(l2=0.01, standardization=False), linear(l1=0.05, standardization=False),
        linear(l2=0.1, weights=5), linear(l1=1.0, weights=3), linear(l2=0.05, fit_intercept=False),
        logistic(l2=1 / 569), logistic(l2=1e-4), logistic(l2=0.01, standardization=False),
        logistic(l1=0.01), logistic(l1=0.001), logistic(l1=0.02, l2=0.01), logistic(l1=0.005, standardization=False),
        logistic(l2=0.01, class_weight="balanced"), logistic(l2=0.02, class_weight={"0": 1.0, "1": 3.5}, weights=4),
        logistic(l2=0.01, fit_intercept=False), logistic(l1=0.01, l2=0.001, weights=7),
    ]
    out = {
        "command": "python tests/reference/make_linear_reference.py",
        "versions": {"python": platform.python_version(), "numpy": np.__version__, "scikit-learn": sklearn.__version__},
        "weights": "null: all 1; k: row i has the weight 1 + i mod k",
        "cases": cases,
    }
    (ROOT / "reference" / "linear.json").write_text(json.dumps(out, indent=1) + "\n")
    worst = max(c["violation"] for c in cases)
    apart = max(c["difference"] or 0.0 for c in cases)
    sys.exit(f"conditions hold to {worst}, scikit-learn is {apart} apart" if worst > 1e-12 or apart > 1e-8 else 0)


if __name__ == "__main__":
    main()
