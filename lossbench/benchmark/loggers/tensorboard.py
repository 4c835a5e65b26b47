"""`--log-to tensorboard`: a folder of event files per run, below ``tensorboard/`` in the benchmark's folder."""

from importlib import import_module
from pathlib import Path
from typing import Any

from lossbench.benchmark.loggers.logger import Figures, settings_of
from lossbench.benchmark.plan import Run
from lossbench.results.store import Record


class TensorBoard:
    """Writes event files; watch them with ``tensorboard --logdir results/orl/tensorboard``."""

    def __init__(self, folder: Path):
        """Write below a benchmark's folder."""
        self.folder = folder / "tensorboard"
        self.writers: dict[str, Any] = {}  # by the run's hash

    def has(self, run: Run) -> bool:
        """Whether the run has event files."""
        return bool(self._files(run))

    def begin(self, run: Run) -> None:
        """Replace the run's event files, also in the memory of a TensorBoard that shows them."""
        from torch.utils.tensorboard import SummaryWriter  # late: it takes a second

        if (left := self.writers.pop(run.hash, None)) is not None:
            left.close()
        for file in self._files(run):
            file.unlink()
        self.writers[run.hash] = SummaryWriter(str(self.folder / run.folder.name), purge_step=0)

    def epoch(self, run: Run, number: int, figures: Figures) -> None:
        """Write a point of each curve, to the disk."""
        writer = self.writers[run.hash]
        for name, value in figures.items():
            writer.add_scalar(name, value, number)
        writer.flush()

    def finish(self, run: Run, record: Record, figures: Figures) -> None:
        """Write the final figures as scalars and in the table of hyper-parameters; why the run failed as text."""
        summary: Any = import_module("torch.utils.tensorboard.summary")
        writer = self.writers.pop(run.hash)
        for part in summary.hparams(settings_of(run), dict(figures)):
            writer.file_writer.add_summary(part)
        for name, value in figures.items():
            writer.add_scalar(name, value, record["epoch"])
        if record["status"] == "failed":
            writer.add_text("failed", record["reason"], record["epoch"])
        writer.close()

    def close(self) -> None:
        """Close the files of runs that were interrupted."""
        while self.writers:
            self.writers.popitem()[1].close()

    def _files(self, run: Run) -> list[Path]:
        return list((self.folder / run.folder.name).glob("events.out.tfevents.*"))
