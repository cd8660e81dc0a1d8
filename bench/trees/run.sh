#!/usr/bin/env bash
# Measures boosted trees beside LightGBM and XGBoost, over the rows of bench/logistic. Sets up its own Python below
# bench/trees/.work.
#
#   bench/trees/run.sh [ROWS] [ROUNDS]
#
# SHEAF is the program (default: target/release/sheaf); DATA a folder of rows that is there; PYTHON the one to make the environment with.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
rows=${1:-2000000}
work=$here/.work
if [ ! -x "$work/venv/bin/python" ]; then
  "${PYTHON:-python3}" -m venv "$work/venv"
  "$work/venv/bin/pip" install --quiet lightgbm==4.7.0 xgboost-cpu==3.2.0 pyarrow numpy
fi
if [ -z "${DATA:-}" ]; then
  "$here/../logistic/run.sh" "$rows" 0
  DATA=$here/../logistic/.work/higgs-$rows
fi
exec "$work/venv/bin/python" "$here/compare.py" "${SHEAF:-$here/../../target/release/sheaf}" "$DATA" "${2:-3}"
