"""A map of query embeddings."""

from collections.abc import Sequence

import numpy as np
import seaborn as sns

from lossbench.report.figures.look import Drawn, panels
from lossbench.results.arrays import read_embeddings
from lossbench.results.study import Study
from lossbench.results.verdicts import Verdict

_PEOPLE = 12  # shapes and colours beyond a dozen cannot be told apart


def query_map(study: Study, found: Sequence[Verdict]) -> Drawn | None:
    """Draw the query embeddings of the first repeat per loss, by t-SNE (cosine, fixed seed); a marker per image.

    Raises:
        RunDamaged: a run's embeddings are missing or damaged.
    """
    from sklearn.manifold import TSNE

    finished = study.finished
    first = [record for record in finished if record["repeat"] == min(r["repeat"] for r in finished)]
    names = list(dict.fromkeys(record["entrant"] for record in first))
    columns = min(4, len(names))
    drawing, axes = panels(-(-len(names) // columns), columns, 3 * columns, 3 * -(-len(names) // columns))
    for ax, name in zip(axes, names, strict=False):
        saved = read_embeddings(next(record for record in first if record["entrant"] == name))
        shown = saved["query_labels"] < _PEOPLE
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
    return Drawn(
        drawing,
        "Query embeddings of the first repeat, t-SNE. A marker is an image; colour and shape give the person.",
    )
