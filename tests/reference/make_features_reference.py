"""Reference values for the feature steps, from scikit-learn and pandas.

python3 -m venv venv && venv/bin/pip install scikit-learn pandas
venv/bin/python tests/reference/make_features_reference.py > tests/reference/features.json
"""

import json
import platform

import numpy
import pandas
import sklearn
from sklearn.feature_extraction import FeatureHasher
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler

ROWS = 301


def lcg(seed):
    """Knuth's MMIX generator; its top 53 bits as a number in [0, 1)."""
    state = seed
    while True:
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        yield (state >> 11) / 2**53


draw = lcg(20261)
amount = numpy.array([numpy.round(-numpy.log(1 - next(draw)) * 250 - 40, 2) for _ in range(ROWS)])
small = numpy.array([next(draw) * 1e-6 + 5 for _ in range(ROWS)])
gaps = numpy.array([numpy.nan if next(draw) < 0.2 else numpy.round(next(draw) * 9, 1) for _ in range(ROWS)])
count = numpy.array([int(next(draw) * 7) - 2 for _ in range(ROWS)])
city = [None if u < 0.1 else ["Oslo", "oslo", "Zürich", "a b", "", "東京", "Bern"][int(u * 6.99)] for u in (next(draw) for _ in range(ROWS))]
flag = [next(draw) < 0.4 for _ in range(ROWS)]
stamps = [int((next(draw) - 0.4) * 2**62) for _ in range(ROWS)]
days = [int((next(draw) - 0.3) * 60000) for _ in range(ROWS)]


def column(values):
    return values.reshape(-1, 1)


def nullable(values):
    return [None if isinstance(v, float) and numpy.isnan(v) else v for v in values]


standard = {}
minmax = {}
for name, values in [("amount", amount), ("small", small), ("gaps", gaps), ("count", count.astype(float))]:
    scaler = StandardScaler().fit(column(values))
    standard[name] = {"mean": float(scaler.mean_[0]), "scale": float(scaler.scale_[0]), "out": nullable(scaler.transform(column(values))[:, 0].tolist())}
    scaler = MinMaxScaler().fit(column(values))
    minmax[name] = {"min": float(scaler.data_min_[0]), "range": float(scaler.data_range_[0]), "out": nullable(scaler.transform(column(values))[:, 0].tolist())}

impute = {
    "gaps": {s: float(SimpleImputer(strategy=s).fit(column(gaps)).statistics_[0]) for s in ["mean", "median", "most_frequent"]},
    "city": {"most_frequent": SimpleImputer(strategy="most_frequent", missing_values=None).fit(numpy.array(city, dtype=object).reshape(-1, 1)).statistics_[0]},
}

one_hot = {}
for name, values in [("city", [v for v in city if v is not None]), ("count", [str(v) for v in count]), ("flag", ["true" if v else "false" for v in flag])]:
    encoder = OneHotEncoder(sparse_output=False).fit(numpy.array(values, dtype=object).reshape(-1, 1))
    one_hot[name] = list(encoder.categories_[0])

hasher = FeatureHasher(n_features=64, input_type="dict")
dicts = [{k: str(v) for k, v in [("city", c), ("count", n)] if v is not None} for c, n in zip(city, count)]
matrix = hasher.transform(dicts).tocsr()
matrix.sum_duplicates()
matrix.eliminate_zeros()
matrix.sort_indices()
hashed = [[[int(i), float(v)] for i, v in zip(matrix.indices[a:b], matrix.data[a:b])] for a, b in zip(matrix.indptr, matrix.indptr[1:])]


def parts(index):
    return {
        "year": index.year.tolist(),
        "month": index.month.tolist(),
        "day": index.day.tolist(),
        "hour": index.hour.tolist(),
        "minute": index.minute.tolist(),
        "day_of_week": index.day_of_week.tolist(),
        "day_of_year": index.day_of_year.tolist(),
        "is_weekend": [int(d >= 5) for d in index.day_of_week],
    }


times = parts(pandas.DatetimeIndex(pandas.to_datetime(stamps, unit="ns", utc=True)))
dates = parts(pandas.DatetimeIndex(pandas.to_datetime(days, unit="D")))

print(json.dumps({
    "command": "python tests/reference/make_features_reference.py",
    "versions": {"python": platform.python_version(), "numpy": numpy.__version__, "pandas": pandas.__version__, "scikit-learn": sklearn.__version__},
    "input": {
        "amount": amount.tolist(), "small": small.tolist(), "gaps": nullable(gaps.tolist()), "count": count.tolist(),
        "city": city, "flag": flag, "stamp_ns": stamps, "day": days,
    },
    "standardize": standard,
    "min_max": minmax,
    "impute": impute,
    "one_hot": one_hot,
    "hash": {"size": 64, "columns": ["city", "count"], "rows": hashed},
    "timestamp_parts": times,
    "date_parts": dates,
}))
