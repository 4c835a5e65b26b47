"""Many processes on one results folder, and many jobs of one command: each run once, none lost, the same bits."""

import multiprocessing
import os
import signal
import struct
from collections import Counter
from contextlib import ExitStack

import pytest
import torch
from safetensors.torch import load_file
from support import FAST, LOSS, Recorder, bench, copied_bench, figures, network, nobody_left, plugin, start, wait_for

from lossbench.benchmark.driver import run_benchmark
from lossbench.benchmark.locks import claimed
from lossbench.benchmark.workers import _hear, _Worker
from lossbench.config import Config
from lossbench.errors import InputError
from lossbench.results.store import read_record
from lossbench.utils.files import write_text


def test_a_run_that_another_process_just_finished_is_not_trained_again(tmp_path):
    """Also with --force, and whichever comes first."""
    folder, _, _ = copied_bench(tmp_path, "ce", repeats=1)
    run = next(folder.glob("runs/ce-*"))
    done = []

    class Meanwhile(Recorder):
        """The other process finishes both runs while this one waits for them."""

        def note(self, text):
            super().note(text)
            text = (run / "run.json").read_text()
            write_text(run / "run.json", text.replace('"seed": 0', '"seed": 0, "by": "another"'))
            theirs.close()

        def finished(self, run, record):
            done.append((run.entrant, run.record is not None))

    with ExitStack() as theirs:
        assert all(theirs.enter_context(claimed(one)) for one in (run, next(folder.glob("runs/untrained-*"))))
        heard = Meanwhile()
        run_benchmark(Config(losses="ce", out=str(tmp_path), **{**FAST, "repeats": 1}), heard, force=True)
    assert heard.notes == ["2 runs are being trained by other processes; waiting for them"]
    assert heard.trained == []
    assert ("ce", True) in done, "done by another process"
    assert read_record(run)["by"] == "another"


def test_jobs_give_the_same_bits_and_lose_no_run_to_a_plugin_that_kills(tmp_path):
    body = "\n    def forward(self, embeddings, labels):\n        import os, signal\n        self.epoch += 1\n"
    kills = f"        if self.epoch > 5:\n            os.kill(os.getpid(), signal.SIGKILL)\n        return {LOSS}\n"
    losses = f"ce,{plugin(tmp_path, 'killed', body + kills)},arcface"
    settings = {"threads": 1, "repeats": 1, "backbone": network(tmp_path)}  # a file, which every process loads
    _, one, _ = bench(tmp_path / "one", "ce,arcface", **settings)
    _, two, heard = bench(tmp_path / "two", losses, jobs=2, **settings)
    found = {record["entrant"]: record for record in two}
    assert figures([found["untrained"], found["ce"], found["arcface"]]) == figures(one)
    for record in one[1:]:
        other = found[record["entrant"]]
        weights = [load_file(f"{r['folder']}/weights.safetensors") for r in (record, other)]
        assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])
        assert record["hash"] == other["hash"]
    assert (found["killed"]["status"], found["killed"]["epoch"]) == ("failed", 2)
    assert "its process was killed by signal 9 (SIGKILL); out of memory?" in found["killed"]["reason"]
    assert Counter(run[0] for run in heard.trained) == {"ce": 2, "arcface": 2, "killed": 1}
    _, _, heard = bench(tmp_path / "two", losses, jobs=2, **settings)
    assert (heard.runs, heard.skipped) == (0, 4)


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


def test_a_signal_stops_all_jobs_at_once_and_the_same_command_continues(tmp_path):
    words = ("--losses", "ce,arcface", "--repeats", 1, "--epochs", 20, "--jobs", 2, "--out", tmp_path)
    process = start(*words, start_new_session=True)
    wait_for(lambda: len(list(tmp_path.glob("orl/runs/*/checkpoint.pt"))) == 2)
    os.killpg(process.pid, signal.SIGTERM)  # as a terminal or a batch system does: to all of them
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (143, "error: stopped; run the same command again to continue\n")
    wait_for(lambda: nobody_left(process.pid), seconds=60)
    kept = [path.parent.name for path in tmp_path.glob("orl/runs/*/checkpoint.pt")]
    assert len(kept) == 2
    config = Config(losses="ce,arcface", repeats=1, epochs=20, image_size=32, out=str(tmp_path))
    _, records = run_benchmark(config, heard := Recorder())
    assert [record["status"] for record in records] == ["finished"] * 3
    assert heard.runs == 2


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


@pytest.mark.parametrize("words", [("--jobs", "0"), ("--threads", "0"), ("--jobs", "two")])
def test_bad_numbers_are_one_line(lossbench, tmp_path, words):
    code, _, err = lossbench("run", *words, "--out", tmp_path / "out")
    assert code == 2
    assert words[0] in err
    assert err.count("\n") == 1
