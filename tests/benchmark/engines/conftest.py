"""One Ray cluster for all tests here: a head, and a node that sees neither some folders nor this lossbench."""

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from ray_nodes import Nodes, can_be_hidden

import lossbench
from lossbench.losses.registry import shipped_plugins


class Cluster(NamedTuple):
    """Its address; a folder that the node does not see; the cache of the node."""

    address: str
    hidden: Path
    cache: Path


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    if not can_be_hidden():
        pytest.skip("this user may not give a process mounts of its own, as a node on another machine has")
    with tempfile.TemporaryDirectory(prefix="lb-") as folder:
        found = Cluster("", Path(folder, "hidden"), Path(folder, "cache"))
        found.hidden.mkdir()
        nodes = Nodes(
            automatic_object_spilling_enabled=False, local_fs_capacity_threshold=0.001,  # full means full
            kill_idle_workers_interval_ms=0,  # a process that has imported torch is kept for the next test
        )  # fmt: skip
        import ray

        try:
            unseen = [found.hidden, Path(lossbench.__file__).parent, shipped_plugins()]
            nodes.add(2, unseen, LOSSBENCH_CACHE=str(found.cache))
            ray.init(address=nodes.address, log_to_driver=False, logging_level="CRITICAL")
            deadline = time.monotonic() + 90
            while ray.cluster_resources().get("CPU", 0) < 2:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            yield found._replace(address=nodes.address)
        finally:
            ray.shutdown()
            nodes.close()
            for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
                os.environ.pop(name, None)
