"""Runs `sheaf run higgs.yaml` with one worker and with two, LightGBM and XGBoost in turn on the same rows: CPU seconds and
peak PSS of all processes, wall time, test AUC. A table on stderr, JSON on stdout.

    python compare.py SHEAF DATA [ROUNDS]
"""

import json
import pathlib
import statistics
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "logistic"))
from compare import measure  # noqa: E402

THREADS = 2


def sheaf(program: str, data: str, workers: int) -> dict:
    with tempfile.TemporaryDirectory() as store:
        run = measure([program, "run", str(HERE / "higgs.yaml"), "--set", f"data={data}", "--allow-root", data, "--store", store,
                       "--workers", str(workers), "--threads", str(THREADS // workers), "-o", "json", "--quiet"])
    result = run["result"]
    train = next(work for work in result["work"] if work["phase"] == "train")
    return {**run, "auc": result["metrics"]["test"]["auc"], "model": result["model"]["sha256"],
            "train": {key: train[key] for key in train if isinstance(train[key], (int, float))}}


def peer(name: str, data: str) -> dict:
    run = measure([sys.executable, str(HERE / "peer_higgs.py"), name, data, str(THREADS)])
    return {**run, "auc": run["result"]["auc"]}


def main() -> None:
    program, data = sys.argv[1], str(pathlib.Path(sys.argv[2]).resolve())
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    who = {"one worker": lambda: sheaf(program, data, 1), "two workers": lambda: sheaf(program, data, 2),
           "lightgbm": lambda: peer("lightgbm", data), "xgboost": lambda: peer("xgboost", data)}
    runs: dict[str, list[dict]] = {name: [] for name in who}
    for _ in range(rounds):
        for name, run in who.items():
            runs[name].append(run())
    figures = ("cpu_s", "wall_s", "pss_mib", "auc")
    summary = {name: {figure: statistics.median(run[figure] for run in of) for figure in figures} for name, of in runs.items()}
    models = {run["model"] for name in ("one worker", "two workers") for run in runs[name]}
    summary["ratios"] = {
        "cpu_of_lightgbm": summary["one worker"]["cpu_s"] / summary["lightgbm"]["cpu_s"],
        "cpu_of_xgboost": summary["one worker"]["cpu_s"] / summary["xgboost"]["cpu_s"],
        "two_workers_of_one": summary["two workers"]["cpu_s"] / summary["one worker"]["cpu_s"],
    }
    print(json.dumps({**summary, "models": sorted(models), "train": runs["two workers"][-1]["train"]}, indent=2))
    for name in who:
        print(f"{name:12}" + "".join(f"{figure} {summary[name][figure]:10.4g}   " for figure in figures), file=sys.stderr)
    print(" ".join(f"{name} {ratio:.2f}" for name, ratio in summary["ratios"].items()), file=sys.stderr)
    if len(models) != 1:
        sys.exit(f"models differ: {models}")


if __name__ == "__main__":
    main()
