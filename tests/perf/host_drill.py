"""Processes that believe to be on hosts of their own, without locks of the system; one is killed, one stands still.

    python tests/perf/host_drill.py [HOSTS=4] [REPEATS=2] [EPOCHS=30] [STALE=5]

All run the same benchmark on one folder. In mid-run the first is killed with SIGKILL, and the second is stopped with
SIGSTOP and continued when the others have ended: its run was then taken over after STALE seconds. Prints what each
process did, which runs were left to others and how often each was reported; exit code 1 where a run was trained to its
end twice or not at all, where a file of a run is not what its record says, where a half-written file or a checkpoint is
left, or where the processes that lived do not print the same table.
"""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from support import on_host, wait_for

LOSSES = ("ce", "arcface", "cosface")
DONE = re.compile(r"^(\S+ · repeat \d+)/\d+ · test accuracy", re.MULTILINE)
LEFT = re.compile(r"^note: (\S+, repeat \d+), is left to another process", re.MULTILINE)


def main() -> None:
    given = [int(word) for word in sys.argv[1:]] + [4, 2, 30, 5][len(sys.argv) - 1 :]
    hosts, repeats, epochs, stale = given
    with tempfile.TemporaryDirectory() as folder:
        words = ["run", "--losses", ",".join(LOSSES), "--repeats", repeats, "--epochs", epochs, "--image-size", 32]
        words += ["--threads", 1, "--out", folder]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "LOSSBENCH_CACHE": f"{folder}/cache"}
        texts = [Path(folder) / f"host-{i}.txt" for i in range(hosts)]
        begun = time.perf_counter()
        started = [
            subprocess.Popen(on_host(f"host{i}", 0.25, stale, *words), env=environment, stdout=p.open("w"), stderr=-2)
            for i, p in enumerate(texts)
        ]
        for victim, text in list(zip(started, texts, strict=True))[:2]:
            wait_for(lambda text=text, victim=victim: re.search(r"epoch \d+/", text.read_text()) or victim.poll())
            victim.send_signal(signal.SIGKILL if victim is started[0] else signal.SIGSTOP)
        codes = [process.wait() for process in started[2:]]
        started[1].send_signal(signal.SIGCONT)
        codes = [started[0].wait(), started[1].wait(), *codes]
        outputs = [path.read_text() for path in texts]
        faults = []
        for i, (code, output) in enumerate(zip(codes, outputs, strict=True)):
            print(f"host{i}: exit code {code}, {len(DONE.findall(output))} runs trained, left: {LEFT.findall(output)}")
            if code != (-9 if i == 0 else 0):
                faults.append(f"host{i}: {output[-500:]}")
        trained = Counter(run for output in outputs for run in DONE.findall(output))
        wanted = {f"{loss} · repeat {repeat + 1}" for loss in LOSSES for repeat in range(repeats)}
        faults += [f"{run} was reported {trained[run]} times" for run in wanted if trained[run] != 1]
        if len(LEFT.findall(outputs[1])) != 1:
            faults.append("the one that stood still left no run to others")
        if len(tables := {output[output.find("orl: mean") :] for output in outputs[1:]}) != 1:
            faults.append(f"{len(tables)} different tables")
        runs = list(Path(folder).glob("orl/runs/*"))
        faults += [f"{run.name}: {fault}" for run in runs for fault in faults_of(run, epochs)]
        if len(runs) != len(wanted) + repeats:
            faults.append(f"{len(runs)} runs")
        print(f"{len(wanted)} runs: {sum(trained.values())} reported, {len(runs)} records with the untrained")
        print(f"{len(tables)} table printed by {hosts - 1} processes; {time.perf_counter() - begun:.0f} s")
        print("\n".join(f"FAULT {fault}" for fault in faults) or "each run once, none lost")
        if faults:
            raise SystemExit(1)


def faults_of(run: Path, epochs: int) -> list[str]:
    """Return what is wrong with the files of a run."""
    record = json.loads((run / "run.json").read_text()) if (run / "run.json").exists() else {}
    if record.get("status") != "finished":
        return [f"status {record.get('status')}"]
    found = []
    if record["weights_sha256"] != hashlib.sha256((run / "weights.safetensors").read_bytes()).hexdigest():
        found.append("other weights")
    history = run / "history.jsonl"
    if history.exists() and [json.loads(line)["epoch"] for line in history.open()] != list(range(1, epochs + 1)):
        found.append("other epochs")
    usual = {"run.json", "history.jsonl", "weights.safetensors", "embeddings.npz", "resamples.npz"}
    return found + [f"{file.name} is left" for file in run.iterdir() if file.name not in usual]


if __name__ == "__main__":
    main()
