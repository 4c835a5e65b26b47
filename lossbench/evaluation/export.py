"""A finished run's model as a file for use elsewhere, compared with the run before it is written."""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lossbench.errors import InputError
from lossbench.models.export import Embedder, serialised
from lossbench.results.model_facts import facts_of
from lossbench.results.model_file import model_of
from lossbench.results.store import Record
from lossbench.results.weights import load_backbone, own_network
from lossbench.utils.files import write_bytes
from lossbench.utils.text import shown

TOLERANCE = 1e-4  # of an entry of a unit embedding
_BATCHES = (1, 3)


@dataclass(frozen=True)
class Export:
    """A file that was written: its metadata, its bytes, and the largest difference of its embeddings from the run's.

    `difference` is None where the file holds weights alone that lossbench cannot run without the user's own network.
    """

    path: Path
    facts: dict[str, Any]
    size: int
    difference: float | None


def export(record: Record, kind: str, out: Path, *, network: str | None = None) -> Export:
    """Write a finished run's backbone, with the normalisation of its pixels, as a file.

    Args:
        record: as `find_run` returns it.
        kind: one of `FORMATS`.
        out: the file.
        network: the file that the user named for a backbone of their own.

    Raises:
        RunDamaged: the model cannot be loaded.
        InputError: the network cannot be exported, the file differs from the run by more than `TOLERANCE`, or cannot be
            written.
    """
    facts = facts_of(record)
    side = facts["model"]["image_size"]
    with torch.random.fork_rng(devices=[]):  # building a backbone draws weights
        embedder = Embedder(load_backbone(record, network=network))
    data = serialised(embedder, side, json.dumps(facts, allow_nan=False), kind)
    difference = _difference(embedder, data, side, kind, own=own_network(record) is not None, where=shown(out))
    if difference is not None and not difference <= TOLERANCE:
        raise InputError(
            f"{shown(out)} is not written: its embeddings differ from the run's by {difference:.1g}, more than "
            f"{TOLERANCE:g}; try another --format"
        )
    try:
        write_bytes(out, data)
    except OSError as error:
        raise InputError(f"--out: {shown(out)} cannot be written ({error.strerror or error})") from error
    return Export(out, facts, len(data), difference)


def _difference(embedder: Embedder, data: bytes, side: int, kind: str, *, own: bool, where: str) -> float | None:
    """Return how far embeddings by the file's bytes lie from the run's, on batches of 1 and 3 random images."""
    readable = kind == "onnx" or not own  # by `verify`
    ways: list[Any] = [model_of(data, kind, where).embed] if readable else []
    if kind == "torch":
        ways.append(torch.export.load(io.BytesIO(data)).module())  # our own bytes: those of others could run code
    generator, found = torch.Generator().manual_seed(0), []
    for count in _BATCHES:
        images = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)
        with torch.no_grad():
            expected = embedder(images)
            found += [(way(images) - expected).abs().max() for way in ways]
    return torch.stack(found).max().item() if found else None
