"""How well scikit-learn's boosted trees do with the job's parameters, over splits of the same sizes; see README.md.

    pip install scikit-learn==1.9.1 pyarrow && python compare_sklearn.py
"""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score
from sklearn.model_selection import train_test_split

SPLITS = 10

table = pq.read_table(Path(__file__).parent / "data" / "digits.parquet")
names = [name for name in table.column_names if name.startswith("pixel_")]
x = np.stack([table[name].to_numpy() for name in names], axis=1).astype(float)
y = table["digit"].to_numpy()

found = []
for seed in range(SPLITS):
    rest_x, test_x, rest_y, test_y = train_test_split(x, y, test_size=0.25, random_state=seed)
    train_x, stop_x, train_y, stop_y = train_test_split(rest_x, rest_y, test_size=0.2, random_state=seed)
    model = HistGradientBoostingClassifier(
        max_iter=100,
        learning_rate=0.15,
        max_leaf_nodes=8,
        min_samples_leaf=5,
        early_stopping=True,
        n_iter_no_change=10,
        random_state=seed,
    )
    model.fit(train_x, train_y, X_val=stop_x, y_val=stop_y)
    p = model.predict_proba(test_x)
    label = p.argmax(axis=1)
    found.append(
        (
            accuracy_score(test_y, label),
            f1_score(test_y, label, average="macro"),
            log_loss(test_y, y_proba=p),
            roc_auc_score(test_y, p, multi_class="ovr"),
        )
    )
for name, values in zip(["accuracy", "f1_macro", "log_loss", "auc_ovr"], zip(*found)):
    print(f"{name:9} mean {np.mean(values):.4f}  least {min(values):.4f}  most {max(values):.4f}")
