"""Invents rows of the shape of the HIGGS data: `label` (int8), `part` (train or test) and 28 float32.

    python make_higgs.py FOLDER [ROWS]

Eight Parquet files, row groups of 131,072 rows, snappy; every fifth row is a test row. The same rows for
the same number, whatever the machine.
"""

import pathlib
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FEATURES = 28
FILES = 8
GROUP = 131_072


def rows(random: np.random.Generator, count: int, first: int, weights: np.ndarray) -> pa.Table:
    x = random.standard_normal((count, FEATURES), dtype=np.float32)
    # The last seven are made of the others, as the high-level features of HIGGS are.
    x[:, 21:] = 0.52 * (x[:, :7] + x[:, 7:14] + x[:, 14:21]) + 0.43 * x[:, 21:]
    # A third of the columns is skewed, as energies are, and scales differ.
    x[:, ::3] = np.exp(x[:, ::3] * 0.5)
    x *= np.logspace(-1, 2, FEATURES, dtype=np.float32)
    z = (x / np.logspace(-1, 2, FEATURES)) @ weights + 0.4 * (x[:, 1] * x[:, 2] > 0) - 0.3
    label = (random.random(count) < 1 / (1 + np.exp(-z))).astype(np.int8)
    part = np.where((np.arange(first, first + count) % 5) == 4, "test", "train")
    columns = {"label": pa.array(label), "part": pa.array(part)}
    columns |= {f"x{j:02}": pa.array(x[:, j]) for j in range(FEATURES)}
    return pa.table(columns)


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    total = int(sys.argv[2]) if len(sys.argv) > 2 else 2_000_000
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(7)
    weights = random.normal(0, 0.25, FEATURES)
    for file in range(FILES):
        first, end = total * file // FILES, total * (file + 1) // FILES
        path = folder / f"part-{file}.parquet"
        with pq.ParquetWriter(path, rows(np.random.default_rng(0), 1, 0, weights).schema, compression="snappy",
                              use_dictionary=["part"]) as writer:
            for start in range(first, end, GROUP):
                count = min(GROUP, end - start)
                writer.write_table(rows(random, count, start, weights), row_group_size=GROUP)


if __name__ == "__main__":
    main()
