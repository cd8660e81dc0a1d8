"""What scikit-learn finds on the whole file with the same objective; see README.md.

    pip install scikit-learn==1.9.1 && python compare_sklearn.py
"""

import csv
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, average_precision_score, log_loss, roc_auc_score
from sklearn.preprocessing import StandardScaler

L2 = 0.001

with (Path(__file__).parent / "data" / "breast_cancer.csv").open(newline="") as file:
    rows = list(csv.DictReader(file))
names = [name for name in rows[0] if name not in ("id", "diagnosis")]
x = np.array([[float(row[name]) for name in names] for row in rows])
y = np.array([row["diagnosis"] == "malignant" for row in rows])

scaler = StandardScaler().fit(x)
# C = 1 / (l2 · n): here the loss is a sum, there it is a mean.
model = LogisticRegression(C=1 / (L2 * len(y)), solver="newton-cholesky", tol=1e-12, max_iter=1000)
model.fit(scaler.transform(x), y)
p = model.predict_proba(scaler.transform(x))[:, 1]
print(f"auc       {roc_auc_score(y, p):.6f}")
print(f"pr_auc    {average_precision_score(y, p):.6f}")
print(f"log_loss  {log_loss(y, p):.6f}")
print(f"accuracy  {accuracy_score(y, p > 0.5):.6f}")

# Back on the scale of the columns.
coefficients = model.coef_[0] / scaler.scale_
print(f"intercept {model.intercept_[0] - coefficients @ scaler.mean_:.6f}")
for name in ("mean_radius", "error_radius", "worst_texture", "worst_area", "worst_concave_points"):
    print(f"{name:22}{coefficients[names.index(name)]:.6g}")
