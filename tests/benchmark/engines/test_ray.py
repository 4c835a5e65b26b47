"""Benchmarks on a cluster whose node is as on another machine: no disk, no lossbench and no plugins of the caller's."""

import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from support import FORWARD, LOSS, Recorder, bench, figures, network, plugin, start, wait_for

from lossbench.benchmark.driver import run_benchmark
from lossbench.benchmark.engines import ray_flights
from lossbench.benchmark.engines.ray_node import Task
from lossbench.config import Config
from lossbench.errors import InputError

pytestmark = pytest.mark.extra("ray")
USUAL = {"run.json", "history.jsonl", "weights.safetensors", "embeddings.npz", "resamples.npz"}


@pytest.fixture(params=["shared", "apart"])
def place(request, cluster, tmp_path, monkeypatch):
    """A folder for results that the node sees, or not; then it does not see the images either."""
    if request.param == "shared":
        return tmp_path
    folder = cluster.hidden / tmp_path.name
    folder.mkdir()
    monkeypatch.setenv("LOSSBENCH_CACHE", str(cluster.hidden / "cache"))
    return folder


def on(cluster, place, losses, **options):
    return bench(place, losses, engine="ray", ray_address=cluster.address, threads=1, repeats=1, **options)


def half_written(folder):
    return [path for path in folder.rglob("*") if path.name.startswith(".") and path.name != ".claims"]


def unfinished_claims(folder):
    return [path for path in folder.glob(".claims/*/*") if not path.name.endswith(".over")]


def test_the_figures_are_those_of_the_local_engine_to_the_last_bit(cluster, place):
    mine, net = plugin(place, "mine", FORWARD), network(place)
    folder, records, heard = on(cluster, place / "ray", f"ce,{mine}", backbone=net)
    _, local, known = bench(place / "local", f"ce,{mine}", backbone=net, threads=1, repeats=1)
    assert figures(records) == figures(local)
    for ours, theirs in zip(records, local, strict=True):
        assert [ours[key] for key in ("hash", "weights_sha256")] == [theirs[key] for key in ("hash", "weights_sha256")]
    assert sorted(heard.trained) == sorted(known.trained)
    for run in folder.glob("runs/*"):
        assert {file.name for file in run.iterdir()} == USUAL - (
            {"history.jsonl"} if "untrained" in run.name else set()
        )
    assert half_written(folder) == []
    assert unfinished_claims(folder) == []
    _, _, again = on(cluster, place / "ray", f"ce,{mine}", backbone=net)
    assert (again.runs, again.trained) == (0, [])
    said = ["not all nodes see the results folder: finished runs are sent here, without checkpoints"]
    assert heard.notes == (said if place.is_relative_to(cluster.hidden) else [])
    if heard.notes:
        assert len(list(cluster.cache.glob("*-400x32.npy"))) == 1, "the images have been sent"


class _Stops(Recorder):
    def epoch(self, run, epoch):
        super().epoch(run, epoch)
        if epoch.epoch == 3:
            raise KeyboardInterrupt


def test_ctrl_c_leaves_nothing_half_written_and_the_next_command_continues(cluster, place):
    words = {"losses": "ce", "out": str(place), "epochs": 40, "image_size": 32, "repeats": 1, "threads": 1}
    config = Config(engine="ray", ray_address=cluster.address, **words)
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(config, _Stops())
    folder = place / "orl"
    assert half_written(folder) == []
    assert unfinished_claims(folder) == []
    assert not list(folder.glob("runs/ce-*/run.json"))
    heard = Recorder()
    _, records = run_benchmark(config, heard)
    assert {record["status"] for record in records} == {"finished"}
    assert [epoch for _, _, epoch in heard.trained] == list(range(1, 41))
    (history,) = folder.glob("runs/ce-*/history.jsonl")
    assert [json.loads(line)["epoch"] for line in history.open()] == list(range(1, 41))


def test_a_run_whose_process_dies_is_done_again_and_the_others_do_not_notice(cluster, place):
    once = f"""
    def forward(self, embeddings, labels):
        import os, pathlib, signal
        self.epoch += 1
        mark = pathlib.Path(os.environ["LOSSBENCH_CACHE"], "died-{place.name}")
        if self.epoch == 10 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {LOSS}
"""
    _, records, heard = on(cluster, place, f"ce,{plugin(place, 'dies_once', once)}", epochs=4)
    assert [record["status"] for record in records] == ["finished"] * 3
    (note,) = [note for note in heard.notes if "died" in note]
    how = "begins again" if place.is_relative_to(cluster.hidden) else "continues from its last epoch"
    assert note.startswith("dies_once, repeat 1: its process on ")
    assert note.endswith(f"; it {how}, retry 1 of 3")
    assert [epoch for name, _, epoch in heard.trained if name == "dies_once"] == [1, 2, 3, 4]
    assert half_written(place / "orl") == []


def test_a_run_that_always_kills_its_process_fails_alone(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_flights, "RETRIES", 0)
    deadly = plugin(tmp_path, "deadly", "\n    def forward(self, e, y):\n        import os\n        os._exit(3)\n")
    _, records, _ = on(cluster, tmp_path, f"ce,{deadly}")
    assert [record["status"] for record in records] == ["finished", "finished", "failed"]
    assert "its process on " in records[2]["reason"]
    assert records[2]["process_died"] is True


def test_a_plugin_that_the_nodes_cannot_import_is_one_line(cluster, place, monkeypatch):
    here = place / "here"
    here.mkdir()
    (here / "only_here.py").write_text("MARGIN = 0.1\n")
    monkeypatch.syspath_prepend(str(here))
    mine = Path(plugin(place, "needs_more", FORWARD))
    mine.write_text("from only_here import MARGIN\n" + mine.read_text())
    with pytest.raises(InputError) as error:
        on(cluster, place / "out", str(mine))
    sys.modules.pop("only_here", None)
    assert "ModuleNotFoundError: No module named 'only_here'" in str(error.value)
    assert "; install what needs_more needs on every node (on node " in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(place.glob("out/orl/runs/needs_more*/*"))


def test_what_no_node_has_is_one_line_and_nothing_is_written(cluster, tmp_path):
    with pytest.raises(
        InputError, match=r"^each run asks for 64 CPUs \(--threads\), and no node of the Ray cluster has"
    ):
        bench(tmp_path, "ce", engine="ray", ray_address=cluster.address, threads=64, repeats=1)
    with pytest.raises(
        InputError, match=r"^--device cuda: no node of the Ray cluster has a GPU; use cpu, or add such a"
    ):
        on(cluster, tmp_path, "ce", device="cuda")
    with pytest.raises(InputError, match=r"^--device cuda:0: Ray chooses the GPU of each run; use cuda$"):
        on(cluster, tmp_path, "ce", device="cuda:0")
    assert not list(tmp_path.glob("orl/runs/*"))


def test_a_full_object_store_is_one_line_and_nothing_is_half_written(cluster, tmp_path, monkeypatch):
    import ray

    folder = cluster.hidden / tmp_path.name
    monkeypatch.setenv("LOSSBENCH_CACHE", str(cluster.hidden / "cache"))
    held = []
    with suppress(ray.exceptions.OutOfDiskError):
        while len(held) < 1000:
            held.append(ray.put(np.zeros(2**21 if len(held) < 48 else 2**17, dtype=np.uint8)))
    assert 48 < len(held) < 1000
    with pytest.raises(InputError) as error:
        on(cluster, folder, "ce", image_size=40)  # images that the node has not been sent before
    assert str(error.value).startswith("the object store of the Ray cluster is full; free it, give it more memory ")
    assert "\n" not in str(error.value)
    assert half_written(folder / "orl") == []
    assert unfinished_claims(folder / "orl") == []
    assert not list(folder.glob("orl/runs/*/run.json"))
    held.clear()
    _, records, _ = on(cluster, folder, "ce", image_size=40)
    assert [record["status"] for record in records] == ["finished", "finished"]


def test_a_run_that_cannot_be_sent_is_free_again_though_the_caller_lives(cluster, tmp_path, monkeypatch):
    def full(ray, value, pickled=ray_flights.pickled):
        if isinstance(value, Task):
            raise ray.exceptions.ObjectStoreFullError
        return pickled(ray, value)

    monkeypatch.setenv("LOSSBENCH_CACHE", str(cluster.hidden / "cache"))
    monkeypatch.setattr(ray_flights, "pickled", full)
    folder = cluster.hidden / tmp_path.name
    with pytest.raises(InputError, match=r"^the object store of the Ray cluster is full; "):
        on(cluster, folder, "ce")
    assert list(folder.glob("orl/.claims/*/*"))
    assert unfinished_claims(folder / "orl") == []


def test_repeats_are_added_until_the_verdicts_are_settled(cluster, tmp_path):
    words = {"until_settled": True, "max_repeats": 2}
    _, records, heard = on(cluster, tmp_path, "ce,arcface", **words)
    assert heard.looks
    assert {record["status"] for record in records} == {"finished"}


def test_a_cluster_of_this_machine_is_started_and_ends_with_the_command(tmp_path, monkeypatch):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    words = ("--engine", "ray", "--losses", "ce,arcface", "--repeats", 1, "--epochs", 2000, "--jobs", 2, "--threads", 1)
    process = start(*words, "--out", tmp_path / "out", start_new_session=True)
    try:
        wait_for(
            lambda: len(list(tmp_path.glob("out/orl/runs/*/checkpoint.pt"))) == 2 or process.poll() is not None, 300
        )
        process.send_signal(signal.SIGTERM)  # for which Ray has a handler of its own
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, err) == (143, "error: stopped; run the same command again to continue\n"), out
    assert half_written(tmp_path / "out" / "orl") == []
    assert unfinished_claims(tmp_path / "out" / "orl") == []
    assert not [pid.name for pid in Path("/proc").glob("[0-9]*") if _belongs(pid.name, process.pid)]


def _belongs(pid, group):
    try:
        return os.getpgid(int(pid)) == group
    except ProcessLookupError:
        return False
