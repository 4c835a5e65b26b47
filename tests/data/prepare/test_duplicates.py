import io

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import convolve

from lossbench.data.orl import read_orl
from lossbench.data.prepare.duplicates import Pair, groups_of, near_duplicates, perceptual_hash, thumbnail


@pytest.fixture(scope="module")
def orl():
    images = []
    for file in read_orl().files:
        with Image.open(file) as image:
            images.append(image.convert("RGB"))
    return images


def jpeg(image, quality):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue()))


CHANGES = {
    "the same": lambda image: image,
    "compressed": lambda image: jpeg(image, 40),
    "half the size": lambda image: image.resize((46, 56), Image.Resampling.LANCZOS),
    "brighter": lambda image: image.point(lambda v: min(255, round(v * 1.15 + 12))),
    "darker": lambda image: image.point(lambda v: round(v * 0.6)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_copies_are_found_and_other_photographs_of_people_are_not(orl, change):
    plain = [thumbnail(image) for image in orl[::10]]
    before = {(p.a, p.b) for p in near_duplicates(np.stack(plain))}
    assert before == set()
    copies = [thumbnail(CHANGES[change](image)) for image in orl[::10]]
    found = {(p.a, p.b) for p in near_duplicates(np.stack(plain + copies))}
    assert {(i, i + 40) for i in range(40)} <= found
    assert {(a % 40, b % 40) for a, b in found} == {(i, i) for i in range(40)}


def test_blocks_agree_with_a_plain_loop(orl, monkeypatch):
    monkeypatch.setattr("lossbench.data.prepare.duplicates._BLOCK", 17)
    stack = np.stack([thumbnail(image) for image in orl[:60]] + [thumbnail(jpeg(image, 30)) for image in orl[5:25:2]])
    bits = perceptual_hash(stack)
    kernel = np.full((5, 5), 1 / 25)
    fine = [t - convolve(t.astype(float), kernel, mode="nearest") for t in stack]
    expected = {}
    for a in range(len(stack)):
        for b in range(a + 1, len(stack)):
            score = np.corrcoef(fine[a].ravel(), fine[b].ravel())[0, 1]
            if (bits[a] != bits[b]).sum() <= 60 and score > 0.5:
                expected[a, b] = score
    found = near_duplicates(stack, max_bits=60, min_correlation=0.5)
    assert len(expected) > 10
    assert {(p.a, p.b) for p in found} == set(expected)
    for pair in found:
        assert pair.correlation == pytest.approx(expected[pair.a, pair.b], abs=1e-4)


def test_flat_images_are_nobodys_duplicates():
    flat = np.full((3, 32, 32), 128, dtype=np.uint8)
    assert near_duplicates(flat) == []
    assert near_duplicates(flat[:1]) == []


def test_groups_join_chains():
    pairs = [Pair(0, 2, 1.0), Pair(2, 5, 1.0), Pair(3, 4, 1.0)]
    groups = groups_of(pairs, list("abcdefg"))
    assert set(groups) == set("acfde")
    assert groups["a"] == groups["c"] == groups["f"]
    assert groups["d"] == groups["e"] != groups["a"]
