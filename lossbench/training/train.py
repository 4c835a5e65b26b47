"""One run, read top to bottom: initial weights, the loop, history, checkpoints, resume.

Every random draw comes from a seed made of (benchmark seed, repeat, purpose, epoch) and of nothing else, so that all
entrants of a repeat share what they can, and a resumed run draws what an uninterrupted one would have drawn.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lossbench.config import Config
from lossbench.data.batches import augmentation_draws, epoch_order
from lossbench.data.faces import Split
from lossbench.data.images.streaming import StoredPixels, batches_of
from lossbench.evaluation.embed import embed
from lossbench.evaluation.measure import hits, tracked_figures
from lossbench.losses.head import Head
from lossbench.losses.loading import trial_head
from lossbench.losses.sharing import built_shared, put_whole, shards_of, whole
from lossbench.losses.spec import Spec
from lossbench.metrics.accuracy import share
from lossbench.results.history import Epoch
from lossbench.training.checkpoint import copy_state, read_checkpoint, save_checkpoint
from lossbench.training.parallel import ParallelStep, facts, with_joined_statistics
from lossbench.training.seeds import generator_of, initial_backbone, initial_head, seed_of
from lossbench.training.step import Step, TrainingFailed, make_optimizer
from lossbench.utils.device import be_deterministic
from lossbench.utils.distributed import ALONE, Ranks
from lossbench.utils.files import write_text
from lossbench.utils.memory import keep_freed_memory
from lossbench.utils.schedule import learning_rate


@dataclass
class Trained:
    """A trained model: the last epoch's, or the best on val. `moved`: some step had a gradient for the backbone.

    `processes`: what its record says of the processes that trained it together, and of centers that were sampled. The
    first process alone has the whole head.
    """

    backbone: nn.Module
    head: Head
    history: list[Epoch]
    selected_epoch: int
    steps: int
    moved: bool
    processes: dict[str, Any] | None = None


def train(
    config: Config,
    spec: Spec,
    repeat: int,
    split: Split,
    pixels: StoredPixels,
    folder: Path,
    *,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    on_note: Callable[[str], None] = lambda note: None,
    ranks: Ranks = ALONE,
) -> Trained:
    """Train one entrant in one repeat; continue from ``folder/checkpoint.pt`` where an earlier try left one.

    Several processes may train it together (`lossbench.training.parallel`): all call this with the same arguments.
    Order, batches and augmentation are those of one process. The first measures, and writes the history.

    Args:
        config: resolved settings.
        spec: the entrant.
        repeat: which repeat; with config.seed it decides every draw.
        split: the repeat's split; only train and val are read, unless config.track asks for the others to be recorded.
        pixels: [N, H, W, 3] uint8, the packed store, for the device to train on.
        folder: where history and checkpoint go.
        on_epoch: called after every epoch, and for the epochs that a resumed run finds finished.
        on_note: called with one line where something must not pass in silence.
        ranks: the processes that train this run together.

    Raises:
        TrainingFailed: the loss is not a scalar, not finite, or not differentiable.
    """
    assert config.batch_size is not None
    assert config.epochs is not None
    assert config.lr is not None
    device = pixels.device
    be_deterministic(device)
    keep_freed_memory()
    backbone = initial_backbone(config, repeat).to(device).to(memory_format=torch.channels_last)
    people = len(split.train.people)
    build = partial(initial_head, config, spec, repeat, people)
    together = ranks.size > 1 or config.sample_centers is not None
    head, shared = (
        built_shared(build, people, trial_head(spec), ranks, config.sample_centers) if together else (build(), {})
    )
    for name, reason in shared.items():
        if reason:
            on_note(f"{spec}: {name} scores all classes {'in every process' if ranks.size > 1 else 'always'}: {reason}")
    head, backbone = head.to(device), with_joined_statistics(backbone, device, ranks)
    optimizer = make_optimizer(backbone, head, config)
    rows, labels = torch.tensor(split.train.rows), torch.tensor(split.train.labels)

    history: list[Epoch] = []
    best: dict[str, Any] | None = None
    if state := read_checkpoint(folder, device, on_note, ranks):
        backbone.load_state_dict(state["backbone"])
        head.load_state_dict(state["head"])
        optimizer.load_state_dict(state["optimizer"])
        history, best = state["history"], state["best"]
    if ranks.first:
        write_text(folder / "history.jsonl", "".join(json.dumps(vars(epoch)) + "\n" for epoch in history))
    for epoch in history:
        on_epoch(epoch)

    shape = (min(config.batch_size, len(rows)), *pixels.shape[1:])
    if together:
        make_step: Step = ParallelStep(backbone, head, optimizer, shape, device, ranks, on_note=on_note)
    else:
        make_step = Step(backbone, head, optimizer, shape, device, on_note=on_note)
    mine = ranks.share(shape[0])  # of each batch
    for number in range(len(history) + 1, config.epochs + 1):
        start = time.perf_counter()
        torch.manual_seed(seed_of(config.seed, repeat, "epoch", number))  # dropout, and heads that draw
        shuffle = generator_of(config.seed, repeat, "order", number)
        order = epoch_order(labels, config.batch_size, head.samples_per_class, shuffle)
        draws = augmentation_draws(order.shape, generator_of(config.seed, repeat, "augment", number))[:, :, mine].to(
            device
        )
        own = labels[order].to(device)
        total, lr = torch.zeros((), device=device, dtype=torch.float64), 0.0
        for shard in shards_of(head):
            shard.seed(seed_of(config.seed, repeat, "centers", number, ranks.rank))
        backbone.train()
        head.train()
        for i, images in enumerate(batches_of(pixels, list(rows[order[:, mine]]))):
            step, steps = (number - 1) * len(order) + i, config.epochs * len(order)
            lr = learning_rate(step, steps, config.lr, config.warmup, config.schedule, config.epochs)
            head.progress(step / steps)
            total += make_step(images, own[i], draws[i], lr)
        mean_loss = total.item() / len(order)  # the one synchronisation of an epoch
        seconds, make_step.seconds_trying = time.perf_counter() - start - make_step.seconds_trying, 0.0
        if not math.isfinite(mean_loss):
            raise TrainingFailed(f"the loss became {mean_loss}")

        with whole(head):
            val, tracked = ranks.of_first(partial(_looked_at, backbone, head, pixels, split, config))
        history.append(Epoch(number, mean_loss, val, lr, order.numel(), seconds, tracked))
        if config.select == "val" and (best is None or val > history[best["epoch"] - 1].val_accuracy):
            best = {"epoch": number, "backbone": copy_state(backbone), "head": copy_state(head)}
        save_checkpoint(folder, backbone, head, optimizer, history, best, ranks)
        if ranks.first:
            with (folder / "history.jsonl").open("a") as file:
                file.write(json.dumps(vars(history[-1])) + "\n")
        on_epoch(history[-1])

    moved = bool(make_step.moved)
    if best is not None:
        backbone.load_state_dict(best["backbone"])
        head.load_state_dict(best["head"])
    put_whole(head)
    steps = sum(epoch.images for epoch in history) // min(config.batch_size, len(rows))
    return Trained(
        backbone.eval(),
        head.eval(),
        history,
        best["epoch"] if best else config.epochs,
        steps=steps,
        moved=moved,
        processes=facts(backbone, device, ranks, shared, config.sample_centers) if together else None,
    )


def _looked_at(
    backbone: nn.Module, head: Head, pixels: StoredPixels, split: Split, config: Config
) -> tuple[float, dict[str, float | None] | None]:
    """Return the accuracy on val, and the figures of ``--track`` where they are asked for."""
    val = _val_accuracy(backbone, head, pixels, split)
    return val, tracked_figures(backbone, head, pixels, split, config.fpr) if config.track else None


def _val_accuracy(backbone: nn.Module, head: Head, pixels: StoredPixels, split: Split) -> float:
    val, labels = embed(backbone, pixels, split.val), torch.tensor(split.val.labels, device=pixels.device)
    train_labels = torch.tensor(split.train.labels, device=pixels.device)
    with torch.no_grad():
        has_logits = head.eval().logits(val[:1]) is not None
    train = val[:0] if has_logits else embed(backbone, pixels, split.train)
    return share(hits(head, val, labels, train, train_labels))
