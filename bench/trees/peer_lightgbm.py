"""CPU time of LightGBM on one thread over the rows that `trees_speed` wrote, beside what that example prints of ours.

    python peer_lightgbm.py FILE COLUMNS TREES DEPTH
"""

import sys
import time

import lightgbm
import numpy as np

VARIANTS = {
    "row-wise": {"force_row_wise": True},
    "quantised": {"force_row_wise": True, "use_quantized_grad": True, "num_grad_quant_bins": 64},
}


def timed(work) -> tuple[float, object]:
    """Milliseconds of CPU time that it took, and what it gave."""
    began = time.process_time()
    value = work()
    return (time.process_time() - began) * 1e3, value


def measure(name: str, x: np.ndarray, y: np.ndarray, trees: int, depth: int) -> str:
    parameters = {"objective": "binary", "num_leaves": 2**depth, "max_depth": depth, "learning_rate": 0.1, "min_data_in_leaf": 20,
                  "max_bin": 255, "num_threads": 1, "verbosity": -1, **VARIANTS[name]}
    bins_ms, data = timed(lambda: lightgbm.Dataset(x, y, params=parameters).construct())
    model = lightgbm.Booster(parameters, data)
    tree_ms = [timed(model.update)[0] for _ in range(trees)]
    model.predict(x[:200_000], num_threads=1)
    predict_ms, p = timed(lambda: model.predict(x, num_threads=1))
    # Row by row in one thread, as the predictions; a few rows are enough to time it.
    explain_ms, _ = timed(lambda: model.predict(x[:4_096], num_threads=1, pred_contrib=True))
    loss = -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
    return (f"lightgbm {lightgbm.__version__} {name}: bins {bins_ms:.0f} ms, tree min {min(tree_ms):.1f} mean {np.mean(tree_ms):.1f} ms, "
            f"predict {len(y) / predict_ms / 1e3:.2f} M rows/s, contributions {4_096 / explain_ms:.2f} k rows/s, loss {loss}")


def main() -> None:
    path, columns, trees, depth = sys.argv[1], *map(int, sys.argv[2:])
    rows = np.fromfile(path, dtype=np.float32).reshape(-1, columns + 1)
    x, y = np.ascontiguousarray(rows[:, :columns]), rows[:, columns].astype(np.float64)
    for name in VARIANTS:
        print(measure(name, x, y, trees, depth))


if __name__ == "__main__":
    main()
