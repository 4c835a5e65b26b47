"""Runs on this machine: one after another in this process, or several at a time in worker processes."""

from collections.abc import Sequence

import torch

from lossbench.benchmark.inputs import Inputs
from lossbench.benchmark.listener import Listener
from lossbench.benchmark.plan import Run
from lossbench.benchmark.queue import in_turn
from lossbench.benchmark.ranks import refuse_lost_device
from lossbench.benchmark.workers import in_workers
from lossbench.results.store import Record


class Local:
    """The engine of this machine: ``--jobs`` runs at a time."""

    device: torch.device | None = None

    def do(self, inputs: Inputs, todo: Sequence[Run], listener: Listener, threads: int) -> dict[str, Record]:
        """Do the runs and return their records by hash; what a lost device leaves is done in new processes.

        Raises:
            InputError: as `in_turn` and `in_workers`.
        """
        jobs = min(inputs.config.jobs, len(todo))
        made = {} if jobs > 1 else in_turn(inputs, todo, listener)
        if rest := [run for run in todo if run.hash not in made]:
            refuse_lost_device(inputs)
            made |= in_workers(inputs, rest, listener, max(jobs, 1), threads)
        return made
