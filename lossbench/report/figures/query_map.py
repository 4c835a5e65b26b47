"""A map of query embeddings, panels of which can be compared: the same people, laid out alike."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import seaborn as sns

from lossbench.report.figures.look import Drawn, panels, short_names, title
from lossbench.report.standings import first_runs, for_panels
from lossbench.results.arrays import embeddings_side_by_side
from lossbench.results.metric_fields import metric, number
from lossbench.results.store import Record
from lossbench.results.study import Study
from lossbench.results.verdicts import Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PEOPLE = 12  # shapes and colours beyond a dozen cannot be told apart
MARKERS = "osD^vP<>Xph*"
_IMAGES = 16  # of a person: more hide one another, and the time of a map grows with their square
_FEWEST = 5  # images that a map is drawn of
_CROWDED = 150  # images, beyond which markers are smaller
_SHOWN = "r_precision"

Floats = npt.NDArray[np.float64]


def query_map(study: Study, found: Sequence[Verdict]) -> Drawn | None:
    """Draw query embeddings of one repeat per loss by t-SNE (cosine), every panel turned to match the first.

    Raises:
        RunDamaged: a run's embeddings are missing or damaged.
    """
    runs, left_out = for_panels(study, first_runs(study.records))
    if not runs:
        return None
    columns = min(4, len(runs))
    drawing, axes = panels(-(-len(runs) // columns), columns, 2.6 * -(-len(runs) // columns))
    drawing.set_layout_engine("constrained", h_pad=0.1)  # inches: room above the upper names
    names = short_names([name for name, _ in runs])
    first: Floats | None = None
    people = 0
    for ax, (name, record), saved in zip(axes, runs, embeddings_side_by_side([r for _, r in runs]), strict=False):
        rows, person = shown_images(saved["query_labels"])
        if len(rows) < _FEWEST:
            return None
        places = layout(saved["query"][rows], person, like=first)
        first, people = places if first is None else first, int(person.max()) + 1
        _draw(ax, places, person)
        title(ax, names[name], _measured(record))
    for ax in axes[len(runs) :]:
        ax.set_axis_off()
    counts = np.bincount(saved["query_labels"])
    most = [f"the {people} people with most images"] if people < np.count_nonzero(counts) else []
    most += [f"up to {_IMAGES} images of each"] if counts.max() > _IMAGES else []
    return Drawn(
        drawing,
        f"Query images of repeat {runs[0][1]['repeat'] + 1} by t-SNE of their embeddings (cosine)"
        f"{': ' * bool(most)}{', '.join(most)}. A marker is an image; its colour and shape are the person, the "
        "same in every panel. Panels are made comparable: the first starts from its principal components, every other "
        "from the first map, turned or mirrored to match it (orthogonal Procrustes). Read whether a person's images "
        "lie together and whether people mix; distances between groups mean little in such a map. R-precision is of "
        f"all query images, in all dimensions. {left_out}".rstrip(),
    )


def shown_images(
    labels: npt.NDArray[np.int64], people: int = PEOPLE
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return which images [N] are drawn, and whose they are [N]: 0 is the person with most images.

    Example:
        >>> shown_images(np.array([5, 7, 7]))
        (array([1, 2, 0]), array([0, 0, 1]))
    """
    counts = Counter(labels.tolist())
    chosen = sorted(counts, key=lambda label: (-counts[label], label))[:people]
    own = [np.flatnonzero(labels == label)[:_IMAGES] for label in chosen]
    return np.concatenate(own), np.repeat(np.arange(len(own)), [len(rows) for rows in own])


def layout(embeddings: npt.NDArray[np.float32], person: npt.NDArray[np.int64], like: Floats | None = None) -> Floats:
    """Return the places [N, 2] of images on a map, centred and of mean square 1, the same ones every time.

    Args:
        embeddings: [N, D], not zero.
        person: [N] who is on each.
        like: the map [N, 2] that it starts from and is turned to match; its own two principal components where None.
    """
    from scipy.linalg import orthogonal_procrustes
    from sklearn.manifold import TSNE

    unit = embeddings.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    start = like if like is not None else _principal(unit)
    # neighbours as many as a person has images; "exact", because the faster way depends on the number of threads
    perplexity = min(max(5.0, float(np.median(np.bincount(person)))), (len(unit) - 1) / 3)
    tsne = TSNE(metric="cosine", init=(1e-4 * start).astype(np.float32), perplexity=perplexity, method="exact")
    places = _standard(tsne.fit_transform(unit).astype(np.float64))
    return places if like is None else places @ orthogonal_procrustes(places, like)[0]


def _principal(unit: Floats) -> Floats:
    """Return the first two principal components [N, 2], each with its largest entry positive."""
    left, sizes, _ = np.linalg.svd(unit - unit.mean(axis=0), full_matrices=False)
    found = np.zeros((len(unit), 2))
    found[:, : len(sizes)] = (left * sizes)[:, :2]
    largest = np.abs(found).argmax(axis=0)
    return _standard(found * np.where(found[largest, [0, 1]] < 0, -1.0, 1.0))


def _standard(places: Floats) -> Floats:
    centred = places - places.mean(axis=0)
    return np.asarray(centred / max(1e-12, float(np.sqrt((centred**2).mean()))))


def _measured(record: Record) -> str:
    value = number(record["metrics"].get(_SHOWN))
    return "" if np.isnan(value) else f"{metric(_SHOWN).title} {value:.2f}"


def _draw(ax: "Axes", places: Floats, person: npt.NDArray[np.int64]) -> None:
    palette = sns.color_palette("colorblind")
    for number_ in range(int(person.max()) + 1):
        x, y = places[person == number_].T
        look = {"marker": MARKERS[number_], "color": palette[number_ % len(palette)]}
        ax.scatter(x, y, s=28 if len(places) <= _CROWDED else 15, linewidths=0.3, edgecolors="white", **look)
    ax.spines[:].set(visible=True, color="0.7")
    reach = 1.08 * float(np.abs(places).max())
    ax.set(xticks=[], yticks=[], xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
