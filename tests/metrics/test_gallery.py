"""CMC and DIR at FAR against plain loops, on data full of exact ties, people of one image, and copies."""

import math

import numpy as np
import pytest
import torch

from lossbench.metrics import cmc, enrol, open_set
from lossbench.metrics.directions import GRID


def with_ties(seed, people=7, images=30, strangers=40, dim=4):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(people), rng.integers(0, people - 2, images - people)])
    faces = rng.integers(-2, 3, (images, dim)) + 2 * rng.integers(-1, 2, (people, dim))[labels]
    other = rng.integers(-3, 4, (strangers, dim))
    for rows in (faces, other):
        rows[~rows.any(1)] = 1
    faces[12], other[5] = faces[3], 2 * faces[3]
    return torch.from_numpy(faces).double(), torch.from_numpy(labels), torch.from_numpy(other).double()


def score(a, b):
    """Cosine, rounded so that what is equal on paper is equal here."""
    return round(float(a @ b) / math.sqrt(float(a @ a) * float(b @ b)), 7)


def plain_rank(probe, own, templates, distractors):
    others = [score(probe, t) for p, t in enumerate(templates) if p != own] + [score(probe, d) for d in distractors]
    return 1 + sum(other >= score(probe, templates[own]) for other in others)


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("seed", range(4))
def test_cmc_equals_plain_loops(seed, images):
    faces, labels, others = with_ties(seed)
    gallery = enrol(faces, labels, images)
    for distractors in (others, others[:0]):
        ranks = [
            plain_rank(faces[row], person, gallery.templates, distractors)
            for row, person in zip(gallery.probes.tolist(), gallery.people.tolist(), strict=True)
        ]
        got = cmc(gallery.templates, faces[gallery.probes], gallery.people, distractors, (1, 3, 7))
        assert got.rate.tolist() == pytest.approx([np.mean([r <= k for r in ranks]) for k in (1, 3, 7)])
        assert (got.probes, got.entries) == (len(ranks), 7 + len(distractors))


@pytest.mark.parametrize("seed", range(4))
def test_open_set_equals_plain_loops(seed):
    faces, labels, strangers = with_ties(seed)
    gallery = enrol(faces, labels)
    probes = faces[gallery.probes]
    alarms = sorted((max(score(s, t) for t in gallery.templates) for s in strangers), reverse=True)
    got = open_set(gallery.templates, probes, gallery.people, strangers, [0.5, 0.1, 0.01])
    for i, far in enumerate([0.5, 0.1]):
        threshold = alarms[int(far * len(strangers))]
        right = [
            score(p, gallery.templates[w]) > threshold and plain_rank(p, w, gallery.templates, []) == 1
            for p, w in zip(probes, gallery.people.tolist(), strict=True)
        ]
        assert got.rate[i].item() == pytest.approx(np.mean(right))
        assert got.threshold[i].item() == pytest.approx(threshold, abs=1e-6)
        assert got.achieved_far[i].item() == pytest.approx(np.mean([a > threshold for a in alarms]))
        assert got.achieved_far[i] <= far
    assert got.rate[2].isnan(), "40 strangers do not support a false-alarm rate of 0.01"


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("block", [1, 3, 64])
def test_blocks_and_threads_change_nothing(block, threads, monkeypatch):
    monkeypatch.setattr("lossbench.metrics.gallery.threads_for", lambda device: threads)
    torch.manual_seed(0)
    labels = torch.arange(90) % 20
    faces = torch.randn(20, 8)[labels] + torch.randn(90, 8)
    strangers = torch.cat([torch.randn(150, 8), faces[:10]])
    gallery = enrol(faces, labels)
    arguments = gallery.templates, faces[gallery.probes], gallery.people, strangers
    assert torch.equal(cmc(*arguments).rate, cmc(*arguments, block=block).rate)
    whole, parts = open_set(*arguments, [0.3, 0.1]), open_set(*arguments, [0.3, 0.1], block=block)
    assert torch.equal(whole.rate, parts.rate)
    assert torch.equal(whole.threshold, parts.threshold)


def test_an_embedding_that_tells_nobody_apart_identifies_nobody():
    faces, labels = torch.ones(12, 3), torch.arange(12) % 4
    gallery = enrol(faces, labels)
    arguments = gallery.templates, faces[gallery.probes], gallery.people, torch.ones(20, 3)
    assert cmc(*arguments, (1, 3, 24)).rate.tolist() == [0.0, 0.0, 1.0]
    assert open_set(*arguments, [0.1]).rate.tolist() == [0.0]


def test_enrolment_takes_the_first_images_and_leaves_the_others():
    faces = torch.tensor([[1.0, 0], [0, 2], [0, 1], [3, 0], [1, 1]])
    labels = torch.tensor([8, 3, 8, 3, 8])
    gallery = enrol(faces, labels, 2)
    assert gallery.probes.tolist() == [4]
    assert gallery.people.tolist() == [1]
    half = 0.5**0.5
    torch.testing.assert_close(gallery.templates, torch.tensor([[half, half], [half, half]], dtype=torch.float64))
    assert enrol(faces, labels).probes.tolist() == [2, 3, 4]


def test_scores_decided_in_float64():
    """Two entries closer than float32 can tell: the nearer one is found all the same."""
    probe = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    near = torch.tensor([[1.0, 1e-4, 0], [1.0, 1.1e-4, 0]], dtype=torch.float64)
    assert cmc(near, probe, torch.tensor([0]), near[:0], (1,)).rate.tolist() == [1.0]
    assert cmc(near, probe, torch.tensor([1]), near[:0], (1, 2)).rate.tolist() == [0.0, 1.0]
    found = open_set(near[1:], probe, torch.tensor([0]), torch.cat([probe, near[:1]]), [0.5])
    assert found.threshold.item() == round(GRID / math.sqrt(1 + 1.21e-8)) / GRID


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: enrol(torch.ones(3, 2), torch.zeros(3), 0), "at least 1"),
        (lambda: enrol(torch.zeros(3, 2), torch.zeros(3)), "zero or not finite"),
        (lambda: cmc(torch.ones(2, 3), torch.ones(4, 3), torch.zeros(3).long(), torch.ones(0, 3)), "must be"),
        (lambda: cmc(torch.ones(2, 3), torch.ones(3, 4), torch.zeros(3).long(), torch.ones(0, 3)), "must be"),
        (lambda: open_set(torch.ones(0, 3), torch.ones(0, 3), torch.zeros(0).long(), torch.ones(4, 3)), "nobody"),
        (lambda: open_set(torch.ones(2, 3), torch.ones(1, 3), torch.zeros(1).long(), torch.ones(4, 3), [1]), "between"),
    ],
)
def test_bad_input(call, says):
    with pytest.raises(ValueError, match=says):
        call()
