"""The job of higgs.yaml in LightGBM or XGBoost, from Parquet to the test AUC; one JSON line on stdout.

    python peer_higgs.py lightgbm|xgboost FOLDER [THREADS]
"""

import json
import pathlib
import sys

import numpy as np

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from higgs import read  # noqa: E402

TREES, DEPTH, LEAVES, BINS, RATE, ROWS_OF_A_LEAF = 100, 8, 255, 255, 0.1, 20


def lightgbm(x, y, train, threads: int) -> np.ndarray:
    import lightgbm

    parameters = {"objective": "binary", "num_leaves": LEAVES, "max_depth": DEPTH, "learning_rate": RATE, "max_bin": BINS,
                  "min_data_in_leaf": ROWS_OF_A_LEAF, "num_threads": threads, "verbosity": -1}
    model = lightgbm.train(parameters, lightgbm.Dataset(x[train], y[train]), TREES)
    return model.predict(x[~train], num_threads=threads)


def xgboost(x, y, train, threads: int) -> np.ndarray:
    import xgboost

    parameters = {"objective": "binary:logistic", "max_leaves": LEAVES, "max_depth": DEPTH, "eta": RATE, "max_bin": BINS,
                  "tree_method": "hist", "nthread": threads, "lambda": 0.0, "verbosity": 0}
    model = xgboost.train(parameters, xgboost.QuantileDMatrix(x[train], y[train], max_bin=BINS, nthread=threads), TREES)
    return model.inplace_predict(x[~train])


def auc(y: np.ndarray, p: np.ndarray) -> float:
    _, at, counts = np.unique(p, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    positive = y == 1
    n1, n0 = positive.sum(), (~positive).sum()
    return float((ranks[at][positive].sum() - n1 * (n1 + 1) / 2) / (n1 * n0))


def main() -> None:
    _, x, y, train = read(sys.argv[2])
    threads = int(sys.argv[3]) if len(sys.argv) > 3 else 2
    p = {"lightgbm": lightgbm, "xgboost": xgboost}[sys.argv[1]](x, y, train, threads)
    print(json.dumps({"auc": auc(y[~train], p)}))


if __name__ == "__main__":
    main()
