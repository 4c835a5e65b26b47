"""What does the runs of a benchmark: processes on this machine, or tasks on a cluster."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch

from lossbench.benchmark.engines.local import Local
from lossbench.benchmark.inputs import Inputs
from lossbench.benchmark.listener import Listener
from lossbench.benchmark.plan import Run
from lossbench.config import Config
from lossbench.errors import InputError
from lossbench.results.store import Record
from lossbench.utils.launch import launch


class Engine(Protocol):
    """Takes runs, reports their epochs to a listener, and returns their records."""

    @property
    def device(self) -> torch.device | None:
        """What the runs compute on, where the engine decides it; None: what ``--device`` says of this machine."""

    def do(self, inputs: Inputs, todo: Sequence[Run], listener: Listener, threads: int) -> dict[str, Record]:
        """Do the runs, with so many threads each, and return the records of all by hash.

        Other commands may work on the same folder: each run is done by one, and all records are returned.

        Raises:
            InputError: the results cannot be written, or the engine cannot work; what is finished stays.
        """


def opened(config: Config, *, once: bool) -> AbstractContextManager[Engine]:
    """Return the engine that the settings name; it is ready while the context lasts.

    Args:
        config: settings as the user gave them.
        once: the command does one run.

    Raises:
        InputError: the settings or the command do not go with the engine, or it cannot be reached.
    """
    if config.engine != "ray":
        return nullcontext(Local())
    if once:
        raise InputError("--once does one run in this process, --engine ray runs on a cluster; drop one of the two")
    if (size := launch().size) > 1:
        raise InputError(f"--engine ray does not go with torchrun's {size} processes; drop one of the two")
    config.resolved()  # bad settings are reported before a cluster is started
    from lossbench.benchmark.engines.ray import on_cluster

    return on_cluster(config)
