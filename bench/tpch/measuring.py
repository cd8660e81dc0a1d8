"""What benches of queries share: a program measured with all its processes, and a cluster of ours on loopback."""

import json
import os
import pathlib
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE.parent / "logistic"))
from compare import cpu_s, tree  # noqa: E402

THREADS = 1
MEMORY = "2GiB"
WORKERS = 2


def measure(command: list[str]) -> dict:
    """Runs a program that prints one JSON object. CPU is what was last seen of each process of its tree, ten times a
    second: not every child is waited for by its parent."""
    seen: dict[int, float] = {}
    done = threading.Event()
    with tempfile.TemporaryFile("w+") as err, tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(command, stdout=out, stderr=err)

        def sample() -> None:
            while not done.wait(0.1):
                seen.update({pid: max(seen.get(pid, 0), cpu_s(pid)) for pid in tree(process.pid)})

        sampler = threading.Thread(target=sample)
        sampler.start()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        done.set()
        sampler.join()
        err.seek(0)
        out.seek(0)
        if process.returncode != 0:
            sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{err.read()[-2000:]}")
        queries = json.loads(out.read())["queries"]
    return {"cpu_s": max(usage.ru_utime + usage.ru_stime, sum(seen.values())),
            "wall_s": sum(query["wall_s"] for query in queries), "queries": queries}


class Cluster:
    """A coordinator and workers on loopback; all of them end with it."""

    def __init__(self, program: str, data: str, folder: str, more: list[str]) -> None:
        self.program, self.folder = program, pathlib.Path(folder)
        self.environment = {**{k: v for k, v in os.environ.items() if not k.startswith("SHEAF_")},
                            "SHEAF_SECRET": secrets.token_hex(32), "SHEAF_CONFIG_DIR": folder, "SHEAF_LOG": "warn"}
        self.servers: list[subprocess.Popen] = []
        address_file = self.folder / "address"
        store = str(self.folder / "store")
        os.mkdir(store)
        self.start("coordinator", ["--listen", "127.0.0.1:0", "--state", str(self.folder / "state"), "--store", store,
                                   "--allow", data, "--address-file", str(address_file), *more])
        self.address = self.wait_for("the coordinator's address", lambda: address_file.exists() and address_file.read_text().strip())
        for number in range(WORKERS):
            self.start("worker", ["--join", self.address, "--name", f"worker-{number}", "--threads", str(THREADS),
                                  "--memory", MEMORY, "--spill", str(self.folder), "--allow", data, "--allow", store])
        self.wait_for("the workers", lambda: self.joined() == WORKERS)

    def start(self, name: str, arguments: list[str]) -> None:
        log = open(self.folder / f"{name}-{len(self.servers)}.log", "w")
        self.servers.append(subprocess.Popen([self.program, name, *arguments], env=self.environment, stdout=log, stderr=log))

    def joined(self) -> int:
        asked = subprocess.run([self.program, "cluster", "status", "-o", "json"], env=self.environment, capture_output=True, text=True)
        return len(json.loads(asked.stdout).get("workers", [])) if asked.returncode == 0 else 0

    def wait_for(self, what: str, condition):
        began = time.monotonic()
        while not (found := condition()):
            if any(server.poll() is not None for server in self.servers) or time.monotonic() - began > 60:
                self.end()
                sys.exit(f"waited for {what}:\n{self.logs()}")
            time.sleep(0.02)
        return found

    def logs(self) -> str:
        return "\n".join(f"{log.name}: {log.read_text()[-2000:]}" for log in sorted(self.folder.glob("*.log")))

    def cpu_s(self) -> float:
        return sum(cpu_s(server.pid) for server in self.servers)

    def run(self, arguments: list[str]) -> dict:
        """Runs a command of a user; CPU seconds are those of this command alone."""
        began = time.perf_counter()
        with tempfile.TemporaryFile("w+") as err:
            client = subprocess.Popen([self.program, *arguments], env=self.environment, stdout=subprocess.DEVNULL, stderr=err)
            _, status, usage = os.wait4(client.pid, 0)
            client.returncode = os.waitstatus_to_exitcode(status)
            if client.returncode != 0:
                err.seek(0)
                message = f"{' '.join(arguments)[:200]} ended with {client.returncode}:\n{err.read()[-2000:]}\n{self.logs()}"
                self.end()
                sys.exit(message)
        return {"wall_s": time.perf_counter() - began, "client_cpu_s": usage.ru_utime + usage.ru_stime}

    def ask(self, arguments: list[str]) -> str:
        """What a command of a user says on standard output."""
        return subprocess.run([self.program, *arguments], env=self.environment, check=True, capture_output=True, text=True).stdout

    def end(self) -> None:
        for server in reversed(self.servers):
            if server.poll() is None:
                server.send_signal(signal.SIGTERM)
        for server in reversed(self.servers):
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
