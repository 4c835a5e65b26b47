"""Several processes, one run at a time: the first decides which is next and records it, the others take part.

What surrounds the training (claims, measuring, records) is the first process's alone, and the others wait. A run whose
loss fails fails in all of them, at the same step; they continue with the next.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from lossbench.benchmark.inputs import Inputs, open_pixels
from lossbench.benchmark.plan import Run
from lossbench.config import Config
from lossbench.data.images.streaming import StoredPixels
from lossbench.errors import CONTINUE, InputError, ProcessLost
from lossbench.results.history import Epoch
from lossbench.results.store import Record
from lossbench.training.train import Trained, train
from lossbench.utils.claims import ClaimLost
from lossbench.utils.device import device_of
from lossbench.utils.distributed import device_of_rank, joined
from lossbench.utils.launch import launch

_LEAST_IMAGES = 2  # of a batch in each process: batch normalisation needs them


class Silence:
    """A listener for the processes that report nothing."""

    def decoding(self, done: int, total: int) -> None:
        """Say nothing."""

    def look(self, number: int, most: int) -> None:
        """Say nothing."""

    def start(self, runs: int, skipped: int, epochs: int) -> None:
        """Say nothing."""

    def epoch(self, run: Run, epoch: Epoch) -> None:
        """Say nothing."""

    def finished(self, run: Run, record: Record) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""


@contextmanager
def together(config: Config, gather: Callable[[], Inputs]) -> Iterator[Inputs]:
    """Join the processes that torchrun has started with this one, if it has, and share what the first gathers.

    Args:
        config: settings as the user gave them.
        gather: opens and checks everything that they name.

    Raises:
        InputError: of `gather`, in all processes; or settings that do not go with several.
    """
    place = launch()
    if place.size == 1:
        yield gather()
        return
    if config.jobs > 1:
        raise InputError(
            f"--jobs {config.jobs} does not go with torchrun's {place.size} processes; drop one of the two"
        )
    device = device_of_rank(device_of(config.device), place)
    with joined(device) as ranks:
        yield replace(ranks.of_first(lambda: _enough(gather(), ranks.size)), device=device, ranks=ranks)


def _enough(inputs: Inputs, processes: int) -> Inputs:
    """Refuse batches and classes that are too few for so many processes."""
    size, least = inputs.config.batch_size or 0, _LEAST_IMAGES * processes
    if size < least:
        raise InputError(f"--batch-size {size} is too few for {processes} processes; use {least} or more")
    people = min(len(split.train.people) for split in inputs.faces.folds)
    if people < processes:
        raise InputError(f"there are {people} training people, too few for {processes} processes; start {people}")
    return inputs


def refuse_lost_device(inputs: Inputs) -> None:
    """Refuse to continue in other processes what several began together: a run has made a GPU unusable.

    Raises:
        InputError: there are several.
    """
    if inputs.ranks.size > 1:
        raise InputError(f"a failed run has made the GPU unusable for these processes; {CONTINUE}")


@contextmanager
def leading(inputs: Inputs) -> Iterator[None]:
    """Let the other processes go when the context ends."""
    try:
        yield
    except ProcessLost:
        raise
    except Exception:
        _announce(inputs, None)
        raise
    _announce(inputs, None)


def train_together(
    inputs: Inputs,
    pixels: StoredPixels,
    run: Run,
    *,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> Trained:
    """Train a run in all processes, which the first has claimed: it calls this, and the others follow.

    Raises:
        ProcessLost: a process has ended, or failed alone; or another command has taken the run over.
        Exception: what the loss raised, in all processes.
    """
    assert run.spec is not None
    if inputs.ranks.first:
        _announce(inputs, run)
    try:
        with inputs.ranks.together(run.hash):
            return train(
                inputs.config,
                run.spec,
                run.repeat,
                inputs.faces.split(run.repeat),
                pixels,
                run.folder,
                on_epoch=on_epoch,
                on_note=on_note,
                ranks=inputs.ranks,
            )
    except ClaimLost as lost:
        if inputs.ranks.size == 1:
            raise
        raise ProcessLost(
            f"{run.entrant}, repeat {run.repeat + 1}, is left to another command: {lost}; {CONTINUE}"
        ) from lost


def follow(inputs: Inputs) -> list[Record]:
    """Take part in the training of every run that the first process announces, until it has no more; return none.

    Raises:
        ProcessLost: a process has ended, or failed alone.
        InputError: the images have changed since the first process checked them.
    """
    with inputs.ranks.together("following"):
        pixels = open_pixels(inputs, Silence())
        while (run := inputs.ranks.of_first(_nothing)) is not None:
            try:
                train_together(inputs, pixels.faces, run)
            except ProcessLost:
                raise
            except (Exception, SystemExit):  # of the loss, in all processes: the first one records it
                continue
    return []


def _nothing() -> Run | None:
    return None


def _announce(inputs: Inputs, run: Run | None) -> None:
    inputs.ranks.of_first(lambda: run)
