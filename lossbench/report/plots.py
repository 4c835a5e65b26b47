"""The figures of a report: seaborn, colour-blind palette, and a line style or marker beside every colour."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure as Drawing

from lossbench.losses.plugin import UNTRAINED
from lossbench.metrics import identification_rate
from lossbench.metrics.operating_point import is_thin
from lossbench.report.theme import colours
from lossbench.results.arrays import read_embeddings, without_embeddings
from lossbench.results.history import read_history, relative_losses
from lossbench.results.metric_fields import flat_metrics, fprs_of, shown_in
from lossbench.results.store import Record
from lossbench.results.study import entrants
from lossbench.utils.files import write_bytes
from lossbench.utils.text import rate_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

_LOWEST, _HIGHEST, _PER_DECADE = 1e-4, 0.5, 6.5  # false-positive rates of the curve; it goes down to the points shown
_MAP_PEOPLE = 12  # shapes and colours beyond a dozen cannot be told apart
_DASHES = ["", (4, 1.5), (1, 1), (3, 1, 1, 1), (5, 1, 1, 1, 1, 1), (2, 2), (6, 2), (1, 3)]

Embeddings = dict[str, npt.NDArray[Any]]


def write_figures(records: Sequence[Record], folder: Path) -> list[tuple[str, str]]:
    """Draw every figure as SVG and PNG; those of unseen people only where all runs have embeddings of them.

    Args:
        records: all runs of the report.
        folder: exists.

    Returns:
        File stem and caption of each figure, in reading order.

    Raises:
        InputError: a run's embeddings are damaged.
        OSError: the disk is full or the folder cannot be written; each figure is then complete or unchanged.
    """
    finished = [record for record in records if record["status"] == "finished"]
    style: dict[Any, Any] = {"axes.grid": True, "grid.alpha": 0.3, "font.size": 9}
    # reproducible bytes, text kept as text, and no formulas: a spec may contain a dollar sign
    style |= {"svg.hashsalt": "lossbench", "svg.fonttype": "none", "text.parse_math": False}
    drawn = []
    nobody_unseen = not all(record["people"]["query"] for record in finished)
    left_out = _OF_UNSEEN if nobody_unseen or without_embeddings(finished) else ()
    with mpl.rc_context({**sns.axes_style("ticks"), **style}):
        for draw, caption in _FIGURES:
            drawing = None if draw in left_out else draw(finished)
            if drawing is None:
                continue
            stem = draw.__name__
            drawing.draw_without_rendering()
            drawing.set_layout_engine("none")  # laid out once, for both files
            for kind, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
                whole = io.BytesIO()  # on a full disk the figure of the previous report must survive
                drawing.savefig(whole, format=kind, dpi=110, metadata=metadata)
                write_bytes(folder / f"{stem}.{kind}", whole.getbuffer())
            drawn.append((stem, caption))
    return drawn


def training_curves(records: Sequence[Record]) -> Drawing | None:
    """Plot loss relative to the first epoch, and accuracy on val, by epoch; bands span the repeats."""
    lines = []
    for record in records:
        history = read_history(record)
        for line, loss in zip(history, relative_losses(history), strict=True):
            lines.append(
                {"loss": record["entrant"], "epoch": line["epoch"], "relative": loss, "val": line["val_accuracy"]}
            )
    if not lines:
        return None
    frame = pd.DataFrame(lines)
    drawing, axes = _axes(1, 2, 10, 3.6)
    trained = [record for record in records if record["entrant"] != UNTRAINED]
    shared = {"data": frame, "x": "epoch", "errorbar": ("pi", 100), "err_kws": {"alpha": 0.1}, **_look(trained)}
    sns.lineplot(**shared, y="relative", ax=axes[0], legend=False)
    sns.lineplot(**shared, y="val", ax=axes[1])
    axes[0].set(ylabel="training loss / that of epoch 1")
    axes[1].set(ylabel="accuracy on val")
    if frame["relative"].min() > 0:
        axes[0].set_yscale("log")
        _plain_ticks(axes[0].yaxis)
    sns.move_legend(axes[1], "center left", bbox_to_anchor=(1.02, 0.5), title=None, frameon=False)
    return drawing


def tpr_fpr(records: Sequence[Record]) -> Drawing:
    """Plot the identification rate against the false-positive rate; bands span the repeats, markers are the points."""
    points, chosen = [], fprs_of(records)
    lowest = min([_LOWEST, *chosen])
    count = round(1 + _PER_DECADE * np.log10(_HIGHEST / lowest))
    curve = np.logspace(np.log10(lowest), np.log10(_HIGHEST), count).tolist()
    for record in records:
        saved = read_embeddings(record)
        query, labels, distractors = (torch.from_numpy(saved[n]) for n in ("query", "query_labels", "distractors"))
        rates = identification_rate(query, labels, distractors, [*curve, *chosen])
        for i, (fpr, tpr) in enumerate(zip(rates.fpr.tolist(), rates.tpr.tolist(), strict=True)):
            thin = is_thin(fpr, rates.negatives)
            points.append({"loss": record["entrant"], "fpr": fpr, "tpr": tpr, "chosen": i >= len(curve), "thin": thin})
    frame = pd.DataFrame(points).dropna()
    drawing, (ax,) = _axes(1, 1, 6, 4)
    look = _look(records)
    lines = frame[~frame["chosen"]]
    sns.lineplot(lines, x="fpr", y="tpr", ax=ax, errorbar=("pi", 100), err_kws={"alpha": 0.1}, **look)
    for name, colour in look["palette"].items():
        own = frame[frame["chosen"] & (frame["loss"] == name)].groupby("fpr")
        for (fpr, tpr), thin in zip(own["tpr"].mean().items(), own["thin"].any(), strict=True):
            face = "white" if thin else colour
            ax.plot([fpr], [tpr], "o", markersize=4, markeredgecolor=colour, markerfacecolor=face)
    ax.set(xscale="log", xlabel="false-positive rate (FPR, FAR)", ylabel="identification rate (TPR, TAR)")
    ax.set(ylim=(0, 1.02))
    _plain_ticks(ax.xaxis)
    sns.move_legend(ax, "best", title=None, frameon=False)
    return drawing


def similarities(records: Sequence[Record]) -> Drawing:
    """Plot the cosine similarities of the identification rate's positives and negatives, per loss, repeats pooled."""
    names = entrants(records)
    drawing, axes = _axes(-(-len(names) // 4), min(4, len(names)), 3 * min(4, len(names)), 2.4 * -(-len(names) // 4))
    edges = np.linspace(-1, 1, 41)
    for ax, name in zip(axes, names, strict=False):
        own = [record for record in records if record["entrant"] == name]
        counts = np.sum([_similarity_counts(read_embeddings(record), edges) for record in own], axis=0)
        shared = {
            "x": (edges[:-1] + edges[1:]) / 2,
            "bins": edges.tolist(),
            "stat": "density",
            "element": "step",
            "alpha": 0.35,
        }
        colours = sns.color_palette("colorblind")
        sns.histplot(ax=ax, weights=counts[1], color=colours[1], label="different people", hatch="//", **shared)
        sns.histplot(ax=ax, weights=counts[0], color=colours[0], label="same person", **shared)
        ax.set(title=name, xlabel="cosine", ylabel="density")
    for ax in axes[len(names) :]:
        ax.set_axis_off()
    drawing.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    return drawing


def _similarity_counts(saved: Embeddings, edges: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the counts [2, bins] of positives and negatives per bin, computed in blocks of query images."""
    query, other = (
        saved[name] / np.linalg.norm(saved[name], axis=1, keepdims=True) for name in ("query", "distractors")
    )
    counts = np.zeros((2, len(edges) - 1), dtype=np.int64)
    for i in range(0, len(query), 512):
        cos = np.clip(query[i : i + 512] @ query.T, -1, 1)
        once = np.arange(len(query)) > np.arange(i, i + len(cos))[:, None]
        same = saved["query_labels"][i : i + 512, None] == saved["query_labels"]
        with_others = np.clip(query[i : i + 512] @ other.T, -1, 1).ravel()
        counts[0] += np.histogram(cos[once & same], edges)[0]
        counts[1] += np.histogram(np.concatenate([cos[once & ~same], with_others]), edges)[0]
    return counts


def angles(records: Sequence[Record]) -> Drawing:
    """Plot the four angle statistics of ArcFace's table 3 in degrees: a point per repeat, a bar at the mean."""
    rows = []
    for record in records:
        flat = flat_metrics(record)
        for figure in shown_in("angles"):
            degrees = flat.get(figure.key, np.nan)
            rows.append({"loss": record["entrant"], "angle": figure.title, "degrees": degrees})
    frame = pd.DataFrame(rows)
    drawing, axes = _axes(2, 3, 11, 0.55 * len(entrants(records)) + 2.4)
    for ax, figure in zip(axes, shown_in("angles"), strict=True):
        own = frame[frame["angle"] == figure.title]
        look = _look(records)
        shared = {"x": "degrees", "y": "loss", "order": entrants(records), "ax": ax, "legend": False}
        sns.stripplot(own, hue="loss", palette=look["palette"], jitter=False, alpha=0.6, **shared)
        sns.pointplot(own, color="black", marker="|", markersize=12, linestyle="none", errorbar=None, **shared)
        ax.set(title=figure.title, ylabel="", xlabel="degrees")
    return drawing


def query_map(records: Sequence[Record]) -> Drawing | None:
    """Plot the query embeddings of the first repeat per loss, by t-SNE (cosine, fixed seed); a marker per image."""
    from sklearn.manifold import TSNE

    first = [record for record in records if record["repeat"] == min(r["repeat"] for r in records)]
    names = entrants(first)
    columns = min(4, len(names))
    drawing, axes = _axes(-(-len(names) // columns), columns, 3 * columns, 3 * -(-len(names) // columns))
    for ax, name in zip(axes, names, strict=False):
        saved = read_embeddings(next(record for record in first if record["entrant"] == name))
        shown = saved["query_labels"] < _MAP_PEOPLE
        if shown.sum() < 5:
            return None
        perplexity = min(30.0, (shown.sum() - 1) / 3)
        tsne = TSNE(metric="cosine", init="random", perplexity=perplexity, random_state=0)
        flat = tsne.fit_transform(saved["query"][shown].astype(np.float64))
        person = saved["query_people"][saved["query_labels"][shown]]
        look = {"hue": person, "style": person, "palette": sns.color_palette("colorblind", len(set(person)))}
        sns.scatterplot(x=flat[:, 0], y=flat[:, 1], ax=ax, s=22, legend=False, **look)
        ax.set(title=name, xticks=[], yticks=[])
    for ax in axes[len(names) :]:
        ax.set_axis_off()
    return drawing


_FIGURES: tuple[tuple[Callable[[Sequence[Record]], Drawing | None], str], ...] = (
    (training_curves, "Training: loss relative to its first epoch, and accuracy on val. Bands span the repeats."),
    (
        tpr_fpr,
        "Identification rate on unseen people against the false-positive rate. Bands span the repeats; markers are the "
        "operating points, hollow where fewer than ten negatives lie above the threshold.",
    ),
    (
        similarities,
        "Cosine similarities of image pairs of unseen people: the less the two distributions overlap, the better.",
    ),
    (angles, "Angle statistics (ArcFace, table 3). Dots are repeats, bars their mean. Intra: smaller is tighter."),
    (
        query_map,
        "Query embeddings of the first repeat, t-SNE. A marker is an image; colour and shape give the person.",
    ),
)


_OF_UNSEEN = (tpr_fpr, similarities, query_map)  # the records alone do not tell


def _axes(rows: int, columns: int, width: float, height: float) -> "tuple[Drawing, list[Axes]]":
    drawing = Drawing(figsize=(width, height), layout="constrained")
    return drawing, list(np.atleast_1d(drawing.subplots(rows, columns)).flat)


def _plain_ticks(axis: "Axis") -> None:
    """Label a logarithmic axis 1e-5, 0.1, 1: the default labels are formulas, which are switched off."""
    axis.set_major_formatter(lambda value, _: rate_text(value))
    axis.set_minor_formatter("")


def _look(records: Sequence[Record]) -> dict[str, Any]:
    """Return each entrant's colour and dash pattern, the same in every figure; `untrained` is grey."""
    names = entrants(records)
    dashes = {name: _DASHES[i % len(_DASHES)] for i, name in enumerate(names)}
    return {
        "hue": "loss",
        "style": "loss",
        "hue_order": names,
        "style_order": names,
        "palette": colours(names),
        "dashes": dashes,
    }
