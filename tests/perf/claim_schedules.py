"""Claims under many schedules: three processes, switched at random before every operation on the file system.

    python tests/perf/claim_schedules.py [SCHEDULES=20000] [SEED=0]

Each process takes the claim, looks whether the record is there, writes it if not, and ends; any of them may be held up
for any time. With odd seeds, one that looks may believe any claim to be stale, be its process alive or not; with even
seeds none does, and none may lose its claim. Whatever the order, the record must be put in place once, and nothing
half-written may be left. Prints how often a process lost its claim; exit code 1, with the seed, where any of this is
not so.

The processes are threads of this one, held by an audit hook wherever Python calls the system.
"""

import os
import random
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from lossbench.utils import claims
from lossbench.utils.claims import ClaimLost, claimed
from lossbench.utils.files import heed_fence, write_text

EVENTS = ("open", "os.listdir", "os.scandir", "os.rename", "os.remove", "os.mkdir", "os.utime")
PROCESSES, TRIES = 3, 12


class Schedule:
    """Runs one thread at a time, from one operation on `folder` to the next; the seed says whose turn it is."""

    def __init__(self, seed: int, folder: Path):
        self.draw, self.folder = random.Random(seed), str(folder)
        self.doubt = 0.3 if seed % 2 else 0.0  # how likely a look finds a claim stale
        self.heard: Counter[str] = Counter()
        self.turns = [threading.Semaphore(0) for _ in range(PROCESSES)]
        self.stopped = threading.Semaphore(0)  # released by a thread that has come to its next operation, or its end
        self.threads = [threading.Thread(target=self._live, args=(i,), daemon=True) for i in range(PROCESSES)]
        self.numbers: dict[int, int] = {}
        self.errors: list[BaseException] = []

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Hold the thread until it is its turn."""
        number = self.numbers.get(threading.get_ident())
        if number is not None and event in EVENTS and str(arguments[0]).startswith(self.folder):
            self.stopped.release()
            self.turns[number].acquire()

    def run(self) -> None:
        """Let all threads come to their end."""
        for thread in self.threads:
            thread.start()
            self.stopped.acquire()
        alive, number = list(range(PROCESSES)), 0
        eager = self.draw.choice((0.0, 0.5, 0.9, 0.98))  # how likely the same thread continues
        while alive:
            if number not in alive or self.draw.random() > eager:
                number = self.draw.choice(alive)
            self.turns[number].release()
            self.stopped.acquire()
            alive = [i for i in alive if not self.heard[f"end {i}"]]

    def _live(self, number: int) -> None:
        self.numbers[threading.get_ident()] = number
        self.stopped.release()
        self.turns[number].acquire()
        try:
            for _ in range(TRIES):
                if self._do_run(number):
                    break
            else:
                self.heard["gave up"] += 1
        except BaseException as error:
            self.errors.append(error)
        self.heard[f"end {number}"] += 1
        self.numbers.pop(threading.get_ident())
        self.stopped.release()

    def _do_run(self, number: int) -> bool:
        """Do the run or find it done; return whether it is, as far as this process knows."""
        place, run = Path(self.folder) / "claims", Path(self.folder) / "run"
        try:
            with claimed(place, run) as mine:
                if mine and "run.json" not in {entry.name for entry in run.iterdir()}:
                    write_text(run / "run.json", str(number))
                    self.heard["written"] += 1
                if mine:
                    heed_fence()
                return mine
        except ClaimLost:
            self.heard["lost"] += 1
            return False


def main() -> None:
    schedules, first = [int(word) for word in sys.argv[1:]] + [20_000, 0][len(sys.argv) - 1 :]
    current: list[Schedule] = []
    sys.addaudithook(lambda event, arguments: current[0].hook(event, arguments) if current else None)
    claims._abandoned = lambda file: current[0].draw.random() < current[0].doubt
    heard: Counter[str] = Counter()
    for seed in range(first, first + schedules):
        with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as name:  # noqa: PTH112
            folder = Path(name)
            (folder / "run").mkdir()
            current[:] = [one := Schedule(seed, folder)]
            one.run()
            current.clear()
            left = {entry.name for entry in (folder / "run").iterdir()}
            heard += one.heard
            lost = one.heard["lost"] and not one.doubt
            if one.errors or lost or one.heard["written"] > 1 or left != {"run.json"}:
                print(f"FAULT seed {seed}: {dict(one.heard)}, left: {left}, errors: {one.errors}")
                raise SystemExit(1)
    print(f"{schedules} schedules: written {heard['written']} times, claims lost before it {heard['lost']} times")


if __name__ == "__main__":
    main()
