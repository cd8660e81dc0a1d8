#!/usr/bin/env bash
# Measures the main job beside scikit-learn. Sets up its own Python and data below bench/logistic/.work.
#
#   bench/logistic/run.sh [ROWS] [ROUNDS] [-- MORE ARGUMENTS OF sheaf run]
#
# With SPARK=1 Spark MLlib runs too, once (needs Java 17; its package is 300 MB). SHEAF is the program (default: target/release/sheaf); PYTHON the one to make the environment with.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
rows=${1:-2000000}
rounds=${2:-3}
more=("${@:3}")
work=$here/.work
sheaf=${SHEAF:-$here/../../target/release/sheaf}
if [ ! -x "$work/venv/bin/python" ]; then
  "${PYTHON:-python3}" -m venv "$work/venv"
  "$work/venv/bin/pip" install --quiet scikit-learn==1.9.1 pyarrow numpy
fi
if [ -n "${SPARK:-}" ] && ! "$work/venv/bin/python" -c 'import pyspark' 2>/dev/null; then
  command -v java >/dev/null || { echo "java not found: install a JDK 17 for Spark" >&2; exit 1; }
  "$work/venv/bin/pip" install --quiet setuptools pyspark==3.5.5
fi
data=$work/higgs-$rows
if [ ! -d "$data" ]; then
  rm -rf "$data.part"
  "$work/venv/bin/python" "$here/make_higgs.py" "$data.part" "$rows"
  mv "$data.part" "$data"
fi
if [ "$rounds" = 0 ]; then
  exit 0
fi
exec "$work/venv/bin/python" "$here/compare.py" "$sheaf" "$data" "$rounds" "${more[@]}"
