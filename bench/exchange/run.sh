#!/usr/bin/env bash
# Measures what canonical shards cost beyond the query that makes their rows, over the data of bench/tpch/run.sh.
#
#   bench/exchange/run.sh [SCALE] [ROUNDS]
#
# SHEAF, TPCH and PYTHON as in bench/tpch/run.sh.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
scale=${1:-1}
target=${CARGO_TARGET_DIR:-$here/../../target}
"$here/../tpch/run.sh" "$scale" 0
work=$here/../tpch/.work
exec "$work/venv/bin/python" "$here/measure.py" "${SHEAF:-$target/release/sheaf}" "${TPCH:-$target/release/examples/tpch}" \
  "$work/data-$scale" "${2:-3}"
