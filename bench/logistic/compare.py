"""Runs `sheaf run higgs.yaml` and scikit-learn in turn on the same rows and compares: CPU seconds and peak
PSS of all processes, wall time, test AUC, coefficients. With SPARK=1 in the environment Spark MLlib runs too, once.
A table on stderr, JSON on stdout.

    python compare.py SHEAF DATA [ROUNDS] [-- MORE ARGUMENTS OF sheaf run]

CPU is what the kernel counted for the process and all its children that were waited for, or what was last seen of
each process of the tree, if that is more (Spark does not wait for its own). PSS is the sum over the process tree,
sampled every 20 ms. A step's overhead is its time less the time of the worker that was waited for longest.
"""

import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent


def tree(root: int) -> list[int]:
    found, queue = [], [root]
    while queue:
        pid = queue.pop()
        found.append(pid)
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/children") as children:
                    queue.extend(map(int, children.read().split()))
        except OSError:
            pass
    return found


def pss_kib(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup") as rollup:
            return next((int(line.split()[1]) for line in rollup if line.startswith("Pss:")), 0)
    except OSError:
        return 0


def cpu_s(pid: int) -> float:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return 0.0


def measure(command: list[str], extra_env: dict[str, str] | None = None) -> dict:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, **(extra_env or {})})
    peak, each, seen, done = [0], {}, {}, threading.Event()

    def sample() -> None:
        while not done.wait(0.02):
            sizes = {pid: pss_kib(pid) for pid in tree(process.pid)}
            seen.update({pid: max(seen.get(pid, 0), cpu_s(pid)) for pid in sizes})
            peak[0] = max(peak[0], sum(sizes.values()))
            for pid, size in sizes.items():
                each[pid] = max(each.get(pid, 0), size)

    sampler = threading.Thread(target=sample)
    sampler.start()
    out, err = process.communicate()
    done.set()
    sampler.join()
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{err[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    waited = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_s": max(waited, sum(seen.values())), "wall_s": time.perf_counter() - start, "pss_mib": peak[0] / 1024,
            "pss_each_mib": sorted((size / 1024 for size in each.values()), reverse=True), "result": json.loads(out)}


def sheaf(program: str, data: str, more: list[str]) -> dict:
    with tempfile.TemporaryDirectory() as store:
        command = [program, "run", str(HERE / "higgs.yaml"), "--set", f"data={data}", "--allow-root", data,
                   "--store", store, "--workers", "2", "--threads", "1", "-o", "json", "--quiet", *more]
        run = measure(command)
        version = run["result"]["model"]["sha256"]
        record = next(json.loads(p.read_text()) for p in pathlib.Path(store).rglob("*.json")
                      if "coefficients" in p.read_text()[:200_000] and version in p.read_text())
    run["auc"] = run["result"]["metrics"]["test"]["auc"]
    run["coefficients"] = record["coefficients"]
    return run


def scikit(data: str) -> dict:
    run = measure([sys.executable, str(HERE / "peer_sklearn_higgs.py"), data])
    return {**run, "auc": run["result"]["auc"], "coefficients": run["result"]["coefficients"]}


def spark(data: str) -> dict:
    run = measure([sys.executable, str(HERE / "peer_spark_higgs.py"), data])
    return {**run, "auc": run["result"]["auc"], "coefficients": run["result"]["coefficients"]}


def train_step(result: dict) -> dict:
    work = next(w for w in result["work"] if w["phase"] == "train")
    steps = work["steps"]
    return {"steps": steps["count"], "overhead_ms": steps["overhead_s"] / steps["count"] * 1e3, "compute_s": work["compute_s"]}


def median(runs: list[dict], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def main() -> None:
    arguments, more = sys.argv[1:], []
    if "--" in arguments:
        at = arguments.index("--")
        arguments, more = arguments[:at], arguments[at + 1:]
    program, data = arguments[0], str(pathlib.Path(arguments[1]).resolve())
    rounds = int(arguments[2]) if len(arguments) > 2 else 3
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(sheaf(program, data, more))
        theirs.append(scikit(data))
    a, b = ours[-1], theirs[-1]
    scale = b["result"]["scale"]
    apart = max(abs(a["coefficients"][n] - b["coefficients"][n]) * scale[n] for n in scale)
    summary = {
        "sheaf": {k: median(ours, k) for k in ("cpu_s", "wall_s", "pss_mib")} | {"auc": a["auc"]} | train_step(a["result"]),
        "scikit-learn": {k: median(theirs, k) for k in ("cpu_s", "wall_s", "pss_mib")}
        | {"auc": b["auc"], "iterations": b["result"]["iterations"]},
        "cpu_ratio": median(ours, "cpu_s") / median(theirs, "cpu_s"),
        "pss_each_mib": a["pss_each_mib"],
        "model": a["result"]["model"]["sha256"],
        "largest_difference_of_standardised_coefficients": apart,
        "runs": {"sheaf": [[r["cpu_s"], r["wall_s"], r["pss_mib"]] for r in ours],
                 "scikit-learn": [[r["cpu_s"], r["wall_s"], r["pss_mib"]] for r in theirs]},
    }
    if os.environ.get("SPARK"):
        c = spark(data)
        summary["spark"] = {k: c[k] for k in ("cpu_s", "wall_s", "pss_mib", "auc")} | {"iterations": c["result"]["iterations"]}
        summary["cpu_ratio_spark"] = median(ours, "cpu_s") / c["cpu_s"]
    print(json.dumps(summary, indent=2))
    print(f"{'':14}{'CPU s':>8}{'wall s':>8}{'PSS MiB':>9}{'AUC':>9}", file=sys.stderr)
    for name in ("sheaf", "scikit-learn", "spark"):
        if name not in summary:
            continue
        s = summary[name]
        print(f"{name:14}{s['cpu_s']:8.2f}{s['wall_s']:8.2f}{s['pss_mib']:9.0f}{s['auc']:9.5f}", file=sys.stderr)
    print(f"CPU ratio {summary['cpu_ratio']:.2f}; coefficients differ by at most {apart:.1e}", file=sys.stderr)
    if abs(a["auc"] - b["auc"]) > 1e-4 or apart > 1e-3:
        sys.exit("the two did not fit the same model")


if __name__ == "__main__":
    main()
