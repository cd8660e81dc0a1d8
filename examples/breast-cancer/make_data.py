"""Writes data/breast_cancer.csv: the Wisconsin Diagnostic Breast Cancer data with named columns.

    pip install scikit-learn==1.9.1 && python make_data.py

The numbers are taken as text from the file in the scikit-learn wheel, digit for digit; an `id` (the row's
number in that file, from 1) and the diagnosis in words are added.
"""

import csv
import re
from pathlib import Path

import sklearn.datasets

SOURCE = Path(sklearn.datasets.__file__).parent / "data" / "breast_cancer.csv"
TARGET = Path(__file__).parent / "data" / "breast_cancer.csv"


def column(name: str) -> str:
    """`mean fractal dimension` -> `mean_fractal_dimension`, `radius error` -> `error_radius`."""
    name = re.sub(r"^(.*) error$", r"error \1", name)
    return name.replace(" ", "_")


def main() -> None:
    names = [column(str(n)) for n in sklearn.datasets.load_breast_cancer().feature_names]
    with SOURCE.open(newline="") as file:
        rows = list(csv.reader(file))
    count, width, *classes = rows[0]
    rows = rows[1:]
    assert int(count) == len(rows) and int(width) == len(names) == 30, "the wheel's file has changed"
    TARGET.parent.mkdir(exist_ok=True)
    with TARGET.open("w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["id", "diagnosis", *names])
        for i, row in enumerate(rows, start=1):
            out.writerow([i, classes[int(row[-1])], *row[:-1]])


if __name__ == "__main__":
    main()
