"""CMC and DIR at FAR against plain loops, on data full of exact ties, people of one image, and copies."""

import math

import numpy as np
import pytest
import torch

from lossbench.metrics import cmc, enrol, identification_rate, open_set, threshold_transfer
from lossbench.metrics.exact.directions import GRID, Directions, exact_scores
from lossbench.metrics.exact.pairs import Pairs
from lossbench.metrics.exact.products import above

pytestmark = pytest.mark.usefixtures("each_way")


def with_ties(seed, people=7, images=30, unenrolled=40, dim=4):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(people), rng.integers(0, people - 2, images - people)])
    faces = rng.integers(-2, 3, (images, dim)) + 2 * rng.integers(-1, 2, (people, dim))[labels]
    other = rng.integers(-3, 4, (unenrolled, dim))
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
    faces, labels, unenrolled = with_ties(seed)
    gallery = enrol(faces, labels)
    probes = faces[gallery.probes]
    alarms = sorted((max(score(s, t) for t in gallery.templates) for s in unenrolled), reverse=True)
    got = open_set(gallery.templates, probes, gallery.people, unenrolled, [0.5, 0.1, 0.01])
    for i, far in enumerate([0.5, 0.1]):
        threshold = alarms[int(far * len(unenrolled))]
        right = [
            score(p, gallery.templates[w]) > threshold and plain_rank(p, w, gallery.templates, []) == 1
            for p, w in zip(probes, gallery.people.tolist(), strict=True)
        ]
        assert got.rate[i].item() == pytest.approx(np.mean(right))
        assert got.threshold[i].item() == pytest.approx(threshold, abs=1e-6)
        assert got.achieved_far[i].item() == pytest.approx(np.mean([a > threshold for a in alarms]))
        assert got.achieved_far[i] <= far
    assert got.rate[2].isnan(), "40 images do not support a false-alarm rate of 0.01"


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("block", [1, 3, 64])
def test_blocks_and_threads_change_nothing(block, threads, monkeypatch):
    monkeypatch.setattr("lossbench.metrics.gallery.threads_for", lambda device: threads)
    torch.manual_seed(0)
    labels = torch.arange(40) % 10
    faces = torch.randn(10, 8)[labels] + torch.randn(40, 8)
    unenrolled = torch.cat([torch.randn(60, 8), faces[:10]])
    gallery = enrol(faces, labels)
    arguments = gallery.templates, faces[gallery.probes], gallery.people, unenrolled
    assert torch.equal(cmc(*arguments).rate, cmc(*arguments, block=block).rate)
    whole, parts = open_set(*arguments, [0.3, 0.1]), open_set(*arguments, [0.3, 0.1], block=block)
    assert torch.equal(whole.rate, parts.rate)
    assert torch.equal(whole.threshold, parts.threshold)


def test_an_embedding_that_separates_no_people_identifies_none():
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
        (
            lambda: open_set(torch.ones(0, 3), torch.ones(0, 3), torch.zeros(0).long(), torch.ones(4, 3)),
            "the gallery is empty",
        ),
        (lambda: open_set(torch.ones(2, 3), torch.ones(1, 3), torch.zeros(1).long(), torch.ones(4, 3), [1]), "between"),
    ],
)
def test_bad_input(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def nearly_one_face(seed):
    """Templates [40, D] and unenrolled [50, D] whose cosines float32 hardly tells apart; exact scores [50, 40]."""
    torch.manual_seed(seed)
    face = torch.randn(1, 64)
    templates, unenrolled = face + 1e-3 * torch.randn(40, 64), face + 1e-3 * torch.randn(50, 64)
    i, j = torch.meshgrid(torch.arange(50), torch.arange(40), indexing="ij")
    scores = exact_scores(Directions(unenrolled), i.flatten(), Directions(templates), j.flatten())
    return templates, unenrolled, scores.reshape(50, 40)


@pytest.mark.parametrize("many", [1 << 18, 20])
@pytest.mark.parametrize("seed", range(10))
def test_what_float32_cannot_separate_is_separated(seed, many, monkeypatch):
    monkeypatch.setattr("lossbench.metrics.gallery._MANY", many)
    templates, unenrolled, scores = nearly_one_face(seed)
    best = scores.max(1).values.sort(descending=True).values
    got = open_set(templates, torch.randn(5, 64), torch.arange(5), unenrolled, [0.1, 0.3, 0.5], block=7)
    assert [round(cut * GRID) for cut in got.threshold.tolist()] == [int(best[k]) for k in (5, 15, 25)]
    pairs = Pairs(Directions(templates), torch.arange(40) // 2, Directions(unenrolled), 16)
    negatives = pairs.exact(*pairs.negatives(10**9))
    assert pairs.accepted([int(negatives.median())])[1] == [int((negatives > negatives.median()).sum())]


def test_no_product_is_made_in_less_than_float32(monkeypatch):
    """Also where bfloat16 is allowed for the whole process."""
    seen = []

    def looking(scores, *others, **options):
        seen.append(torch.backends.mkldnn.matmul.fp32_precision)
        return above(scores, *others, **options)

    for module in ("gallery", "exact.order_statistics", "exact.pairs"):
        monkeypatch.setattr(f"lossbench.metrics.{module}.above", looking)
    templates, unenrolled, _ = nearly_one_face(0)
    labels, people = torch.arange(40) // 2, torch.arange(5)
    before = torch.backends.mkldnn.matmul.fp32_precision
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    try:
        for measure in (
            lambda: identification_rate(templates, labels, unenrolled, [0.1]),
            lambda: threshold_transfer(unenrolled, torch.arange(50) // 2, templates, labels, unenrolled, [0.1]),
            lambda: cmc(templates, unenrolled[:5], people, unenrolled),
            lambda: open_set(templates, unenrolled[:5], people, unenrolled),
        ):
            seen.clear()
            measure()
            assert set(seen) == {"ieee"}
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = before


def test_what_does_not_fit_is_said():
    templates, probes, people = torch.randn(8, 4), torch.randn(5, 4), torch.arange(5)
    for wrong, says in [
        (lambda: cmc(templates, probes, people, torch.randn(3, 5)), r"templates and unenrolled \(\(8, 4\), \(3, 5\)\)"),
        (lambda: open_set(templates, probes, people, torch.randn(3, 5)), r"templates and unenrolled"),
        (lambda: cmc(templates, probes, people + 4, probes), r"people must be in 0\.\.7"),
        (lambda: open_set(templates, probes, people - 1, probes), r"people must be in 0\.\.7"),
        (lambda: cmc(templates, probes, people, probes, ()), "at least one"),
        (lambda: cmc(templates, probes, people, probes, (0, 1)), "each 1 or more"),
        (lambda: cmc(templates[:0], probes, people, probes), "the gallery is empty"),
        (lambda: enrol(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.zeros(2), 2), "cancel one another out"),
        (lambda: enrol(torch.full((2, 2), 1e-155, dtype=torch.float64), torch.arange(2)), "is zero or not finite"),
    ]:
        with pytest.raises(ValueError, match=says):
            wrong()


def test_a_rate_of_nearly_one_is_the_lowest_threshold():
    templates, unenrolled, scores = nearly_one_face(0)
    got = open_set(templates, torch.randn(5, 64), torch.arange(5), unenrolled, [1 - 1e-12])
    assert round(got.threshold.item() * GRID) == int(scores.max(1).values.min())
    rate = identification_rate(templates, torch.arange(40) // 2, unenrolled, [1 - 1e-15])
    assert rate.threshold.item() < got.threshold.item()


def test_embeddings_that_are_being_trained_are_measured_like_others():
    faces, labels = torch.randn(24, 4, requires_grad=True), torch.arange(24) % 6
    assert torch.equal(enrol(faces, labels).templates, enrol(faces.detach(), labels).templates)


def test_people_unlike_all_in_the_gallery_have_negative_scores():
    templates, probes = torch.tensor([[1.0, 0.0], [1.0, 0.2]]), torch.tensor([[1.0, 0.1]])
    unenrolled = torch.tensor([[-1.0, 0.0], [-1.0, 1.0], [-2.0, 0.5], [-1.0, -1.0]])
    best = sorted(max(score(a, b) for b in templates) for a in unenrolled)
    got = open_set(templates, probes, torch.tensor([0]), unenrolled, [0.3, 0.6])
    assert got.threshold.tolist() == pytest.approx([best[-2], best[-3]], abs=1e-6)
    assert best[-2] < 0


def test_ranks_and_rates_that_are_not_given():
    templates, probes, people = torch.randn(12, 4), torch.randn(5, 4), torch.arange(5)
    found = cmc(templates, probes, people, probes[:0])
    assert found.ranks == (1, 5, 10)
    assert torch.equal(found.rate, cmc(templates, probes, people, probes[:0], (1, 5, 10)).rate)
    assert open_set(templates, probes, people, torch.randn(30, 4)).far.tolist() == [0.1, 0.01, 0.001]
