"""The unit sphere: embeddings of three dimensions as they are, which shows what a margin does."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import seaborn as sns

from lossbench.errors import RunDamaged
from lossbench.report.figures.look import SOFT, Drawn, panels, short_names, title
from lossbench.report.figures.query_map import MARKERS, shown_images
from lossbench.report.standings import first_runs, for_panels
from lossbench.results.arrays import embeddings_side_by_side, read_arrays
from lossbench.results.metric_fields import number
from lossbench.results.store import Record
from lossbench.results.study import Study
from lossbench.results.verdicts import Verdict
from lossbench.results.weights import head_weight

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DIMENSIONS = 3
_PEOPLE = 8  # of each kind
_PLACES = {False: -1.06, True: 1.06}  # of the discs of front and back, whose radius is 1
_ROWS = {"training people": 1.22, "query people": -1.22}

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Sphere(NamedTuple):
    """What one panel shows, as directions [N, 3] and whose they are [N]; `centers` [P, 3] are the training people's.

    `of_head` says whether these are the head's class centers; else they are class means.
    """

    closed: Floats
    closed_person: Ints
    centers: Floats
    of_head: bool
    query: Floats
    query_person: Ints


def sphere(study: Study, found: Sequence[Verdict]) -> Drawn | None:
    """Draw embeddings of one repeat per loss on the unit sphere; None where they do not have three dimensions.

    Raises:
        RunDamaged: a run's embeddings or weights are missing or damaged.
    """
    runs, left_out = for_panels(study, [run for run in first_runs(study.records) if _is_drawn(run[1])])
    if not runs:
        return None
    columns = 2 if len(runs) == 4 else min(3, len(runs))
    rows = -(-len(runs) // columns)
    drawing, axes = panels(rows, columns, (5.1 if columns == 2 else 3.75) * rows)
    drawing.set_layout_engine("constrained", h_pad=0.1)  # inches: room above the upper names
    names = short_names([name for name, _ in runs])
    like: Floats | None = None
    heads = []
    for ax, (name, record), saved in zip(axes, runs, embeddings_side_by_side([r for _, r in runs]), strict=False):
        shown, like = on_sphere(record, saved, like)
        heads.append(shown.of_head)
        _draw(ax, shown)
        title(ax, names[name], _measured(record))
    for ax in axes[len(runs) :]:
        ax.set_axis_off()
    hollow = "" if all(heads) else " (hollow where a head has none: the mean of the person's training images)"
    return Drawn(
        drawing,
        f"Embeddings of repeat {runs[0][1]['repeat'] + 1}, which have three dimensions, on the unit sphere: two "
        "hemispheres in Lambert's equal-area projection, each seen from outside, with circles at 30 and 60 degrees. "
        f"Above: up to {_PEOPLE} training people by their images of val and test, which are not trained on; stars are "
        f"class centers{hollow}. Below: up to {_PEOPLE} query people. Colour and shape are the person, the same in "
        "every panel. The first is turned so that the mean of its training people faces you; the others are turned or "
        "mirrored so that their class means match those of the first (orthogonal Procrustes). Read how closely images "
        "lie around their star and how evenly the stars are spread: that is what a margin asks of training people. "
        "Whether query people gain from it is seen below. Intra is the mean angle of "
        f"an image to the mean of its person, over all people. {left_out}".rstrip(),
    )


def on_sphere(record: Record, saved: dict[str, npt.NDArray[Any]], like: Floats | None) -> tuple[Sphere, Floats]:
    """Return what a run's panel shows, and the class means [C, 3] that the next panels are turned to match.

    Args:
        record: a run with embeddings of three dimensions.
        saved: what `read_embeddings` returns of it.
        like: class means [C, 3] to match; None turns the mean of the people shown to the front.

    Raises:
        RunDamaged: the embeddings of training people are missing or damaged.
    """
    from scipy.linalg import orthogonal_procrustes

    closed, labels, means = _closed(record)
    if (like is not None and like.shape != means.shape) or saved["query"].shape[1] != _DIMENSIONS:
        raise _damaged(record)
    rows, person = shown_images(labels, _PEOPLE)
    weight = head_weight(record)
    of_head = weight is not None and weight.shape == means.shape and bool((weight.norm(dim=1) > 0).all())
    centers = _unit(weight.double().numpy()) if weight is not None and of_head else means
    shown_people = labels[rows][np.unique(person, return_index=True)[1]]
    turn = to_the_front(means[shown_people].mean(axis=0)) if like is None else orthogonal_procrustes(means, like)[0]
    query_rows, query_person = shown_images(saved["query_labels"], _PEOPLE)
    found = Sphere(
        closed[rows] @ turn, person, centers[shown_people] @ turn, of_head,
        _unit(saved["query"][query_rows]) @ turn, query_person,
    )  # fmt: skip
    return found, means @ turn if like is None else like


def to_the_front(direction: Floats) -> Floats:
    """Return the orthogonal matrix [3, 3] that maps rows along a direction [3] to +z: it mirrors one onto the other.

    Example:
        >>> (np.array([0.0, 3.0, 4.0]) @ to_the_front(np.array([0.0, 3.0, 4.0]))).round(9).tolist()
        [0.0, 0.0, 5.0]
    """
    front = np.array([0.0, 0.0, 1.0])
    length = np.linalg.norm(direction)
    between = direction / length - front if length > 0 else np.zeros(_DIMENSIONS)
    if (width := between @ between) == 0:
        return np.eye(_DIMENSIONS)
    return np.asarray(np.eye(_DIMENSIONS) - 2 * np.outer(between, between) / width)


def hemispheres(directions: Floats) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return Lambert's azimuthal equal-area projection of unit rows [N, 3], and which of them lie on the back, z < 0.

    Each hemisphere fills a disc of radius 1, the back as it is seen from behind.

    Example:
        >>> places, back = hemispheres(np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.6, 0.0, -0.8]]))
        >>> places.round(3).tolist(), back.tolist()
        ([[0.0, 0.0], [1.0, 0.0], [-0.447, 0.0]], [False, False, True])
    """
    x, y, z = directions.T
    back = z < 0
    scale = 1 / np.sqrt(1 + np.abs(z))
    return np.stack([np.where(back, -x, x) * scale, y * scale], axis=1), back


def _is_drawn(record: Record) -> bool:
    config = (record.get("protocol") or {}).get("config") or {}
    return bool(config.get("embedding_dim") == _DIMENSIONS)


def _closed(record: Record) -> tuple[Floats, Ints, Floats]:
    """Return directions [N, 3] of the training people's images of val and test, who is on each, and class means."""
    keys = ("val", "test", "val_labels", "test_labels", "train_means")
    arrays = read_arrays(record, "embeddings.npz", keys)
    *parts, means = (arrays[name] for name in keys)
    for rows, labels in ((parts[0], parts[2]), (parts[1], parts[3])):
        if not (_whole(rows) and labels.dtype == np.int64 and labels.shape == rows.shape[:1]):
            raise _damaged(record)
    labels = np.concatenate(parts[2:])
    if not (_whole(means) and len(labels) and 0 <= labels.min() <= labels.max() < len(means)):
        raise _damaged(record)
    return _unit(np.concatenate(parts[:2])), labels, _unit(means)


def _whole(rows: npt.NDArray[Any]) -> bool:
    fits = rows.ndim == 2 and rows.shape[1] == _DIMENSIONS and rows.dtype.kind == "f"
    return fits and bool((np.isfinite(rows).all(axis=1) & (rows != 0).any(axis=1)).all())


def _damaged(record: Record) -> RunDamaged:
    return RunDamaged(f"{Path(record['folder']) / 'embeddings.npz'} does not hold a run's embeddings of 3 dimensions")


def _unit(rows: npt.NDArray[Any]) -> Floats:
    found = rows.astype(np.float64)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))


def _measured(record: Record) -> str:
    values = {name: number(record["metrics"].get(f"{name}_intra")) for name in ("train", "query")}
    if any(np.isnan(value) for value in values.values()):
        return ""
    return f"Intra: train {values['train']:.0f}°, query {values['query']:.0f}°"


def _draw(ax: "Axes", shown: Sphere) -> None:
    angle = np.linspace(0, 2 * np.pi, 181)
    for people, height in _ROWS.items():
        for back, place in _PLACES.items():
            ax.text(place - 0.98, height + 0.86, "back" if back else "front", fontsize=7, color=SOFT)
            ax.fill(place + np.cos(angle), height + np.sin(angle), facecolor="0.97", edgecolor="0.6", linewidth=0.8)
            for degrees in (30, 60):
                radius = np.sqrt(2) * np.sin(np.radians(degrees) / 2)
                ax.plot(place + radius * np.cos(angle), height + radius * np.sin(angle), color="0.85", linewidth=0.5)
            for turn in np.arange(0, np.pi, np.pi / 4):
                across, up = np.array([-1, 1]) * np.cos(turn), np.array([-1, 1]) * np.sin(turn)
                ax.plot(place + across, height + up, color="0.88", linewidth=0.5)
        ax.text(0, height - 1.06, people, ha="center", va="top", fontsize=8, color=SOFT)
    look: dict[str, Any] = {"s": 17, "linewidths": 0.4, "edgecolors": "white"}
    _scatter(ax, shown.closed, shown.closed_person, _ROWS["training people"], look)
    _scatter(ax, shown.query, shown.query_person, _ROWS["query people"], look)
    _stars(ax, shown)
    ax.set(xlim=(-2.1, 2.1), ylim=(-2.5, 2.3), aspect="equal")
    ax.set_axis_off()


def _scatter(ax: "Axes", directions: Floats, person: Ints, height: float, look: dict[str, Any]) -> None:
    palette = sns.color_palette("colorblind")
    places, back = hemispheres(directions)
    places += np.stack([np.where(back, _PLACES[True], _PLACES[False]), np.full(len(back), height)], axis=1)
    for one in np.unique(person):
        x, y = places[person == one].T
        ax.scatter(x, y, marker=MARKERS[one], color=palette[one % len(palette)], zorder=3, **look)


def _stars(ax: "Axes", shown: Sphere) -> None:
    palette = sns.color_palette("colorblind")
    places, back = hemispheres(shown.centers)
    for number_, ((x, y), behind) in enumerate(zip(places, back, strict=True)):
        colour = palette[number_ % len(palette)]
        look: dict[str, Any] = {"facecolors": colour if shown.of_head else "none", "edgecolors": "black"}
        at = x + _PLACES[bool(behind)], y + _ROWS["training people"]
        ax.scatter(*at, marker="*", s=130, linewidths=0.7, zorder=2.5, **look)  # below the images
