"""Many processes on one results folder, and many jobs of one command: each run once, none lost, the same bits."""

import multiprocessing
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support import LOSS, Recorder, bench, figures, heed_interrupts, plugin

from lossbench.benchmark.driver import run_benchmark
from lossbench.benchmark.locks import claimed
from lossbench.benchmark.workers import _hear, _Worker
from lossbench.config import Config
from lossbench.errors import InputError
from lossbench.results.store import load_records, read_record

COMMAND = [sys.executable, "-m", "lossbench", "run", "--image-size", "32"]
DONE = re.compile(r"^(\S+) · repeat (\d)/\d · test accuracy", re.MULTILINE)


def start(*words, **options):
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*COMMAND, *map(str, words)], env=environment, preexec_fn=heed_interrupts, **quiet, **options
    )


def wait_for(what, seconds=120):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def nobody_left(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


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


def test_a_run_that_another_process_just_finished_is_not_trained_again(tmp_path):
    """Also with --force, and whoever comes first."""
    folder, _, _ = bench(tmp_path, "ce", repeats=1)
    run = next(folder.glob("runs/ce-*"))
    words = ("--losses", "ce", "--repeats", 1, "--epochs", 2, "--out", tmp_path, "--force")
    with claimed(run) as mine, claimed(next(folder.glob("runs/untrained-*"))):
        assert mine
        waiting = start(*words)
        for line in waiting.stdout:
            if "being trained by other processes; waiting for them" in line:
                break
        text = (run / "run.json").read_text()
        (run / "run.json").write_text(text.replace('"seed": 0', '"seed": 0, "by": "another"'))
    out, _ = waiting.communicate(timeout=100)
    assert waiting.returncode == 0
    assert "ce · repeat 1/1 · done by another process" in out
    assert read_record(run)["by"] == "another"


def test_jobs_give_the_same_bits_and_lose_no_run_to_a_plugin_that_kills(tmp_path):
    body = "\n    def forward(self, embeddings, labels):\n        import os, signal\n        self.epoch += 1\n"
    deadly = {"killed": "os.kill(os.getpid(), signal.SIGKILL)", "left": "os._exit(3)"}
    bad = [
        plugin(tmp_path, name, f"{body}        if self.epoch > 5:\n            {how}\n        return {LOSS}\n")
        for name, how in deadly.items()
    ]
    _, one, _ = bench(tmp_path / "one", "ce,arcface", threads=1, repeats=1)
    _, two, heard = bench(tmp_path / "two", f"ce,{','.join(bad)},arcface", threads=1, jobs=2, repeats=1)
    found = {record["entrant"]: record for record in two}
    assert figures([found["untrained"], found["ce"], found["arcface"]]) == figures(one)
    for record in one[1:]:
        other = found[record["entrant"]]
        weights = [load_file(f"{r['folder']}/weights.safetensors") for r in (record, other)]
        assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])
        assert record["hash"] == other["hash"]
    assert found["killed"]["status"] == found["left"]["status"] == "failed"
    assert found["killed"]["epoch"] == found["left"]["epoch"] == 2
    assert "its process was killed by signal 9 (SIGKILL); out of memory?" in found["killed"]["reason"]
    assert "its process was ended with exit code 3" in found["left"]["reason"]
    assert Counter(run[0] for run in heard.trained) == {"ce": 2, "arcface": 2, "killed": 1, "left": 1}
    _, _, heard = bench(tmp_path / "two", f"ce,{','.join(bad)},arcface", threads=1, jobs=2, repeats=1)
    assert (heard.runs, heard.skipped) == (0, 5)


def test_a_device_that_a_failed_run_has_made_useless_stops_no_other_run(tmp_path, monkeypatch):
    """On CUDA an index beyond a tensor does so; here the answer to the question is given."""
    monkeypatch.setattr("lossbench.benchmark.queue.device_is_lost", lambda device: True)
    bad = plugin(
        tmp_path, "bad", "\n    def forward(self, embeddings, labels):\n        raise RuntimeError('assert')\n"
    )
    _, records, heard = bench(tmp_path / "out", f"{bad},ce,cosface", repeats=1)
    assert [r["status"] for r in records] == ["finished", "failed", "finished", "finished"]
    assert len(heard.trained) == 4


def test_threads_are_part_of_a_run_and_shared_among_jobs(tmp_path):
    bench(tmp_path, "ce", repeats=1, threads=1)
    _, records, heard = bench(tmp_path, "ce", repeats=1, threads=2)
    assert heard.trained
    assert [r["machine"]["threads"] for r in records] == [2, 2]
    assert torch.get_num_threads() == 1  # as before
    assert heard.notes == [
        f"2 finished runs were made with 1 threads (--threads 1 reuses them): kept in {tmp_path}/orl, not reused"
    ]
    _, _, heard = bench(tmp_path, "ce", repeats=1, jobs=2)  # of one thread in all: one each
    assert not heard.trained


@pytest.mark.parametrize(("name", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_stops_all_jobs_at_once_and_the_same_command_goes_on(tmp_path, name, code):
    words = ("--losses", "ce,arcface,cosface", "--repeats", 1, "--epochs", 30, "--jobs", 2, "--out", tmp_path)
    process = start(*words, start_new_session=True)
    wait_for(lambda: len(list(tmp_path.glob("orl/runs/*/checkpoint.pt"))) == 2)
    os.killpg(process.pid, name)  # as a terminal or a batch system does: to all of them
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (code, "error: stopped; run the same command again to continue\n")
    wait_for(lambda: nobody_left(process.pid), seconds=60)
    kept = [path.parent.name for path in tmp_path.glob("orl/runs/*/checkpoint.pt")]
    assert len(kept) == 2
    config = Config(losses="ce,arcface,cosface", repeats=1, epochs=30, image_size=32, out=str(tmp_path), jobs=2)
    _, records = run_benchmark(config, heard := Recorder())
    assert [record["status"] for record in records] == ["finished"] * 4
    assert heard.runs == 3


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
    kept = history.read_text().splitlines()[:-1]  # the last may have been told of and not be in the checkpoint yet
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


@pytest.mark.parametrize("sent", [b"", b"\0\0", struct.pack("!i", 20_000) + b"half"])
def test_a_worker_that_dies_in_the_middle_of_a_message_is_buried(sent):
    ours, theirs = multiprocessing.Pipe()
    os.write(theirs.fileno(), sent)
    theirs.close()
    process = multiprocessing.get_context("spawn").Process(target=os._exit, args=(3,))
    process.start()
    worker = _Worker(process, ours)
    with pytest.raises(InputError, match="a worker process was ended with exit code 3 while it started"):
        _hear(worker, None, None, None)
    assert worker.gone


def test_a_process_whose_parent_is_killed_ends_too(tmp_path):
    words = ("--losses", "ce,arcface", "--repeats", 1, "--epochs", 2000, "--jobs", 2, "--out", tmp_path)
    process = start(*words, start_new_session=True)
    wait_for(lambda: len(list(tmp_path.glob("orl/runs/*/checkpoint.pt"))) == 2)
    process.kill()
    process.communicate()

    wait_for(lambda: nobody_left(process.pid), seconds=20)
    assert [path.parent.name[:9] for path in tmp_path.glob("orl/runs/*/run.json")] == ["untrained"]


@pytest.mark.parametrize("words", [("--jobs", "0"), ("--threads", "0"), ("--jobs", "two")])
def test_bad_numbers_are_one_line(lossbench, tmp_path, words):
    code, _, err = lossbench("run", *words, "--out", tmp_path / "out")
    assert code == 2
    assert words[0] in err
    assert err.count("\n") == 1
