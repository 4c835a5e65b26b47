"""Runs on a Ray cluster of this machine: how fast two workers are, what a killed node costs, memory of each rank.

    python tests/perf/cluster.py speed [--runs 8] [--epochs 60] [--rounds 3]
    python tests/perf/cluster.py kill [--epochs 30]
    python tests/perf/cluster.py memory

`speed` times so many runs of orl on two workers of one thread each, on clusters that run already, against one such
worker (goal: 1.8 times as fast) and against `--jobs 2` (goal: at least 0.9 of it), in turn: the runs, from the moment
they are handed to the engine to the last record, processes starting included; and whole commands, which also import
torch, ask the cluster, and print the comparison.

`kill` needs Linux and root, as each node gets process ids and mounts of its own: two nodes of one CPU work on eight
runs, and in mid-run one of them is killed with SIGKILL, all its processes at once. It does so twice: with a results
folder that all nodes see, and with one that none of them sees, nor the images, nor lossbench. Exit code 1 where a run
is not whole, was done twice or has other files than usual, or where more than an epoch was lost on the shared disk.

`memory` is tests/perf/ranks.py: 200,000 and 1,000,000 classes in 1, 2 and 4 processes.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))
from host_drill import DONE, faults_of
from paired import in_turn, ratio
from ray_nodes import Nodes, can_be_hidden
from support import wait_for

import lossbench
from lossbench.losses.registry import heads, shipped_plugins

HERE = Path(__file__).parent
DIED = re.compile(r"^note: (\S+, repeat \d+): its process on .* died .*$", re.MULTILINE)
FOUR = ("ce", "arcface", "cosface", "triplet")


def command(losses: Sequence[str], out: Path, *words: object) -> list[str]:
    own = ["run", "--losses", ",".join(losses), "--threads", 1, "--device", "cpu", "--out", out, *words]
    return [sys.executable, "-m", "lossbench", *map(str, own)]


class Timed(NamedTuple):
    """Seconds of the runs of a command, and of the whole command."""

    runs: float
    command: float


def timed(words: Sequence[str]) -> Timed:
    begun = time.perf_counter()
    handed = ended = None
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        assert process.stdout
        for line in process.stdout:
            if line.startswith("training "):
                handed = time.perf_counter()
            elif DONE.match(line):
                ended = time.perf_counter()
    if process.returncode or handed is None or ended is None:
        raise SystemExit(f"{' '.join(words)} failed with exit code {process.returncode}")
    return Timed(ended - handed, time.perf_counter() - begun)


def speed(args: argparse.Namespace) -> None:
    losses = sorted(heads(), key=lambda name: name != "ce")[: args.runs]
    with tempfile.TemporaryDirectory(prefix="sp-") as folder:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # which no user sets: every process would compile lossbench
        os.environ |= {
            "OMP_NUM_THREADS": "1", "LOSSBENCH_CACHE": f"{folder}/cache", "PYTHONPYCACHEPREFIX": f"{folder}/bytecode",
            "PYTHONUNBUFFERED": "1",
        }  # fmt: skip
        clusters = []
        try:
            for cpus in (2, 1):
                clusters.append(Nodes(clusters[0].token if clusters else None))
                clusters[-1].add(cpus)

            def side(*words: object) -> Timed:
                with tempfile.TemporaryDirectory(dir=folder) as out:
                    return timed(command(losses, Path(out), "--epochs", args.epochs, "--repeats", 1, *words))

            on = [("--engine", "ray", "--ray-address", cluster.address) for cluster in clusters]
            two, one, jobs = in_turn(args.rounds, lambda: side(*on[0]), lambda: side(*on[1]), lambda: side("--jobs", 2))
        finally:
            for cluster in clusters:
                cluster.close()
    print(f"{args.runs} runs of orl of {args.epochs} epochs, {args.rounds} rounds after one that warms up")
    for what in Timed._fields:
        a, b, c = ([getattr(found, what) for found in side] for side in (two, one, jobs))
        print(f"{what}:")
        for name, seconds in (("two workers", a), ("one worker", b), ("--jobs 2", c)):
            print(f"  {name}: {', '.join(f'{value:.1f}' for value in seconds)} s")
        print(f"  two workers are so many times as fast as one: {ratio(b, a)}; goal 1.8")
        print(f"  two workers are so many times as fast as --jobs 2: {ratio(c, a)}; goal 0.9")


def kill(args: argparse.Namespace) -> None:
    if not can_be_hidden():
        raise SystemExit("this needs root on Linux: a node gets process ids and mounts of its own")
    if faults := [fault for shared in (True, False) for fault in killed(shared, args.epochs)]:
        raise SystemExit("\n".join(f"FAULT {fault}" for fault in faults))
    print("all runs whole, none twice")


def killed(shared: bool, epochs: int) -> list[str]:
    """Kill a node in mid-run, and return what is wrong then."""
    with tempfile.TemporaryDirectory(prefix="kd-") as name:
        folder = Path(name)
        mine, out, text = folder / "mine", folder / ("seen" if shared else "mine/out"), folder / "output.txt"
        mine.mkdir()
        (folder / "empty").mkdir()
        os.environ |= {"OMP_NUM_THREADS": "1", "LOSSBENCH_CACHE": str(folder / "cache" if shared else mine / "cache")}
        unseen = [folder / "empty"] if shared else [mine, Path(lossbench.__file__).parent, shipped_plugins()]
        cluster = Nodes()
        try:
            own = [{} if shared else {"LOSSBENCH_CACHE": str(folder / f"cache-{i}")} for i in (1, 2)]
            victim, _ = [cluster.add(1, unseen, **each) for each in own]
            words = ("--epochs", epochs, "--image-size", 32, "--repeats", 2, "--engine", "ray", "--ray-address")
            begun = time.perf_counter()
            process = subprocess.Popen(command(FOUR, out, *words, cluster.address), stdout=text.open("w"), stderr=-2)
            wait_for(lambda: len(set(_under_way(text))) >= 3 or process.poll() is not None)
            victim.kill()
            kept = {
                file.parent.name: file.read_text().splitlines()[:-1] for file in out.glob("orl/runs/*/history.jsonl")
            }
            code = process.wait()
        finally:
            cluster.close()
        return judged(shared, out / "orl", text.read_text(), code, epochs, kept, time.perf_counter() - begun)


def _under_way(text: Path) -> list[str]:
    return re.findall(r"^(\S+ · repeat \d+)/\d+ · epoch", text.read_text(), re.MULTILINE)


def judged(
    shared: bool, folder: Path, output: str, code: int, epochs: int, kept: dict[str, list[str]], seconds: float
) -> list[str]:
    """Print what happened, and return what is wrong with it."""
    done, died = Counter(DONE.findall(output)), [match[0] for match in DIED.finditer(output)]
    wanted = {f"{loss} · repeat {repeat}" for loss in FOUR for repeat in (1, 2)}
    runs = sorted(folder.glob("runs/*"))
    faults = [] if code == 0 else [f"exit code {code}: {output[-800:]}"]
    faults += [
        f"{run} was reported {done[run]} times" for run in sorted(wanted | set(done)) if done[run] != (run in wanted)
    ]
    faults += [f"{run.name}: {fault}" for run in runs for fault in faults_of(run, epochs)]
    if len(runs) != len(wanted) + 2:
        faults.append(f"{len(runs)} runs")
    if not died:
        faults.append("no run was under way on the node that was killed")
    if shared:  # an epoch's line holds its seconds: it is the same only if it was not trained again
        for name, lines in kept.items():
            if (folder / "runs" / name / "history.jsonl").read_text().splitlines()[: len(lines)] != lines:
                faults.append(f"{name} lost more than an epoch of the {len(lines)} that were done")
    half = [path.name for path in folder.rglob(".*") if path.name != ".claims"]
    faults += [f"half-written: {name}" for name in half]
    where = "a results folder that all nodes see" if shared else "a results folder of the caller alone"
    print(f"{where}: {len(wanted)} runs, {sum(done.values())} reported, {len(runs)} records; {seconds:.0f} s")
    print("\n".join(f"  {line}" for line in died))
    finished = sum(json.loads((run / "run.json").read_text())["status"] == "finished" for run in runs)
    print(f"  {finished} finished, {sum(map(len, kept.values()))} epochs were done when the node was killed")
    return faults


def memory(args: argparse.Namespace) -> None:
    subprocess.run([sys.executable, HERE / "ranks.py"], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for work in (speed, kill, memory):
        one = commands.add_parser(work.__name__)
        one.set_defaults(work=work)
        if work is not memory:
            one.add_argument("--epochs", type=int, default=60 if work is speed else 30)
        if work is speed:
            one.add_argument("--runs", type=int, default=8)
            one.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    args.work(args)


if __name__ == "__main__":
    main()
