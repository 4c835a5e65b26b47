import numpy as np
import pytest
from PIL import Image
from support import draw_face

from lossbench.data.prepare.align import (
    ARCFACE,
    CROPS,
    box_matrix,
    landmark_matrix,
    similarity,
    template,
    transform,
    warp,
)


def test_similarity_is_the_least_squares_solution():
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(5, 2)) * 30, rng.normal(size=(5, 2)) * 30
    rows = [[[x, -y, 1, 0], [y, x, 0, 1]] for x, y in source]
    (c, s, dx, dy), *_ = np.linalg.lstsq(np.array(rows).reshape(10, 4), target.ravel(), rcond=None)
    np.testing.assert_allclose(similarity(source, target), [[c, -s, dx], [s, c, dy]], atol=1e-9)


def test_similarity_finds_a_known_turn_and_refuses_one_point():
    points = np.array([[0.0, 0], [10, 0], [4, 7]])
    angle = 0.4
    matrix = np.array([[1.5 * np.cos(angle), -1.5 * np.sin(angle), 3], [1.5 * np.sin(angle), 1.5 * np.cos(angle), -8]])
    np.testing.assert_allclose(similarity(points, transform(matrix, points)), matrix, atol=1e-12)
    with pytest.raises(ValueError, match="coincide"):
        similarity(np.ones((5, 2)), points[[0, 1, 2, 0, 1]])


def test_template_of_112_pixels_is_arcface():
    np.testing.assert_allclose(template(112), ARCFACE + 0.5, atol=1e-9)
    np.testing.assert_allclose(template(56), (ARCFACE + 0.5) / 2, atol=1e-9)


@pytest.mark.parametrize("crop", CROPS)
def test_warp_puts_the_landmarks_on_the_template(crop):
    errors = []
    for seed in range(8):
        image, points = draw_face(seed)
        black = Image.new("RGB", image.size)
        x, y = round(points[0]), round(points[1])
        black.paste((255, 255, 255), (x, y, x + 1, y + 1))
        crop_made = np.asarray(warp(black, landmark_matrix(points, 112, crop), 112).convert("L"), dtype=float)
        ys, xs = np.mgrid[:112, :112] + 0.5
        found = np.array([(xs * crop_made).sum(), (ys * crop_made).sum()]) / crop_made.sum()
        errors.append(np.linalg.norm(found - template(112, crop)[0]))
    assert max(errors) < 1.5  # rounding the dot to a pixel costs up to 0.7


def test_tight_is_nearer_and_loose_farther():
    def eyes(crop):
        points = template(112, crop)
        return np.linalg.norm(points[1] - points[0])

    assert eyes("loose") < eyes("arcface") < eyes("tight")


def test_shrinking_does_not_alias():
    noise = np.random.default_rng(0).integers(0, 2, (896, 896), dtype=np.uint8) * 255
    small = np.asarray(warp(Image.fromarray(noise).convert("RGB"), box_matrix((448, 448, 896), 112, "arcface"), 112))
    assert abs(small.mean() - 127.5) < 3
    assert small[8:-8, 8:-8].std() < 30  # the mean of 8x8 has 16; sampling alone would keep more than 60


def test_warp_of_the_whole_square_is_the_image():
    image, _ = draw_face(3, (112, 112))
    same = warp(image, box_matrix((56, 56, 112), 112, "arcface"), 112)
    np.testing.assert_array_equal(np.asarray(same), np.asarray(image))
