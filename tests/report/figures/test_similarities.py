"""The histograms of similarities against whole matrices."""

import numpy as np

from lossbench.report.figures.similarities import similarity_counts


def test_similarities_are_counted_once_per_pair_in_blocks_too():
    rng = np.random.default_rng(0)
    labels = np.arange(600) % 7  # more than one block of 512
    saved = {"query": rng.normal(size=(600, 3)), "query_labels": labels, "distractors": rng.normal(size=(40, 3))}
    edges = np.linspace(-1, 1, 11)
    query, other = (saved[name] / np.linalg.norm(saved[name], axis=1)[:, None] for name in ("query", "distractors"))
    i, j = np.triu_indices(600, 1)
    cosines, same = np.sum(query[i] * query[j], axis=1), labels[i] == labels[j]
    negatives = np.concatenate([cosines[~same], (query @ other.T).ravel()])
    expected = [np.histogram(values.clip(-1, 1), edges)[0] for values in (cosines[same], negatives)]
    np.testing.assert_array_equal(similarity_counts(saved, edges), expected)
