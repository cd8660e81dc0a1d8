#!/usr/bin/env bash
# Runs the 22 TPC-H queries on our cluster beside single-process DataFusion. Sets up its own data and Python below
# bench/tpch/.work.
#
#   bench/tpch/run.sh [SCALE] [ROUNDS]
#
# With SPARK=1 Spark SQL runs too, once (needs Java 17; its package is 300 MB); with SPARK=only nothing else runs. SHEAF is the
# program, TPCH the example `tpch` of the tests' crate (defaults: those of target/release, built if they are not there);
# PYTHON the one to make the environment with. ROUNDS 0 makes the data only.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
scale=${1:-1}
rounds=${2:-3}
work=$here/.work
target=${CARGO_TARGET_DIR:-$root/target}
if [ -z "${TPCH:-}" ]; then
  TPCH=$target/release/examples/tpch
  [ -x "$TPCH" ] || cargo build --release --manifest-path "$root/Cargo.toml" -p sheaf-tests --example tpch
fi
if [ -z "${SHEAF:-}" ]; then
  SHEAF=$target/release/sheaf
  [ -x "$SHEAF" ] || cargo build --release --manifest-path "$root/Cargo.toml" -p sheaf-client
fi
mkdir -p "$work"
if [ ! -x "$work/venv/bin/python" ]; then
  "${PYTHON:-python3}" -m venv "$work/venv"
fi
if [ -n "${SPARK:-}" ] && ! "$work/venv/bin/python" -c 'import pyspark' 2>/dev/null; then
  command -v java >/dev/null || { echo "java not found: install a JDK 17 for Spark" >&2; exit 1; }
  "$work/venv/bin/pip" install --quiet setuptools pyspark==3.5.5
fi
data=$work/data-$scale
if [ ! -d "$data" ]; then
  rm -rf "$data.part"
  "$TPCH" generate "$scale" "$data.part"
  mv "$data.part" "$data"
fi
"$TPCH" statements "$work/statements"
if [ "$rounds" = 0 ]; then
  exit 0
fi
exec "$work/venv/bin/python" "$here/compare.py" "$SHEAF" "$TPCH" "$data" "$work/statements" "$rounds"
