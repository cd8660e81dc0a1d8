"""The job of higgs.yaml in scikit-learn, from Parquet to the test AUC; one JSON line on stdout.

    python peer_sklearn_higgs.py FOLDER
"""

import json
import sys

import numpy as np
import pyarrow.dataset as ds
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

L2 = 1e-6
TOLERANCE = 1e-6


def main() -> None:
    table = ds.dataset(sys.argv[1], format="parquet").to_table()
    names = [n for n in table.column_names if n.startswith("x")]
    y = table["label"].to_numpy()
    train = table["part"].combine_chunks().dictionary_encode()
    train = train.dictionary.to_pylist().index("train") == train.indices.to_numpy()
    x = np.empty((len(y), len(names)), dtype=np.float32)
    for j, name in enumerate(names):
        x[:, j] = table[name].to_numpy()
    del table
    scaler = StandardScaler().fit(x[train])
    scaled = scaler.transform(x[train])
    model = LogisticRegression(C=1 / (L2 * train.sum()), tol=TOLERANCE, max_iter=1000).fit(scaled, y[train])
    p = model.predict_proba(scaler.transform(x[~train]))[:, 1]
    raw = model.coef_[0] / scaler.scale_
    print(json.dumps({
        "auc": roc_auc_score(y[~train], p),
        "iterations": int(model.n_iter_[0]),
        "coefficients": dict(zip(names, map(float, raw))),
        "scale": dict(zip(names, map(float, scaler.scale_))),
    }))


if __name__ == "__main__":
    main()
