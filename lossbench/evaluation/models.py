"""Models that `evaluate` measures, whatever they are kept in: each gives the embeddings of images on disk."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from lossbench.data.faces import Part
from lossbench.data.images.recordio import ImagePlace
from lossbench.data.images.store import open_store
from lossbench.data.images.streaming import StoredPixels, place_pixels, suitable_place
from lossbench.evaluation.embed import embed
from lossbench.results.store import Record
from lossbench.results.weights import built_as, load_backbone

Progress = Callable[[int, int], None]


def silent(done: int, total: int) -> None:
    """Report no progress."""


class Model(Protocol):
    """What is measured.

    `source` is the file or folder it was read from; `record` that of a run, None of a file; `said` how a network from
    elsewhere is fed, nothing of others.
    """

    @property
    def source(self) -> Path:
        """Return the file or folder."""

    @property
    def record(self) -> Record | None:
        """Return the run's record."""

    @property
    def said(self) -> str:
        """Return the line."""

    def embed(
        self, files: Sequence[ImagePlace], parts: Sequence[Part], *, flip: bool = False, on_progress: Progress = silent
    ) -> list[Tensor]:
        """Return the embeddings [N, D] of each part of the images, float32, not normalised.

        Args:
            files: the images.
            parts: which rows of `files`; none is empty.
            flip: add the embedding of the mirrored image to each, before normalising, as InsightFace does.
            on_progress: called while images are decoded for the first time.
        """


@dataclass(frozen=True)
class RunModel:
    """The backbone of a finished run."""

    record: Record
    backbone: nn.Module
    device: torch.device
    said: str = ""

    @property
    def source(self) -> Path:
        """Return the run's folder."""
        return Path(self.record["folder"])

    def embed(
        self, files: Sequence[ImagePlace], parts: Sequence[Part], *, flip: bool = False, on_progress: Progress = silent
    ) -> list[Tensor]:
        """Return the embeddings [N, D] of each part: see `Model`."""
        pixels = pixels_of(self.record, files, self.device, on_progress)
        found = [embed(self.backbone, pixels, part) for part in parts]
        if not flip:
            return found
        return [own + embed(self.backbone, pixels, part, flip=True) for own, part in zip(found, parts, strict=True)]


def run_model(record: Record, *, network: str | None = None, device: torch.device) -> RunModel:
    """Return the model of a finished run.

    Args:
        record: from `find_runs`.
        network: the file that the user named, for a run whose backbone is a file.
        device: where to compute.

    Raises:
        RunDamaged: the model cannot be loaded.
        InputError: the network's file is not named or another.
    """
    return RunModel(record, load_backbone(record, network=network).to(device), device)


def pixels_of(record: Record, files: Sequence[ImagePlace], device: torch.device, on_progress: Progress) -> StoredPixels:
    """Return images [N, H, W, 3] uint8 at a run's size, for the device.

    Raises:
        InputError: an image cannot be read.
        RunDamaged: the record does not say its size.
    """
    store = open_store(files, built_as(record)["image_size"], on_progress=lambda done: on_progress(done, len(files)))
    return place_pixels(store.pixels, device, suitable_place(store.pixels.nbytes, device))


def whole(files: Sequence[ImagePlace]) -> Part:
    """Return all images as one part."""
    return Part(tuple(range(len(files))), (0,) * len(files), ("",))
