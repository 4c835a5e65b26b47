"""Runs that torchrun's processes train together: records, failures, and what is left when one is killed."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file
from support import WORDS, Recorder, bench, copied_bench, heed_interrupts, plugin, run_of, wait_for

from lossbench.benchmark.driver import run_benchmark
from lossbench.benchmark.inputs import gather
from lossbench.benchmark.ranks import Silence, _enough, refuse_lost_device, together
from lossbench.config import Config
from lossbench.errors import InputError
from lossbench.results.store import load_records
from lossbench.utils.distributed import Ranks
from lossbench.utils.launch import Launch

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "lossbench"]
PROC = Path("/proc")
LIMIT = 30  # seconds that the others may live when one is dead


def start(*words, **environment):
    """Start `lossbench run` in two processes of torchrun's."""
    own = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(
        [*TORCHRUN, "run", "--image-size", "32", "--repeats", "1", *map(str, words)],
        env=own,
        preexec_fn=heed_interrupts,
        start_new_session=True,
        **quiet,
    )


def workers(torchrun):
    """Return the process ids of torchrun's two processes, by their rank."""
    ranks = {}
    for pid in (PROC / str(torchrun.pid) / "task" / str(torchrun.pid) / "children").read_text().split():
        words = (PROC / pid / "environ").read_text().split("\0")
        ranks |= {word: int(pid) for word in words if word.startswith("RANK=")}
    return [ranks[name] for name in sorted(ranks)]


@pytest.mark.skipif(not (PROC / "self" / "environ").exists(), reason="finds torchrun's processes in /proc")
def test_two_processes_train_what_one_records_and_end_when_one_is_killed(tmp_path):
    body = "\n    def forward(self, embeddings, labels):\n        raise RuntimeError('of the loss')\n"
    words = "--losses", f"{plugin(tmp_path, 'bad', body)},arcface", "--epochs", 4, "--out", tmp_path / "out"
    killed = start(*words)
    history = tmp_path / "out" / "orl" / "runs"
    wait_for(lambda: any(path.stat().st_size for path in history.glob("arcface-*/history.jsonl")))
    os.kill(workers(killed)[1], signal.SIGKILL)
    dead = time.monotonic()
    out, err = killed.communicate(timeout=LIMIT)
    assert time.monotonic() - dead < LIMIT
    ours = [line for line in (out + err).splitlines() if line.startswith("error: ")]
    assert len(ours) == 1
    assert ours[0].endswith("run the same command again to continue")
    assert "Traceback" not in out

    again = start(*words)
    out, err = again.communicate(timeout=300)
    assert again.returncode == 0, err
    assert out.count("arcface · repeat 1/1 · test accuracy") == 1  # by the first process alone
    records = {record["entrant"]: record for record in load_records(tmp_path / "out" / "orl")}
    assert (records["bad"]["status"], records["bad"]["reason"]) == ("failed", "RuntimeError: of the loss")
    assert records["untrained"]["status"] == "finished"
    assert "processes" not in records["untrained"]
    record = records["arcface"]
    assert record["protocol"]["processes"] == record["processes"]["count"] == 2
    assert record["processes"]["class_weights"] == {"ArcFace": "shared out over 2 processes"}
    folder = run_of(tmp_path / "out" / "orl", "arcface")
    assert len((folder / "history.jsonl").read_text().splitlines()) == 4
    assert not list(folder.glob("checkpoint*"))
    assert load_file(folder / "weights.safetensors")["head.weight"].shape == (24, 128)
    assert record["head_parameters"] == 24 * 128


def test_once_ends_with_0_under_torchrun_where_nothing_is_left(lossbench, monkeypatch, tmp_path):
    """torchrun would end any other exit code in a traceback."""
    copied_bench(tmp_path, "ce", repeats=1)
    words = ("run", "--once", "--losses", "ce", "--out", tmp_path, *WORDS)
    code, out, _ = lossbench(*words)
    assert code == 3
    assert "nothing is left to do: all 2 runs are complete" in out
    monkeypatch.setattr("lossbench.cli.main.launch", lambda: Launch(rank=0, size=2))
    assert lossbench(*words)[0] == 0


def test_what_does_not_go_with_torchrun_is_said(monkeypatch, tmp_path):
    place = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, word in place.items():
        monkeypatch.setenv(name, word)
    with pytest.raises(InputError, match=r"^--jobs 2 does not go with torchrun's 2 processes; drop one of the two$"):
        run_benchmark(Config(losses="ce", jobs=2, out=str(tmp_path)), Recorder())
    assert not list(tmp_path.iterdir())


def test_too_many_processes_are_refused(tmp_path):
    inputs = gather(Config(losses="ce", batch_size=32, image_size=32, out=str(tmp_path)), Recorder(), verify=True)
    assert _enough(inputs, 16) is inputs
    with pytest.raises(InputError, match=r"^--batch-size 32 is too few for 17 processes; use 34 or more$"):
        _enough(inputs, 17)
    many = replace(inputs, config=replace(inputs.config, batch_size=100))
    with pytest.raises(InputError, match=r"^there are 24 training people, too few for 25 processes; start 24$"):
        _enough(many, 25)
    refuse_lost_device(inputs)
    with pytest.raises(InputError, match="has made the GPU unusable for these processes"):
        refuse_lost_device(replace(inputs, ranks=Ranks(0, 2)))
    with together(inputs.config, lambda: inputs) as alone:
        assert alone is inputs


def test_one_process_has_todays_hash_and_several_another(tmp_path):
    """Finished runs stay valid, and a setting that is not used is not in their hash."""
    _, records, _ = bench(tmp_path, "ce", repeats=1, epochs=1)
    protocol = records[1]["protocol"]
    assert "processes" not in protocol
    assert "sample_centers" not in protocol["config"]
    assert "processes" not in records[1]


def test_sampled_centers_are_another_run_and_said_in_its_record(tmp_path):
    _, records, heard = bench(tmp_path, "arcface,ce", repeats=1, epochs=1, sample_centers=0.5)
    by = {record["entrant"]: record for record in records}
    assert by["arcface"]["protocol"]["config"]["sample_centers"] == 0.5
    assert by["arcface"]["processes"]["count"] == 1
    assert by["arcface"]["processes"]["class_weights"] == {
        "ArcFace": "a step scores a share of 0.5 of them, or as many as its batch has images"
    }
    reason = "it uses its class weights in another way than margin_softmax"
    assert f"ce: CE scores all classes always: {reason}" in heard.notes
    assert by["ce"]["processes"]["class_weights"] == {"CE": f"all in each step: {reason}"}


def test_processes_that_report_nothing_have_a_listener():
    listener = Silence()
    for name in ("decoding", "look"):
        assert getattr(listener, name)(1, 2) is None
    assert (
        listener.start(1, 2, 3)
        is listener.epoch(None, None)
        is listener.finished(None, {})
        is listener.note("")
        is None
    )
