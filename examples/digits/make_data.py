"""Writes data/digits.parquet: handwritten digits as 8 × 8 images, see README.md.

    pip install scikit-learn==1.9.1 pyarrow && python make_data.py

The numbers come from the file in the scikit-learn wheel; an `image` number, the row's place in that file from 1, is
added.
"""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import sklearn.datasets

SOURCE = Path(sklearn.datasets.__file__).parent / "data" / "digits.csv.gz"
TARGET = Path(__file__).parent / "data" / "digits.parquet"


def main() -> None:
    with gzip.open(SOURCE, "rt") as file:
        rows = [[int(float(x)) for x in line.split(",")] for line in file if line.strip()]
    assert len(rows) == 1797 and all(len(row) == 65 for row in rows), "the wheel's file has changed"
    columns = {"image": pa.array(range(1, len(rows) + 1), pa.int32())}
    for pixel in range(64):
        name = f"pixel_{pixel // 8}_{pixel % 8}"
        columns[name] = pa.array([row[pixel] for row in rows], pa.uint8())
    columns["digit"] = pa.array([row[64] for row in rows], pa.int32())
    schema = pa.schema([pa.field(name, column.type, nullable=False) for name, column in columns.items()])
    TARGET.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns, schema=schema), TARGET, row_group_size=300, compression="zstd")


if __name__ == "__main__":
    main()
