"""The job of higgs.yaml in scikit-learn, from Parquet to the test AUC; one JSON line on stdout.

    python peer_sklearn_higgs.py FOLDER
"""

import json
import pathlib
import sys

from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from higgs import read  # noqa: E402

L2 = 1e-6
TOLERANCE = 1e-6


def main() -> None:
    names, x, y, train = read(sys.argv[1])
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
