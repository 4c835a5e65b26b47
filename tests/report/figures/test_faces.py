"""The faces of disagreements: the images of the pairs, with the numbers of the table below them."""

import numpy as np

from lossbench.metrics.disagreement import Kind
from lossbench.report.disagreements import Case, Disagreed
from lossbench.report.face_images import FaceImages
from lossbench.report.figures.faces import each_image_once, faces

ACCEPTED, ALARM = Kind(same=True, first_accepts=True), Kind(same=False, first_accepts=False)


def case(*places, cosines=(0.75, 0.25)):
    return Case(("x.png", "y.png"), places, cosines)


def shown_of(orl, cases):
    cases = {Kind(same, first): () for same in (True, False) for first in (True, False)} | cases
    totals = {kind: len(own) for kind, own in cases.items()}
    apart = Disagreed(("a", "$b$"), 0, orl.fingerprint(0), 0.1, (0.5, 0.625), (360, 9200), 80, totals, cases)
    return FaceImages(apart, orl)


def test_each_pair_stands_above_both_decisions(orl):
    cases = {ACCEPTED: (case(0, 5), case(1, 6)), ALARM: (case(3, 90, cosines=(-0.001, 0.7)),)}
    images = shown_of(orl, cases)
    drawn = faces(images)
    pixels = [np.asarray(ax.images[0].get_array()) for ax in drawn.drawing.axes]
    assert len(pixels) == 6
    for found, place in zip(pixels, (0, 5, 1, 6, 3, 90), strict=True):
        np.testing.assert_array_equal(found, np.asarray(images.image(place)))
    texts = {text.get_text(): text.get_fontweight() for text in drawn.drawing.texts}
    assert texts["a 0.75 > 0.50"] == texts["$b$ 0.70 > 0.62"] == "bold"
    assert texts["$b$ 0.25 ≤ 0.62"] == texts["a 0.00 ≤ 0.50"] == "normal"
    assert "same person, accepted by a alone (a is right)" in texts
    assert "two people, accepted by $b$ alone (a is right)" in texts
    assert "Of 360 pairs of one person a alone accepts 2" in drawn.caption


def test_a_cosine_has_the_digits_that_tell_it_from_its_threshold(orl):
    close = case(0, 5, cosines=(0.50004, 0.62496))
    drawn = faces(shown_of(orl, {ACCEPTED: (close, case(1, 6))}))
    texts = [text.get_text() for text in drawn.drawing.texts]
    assert {"a 0.5000 > 0.5000", "$b$ 0.62 ≤ 0.62"}.isdisjoint(texts)
    assert {"a 0.50004 > 0.50000", "$b$ 0.62496 ≤ 0.62500", "a 0.75 > 0.50"} <= set(texts)
    assert "a (threshold 0.50000) and $b$ (threshold 0.62500)" in drawn.caption


def test_no_image_is_shown_twice_in_a_row(orl):
    assert each_image_once([case(0, 5), case(5, 7), case(2, 0), case(3, 7)]) == [case(0, 5), case(3, 7)]
    many = tuple(case(i, i + 40) for i in range(9))
    assert len(faces(shown_of(orl, {ACCEPTED: many})).drawing.axes) == 8, "four pairs"


def test_losses_that_agree_have_no_figure(orl):
    assert faces(shown_of(orl, {})) is None
