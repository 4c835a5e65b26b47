"""A run's model on templates of ORL people, against the same figures from its embeddings in a plain loop."""

from itertools import combinations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_curve
from support import run_of

from lossbench.data.templates import read_templates
from lossbench.evaluation.models import run_model, whole
from lossbench.evaluation.templates import fars_of, template_figures
from lossbench.results.store import find_run


@pytest.fixture
def listed(tree):
    """Two templates of each of four people: two frames of one video; a photo and a frame of another video."""
    rows, templates = [], []
    for part, person in (("query", "p4"), ("query", "p5"), ("distractors", "p6"), ("distractors", "p7")):
        for name, images in (("a", ("0", "1")), ("b", ("2", "3"))):
            templates.append((f"{person}{name}", person))
            for image in images:
                medium = "video" if name == "a" else f"photo{image}"
                rows.append(f"{part}/{person}/{image}.jpg,{person}{name},{medium},{person}")
    (tree / "t.csv").write_text("\n".join(["image,template,media,person", *rows]) + "\n")
    pairs = [f"{a},{b},{int(p == q)}" for (a, p), (b, q) in combinations(templates, 2)]
    (tree / "list.csv").write_text("\n".join(["template1,template2,label", *pairs]) + "\n")
    return read_templates(tree / "t.csv", tree / "list.csv")


@pytest.mark.parametrize("keep_norms", [False, True])
def test_figures_are_those_of_a_plain_loop(trained, listed, keep_norms):
    model = run_model(find_run(run_of(trained, "untrained")), device=torch.device("cpu"))
    found = template_figures(model, listed, fars=(0.25, 0.1, 0.01), flip=True, keep_norms=keep_norms)
    (embeddings,) = model.embed(listed.files, [whole(listed.files)], flip=True)
    images = dict(zip(listed.files, embeddings.double().numpy(), strict=True))
    if not keep_norms:
        images = {file: x / np.linalg.norm(x) for file, x in images.items()}
    pooled = []
    for template in range(8):
        media: dict[int, list] = {}
        for row, own, medium in zip(listed.rows, listed.templates, listed.media, strict=True):
            if own == template:
                media.setdefault(medium, []).append(images[listed.files[row]])
        total = sum(np.mean(one, axis=0) for one in media.values())
        pooled.append(total / np.linalg.norm(total))
    scores = [float(pooled[a] @ pooled[b]) for a, b in zip(listed.a, listed.b, strict=True)]
    far, tar, _ = roc_curve(listed.same, scores, drop_intermediate=False)
    figures = found.figures
    assert (figures["template_positives"], figures["template_negatives"]) == (4, 24)
    for rate, allowed in ((0.25, 6), (0.1, 2)):
        assert figures[f"template_tar@{rate}"] == tar[np.flatnonzero(far <= allowed / 24 + 1e-9)[-1]]
    assert np.isnan(figures["template_tar@0.01"])
    assert 0 <= found.spread["template_tar@0.25"] < 1


def test_without_people_there_is_no_spread(trained, listed, tree):
    lines = [line.rpartition(",")[0] for line in (tree / "t.csv").read_text().splitlines()]
    (tree / "u.csv").write_text("\n".join(lines) + "\n")
    model = run_model(find_run(run_of(trained, "ce")), device=torch.device("cpu"))
    unknown = template_figures(model, read_templates(tree / "u.csv", tree / "list.csv"))
    known = template_figures(model, listed)
    assert unknown.spread == {}
    assert {k: v for k, v in unknown.figures.items() if v == v} == {k: v for k, v in known.figures.items() if v == v}


def test_the_usual_rates_are_those_of_ijb(listed):
    assert fars_of(listed, ()) == (0.1, 0.01, 0.001, 1e-4, 1e-5)
    assert fars_of(listed, (0.3, 0.2)) == (0.3, 0.2)
