"""Several processes on gloo, each started when it is first needed, and what tests let them do together."""

import multiprocessing
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from lossbench.config import Config
from lossbench.data.catalogue import open_data
from lossbench.data.images.store import open_store
from lossbench.errors import InputError, ProcessLost
from lossbench.losses import blocked_softmax
from lossbench.losses.head import Head
from lossbench.losses.loading import load_head, trial_head
from lossbench.losses.registry import find_plugins
from lossbench.losses.sharing import put_whole, shards_of, share_out
from lossbench.losses.spec import parse_spec
from lossbench.models.backbones import build_backbone
from lossbench.results.history import Epoch
from lossbench.training.checkpoint import save_checkpoint
from lossbench.training.parallel import ParallelStep
from lossbench.training.step import Step, make_optimizer
from lossbench.training.train import train
from lossbench.utils import distributed
from lossbench.utils.claims import ClaimLost
from lossbench.utils.distributed import Ranks, joined
from lossbench.utils.files import fenced

In = Callable[..., list[Any]]


@contextmanager
def processes() -> Iterator[In]:
    """Yield a function that lets `size` processes do ``function(ranks, *arguments)`` and returns what each found."""
    context = multiprocessing.get_context("spawn")
    pipes: list[Connection] = []
    started: list[BaseProcess] = []

    def start(size: int) -> None:
        """Start what is not there yet: each takes seconds, and most tests need two."""
        for _ in range(size - len(started)):
            ours, theirs = context.Pipe()
            pipes.append(ours)
            started.append(context.Process(target=_serve, args=(theirs,), daemon=True))
            started[-1].start()

    def in_ranks(size: int, function: Callable[..., Any], *arguments: Any, device: str = "cpu") -> list[Any]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        start(size)
        for rank, pipe in enumerate(pipes[:size]):
            pipe.send((rank, size, port, device, function, arguments))
        found = [pipe.recv() for pipe in pipes[:size]]
        for one in found:
            if isinstance(one, BaseException):
                raise one
        return found

    try:
        yield in_ranks
    finally:
        for process in started:
            process.kill()


def _serve(connection: Connection) -> None:
    torch.set_num_threads(1)
    while True:
        rank, size, port, device, function, arguments = connection.recv()
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_PORT": port, "MASTER_ADDR": "127.0.0.1"}
        os.environ |= {name: str(value) for name, value in place.items()}
        try:
            with joined(torch.device(device, rank if device == "cuda" else None)) as ranks:
                found = function(ranks, *arguments)
        except Exception as error:
            found = error
        connection.send(found)


def tell(ranks: Ranks) -> dict[str, Any]:
    """Use everything by which processes tell each other something."""
    found: dict[str, Any] = {"place": (ranks.rank, ranks.size, ranks.first)}
    found["sum"] = ranks.sum_(torch.tensor([1.0, ranks.rank])).tolist()
    found["max"] = ranks.max_(torch.tensor([-ranks.rank, ranks.rank])).tolist()
    found["everyones"] = ranks.everyones(10 * ranks.rank)
    found["of_first"] = ranks.of_first(lambda: f"said by {ranks.rank}")
    rows = torch.arange(7)[ranks.share(7)].unsqueeze(1)
    every = ranks.gathered(rows, 7)
    found["gathered"] = None if every is None else every.flatten().tolist()
    for name, kind in (("refused", InputError), ("failed", KeyError)):
        try:
            ranks.of_first(lambda kind=kind: _raise(kind("no")))
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    return found


def fail(ranks: Ranks, alone: int | None, patience: float = 10.0) -> str:
    """Fail in all processes, or in one alone while the others wait for it; it waits so many seconds for theirs."""
    distributed.TOGETHER = patience
    try:
        with ranks.together("a loss"):
            if alone in (None, ranks.rank):
                raise ZeroDivisionError("of the loss")
            ranks.wait()
    except ProcessLost as error:
        if not error.said:
            dist.destroy_process_group()  # as the end of the process does
        return f"ProcessLost: {error} (said: {error.said})"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def save_under_a_lost_claim(ranks: Ranks, folder: Path) -> str:
    """Save a checkpoint whose run's claim the first process has lost; return what came of it."""
    backbone, head = build_backbone("tiny", embedding_dim=8), load_head("arcface", num_classes=3, embedding_dim=8)
    optimizer = make_optimizer(backbone, head, Config().resolved())

    def check() -> None:
        raise ClaimLost("taken over")

    with fenced("mark", check) if ranks.first else nullcontext():
        try:
            save_checkpoint(folder, backbone, head, optimizer, [], None, ranks)
        except (ClaimLost, ProcessLost) as lost:
            return f"{type(lost).__name__}: {lost}"
    return ""


def _raise(error: Exception) -> None:
    raise error


def head_of(text: str, classes: int, dim: int) -> Head:
    """Return a head in float64, its weights always the same."""
    torch.manual_seed(7)
    return load_head(text, num_classes=classes, embedding_dim=dim).double().train()


def batch_of(size: int, classes: int, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return embeddings and labels, always the same; some people come several times."""
    drawn = torch.Generator().manual_seed(1)
    embeddings = 3 * torch.randn(size, dim, dtype=torch.float64, generator=drawn)
    return embeddings, torch.randint(classes, (size // 2,), generator=drawn).repeat(2)


def loss_and_gradients(
    ranks: Ranks, text: str, classes: int, block: int | None = None, size: int = 20, dim: int = 6
) -> dict[str, Any]:
    """Return a head's loss, the gradients of embeddings and weights, and the head's buffers; classes are shared out."""
    before = blocked_softmax.BLOCK_NUMBERS, blocked_softmax.KEEP_NUMBERS
    if block is not None:
        blocked_softmax.BLOCK_NUMBERS = blocked_softmax.KEEP_NUMBERS = block
    head = head_of(text, classes, dim)
    shared = share_out(head, trial_head(parse_spec(text, find_plugins())), ranks) if ranks.size > 1 else {}
    embeddings, labels = batch_of(size, classes, dim)
    embeddings.requires_grad_()
    torch.manual_seed(3)
    loss = head(embeddings, labels)
    loss.backward()
    blocked_softmax.BLOCK_NUMBERS, blocked_softmax.KEEP_NUMBERS = before
    weights = {name.replace(".rows", ""): p.grad for name, p in head.named_parameters()}
    return {
        "shared": shared,
        "loss": loss.item(),
        "embeddings": embeddings.grad,
        "weights": weights,
        "buffers": dict(head.named_buffers()),
        "held": [len(shard.rows) for shard in shards_of(head)],
    }


def largest_tensor(ranks: Ranks, classes: int, size: int = 32, dim: int = 4) -> int:
    """Return how many numbers the largest tensor has that a step of ArcFace makes, from 32 images."""
    head = head_of("arcface", classes, dim)
    share_out(head, trial_head(parse_spec("arcface", find_plugins())), ranks)
    embeddings, labels = batch_of(size, classes, dim)
    watched = _Largest()
    with watched:
        head(embeddings.requires_grad_(), labels).backward()
    return watched.numbers


class _Largest(TorchDispatchMode):
    """Watches how large the tensors are that operations return."""

    numbers = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        for one in found if isinstance(found, tuple | list) else (found,):
            if isinstance(one, torch.Tensor):
                self.numbers = max(self.numbers, one.numel())
        return found


class Plain(nn.Module):
    """A network without batch normalisation: the same over any number of processes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.unused = nn.Linear(2, 2)
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.GELU(), nn.Flatten(), nn.Linear(4 * 7 * 7, 6))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        embeddings: torch.Tensor = self.layers(images)
        return embeddings


def steps(
    ranks: Ranks, text: str, optimizer: str, count: int, sample: float | None = None, on: str = "cpu"
) -> dict[str, Any]:
    """Make training steps of 11 images and return losses and weights; alone without `sample`, by `Step` itself."""
    device = torch.device(on, ranks.rank if on == "cuda" else None)
    config = Config(optimizer=optimizer, weight_decay=0.01)
    backbone, classes = Plain().to(device), 10
    torch.manual_seed(7)
    head = load_head(text, num_classes=classes, embedding_dim=6).train()
    together = ranks.size > 1 or sample is not None
    if together:
        share_out(head, trial_head(parse_spec(text, find_plugins())), ranks, sample)
    made = make_optimizer(backbone, head.to(device), config)
    drawn = torch.Generator().manual_seed(2)
    shape = (11, 16, 16, 3)
    step = (
        ParallelStep(backbone, head, made, shape, device, ranks)
        if together
        else Step(backbone, head, made, shape, device)
    )
    losses, mine = [], ranks.share(11)
    for shard in shards_of(head):
        shard.seed(ranks.rank)
    torch.manual_seed(3)  # as at the start of an epoch
    for _ in range(count):
        images = torch.randint(256, shape, dtype=torch.uint8, generator=drawn)
        labels, draws = torch.randint(classes, (11,), generator=drawn), torch.rand(7, 11, generator=drawn)
        batch = images[mine], labels, draws[:, mine]
        losses.append(float(step(*(tensor.to(device) for tensor in batch), 0.01)))
    put_whole(head)
    weights = {name: tensor.cpu() for name, tensor in {**backbone.state_dict(), **head.state_dict()}.items()}
    return {"losses": losses, "weights": weights, "moved": bool(step.moved)}


class Noisy(nn.Module):
    """A network that is a dropout, and keeps its mask."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(6))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.mask = nn.functional.dropout(torch.ones(len(images), 6), 0.5, self.training) > 0
        return self.scale * self.mask


def masks(ranks: Ranks) -> list[Any]:
    """Make two steps with dropout in three epochs, the last like the first; return the masks, and draws after each."""
    head = load_head("normface", num_classes=4, embedding_dim=6)
    backbone, shape = Noisy(), (8, 16, 16, 3)
    step = ParallelStep(backbone, head, make_optimizer(backbone, head, Config()), shape, torch.device("cpu"), ranks)
    found: list[Any] = []
    for epoch in (1, 2, 1):
        torch.manual_seed(epoch)
        for _ in range(2):
            step(torch.zeros(shape, dtype=torch.uint8)[:4], torch.arange(8) % 4, torch.rand(7, 4), 0.1)
            found.append((backbone.mask.tolist(), torch.rand(()).item()))
    return found


def train_on_orl(
    ranks: Ranks, text: str, folder: Path, options: dict[str, Any], stop: int | None = None
) -> dict[str, Any]:
    """Train on ORL at 32 px, and return the history and both states; nothing where it stops after an epoch."""
    config = Config(losses=text, image_size=32, **{"epochs": 3, **options}).resolved()
    faces = open_data("orl")
    pixels = torch.from_numpy(open_store(faces.files, 32).pixels)
    folder.mkdir(exist_ok=True, parents=True)
    notes: list[str] = []

    def on_epoch(epoch: Epoch) -> None:
        if epoch.epoch == stop:
            raise KeyError

    words = parse_spec(text, find_plugins()), 0, faces.split(0), pixels, folder
    try:
        found = train(config, *words, ranks=ranks, on_note=notes.append, on_epoch=on_epoch)
    except KeyError:
        return {}
    states = {
        f"{part}.{n}": t.clone() for part in ("backbone", "head") for n, t in getattr(found, part).state_dict().items()
    }
    history = [(epoch.epoch, epoch.train_loss, epoch.val_accuracy) for epoch in found.history]
    return {"history": history, "states": states, "processes": found.processes, "notes": notes}
