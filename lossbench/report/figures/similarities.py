"""The cosine similarities of pairs of unseen people."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import seaborn as sns

from lossbench.report.figures.look import Drawn, panels
from lossbench.results.arrays import read_embeddings
from lossbench.results.study import Study
from lossbench.results.verdicts import Verdict


def similarities(study: Study, found: Sequence[Verdict]) -> Drawn:
    """Draw the cosines of the identification rate's positives and negatives per loss, repeats pooled.

    Raises:
        RunDamaged: a run's embeddings are missing or damaged.
    """
    names = list(dict.fromkeys(record["entrant"] for record in study.finished))
    drawing, axes = panels(-(-len(names) // 4), min(4, len(names)), 3 * min(4, len(names)), 2.4 * -(-len(names) // 4))
    edges = np.linspace(-1, 1, 41)
    for ax, name in zip(axes, names, strict=False):
        own = [record for record in study.finished if record["entrant"] == name]
        counts = np.sum([similarity_counts(read_embeddings(record), edges) for record in own], axis=0)
        shared: dict[str, Any] = {"x": (edges[:-1] + edges[1:]) / 2, "bins": edges.tolist(), "stat": "density"}
        shared |= {"element": "step", "alpha": 0.35}
        colours = sns.color_palette("colorblind")
        sns.histplot(ax=ax, weights=counts[1], color=colours[1], label="different people", hatch="//", **shared)
        sns.histplot(ax=ax, weights=counts[0], color=colours[0], label="same person", **shared)
        ax.set(title=name, xlabel="cosine", ylabel="density")
    for ax in axes[len(names) :]:
        ax.set_axis_off()
    drawing.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    return Drawn(
        drawing,
        "Cosine similarities of image pairs of unseen people: the less the two distributions overlap, the better.",
    )


def similarity_counts(saved: dict[str, npt.NDArray[Any]], edges: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
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
