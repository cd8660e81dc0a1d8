"""Writes metrics.json: scikit-learn's metrics of generated scores, with ties and weights.

    python -m venv venv && venv/bin/pip install scikit-learn==1.9.1 numpy==2.4.6
    venv/bin/python tests/reference/make_metrics_reference.py tests/reference/metrics.json

Inputs are not stored: reader and writer make them with the same generator (Knuth's MMIX: x <- a x + c mod 2^64, a
draw is the upper 32 bits). Every number that it makes is a ratio of small integers, so both sides hold the same bits.
"""

import json
import platform
import sys

import numpy as np
import sklearn
from sklearn import metrics as m

from lcg import Lcg


# name, seed, rows, distinct scores - 1, one positive in, weights: none, fractions, fractions and zeros
BINARY = [
    ("ties", 1, 500, 20, 3, "none"),
    ("ties_weighted", 2, 500, 20, 3, "fractions"),
    ("fine", 3, 3000, 1_000_003, 4, "none"),
    ("fine_weighted", 4, 3000, 1_000_003, 4, "fractions"),
    ("rare_zero_weights", 5, 2000, 997, 50, "zeros"),
    ("extreme_scores", 6, 400, 1, 2, "fractions"),
    ("large", 7, 20000, 10_007, 10, "zeros"),
]
# name, seed, rows, classes, distinct parts of a row's probabilities, weights
MULTICLASS = [
    ("three_classes_ties", 21, 800, 3, 4, "none"),
    ("five_classes", 22, 2500, 5, 1_000, "fractions"),
    ("twenty_classes", 23, 3000, 20, 30, "zeros"),
]
REGRESSION = [
    ("plain", 11, 2000, 1.0, "none"),
    ("weighted", 12, 2000, 1.0, "fractions"),
    ("offset", 13, 1500, 1e6, "zeros"),
]


def weight(random, kind):
    """One draw per row, also where it is not used."""
    draw = random.below(16)
    return {"none": 1.0, "fractions": (draw + 1) / 8, "zeros": max(draw - 3, 0) / 7}[kind]


def binary(seed, rows, steps, one_in, weights):
    """Per row: score step, class (more likely with the score), weight."""
    random = Lcg(seed)
    scores, target, w = [], [], []
    for _ in range(rows):
        step = random.below(steps + 1)
        chance = random.below(one_in * steps)
        scores.append(step / steps)
        target.append(1.0 if chance < step else 0.0)
        w.append(weight(random, weights))
    return np.array(scores), np.array(target), np.array(w)


def regression(seed, rows, offset, weights):
    """Per row: target, error, weight."""
    random = Lcg(seed)
    scores, target, w = [], [], []
    for _ in range(rows):
        y = random.below(1_000_000) / 1000 + offset
        error = (random.below(100_001) - 50_000) / 300
        target.append(y)
        scores.append(y + error)
        w.append(weight(random, weights))
    return np.array(scores), np.array(target), np.array(w)


def multiclass(seed, rows, classes, steps, weights):
    """Per row: a part of each class, whose shares are its probabilities; a class, as likely as they say; a weight."""
    random = Lcg(seed)
    scores, target, w = [], [], []
    for _ in range(rows):
        parts = [random.below(steps) + 1 for _ in range(classes)]
        draw = random.below(sum(parts))
        scores.append([part / sum(parts) for part in parts])
        target.append(next(k for k in range(classes) if draw < sum(parts[: k + 1])))
        w.append(weight(random, weights))
    return np.array(scores), np.array(target), np.array(w)


def binary_metrics(s, y, w):
    label = (s >= 0.5).astype(float)
    k = {"sample_weight": w}
    return {
        "auc": m.roc_auc_score(y, s, **k),
        "pr_auc": m.average_precision_score(y, s, **k),
        "log_loss": m.log_loss(y, y_proba=s, **k),
        "brier": m.brier_score_loss(y, s, **k),
        "accuracy": m.accuracy_score(y, label, **k),
        "precision": m.precision_score(y, label, **k),
        "recall": m.recall_score(y, label, **k),
        "f1": m.f1_score(y, label, **k),
    }


def multiclass_metrics(s, y, w):
    label = s.argmax(axis=1)
    k = {"sample_weight": w}
    return {
        "accuracy": m.accuracy_score(y, label, **k),
        "balanced_accuracy": m.balanced_accuracy_score(y, label, **k),
        "log_loss": m.log_loss(y, y_proba=s, **k),
        "f1_macro": m.f1_score(y, label, average="macro", **k),
        "f1_micro": m.f1_score(y, label, average="micro", **k),
        "f1_weighted": m.f1_score(y, label, average="weighted", **k),
        "precision_macro": m.precision_score(y, label, average="macro", **k),
        "precision_weighted": m.precision_score(y, label, average="weighted", **k),
        "recall_macro": m.recall_score(y, label, average="macro", **k),
        "recall_weighted": m.recall_score(y, label, average="weighted", **k),
        "auc_ovr": m.roc_auc_score(y, s, multi_class="ovr", average="macro", **k),
        "auc_ovr_weighted": m.roc_auc_score(y, s, multi_class="ovr", average="weighted", **k),
    }


def regression_metrics(s, y, w):
    k = {"sample_weight": w}
    return {
        "rmse": m.root_mean_squared_error(y, s, **k),
        "mae": m.mean_absolute_error(y, s, **k),
        "r2": m.r2_score(y, s, **k),
        "mse": m.mean_squared_error(y, s, **k),
    }


def main(path):
    versions = {"python": platform.python_version(), "scikit-learn": sklearn.__version__, "numpy": np.__version__}
    command = "python tests/reference/make_metrics_reference.py tests/reference/metrics.json"
    cases = []
    for name, seed, rows, steps, one_in, weights in BINARY:
        inputs = {"seed": seed, "rows": rows, "steps": steps, "one_in": one_in, "weights": weights}
        s, y, w = binary(**inputs)
        values = {k: float(v) for k, v in binary_metrics(s, y, w).items()}
        cases.append({"name": name, "task": "binary", **inputs, "positives": int(y.sum()), "metrics": values})
    for name, seed, rows, offset, weights in REGRESSION:
        inputs = {"seed": seed, "rows": rows, "offset": offset, "weights": weights}
        s, y, w = regression(**inputs)
        values = {k: float(v) for k, v in regression_metrics(s, y, w).items()}
        cases.append({"name": name, "task": "regression", **inputs, "metrics": values})
    for name, seed, rows, classes, steps, weights in MULTICLASS:
        inputs = {"seed": seed, "rows": rows, "classes": classes, "steps": steps, "weights": weights}
        s, y, w = multiclass(**inputs)
        values = {k: float(v) for k, v in multiclass_metrics(s, y, w).items()}
        inputs["class_rows"] = np.bincount(y, minlength=classes).tolist()
        inputs["confusion"] = m.confusion_matrix(y, s.argmax(axis=1), sample_weight=w)[0].astype(float).tolist()
        cases.append({"name": name, "task": "multiclass", **inputs, "metrics": values})
    with open(path, "w", encoding="utf-8") as out:
        json.dump({"command": command, "versions": versions, "cases": cases}, out, indent=1)
        out.write("\n")


if __name__ == "__main__":
    main(sys.argv[1])
