"""Quality of boosted trees at equal parameters: `sheaf run`, LightGBM and XGBoost on the sets of quality_sets.py. Each set
is judged on rows that no model has seen (where a set has five folds: on all rows, each by the models of the other folds);
where it names several numbers of bins, by the mean over them. A table on stderr, JSON on stdout; ends with 1 where ours is
worse than a peer by more than 0.001 AUC or 0.5 %.

    python quality.py SHEAF [--only NAME]... [--scale SHARE]
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from quality_sets import Set, all_sets  # noqa: E402

TREES, RATE, LEAVES, ROWS_OF_A_LEAF, LEAF_WEIGHT, L2 = 100, 0.1, 31, 20, 1.0, 1.0
# Metric of a task, and whether more is better.
METRIC = {"binary": ("auc", True), "regression": ("rmse", False), "poisson": ("rmse", False), "multiclass": ("log_loss", False),
          "ranking": ("ndcg@10", True)}
OBJECTIVE = {"binary": "binary", "regression": "squared_error", "poisson": "poisson", "multiclass": "multiclass",
             "ranking": "lambdarank"}


def groups(query: np.ndarray) -> np.ndarray:
    """Rows of each query; those of one stand side by side."""
    return np.diff(np.flatnonzero(np.concatenate(([True], query[1:] != query[:-1], [True]))))


def matrix(data: Set) -> np.ndarray:
    return np.column_stack([column.astype(np.float64) for column in data.columns.values()])


def lightgbm(data: Set, bins: int, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    import lightgbm

    objective = {"regression": "regression"}.get(data.task, OBJECTIVE[data.task])
    parameters = {"objective": objective, "num_leaves": LEAVES, "learning_rate": RATE, "max_bin": bins,
                  "min_data_in_leaf": ROWS_OF_A_LEAF, "min_sum_hessian_in_leaf": LEAF_WEIGHT, "lambda_l2": L2, "num_threads": 1,
                  "verbosity": -1, "seed": 7}
    if data.task == "multiclass":
        parameters["num_class"] = int(data.target.max()) + 1
    x, names = matrix(data), list(data.columns)
    categories = [names.index(name) for name in data.categories]
    group = groups(data.query[train]) if data.task == "ranking" else None
    rows = lightgbm.Dataset(x[train], data.target[train], group=group, categorical_feature=categories)
    return lightgbm.train(parameters, rows, TREES).predict(x[test], num_threads=1)


def xgboost(data: Set, bins: int, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    import xgboost

    objective = {"binary": "binary:logistic", "regression": "reg:squarederror", "poisson": "count:poisson",
                 "multiclass": "multi:softprob", "ranking": "rank:ndcg"}[data.task]
    parameters = {"objective": objective, "max_leaves": LEAVES, "max_depth": 0, "grow_policy": "lossguide", "eta": RATE,
                  "max_bin": bins, "tree_method": "hist", "nthread": 1, "lambda": L2, "min_child_weight": LEAF_WEIGHT,
                  "verbosity": 0, "seed": 7}
    if data.task == "multiclass":
        parameters["num_class"] = int(data.target.max()) + 1
    x = matrix(data)
    kinds = ["c" if name in data.categories else "float" for name in data.columns]
    coded = [kind == "c" for kind in kinds]
    x[:, coded] = np.where(x[:, coded] < 0, np.nan, x[:, coded])

    def rows(which: np.ndarray, labels: bool):
        made = xgboost.DMatrix(x[which], data.target[which] if labels else None, feature_types=kinds, enable_categorical=True)
        if labels and data.task == "ranking":
            made.set_group(groups(data.query[which]))
        return made

    return xgboost.train(parameters, rows(train, True), TREES).predict(rows(test, False))


def write_table(data: Set, fold: int, path: pathlib.Path) -> None:
    columns = {"row": np.arange(len(data.target)), **data.columns, "target": data.target,
               "part": np.where(data.fold == fold, "test", "train")}
    if data.query is not None:
        columns["query"] = data.query
    missing = {name: data.columns[name] < 0 for name in data.categories}
    arrays = {name: pa.array(values, mask=missing.get(name)) for name, values in columns.items()}
    pq.write_table(pa.table(arrays), path)


def job(data: Set, bins: int, folder: pathlib.Path) -> dict:
    columns = {"target": "target", "key": "row"}
    if data.categories:
        columns["categorical"] = data.categories
    if data.query is not None:
        columns["query"] = "query"
    train = {"algorithm": "gradient_boosting", "objective": OBJECTIVE[data.task], "trees": TREES, "learning_rate": RATE,
             "growth": "leaf_wise", "max_leaves": LEAVES, "max_bins": bins, "min_samples_leaf": ROWS_OF_A_LEAF,
             "min_child_weight": LEAF_WEIGHT, "l2": L2}
    return {"version": 1, "name": "quality", "seed": 7, "tables": {"rows": "rows.parquet"}, "columns": columns,
            "split": {"by": "column", "column": "part"}, "train": train,
            "predict": {"tables": {"rows": "test.parquet"}, "to": str(folder / "scored")}}


def sheaf(program: str, data: Set, bins: int, fold: int) -> np.ndarray:
    """Predictions of the fold's rows, in their order."""
    with tempfile.TemporaryDirectory(prefix="sheaf-quality-") as name:
        folder = pathlib.Path(name)
        write_table(data, fold, folder / "rows.parquet")
        table = pq.read_table(folder / "rows.parquet")
        pq.write_table(table.filter(pa.array(data.fold == fold)), folder / "test.parquet")
        (folder / "job.yaml").write_text(json.dumps(job(data, bins, folder)))
        run = subprocess.run([program, "run", str(folder / "job.yaml"), "--store", str(folder / "store"), "--workers", "2", "-o", "json",
                              "--quiet"], capture_output=True, text=True)
        if run.returncode:
            sys.exit(f"{data.name}: {run.stderr[-2000:]}")
        scored = pq.read_table(folder / "scored").sort_by("row")
        if data.task == "multiclass":
            classes = sorted(set(data.target.tolist()))
            return np.column_stack([scored[f"probability_{c}"].to_numpy() for c in classes])
        return scored["probability" if data.task == "binary" else "prediction"].to_numpy()


def ndcg(grade: np.ndarray, score: np.ndarray, query: np.ndarray, at: int = 10) -> float:
    """Mean over queries; gains 2^grade - 1; a query without a relevant row counts 1, as LightGBM has it."""
    found, start = [], 0
    for size in groups(query):
        g, s = grade[start:start + size], score[start:start + size]
        start += size
        discount = 1 / np.log2(np.arange(2, min(at, size) + 2))
        gain = 2.0 ** g - 1
        best = (np.sort(gain)[::-1][:at] * discount).sum()
        found.append(1.0 if best == 0 else (gain[np.argsort(-s, kind="stable")][:at] * discount).sum() / best)
    return float(np.mean(found))


def judge(data: Set, rows: np.ndarray, p: np.ndarray) -> float:
    from sklearn.metrics import log_loss, roc_auc_score

    y = data.target[rows]
    if data.task == "binary":
        return float(roc_auc_score(y, p))
    if data.task == "multiclass":
        p = np.clip(p, 1e-15, 1)
        return float(log_loss(y, p / p.sum(axis=1, keepdims=True)))
    if data.task == "ranking":
        return ndcg(y, p, data.query[rows])
    return float(np.sqrt(np.mean((y - p) ** 2)))


def judged(data: Set, predict) -> float:
    """The metric over all folds of what `predict(fold, train, test)` gives for each."""
    rows, predictions = [], []
    for fold in data.folds:
        test = np.flatnonzero(data.fold == fold)
        predictions.append(predict(fold, np.flatnonzero(data.fold != fold), test))
        rows.append(test)
    return judge(data, np.concatenate(rows), np.concatenate(predictions))


def compare(program: str, data: Set) -> dict:
    who = {"sheaf": lambda bins, fold, train, test: sheaf(program, data, bins, fold),
           "lightgbm": lambda bins, _, train, test: lightgbm(data, bins, train, test),
           "xgboost": lambda bins, _, train, test: xgboost(data, bins, train, test)}
    metric, more = METRIC[data.task]
    found = {"set": data.name, "rows": len(data.target), "metric": metric}
    for name, predict in who.items():
        found[name] = float(np.mean([judged(data, lambda *fold: predict(bins, *fold)) for bins in data.bins]))
    best = (max if more else min)(found["lightgbm"], found["xgboost"])
    lost = (best - found["sheaf"]) * (1 if more else -1)
    found["holds"] = bool(lost <= (0.001 if metric == "auc" else 0.005 * abs(best)))
    return found


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("sheaf")
    arguments.add_argument("--only", action="append")
    arguments.add_argument("--scale", type=float, default=1.0)
    given = arguments.parse_args()
    results = []
    with tempfile.TemporaryDirectory(prefix="sheaf-quality-") as folder:
        for name, make in all_sets(given.sheaf, f"{folder}/card-fraud", given.scale):
            if given.only and name not in given.only:
                continue
            found = compare(given.sheaf, make())
            results.append(found)
            figures = "".join(f"{found[who]:12.5f}" for who in ("sheaf", "lightgbm", "xgboost"))
            print(f"{name:16}{found['rows']:>9} {found['metric']:10}{figures}  {'holds' if found['holds'] else 'WORSE'}",
                  file=sys.stderr, flush=True)
    print(json.dumps(results, indent=2))
    sys.exit(0 if all(found["holds"] for found in results) else 1)


if __name__ == "__main__":
    main()
