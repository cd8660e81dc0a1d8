"""Test metrics of LightGBM on generated data, which boosted trees here must reach at equal parameters.

    pip install lightgbm==4.7.0 numpy scikit-learn==1.9.1
    python tests/reference/make_trees_reference.py > tests/reference/trees.json

The data are made again, number for number, by `learn/tests/trees_golden.rs`: Knuth's MMIX generator, a draw is the
upper 32 bits over 2**32.
"""
import json

import lightgbm as lgb
import numpy as np
from sklearn.metrics import mean_poisson_deviance, roc_auc_score

from lcg import Lcg

ROWS = 16_000
NUMERIC = 8
LEVELS = 24


def data():
    """Eight numbers (the third rounded to tenths, the fourth missing now and then) and a category a row."""
    random = Lcg(2024)
    x = np.empty((ROWS, NUMERIC + 1))
    score, noise = np.empty(ROWS), np.empty(ROWS)
    for i in range(ROWS):
        u = [random.draw() for _ in range(NUMERIC)]
        c = int(random.draw() * LEVELS)
        noise[i] = random.draw() + random.draw() + random.draw() - 1.5
        u[2] = int(u[2] * 10.0) / 10.0
        s = 2.0 * u[0] * u[1] + (u[2] - 0.5) * (u[2] - 0.5) * 4.0 + 0.8 * u[3] - u[4] * u[5] + 0.5 * (c % 5) * u[6]
        if u[7] < 0.15:
            s += 0.7
            u[3] = float("nan")
        score[i] = s
        x[i, :NUMERIC], x[i, NUMERIC] = u, c
    x[:, :NUMERIC] = x[:, :NUMERIC].astype(np.float32)
    return x, score, noise


def main():
    x, score, noise = data()
    train = np.arange(ROWS) % 4 != 0
    number = score + noise
    binary = (score + 1.5 * noise > 1.6).astype(float)
    # Five classes: of the target's value, the ends open.
    classes = np.clip(np.floor(number * 1.2), 0.0, 4.0)
    count = np.floor(score * score * 0.5 * (1.0 + noise * 0.5))
    count = np.maximum(count, 0.0)
    common = dict(learning_rate=0.1, min_data_in_leaf=20, max_bin=255, verbosity=-1, num_threads=1, deterministic=True,
                  force_row_wise=True, seed=1)
    leafwise = dict(num_leaves=31)
    depthwise = dict(num_leaves=64, max_depth=6)

    def fit(target, objective, categories, **more):
        columns = list(range(NUMERIC + 1)) if categories else list(range(NUMERIC))
        d = lgb.Dataset(x[train][:, columns], target[train], categorical_feature=[NUMERIC] if categories else [],
                        free_raw_data=False)
        model = lgb.train(dict(common, objective=objective, **more), d, 100)
        return model.predict(x[~train][:, columns])

    out = {"lightgbm": lgb.__version__}
    out["binary_leaf_wise_auc"] = roc_auc_score(binary[~train], fit(binary, "binary", False, **leafwise))
    out["binary_depth_wise_auc"] = roc_auc_score(binary[~train], fit(binary, "binary", False, **depthwise))
    out["binary_category_auc"] = roc_auc_score(binary[~train], fit(binary, "binary", True, **leafwise))
    for name, more in (("multiclass", leafwise), ("multiclass_depth_wise", depthwise)):
        p = fit(classes, "multiclass", False, num_class=5, **more)
        own = p[np.arange(len(p)), classes[~train].astype(int)]
        out[name + "_log_loss"] = float(-np.log(own).mean())
        out[name + "_accuracy"] = float((p.argmax(axis=1) == classes[~train]).mean())
    rmse = lambda p: float(np.sqrt(np.mean((p - number[~train]) ** 2)))
    out["squared_error_rmse"] = rmse(fit(number, "regression", False, **leafwise))
    out["squared_error_category_rmse"] = rmse(fit(number, "regression", True, **leafwise))
    out["huber_rmse"] = rmse(fit(number, "huber", False, alpha=0.9, **leafwise))
    mae = lambda y, p: float(np.mean(np.abs(y[~train] - p)))
    # These move by 0.3 % with the bins alone: means over some numbers of bins.
    over_bins = lambda of: float(np.mean([of(dict(leafwise, max_bin=bins)) for bins in (255, 245, 235, 225)]))
    out["absolute_mae"] = over_bins(lambda more: mae(number, fit(number, "regression_l1", False, **more)))
    out["absolute_category_mae"] = over_bins(lambda more: mae(number, fit(number, "regression_l1", True, **more)))
    wild = np.where(np.arange(ROWS) % 37 == 0, 1000.0 * number, number)
    out["absolute_wild_mae"] = over_bins(lambda more: mae(wild, fit(wild, "regression_l1", False, **more)))
    # Which trees are dropped is drawn: the mean of ten seeds. LightGBM would drop the mean with the first tree.
    mean = number[train].mean()
    plain = dict(boosting="dart", boost_from_average=False, **leafwise)
    dart = lambda seed: rmse(mean + fit(number - mean, "regression", False, drop_seed=seed, **plain))
    out["dart_rmse"] = float(np.mean([dart(seed) for seed in range(10)]))
    out["poisson_deviance"] = mean_poisson_deviance(count[~train], fit(count, "poisson", False, **leafwise))
    out["tweedie_deviance"] = mean_poisson_deviance(count[~train], fit(count, "tweedie", False, **leafwise))

    def pinball(q, more):
        d = number[~train] - fit(number, "quantile", False, alpha=q, **more)
        return float(np.mean(np.where(d > 0, q * d, (q - 1) * d)))

    out["quantile_pinball"] = over_bins(lambda more: pinball(0.8, more))
    out["quantile_low_pinball"] = over_bins(lambda more: pinball(0.1, more))
    print(json.dumps(out, indent=2))


main()
