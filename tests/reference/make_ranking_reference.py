"""Metrics of rankings by scikit-learn, and NDCG@10 of LightGBM's rankers on generated queries, which boosted trees here
must reach at equal parameters.

    pip install lightgbm==4.7.0 numpy scikit-learn==1.9.1
    python tests/reference/make_ranking_reference.py > tests/reference/ranking.json

The data are made again, number for number, by `learn/tests/ranking_golden.rs`: Knuth's MMIX generator, a draw is the
upper 32 bits over 2**32.
"""
import json

import lightgbm as lgb
import numpy as np
from sklearn.metrics import label_ranking_average_precision_score, ndcg_score

from lcg import Lcg

QUERIES = 800
NUMERIC = 8


def queries():
    """Five to sixty rows a query, eight numbers a row, labels 0 to 4; the first two numbers have a scale of the query."""
    random = Lcg(4242)
    x, label, query = [], [], []
    for q in range(QUERIES):
        n = 5 + int(random.draw() * 56)
        scale = 0.5 + 2.0 * random.draw()
        for _ in range(n):
            u = [random.draw() for _ in range(NUMERIC)]
            noise = random.draw() + random.draw() + random.draw() - 1.5
            u[2] = int(u[2] * 10.0) / 10.0
            s = 2.0 * u[0] * u[1] + 0.8 * u[2] - u[3] * u[4] + 0.6 * u[5] + 0.6 * noise
            label.append(sum(s >= edge for edge in (0.9, 1.4, 1.9, 2.4)))
            x.append([scale * u[0], scale * u[1]] + u[2:])
            query.append(q)
    return np.array(x).astype(np.float32).astype(float), np.array(label), np.array(query)


def mean_ndcg(label, score, query, k, weight=None):
    values, weights = [], []
    for q in np.unique(query):
        rows = query == q
        gains = 2.0 ** label[rows] - 1.0
        found = gains.max() == 0.0 or rows.sum() == 1
        values.append(1.0 if found else ndcg_score([gains], [score[rows]], k=k))
        weights.append(1.0 if weight is None else weight[rows].mean())
    return float(np.average(values, weights=weights))


def mean_average_precision(label, score, query):
    values = []
    for q in np.unique(query):
        rows = query == q
        relevant = label[rows] > 0
        values.append(label_ranking_average_precision_score([relevant], [score[rows]]) if relevant.any() else 1.0)
    return float(np.mean(values))


def metrics():
    """A hundred queries of 1 to 30 rows with scores that are all different."""
    random = Lcg(77)
    label, score, query, weight = [], [], [], []
    for q in range(100):
        n = 1 + int(random.draw() * 30)
        w = (1 + int(random.draw() * 8)) / 4.0
        for _ in range(n):
            grade = int(random.draw() * 7.0) - 2
            label.append(max(grade, 0))
            score.append(random.draw() + 0.1 * grade)
            query.append(q)
            weight.append(w)
    label, score, query, weight = map(np.array, (label, score, query, weight))
    out = {f"ndcg@{k}": mean_ndcg(label, score, query, k) for k in (1, 3, 5, 10)}
    out["ndcg"] = mean_ndcg(label, score, query, None)
    out["map"] = mean_average_precision(label, score, query)
    out["weighted ndcg@5"] = mean_ndcg(label, score, query, 5, weight)
    return out


def rankers():
    """NDCG@10 over all queries, each scored by the model of the other three quarters."""
    x, label, query = queries()
    common = dict(objective="lambdarank", learning_rate=0.1, num_leaves=31, min_data_in_leaf=20, max_bin=255, verbosity=-1,
                  num_threads=1, deterministic=True, force_row_wise=True, seed=1, label_gain=[2**i - 1 for i in range(31)])
    row_weight = 1.0 + (np.arange(len(label)) % 3)

    def score(weight=None, **more):
        out = np.zeros(len(label))
        for fold in range(4):
            train = query % 4 != fold
            sizes = [int((query == q).sum()) for q in range(QUERIES) if q % 4 != fold]
            data = lgb.Dataset(x[train], label[train], group=sizes, weight=None if weight is None else weight[train])
            out[~train] = lgb.train(dict(common, **more), data, 60).predict(x[~train])
        return mean_ndcg(label, out, query, 10)

    return {
        "lightgbm": lgb.__version__,
        "lambdarank_ndcg@10": score(),
        "lambdarank_plain_ndcg@10": score(lambdarank_truncation_level=10, lambdarank_norm=False, sigmoid=2.0),
        "lambdarank_weighted_ndcg@10": score(row_weight),
    }


print(json.dumps({"metrics": metrics(), "rankers": rankers()}, indent=2))
