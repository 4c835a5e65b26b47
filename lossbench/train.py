"""One run, read top to bottom: initial weights, the loop, history, checkpoints, resume.

Every random draw comes from a seed made of (benchmark seed, repeat, purpose, epoch) and of nothing else, so that all
entrants of a repeat share what they can, and a resumed run draws what an uninterrupted one would have drawn.
"""

import hashlib
import io
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lossbench.config import Config
from lossbench.data.batches import augment, augmentation_draws, batch_images, epoch_order
from lossbench.data.faces import Split
from lossbench.evaluation.embed import embed
from lossbench.evaluation.measure import hits, share, tracked_figures
from lossbench.losses.head import Head
from lossbench.losses.loading import load_head
from lossbench.losses.spec import Spec
from lossbench.models.backbones import build_backbone
from lossbench.results.history import Epoch
from lossbench.utils.device import be_deterministic
from lossbench.utils.files import write_bytes
from lossbench.utils.memory import keep_freed_memory


class TrainingFailed(RuntimeError):
    """The run cannot go on; the message is its reason."""


@dataclass
class Trained:
    """A trained model: the last epoch's, or the best on val. `moved`: some step had a gradient for the backbone."""

    backbone: nn.Module
    head: Head
    history: list[Epoch]
    selected_epoch: int
    steps: int
    moved: bool


def seed_of(*purpose: object) -> int:
    """Return a seed for one purpose: 63 bits of the SHA-256 of its parts."""
    return int.from_bytes(hashlib.sha256(repr(purpose).encode()).digest()[:8]) >> 1


def generator_of(*purpose: object) -> torch.Generator:
    """Return a CPU generator seeded by `seed_of`."""
    return torch.Generator().manual_seed(seed_of(*purpose))


def initial_backbone(config: Config, repeat: int) -> nn.Module:
    """Return the backbone that all entrants of a repeat start from, on the CPU."""
    assert config.backbone is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(config.seed, repeat, "backbone"))
        return build_backbone(
            config.backbone, embedding_dim=config.embedding_dim, dropout=config.dropout, pretrained=config.pretrained
        )


def initial_head(config: Config, spec: Spec, repeat: int, num_classes: int) -> Head:
    """Return the fresh head of one entrant; heads with weights of one shape start from the same ones."""
    assert config.embedding_dim is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(config.seed, repeat, "head"))
        return load_head(spec, num_classes=num_classes, embedding_dim=config.embedding_dim)


def learning_rate(step: int, steps: int, peak: float, warmup: float) -> float:
    """Linear warm-up over the first `warmup` share of the steps, then half a cosine down to 0 (arXiv:1608.03983)."""
    warm = warmup * steps
    if step < warm:
        return peak * (step + 1) / (warm + 1)
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))


def train(
    config: Config,
    spec: Spec,
    repeat: int,
    split: Split,
    pixels: Tensor,
    folder: Path,
    *,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> Trained:
    """Train one entrant in one repeat; continue from ``folder/checkpoint.pt`` where an earlier try left one.

    Args:
        config: resolved settings.
        spec: the entrant.
        repeat: which repeat; with config.seed it decides every draw.
        split: the repeat's split; only train and val are read, unless config.track asks for the others to be recorded.
        pixels: [N, H, W, 3] uint8, the packed store, on the device to train on.
        folder: where history and checkpoint go.
        on_epoch: called after every epoch, and for the epochs that a resumed run finds finished.
        on_note: called with one line where something must not pass in silence.

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
    head = initial_head(config, spec, repeat, len(split.train.people)).to(device)
    optimizer = _optimizer(backbone, head, config)
    rows, labels = torch.tensor(split.train.rows), torch.tensor(split.train.labels)

    history: list[Epoch] = []
    best: dict[str, Any] | None = None
    if state := _read_checkpoint(folder, device, on_note):
        backbone.load_state_dict(state["backbone"])
        head.load_state_dict(state["head"])
        optimizer.load_state_dict(state["optimizer"])
        history, best = state["history"], state["best"]
    (folder / "history.jsonl").write_text("".join(json.dumps(vars(epoch)) + "\n" for epoch in history))
    for epoch in history:
        on_epoch(epoch)

    for number in range(len(history) + 1, config.epochs + 1):
        start = time.perf_counter()
        torch.manual_seed(seed_of(config.seed, repeat, "epoch", number))  # dropout, and heads that draw
        shuffle = generator_of(config.seed, repeat, "order", number)
        order = epoch_order(labels, config.batch_size, head.samples_per_class, shuffle)
        draws = augmentation_draws(order.shape, generator_of(config.seed, repeat, "augment", number)).to(device)
        batches = list(zip(rows[order].to(device), labels[order].to(device), strict=True))
        total, lr = torch.zeros((), device=device, dtype=torch.float64), 0.0
        backbone.train()
        head.train()
        for i, (batch, own) in enumerate(batches):
            lr = learning_rate((number - 1) * len(batches) + i, config.epochs * len(batches), config.lr, config.warmup)
            for group in optimizer.param_groups:
                group["lr"] = lr
            images = augment(batch_images(pixels, batch), draws[i])
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
                embeddings = backbone(images)
            loss = head(embeddings.float(), own)
            if fault := _fault(loss):
                raise TrainingFailed(f"the loss must be one differentiable number, not {fault}")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.detach()
        mean_loss = total.item() / len(batches)  # the one synchronisation of an epoch
        seconds = time.perf_counter() - start
        if not math.isfinite(mean_loss):
            raise TrainingFailed(f"the loss became {mean_loss}")

        val = _val_accuracy(backbone, head, pixels, split)
        tracked = tracked_figures(backbone, head, pixels, split) if config.track else None
        history.append(Epoch(number, mean_loss, val, lr, order.numel(), seconds, tracked))
        if config.select == "val" and (best is None or val > history[best["epoch"] - 1].val_accuracy):
            best = {"epoch": number, "backbone": _copy(backbone), "head": _copy(head)}
        _save_checkpoint(folder, backbone, head, optimizer, history, best)
        with (folder / "history.jsonl").open("a") as file:
            file.write(json.dumps(vars(history[-1])) + "\n")
        on_epoch(history[-1])

    moved = any(bool(optimizer.state[p]["exp_avg_sq"].any()) for p in backbone.parameters() if p in optimizer.state)
    if best is not None:
        backbone.load_state_dict(best["backbone"])
        head.load_state_dict(best["head"])
    steps = sum(epoch.images for epoch in history) // min(config.batch_size, len(rows))
    return Trained(
        backbone.eval(), head.eval(), history, best["epoch"] if best else config.epochs, steps=steps, moved=moved
    )


def _fault(loss: object) -> str:
    if not isinstance(loss, Tensor):
        return f"a {type(loss).__name__}"
    if loss.ndim:
        return f"of shape {list(loss.shape)}: end forward with .mean()"
    return "" if loss.requires_grad else "one without a gradient"


def _optimizer(backbone: nn.Module, head: Head, config: Config) -> torch.optim.Optimizer:
    parameters = [p for p in (*backbone.parameters(), *head.parameters()) if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},  # biases and normalisation
    ]
    return torch.optim.AdamW(groups, lr=1.0, fused=True)


def _val_accuracy(backbone: nn.Module, head: Head, pixels: Tensor, split: Split) -> float:
    val, labels = embed(backbone, pixels, split.val), torch.tensor(split.val.labels, device=pixels.device)
    train_labels = torch.tensor(split.train.labels, device=pixels.device)
    with torch.no_grad():
        has_logits = head.eval().logits(val[:1]) is not None
    train = val[:0] if has_logits else embed(backbone, pixels, split.train)
    return share(hits(head, val, labels, train, train_labels))


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def _save_checkpoint(
    folder: Path,
    backbone: nn.Module,
    head: Head,
    optimizer: torch.optim.Optimizer,
    history: list[Epoch],
    best: dict[str, Any] | None,
) -> None:
    state = {
        "backbone": backbone.state_dict(),
        "head": head.state_dict(),
        "optimizer": optimizer.state_dict(),
        "history": [vars(epoch) for epoch in history],
        "best": best,
    }
    data = io.BytesIO()  # torch.save to a file hides a full disk behind a RuntimeError
    torch.save(state, data)
    write_bytes(folder / "checkpoint.pt", data.getbuffer())


def _read_checkpoint(folder: Path, device: torch.device, on_note: Callable[[str], None]) -> dict[str, Any] | None:
    path = folder / "checkpoint.pt"
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        history = [Epoch(**line) for line in state["history"]]
        return {"history": history, **{part: state[part] for part in ("backbone", "head", "optimizer", "best")}}
    except Exception as error:  # torch.load raises whatever a damaged file makes it raise
        on_note(f"{path} is damaged ({type(error).__name__}); this run starts anew")
        return None
