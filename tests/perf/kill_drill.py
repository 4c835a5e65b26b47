"""Kill a real benchmark at random moments, start it again each time, and compare the end with an uninterrupted one.

    python tests/perf/kill_drill.py [KILLS=50] [SEED=0] [SIGNAL=KILL] [EPOCHS=60]

SIGNAL is KILL; or INT for Ctrl-C or TERM, which must also end in one line and exit code 130 or 143. Moments are drawn
from all that a process goes through: start-up, decoding (every fifth time with an empty image cache), training,
measuring, writing. Every fifth is killed the moment a half-written file of the store or of a run is there. Prints how
many were killed in what state and the most epochs that one kill lost; exit code 1 where that is more than one or an end
is another.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors.torch import load_file

STOPPED = "error: stopped; run the same command again to continue\n"
LOSSES = "ce,arcface+0.5*triplet"


def heed_interrupts() -> None:
    """Undo what shells do to commands in the background: in a new process, Ctrl-C would be ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass
class Drill:
    """A benchmark that is killed again and again."""

    folder: Path
    epochs: int
    image_size: int
    signal: signal.Signals
    seed: int = 0
    killed: Counter[str] = field(default_factory=Counter)
    finished: int = 0  # processes that came to the end before they were killed
    lost: int = 0  # epochs, at most by one kill
    faults: list[str] = field(default_factory=list)

    def start(self, out: Path) -> subprocess.Popen[str]:
        words = ["run", "--losses", LOSSES, "--repeats", "2", "--epochs", self.epochs]
        words += ["--image-size", self.image_size, "--threads", "1", "--out", out]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "LOSSBENCH_CACHE": str(self.folder / "cache")}
        return subprocess.Popen(
            [sys.executable, "-m", "lossbench", *map(str, words)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=heed_interrupts,
        )

    def whole(self) -> float:
        """Run the benchmark without interruption and return its seconds."""
        start = time.perf_counter()
        process = self.start(self.folder / "whole")
        _, err = process.communicate()
        assert process.returncode == 0, err
        return time.perf_counter() - start

    def kill(self, times: int, longest: float) -> None:
        """Start and kill so many times; where a benchmark comes to its end before, another begins."""
        draw = random.Random(self.seed)
        done = 0
        while done < times and not self.faults:
            if done % 5 == 4:
                shutil.rmtree(self.folder / "cache", ignore_errors=True)
            process = self.start(self.parts)
            watch = {4: "cache/.*.half", 9: f"{self.parts.name}/orl/runs/*/.*"}.get(done % 10)
            moment = 0.1 + draw.random() * (longest if done % 5 != 4 else 0)
            state = self._wait(process, time.monotonic() + moment, watch)
            if process.poll() is None:
                before = self._epochs()
                os.killpg(process.pid, self.signal)
                _, err = process.communicate()
                done += 1
                self.killed[state] += 1
                # Python itself, in its first or last milliseconds, dies of the signal without a word
                clean = [(128 + self.signal, STOPPED), (-self.signal, "")]
                if self.signal != signal.SIGKILL and (process.returncode, err) not in clean:
                    self.faults.append(
                        f"{self.signal.name} while {state}: exit code {process.returncode}: {err[-300:]!r}"
                    )
                self._count_lost(before)
            else:
                _, err = process.communicate()
                if process.returncode != 0:
                    self.faults.append(f"exit code {process.returncode}: {err}")
                self._end()
        if self.parts.exists():
            process = self.start(self.parts)
            _, err = process.communicate()
            if process.returncode != 0:
                self.faults.append(f"exit code {process.returncode}: {err}")
            self._end()

    @property
    def parts(self) -> Path:
        return self.folder / f"parts-{self.finished}"

    def _end(self) -> None:
        self.faults += differences(self.folder / "whole", self.parts, self.epochs)
        self.finished += 1

    def _wait(self, process: subprocess.Popen[str], until: float, watch: str | None) -> str:
        """Wait until the moment has come, or until a half-written file shows; return what is going on."""
        begun = time.time()
        while process.poll() is None and time.monotonic() < until + (60 if watch else 0):
            if watch and time.monotonic() > until:
                for half in self.folder.glob(watch):
                    return "decoding" if watch.startswith("cache") else f"writing {half.name[1:].rpartition('.')[0]}"
            time.sleep(0.0005 if watch else 0.005)
        if any((self.folder / "cache").glob(".*.half")):
            return "decoding"
        runs = [run for run in self.parts.glob("orl/runs/*") if not (run / "run.json").exists()]
        if not any(path.stat().st_mtime > begun for run in runs for path in run.glob("[a-z]*")):
            return "starting up or between runs"
        return "training, measuring or writing"

    def _epochs(self) -> dict[str, int]:
        """Return the epochs that every run has reported."""
        counts = {}
        for run in self.parts.glob("orl/runs/*"):
            history = run / "history.jsonl"
            lines = history.read_text().splitlines() if history.exists() else []
            counts[run.name] = len(lines)
        return counts

    def _count_lost(self, before: dict[str, int]) -> None:
        """Compare with what a resumed run starts from: its checkpoint."""
        import torch

        for run in self.parts.glob("orl/runs/*"):
            if (run / "run.json").exists() or not before.get(run.name):
                continue
            checkpoint = run / "checkpoint.pt"
            kept = len(torch.load(checkpoint, weights_only=True)["history"]) if checkpoint.exists() else 0
            self.lost = max(self.lost, before[run.name] - kept + 1)  # and the one that was going on


def differences(whole: Path, parts: Path, epochs: int) -> Iterator[str]:
    """Yield what is not bit-identical between two benchmarks' folders, timings aside."""
    for one in sorted(whole.glob("orl/runs/*")):
        other = parts / "orl" / "runs" / one.name
        names = [sorted(path.name for path in run.iterdir()) for run in (one, other)] if other.is_dir() else [[], [""]]
        if names[0] != names[1]:
            yield f"{one.name}: {names[1]}, not {names[0]}"
            continue
        records = [json.loads((run / "run.json").read_text()) for run in (one, other)]
        for record in records:
            for name in ("timings", "peak_memory_mib"):
                record.pop(name)
        if records[0] != records[1]:
            yield f"{one.name}: another record"
        if (one / "history.jsonl").exists():
            lines = [
                [json.loads(line) | {"seconds": 0} for line in (run / "history.jsonl").read_text().splitlines()]
                for run in (one, other)
            ]
            if lines[0] != lines[1] or len(lines[0]) != epochs:
                yield f"{one.name}: another history"
        weights = [load_file(run / "weights.safetensors") for run in (one, other)]
        if any(not np.array_equal(weights[0][name], weights[1][name]) for name in weights[0]):
            yield f"{one.name}: other weights"
        for name in ("embeddings.npz", "resamples.npz"):
            arrays = [np.load(run / name) for run in (one, other)]
            if any(not np.array_equal(arrays[0][k], arrays[1][k], equal_nan=_floats(arrays[0][k])) for k in arrays[0]):
                yield f"{one.name}: other {name}"


def _floats(array: np.ndarray) -> bool:
    return array.dtype.kind == "f"


def main() -> None:
    given = sys.argv[1:] + ["50", "0", "KILL", "60"][len(sys.argv) - 1 :]
    kills, seed, name, epochs = int(given[0]), int(given[1]), given[2], int(given[3])
    with tempfile.TemporaryDirectory() as folder:
        drill = Drill(Path(folder), epochs, 64, signal.Signals[f"SIG{name}"], seed)
        seconds = drill.whole()
        print(f"uninterrupted: 4 trainings of {epochs} epochs in {seconds:.0f} s")
        drill.kill(kills, seconds * 0.6)
        states = ", ".join(f"{count} {state}" for state, count in drill.killed.most_common())
        print(f"{kills} kills ({name}): {states}")
        print(f"{drill.finished} benchmarks came to their end; at most {drill.lost} epoch lost by a kill")
        for fault in drill.faults:
            print(f"FAULT {fault}")
        print("all ends bit-identical" if not drill.faults else f"{len(drill.faults)} faults")
        if drill.faults or drill.lost > 1:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
