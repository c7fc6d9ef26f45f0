"""Coordinators and workers as processes, for the tests of a fleet."""
import json
import signal
import socket
import subprocess
import time

from harness import BINARY, in_order, reinforce, require

DEADLINE_S = 120
WORKERS = {"count": 1, "threads": 1, "part_samples": 3, "queue_items": 6, "lease": "2s"}  # of a job file


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def occupy(address):
    """Listens where a coordinator wants to."""
    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    taken.bind(("127.0.0.1", int(address.rsplit(":", 1)[1])))
    taken.listen()
    return taken


def wait_for(what, condition):
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        require(time.monotonic() < deadline, f"{what}: not within {DEADLINE_S} s")
        time.sleep(0.05)


class Fleet:
    """Processes of one catalog; each writes a log of its own."""

    def __init__(self, folder, catalog, keys):
        self.folder, self.catalog, self.keys = folder, catalog, keys
        self.addresses = [f"tcp://127.0.0.1:{free_port()}" for _ in range(2)]
        self.processes = []
        folder.mkdir()

    def start(self, *args):
        log = self.folder / f"{args[0]}-{len(self.processes)}.log"
        with open(log, "wb") as to:
            process = subprocess.Popen([BINARY, *map(str, args)], stdout=to, stderr=subprocess.STDOUT)
        process.log, process.is_leaving = log, False
        self.processes.append(process)
        return process

    def coordinator(self, at=0):
        return self.start("coordinator", "--catalog", self.catalog, "--bind", self.addresses[at], "--keys",
                          self.keys / "coordinator.key", "--allow", self.keys / "allow", "-v")

    def worker(self, key="worker"):
        return self.start("worker", "--coordinator", ",".join(self.addresses), "--keys", self.keys / f"{key}.key", "-v")

    def status(self, name):
        return json.loads(reinforce("status", "--catalog", self.catalog, "--json", name).stdout)

    def has_samples(self, name, n):
        samples = self.status(name)["samples"]
        return sum(samples.values()) >= n

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()

    def leave(self, process):
        """By SIGTERM, once: a second one would end it at once."""
        if not process.is_leaving:
            process.is_leaving = True
            process.send_signal(signal.SIGTERM)

    def stop(self):
        """All by SIGTERM, which each obeys with exit code 0."""
        alive = [p for p in self.processes if p.poll() is None]
        for process in alive:
            self.leave(process)
        for process in alive:
            require(process.wait(timeout=DEADLINE_S) == 0,
                    f"{process.args[1]} exited {process.returncode}:\n{process.log.read_text()}")


def said(process, text):
    return text in process.log.read_text()


def compare(want, got, where):
    for name in sorted(want[0].keys() | got[0].keys()):
        require(want[0].get(name) == got[0].get(name), f"{where}: {name} differs")
    for table in want[1]:
        require(in_order(want[1][table]) == in_order(got[1][table]), f"{where}: table {table} differs")
