"""One run as a node does it, in this process: only the desk is no actor."""

import hashlib
from dataclasses import replace

import pytest
from support import FAST, Recorder, bench

from lossbench.benchmark.engines import ray_node
from lossbench.benchmark.engines.ray_bootstrap import Desk, facts
from lossbench.benchmark.engines.ray_node import Answer, Job, Task, train
from lossbench.benchmark.engines.ray_parcels import pack
from lossbench.benchmark.inputs import gather
from lossbench.benchmark.plan import plan_runs
from lossbench.config import Config


class Handle:
    """A desk that answers at once."""

    def __init__(self):
        self.desk = Desk({})

    def __getattr__(self, name):
        return type("Method", (), {"remote": staticmethod(getattr(self.desk, name))})


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A job of ce on the untrained backbone and ce, and its runs."""
    monkeypatch.setattr(ray_node, "_get", lambda value: value)
    config = Config(losses="ce", out=str(tmp_path / "out"), threads=1, device="cpu", **{**FAST, "repeats": 1})
    inputs = gather(config, Recorder(), verify=True)
    runs = plan_runs(inputs.config, inputs.specs, inputs.faces, inputs.fingerprints, "cpu", inputs.folder)
    luggage = pack(inputs, Recorder())
    light = replace(inputs, faces=replace(inputs.faces, files=()))
    return Job("key", light, luggage, 1, facts(""), None, Handle()), runs


def test_without_a_shared_folder_the_files_of_the_run_come_back_in_order(job, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_node, "CHUNK", 10_000)
    job, runs = job
    answer, *chunks = train(job, Task(runs[1], 7, {}))
    assert isinstance(answer, Answer)
    assert answer.kind == "done"
    assert [name for name, _, _ in answer.files][-1] == "run.json"
    data = b"".join(chunks)
    for name, size, digest in answer.files:
        content, data = data[:size], data[size:]
        assert hashlib.sha256(content).hexdigest() == digest, name
    assert data == b""
    assert not (tmp_path / "out").exists(), "nothing is written to the caller's folder"
    said = job.desk.desk.heard()
    assert [(number, kind) for number, kind, _ in said] == [(7, kind) for kind in ("begun", "epoch", "epoch", "left")]
    _, records, _ = bench(tmp_path / "local", "ce", threads=1, repeats=1)
    assert answer.done.record["metrics"] == records[1]["metrics"]
    assert answer.done.record["hash"] == records[1]["hash"]


def test_a_node_that_does_not_see_the_shared_folder_says_so(job, tmp_path):
    job, runs = job
    (answer,) = train(replace(job, token=tmp_path / "token"), Task(runs[1], 1, {}))
    assert answer.kind == "blind"


def test_another_plugin_than_the_callers_is_refused(job):
    job, runs = job
    run = replace(runs[1], identity={**runs[1].identity, "plugin": "0" * 64})
    (answer,) = train(job, Task(run, 1, {}))
    assert answer.kind == "stop"
    assert answer.text.startswith("ce is not the same loss as for the caller; install the same files everywhere (on no")


def test_a_node_that_has_joined_later_with_another_torch_is_refused(job, monkeypatch):
    monkeypatch.setattr(ray_node, "_ready", {})
    job, runs = job
    ours = job.ours._replace(packages={**job.ours.packages, "torch": "1.0"})
    (answer,) = train(replace(job, ours=ours), Task(runs[1], 1, {}))
    assert answer.kind == "stop"
    assert ", this machine torch 1.0, and figures depend on it; run there: pip install torch==1.0 (on" in answer.text
