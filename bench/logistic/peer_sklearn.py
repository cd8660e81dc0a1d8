"""The card-fraud job in scikit-learn: from Parquet to held-out metrics, one JSON line on stdout.

    pip install scikit-learn==1.9.1 pyarrow
    sheaf data generate card-fraud --rows 1000000 --seed 7 --out data
    python peer_sklearn.py data

Features, penalty and objective are those of examples/card-fraud/job.yaml; the rows that are held out are
other rows of the same number (20 % test, 10 % set aside), so metrics agree to sampling noise only.
"""

import json
import resource
import sys
import time

import numpy as np
import pyarrow.compute as pc
import pyarrow.dataset as ds
import scipy.sparse as sp
from sklearn.feature_extraction import FeatureHasher
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

L2 = 0.001
COLUMNS = [
    "at", "customer_age", "merchant_id", "category", "channel", "country", "amount", "distance_km",
    "minutes_since_last", "transactions_24h", "is_foreign", "device_score", "is_fraud",
]


def floats(column) -> np.ndarray:
    return column.cast("float64").to_numpy()


def numeric(table) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Columns to be standardised, and flags that stay as they are."""
    hour = pc.hour(table["at"]).to_numpy().astype(float)
    day = pc.day_of_week(table["at"]).to_numpy().astype(float)
    columns = {
        "customer_age": floats(table["customer_age"]),
        "transactions_24h": floats(table["transactions_24h"]),
        "device_score": floats(table["device_score"]),
        "hour": hour,
        "log_amount": np.log(1 + floats(table["amount"])),
        "log_distance": np.log(1 + floats(table["distance_km"])),
        "log_minutes": np.log(1 + floats(table["minutes_since_last"])),
        "at_day_of_week": day,
        "at_is_weekend": (day >= 5).astype(float),
    }
    flags = {"is_foreign": floats(table["is_foreign"].cast("int8")), "night": (hour < 6).astype(float)}
    return columns, flags


def impute(columns: dict[str, np.ndarray], train: np.ndarray) -> dict[str, np.ndarray]:
    filled = dict(columns)
    for name in ("customer_age", "device_score", "log_distance", "log_minutes"):
        missing = np.isnan(columns[name])
        filled[name] = np.where(missing, np.nanmedian(columns[name][train]), columns[name])
        filled[f"{name}_missing"] = missing.astype(float)
    return filled


def design(table, train: np.ndarray) -> sp.csr_matrix:
    columns, flags = numeric(table)
    dense = np.stack(list(impute(columns, train).values()), axis=1)
    mean, deviation = dense[train].mean(axis=0), dense[train].std(axis=0)
    dense = (dense - mean) / np.where(deviation > 0, deviation, 1)
    blocks = [sp.csr_matrix(dense), sp.csr_matrix(np.stack(list(flags.values()), axis=1))]
    for name in ("category", "channel", "country"):
        values = table[name].combine_chunks().dictionary_encode()
        codes = values.indices.to_numpy()
        blocks.append(sp.csr_matrix((np.ones(len(codes)), (np.arange(len(codes)), codes))))
    hasher = FeatureHasher(n_features=256, input_type="string")
    blocks.append(hasher.transform([f"merchant_id={m}"] for m in table["merchant_id"].to_pylist()))
    x = sp.hstack(blocks, format="csr")
    # Standardised for the penalty as the job does: scaled, not centred, so that it stays sparse; the
    # intercept, which is not penalised, takes up the difference.
    square = np.asarray(x[train].multiply(x[train]).mean(axis=0)).ravel()
    mean = np.asarray(x[train].mean(axis=0)).ravel()
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    return sp.csr_matrix(x @ sp.diags(1 / np.where(deviation > 0, deviation, 1)))


def main() -> None:
    start = time.perf_counter()
    table = ds.dataset(sys.argv[1], format="parquet").to_table(columns=COLUMNS)
    y = table["is_fraud"].combine_chunks().to_numpy(zero_copy_only=False).astype(bool)
    draw = np.random.default_rng(7).random(len(y))
    train, test = draw >= 0.3, draw < 0.2
    x = design(table, train)
    ready = time.perf_counter()
    model = LogisticRegression(C=1 / (L2 * train.sum()), max_iter=1000).fit(x[train], y[train])
    p = model.predict_proba(x[test])[:, 1]
    end = time.perf_counter()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({
        "system": "scikit-learn", "rows": len(y), "features": x.shape[1],
        "auc": round(roc_auc_score(y[test], p), 5), "pr_auc": round(average_precision_score(y[test], p), 5),
        "log_loss": round(log_loss(y[test], p), 6), "iterations": int(model.n_iter_[0]),
        "seconds": round(end - start, 2), "seconds_train": round(end - ready, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2), "peak_mib": round(usage.ru_maxrss / 1024),
    }))


if __name__ == "__main__":
    main()
