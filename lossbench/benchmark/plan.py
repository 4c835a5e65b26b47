"""The runs of a benchmark, each identified by a hash of everything that can change its result."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from lossbench.benchmark.fingerprints import measuring_protocol, training_protocol
from lossbench.config import Config
from lossbench.data.faces import FaceSet
from lossbench.errors import RunDamaged, refuse_damaged
from lossbench.losses.loading import hyperparameters, trial_head
from lossbench.losses.plugin import UNTRAINED
from lossbench.losses.spec import Spec
from lossbench.results.arrays import damaged_arrays, keeps_train
from lossbench.results.history import read_epochs
from lossbench.results.store import Record, read_record, run_folder
from lossbench.utils.hashing import sha
from lossbench.utils.plugin_file import plugin_fingerprint


class Again(StrEnum):
    """How a run is repeated: trained from scratch, resumed from its checkpoint, or measured from its weights."""

    from_the_start = "from the start"
    from_checkpoint = "from its checkpoint"
    measured = "measured"


@dataclass(frozen=True)
class Run:
    """One entrant in one repeat. `spec` is None for the untrained backbone; `record` is set once it is complete.

    `identity` holds everything that can change the trained model, `hash` is its SHA-256; `measuring` holds what else
    its figures depend on. `replaces` is the record of a complete run that is to be repeated, and `again` says how.
    `earlier` holds the seconds of each epoch of an unfinished run at the time of planning: when it resumes, it reports
    them again.
    """

    entrant: str
    spec: Spec | None
    repeat: int
    identity: dict[str, Any]
    measuring: dict[str, Any]
    hash: str
    folder: Path
    record: Record | None
    replaces: Record | None = None
    again: Again | None = None
    earlier: Mapping[int, float] = field(default_factory=dict)

    @property
    def protocol_hash(self) -> str:
        """What runs must share to be comparable: how they were trained, and how they were measured."""
        return sha([self.identity["protocol"], self.measuring])


def plan_runs(
    config: Config,
    specs: Sequence[Spec],
    faces: FaceSet,
    fingerprints: Mapping[str, str],
    device_type: str,
    folder: Path,
    processes: int = 1,
) -> list[Run]:
    """List the runs, repeat by repeat.

    Args:
        config: resolved settings; `threads` is what a run on the CPU will use.
        specs: the entrants beside the untrained backbone.
        faces: the data.
        fingerprints: SHA-256 of what the images are, by name.
        device_type: cpu or cuda.
        folder: of the benchmark.
        processes: that train a run together.

    Raises:
        InputError: a plugin that cannot be built, or damaged records, all of which are named.
    """
    splits = [faces.fingerprint(fold) for fold in range(len(faces.folds))]
    protocol = training_protocol(config, fingerprints, splits, device_type, processes)
    measuring = measuring_protocol(config, fingerprints)
    entrants: list[tuple[Spec | None, dict[str, Any]]] = [
        (None, {"entrant": UNTRAINED, "hyperparameters": {}, "plugin": None})
    ]
    for spec in specs:
        plugin = plugin_fingerprint(trial_head(spec))
        entrants.append((spec, {"entrant": str(spec), "hyperparameters": hyperparameters(spec), "plugin": plugin}))
    runs: list[Run] = []
    damaged: list[RunDamaged] = []
    assert config.repeats is not None
    for repeat in range(config.repeats):
        fold = repeat % len(faces.folds)
        shared = {"repeat": repeat, "fold": fold, "split": splits[fold], "protocol": protocol}
        for entered, own in entrants:
            identity = {**own, **shared}
            entrant = own["entrant"]
            digest = sha(identity)
            place = run_folder(folder, entrant, repeat, digest)
            try:
                record = read_record(place)
            except RunDamaged as error:
                damaged.append(error)
                continue
            run = Run(
                entrant, entered, repeat, identity, measuring, digest, place, record, earlier=_earlier(place, record)
            )
            runs.append(_measured_as_now(run, config))
    if damaged:
        refuse_damaged([*damaged, *damaged_resamples(runs)])
    return runs


def _earlier(folder: Path, record: Record | None) -> dict[int, float]:
    """Return the seconds of each epoch of an unfinished run.

    None of a history that is damaged, which is written anew as the run resumes, or that another process is deleting.
    """
    if record is not None and record["status"] == "finished":
        return {}
    try:
        return {epoch.epoch: epoch.seconds for epoch in read_epochs({"folder": str(folder)})}
    except (RunDamaged, OSError):
        return {}


def damaged_resamples(runs: Sequence[Run]) -> list[RunDamaged]:
    """Return what is wrong with the resamples of the complete runs among these, which their comparison needs."""
    complete = [{**run.record, "folder": str(run.folder)} for run in runs if run.record]
    return damaged_arrays(complete, embeddings=False)


def _measured_as_now(run: Run, config: Config) -> Run:
    """Return a complete run as one to be measured again if that was done differently, or if it is to keep more."""
    if run.record is None:
        return run
    finished = run.record["status"] == "finished"
    lacks = config.keep_embeddings and finished and not keeps_train({"folder": run.folder})
    if run.record.get("measuring") == run.measuring and not lacks:
        return run
    return replace(run, record=None, replaces=run.record, again=Again.measured)
