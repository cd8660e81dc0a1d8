"""Boosted trees on rows of other shapes than higgs.yaml's: `sheaf run` with one worker of two threads and with two
workers, beside LightGBM with two threads, in turn. `wide`: 200,000 x 500 floats; `categories`: 1,000,000 rows of ten
columns with 1,000 categories each. CPU seconds and peak PSS of all processes, test AUC, MB that workers sent while
they trained. A table on stderr, JSON on stdout; ends with 1 if the models of one and two workers differ.

    python shapes.py SHEAF [--only wide|categories] [--scale SHARE]
"""

import argparse
import json
import pathlib
import sys
import tempfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "logistic"))
from compare import measure  # noqa: E402

THREADS, TREES, RATE, LEAVES, BINS, ROWS_OF_A_LEAF = 2, 100, 0.1, 63, 255, 20


def wide(rows: int) -> tuple[dict, np.ndarray]:
    rng = np.random.default_rng(11)
    x = rng.standard_normal((rows, 500), dtype=np.float32)
    score = x[:, :20] @ rng.standard_normal(20) * 0.4 + x[:, 20] * x[:, 21] + np.sin(2 * x[:, 22]) - 0.3
    return {f"x{j}": x[:, j] for j in range(500)}, rng.random(rows) < 1 / (1 + np.exp(-score))


def categories(rows: int) -> tuple[dict, np.ndarray]:
    rng = np.random.default_rng(12)
    share = 1 / np.arange(1, 1_001) ** 0.6
    codes = rng.choice(1_000, size=(rows, 10), p=share / share.sum())
    score = sum(rng.standard_normal(1_000)[codes[:, j]] for j in range(10)) * 0.35 - 0.5
    return {f"c{j}": codes[:, j].astype(np.int32) for j in range(10)}, rng.random(rows) < 1 / (1 + np.exp(-score))


def write(folder: pathlib.Path, columns: dict, y: np.ndarray) -> None:
    part = np.where(np.random.default_rng(13).random(len(y)) < 0.2, "test", "train")
    table = pa.table({**columns, "y": y.astype(np.int64), "part": pa.array(part)})
    pq.write_table(table, folder / "rows.parquet", row_group_size=1 << 16)


def job(name: str, columns: dict) -> dict:
    names = {"categorical": list(columns)} if name == "categories" else {}
    return {"version": 1, "name": f"trees-{name}", "seed": 7, "tables": {"rows": "rows.parquet"},
            "columns": {"target": "y", **names}, "split": {"by": "column", "column": "part"},
            "train": {"algorithm": "gradient_boosting", "objective": "binary", "trees": TREES, "learning_rate": RATE,
                      "growth": "leaf_wise", "max_leaves": LEAVES, "max_bins": BINS, "min_samples_leaf": ROWS_OF_A_LEAF},
            "evaluate": {"metrics": ["auc"], "segments": ["test"]}}


def ours(program: str, folder: pathlib.Path, workers: int) -> dict:
    with tempfile.TemporaryDirectory() as store:
        run = measure([program, "run", str(folder / "job.json"), "--store", store, "--workers", str(workers), "--threads",
                       str(THREADS // workers), "-o", "json", "--quiet"])
    result = run["result"]
    train = next(work for work in result["work"] if work["phase"] == "train")
    return {**run, "auc": result["metrics"]["test"]["auc"], "model": result["model"]["sha256"], "sent_mb": train["bytes_sent"] / 1e6}


def peer(folder: pathlib.Path) -> dict:
    run = measure([sys.executable, str(pathlib.Path(__file__).resolve()), "lightgbm", "--peer", str(folder)])
    return {**run, "auc": run["result"]["auc"], "sent_mb": 0.0}


def lightgbm(folder: str) -> None:
    import lightgbm
    from peer_higgs import auc

    table = pq.read_table(pathlib.Path(folder) / "rows.parquet")
    names = [name for name in table.column_names if name not in ("y", "part")]
    x = np.stack([table[name].to_numpy().astype(np.float32) for name in names], 1)
    y, train = table["y"].to_numpy(), np.asarray(table["part"]) == "train"
    parameters = {"objective": "binary", "num_leaves": LEAVES, "learning_rate": RATE, "max_bin": BINS,
                  "min_data_in_leaf": ROWS_OF_A_LEAF, "num_threads": THREADS, "verbosity": -1}
    kinds = list(range(len(names))) if names[0].startswith("c") else []
    model = lightgbm.train(parameters, lightgbm.Dataset(x[train], y[train], categorical_feature=kinds), TREES)
    print(json.dumps({"auc": auc(y[~train], model.predict(x[~train], num_threads=THREADS))}))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--only", choices=["wide", "categories"])
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--peer")
    given = parser.parse_args()
    if given.peer:
        return lightgbm(given.peer)
    found = {}
    for name, make, rows in (("wide", wide, 200_000), ("categories", categories, 1_000_000)):
        if given.only in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                folder = pathlib.Path(folder)
                columns, y = make(int(rows * given.scale))
                write(folder, columns, y)
                (folder / "job.json").write_text(json.dumps(job(name, columns)))
                del columns
                found[name] = {"one worker": ours(given.program, folder, 1), "two workers": ours(given.program, folder, 2),
                               "lightgbm": peer(folder)}
    for name, runs in found.items():
        for who, run in runs.items():
            print(f"{name:11}{who:12}" + "".join(f"{key} {run[key]:9.4g}  " for key in ("cpu_s", "wall_s", "pss_mib", "auc", "sent_mb")),
                  file=sys.stderr)
        print(f"{name:11}cpu_of_lightgbm {runs['one worker']['cpu_s'] / runs['lightgbm']['cpu_s']:.2f}", file=sys.stderr)
    slim = {name: {who: {key: run[key] for key in run if key in ("cpu_s", "wall_s", "pss_mib", "auc", "model", "sent_mb")}
                   for who, run in runs.items()} for name, runs in found.items()}
    print(json.dumps(slim, indent=2))
    if any(runs["one worker"]["model"] != runs["two workers"]["model"] for runs in found.values()):
        sys.exit("models differ")


if __name__ == "__main__":
    main()
