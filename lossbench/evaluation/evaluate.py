"""Models applied to other faces, without training: evaluate and embed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lossbench.data.images.recordio import ImagePlace
from lossbench.data.templates import TemplateSet
from lossbench.data.tree import UnseenPeople
from lossbench.errors import InputError
from lossbench.evaluation.measure import figures_of, resamples_of
from lossbench.evaluation.models import Model, Progress, run_model, silent, whole
from lossbench.evaluation.pair_lists import PairList, pair_values
from lossbench.evaluation.templates import fars_of, spread_of, template_figures
from lossbench.losses.plugin import UNTRAINED
from lossbench.results.arrays import read_arrays, save_arrays, without_embeddings
from lossbench.results.metric_inputs import Values
from lossbench.results.store import Record


@dataclass(frozen=True)
class Evaluation:
    """The figures of one model on other faces by key, as in a record.

    `record` is that of a run, None of a model's file. `resamples` holds figures in resamples of the people [B] by key,
    and `spread` their standard deviations. `known` names those of the people whose names also occur in the training
    set; None where that cannot be seen. `pairs` holds the figures of each verification list by its name; where there is
    a single list, they are among `figures`, too.
    """

    record: Record | None
    figures: dict[str, Any]
    resamples: dict[str, npt.NDArray[np.float64]]
    spread: dict[str, float]
    known: tuple[str, ...] | None
    source: Path = Path()
    pairs: dict[str, dict[str, Any]] = field(default_factory=dict)
    fars: tuple[float, ...] = ()
    fed: str = ""


def evaluate(
    model: Model,
    unseen: UnseenPeople | None,
    lists: Sequence[PairList] = (),
    templates: TemplateSet | None = None,
    *,
    fprs: Sequence[float] = (),
    flip: bool = False,
    keep_norms: bool = False,
    on_progress: Progress = silent,
) -> Evaluation:
    """Measure a model on people it was not trained on.

    Args:
        model: what gives the embeddings.
        unseen: the query people and distractors to measure it on; None measures the lists alone.
        lists: verification pairs to measure as well, each list by itself.
        templates: templates and pairs of them to measure as well.
        fprs: the false-positive rates of the operating points, as for `evaluation.measure.measure`.
        flip: add the mirrored image's embedding, for pairs and templates only, as `run --flip` does.
        keep_norms: as for `template_figures`.
        on_progress: called while images are decoded for the first time.

    Raises:
        RunDamaged: the model of a run is damaged.
        InputError: an image cannot be read.
    """
    given = _people_values(model, unseen, fprs, on_progress) if unseen else {}
    values_of = {one.name: pair_values(model, one.pairs, flip=flip, on_progress=on_progress) for one in lists}
    pairs = {name: figures_of(Values(own)) for name, own in values_of.items()}
    if len(lists) == 1:
        given |= values_of[lists[0].name]
    values = Values(given)
    drawn = resamples_of(values)
    figures, spread = figures_of(values), spread_of(drawn)
    fars = fars_of(templates, fprs) if templates else ()
    if templates:
        measured = template_figures(
            model, templates, fars=fars, flip=flip, keep_norms=keep_norms, on_progress=on_progress
        )
        figures, spread = figures | measured.figures, spread | measured.spread
    names = {*unseen.query.people, *unseen.distractors.people} if unseen else set()
    known = known_names(model.record, names) if model.record else None
    return Evaluation(model.record, figures, drawn, spread, known, model.source, pairs, fars, model.said)


def _people_values(model: Model, unseen: UnseenPeople, fprs: Sequence[float], on_progress: Progress) -> dict[str, Any]:
    """Return what the figures of unseen people are computed from."""
    parts = [part for part in (unseen.query, unseen.distractors) if len(part)]
    query, *others = model.embed(unseen.files, parts, on_progress=on_progress)
    return {
        "query": query,
        "query_labels": torch.tensor(unseen.query.labels, device=query.device),
        "query_people": unseen.query.people,
        "distractors": others[0] if others else query[:0],
        "distractors_labels": torch.tensor(unseen.distractors.labels, dtype=torch.int64, device=query.device),
        "distractors_people": unseen.distractors.people,
        **({"fprs": fprs} if fprs else {}),
    }


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
    model = run_model(record, network=network, device=device)
    (found,) = model.embed(files, [whole(files)], on_progress=on_progress)
    embeddings = found.cpu().numpy()
    try:
        save_arrays(out, {"embeddings": embeddings, "files": np.asarray(names)})
    except OSError as error:
        raise InputError(f"--out: {out} cannot be written ({error.strerror or error})") from error
    return embeddings.shape[0], embeddings.shape[1]
