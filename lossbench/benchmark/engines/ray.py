"""Runs as tasks of a Ray cluster.

Where all nodes see the caller's results folder, a task works there as any process does: it claims its run, keeps
checkpoints, and writes the record. Where not, the caller holds the claim, the task works in a folder of its own, and
its files come back in chunks and are put in place once all are here, ``run.json`` last.

A run whose process or node has died is done again, a few times at most (`ray_flights.RETRIES`): on a shared disk it
continues from its last epoch, otherwise it begins again. Then it is recorded as failed, and ``--retry-failed`` tries it
once more.
"""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lossbench.benchmark.engines import ray_bootstrap
from lossbench.benchmark.engines.ray_bootstrap import facts
from lossbench.benchmark.engines.ray_cluster import (
    device_on,
    explained,
    joined,
    looked_at,
    our_code,
    pickled,
    refuse_misfits,
    room,
    wanted,
)
from lossbench.benchmark.engines.ray_flights import Flights
from lossbench.benchmark.engines.ray_node import Job
from lossbench.benchmark.engines.ray_parcels import pack
from lossbench.benchmark.inputs import Inputs
from lossbench.benchmark.listener import Listener
from lossbench.benchmark.plan import Run
from lossbench.config import Config
from lossbench.errors import CONTINUE, InputError
from lossbench.results.store import Record


@contextmanager
def on_cluster(config: Config) -> Iterator["RayEngine"]:
    """Yield the engine of the cluster that the settings name, or of one that is started on this machine.

    Raises:
        InputError: as `joined`; or the device is a GPU, and the cluster has none.
    """
    with joined(config) as ray:
        yield RayEngine(ray, device_on(ray, config), local=config.ray_address is None)


class RayEngine:
    """The engine of a cluster that this process has joined."""

    def __init__(self, ray: Any, device: torch.device, *, local: bool):
        self.ray, self.device, self.local = ray, device, local

    def do(self, inputs: Inputs, todo: Sequence[Run], listener: Listener, threads: int) -> dict[str, Record]:
        """Do the runs on the cluster and return their records by hash.

        Raises:
            InputError: no node is large enough or has what is needed, Ray or the object store has failed, or results
                cannot be written here.
        """
        if not todo:
            return {}
        need = wanted(inputs.config, self.device, threads)
        room(self.ray, need)
        folder = inputs.folder.absolute()
        todo = [replace(run, folder=run.folder.absolute()) for run in todo]
        token = folder / f".ray-{secrets.token_hex(8)}"
        try:
            token.touch()
            flights = self._prepared(replace(inputs, folder=folder), token, listener, need)
            with flights:
                return flights.do(todo, listener)
        except self.ray.exceptions.RayError as error:
            raise InputError(explained(error)) from error
        except OSError as error:
            raise InputError(f"{folder} cannot be written ({error.strerror or error}); {CONTINUE}") from error
        finally:
            with suppress(OSError):
                token.unlink(missing_ok=True)

    def _prepared(self, inputs: Inputs, token: Path, listener: Listener, need: dict[str, float]) -> "Flights":
        ray, nodes, code, ours = self.ray, looked_at(self.ray, need, token), our_code(), facts("")
        refuse_misfits(nodes, ours)
        shared = all(node.sees for node in nodes)
        if not shared:
            listener.note("not all nodes see the results folder: finished runs are sent here, without checkpoints")
        luggage = pack(inputs, listener)
        desk = ray.remote(ray_bootstrap.Desk).options(num_cpus=0, scheduling_strategy=_here(ray)).remote(luggage.paths)
        jobs = max(1, round(1 / need["GPU"])) if "GPU" in need else 1
        pairs = inputs.pairs and replace(inputs.pairs, files=())
        light = replace(
            inputs,
            faces=replace(inputs.faces, files=()),
            pairs=pairs,
            config=replace(inputs.config, jobs=jobs),  # which shares a GPU's memory
        )
        seen = token if shared else None
        job = Job(secrets.token_hex(8), light, luggage, int(need["CPU"]), ours, seen, desk)
        limit = inputs.config.jobs if self.local or inputs.config.jobs > 1 else None
        return Flights(ray, inputs, desk, need, shared, limit, code.digest, ray.put(code), ray.put(pickled(ray, job)))


def _here(ray: Any) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
