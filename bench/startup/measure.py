"""How long processes take to be ready for work: a coordinator until it listens, a worker until the coordinator has
counted it in, the first job until it is accepted, and a coordinator that is killed and started again over the same state.

    python measure.py SHEAF [ROUNDS]

Standard library only. Prints medians and worst of the rounds, in seconds from the start of each process.
"""

import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time


class Cluster:
    """A coordinator and a worker over a temporary folder."""

    def __init__(self, sheaf: str, folder: str) -> None:
        self.sheaf, self.folder, self.address = sheaf, pathlib.Path(folder), ""
        self.environment = {**os.environ, "XDG_CONFIG_HOME": f"{folder}/config", "HOME": folder}
        self.started: list[subprocess.Popen] = []

    def spawn(self, *arguments: str) -> subprocess.Popen:
        log = open(self.folder / f"{len(self.started)}.log", "w")
        process = subprocess.Popen([self.sheaf, *arguments], env=self.environment, stdout=subprocess.PIPE, stderr=log, text=True)
        self.started.append(process)
        return process

    def coordinator(self) -> float:
        began = time.perf_counter()
        process = self.spawn("coordinator", "--listen", self.address or "127.0.0.1:0", "--state", f"{self.folder}/state",
                             "--store", f"{self.folder}/store")
        line = process.stdout.readline()
        if not line.startswith("listening on "):
            sys.exit(f"the coordinator said {line!r}; see {self.folder}")
        self.address = line.split()[-1]
        return time.perf_counter() - began

    def worker(self) -> float:
        began = time.perf_counter()
        process = self.spawn("worker", "--join", self.address, "--log-format", "json")
        log = self.folder / f"{len(self.started) - 1}.log"
        while not any('"joined"' in line for line in log.read_text().splitlines()):
            if process.poll() is not None or time.perf_counter() - began > 30:
                sys.exit(f"the worker did not join: {log.read_text()}")
            time.sleep(0.002)
        return time.perf_counter() - began

    def end(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()


def embedded(sheaf: str, folder: str) -> float:
    """What `sheaf run` takes besides the phases of the job: start and end of four processes."""
    rows = "".join(f"{i},{i % 7},{i % 2}\n" for i in range(200))
    pathlib.Path(folder, "rows.csv").write_text("id,a,y\n" + rows)
    pathlib.Path(folder, "job.yaml").write_text(
        "version: 1\nname: small\nseed: 1\ntables: {rows: rows.csv}\ncolumns: {target: y, key: id}\n"
        "split: {by: random, test: 0.2}\ntrain: {algorithm: logistic_regression, l2: 0.1}\n")
    began = time.perf_counter()
    done = subprocess.run([sheaf, "run", "job.yaml", "--workers", "2", "-o", "json", "--quiet", "--store", f"{folder}/local"],
                          cwd=folder, capture_output=True, text=True)
    wall = time.perf_counter() - began
    if done.returncode != 0:
        sys.exit(done.stderr)
    return wall - sum(phase["seconds"] for phase in json.loads(done.stdout)["phases"])


def main() -> None:
    sheaf = str(pathlib.Path(sys.argv[1]).resolve())
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            cluster = Cluster(sheaf, folder)
            try:
                times.setdefault("coordinator listens", []).append(cluster.coordinator())
                times.setdefault("worker has joined", []).append(cluster.worker())
                cluster.started[0].kill()
                cluster.started[0].wait()
                times.setdefault("coordinator listens again after kill -9", []).append(cluster.coordinator())
            finally:
                cluster.end()
            times.setdefault("`sheaf run` of a small job, besides its phases", []).append(embedded(sheaf, folder))
    for what, taken in times.items():
        print(f"{what:50} median {statistics.median(taken):.3f} s, worst {max(taken):.3f} s of {len(taken)}")


if __name__ == "__main__":
    main()
