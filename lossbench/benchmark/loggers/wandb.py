"""`--log-to wandb`: project lossbench, a group per benchmark, a run per entrant and repeat.

wandb uploads, unless WANDB_MODE=offline or ``wandb offline`` keeps the runs in ``wandb/`` in the benchmark's folder.
"""

import os
import shutil
import time
from pathlib import Path
from typing import Any

from lossbench.benchmark.loggers.logger import Figures, name_of, settings_of
from lossbench.benchmark.plan import Again, Run
from lossbench.errors import InputError
from lossbench.results.store import Record

_PROJECT = "lossbench"
_PATIENCE = 30  # seconds that a run waits for the network when it begins and when it ends
_INTERRUPTED = 255  # the exit code that wandb marks a run as crashed by
_OFFLINE = ("offline", "dryrun", "disabled")


class Wandb:
    """Writes runs with wandb. A run that resumes keeps its id, which is the beginning of its hash."""

    def __init__(self, folder: Path, benchmark: str):
        """Write the runs of a benchmark.

        Raises:
            InputError: they would be uploaded, and nobody is logged in.
        """
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # its own reports of errors are not asked for
        import wandb

        self.wandb: Any = wandb
        self.folder, self.benchmark = folder, benchmark
        self.runs: dict[str, Any] = {}  # by the run's hash
        common = {"silent": True, "console": "off", "init_timeout": _PATIENCE}
        self.settings = wandb.Settings(**common, finish_timeout=_PATIENCE, finish_timeout_raises=True)
        self.offline = wandb.setup(self.settings).settings.mode in _OFFLINE
        if not self.offline and not wandb.api.api_key:  # or it would ask in the middle of the progress
            raise InputError("--log-to wandb: nobody is logged in; run wandb login first, or set WANDB_MODE=offline")

    def has(self, run: Run) -> bool:
        """Whether the run was written from this folder."""
        return bool(self._folders(run))

    def begin(self, run: Run) -> None:
        """Begin the run, or continue it; a run that is trained anew has another id. Offline, replace it."""
        if (left := self.runs.pop(run.hash, None)) is not None:
            left.finish(exit_code=_INTERRUPTED)
        for old in self._folders(run) if self.offline else ():
            for file in old.glob("*.wandb"):  # which is what `wandb sync` uploads
                file.unlink()
            shutil.rmtree(old, ignore_errors=True)  # wandb's other process may still write its own log there
        anew = run.again is Again.from_the_start and not self.offline
        self.folder.mkdir(parents=True, exist_ok=True)
        self.runs[run.hash] = self.wandb.init(
            project=_PROJECT,
            group=self.benchmark,
            name=name_of(run),
            id=f"{_id(run)}-{int(time.time())}" if anew else _id(run),
            resume="never" if anew or self.offline else "allow",
            dir=str(self.folder),
            config=settings_of(run),
            reinit="create_new",
            settings=self.settings,
        )

    def epoch(self, run: Run, number: int, figures: Figures) -> None:
        """Log an epoch as a step; wandb has those before the step that a run resumes at."""
        of_wandb = self.runs[run.hash]
        if number >= of_wandb.starting_step:
            of_wandb.log(dict(figures), step=number)

    def finish(self, run: Run, record: Record, figures: Figures) -> None:
        """Put the final figures into the summary and finish the run; one that failed has failed there, too."""
        of_wandb = self.runs.pop(run.hash)
        of_wandb.summary.update({**figures, "status": record["status"], "reason": record.get("reason") or ""})
        of_wandb.finish(exit_code=int(record["status"] == "failed"))

    def close(self) -> None:
        """Mark runs that were interrupted; they continue when they are resumed."""
        while self.runs:
            self.runs.popitem()[1].finish(exit_code=_INTERRUPTED)

    def _folders(self, run: Run) -> list[Path]:
        return list((self.folder / "wandb").glob(f"*run-*-{_id(run)}*"))


def _id(run: Run) -> str:
    return run.hash[:16]
