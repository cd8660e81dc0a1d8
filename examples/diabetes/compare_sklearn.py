"""What scikit-learn finds on the whole file, without a penalty; see README.md.

    pip install scikit-learn==1.9.1 pyarrow && python compare_sklearn.py
"""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

table = pq.read_table(Path(__file__).parent / "data" / "diabetes.parquet")
names = [name for name in table.column_names if name not in ("patient", "sex", "progression")]
columns = {name: table[name].to_numpy().astype(float) for name in names}
columns["second_sex"] = (table["sex"].to_numpy() == 2).astype(float)
x = np.stack(list(columns.values()), axis=1)
y = table["progression"].to_numpy()

model = LinearRegression().fit(x, y)
p = model.predict(x)
print(f"rmse {root_mean_squared_error(y, p):.6f}")
print(f"mae  {mean_absolute_error(y, p):.6f}")
print(f"r2   {r2_score(y, p):.6f}")
print(f"{'intercept':20}{model.intercept_:.6f}")
for name, value in zip(columns, model.coef_):
    print(f"{name:20}{value:.6f}")
