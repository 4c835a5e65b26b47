"""Joining a cluster, and what is refused early, in one line each."""

import json
import socket
import tempfile
import time
from dataclasses import asdict, replace

import pytest
import torch

from lossbench.benchmark.engines import ray_cluster
from lossbench.benchmark.engines.ray_bootstrap import facts
from lossbench.benchmark.engines.ray_cluster import (
    explained,
    our_code,
    refuse_misfits,
    room,
    wanted,
)
from lossbench.config import Config
from lossbench.errors import InputError
from lossbench.utils.owner import Owner


class Nodes:
    """As much of Ray as tells what nodes there are."""

    def __init__(self, *resources):
        self.resources = resources

    def nodes(self):
        return [{"Alive": True, "Resources": own} for own in self.resources]


@pytest.mark.parametrize("address", ["nowhere", "host:", ":6379", "host:99999", "ray://host:10001", "host:port"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(InputError, match=r"is no HOST:PORT; give that of the head, or auto$"):
        ray_cluster._refuse_dead(address)


def test_an_address_where_nobody_listens_is_refused_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(
        InputError, match=rf"^--ray-address 127.0.0.1:{port}: nothing answers there .*ray start --head$"
    ):
        ray_cluster._refuse_dead(f"127.0.0.1:{port}")


@pytest.mark.extra("ray")
def test_something_else_that_listens_there_is_given_up_in_time(monkeypatch):
    monkeypatch.setattr(ray_cluster, "PATIENCE", 3.0)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        begun = time.monotonic()
        with pytest.raises(InputError, match=r"what answers there is no Ray cluster, or a dead one \(3 s\); give HOST"):
            ray_cluster._refuse_dead(address)
    assert time.monotonic() - begun < 60


def test_nodes_that_would_give_other_figures_are_refused():
    ours = facts("")
    refuse_misfits([ours, ours], ours)
    other = ours._replace(host="n1", packages={**ours.packages, "torch": "1.0"})
    with pytest.raises(
        InputError, match=r"^node n1 of the Ray cluster has torch 1\.0, this machine torch .*pip install"
    ):
        refuse_misfits([ours, other], ours)
    without = ours._replace(host="n1", packages={**ours.packages, "numpy": None})
    with pytest.raises(InputError, match=r"^node n1 of the Ray cluster has no numpy, this machine numpy "):
        refuse_misfits([without], ours)
    with pytest.raises(InputError, match=r"^node n1 of the Ray cluster has Python 2\.7, this machine "):
        refuse_misfits([ours._replace(host="n1", python="2.7")], ours)


def test_this_lossbench_is_known_by_its_content():
    assert our_code().digest == facts("").lossbench


def test_runs_ask_for_threads_and_for_a_share_of_a_gpu():
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert wanted(Config(), cpu, 3) == {"CPU": 3}
    assert wanted(Config(engine="ray", gpus_per_run=0.25), cuda, 3) == {"CPU": 1, "GPU": 0.25}
    assert room(Nodes({"CPU": 4.0}, {"CPU": 2.0}, {}), {"CPU": 2}) == 3
    assert room(Nodes({"CPU": 16.0, "GPU": 1.0}), {"CPU": 1, "GPU": 0.25}) == 4
    with pytest.raises(
        InputError, match=r"^each run asks for 8 CPUs \(--threads\), and no node .* more than 4; give a"
    ):
        room(Nodes({"CPU": 4.0}, {"CPU": 4.0}), {"CPU": 8})
    for nodes, need, what in (
        (Nodes({"CPU": 4.0}), {"CPU": 1, "GPU": 1}, "GPU"),
        (Nodes({"CPU": 0.0}, {}), {"CPU": 1}, "CPU"),  # only the head is left
    ):
        with pytest.raises(InputError, match=rf"^no node of the cluster has a {what}; add one \(ray start "):
            room(nodes, need)


def test_failures_of_ray_are_one_line():
    class ObjectStoreFullError(Exception):
        pass

    assert explained(ObjectStoreFullError("long\ntext")).startswith("the object store of the Ray cluster is full; ")
    assert explained(KeyError("a\nb")).startswith("the Ray cluster failed: KeyError: ")
    assert "\n" not in explained(RuntimeError("a\nb"))


def test_folders_of_processes_that_have_ended_are_swept_and_no_others(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    living = Owner.this_process()
    owners = {
        "living": asdict(living),
        "ended": asdict(replace(living, born="1")),  # another process has its id now
        "elsewhere": asdict(replace(living, machine="another", born="1")),
        "strange": {"pid": 1},
    }
    for name, owner in owners.items():
        (tmp_path / f"lossbench-ray-{name}").mkdir()
        (tmp_path / f"lossbench-ray-{name}" / "owner.json").write_text(json.dumps(owner))
    (tmp_path / "lossbench-ray-bare").mkdir()
    ray_cluster._sweep()
    left = {path.name.rpartition("-")[2] for path in tmp_path.iterdir()}
    assert left == {"living", "elsewhere", "strange", "bare"}
