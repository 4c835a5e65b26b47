"""Four processes at once on one results folder, one of them killed in the middle: each run once, none lost.

    python tests/perf/process_drill.py [PROCESSES=4] [REPEATS=3] [EPOCHS=30] [KILLED=1]

Prints what each process did and how many trainings of each run were reported; exit code 1 where a run was trained twice
or not at all, where a record is not whole, or where the processes that lived do not print the same table.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

LOSSES = ("ce", "arcface", "cosface")
DONE = re.compile(r"^(\S+ · repeat \d+)/\d+ · test accuracy", re.MULTILINE)


def main() -> None:
    given = [int(word) for word in sys.argv[1:]] + [4, 3, 30, 1][len(sys.argv) - 1 :]
    processes, repeats, epochs, killed = given
    with tempfile.TemporaryDirectory() as folder:
        words = ["run", "--losses", ",".join(LOSSES), "--repeats", repeats, "--epochs", epochs, "--image-size", 32]
        command = [sys.executable, "-m", "lossbench", *map(str, words), "--threads", "1", "--out", folder]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "LOSSBENCH_CACHE": f"{folder}/cache"}
        texts = [Path(folder) / f"process-{i}.txt" for i in range(processes)]
        begun = time.perf_counter()
        started = [subprocess.Popen(command, env=environment, stdout=p.open("w"), stderr=-2) for p in texts]
        for victim, text in list(zip(started, texts, strict=True))[:killed]:
            while not re.search(r"epoch \d+/", text.read_text()) and victim.poll() is None:
                time.sleep(0.01)
            victim.kill()
        codes = [process.wait() for process in started]
        seconds = time.perf_counter() - begun
        outputs = [path.read_text() for path in texts]
        faults = []
        for i, (code, output) in enumerate(zip(codes, outputs, strict=True)):
            print(f"process {i}: exit code {code}, {len(DONE.findall(output))} runs trained")
            if code != (0 if i >= killed else -9):
                faults.append(f"process {i}: {output[-500:]}")
        trained = Counter(run for output in outputs for run in DONE.findall(output))
        wanted = {f"{loss} · repeat {repeat + 1}" for loss in LOSSES for repeat in range(repeats)}
        faults += [f"{run} was reported {trained[run]} times" for run in wanted if trained[run] != 1]
        tables = {output[output.find("orl: mean") :] for output in outputs[killed:]}
        if len(tables) != 1:
            faults.append(f"{len(tables)} different tables")
        records = [json.loads(path.read_text()) for path in Path(folder).glob("orl/runs/*/run.json")]
        whole = sum(record["status"] == "finished" for record in records)
        if whole != len(wanted) + repeats:
            faults.append(f"{whole} whole records")
        print(
            f"{len(wanted)} runs: {sum(trained.values())} trainings reported, {whole} whole records with the untrained"
        )
        print(f"{len(tables)} table printed by {processes - killed} processes; {seconds:.0f} s")
        print("\n".join(f"FAULT {fault}" for fault in faults) or "each run once, none lost")
        if faults:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
