"""Exact metrics on CUDA: the same bits as on the CPU, whatever the size of the tiles."""

from dataclasses import astuple

import pytest
import torch

from lossbench.metrics import bootstrap, cmc, enrol, identification_rate, open_set, threshold_transfer

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


def resampled(query, labels, distractors):
    drawn = [bootstrap.multiplicities([f"{part}{i}" for i in range(PEOPLE)], 200) for part in ("query", "others")]
    others = (torch.arange(OTHERS) % PEOPLE).to(query.device)
    return bootstrap.bootstrap_identification(query, labels, distractors, others, *drawn, (0.5, 0.1, 0.01, 1e-4))


def bits(value):
    return value.cpu().view(torch.int64).tolist() if isinstance(value, torch.Tensor) else value


@pytest.mark.parametrize("scale", [1.0, 1e-4], ids=["faces", "collapsed"])
def test_every_figure_has_the_same_bits_as_on_the_cpu(cuda, scale):
    given = faces(scale)
    ours, theirs = measured(*(part.to(cuda) for part in given)), measured(*given)
    for a, b in zip(ours, theirs, strict=True):
        assert [bits(value) for value in astuple(a)] == [bits(value) for value in astuple(b)]


@pytest.mark.parametrize("pairs", [400_000, 20_000], ids=["all pairs", "some of them"])
def test_every_resample_has_the_same_bits_as_on_the_cpu(cuda, pairs, monkeypatch):
    monkeypatch.setattr(bootstrap, "_PAIRS", pairs)
    given = faces()
    ours, theirs = resampled(*(part.to(cuda) for part in given)), resampled(*given)
    assert bits(ours) == bits(theirs)
    assert not ours[:, 1].isnan().any()


@pytest.mark.parametrize("columns", [256, 4096, 65536])
def test_tiles_of_any_size_give_the_same_bits(cuda, columns, monkeypatch):
    """More pairs than one tile holds: narrow tiles first, then wide ones, then what a bracket keeps is selected."""
    chance = torch.Generator().manual_seed(1)
    query, distractors = (torch.randn(n, 32, generator=chance).to(cuda) for n in (3000, 20_000))
    labels, fprs = (torch.arange(3000) // 8).to(cuda), (0.1, 0.01, 1e-4, 1e-6)
    expected = identification_rate(query.cpu(), labels.cpu(), distractors.cpu(), fprs)
    monkeypatch.setattr("lossbench.metrics.exact.pairs._ON_GPU", columns)
    assert [bits(v) for v in astuple(identification_rate(query, labels, distractors, fprs))] == [
        bits(v) for v in astuple(expected)
    ]
