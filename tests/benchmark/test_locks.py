"""Runs that processes share without locks of the system: claimed once, taken over, and never written by two."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from support import bench, on_host, wait_for

from lossbench.benchmark.locks import claimed, end_of_dead, is_held, one_at_a_time, silence
from lossbench.results.store import read_record
from lossbench.utils import claims, owner
from lossbench.utils.files import heed_fence
from lossbench.utils.owner import Owner

BEAT, STALE = 0.1, 2.0  # seconds


def test_a_claim_ends_with_its_process_however_that_ends(tmp_path):
    run = tmp_path / "orl" / "runs" / "ce-r0-0123"
    script = (
        "import sys, time, pathlib; from lossbench.benchmark.locks import claimed\n"
        "with claimed(pathlib.Path(sys.argv[1])) as mine:\n    print(mine, flush=True); time.sleep(60)"
    )
    assert not is_held(run)
    holder = subprocess.Popen([sys.executable, "-c", script, run], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "True\n"
    assert is_held(run)
    with claimed(run) as mine:
        assert not mine
    with claimed(run.with_name("ce-r1-0123")) as other:
        assert other
    holder.kill()
    holder.wait()
    assert is_held(run), "nobody has ended it"
    with claimed(run) as mine:
        assert mine
        assert silence(run) < claims.STALE
    assert not is_held(run)
    assert not run.exists()


def test_a_folder_has_one_process_at_a_time_and_one_that_lost_it_says_so(tmp_path):
    with pytest.raises(OSError, match="did not run for 180 s") as lost, one_at_a_time(tmp_path):  # noqa: PT012
        with claims.claimed(tmp_path / ".claims" / "benchmark", tmp_path) as again:
            assert not again
        (tmp_path / ".claims" / "benchmark" / "1").unlink()
        heed_fence()
    assert lost.value.errno == errno.ESTALE


def test_a_run_of_a_host_that_stands_still_is_taken_over_and_not_written_when_it_continues(tmp_path, monkeypatch):
    """Two hosts without locks: one is stopped in the middle of a run, and continued when the other has finished it."""
    words = ("--losses", "ce", "--repeats", 1, "--epochs", 30, "--image-size", 32, "--threads", 1, "--out", tmp_path)
    command = on_host("first", BEAT, STALE, "run", *words)
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: list(tmp_path.glob("orl/runs/ce-*/checkpoint.pt")))
    first.send_signal(signal.SIGSTOP)
    (run,) = tmp_path.glob("orl/runs/ce-*")
    assert read_record(run) is None

    def unsupported(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    monkeypatch.setattr(owner, "this_machine", lambda: ("second", "second"))
    monkeypatch.setattr(claims, "BEAT", BEAT)
    monkeypatch.setattr(claims, "STALE", STALE)
    _, records, heard = bench(tmp_path, "ce", repeats=1, epochs=30, threads=1)
    assert [record["status"] for record in records] == ["finished"] * 2
    assert heard.notes == ["1 run is being trained by other processes; waiting for them"]
    assert [epoch for entrant, _, epoch in heard.trained if entrant == "ce"] == list(range(1, 31))
    whole = {path.name: path.read_bytes() for path in run.iterdir()}
    assert whole.keys() == {"run.json", "history.jsonl", "weights.safetensors", "embeddings.npz", "resamples.npz"}

    first.send_signal(signal.SIGCONT)
    out, err = first.communicate(timeout=200)
    assert (first.returncode, err) == (0, "")
    said = "this process did not run for 2 s, and another one took over its work"
    assert f"note: ce, repeat 1, is left to another process: {said}" in out
    assert "ce · repeat 1/1 · done by another process" in out
    assert {path.name: path.read_bytes() for path in run.iterdir()} == whole
    assert [json.loads(line)["epoch"] for line in whole["history.jsonl"].splitlines()] == list(range(1, 31))


def test_the_claim_on_a_run_can_be_ended_for_a_process_that_is_dead(tmp_path):
    run = tmp_path / "runs" / "ce-r0-abc"
    with claimed(run):
        end_of_dead(run, replace(Owner.this_process(), host="another"))
        assert is_held(run)
        end_of_dead(run, Owner.this_process())
        assert not is_held(run)
