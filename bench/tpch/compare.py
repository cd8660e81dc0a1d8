"""Runs the 22 TPC-H queries in one process of plain DataFusion and on our cluster (a coordinator and two workers of
one thread each), in turn, and compares CPU seconds of all processes and wall seconds. With SPARK=1 Spark runs too,
once, on two worker processes; with SPARK=only nothing else runs. A table on stderr, JSON on stdout.

    python compare.py SHEAF TPCH DATA STATEMENTS [ROUNDS]

SHEAF is the program, TPCH the example `tpch` of the tests' crate. CPU of the cluster is that of coordinator, workers and
22 clients, from their start to the last answer; of the others that of the process tree, from its start to its end.
Wall time is that of the queries alone, one after the other. Our answers are checked against DataFusion's.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
from measuring import HERE, THREADS, WORKERS, Cluster, measure  # noqa: E402


def statements_of(folder: str) -> list[tuple[str, str]]:
    return [(path.stem, path.read_text()) for path in sorted(pathlib.Path(folder).glob("q*.sql"))]


def sheaf(program: str, data: str, statements: str, answers: pathlib.Path) -> dict:
    tables = [part for table in sorted(pathlib.Path(data).iterdir()) for part in ("--table", f"{table.name}={table}/")]
    answers.mkdir(exist_ok=True)
    queries = []
    with tempfile.TemporaryDirectory(prefix="sheaf-tpch-") as folder:
        cluster = Cluster(program, data, folder, [])
        try:
            clients = 0.0
            for name, text in statements_of(statements):
                (answers / f"{name}.parquet").unlink(missing_ok=True)
                before = cluster.cpu_s()
                run = cluster.run(["sql", text, *tables, "-o", "parquet", "--quiet", "--to", str(answers / f"{name}.parquet")])
                clients += run["client_cpu_s"]
                queries.append({"name": name, "wall_s": run["wall_s"], "cpu_s": cluster.cpu_s() - before + run["client_cpu_s"]})
            return {"cpu_s": cluster.cpu_s() + clients, "wall_s": sum(query["wall_s"] for query in queries),
                    "clients_cpu_s": clients, "queries": queries}
        finally:
            cluster.end()


def median(runs: list[dict]) -> dict:
    """The medians of each figure; those of single queries too."""
    queries = [{"name": same[0]["name"], **{k: statistics.median(q[k] for q in same) for k in ("wall_s", "cpu_s")}}
               for same in zip(*(run["queries"] for run in runs))]
    figures = {k: statistics.median(run[k] for run in runs) for k in runs[0] if k != "queries"}
    return {**figures, "queries": queries, "runs": [[run["cpu_s"], run["wall_s"]] for run in runs]}


def table(summary: dict) -> str:
    names = [name for name in ("sheaf", "datafusion", "spark") if name in summary]
    lines = ["wall s  " + "".join(f"{name:>12}" for name in names)]
    for place, query in enumerate(summary[names[0]]["queries"]):
        walls = "".join(f"{summary[name]['queries'][place]['wall_s']:12.2f}" for name in names)
        lines.append(f"{query['name']:8}{walls}")
    for key, label in (("wall_s", "all"), ("cpu_s", "CPU s")):
        lines.append(f"{label:8}" + "".join(f"{summary[name][key]:12.1f}" for name in names))
    return "\n".join(lines)


def ratios(summary: dict) -> dict:
    found = {}
    if "sheaf" in summary and "datafusion" in summary:
        found["cpu_of_datafusion"] = summary["sheaf"]["cpu_s"] / summary["datafusion"]["cpu_s"]
    if "sheaf" in summary and "spark" in summary:
        found["cpu_less_than_spark"] = summary["spark"]["cpu_s"] / summary["sheaf"]["cpu_s"]
        found["wall_less_than_spark"] = summary["spark"]["wall_s"] / summary["sheaf"]["wall_s"]
    return found


def main() -> None:
    program, tpch, data, statements = sys.argv[1:5]
    rounds = int(sys.argv[5]) if len(sys.argv) > 5 else 3
    data = str(pathlib.Path(data).resolve())
    peers = os.environ.get("SPARK", "")
    summary: dict = {}
    if peers != "only":
        answers = pathlib.Path(statements).parent / "answers"
        ours, theirs = [], []
        for _ in range(rounds):
            ours.append(sheaf(program, data, statements, answers))
            theirs.append(measure([tpch, "run", data, str(WORKERS * THREADS)]))
        summary = {"sheaf": median(ours), "datafusion": median(theirs)}
    if peers:
        summary["spark"] = measure([sys.executable, str(HERE / "peer_spark.py"), data, statements])
    summary["ratios"] = ratios(summary)
    print(json.dumps(summary, indent=2))
    print(table(summary), file=sys.stderr)
    print(" ".join(f"{name} {ratio:.2f}" for name, ratio in summary["ratios"].items()), file=sys.stderr)
    if peers != "only":
        subprocess.run([tpch, "check", data, str(answers)], check=True, stdout=sys.stderr)


if __name__ == "__main__":
    main()
