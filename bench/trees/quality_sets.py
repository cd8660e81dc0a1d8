"""The tables of quality.py: generated ones and those that come with scikit-learn. Every set has numbers, codes of
categories as whole numbers, a target, and for each row the fold whose models it tests."""

import subprocess
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds


@dataclass
class Set:
    """Rows x columns; `fold` is the fold that a row tests: those with one fold keep their other rows for training. Metrics
    are means over models with these numbers of bins."""

    name: str
    task: str
    columns: dict[str, np.ndarray]
    target: np.ndarray
    fold: np.ndarray
    categories: list[str] = field(default_factory=list)
    query: np.ndarray | None = None
    bins: tuple[int, ...] = (255,)

    @property
    def folds(self) -> list[int]:
        return sorted(set(self.fold[self.fold >= 0].tolist()))


def one_fold(rng: np.random.Generator, rows: int, share: float = 0.2) -> np.ndarray:
    return np.where(rng.random(rows) < share, 0, -1)


def higgs(rows: int) -> Set:
    """Physics-like: five informative directions of 28, products and thresholds among them."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(rows, 28)).astype(np.float32)
    x[:, 7:14] = np.abs(x[:, 7:14]) ** 1.5
    x[:, 14] = np.hypot(x[:, 0], x[:, 1])
    x[:, 15] = x[:, 2] * x[:, 3]
    score = 0.8 * x[:, 0] * x[:, 2] - 0.7 * (x[:, 14] > 1.3) + 0.5 * x[:, 8] - 0.4 * x[:, 5] ** 2 + 0.3 * x[:, 15] - 0.2
    y = (rng.random(rows) < 1 / (1 + np.exp(-score))).astype(np.int64)
    # Each program alone moves by 0.001 to 0.003 AUC with the number of bins.
    return Set("higgs-like", "binary", {f"x{j}": x[:, j] for j in range(28)}, y, rng.permutation(rows) % 5, bins=(255, 250, 245, 240))


def card_fraud(rows: int, sheaf: str, folder: str) -> Set:
    """The demo's transactions: text as codes, hour and weekday of the time."""
    subprocess.run([sheaf, "data", "generate", "card-fraud", "--rows", str(rows), "--seed", "7", "--out", folder],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    table = ds.dataset(folder, format="parquet").to_table()
    columns, categories = {}, []
    for name in table.column_names:
        column = table[name].combine_chunks()
        if name in ("transaction_id", "card_id", "is_fraud"):
            continue
        if pa.types.is_timestamp(column.type):
            columns["hour"] = pc.hour(column).to_numpy(zero_copy_only=False).astype(np.float64)
            columns["weekday"] = pc.day_of_week(column).to_numpy(zero_copy_only=False).astype(np.float64)
        elif pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or name == "merchant_id":
            codes = column.dictionary_encode().indices
            columns[name] = pc.fill_null(codes, -1).to_numpy(zero_copy_only=False).astype(np.int64)
            categories.append(name)
        else:
            columns[name] = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    y = table["is_fraud"].combine_chunks().cast(pa.int64()).to_numpy(zero_copy_only=False)
    # Few rows are fraud: all of them are judged.
    return Set("card-fraud", "binary", columns, y, np.random.default_rng(2).permutation(len(y)) % 5, categories)


def click_log(rows: int) -> Set:
    """Advertisements: ten columns of 1,000 categories whose effects add up, five counts."""
    rng = np.random.default_rng(3)
    columns, score = {}, np.full(rows, -2.2)
    for j in range(10):
        code = np.minimum(rng.zipf(1.25, rows) - 1, 999) if j < 5 else rng.integers(0, 1000, rows)
        effect = rng.normal(size=1000) * (0.5 if j % 2 else 0.25)
        columns[f"c{j}"] = code.astype(np.int64)
        score += effect[code]
    for j in range(5):
        count = rng.poisson(3.0 + j, rows).astype(np.float64)
        score += 0.1 * np.log1p(count) * (-1) ** j
        columns[f"n{j}"] = np.where(rng.random(rows) < 0.1, np.nan, count)
    y = (rng.random(rows) < 1 / (1 + np.exp(-score))).astype(np.int64)
    return Set("click-log", "binary", columns, y, one_fold(rng, rows), [f"c{j}" for j in range(10)])


def multiclass(rows: int) -> Set:
    from sklearn.datasets import make_classification

    x, y = make_classification(rows, 20, n_informative=10, n_redundant=4, n_classes=6, n_clusters_per_class=3, flip_y=0.05,
                               class_sep=0.9, random_state=4)
    columns = {f"x{j}": x[:, j].astype(np.float32) for j in range(20)}
    return Set("six classes", "multiclass", columns, y.astype(np.int64), one_fold(np.random.default_rng(4), rows))


def counts(rows: int) -> Set:
    """Claims a year: counts with an exposure-like column."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(rows, 10))
    y = rng.poisson(np.exp(-1.5 + 0.5 * x[:, 0] + 0.3 * (x[:, 1] > 0.5) * x[:, 2] - 0.2 * np.abs(x[:, 3])))
    return Set("claims", "poisson", {f"x{j}": x[:, j].astype(np.float32) for j in range(10)}, y.astype(np.int64), one_fold(rng, rows))


def ranking(queries: int) -> Set:
    """Searches: 5 to 40 documents each, grades 0 to 4 by a noisy score within the query."""
    rng = np.random.default_rng(6)
    sizes = rng.integers(5, 41, queries)
    query = np.repeat(np.arange(queries), sizes)
    x = rng.normal(size=(len(query), 20)).astype(np.float32)
    x[:, 10:] += rng.normal(size=(queries, 10)).astype(np.float32)[query]
    score = x[:, 0] + 0.7 * x[:, 1] * (x[:, 10] > 0) + 0.5 * np.sin(2 * x[:, 2]) + 0.3 * x[:, 3] + rng.normal(size=len(query)) * 0.8
    grade = np.digitize(score, [-0.2, 0.8, 1.6, 2.4]).astype(np.int64)
    fold = one_fold(rng, queries)[query]
    return Set("searches", "ranking", {f"x{j}": x[:, j] for j in range(20)}, grade, fold, query=query.astype(np.int64))


def bundled(name: str, task: str) -> Set:
    """A set of scikit-learn, tested in five folds."""
    from sklearn import datasets

    data = getattr(datasets, f"load_{name}")()
    rng = np.random.default_rng(7)
    columns = {f"x{j}": data.data[:, j].astype(np.float32) for j in range(data.data.shape[1])}
    target = data.target.astype(np.float64 if task == "regression" else np.int64)
    return Set(name, task, columns, target, rng.permutation(len(target)) % 5)


def all_sets(sheaf: str, folder: str, scale: float) -> list:
    """Functions that make the sets, by name."""
    rows = lambda n: int(n * scale)  # noqa: E731
    return [
        ("higgs-like", lambda: higgs(rows(200_000))),
        ("card-fraud", lambda: card_fraud(rows(200_000), sheaf, folder)),
        ("click-log", lambda: click_log(rows(200_000))),
        ("claims", lambda: counts(rows(100_000))),
        ("six classes", lambda: multiclass(rows(100_000))),
        ("searches", lambda: ranking(rows(4_000))),
        ("breast_cancer", lambda: bundled("breast_cancer", "binary")),
        ("diabetes", lambda: bundled("diabetes", "regression")),
        ("wine", lambda: bundled("wine", "multiclass")),
        ("digits", lambda: bundled("digits", "multiclass")),
        ("iris", lambda: bundled("iris", "multiclass")),
    ]
