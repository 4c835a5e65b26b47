"""One run from its plan to its record: train, measure, judge. A failure on the way is a result too."""

import errno
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lossbench.benchmark.inputs import Inputs, Pixels, refuse_changed
from lossbench.benchmark.listener import Listener
from lossbench.benchmark.plan import Again, Run
from lossbench.benchmark.ranks import train_together
from lossbench.data.faces import Split
from lossbench.errors import CONTINUE, InputError, ProcessLost, RunDamaged
from lossbench.evaluation.health import Outcome, failure_reason
from lossbench.evaluation.measure import Measured, measure
from lossbench.losses.head import Head
from lossbench.losses.loading import load_head
from lossbench.losses.plain_twin import plain_twin
from lossbench.models.pretrained import image_statistics
from lossbench.results.arrays import embedding_arrays, save_arrays
from lossbench.results.history import Epoch, TrainingFacts, read_training_facts, timings
from lossbench.results.schema import SCHEMA
from lossbench.results.store import Record, write_record
from lossbench.results.weights import WEIGHTS, load_backbone, save_weights
from lossbench.training.checkpoint import drop_checkpoints
from lossbench.training.seeds import initial_backbone
from lossbench.utils.files import heed_fence, write_text
from lossbench.utils.machine import machine_facts, peak_memory_mib
from lossbench.utils.text import described

# Faults of the machine, not of a loss.
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG}
_MEMORY = "out of memory; try a smaller --batch-size, --image-size or backbone, or fewer --jobs"


def execute(inputs: Inputs, pixels: Pixels, run: Run, listener: Listener) -> Record:
    """Train and measure one run and write its record; a failure is a record too.

    Raises:
        InputError: the folder cannot be written, or the network's file or the weights to start from have changed. That
            is not the loss's fault: the run stays unfinished.
    """

    def work() -> Record:
        run.folder.mkdir(parents=True, exist_ok=True)
        if run.again is Again.measured:
            try:
                return _measured_again(inputs, pixels, run)
            except RunDamaged as error:
                listener.note(f"{run.entrant}, repeat {run.repeat + 1}, is trained again: {error.what}")
        refuse_changed(inputs)
        heed_fence()
        if run.again in (Again.from_the_start, Again.measured):
            drop_checkpoints(run.folder)
        for name in ("traceback.txt", "run.json"):
            (run.folder / name).unlink(missing_ok=True)
        return _trained_and_measured(inputs, pixels, run, listener)

    return _recorded(run, work)


def record_death(inputs: Inputs, run: Run, reason: str, epochs: Sequence[Epoch], seconds: float) -> Record:
    """Write the record of a run whose process died after `epochs`, and keep its checkpoint for another try.

    Raises:
        InputError: the folder cannot be written.
    """
    if run.again is Again.measured and run.replaces is not None:  # its training is complete and stays
        return _recorded(run, lambda: {**(run.replaces or {}), **_how_measured(run), **_unmeasured(reason)})
    found = _failure(inputs, reason, len(epochs))
    unknown = {"peak_memory_mib": None}  # this process's memory says nothing about the other's
    return _recorded(run, lambda: _record(inputs, run, found, epochs, seconds) | unknown | {"process_died": True})


def can_go_on(record: Record | None) -> bool:
    """Return whether a failed run can resume from its checkpoint: its process died, perhaps for another reason."""
    return record is not None and record.get("process_died") is True


def can_be_measured(record: Record | None) -> bool:
    """Return whether a run failed only while it was measured: its training is complete and its weights are saved."""
    return record is not None and record.get("unmeasured") is True


def _unmeasured(reason: str) -> dict[str, Any]:
    return {"status": "failed", "reason": reason, "metrics": {}, "unmeasured": True}


def _recorded(run: Run, work: Callable[[], Record]) -> Record:
    try:
        written = write_record(run.folder, work())
        if not can_go_on(written):
            drop_checkpoints(run.folder)
    except OSError as error:
        raise InputError(
            f"{run.folder} cannot be written ({error.strerror or error}); fix that, then {CONTINUE}"
        ) from error
    return written


def _trained_and_measured(inputs: Inputs, pixels: Pixels, run: Run, listener: Listener) -> Record:
    done: list[Epoch] = []

    def on_epoch(epoch: Epoch) -> None:
        done.append(epoch)
        listener.epoch(run, epoch)

    started = time.time()
    if inputs.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(inputs.device)
    try:
        found = _train_and_measure(inputs, pixels, run, on_epoch, listener)
    except (Exception, SystemExit) as error:  # an error in a loss is that run's result and does not stop the others
        if _is_disk(error, run.folder) or isinstance(error, ProcessLost):
            raise
        found = _failure(inputs, _explained(run, error, inputs.device), len(done))
    return _record(inputs, run, found, done, time.time() - started)


def _explained(run: Run, error: BaseException, device: torch.device) -> str:
    """Return why a run failed, in one line; write the traceback to its folder and free memory for the next run."""
    write_text(run.folder / "traceback.txt", traceback.format_exc())
    if device.type == "cuda" and not device_is_lost(device):
        torch.cuda.empty_cache()
    return reason_of(error)


def device_is_lost(device: torch.device) -> bool:
    """Return whether this process can no longer use the device, as with CUDA after an out-of-range index."""
    if device.type != "cuda":
        return False
    try:
        torch.cuda.synchronize(device)
    except RuntimeError:
        return True
    return False


def reason_of(error: BaseException) -> str:
    """Return why a run failed, in one line; running out of memory always reads the same."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        return _MEMORY
    return described(error)[:500]


def _is_disk(error: BaseException, folder: Path) -> bool:
    """Return whether the disk is at fault: full or gone, or one of our own files cannot be opened."""
    if not isinstance(error, OSError):
        return False
    ours = isinstance(error.filename, str) and Path(error.filename).is_relative_to(folder)
    return error.errno in _DISK or ours


def _failure(inputs: Inputs, reason: str, epochs_done: int) -> dict[str, Any]:
    epoch = min(epochs_done + 1, inputs.config.epochs or 1)  # measuring comes after the last epoch
    return {"status": "failed", "reason": reason, "epoch": epoch, "metrics": {}}


def _record(inputs: Inputs, run: Run, found: dict[str, Any], epochs: Sequence[Epoch], seconds: float) -> Record:
    split = inputs.faces.split(run.repeat)
    return {
        "schema": SCHEMA,
        **found,
        **run.identity,
        "plain_twin": _twin(run),
        "hash": run.hash,
        **_how_measured(run),
        "seed": inputs.config.seed,
        "data": inputs.config.data_name,
        "images": {name: len(part) for name, part in split.parts()},
        "people": {name: len(part.people) for name, part in split.parts()},
        "timings": timings(epochs, seconds),
        "peak_memory_mib": peak_memory_mib(inputs.device),
        "machine": machine_facts(inputs.device),
        "split_file": inputs.split_file,
    }


def _twin(run: Run) -> str | None:
    twin = plain_twin(run.spec) if run.spec else None
    return str(twin) if twin else None


def _how_measured(run: Run) -> dict[str, Any]:
    return {"measuring": run.measuring, "protocol_hash": run.protocol_hash}


def _train_and_measure(
    inputs: Inputs, pixels: Pixels, run: Run, on_epoch: Callable[[Epoch], None], listener: Listener
) -> dict[str, Any]:
    config = inputs.config
    if run.spec is None:
        backbone = initial_backbone(config, run.repeat).to(inputs.device).to(memory_format=torch.channels_last)
        digest = save_weights(run.folder / WEIGHTS, backbone, None)
        found = _measured_or_failed(inputs, pixels, run, backbone, None, None)
        return {"epoch": 0, "image_statistics": _statistics(backbone), "weights_sha256": digest, **found}
    trained = train_together(inputs, pixels.faces, run, on_epoch=on_epoch, on_note=listener.note)
    facts = TrainingFacts([epoch.train_loss for epoch in trained.history], trained.steps, trained.moved)
    digest = save_weights(run.folder / WEIGHTS, trained.backbone, trained.head)
    found = _measured_or_failed(inputs, pixels, run, trained.backbone, trained.head, facts)
    what = {"steps": facts.steps, "moved": facts.moved}
    parameters = sum(parameter.numel() for parameter in trained.head.parameters())
    done = {"epoch": trained.selected_epoch, "training": what, "head_parameters": parameters}
    if trained.processes:
        done["processes"] = trained.processes
    return {**done, "image_statistics": _statistics(trained.backbone), "weights_sha256": digest, **found}


def _statistics(backbone: nn.Module) -> dict[str, list[float]] | None:
    return image_statistics(backbone.state_dict())


def _measured_again(inputs: Inputs, pixels: Pixels, run: Run) -> Record:
    """Measure a complete run's saved model again; a run that failed before it had one stays as it is.

    Raises:
        RunDamaged: its weights are missing or damaged, or do not say how it was trained.
    """
    record = run.replaces
    assert record is not None
    record = {**record, **_how_measured(run), "folder": str(run.folder)}
    if "weights_sha256" in record:  # older weights may lie beside a run that failed in training
        record.pop("unmeasured", None)
        head, facts = None, None
        if run.spec is not None:
            assert inputs.config.embedding_dim is not None
            classes = len(inputs.faces.split(run.repeat).train.people)
            head = load_head(run.spec, num_classes=classes, embedding_dim=inputs.config.embedding_dim)
            facts = read_training_facts(record)
        backbone = load_backbone(record, head, network=inputs.config.backbone).to(inputs.device)
        head = head.to(inputs.device) if head is not None else None
        record |= _measured_or_failed(inputs, pixels, run, backbone, head, facts)
    del record["folder"]
    return record


def _measured_or_failed(
    inputs: Inputs, pixels: Pixels, run: Run, backbone: nn.Module, head: Head | None, facts: TrainingFacts | None
) -> dict[str, Any]:
    """Return what `_measured` returns, or the failure: an error of a loss is that run's result."""
    try:
        return _measured(inputs, pixels, run, backbone, head, facts)
    except (Exception, SystemExit) as error:
        if _is_disk(error, run.folder):
            raise
        return _unmeasured(_explained(run, error, inputs.device))


def _measured(
    inputs: Inputs,
    pixels: Pixels,
    run: Run,
    backbone: nn.Module,
    head: Head | None,
    facts: TrainingFacts | None,
) -> dict[str, Any]:
    """Measure a model, judge it, write its arrays, and return what the record says of it."""
    split = inputs.faces.split(run.repeat)
    config = inputs.config
    measured = measure(backbone, head, pixels.faces, split, fprs=config.fpr, pairs=pixels.pairs, flip=config.flip)
    by = _accuracy_by(head, measured.embeddings["val"][:1].to(inputs.device))
    reason = failure_reason(_outcome(facts, measured, split, by)) if facts else None
    kept = embedding_arrays(measured.embeddings, inputs.faces, run.repeat, train=config.keep_embeddings)
    save_arrays(run.folder / "embeddings.npz", kept)
    save_arrays(run.folder / "resamples.npz", measured.resamples)
    return {
        "status": "failed" if reason else "finished",
        "reason": reason,
        "metrics": measured.figures,
        "accuracy_by": by,
        "sampler": _sampler(head),
    }


def _outcome(facts: TrainingFacts, measured: Measured, split: Split, accuracy_by: str) -> Outcome:
    whom = ("query", "distractors") if split.query.rows else ("test",)
    return Outcome(
        losses=facts.losses,
        steps=facts.steps,
        moved=facts.moved,
        unseen=torch.cat([measured.embeddings[part] for part in whom]),
        val_accuracy=measured.figures["val_accuracy"],
        val_images=len(split.val),
        classes=len(split.train.people),
        scored=accuracy_by == "logits",
        whom="unseen people" if split.query.rows else "the test images",
    )


def _accuracy_by(head: Head | None, embeddings: Tensor) -> str:
    return "class means" if head is None or head.logits(embeddings) is None else "logits"


def _sampler(head: Head | None) -> str | None:
    if head is None:
        return None
    return f"P x {head.samples_per_class}" if head.samples_per_class else "shuffle"
