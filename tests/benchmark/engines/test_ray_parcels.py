"""What nodes may lack, and how it gets there."""

import hashlib
import os
from pathlib import Path

import pytest
from support import FAST, Recorder, network, plugin

from lossbench.benchmark.engines import ray_bootstrap, ray_parcels
from lossbench.benchmark.engines.ray_bootstrap import Desk
from lossbench.benchmark.engines.ray_parcels import Parcel, Unpacked, files_in, pack, receive_run, received, written
from lossbench.benchmark.inputs import gather
from lossbench.config import Config
from lossbench.errors import InputError
from lossbench.utils.claims import ClaimLost
from lossbench.utils.files import fenced


class Handle:
    """A desk that answers at once, and counts what is asked."""

    def __init__(self, files):
        self.desk, self.asked = Desk(files), []

    def __getattr__(self, name):
        def remote(*given):
            self.asked.append(name)
            return getattr(self.desk, name)(*given)

        return type("Method", (), {"remote": staticmethod(remote)})


def same(value):
    return value


@pytest.fixture
def sent(tmp_path, monkeypatch):
    """A file on the caller's side, the node's cache, and a parcel that the node does not see."""
    monkeypatch.setattr(ray_bootstrap, "CHUNK", 1000)
    monkeypatch.setattr(ray_parcels, "CHUNK", 1000)
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path / "node"))
    file = tmp_path / "weights.pth"
    file.write_bytes(os.urandom(2500))
    return file, Parcel.of(file), Parcel.of(file).__class__(tmp_path / "elsewhere.pth", 2500, 0)


def test_a_file_that_the_node_sees_is_used_where_it_lies(sent):
    file, parcel, _ = sent
    desk = Handle({})
    assert received(parcel, "pretrained", desk, same) == file
    assert desk.asked == []


def test_a_file_arrives_in_chunks_once(sent, tmp_path):
    file, _, unseen = sent
    desk = Handle({"pretrained": str(file)})
    place = received(unseen, "pretrained", desk, same)
    assert place.parent == tmp_path / "node"
    assert place.suffix == ".pth"
    assert place.read_bytes() == file.read_bytes()
    assert received(unseen, "pretrained", desk, same) == place
    assert desk.asked.count("chunk") == 4, "three, and one that was asked for in advance"


def test_a_file_that_changes_on_the_way_is_refused_and_nothing_is_left(sent, tmp_path):
    file, _, unseen = sent
    desk = Handle({"pretrained": str(file)})
    desk.desk.digest = lambda name: "0" * 64
    with pytest.raises(InputError, match=r"elsewhere\.pth arrived damaged at this node, or has just changed"):
        received(unseen, "pretrained", desk, same)
    assert [path.name for path in (tmp_path / "node").iterdir()] == [".claims"]


def test_plugins_and_networks_travel_by_content(tmp_path, monkeypatch):
    mine, net = plugin(tmp_path, "mine", "\n    def forward(self, e, y):\n        return e.sum()\n"), network(tmp_path)
    config = Config(losses=f"ce,arcface+0.5*{mine}", backbone=net, out=str(tmp_path), device="cpu", **FAST)
    inputs = gather(config, Recorder(), verify=True)
    luggage = pack(inputs, Recorder())
    assert set(luggage.small) == {mine, net}
    assert luggage.large["data"].fingerprint == inputs.fingerprints["data"]
    assert luggage.large["data"].here
    content = Path(mine).read_bytes()
    Path(mine).unlink()
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path / "node"))
    there = Unpacked(luggage)
    moved = there.spec(inputs.specs[1])
    assert str(moved) == str(inputs.specs[1])
    arcface, own = (term.plugin.path for term in moved.terms)
    assert arcface == inputs.specs[1].terms[0].plugin.path
    assert own.is_relative_to(tmp_path / "node")
    assert own.read_bytes() == content
    assert Path(there.backbone(net)).name == "my_net.py"
    assert there.backbone("tiny") == "tiny"


def test_the_record_of_a_run_comes_last(tmp_path):
    written(tmp_path / "run", {"run.json": b"1", "weights.safetensors": b"2", ".half": b"3", "a.npz": b"4"})
    assert [file.name for file in files_in(tmp_path / "run")] == ["a.npz", "weights.safetensors", "run.json"]


@pytest.fixture
def old_run(tmp_path):
    folder = tmp_path / "run"
    written(
        folder, {"weights.safetensors": b"old", "traceback.txt": b"old", "checkpoint.pt": b"old", "run.json": b"old"}
    )
    return folder


def _listed(**contents):
    names = [(name.replace("_", "."), content) for name, content in contents.items()]
    return [(name, len(content), hashlib.sha256(content).hexdigest()) for name, content in names]


def _held(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_runs_files_take_the_place_of_those_before(old_run):
    listed = _listed(weights_safetensors=b"new weights", empty_npz=b"", run_json=b"new")
    receive_run(old_run, listed, iter([b"new wei", b"ghts", b"new"]), "there")
    assert _held(old_run) == {"weights.safetensors": b"new weights", "empty.npz": b"", "run.json": b"new"}


def test_what_does_not_arrive_whole_leaves_the_run_as_it_was(old_run):
    before, listed = _held(old_run), _listed(weights_safetensors=b"new", run_json=b"new")

    def dying():
        yield b"new"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        receive_run(old_run, listed, dying(), "there")
    with pytest.raises(InputError, match=r"run\.json arrived damaged from node there; run the same command again"):
        receive_run(old_run, listed, iter([b"new", b"naw"]), "there")
    assert _held(old_run) == before


def test_a_run_that_was_taken_over_is_not_touched(old_run):
    before = _held(old_run)

    def lost():
        raise ClaimLost

    with fenced("mark", lost), pytest.raises(ClaimLost):
        receive_run(old_run, _listed(run_json=b"new"), iter([b"new"]), "there")
    assert _held(old_run) == before
