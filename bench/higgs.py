"""The rows of logistic/make_higgs.py in memory, as all comparisons here read them."""

import numpy as np
import pyarrow.dataset as ds


def read(folder: str) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """Names of the features, features (rows x columns, float32), labels, and which rows are for training."""
    table = ds.dataset(folder, format="parquet").to_table()
    names = [n for n in table.column_names if n.startswith("x")]
    y = table["label"].to_numpy()
    parts = table["part"].combine_chunks().dictionary_encode()
    train = parts.dictionary.to_pylist().index("train") == parts.indices.to_numpy()
    x = np.empty((len(y), len(names)), dtype=np.float32)
    for j, name in enumerate(names):
        x[:, j] = table[name].to_numpy()
    return names, x, y, train
