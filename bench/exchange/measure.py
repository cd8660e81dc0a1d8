"""What it costs that prepared rows are canonical shards. The same join is computed twice by each program: once only
counted, and once with its rows kept: by DataFusion as it comes, by our cluster exchanged by our hash, sorted and written
as shards. What keeping costs beyond counting is compared. A table on stderr, JSON on stdout.

    python measure.py SHEAF TPCH DATA [ROUNDS]

DATA holds TPC-H tables, as bench/tpch/run.sh makes them; SHEAF is the program, TPCH the example `tpch` of the tests' crate.
"""

import json
import pathlib
import statistics
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tpch"))
from measuring import THREADS, WORKERS, Cluster, measure  # noqa: E402

ROWS = """
SELECT l_orderkey * 8 + l_linenumber AS line, o_custkey, o_totalprice, o_orderpriority, l_quantity, l_extendedprice,
  l_discount, l_tax, l_shipdate, l_shipmode
FROM lineitem JOIN orders ON l_orderkey = o_orderkey
"""
# Reads every column, so that the join has to carry all of them.
COUNTED = f"""
SELECT count(*), sum(line), sum(o_custkey), sum(o_totalprice), max(o_orderpriority), sum(l_quantity), sum(l_extendedprice),
  sum(l_discount), sum(l_tax), max(l_shipdate), max(l_shipmode)
FROM ({ROWS}) AS kept
"""


def job(data: pathlib.Path) -> str:
    prepare = "".join(f"  {line}\n" for line in ROWS.strip().splitlines())
    return (f"version: 1\nname: exchange\ntables: {{lineitem: {data}/lineitem/, orders: {data}/orders/}}\n"
            f"prepare: |\n{prepare}columns: {{key: line}}\n")


def datafusion(tpch: str, data: pathlib.Path) -> dict:
    with tempfile.TemporaryDirectory(prefix="sheaf-exchange-") as folder:
        kept = f"COPY ({ROWS}) TO '{folder}/kept/' STORED AS PARQUET"
        runs = {name: measure([tpch, "time", str(data), sql]) for name, sql in (("counted", COUNTED), ("kept", kept))}
    return {name: [run["cpu_s"], run["wall_s"]] for name, run in runs.items()}


def prepare_seconds(cluster: Cluster) -> float:
    shown = json.loads(cluster.ask(["jobs", "list", "-o", "json"]))
    listed = shown if isinstance(shown, list) else shown["jobs"]
    result = json.loads(cluster.ask(["jobs", "show", listed[0]["job"], "-o", "json"]))["result"]
    return next(phase["seconds"] for phase in result["phases"] if phase["name"] == "prepare")


def sheaf(program: str, data: pathlib.Path) -> dict:
    found = {}
    tables = [part for table in ("lineitem", "orders") for part in ("--table", f"{table}={data}/{table}/")]
    with tempfile.TemporaryDirectory(prefix="sheaf-exchange-") as folder:
        cluster = Cluster(program, str(data), folder, [])
        try:
            before, began = cluster.cpu_s(), time.perf_counter()
            cluster.run(["sql", COUNTED, *tables, "-o", "csv", "--quiet"])
            found["counted"] = [cluster.cpu_s() - before, time.perf_counter() - began]
            file = pathlib.Path(folder) / "job.yaml"
            file.write_text(job(data))
            before = cluster.cpu_s()
            cluster.run(["submit", str(file), "--wait"])
            # Profiles of the rows are part of the CPU time and not of the wall time.
            found["kept"] = [cluster.cpu_s() - before, prepare_seconds(cluster)]
        finally:
            cluster.end()
    return found


def median(runs: list[dict]) -> dict:
    return {name: [statistics.median(run[name][place] for run in runs) for place in (0, 1)] for name in ("counted", "kept")}


def main() -> None:
    program, tpch, data = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]).resolve()
    rounds = int(sys.argv[4]) if len(sys.argv) > 4 else 3
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(sheaf(program, data))
        theirs.append(datafusion(tpch, data))
    summary = {"sheaf": median(ours), "datafusion": median(theirs), "workers": WORKERS, "threads": THREADS}
    keeping = {name: summary[name]["kept"][0] - summary[name]["counted"][0] for name in ("sheaf", "datafusion")}
    summary["keeping_cpu_s"] = keeping
    print(json.dumps(summary, indent=2))
    print(f"{'':12}{'counted: CPU s':>16}{'wall s':>8}{'kept: CPU s':>14}{'wall s':>8}{'keeping: CPU s':>16}", file=sys.stderr)
    for name in ("sheaf", "datafusion"):
        (counted_cpu, counted_wall), (kept_cpu, kept_wall) = summary[name]["counted"], summary[name]["kept"]
        print(f"{name:12}{counted_cpu:16.2f}{counted_wall:8.2f}{kept_cpu:14.2f}{kept_wall:8.2f}{keeping[name]:16.2f}", file=sys.stderr)


if __name__ == "__main__":
    main()
