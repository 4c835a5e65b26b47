"""A finished run's model applied to other faces, without training: evaluate and embed."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lossbench.data.faces import Part
from lossbench.data.images.recordio import ImagePlace
from lossbench.data.images.store import open_store
from lossbench.data.images.streaming import StoredPixels, place_pixels, suitable_place
from lossbench.data.pairs import PairSet
from lossbench.data.tree import UnseenPeople
from lossbench.errors import InputError
from lossbench.evaluation.embed import PairImages, embed, pair_inputs
from lossbench.evaluation.measure import figures_of, resamples_of
from lossbench.losses.plugin import UNTRAINED
from lossbench.results.arrays import read_arrays, save_arrays, without_embeddings
from lossbench.results.metric_inputs import Values
from lossbench.results.store import Record
from lossbench.results.weights import built_as, load_backbone

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Evaluation:
    """The figures of one run on other faces by key, as in a record.

    `resamples` holds figures in resamples of the people [B] by key, and `spread` their standard deviations. `known`
    names those of the people whose names also occur in the run's training set; None where that cannot be seen.
    """

    record: Record
    figures: dict[str, Any]
    resamples: dict[str, npt.NDArray[np.float64]]
    spread: dict[str, float]
    known: tuple[str, ...] | None


def evaluate(
    record: Record,
    unseen: UnseenPeople,
    pairs: PairSet | None = None,
    *,
    fprs: Sequence[float] = (),
    flip: bool = False,
    network: str | None = None,
    device: torch.device,
    on_progress: Progress = lambda done, total: None,
) -> Evaluation:
    """Measure a finished run's model on people it was not trained on.

    Args:
        record: a record from `find_runs`.
        unseen: the query people and distractors to measure it on.
        pairs: verification pairs to measure as well.
        fprs: the false-positive rates of the operating points, as for `evaluation.measure.measure`.
        flip: add the mirrored image's embedding, for the pairs only, as `run --flip` does.
        network: the file that the user named, for a run whose backbone is a file.
        device: where to compute.
        on_progress: called while images are decoded for the first time.

    Raises:
        RunDamaged: the model cannot be loaded.
        InputError: an image cannot be read, or the network's file is not named or another.
    """
    backbone = load_backbone(record, network=network).to(device)
    pixels = _pixels(record, unseen.files, device, on_progress)
    query = embed(backbone, pixels, unseen.query)
    distractors = embed(backbone, pixels, unseen.distractors) if len(unseen.distractors) else query[:0]
    labels = torch.tensor(unseen.query.labels, device=device)
    given: dict[str, Any] = {
        "query": query,
        "query_labels": labels,
        "query_people": unseen.query.people,
        "distractors": distractors,
        "distractors_labels": torch.tensor(unseen.distractors.labels, dtype=torch.int64, device=device),
        "distractors_people": unseen.distractors.people,
        **({"fprs": fprs} if fprs else {}),
    }
    if pairs:
        images = PairImages(pairs, _pixels(record, pairs.files, device, on_progress))
        given |= pair_inputs(backbone, images, flip=flip)
    values = Values(given)
    known = known_names(record, {*unseen.query.people, *unseen.distractors.people})
    drawn = resamples_of(values)
    return Evaluation(record, figures_of(values), drawn, _spread(drawn), known)


def known_names(record: Record, people: set[str]) -> tuple[str, ...] | None:
    """Return, sorted, the names in `people` that occur in the run's training set; none for the untrained backbone.

    None where the run has no embeddings.npz, which lists them: runs are often passed on without that large file.

    Raises:
        RunDamaged: the run's embeddings.npz does not list its training people.
    """
    if record["entrant"] == UNTRAINED:
        return ()
    if without_embeddings([record]):
        return None
    trained = read_arrays(record, "embeddings.npz", ["train_people"])["train_people"].ravel().tolist()
    return tuple(sorted(people & set(trained)))


def embed_folder(
    record: Record,
    files: Sequence[ImagePlace],
    names: Sequence[str],
    out: Path,
    *,
    network: str | None = None,
    device: torch.device,
    on_progress: Progress,
) -> tuple[int, int]:
    """Write an .npz file with the ``embeddings`` [N, D] of images, float32, not normalised, and their ``files`` [N].

    Returns:
        N and D.

    Raises:
        RunDamaged: the model cannot be loaded.
        InputError: an image cannot be read, the file cannot be written, or the network's file is not named or another.
    """
    pixels = _pixels(record, files, device, on_progress)
    everything = Part(tuple(range(len(files))), (0,) * len(files), ("",))
    backbone = load_backbone(record, network=network).to(device)
    embeddings = embed(backbone, pixels, everything).cpu().numpy()
    try:
        save_arrays(out, {"embeddings": embeddings, "files": np.asarray(names)})
    except OSError as error:
        raise InputError(f"--out: {out} cannot be written ({error.strerror or error})") from error
    return embeddings.shape[0], embeddings.shape[1]


def _pixels(record: Record, files: Sequence[ImagePlace], device: torch.device, on_progress: Progress) -> StoredPixels:
    side = built_as(record)["image_size"]
    store = open_store(files, side, on_progress=lambda done: on_progress(done, len(files)))
    return place_pixels(store.pixels, device, suitable_place(store.pixels.nbytes, device))


def _spread(resamples: Mapping[str, npt.NDArray[np.float64]]) -> dict[str, float]:
    finite = {key: column[np.isfinite(column)] for key, column in resamples.items()}
    return {key: float(column.std(ddof=1)) if len(column) > 1 else math.nan for key, column in finite.items()}
