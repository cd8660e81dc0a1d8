"""Scores of scikit-learn's IsolationForest on generated data, beside which isolation forests here are held.

    pip install numpy scikit-learn==1.9.1
    python tests/reference/make_isolation_reference.py > tests/reference/isolation.json

The data are made again, number for number, by `learn/tests/isolation_golden.rs`: Knuth's MMIX generator, a draw is the
upper 32 bits over 2**32.
"""
import json

import numpy as np
import sklearn
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

from lcg import Lcg

ROWS = 4_000
FEATURES = 6
EVERY = 8


def data():
    """Two clouds of rows, and among fifty rows one from the box around them, which is the anomaly."""
    random = Lcg(77)
    x, anomaly = np.empty((ROWS, FEATURES)), np.zeros(ROWS)
    for i in range(ROWS):
        kind = random.draw()
        for j in range(FEATURES):
            bell = random.draw() + random.draw() + random.draw() - 1.5
            if kind < 0.02:
                x[i, j] = bell * 3.0 + 0.5
            elif kind < 0.4:
                x[i, j] = bell * 0.5 + 0.2 * j
            else:
                x[i, j] = bell + 1.5
        anomaly[i] = kind < 0.02
    return x.astype(np.float32), anomaly


def main():
    x, anomaly = data()
    model = IsolationForest(n_estimators=300, max_samples=256, random_state=0).fit(x)
    score = -model.score_samples(x)
    out = {
        "scikit_learn": sklearn.__version__,
        "auc": roc_auc_score(anomaly, score),
        "mean": float(score.mean()),
        "scores_of_every_eighth_row": [round(float(s), 6) for s in score[::EVERY]],
    }
    print(json.dumps(out))


main()
