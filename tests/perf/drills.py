"""Drills that take minutes: what processes, kills and short trainings must survive, as pytest runs it.

    python -m pytest -n0 tests/perf/drills.py

The suite has a short form of each (tests/benchmark, tests/training, tests/evaluation).
"""

import os
import re
import shutil
import signal
from collections import Counter
from pathlib import Path

import pytest
from support import Recorder, bench, figures, nobody_left, start, wait_for

from lossbench.benchmark.driver import run_benchmark
from lossbench.config import Config
from lossbench.results.store import load_records

DONE = re.compile(r"^(\S+) · repeat (\d)/\d · test accuracy", re.MULTILINE)


def test_four_processes_do_each_run_once_and_one_that_is_killed_loses_none(tmp_path):
    words = ("--losses", "ce,arcface,cosface", "--repeats", 3, "--epochs", 16, "--out", tmp_path)
    processes = [start(*words) for _ in range(4)]
    wait_for(lambda: list(tmp_path.glob("orl/runs/*/checkpoint.pt")))
    for line in (victim := processes[0]).stdout:
        if "epoch 4/16" in line:  # in the middle of a run
            break
    victim.kill()
    victim.communicate()
    outputs = [process.communicate(timeout=200) for process in processes[1:]]
    assert [process.returncode for process in processes] == [-signal.SIGKILL, 0, 0, 0]
    assert [err for _, err in outputs] == [""] * 3
    tables = {out[out.index("orl: mean") :] for out, _ in outputs}
    assert len(tables) == 1
    assert next(iter(tables)).count("±") > 12
    done = Counter(match for out, _ in outputs for match in DONE.findall(out))
    assert set(done) == {(loss, str(repeat)) for loss in ("ce", "arcface", "cosface") for repeat in (1, 2, 3)}
    assert set(done.values()) == {1}
    for record in load_records(tmp_path / "orl"):
        assert record["status"] == "finished"
    folders = list((tmp_path / "orl" / "runs").iterdir())
    assert len(folders) == 12
    for folder in folders:
        left = {"embeddings.npz", "resamples.npz", "run.json", "weights.safetensors"}
        left |= set() if folder.name.startswith("untrained") else {"history.jsonl"}
        assert {path.name for path in folder.iterdir()} == left
        if "history.jsonl" in left:
            assert len((folder / "history.jsonl").read_text().splitlines()) == 16


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs Linux's /proc to find the workers")
def test_a_worker_that_is_stopped_from_outside_fails_no_run(tmp_path):
    words = ("--losses", "ce,arcface", "--repeats", 1, "--epochs", 2000, "--jobs", 2, "--out", tmp_path)
    process = start(*words)
    wait_for(lambda: len(list(tmp_path.glob("orl/runs/*/checkpoint.pt"))) == 2)
    workers = workers_of(process)
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    says = "a worker process was killed by signal 15 (SIGTERM); run the same command again to continue"
    assert (process.returncode, err) == (2, f"error: {says}\n")
    assert [path.parent.name[:9] for path in tmp_path.glob("orl/runs/*/run.json")] == ["untrained"]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs Linux's /proc to find the workers")
def test_a_run_whose_process_was_killed_goes_on_from_its_checkpoint_when_it_is_retried(tmp_path):
    settings = {"threads": 1, "jobs": 2, "repeats": 1, "epochs": 40}
    _, whole, _ = bench(tmp_path / "whole", "ce,arcface", **settings)
    words = ("--losses", "ce,arcface", "--repeats", 1, "--epochs", 40, "--threads", 1, "--jobs", 2)
    process = start(*words, "--out", tmp_path / "parts")
    histories = tmp_path / "parts" / "orl" / "runs"
    wait_for(lambda: sum(len(file.read_text().splitlines()) >= 5 for file in histories.glob("*/history.jsonl")) == 2)
    os.kill(workers_of(process)[0], signal.SIGKILL)
    assert process.wait(timeout=100) in (0, 1)
    (killed,) = [record for record in load_records(tmp_path / "parts" / "orl") if record["status"] == "failed"]
    assert "its process was killed by signal 9" in killed["reason"]
    assert killed["epoch"] > 5
    history = Path(killed["folder"]) / "history.jsonl"
    kept = history.read_text().splitlines()[:-1]  # the last may have been reported and not be in the checkpoint yet
    _, again, _ = bench(tmp_path / "parts", "ce,arcface", **settings)  # also a command between leaves it alone
    assert [record["status"] for record in again].count("failed") == 1
    shutil.copytree(tmp_path / "parts", tmp_path / "forced")
    _, ended, _ = bench(tmp_path / "parts", "ce,arcface", retry_failed=True, **settings)
    assert figures(ended) == figures(whole)
    assert history.read_text().splitlines()[: len(kept)] == kept, "seconds and all"
    assert not (Path(killed["folder"]) / "checkpoint.pt").exists()
    _, forced, _ = bench(tmp_path / "forced", "ce,arcface", retry_failed=True, force=True, **settings)
    assert figures(forced) == figures(whole)
    anew = tmp_path / "forced" / history.relative_to(tmp_path / "parts")
    assert anew.read_text().splitlines()[0] != kept[0], "from the start: its seconds are others"


def workers_of(process):
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in children if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]


def test_a_process_whose_parent_is_killed_ends_too(tmp_path):
    words = ("--losses", "ce,arcface", "--repeats", 1, "--epochs", 2000, "--jobs", 2, "--out", tmp_path)
    process = start(*words, start_new_session=True)
    wait_for(lambda: len(list(tmp_path.glob("orl/runs/*/checkpoint.pt"))) == 2)
    process.kill()
    process.communicate()

    wait_for(lambda: nobody_left(process.pid), seconds=20)
    assert [path.parent.name[:9] for path in tmp_path.glob("orl/runs/*/run.json")] == ["untrained"]


def test_healthy_short_trainings_are_not_called_ill(tmp_path):
    """The losses that come nearest to the rules: values that rise by design, no scores, negative scores."""
    losses = "ce,sphereface,curricularface,triplet,circle,uniface,sphereface2,proxy_anchor"
    for epochs in (2, 13):  # 13 epochs of 4 steps: the first length that is judged
        config = Config(losses=losses, out=str(tmp_path), epochs=epochs, repeats=1, image_size=32, device="cpu")
        _, records = run_benchmark(config, Recorder())
        assert [r["reason"] for r in records if r["status"] == "failed"] == []
