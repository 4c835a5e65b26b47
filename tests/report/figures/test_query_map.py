"""The map of query embeddings against t-SNE run by hand."""

import numpy as np
from sklearn.manifold import TSNE

from lossbench.report.figures.query_map import query_map
from lossbench.results.study import Study

EACH = 3  # images of a person


def test_the_map_shows_a_dozen_people_of_the_first_repeat(study):
    own = study.of_entrant("b")
    (ax,) = query_map(Study(tuple(own), {}), []).drawing.axes
    query = np.load(f"{own[0]['folder']}/embeddings.npz")["query"][: 12 * EACH].astype(float)
    places = TSNE(metric="cosine", init="random", perplexity=(12 * EACH - 1) / 3, random_state=0).fit_transform(query)
    assert [dots.get_offsets().tolist() for dots in ax.collections] == [places.tolist()]
    assert ax.get_title() == "b"
    assert len({tuple(colour) for colour in ax.collections[0].get_facecolors()}) >= 8
