"""Exact metrics on CUDA: the same bits as on the CPU, whatever the size of the tiles."""

from dataclasses import astuple

import pytest
import torch

from lossbench.metrics import cmc, enrol, identification_rate, open_set, threshold_transfer

PEOPLE, IMAGES, OTHERS, DIM = 60, 5, 2500, 128


def faces(scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Query [300, 128], labels and distractors [2500, 128]; a small `scale` makes all embeddings nearly one point."""
    chance = torch.Generator().manual_seed(0)
    labels = torch.arange(PEOPLE).repeat_interleave(IMAGES)
    centers = torch.randn(PEOPLE, DIM, generator=chance)
    query = centers[labels] + 1.5 * torch.randn(len(labels), DIM, generator=chance)
    distractors = torch.randn(OTHERS, DIM, generator=chance)
    return 1 + scale * query, labels, 1 + scale * distractors


def measured(query, labels, distractors):
    gallery = enrol(query, labels)
    probes = gallery.templates, query[gallery.probes], gallery.people
    return [
        identification_rate(query, labels, distractors),
        cmc(*probes, distractors),
        open_set(*probes, distractors),
        threshold_transfer(query[::2], labels[::2], query[1::2], labels[1::2], distractors),
    ]


def bits(value):
    return value.cpu().view(torch.int64).tolist() if isinstance(value, torch.Tensor) else value


@pytest.mark.parametrize("scale", [1.0, 1e-4], ids=["faces", "collapsed"])
def test_every_figure_has_the_same_bits_as_on_the_cpu(cuda, scale):
    given = faces(scale)
    ours, theirs = measured(*(part.to(cuda) for part in given)), measured(*given)
    for a, b in zip(ours, theirs, strict=True):
        assert [bits(value) for value in astuple(a)] == [bits(value) for value in astuple(b)]
