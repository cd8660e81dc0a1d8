"""Writes data/diabetes.parquet: the diabetes data of Efron et al. (2004) in their raw units.

    pip install scikit-learn==1.9.1 pyarrow && python make_data.py

The numbers come from the raw file in the scikit-learn wheel (not the scaled ones that `load_diabetes` gives
by default); a `patient` number, the row's place in that file from 1, is added.
"""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import sklearn.datasets

SOURCE = Path(sklearn.datasets.__file__).parent / "data"
TARGET = Path(__file__).parent / "data" / "diabetes.parquet"

# Names of the source in the order of its columns; s1 to s6 by what they measure.
COLUMNS = [
    ("age", pa.int32()),
    ("sex", pa.int32()),
    ("bmi", pa.float64()),
    ("blood_pressure", pa.float64()),
    ("total_cholesterol", pa.float64()),
    ("ldl", pa.float64()),
    ("hdl", pa.float64()),
    ("cholesterol_ratio", pa.float64()),
    ("log_triglycerides", pa.float64()),
    ("glucose", pa.float64()),
]


def numbers(name: str) -> list[list[float]]:
    with gzip.open(SOURCE / name, "rt") as file:
        return [[float(x) for x in line.split()] for line in file if line.strip()]


def main() -> None:
    rows = numbers("diabetes_data_raw.csv.gz")
    target = [row[0] for row in numbers("diabetes_target.csv.gz")]
    assert len(rows) == len(target) == 442, "the wheel's files have changed"
    columns = {"patient": pa.array(range(1, len(rows) + 1), pa.int32())}
    for i, (name, kind) in enumerate(COLUMNS):
        values = [row[i] for row in rows]
        columns[name] = pa.array([int(v) for v in values] if kind == pa.int32() else values, kind)
    columns["progression"] = pa.array(target, pa.float64())
    schema = pa.schema([pa.field(name, column.type, nullable=False) for name, column in columns.items()])
    TARGET.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns, schema=schema), TARGET, row_group_size=100, compression="snappy")


if __name__ == "__main__":
    main()
